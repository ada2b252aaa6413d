//! A lasting event as the bytes that are stored, carried and sent.

use bytes::Bytes;
use prost::Message as _;
use uuid::Uuid;

use crate::{
    domain::{
        event::{Event, MemberChange, Recorded, Vote},
        llm::{Run, RunEnd, RunReport, ToolUse},
        message::Author,
        poll::Poll,
        room::{Member, Presence, Room},
    },
    ids::{LlmId, MessageId, OptionId, PollId, UserId},
    wire::{
        basic::{namespace_of, time},
        conduct, frame,
        model::{author_type, llm_to_pb, member_to_pb, message_to_pb, room_info},
        pb::{
            room::v1::{self as pb, server_event::Payload},
            salon::log::v1 as log,
        },
        polls::{Ballots, abstention_to_pb, ballots_shown, poll_to_pb, poll_with, vote_to_pb},
        rights,
    },
};

/// The two halves of an event: what is sent, and what stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// A `ServerEvent` without `seq`.
    pub public: Bytes,
    /// An `EventPrivate`; empty when there is nothing to keep.
    pub private: Bytes,
}

/// Encodes an event; `after` is the room it leaves behind.
pub fn event(after: &Room, recorded: &Recorded) -> Encoded {
    let mut private =
        log::EventPrivate { message_seq: changed_message(&recorded.event), ..Default::default() };
    let payload = payload(after, &recorded.event, &mut private);
    if private.vote.is_some() || private.poll.is_some() {
        private.salt = Uuid::new_v4().as_bytes().to_vec();
    }
    let public = pb::ServerEvent {
        payload: Some(payload),
        request_id: String::new(),
        seq: 0,
        event_id: recorded.event_id.to_string(),
        at: time(recorded.at),
        ..Default::default()
    };
    Encoded { public: frame::stored(&public), private: private.encode_to_vec().into() }
}

/// Where the message was said that has changed.
fn changed_message(event: &Event) -> u64 {
    match event {
        Event::MessageEdited { of, .. }
        | Event::MessageDeleted { of, .. }
        | Event::MessageSuperseded { of, .. } => of.0,
        _ => 0,
    }
}

fn payload(after: &Room, event: &Event, private: &mut log::EventPrivate) -> Payload {
    let room_id = after.id.name();
    match event {
        Event::RoomCreated(_) => room_updated(after, private, log::RoomChange::Created),
        Event::RoomActivated => room_updated(after, private, log::RoomChange::Activated),
        Event::RoomUpdated(_) => room_updated(after, private, log::RoomChange::Unspecified),
        Event::RoomEnded { by, reason } => {
            Payload::RoomEnded(pb::RoomEnded { ended_by_id: by.as_str().to_owned(), reason: reason.clone() })
        }
        Event::MemberChanged { member, change, by, reason } => {
            member_changed(member, *change, by.as_ref(), reason)
        }
        Event::MessagePosted(message) => {
            private.chain_depth = message.chain_depth;
            private.from_run = message.from_run;
            // The position is only known to the store, which puts it into the envelope.
            let message = pb::Message { seq: 0, ..message_to_pb(message) };
            Payload::MessageReceived(pb::MessageReceived { message: Some(message) })
        }
        Event::InvitationCreated(invitation) => rights::invitation_created(invitation, private),
        Event::InvitationClosed { id, used_by, revoked_by } => {
            rights::invitation_closed(id, used_by.as_ref(), revoked_by.as_ref())
        }
        Event::MessageEdited { message_id, content, mentions, regenerate, by, .. } => {
            edited(*message_id, content, mentions, *regenerate, by.as_ref())
        }
        Event::MessageSuperseded { message_id, by, .. } => {
            let (message_id, by_message_id) = (message_id.to_string(), by.to_string());
            Payload::MessageSuperseded(pb::MessageSuperseded { message_id, by_message_id })
        }
        Event::RegenerateRequested { message_id, by, model } => {
            let (message_id, by_id, model) = (message_id.to_string(), by.to_string(), model.clone());
            Payload::RegenerateRequested(pb::RegenerateRequested { message_id, by_id, model })
        }
        Event::MessageDeleted { message_id, by, .. } => {
            let (message_id, deleted_by_id) = (message_id.to_string(), by.to_string());
            Payload::MessageDeleted(pb::MessageDeleted { message_id, deleted_by_id })
        }
        Event::ReactionChanged { message_id, user, emoji, added } => {
            let (message_id, user_id) = (message_id.to_string(), user.to_string());
            let (emoji, added) = (emoji.clone(), *added);
            Payload::ReactionChanged(pb::ReactionChanged { message_id, user_id, emoji, added })
        }
        Event::LlmAdded(llm) => Payload::LlmAdded(pb::LlmAdded { llm: Some(llm_to_pb(llm)) }),
        Event::LlmUpdated(llm) => Payload::LlmUpdated(pb::LlmUpdated { llm: Some(llm_to_pb(llm)) }),
        Event::LlmRemoved(id) => Payload::LlmRemoved(pb::LlmRemoved { llm_id: id.to_string() }),
        Event::PollCreated(poll) => {
            private.asked_by = poll.asked_by.as_ref().map(ToString::to_string).unwrap_or_default();
            Payload::PollCreated(pb::PollCreated { poll: Some(poll_to_pb(poll, room_id)) })
        }
        Event::PollVoted(vote) => {
            private.vote = Some(private_vote(vote));
            voted(vote, after.polls.get(&vote.poll_id))
        }
        Event::VoteRetracted { poll_id, voter, options } => {
            private.vote = Some(private_retraction(voter, options));
            retracted(*poll_id, voter, options, after.polls.get(poll_id))
        }
        Event::PollClosed { poll, by, by_name } => poll_closed(poll, by.as_ref(), by_name, room_id, private),
        Event::VoteAbstained { poll_id, abstention } => {
            let (poll_id, abstention) = (poll_id.to_string(), Some(abstention_to_pb(abstention)));
            Payload::VoteAbstained(pb::VoteAbstained { poll_id, abstention })
        }
        Event::ApprovalRequested(approval) => conduct::approval_requested(approval),
        Event::ApprovalDecided { id, decided, by, reason } => {
            conduct::approval_decided(*id, *decided, by.as_ref(), reason)
        }
        Event::ContextSummarised(summary) => conduct::summarised(summary),
        Event::AutopilotChanged(autopilot) => conduct::autopilot_changed(autopilot),
        Event::RunStarted(run) => run_started(run, private),
        Event::RunEnded { run, end, report } => run_ended(run, *end, report, private),
    }
}

fn edited(
    message_id: MessageId,
    content: &str,
    mentions: &[LlmId],
    regenerate: bool,
    by: Option<&UserId>,
) -> Payload {
    Payload::MessageEdited(pb::MessageEdited {
        message_id: message_id.to_string(),
        content: content.to_owned(),
        mentions: mentions.iter().map(ToString::to_string).collect(),
        regenerate,
        edited_by_id: by.map(ToString::to_string).unwrap_or_default(),
    })
}

/// What of a run the fold needs and members must not see.
fn keep_run(run: &Run, private: &mut log::EventPrivate) {
    private.chain_depth = run.chain_depth;
    private.asked_by = run.asked_by.as_ref().map(ToString::to_string).unwrap_or_default();
    private.started_at_ms = run.started_at.0;
    private.llm_name.clone_from(&run.llm_name);
    private.model.clone_from(&run.model);
}

fn run_started(run: &Run, private: &mut log::EventPrivate) -> Payload {
    keep_run(run, private);
    Payload::LlmThinking(pb::LlmThinking {
        llm_id: run.llm_id.to_string(),
        reply_to: run.reply_to.to_string(),
        message_id: run.message_id.to_string(),
        chain_depth: run.chain_depth,
        poll_id: run.poll_id.map(|id| id.to_string()).unwrap_or_default(),
        replaces: run.replaces.map(|id| id.to_string()).unwrap_or_default(),
        autopilot_turn: run.turn.unwrap_or_default(),
    })
}

fn room_updated(after: &Room, private: &mut log::EventPrivate, change: log::RoomChange) -> Payload {
    private.room_change = change.into();
    if change == log::RoomChange::Created {
        private.namespace = namespace_of(&after.id);
    }
    Payload::RoomUpdated(pb::RoomUpdated { room: Some(room_info(after)) })
}

fn member_changed(member: &Member, change: MemberChange, by: Option<&UserId>, reason: &str) -> Payload {
    Payload::MemberChanged(pb::MemberChanged {
        // Presence is not part of the log: it would be wrong by the time it is read.
        member: Some(pb::Participant { presence: 0, ..member_to_pb(member, Presence::Offline) }),
        change: member_change(change).into(),
        by_id: by.map(ToString::to_string).unwrap_or_default(),
        reason: reason.to_owned(),
    })
}

pub(super) fn member_change(change: MemberChange) -> pb::MemberChange {
    match change {
        MemberChange::Joined => pb::MemberChange::Joined,
        MemberChange::Updated => pb::MemberChange::Updated,
        MemberChange::Left => pb::MemberChange::Left,
        MemberChange::Removed => pb::MemberChange::Removed,
        MemberChange::Banned => pb::MemberChange::Banned,
        MemberChange::Unbanned => pb::MemberChange::Unbanned,
    }
}

/// What of a poll may be shown while it is voted on.
#[derive(Default)]
struct Shown {
    voters: bool,
    votes: bool,
    tallies: Vec<pb::OptionTally>,
    ballot_count: u32,
}

impl Shown {
    /// Nothing of a poll that is not there; that cannot be, since votes are only taken in polls of the state.
    fn of(poll: Option<&Poll>) -> Self {
        let Some(poll) = poll else {
            return Self::default();
        };
        let votes = !poll.results_hidden();
        let tally =
            |(id, votes): (OptionId, u32)| pb::OptionTally { option_id: id.to_string(), vote_count: votes };
        Self {
            voters: !poll.anonymous,
            votes,
            tallies: if votes { poll.tallies().into_iter().map(tally).collect() } else { Vec::new() },
            ballot_count: poll.ballot_count(),
        }
    }
}

/// What everybody may see of a vote: of an anonymous one no voter, of a hidden one only that somebody voted.
fn voted(vote: &Vote, poll: Option<&Poll>) -> Payload {
    let shown = Shown::of(poll);
    let mut who = vote_to_pb(&vote.voter, &vote.ballot);
    if !shown.voters {
        // A reason can tell who wrote it.
        who = pb::PollVote { voted_at: who.voted_at, ..Default::default() };
    }
    if !shown.votes {
        who.reason.clear();
    }
    let all = shown.voters && shown.votes;
    Payload::PollVoted(pb::PollVoted {
        poll_id: vote.poll_id.to_string(),
        option_id: if shown.votes { vote.option.to_string() } else { String::new() },
        vote: Some(who),
        option_ids: if all { texts(&vote.ballot.options) } else { Vec::new() },
        retracted_option_ids: if shown.votes { texts(&vote.retracted) } else { Vec::new() },
        tallies: shown.tallies,
        ballot_count: shown.ballot_count,
    })
}

fn retracted(poll_id: PollId, voter: &Author, options: &[OptionId], poll: Option<&Poll>) -> Payload {
    let shown = Shown::of(poll);
    Payload::VoteRetracted(pb::VoteRetracted {
        poll_id: poll_id.to_string(),
        voter_id: if shown.voters { voter.as_str().to_owned() } else { String::new() },
        option_ids: if shown.votes { texts(options) } else { Vec::new() },
        tallies: shown.tallies,
        ballot_count: shown.ballot_count,
    })
}

fn poll_closed(
    poll: &Poll,
    by: Option<&Author>,
    by_name: &str,
    room_id: &str,
    private: &mut log::EventPrivate,
) -> Payload {
    private.asked_by = poll.asked_by.as_ref().map(ToString::to_string).unwrap_or_default();
    if poll.anonymous || ballots_shown(poll) < poll.ballots.len() {
        private.poll = Some(poll_with(poll, room_id, Ballots::All));
    }
    Payload::PollClosed(pb::PollClosed {
        poll_id: poll.id.to_string(),
        closed_by_id: by.map(|by| by.as_str().to_owned()).unwrap_or_default(),
        closed_by_name: by_name.to_owned(),
        closed_by_type: by.map_or(0, author_type),
        poll: Some(poll_to_pb(poll, room_id)),
    })
}

fn run_ended(run: &Run, end: RunEnd, report: &RunReport, private: &mut log::EventPrivate) -> Payload {
    keep_run(run, private);
    let tool_use =
        |used: &ToolUse| pb::ToolUse { tool: used.tool.clone(), calls: used.calls, failures: used.failures };
    let reason = match end {
        RunEnd::Completed => pb::LlmDoneReason::Completed,
        RunEnd::OptedOut => pb::LlmDoneReason::OptedOut,
        RunEnd::Interrupted => pb::LlmDoneReason::Interrupted,
        RunEnd::Failed => pb::LlmDoneReason::Failed,
        RunEnd::TimedOut => pb::LlmDoneReason::TimedOut,
        RunEnd::OverBudget => pb::LlmDoneReason::OverBudget,
    };
    let usage = pb::TokenUsage {
        prompt_tokens: report.prompt_tokens,
        completion_tokens: report.completion_tokens,
        cost_micros: report.cost_micros,
    };
    Payload::LlmDone(pb::LlmDone {
        message_id: run.message_id.to_string(),
        llm_id: run.llm_id.to_string(),
        reason: reason.into(),
        error_code: report.error_code.clone(),
        error_message: report.error_message.clone(),
        usage: Some(usage),
        first_token_ms: report.first_token_ms,
        duration_ms: report.duration_ms,
        model: report.model.clone(),
        provider: report.provider.clone(),
        detail: report.detail.clone(),
        reply_to: run.reply_to.to_string(),
        poll_id: run.poll_id.map(|id| id.to_string()).unwrap_or_default(),
        tool_uses: report.tools.iter().map(tool_use).collect(),
        replaces: run.replaces.map(|id| id.to_string()).unwrap_or_default(),
        autopilot_turn: run.turn.unwrap_or_default(),
        retry_at: report.retry_at.and_then(time),
    })
}

fn private_vote(vote: &Vote) -> log::Vote {
    log::Vote {
        voter: Some(vote_to_pb(&vote.voter, &vote.ballot)),
        ballot: texts(&vote.ballot.options),
        option_id: vote.option.to_string(),
        retracted: texts(&vote.retracted),
    }
}

fn private_retraction(voter: &Author, options: &[OptionId]) -> log::Vote {
    let voter = pb::PollVote {
        voter_id: voter.as_str().to_owned(),
        voter_type: author_type(voter),
        ..Default::default()
    };
    log::Vote { voter: Some(voter), ballot: texts(options), ..Default::default() }
}

fn texts(ids: &[OptionId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}
