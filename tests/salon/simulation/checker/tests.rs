//! Histories that break a promise, each in one way: a checker that cannot fail checks nothing.

use salon::wire::pb::room::v1::{self as pb, server_event::Payload};

use super::*;

fn stored(seq: u64, payload: Payload) -> Stored {
    let event = pb::ServerEvent {
        payload: Some(payload),
        seq,
        event_id: format!("event-{seq}"),
        ..Default::default()
    };
    Stored { bytes: event.encode_to_vec().into(), event }
}

fn message(seq: u64, content: &str) -> Stored {
    let message = pb::Message { content: content.to_owned(), ..Default::default() };
    stored(seq, Payload::MessageReceived(pb::MessageReceived { message: Some(message) }))
}

fn thinks(seq: u64, message_id: &str) -> Stored {
    let message_id = message_id.to_owned();
    stored(seq, Payload::LlmThinking(pb::LlmThinking { message_id, ..Default::default() }))
}

fn is_done(seq: u64, message_id: &str) -> Stored {
    let message_id = message_id.to_owned();
    stored(seq, Payload::LlmDone(pb::LlmDone { message_id, ..Default::default() }))
}

fn told(stored: &Stored) -> Seen {
    Seen::Event { seq: stored.event.seq, bytes: stored.bytes.clone() }
}

fn acknowledged(request_id: &str, seq: u64) -> Seen {
    Seen::Ack { request_id: request_id.to_owned(), seq, event_id: format!("event-{seq}") }
}

/// Ann has said two things and an LLM one; she has lost her connection in between.
fn good() -> Evidence {
    let log = vec![message(1, "one"), message(2, "two"), thinks(3, "a"), is_done(4, "a")];
    let seen = vec![
        Seen::Opened { after: None },
        Seen::State { seq: 1 },
        acknowledged("one", 1),
        told(&log[1]),
        Seen::Opened { after: Some(2) },
        Seen::Resumed { after: 2 },
        acknowledged("two", 2),
        told(&log[2]),
        told(&log[3]),
    ];
    let sent = ["one", "two"].map(|text| (text.to_owned(), Sent::Message(text.to_owned())));
    let history = History { seen, sent: sent.into(), ..History::new("ann", "room") };
    Evidence { logs: [("room".to_owned(), log)].into(), histories: vec![history] }
}

/// What is said of the good history when this is done to it.
fn broken(by: impl FnOnce(&mut Vec<Stored>, &mut History)) -> String {
    let mut evidence = good();
    by(evidence.logs.get_mut("room").unwrap(), &mut evidence.histories[0]);
    assert_ne!(evidence, good(), "nothing was done");
    check(&evidence).join("\n")
}

#[test]
fn nothing_is_said_of_a_good_history() {
    assert_eq!(check(&good()), Vec::<String>::new());
}

#[test]
fn an_event_that_was_not_told_is_missed() {
    // It says that it has seen the second, and has not.
    let before = broken(|_, ann| drop(ann.seen.remove(3)));
    assert!(before.contains("asks to go on behind 2, being At(1)"), "{before}");
    let skipped = broken(|_, ann| drop(ann.seen.remove(7)));
    assert!(skipped.contains("is told 4, being At(2)"), "{skipped}");
    let last = broken(|_, ann| drop(ann.seen.pop()));
    assert!(last.contains("ends At(3), and the log at 4"), "{last}");
}

#[test]
fn an_event_that_was_told_twice_or_too_early_is_seen() {
    let twice = broken(|_, ann| ann.seen.insert(4, ann.seen[3].clone()));
    assert!(twice.contains("is told 2, being At(2)"), "{twice}");
    let swapped = broken(|_, ann| ann.seen.swap(7, 8));
    assert!(swapped.contains("is told 4, being At(2)"), "{swapped}");
}

#[test]
fn a_stream_that_goes_on_elsewhere_than_asked_is_seen() {
    let elsewhere = broken(|_, ann| ann.seen[5] = Seen::Resumed { after: 1 });
    assert!(elsewhere.contains("goes on behind 1 instead of 2"), "{elsewhere}");
    let in_between = broken(|_, ann| ann.seen.push(Seen::State { seq: 4 }));
    assert!(in_between.contains("in the middle of a stream"), "{in_between}");
}

#[test]
fn a_room_from_before_what_is_known_is_seen() {
    let told = broken(|_, ann| ann.seen.extend([Seen::Opened { after: None }, Seen::State { seq: 3 }]));
    assert!(told.contains("is shown the room at 3, and knows of 4"), "{told}");
    let acknowledged_only = broken(|_, ann| {
        ann.seen.truncate(1);
        let again = [acknowledged("two", 2), Seen::Opened { after: None }, Seen::State { seq: 1 }];
        ann.seen.extend(again);
    });
    assert!(acknowledged_only.contains("is shown the room at 1, and knows of 2"), "{acknowledged_only}");
}

#[test]
fn other_bytes_than_those_of_the_log_are_seen() {
    let other = broken(|_, ann| ann.seen[3] = told(&message(2, "another")));
    assert!(other.contains("something at 2 that is not in the log there"), "{other}");
}

#[test]
fn what_was_acknowledged_and_is_not_there_is_seen() {
    let lost = broken(|log, _| log[0] = message(1, "something else"));
    assert!(lost.contains("one is acknowledged at 1, where something else is"), "{lost}");
    let beyond = broken(|_, ann| ann.seen[6] = acknowledged("two", 9));
    assert!(beyond.contains("two is acknowledged and not in the log at 9"), "{beyond}");
    let twice = broken(|_, ann| ann.seen.push(acknowledged("two", 4)));
    assert!(twice.contains("two is acknowledged at two positions"), "{twice}");
}

#[test]
fn a_message_that_was_carried_out_twice_is_seen() {
    let twice = broken(|log, _| log[2] = message(3, "two"));
    assert!(twice.contains("is in the log at [2, 3]"), "{twice}");
}

#[test]
fn what_was_refused_and_is_there_is_seen() {
    let refused = Seen::Refused { request_id: "two".to_owned(), code: "permission_denied".to_owned() };
    let there = broken(|_, ann| ann.seen[6] = refused);
    assert!(there.contains("two is refused as permission_denied and in the log"), "{there}");
}

#[test]
fn an_answer_that_does_not_end_once_is_seen() {
    let never = broken(|log, _| drop(log.pop()));
    assert!(never.contains("has begun 1 times and ended 0 times"), "{never}");
    let twice = broken(|log, _| log.push(is_done(5, "a")));
    assert!(twice.contains("has begun 1 times and ended 2 times"), "{twice}");
    let from_nothing = broken(|log, _| log[2] = message(3, "three"));
    assert!(from_nothing.contains("ends at 4 and has not begun"), "{from_nothing}");
}

#[test]
fn a_closed_poll_that_is_not_over_is_seen() {
    let closed = |seq| {
        stored(seq, Payload::PollClosed(pb::PollClosed { poll_id: "p".to_owned(), ..Default::default() }))
    };
    let voted = |seq| {
        stored(seq, Payload::PollVoted(pb::PollVoted { poll_id: "p".to_owned(), ..Default::default() }))
    };
    let again = broken(|log, _| log.extend([voted(5), closed(6), closed(7)]));
    assert!(again.contains("a poll is closed again at 7"), "{again}");
    let vote = broken(|log, _| log.extend([closed(5), voted(6)]));
    assert!(vote.contains("a closed poll takes a vote at 6"), "{vote}");
}

#[test]
fn a_log_with_a_hole_or_a_repetition_is_seen() {
    let hole = broken(|log, _| drop(log.remove(2)));
    assert!(hole.contains("4 stands in the place of 3"), "{hole}");
    let again = broken(|log, _| log[1].event.event_id = "event-1".to_owned());
    assert!(again.contains("the event at 2 is there twice"), "{again}");
}
