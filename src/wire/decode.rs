//! A stored event, read back for the fold.

use prost::Message as _;

use crate::{
    domain::{
        event::{Event, MemberChange, NewRoom, Recorded, Vote},
        llm::{LlmConfig, Run, RunEnd, RunReport, ToolUse},
        message::Author,
        poll::{Ballot, Poll},
        room::{Profile, Visibility},
    },
    ids::{EventId, OptionId, Seq},
    wire::{
        basic::{Corrupt, id, optional_id, room_id, timestamp},
        conduct,
        model::{
            author_from_pb, llm_from_pb, llms_from_pb, member_from_pb, message_from_pb, visibility_from_pb,
        },
        pb::{
            room::v1::{self as pb, server_event::Payload},
            salon::log::v1 as log,
        },
        polls::{abstention_from_pb, poll_from_pb},
        rights,
    },
};

/// Reads an event; `public` and `private` are what [`crate::wire::encode::event`] made.
pub fn event(seq: Seq, public: &[u8], private: &[u8]) -> Result<Recorded, Corrupt> {
    let public = pb::ServerEvent::decode(public).map_err(|e| Corrupt::new("event", e))?;
    let private = log::EventPrivate::decode(private).map_err(|e| Corrupt::new("private event", e))?;
    let at = timestamp(public.at.as_ref());
    let event_id: EventId = id("event id", &public.event_id)?;
    let payload = public.payload.ok_or_else(|| Corrupt::new("event", "it is empty"))?;
    Ok(Recorded { seq, event_id, at, event: payload_to_event(payload, private)? })
}

/// What everybody may see of a stored event, at its position.
pub fn public(seq: Seq, public: &[u8]) -> Result<pb::ServerEvent, Corrupt> {
    let event = pb::ServerEvent::decode(public).map_err(|e| Corrupt::new("event", e))?;
    Ok(pb::ServerEvent { seq: seq.0, ..event })
}

fn payload_to_event(payload: Payload, private: log::EventPrivate) -> Result<Event, Corrupt> {
    Ok(match payload {
        Payload::RoomUpdated(updated) => room_updated(updated, &private)?,
        Payload::RoomEnded(ended) => {
            Event::RoomEnded { by: Author::User(id("user id", &ended.ended_by_id)?), reason: ended.reason }
        }
        Payload::MemberChanged(changed) => member_changed(changed)?,
        Payload::MessageReceived(received) => {
            let message = received.message.ok_or_else(|| Corrupt::new("message", "it is empty"))?;
            Event::MessagePosted(message_from_pb(message, private.chain_depth, private.from_run)?)
        }
        Payload::MessageEdited(edited) => Event::MessageEdited {
            message_id: id("message id", &edited.message_id)?,
            of: Seq(private.message_seq),
            content: edited.content,
            mentions: edited.mentions.iter().map(|m| id("LLM id", m)).collect::<Result<_, _>>()?,
            regenerate: edited.regenerate,
            by: optional_id("user id", &edited.edited_by_id)?,
        },
        Payload::InvitationCreated(created) => {
            let invitation = created.invitation.unwrap_or_default();
            Event::InvitationCreated(rights::invitation_from_pb(&invitation, &private.invitation_hash)?)
        }
        Payload::InvitationClosed(closed) => rights::closed_from_pb(&closed)?,
        Payload::MessageSuperseded(superseded) => Event::MessageSuperseded {
            message_id: id("message id", &superseded.message_id)?,
            of: Seq(private.message_seq),
            by: id("message id", &superseded.by_message_id)?,
        },
        Payload::RegenerateRequested(requested) => Event::RegenerateRequested {
            message_id: id("message id", &requested.message_id)?,
            by: id("user id", &requested.by_id)?,
            model: requested.model,
        },
        Payload::MessageDeleted(deleted) => Event::MessageDeleted {
            message_id: id("message id", &deleted.message_id)?,
            of: Seq(private.message_seq),
            by: id("user id", &deleted.deleted_by_id)?,
        },
        Payload::ReactionChanged(changed) => Event::ReactionChanged {
            message_id: id("message id", &changed.message_id)?,
            user: id("user id", &changed.user_id)?,
            emoji: changed.emoji,
            added: changed.added,
        },
        Payload::LlmAdded(pb::LlmAdded { llm }) => Event::LlmAdded(read_llm(llm)?),
        Payload::LlmUpdated(pb::LlmUpdated { llm }) => Event::LlmUpdated(read_llm(llm)?),
        Payload::LlmRemoved(removed) => Event::LlmRemoved(id("LLM id", &removed.llm_id)?),
        Payload::PollCreated(created) => {
            let poll = created.poll.ok_or_else(|| Corrupt::new("poll", "it is empty"))?;
            let asked_by = optional_id("user id", &private.asked_by)?;
            Event::PollCreated(Poll { asked_by, ..poll_from_pb(poll)? })
        }
        Payload::PollVoted(voted) => poll_voted(&voted, private)?,
        Payload::VoteRetracted(retracted) => vote_retracted(&retracted, private)?,
        Payload::PollClosed(closed) => poll_closed(closed, private)?,
        Payload::LlmThinking(thinking) => run_started(&thinking, &private)?,
        Payload::LlmDone(done) => run_ended(done, &private)?,
        Payload::VoteAbstained(abstained) => Event::VoteAbstained {
            poll_id: id("poll id", &abstained.poll_id)?,
            abstention: abstention_from_pb(abstained.abstention.unwrap_or_default())?,
        },
        other => conduct::event_from_pb(other)?,
    })
}

fn read_llm(llm: Option<pb::LlmConfig>) -> Result<LlmConfig, Corrupt> {
    let llm = llm.ok_or_else(|| Corrupt::new("LLM", "it is empty"))?;
    Ok(llm_from_pb(id("LLM id", &llm.id)?, llm))
}

fn room_updated(updated: pb::RoomUpdated, private: &log::EventPrivate) -> Result<Event, Corrupt> {
    let room = updated.room.ok_or_else(|| Corrupt::new("room", "it is empty"))?;
    let profile = Profile {
        name: room.name,
        description: room.description,
        visibility: visibility_from_pb(room.visibility).unwrap_or(Visibility::Private),
        settings: conduct::settings_from_pb(room.settings.as_ref()),
    };
    Ok(match private.room_change() {
        log::RoomChange::Unspecified => Event::RoomUpdated(profile),
        log::RoomChange::Activated => Event::RoomActivated,
        log::RoomChange::Created => Event::RoomCreated(NewRoom {
            id: room_id(&room.room_id, &private.namespace)?,
            profile,
            created_by: optional_id("user id", &room.created_by)?,
            llms: llms_from_pb(room.llms)?,
        }),
    })
}

/// How a membership changed; `None`: unspecified.
pub(super) fn member_change_from_pb(change: pb::MemberChange) -> Option<MemberChange> {
    Some(match change {
        pb::MemberChange::Joined => MemberChange::Joined,
        pb::MemberChange::Updated => MemberChange::Updated,
        pb::MemberChange::Left => MemberChange::Left,
        pb::MemberChange::Removed => MemberChange::Removed,
        pb::MemberChange::Banned => MemberChange::Banned,
        pb::MemberChange::Unbanned => MemberChange::Unbanned,
        pb::MemberChange::Unspecified => return None,
    })
}

fn member_changed(changed: pb::MemberChanged) -> Result<Event, Corrupt> {
    let change =
        member_change_from_pb(changed.change()).ok_or_else(|| Corrupt::new("member change", "no kind"))?;
    let member = changed.member.ok_or_else(|| Corrupt::new("member", "it is empty"))?;
    let by = optional_id("user id", &changed.by_id)?;
    Ok(Event::MemberChanged { member: member_from_pb(member)?, change, by, reason: changed.reason })
}

fn options(ids: &[String]) -> Result<Vec<OptionId>, Corrupt> {
    ids.iter().map(|o| id("option id", o)).collect()
}

fn private_vote(private: log::EventPrivate) -> Result<(log::Vote, pb::PollVote, Author), Corrupt> {
    let mut vote = private.vote.ok_or_else(|| Corrupt::new("vote", "it is empty"))?;
    let voter = vote.voter.take().ok_or_else(|| Corrupt::new("vote", "it has no voter"))?;
    let author = author_from_pb(voter.voter_type, &voter.voter_id)?;
    Ok((vote, voter, author))
}

fn poll_voted(voted: &pb::PollVoted, private: log::EventPrivate) -> Result<Event, Corrupt> {
    let (vote, voter, author) = private_vote(private)?;
    Ok(Event::PollVoted(Vote {
        poll_id: id("poll id", &voted.poll_id)?,
        voter: author,
        ballot: Ballot {
            voter_name: voter.voter_name,
            options: options(&vote.ballot)?,
            reason: voter.reason,
            at: timestamp(voter.voted_at.as_ref()),
        },
        option: id("option id", &vote.option_id)?,
        retracted: options(&vote.retracted)?,
    }))
}

fn vote_retracted(retracted: &pb::VoteRetracted, private: log::EventPrivate) -> Result<Event, Corrupt> {
    let (vote, _, voter) = private_vote(private)?;
    Ok(Event::VoteRetracted {
        poll_id: id("poll id", &retracted.poll_id)?,
        voter,
        options: options(&vote.ballot)?,
    })
}

fn poll_closed(closed: pb::PollClosed, private: log::EventPrivate) -> Result<Event, Corrupt> {
    let by = match closed.closed_by_id.as_str() {
        "" => None,
        text => Some(author_from_pb(closed.closed_by_type, text)?),
    };
    let poll = private.poll.or(closed.poll).ok_or_else(|| Corrupt::new("poll", "it is empty"))?;
    let asked_by = optional_id("user id", &private.asked_by)?;
    let poll = Poll { asked_by, ..poll_from_pb(poll)? };
    Ok(Event::PollClosed { poll, by, by_name: closed.closed_by_name })
}

fn run_started(thinking: &pb::LlmThinking, private: &log::EventPrivate) -> Result<Event, Corrupt> {
    Ok(Event::RunStarted(Run {
        message_id: id("message id", &thinking.message_id)?,
        llm_id: id("LLM id", &thinking.llm_id)?,
        llm_name: private.llm_name.clone(),
        reply_to: id("message id", &thinking.reply_to)?,
        poll_id: optional_id("poll id", &thinking.poll_id)?,
        chain_depth: thinking.chain_depth,
        asked_by: optional_id("user id", &private.asked_by)?,
        started_at: crate::clock::Timestamp(private.started_at_ms),
        replaces: optional_id("message id", &thinking.replaces)?,
        turn: (thinking.autopilot_turn > 0).then_some(thinking.autopilot_turn),
        model: private.model.clone(),
    }))
}

fn run_ended(done: pb::LlmDone, private: &log::EventPrivate) -> Result<Event, Corrupt> {
    let end = match done.reason() {
        pb::LlmDoneReason::Completed => RunEnd::Completed,
        pb::LlmDoneReason::OptedOut => RunEnd::OptedOut,
        pb::LlmDoneReason::Interrupted => RunEnd::Interrupted,
        pb::LlmDoneReason::Failed => RunEnd::Failed,
        pb::LlmDoneReason::TimedOut => RunEnd::TimedOut,
        pb::LlmDoneReason::OverBudget => RunEnd::OverBudget,
        pb::LlmDoneReason::Unspecified => return Err(Corrupt::new("end of an answer", "no reason")),
    };
    let run = Run {
        message_id: id("message id", &done.message_id)?,
        llm_id: id("LLM id", &done.llm_id)?,
        llm_name: private.llm_name.clone(),
        reply_to: id("message id", &done.reply_to)?,
        poll_id: optional_id("poll id", &done.poll_id)?,
        chain_depth: private.chain_depth,
        asked_by: optional_id("user id", &private.asked_by)?,
        started_at: crate::clock::Timestamp(private.started_at_ms),
        replaces: optional_id("message id", &done.replaces)?,
        turn: (done.autopilot_turn > 0).then_some(done.autopilot_turn),
        model: private.model.clone(),
    };
    let tool_use =
        |used: pb::ToolUse| ToolUse { tool: used.tool, calls: used.calls, failures: used.failures };
    let usage = done.usage.unwrap_or_default();
    let report = RunReport {
        prompt_tokens: usage.prompt_tokens,
        completion_tokens: usage.completion_tokens,
        cost_micros: usage.cost_micros,
        first_token_ms: done.first_token_ms,
        duration_ms: done.duration_ms,
        model: done.model,
        provider: done.provider,
        error_code: done.error_code,
        error_message: done.error_message,
        detail: done.detail,
        tools: done.tool_uses.into_iter().map(tool_use).collect(),
        retry_at: done.retry_at.as_ref().map(|at| timestamp(Some(at))),
    };
    Ok(Event::RunEnded { run, end, report: Box::new(report) })
}
