//! What is kept of answers, and for how long.

use std::time::Duration;

use super::*;
use crate::{
    clock::Timestamp,
    ids::{LlmId, Seq},
};

fn begun(answers: &mut Answers) -> MessageId {
    let message_id = MessageId(uuid::Uuid::now_v7());
    let answer = LiveAnswer {
        message_id,
        llm_id: LlmId::parse("ada").unwrap(),
        reply_to: MessageId(uuid::Uuid::now_v7()),
        text: String::new(),
        started_at: Timestamp(0),
    };
    answers.begin(ActiveAnswer { answer, seq: Seq(0) });
    message_id
}

fn pace(ms: u64, compact: bool) -> Pace {
    Pace { interval: Duration::from_millis(ms), compact }
}

#[test]
fn only_so_many_ended_answers_are_remembered() {
    let mut answers = Answers::default();
    for _ in 0..3 * ENDED_ANSWERS {
        let id = begun(&mut answers);
        answers.end(id);
    }
    assert_eq!((answers.live.len(), answers.ended.len()), (0, ENDED_ANSWERS));
}

#[test]
fn only_so_much_is_kept_that_came_too_early() {
    let mut answers = Answers::default();
    let (many, large) = (begun(&mut answers), begun(&mut answers));
    for n in 1..100 {
        assert!(!answers.add(many, 2 * n, "ab"));
    }
    assert_eq!(answers.live[0].early.len(), EARLY_CHUNKS);
    for offset in [1, 2 * EARLY_BYTES] {
        assert!(!answers.add(large, offset, &"x".repeat(EARLY_BYTES)));
    }
    assert_eq!(answers.live[1].early.len(), 1);
    assert!(answers.add(many, 0, "ab") && answers.add(large, 0, "y"));
    assert_eq!(answers.live[0].now.answer.text, "ab".repeat(1 + EARLY_CHUNKS));
    assert_eq!(answers.live[1].now.answer.text.len(), 1 + EARLY_BYTES);
    assert!(answers.live.iter().all(|answer| answer.early.is_empty()));
}

#[test]
fn nothing_is_kept_for_a_pace_that_nobody_has() {
    let mut answers = Answers::default();
    let id = begun(&mut answers);
    let (slow, fast) = (pace(500, false), pace(20, true));
    for pace in [slow, slow, fast] {
        answers.enter(pace);
    }
    assert_eq!((answers.shortest(), answers.any_compact()), (Some(fast.interval), true));
    answers.leave(fast);
    assert_eq!((answers.shortest(), answers.any_compact()), (Some(slow.interval), false));
    answers.leave(slow);
    answers.leave(fast);
    assert_eq!(answers.live[0].told.len(), 1, "one more has it");
    assert!(answers.add(id, 0, "text"));
    let now = Instant::now();
    assert_eq!(answers.due(now, None).len(), 1);
    answers.leave(slow);
    assert!(answers.live[0].told.is_empty() && answers.paces.is_empty());
    assert!(answers.add(id, 4, " more"));
    assert_eq!((answers.due(now, None).len(), answers.next_due()), (0, None));
    // Who comes now is given all of it, and what follows fits.
    answers.enter(slow);
    assert_eq!(answers.as_told(slow)[0].answer.text, "text more");
}

#[test]
fn without_a_known_beginning_the_compact_form_is_the_usual_one() {
    let mut answers = Answers::default();
    answers.enter(pace(0, false));
    answers.enter(pace(0, true));
    let id = begun(&mut answers);
    assert!(answers.add(id, 0, "text"));
    let tellings = answers.due(Instant::now(), None);
    assert_eq!(tellings[0].frame, tellings[1].frame);
}
