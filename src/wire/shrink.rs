//! What is left out of a snapshot that would be too large: most clients take no message above 4 MiB, and a room whose
//! every limit is used up at once is several times as large.
//!
//! In this order, and no more than is needed: votes one by one; the oldest messages, each with the closed poll it
//! announces; why LLMs abstained and what describes options; the topic of an autopilot; personas; at last the texts
//! of answers that are being written, the longest first. All of it can be asked for elsewhere, or comes with what
//! ends it.

use prost::Message as _;

use crate::wire::pb::room::v1 as pb;

/// Bytes of a `room_state` or a `resumed`.
const STATE_BYTES: usize = 3 * 1024 * 1024;

/// Shrinks a `room_state`; says whether texts of answers are left out.
pub(super) fn state(state: &mut pb::RoomState) -> bool {
    if fits(state) {
        return false;
    }
    for option in state.polls.iter_mut().flat_map(|poll| &mut poll.options) {
        option.votes.clear();
    }
    while !fits(state) && !state.messages.is_empty() {
        let gone = state.messages.remove(0).poll_id;
        state
            .polls
            .retain(|poll| poll.status() == pb::PollStatus::PollOpen || gone.as_ref() != Some(&poll.poll_id));
    }
    if !fits(state) {
        for poll in &mut state.polls {
            poll.abstentions.iter_mut().for_each(|abstention| abstention.reason.clear());
            poll.options.iter_mut().for_each(|option| option.description.clear());
        }
        if let Some(autopilot) = &mut state.autopilot {
            autopilot.topic.clear();
        }
    }
    if !fits(state) {
        let llms = state.room.iter_mut().flat_map(|room| &mut room.llms);
        llms.for_each(|llm| llm.persona.clear());
    }
    let mut omitted = false;
    while !fits(state) && omit_longest(&mut state.active_answers) {
        omitted = true;
    }
    omitted
}

/// Shrinks a `resumed`; says whether texts of answers are left out.
pub(super) fn resumed(resumed: &mut pb::Resumed) -> bool {
    let mut omitted = false;
    while resumed.encoded_len() > STATE_BYTES && omit_longest(&mut resumed.active_answers) {
        omitted = true;
    }
    omitted
}

fn fits(state: &pb::RoomState) -> bool {
    state.encoded_len() <= STATE_BYTES
}

/// Leaves out the longest text of those that are being written; false: there is none left.
fn omit_longest(answers: &mut [pb::ActiveAnswer]) -> bool {
    let longest = answers.iter_mut().max_by_key(|answer| answer.content.len());
    let Some(answer) = longest.filter(|answer| !answer.content.is_empty()) else {
        return false;
    };
    answer.content.clear();
    answer.text_omitted = true;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(count: usize, bytes: usize) -> Vec<pb::ActiveAnswer> {
        (0..count)
            .map(|n| pb::ActiveAnswer { content: "x".repeat(bytes + n), ..Default::default() })
            .collect()
    }

    #[test]
    fn with_every_limit_used_up_it_fits_and_open_polls_stay() {
        let llm = || pb::LlmConfig { persona: "é".repeat(8000), ..Default::default() };
        let option =
            || pb::PollOption { text: "t".repeat(200), description: "é".repeat(500), ..Default::default() };
        let abstention = || pb::PollAbstention { reason: "é".repeat(1000), ..Default::default() };
        let poll = || pb::Poll {
            status: pb::PollStatus::PollOpen.into(),
            options: (0..20).map(|_| option()).collect(),
            abstentions: (0..32).map(|_| abstention()).collect(),
            ..Default::default()
        };
        let mut all = pb::RoomState {
            room: Some(pb::RoomInfo { llms: (0..32).map(|_| llm()).collect(), ..Default::default() }),
            messages: (0..50)
                .map(|_| pb::Message { content: "x".repeat(16 * 1024), ..Default::default() })
                .collect(),
            polls: (0..32).map(|_| poll()).collect(),
            active_answers: answers(40, 256 * 1024),
            autopilot: Some(pb::Autopilot { topic: "x".repeat(16 * 1024), ..Default::default() }),
            ..Default::default()
        };
        assert!(state(&mut all));
        assert!(fits(&all), "{}", all.encoded_len());
        assert_eq!((all.polls.len(), all.active_answers.len()), (32, 40), "nothing that is open is hidden");
        let kept = all.active_answers.iter().filter(|answer| !answer.text_omitted);
        assert!(kept.clone().count() > 5 && kept.clone().all(|answer| !answer.content.is_empty()));
        assert!(all.active_answers.iter().all(|a| a.text_omitted == a.content.is_empty()));
    }

    #[test]
    fn what_fits_is_left_as_it_is() {
        let small = pb::Resumed { active_answers: answers(8, 256 * 1024), ..Default::default() };
        let mut same = small.clone();
        assert!(!resumed(&mut same));
        assert_eq!(same, small);
        let mut large = pb::Resumed { active_answers: answers(16, 256 * 1024), ..Default::default() };
        assert!(resumed(&mut large));
        assert!(large.encoded_len() <= STATE_BYTES);
        assert!(large.active_answers[15].text_omitted, "the longest goes first");
        assert!(!large.active_answers[0].text_omitted);
    }
}
