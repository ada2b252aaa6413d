//! Whether what clients have seen is what was promised. It knows logs and histories, and nothing of how they came about.
//!
//! * A log is 1, 2, 3 … without holes; no event and no message stands in it twice.
//! * What was acknowledged is in the log, where the acknowledgement says, and once; what was refused for good is not.
//! * Each client was told every event behind the position it began at, once, in order, with the bytes of the log: so
//!   it was the same on all nodes. A `room_state` may begin anew, on any node, but never from
//!   before what was told or acknowledged to the same client.
//! * Every answer that began has ended once, and a poll that is closed is closed once and takes no vote.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::BytesMut;
use prost::Message as _;
use salon::{
    store::Record,
    wire::{
        frame,
        pb::room::v1::{self as pb, server_event::Payload},
    },
};

use super::history::{History, Seen, Sent};

/// One event of a log, as clients must be told it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub bytes: bytes::Bytes,
    pub event: pb::ServerEvent,
}

impl Stored {
    /// What the store keeps, as it is sent.
    pub fn of(record: &Record) -> Self {
        let mut framed = BytesMut::new();
        frame::put_stored(&mut framed, &record.public, record.seq);
        let bytes = framed.freeze().slice(frame::PREFIX..);
        let event = pb::ServerEvent::decode(bytes.clone()).expect("the log can be read");
        Self { bytes, event }
    }
}

/// All that is known at the end.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evidence {
    /// By room.
    pub logs: BTreeMap<String, Vec<Stored>>,
    pub histories: Vec<History>,
}

/// What is wrong; empty: nothing.
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    for (room, log) in &evidence.logs {
        check_log(room, log, &mut wrong);
        check_answers(room, log, &mut wrong);
        check_polls(room, log, &mut wrong);
    }
    for history in &evidence.histories {
        match evidence.logs.get(&history.room) {
            Some(log) => {
                check_sent(history, log, &mut wrong);
                check_seen(history, log, &mut wrong);
            }
            None => wrong.push(format!("{} is in a room without a log: {}", history.client, history.room)),
        }
    }
    wrong
}

fn check_log(room: &str, log: &[Stored], wrong: &mut Vec<String>) {
    let mut ids = BTreeSet::new();
    for (stored, expected) in log.iter().zip(1..) {
        if stored.event.seq != expected {
            wrong.push(format!("{room}: {} stands in the place of {expected}", stored.event.seq));
        }
        if !ids.insert(&stored.event.event_id) {
            wrong.push(format!("{room}: the event at {expected} is there twice"));
        }
    }
}

fn check_answers(room: &str, log: &[Stored], wrong: &mut Vec<String>) {
    let mut answers: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for stored in log {
        match &stored.event.payload {
            Some(Payload::LlmThinking(thinking)) => answers.entry(&thinking.message_id).or_default().0 += 1,
            Some(Payload::LlmDone(done)) => {
                let answer = answers.entry(&done.message_id).or_default();
                if answer.0 == 0 {
                    wrong.push(format!("{room}: an answer ends at {} and has not begun", stored.event.seq));
                }
                answer.1 += 1;
            }
            _ => {}
        }
    }
    for (began, ended) in answers.values().filter(|answer| **answer != (1, 1)) {
        wrong.push(format!("{room}: an answer has begun {began} times and ended {ended} times"));
    }
}

fn check_polls(room: &str, log: &[Stored], wrong: &mut Vec<String>) {
    let mut closed = BTreeSet::new();
    for stored in log {
        let seq = stored.event.seq;
        match &stored.event.payload {
            Some(Payload::PollClosed(poll)) if !closed.insert(&poll.poll_id) => {
                wrong.push(format!("{room}: a poll is closed again at {seq}"));
            }
            Some(Payload::PollVoted(vote)) if closed.contains(&vote.poll_id) => {
                wrong.push(format!("{room}: a closed poll takes a vote at {seq}"));
            }
            _ => {}
        }
    }
}

/// The positions of messages by their texts.
fn texts(log: &[Stored]) -> HashMap<&str, Vec<u64>> {
    let mut texts: HashMap<&str, Vec<u64>> = HashMap::new();
    for stored in log {
        if let Some(Payload::MessageReceived(received)) = &stored.event.payload {
            let content = received.message.as_ref().map(|message| message.content.as_str());
            texts.entry(content.unwrap_or_default()).or_default().push(stored.event.seq);
        }
    }
    texts
}

fn check_sent(history: &History, log: &[Stored], wrong: &mut Vec<String>) {
    let (client, texts) = (&history.client, texts(log));
    let positions = |request_id: &str| match history.sent.get(request_id) {
        Some(Sent::Message(content)) => Some(texts.get(content.as_str()).cloned().unwrap_or_default()),
        Some(Sent::Other(_)) | None => None,
    };
    for (request_id, sent) in &history.sent {
        if let Some(many) = positions(request_id).filter(|positions| positions.len() > 1) {
            wrong.push(format!("{client}: {request_id} ({sent:?}) is in the log at {many:?}"));
        }
    }
    let mut acknowledged: BTreeMap<&str, u64> = BTreeMap::new();
    for seen in &history.seen {
        match seen {
            Seen::Ack { request_id, seq, event_id } => {
                if acknowledged.insert(request_id, *seq).is_some_and(|before| before != *seq) {
                    wrong.push(format!("{client}: {request_id} is acknowledged at two positions"));
                }
                let stored = at(log, *seq);
                if *seq != 0 && stored.is_none_or(|stored| stored.event.event_id != *event_id) {
                    wrong.push(format!("{client}: {request_id} is acknowledged and not in the log at {seq}"));
                }
                if positions(request_id).is_some_and(|positions| !positions.contains(seq)) {
                    wrong.push(format!(
                        "{client}: {request_id} is acknowledged at {seq}, where something else is"
                    ));
                }
            }
            Seen::Refused { request_id, code } => {
                if positions(request_id).is_some_and(|positions| !positions.is_empty()) {
                    wrong.push(format!("{client}: {request_id} is refused as {code} and in the log"));
                }
            }
            Seen::Opened { .. } | Seen::State { .. } | Seen::Resumed { .. } | Seen::Event { .. } => {}
        }
    }
}

fn at(log: &[Stored], seq: u64) -> Option<&Stored> {
    log.get(usize::try_from(seq.checked_sub(1)?).ok()?)
}

/// Where a client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It has opened a stream, and was told nothing of the room yet.
    Opened(Option<u64>),
    /// It was told all up to here.
    At(u64),
}

fn check_seen(history: &History, log: &[Stored], wrong: &mut Vec<String>) {
    let client = &history.client;
    let mut place = Place::Opened(None);
    // The furthest that was acknowledged to it or told.
    let mut known = 0;
    for seen in &history.seen {
        match seen {
            Seen::Opened { after } => {
                // So much for the client of the simulation itself.
                if let (Place::At(seq), Some(after)) = (place, after)
                    && seq != *after
                {
                    wrong.push(format!("{client}: asks to go on behind {after}, being {place:?}"));
                }
                place = Place::Opened(*after);
            }
            Seen::State { seq } => {
                if *seq < known {
                    wrong.push(format!("{client}: is shown the room at {seq}, and knows of {known}"));
                }
                if matches!(place, Place::At(_)) {
                    wrong.push(format!("{client}: is shown the room at {seq} in the middle of a stream"));
                }
                place = Place::At(*seq);
            }
            Seen::Resumed { after } => {
                let expected = match place {
                    Place::Opened(after) => after.unwrap_or(u64::MAX),
                    Place::At(seq) => seq,
                };
                if *after != expected {
                    wrong.push(format!("{client}: goes on behind {after} instead of {expected}"));
                }
                place = Place::At(*after);
            }
            Seen::Event { seq, bytes } => {
                if place != Place::At(seq.saturating_sub(1)) {
                    wrong.push(format!("{client}: is told {seq}, being {place:?}"));
                }
                if at(log, *seq).is_none_or(|stored| stored.bytes != *bytes) {
                    wrong.push(format!("{client}: is told something at {seq} that is not in the log there"));
                }
                place = Place::At(*seq);
                known = known.max(*seq);
            }
            Seen::Ack { seq, .. } => known = known.max(*seq),
            Seen::Refused { .. } => {}
        }
    }
    let end = u64::try_from(log.len()).unwrap_or(u64::MAX);
    if place != Place::At(end) {
        wrong.push(format!("{client}: ends {place:?}, and the log at {end}"));
    }
}

#[cfg(test)]
mod tests;
