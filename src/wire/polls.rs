//! Polls as messages, in both directions: for everybody, or whole for the server's own log.
//!
//! Owns what of a poll anybody is told: nobody's vote when it is anonymous, and no counts while results are hidden.

use std::collections::BTreeMap;

use prost::Message as _;

use crate::{
    domain::{
        message::Author,
        poll::{Abstention, Ballot, Poll, PollOption},
    },
    ids::OptionId,
    wire::{
        basic::{Corrupt, id, time, timestamp},
        model::{author_from_pb, author_type},
        pb::room::v1 as pb,
    },
};

/// Voters of one poll whose votes are shown one by one: a poll of thousands must not become a message that no client
/// takes. The counts are always of all.
const VOTES_SHOWN: usize = 200;
/// Bytes of those votes, reasons and names included: polls come in dozens, too.
const VOTES_BYTES: usize = 64 * 1024;

/// How much of a poll is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ballots {
    /// What everybody may see.
    Public,
    /// Everything, for the server's own log.
    All,
}

/// A poll as everybody may see it.
pub fn poll_to_pb(poll: &Poll, room_id: &str) -> pb::Poll {
    poll_with(poll, room_id, Ballots::Public)
}

pub(super) fn poll_with(poll: &Poll, room_id: &str, ballots: Ballots) -> pb::Poll {
    let names = ballots == Ballots::All || !(poll.anonymous || poll.results_hidden());
    let counts = ballots == Ballots::All || !poll.results_hidden();
    let shown = if ballots == Ballots::All { usize::MAX } else { ballots_shown(poll) };
    let option = |option: &PollOption| pb::PollOption {
        id: option.id.to_string(),
        text: option.text.clone(),
        description: option.description.clone(),
        votes: if names { votes_for(poll, &option.id, shown) } else { Vec::new() },
        vote_count: if counts { poll.votes_for(&option.id) } else { 0 },
    };
    pb::Poll {
        poll_id: poll.id.to_string(),
        room_id: room_id.to_owned(),
        creator_id: poll.creator.as_str().to_owned(),
        creator_name: poll.creator_name.clone(),
        creator_type: author_type(&poll.creator),
        question: poll.question.clone(),
        options: poll.options.iter().map(option).collect(),
        allow_multiple: poll.allow_multiple,
        anonymous: poll.anonymous,
        status: if poll.is_open() { pb::PollStatus::PollOpen } else { pb::PollStatus::PollClosed }.into(),
        created_at: time(poll.created_at),
        closed_at: poll.closed_at.and_then(time),
        mandatory: poll.mandatory,
        message_id: poll.message_id.to_string(),
        closes_at: poll.closes_at.and_then(time),
        hide_results_until_closed: poll.hide_results,
        ballot_count: poll.ballot_count(),
        quorum: poll.quorum,
        quorum_reached: poll.quorum_reached(),
        abstentions: poll.abstentions.iter().map(abstention_to_pb).collect(),
    }
}

pub(super) fn abstention_to_pb(abstention: &Abstention) -> pb::PollAbstention {
    pb::PollAbstention {
        llm_id: abstention.llm_id.to_string(),
        llm_name: abstention.llm_name.clone(),
        reason: abstention.reason.clone(),
    }
}

pub(super) fn abstention_from_pb(abstention: pb::PollAbstention) -> Result<Abstention, Corrupt> {
    Ok(Abstention {
        llm_id: id("LLM id", &abstention.llm_id)?,
        llm_name: abstention.llm_name,
        reason: abstention.reason,
    })
}

/// How many voters are shown, from the first.
pub(super) fn ballots_shown(poll: &Poll) -> usize {
    let mut left = VOTES_BYTES;
    let fits = |(voter, ballot): &(&Author, &Ballot)| {
        let vote = vote_to_pb(voter, &Ballot { reason: String::new(), ..(*ballot).clone() });
        let size =
            vote.encoded_len().saturating_mul(ballot.options.len()).saturating_add(ballot.reason.len());
        let taken = left >= size;
        left = left.saturating_sub(size);
        taken
    };
    poll.ballots.iter().take(VOTES_SHOWN).take_while(fits).count()
}

/// The votes for an option, of the first `shown` voters of the poll. A ballot's reason stands under the first of its
/// options only.
fn votes_for(poll: &Poll, option: &OptionId, shown: usize) -> Vec<pb::PollVote> {
    let vote = |(voter, ballot): (&Author, &Ballot)| {
        if !ballot.options.contains(option) {
            return None;
        }
        let first = poll.options.iter().find(|o| ballot.options.contains(&o.id))?;
        let mut vote = vote_to_pb(voter, ballot);
        if &first.id != option {
            vote.reason.clear();
        }
        Some(vote)
    };
    poll.ballots.iter().take(shown).filter_map(vote).collect()
}

pub(super) fn vote_to_pb(voter: &Author, ballot: &Ballot) -> pb::PollVote {
    pb::PollVote {
        voter_id: voter.as_str().to_owned(),
        voter_name: ballot.voter_name.clone(),
        reason: ballot.reason.clone(),
        voted_at: time(ballot.at),
        voter_type: author_type(voter),
    }
}

/// A poll out of stored bytes, with as many ballots as they hold.
pub(super) fn poll_from_pb(poll: pb::Poll) -> Result<Poll, Corrupt> {
    let mut options = Vec::with_capacity(poll.options.len());
    let mut ballots: BTreeMap<Author, Ballot> = BTreeMap::new();
    for option in poll.options {
        let option_id: OptionId = id("option id", &option.id)?;
        for vote in option.votes {
            let voter = author_from_pb(vote.voter_type, &vote.voter_id)?;
            let ballot = ballots.entry(voter).or_insert_with(|| Ballot {
                voter_name: vote.voter_name,
                options: Vec::new(),
                reason: vote.reason,
                at: timestamp(vote.voted_at.as_ref()),
            });
            ballot.options.push(option_id.clone());
        }
        options.push(PollOption { id: option_id, text: option.text, description: option.description });
    }
    Ok(Poll {
        id: id("poll id", &poll.poll_id)?,
        message_id: id("message id", &poll.message_id)?,
        creator: author_from_pb(poll.creator_type, &poll.creator_id)?,
        creator_name: poll.creator_name,
        question: poll.question,
        options,
        allow_multiple: poll.allow_multiple,
        anonymous: poll.anonymous,
        mandatory: poll.mandatory,
        hide_results: poll.hide_results_until_closed,
        created_at: timestamp(poll.created_at.as_ref()),
        closes_at: poll.closes_at.as_ref().map(|t| timestamp(Some(t))),
        closed_at: poll.closed_at.as_ref().map(|t| timestamp(Some(t))),
        ballots,
        quorum: poll.quorum,
        abstentions: poll.abstentions.into_iter().map(abstention_from_pb).collect::<Result<_, _>>()?,
        // Beside the public half: whoever reads it puts it in.
        asked_by: None,
    })
}

/// Bytes of a poll as everybody may see it.
pub fn poll_size(poll: &Poll, room_id: &str) -> usize {
    poll_to_pb(poll, room_id).encoded_len()
}
