//! Compares what clients were told with what is in the log.

use std::collections::{BTreeMap, HashMap, HashSet};

use salon::wire::pb::room::v1::{self as pb, server_event::Payload};

use super::client::Client;

/// Everything acknowledged is there once, where it was said to be; everybody saw all of it once, in order.
pub fn compare(log: &[pb::ServerEvent], clients: &[&Client]) {
    let ids: HashSet<&str> = log.iter().map(|event| event.event_id.as_str()).collect();
    assert_eq!(ids.len(), log.len(), "an event id stands in the log twice");
    let mut said = HashMap::<&str, Vec<u64>>::new();
    for event in log {
        if let Some(Payload::MessageReceived(received)) = &event.payload {
            said.entry(&received.message.as_ref().unwrap().content).or_default().push(event.seq);
        }
    }
    for client in clients {
        for sent in &client.sent {
            let ack = sent.ack.as_ref().expect("not acknowledged");
            let at = said.remove(sent.content.as_str()).unwrap_or_default();
            assert_eq!(at, [ack.seq], "{} was acknowledged at {}", sent.content, ack.seq);
            assert_eq!(log[index(ack.seq)].event_id, ack.event_id);
        }
        let from = client.from.unwrap();
        let last = client.after.unwrap();
        assert!(client.seen.iter().map(|event| event.seq).eq(from + 1..=last), "{}: holes", client.name);
        for seen in &client.seen {
            assert_eq!(seen, &log[index(seen.seq)], "{}: another event", client.name);
        }
    }
}

fn index(seq: u64) -> usize {
    usize::try_from(seq).unwrap() - 1
}

/// The answers that have begun and not ended. Each begins once, and none ends twice.
pub fn open_runs(log: &[pb::ServerEvent]) -> Vec<&str> {
    let mut runs = BTreeMap::<&str, (usize, usize)>::new();
    for event in log {
        match &event.payload {
            Some(Payload::LlmThinking(thinking)) => runs.entry(&thinking.message_id).or_default().0 += 1,
            Some(Payload::LlmDone(done)) => runs.entry(&done.message_id).or_default().1 += 1,
            _ => {}
        }
    }
    assert!(runs.values().all(|(begun, ended)| *begun == 1 && *ended <= 1), "begun and ended: {runs:?}");
    runs.iter().filter(|(_, run)| run.1 == 0).map(|(id, _)| *id).collect()
}
