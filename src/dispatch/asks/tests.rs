//! Chains of answers in a room where only the latest question of a person counts.

use super::*;
use crate::{
    clock::Timestamp,
    dispatch::context::tests::world::{message, room},
    ids::EventId,
};

/// An answer of `llm` to the message at `to`, that calls the other LLM.
fn answer(seq: u64, llm: &str, to: u64, calls: &str) -> Message {
    let reply_to = Some(message(to, "ann", "").id);
    let mentions = vec![LlmId::parse(calls).unwrap()];
    Message { from_run: true, reply_to, mentions, ..message(seq, &format!("llm:{llm}"), "you?") }
}

fn question(seq: u64) -> Message {
    Message { mentions: vec![LlmId::parse("ada").unwrap()], ..message(seq, "ann", "@ada?") }
}

/// What the last of these asks for: the question at the beginning, and whether it is asked at all.
fn asked(said: &[Message]) -> Vec<(MessageId, bool)> {
    let mut room = room();
    room.profile.settings.turns = TurnPolicy::LatestWins;
    room.recent.extend(said.iter().cloned());
    let last = said.last().unwrap().clone();
    let posted = Recorded {
        seq: last.seq,
        event_id: EventId(last.id.0),
        at: Timestamp(0),
        event: Event::MessagePosted(last),
    };
    let of = |wish| match wish {
        Wish::Ask(job) => Some((job.root, true)),
        Wish::Overtaken(job) => Some((job.root, false)),
        _ => None,
    };
    super::of(&room, &[posted]).into_iter().filter_map(of).collect()
}

#[test]
fn a_chain_ends_where_a_newer_question_came() {
    let (one, two) = (question(2).id, question(4).id);
    assert_eq!(asked(&[question(2), question(4)]), [(two, true)]);
    let first = answer(3, "ada", 2, "bot");
    assert_eq!(asked(&[question(2), first.clone()]), [(one, true)]);
    // It had ended when the question came, and is told behind it.
    assert_eq!(asked(&[question(2), question(4), answer(5, "ada", 2, "bot")]), [(one, false)]);
    assert_eq!(asked(&[question(2), question(4), answer(5, "ada", 4, "bot")]), [(two, true)]);
    let second = |to| answer(5, "bot", to, "ada");
    assert_eq!(asked(&[question(2), first.clone(), second(3)]), [(one, true)]);
    assert_eq!(asked(&[question(2), first.clone(), question(4), second(3)]), [(one, false)]);
    // A remark that calls nobody ends nothing.
    assert_eq!(asked(&[question(2), first.clone(), message(4, "bob", "well"), second(3)]), [(one, true)]);
    // Of a question that is out of memory it is known that it was before.
    assert_eq!(asked(&[first, question(4), second(3)]), [(one, false)]);
}

#[test]
fn another_version_of_an_older_answer_was_asked_for_behind_the_newer_question() {
    let old = answer(3, "ada", 2, "bot");
    let new = Message { replaces: Some(old.id), ..answer(5, "ada", 2, "bot") };
    let said = [question(2), old, question(4), new];
    assert_eq!(asked(&said), [(question(2).id, true)]);
    let chain = |seq| answer(seq, "bot", 5, "ada");
    assert_eq!(asked(&[&said[..], &[chain(6)]].concat()), [(question(2).id, true)]);
    assert_eq!(asked(&[&said[..], &[question(6), chain(7)]].concat()), [(question(2).id, false)]);
}
