//! Polls in words: how one stands, as a note under the message that announced it, and the paper of one to vote in.

use std::fmt::Write as _;

use crate::{
    dispatch::plain::{block, quoted},
    domain::poll::Poll,
    ids::OptionId,
};

use super::names::Names;

/// Voters named for one option of a poll; of more only the number is told.
const VOTERS_NAMED: usize = 20;

/// A poll inside the conversation: its options, and the votes that may be shown.
pub(super) fn results(poll: &Poll, names: &Names) -> String {
    let mut text = String::from(if poll.is_open() { "\n  (a poll, open)" } else { "\n  (a poll, closed)" });
    for option in &poll.options {
        let _ = write!(text, "\n  - {}", quoted(&option.text));
        if !poll.results_hidden() {
            let _ = write!(text, ": {} votes", poll.votes_for(&option.id));
            text.push_str(&voters(poll, &option.id, names));
        }
    }
    if !poll.is_open() && !poll.quorum_reached() {
        let _ = write!(text, "\n  (no result: {} ballots of {})", poll.ballot_count(), poll.quorum);
    }
    text
}

/// Who has chosen an option, in brackets; empty when that is secret, or nobody has.
fn voters(poll: &Poll, option: &OptionId, names: &Names) -> String {
    let chosen = poll.ballots.iter().filter(|(_, ballot)| ballot.options.contains(option));
    let voters = names.list(chosen.take(VOTERS_NAMED).map(|(who, ballot)| (who, ballot.voter_name.as_str())));
    if poll.anonymous || voters.is_empty() { String::new() } else { format!(" ({voters})") }
}

/// What an LLM that is asked to vote is shown last.
pub(super) fn ballot_paper(poll: &Poll) -> String {
    let mut text = format!("Poll {}: {}", poll.id, block(&poll.question));
    for option in &poll.options {
        let _ = write!(text, "\n  {}: {}", option.id, quoted(&option.text));
        if !option.description.is_empty() {
            let _ = write!(text, " ({})", quoted(&option.description));
        }
    }
    text.push_str(if poll.allow_multiple { "\nYou may choose several." } else { "\nChoose one." });
    text
}
