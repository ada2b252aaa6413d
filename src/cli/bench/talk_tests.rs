//! What a server says that it should not, and what is made of it.

use prost::Message as _;

use super::{
    super::{plan, protocol::prefixed},
    *,
};
use crate::wire::pb::room::v1::{self as pb, client_message, server_event::Payload};

/// Two rooms with two members each, who all speak.
fn talk() -> (Talk, Outbox) {
    let plan = plan::tests::plan(&["--rooms", "2", "--members", "2"]);
    let mut talk = Talk::new(&plan, Speech::Acknowledged, &[]);
    talk.measure(0, u64::MAX);
    (talk, Outbox::default())
}

fn header(sender: u32, counter: u32) -> String {
    String::from_utf8(Header { sender, counter, due: 1 }.write().to_vec()).unwrap()
}

fn event(payload: Payload, request_id: &str, seq: u64) -> Vec<u8> {
    let payload = Some(payload);
    pb::ServerEvent { payload, request_id: request_id.into(), seq, ..Default::default() }.encode_to_vec()
}

fn message(sender: u32, counter: u32, seq: u64) -> Vec<u8> {
    let message = pb::Message { content: header(sender, counter), ..Default::default() };
    event(Payload::MessageReceived(pb::MessageReceived { message: Some(message) }), "", seq)
}

fn refusal(sender: u32, counter: u32) -> Vec<u8> {
    let error = pb::Error { code: "rate_limited".into(), message: "slowly".into(), ..Default::default() };
    event(Payload::Error(error), &header(sender, counter), 0)
}

fn ack(sender: u32, counter: u32) -> Vec<u8> {
    event(Payload::Ack(pb::Ack::default()), &header(sender, counter), 0)
}

/// Messages that were found to be lost, doubled, out of order, and astray.
fn faults(talk: &Talk) -> [u64; 4] {
    [talk.lost(), talk.counts.duplicated, talk.counts.inversions, talk.counts.astray]
}

#[test]
fn what_nobody_has_sent_is_astray_and_hides_no_loss() {
    let (mut talk, mut say) = talk();
    talk.send(1, 1, &mut say);
    // Sender 0 has said one thing; its counter was changed on the way, also to the largest there is.
    for counter in [1, 7, u32::MAX, u32::MAX] {
        talk.heard(0, &message(0, counter, 0), 2, &mut say);
    }
    assert_eq!(faults(&talk), [2, 0, 0, 4]);
    assert!(!talk.is_delivered());
    // Somebody of another room, and a number that nobody has.
    talk.heard(2, &message(0, 0, 0), 2, &mut say);
    talk.heard(0, &message(u32::MAX, 0, 0), 2, &mut say);
    talk.heard(0, &ack(0, 5), 2, &mut say);
    assert_eq!(faults(&talk), [2, 0, 0, 7]);
    assert_eq!((talk.arrivals, talk.counts.acknowledged), (0, 0));
    for session in [0, 1] {
        talk.heard(session, &message(0, 0, 0), 2, &mut say);
    }
    assert!(!talk.is_delivered(), "it was not acknowledged");
    talk.heard(0, &ack(0, 0), 2, &mut say);
    assert!(talk.is_delivered());
    assert_eq!(faults(&talk), [0, 0, 0, 7]);
}

#[test]
fn what_was_refused_and_told_all_the_same_is_astray_and_makes_up_for_nothing() {
    let (mut talk, mut say) = talk();
    talk.send(1, 1, &mut say);
    // One has heard it before it was refused, one hears it behind that.
    talk.heard(0, &message(0, 0, 0), 2, &mut say);
    talk.heard(0, &refusal(0, 0), 2, &mut say);
    talk.heard(0, &refusal(0, 0), 2, &mut say);
    assert!(talk.is_delivered());
    talk.heard(1, &message(0, 0, 0), 2, &mut say);
    assert_eq!(faults(&talk), [0, 0, 0, 2]);
    assert_eq!((talk.counts.refused, talk.counts.refusals()), (1, 2));
    // Another message is still missing, whatever came of that one.
    talk.send(1, 1, &mut say);
    assert!(!talk.is_delivered());
    assert_eq!(talk.lost(), 2);
}

#[test]
fn events_of_a_room_that_come_in_another_order_are_inversions_whoever_said_them() {
    let (mut talk, mut say) = talk();
    for _ in 0..4 {
        talk.send(1, 1, &mut say);
    }
    talk.joined(0, 10);
    talk.heard(0, &message(1, 0, 12), 2, &mut say);
    talk.heard(0, &message(0, 0, 11), 2, &mut say);
    assert_eq!(faults(&talk)[2], 1);
    // What came before the join is no news either, and other events count as well.
    talk.heard(0, &event(Payload::UserJoined(pb::UserJoined::default()), "", 10), 2, &mut say);
    assert_eq!(faults(&talk)[2], 2);
    assert_eq!(talk.last_seq(0), Some(12));
    // A repetition is told as that alone, and without positions there is no order but that of the senders.
    talk.heard(0, &message(1, 0, 12), 2, &mut say);
    talk.joined(1, 0);
    talk.heard(1, &message(1, 0, 0), 2, &mut say);
    talk.heard(1, &message(0, 0, 0), 2, &mut say);
    assert_eq!(faults(&talk)[1..], [1, 2, 0]);
}

#[test]
fn who_is_back_is_complete_when_the_last_missed_event_has_come() {
    let (mut talk, mut say) = talk();
    talk.send(1, 1, &mut say);
    talk.joined(0, 10);
    talk.resumed(0, 10);
    assert!(talk.catch_up.waits().is_none(), "nothing was missed");
    talk.resumed(0, 12);
    talk.heard(0, &event(Payload::UserJoined(pb::UserJoined::default()), "", 11), 2, &mut say);
    assert!(talk.catch_up.waits().is_some());
    talk.heard(0, &message(0, 0, 12), 2, &mut say);
    assert!(talk.catch_up.waits().is_none());
    talk.resumed(0, 13);
    talk.ended(0, "cut");
    assert!(talk.catch_up.waits().is_none(), "nothing is to be expected any more");
}

#[test]
fn a_session_has_ended_for_the_reason_that_the_server_gave() {
    let (mut talk, mut say) = talk();
    let closing = pb::Closing {
        reason: pb::ClosingReason::SlowConsumer.into(),
        message: "read faster".into(),
        ..Default::default()
    };
    talk.heard(0, &event(Payload::Closing(closing), "", 0), 2, &mut say);
    talk.ended(0, "ended by the server");
    talk.ended(1, "ended by the server");
    let why: Vec<&String> = talk.counts.ended.keys().collect();
    assert_eq!(
        why,
        ["closed by the server: CLOSING_REASON_SLOW_CONSUMER, read faster", "ended by the server"]
    );
}

#[test]
fn senders_take_turns_room_by_room_and_who_is_gone_says_nothing() {
    let (mut talk, mut say) = talk();
    talk.ended(1, "gone");
    for _ in 0..6 {
        talk.send(1, 1, &mut say);
    }
    let said: Vec<(usize, String)> = said(&say);
    let by = |session| said.iter().filter(|(one, _)| *one == session).count();
    assert_eq!([0, 1, 2, 3].map(by), [2, 0, 2, 2], "{said:?}");
    assert!(talk.is_sender(0) && !talk.is_sender(4));
}

/// What was said, by whom.
fn said(say: &Outbox) -> Vec<(usize, String)> {
    say.said().map(|(session, bytes)| (session, text(bytes))).collect()
}

fn text(bytes: &[u8]) -> String {
    let message = pb::ClientMessage::decode(&bytes[prefixed::PREFIX..]).unwrap();
    match message.payload {
        Some(client_message::Payload::Message(said)) => said.content,
        other => panic!("{other:?}"),
    }
}
