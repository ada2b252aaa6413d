//! The room that an event leaves behind.
//!
//! Never refuses and never asks: what is in the log has happened. An event that makes no sense on this state (a
//! log written by a newer server) changes as much as it can.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    clock::Timestamp,
    domain::{
        autopilot::Autopilot,
        event::{Event, MemberChange, NewRoom, Recorded, Vote},
        invitation::Invitation,
        llm::{LlmConfig, Run},
        message::{Author, Message},
        poll::Abstention,
        room::{Member, Profile, Role, Room, Status},
        summaries,
    },
    ids::{MessageId, PollId, Seq, UserId},
};

/// Those who have posted and gone, kept in slow mode besides twice the members: then they are forgotten.
const FORMER_POSTS: usize = 64;

/// The room after its first event, which creates it.
pub fn create(first: &Recorded) -> Option<Room> {
    let Event::RoomCreated(NewRoom { id, profile, created_by, llms }) = &first.event else {
        return None;
    };
    Some(Room {
        id: id.clone(),
        profile: profile.clone(),
        status: Status::Waiting,
        created_at: first.at,
        created_by: created_by.clone(),
        members: BTreeMap::new(),
        banned: BTreeSet::new(),
        former_roles: BTreeMap::new(),
        former_mutes: BTreeMap::new(),
        last_posts: BTreeMap::new(),
        invitations: BTreeMap::new(),
        llms: llms.clone(),
        polls: BTreeMap::new(),
        recent: VecDeque::new(),
        runs: BTreeMap::new(),
        approvals: BTreeMap::new(),
        summary: None,
        earlier_summaries: Vec::new(),
        changed: VecDeque::new(),
        autopilot: None,
        seq: first.seq,
        fence: first.seq,
        chain: None,
    })
}

/// The room a whole log leaves behind; `None` for a log that does not begin with a creation.
pub fn fold<'a>(log: impl IntoIterator<Item = &'a Recorded>) -> Option<Room> {
    let mut log = log.into_iter();
    let mut room = create(log.next()?)?;
    for recorded in log {
        apply(&mut room, recorded);
    }
    Some(room)
}

/// Moves a room one event on.
pub fn apply(room: &mut Room, recorded: &Recorded) {
    room.seq = recorded.seq;
    if recorded.event.moves_fence() {
        room.fence = recorded.seq;
    }
    match &recorded.event {
        Event::RoomCreated(_) => {}
        Event::RoomActivated => room.status = Status::Active,
        Event::RoomUpdated(profile) => room_updated(room, profile),
        Event::RoomEnded { .. } => room.status = Status::Ended(recorded.at),
        Event::MemberChanged { member, change, .. } => member_changed(room, member, *change, recorded.at),
        Event::InvitationCreated(invitation) => invited(room, invitation, recorded.at),
        Event::InvitationClosed { id, .. } => {
            room.invitations.remove(id);
        }
        Event::MessagePosted(message) => {
            posted_by(room, &message.author, recorded.at);
            room.push_recent(Message { seq: recorded.seq, at: recorded.at, ..message.clone() });
        }
        Event::MessageEdited { message_id, of, content, mentions, .. } => {
            message_changed(room, *message_id, *of);
            room.change_recent(*message_id, |m| m.edit(content, mentions, recorded.at));
        }
        Event::MessageDeleted { message_id, of, .. } => {
            message_changed(room, *message_id, *of);
            room.change_recent(*message_id, Message::delete);
        }
        Event::MessageSuperseded { message_id, of, by } => {
            message_changed(room, *message_id, *of);
            room.change_recent(*message_id, |m| m.superseded_by = Some(*by));
        }
        Event::RegenerateRequested { .. } => {}
        Event::ReactionChanged { message_id, user, emoji, added } => {
            room.change_recent(*message_id, |m| m.react(user, emoji, *added));
        }
        Event::LlmAdded(llm) | Event::LlmUpdated(llm) => put_llm(room, llm),
        Event::LlmRemoved(id) => room.llms.retain(|llm| &llm.id != id),
        Event::PollCreated(poll) => {
            room.polls.insert(poll.id, poll.clone());
        }
        Event::PollVoted(vote) => voted(room, vote),
        Event::VoteRetracted { poll_id, voter, .. } => {
            if let Some(poll) = room.polls.get_mut(poll_id) {
                poll.ballots.remove(voter);
            }
        }
        Event::PollClosed { poll, .. } => {
            // Kept while a message shows it; after that it is read from the store.
            if room.recent.iter().any(|m| m.poll_id == Some(poll.id)) {
                room.polls.insert(poll.id, poll.clone());
            } else {
                room.polls.remove(&poll.id);
            }
        }
        Event::RunStarted(run) => {
            room.runs.insert(run.message_id, run.clone());
        }
        Event::RunEnded { run, .. } => run_ended(room, run),
        Event::VoteAbstained { poll_id, abstention } => abstained(room, *poll_id, abstention),
        Event::ApprovalRequested(approval) => {
            room.approvals.insert(approval.id, approval.clone());
        }
        Event::ApprovalDecided { id, .. } => {
            room.approvals.remove(id);
        }
        Event::ContextSummarised(summary) => summaries::keep(room, summary.clone()),
        Event::AutopilotChanged(autopilot) => autopilot_changed(room, autopilot),
    }
}

/// Applies an event to a message that is no longer part of the state.
pub fn apply_to_message(message: &mut Message, recorded: &Recorded) {
    match &recorded.event {
        Event::MessageEdited { content, mentions, .. } => message.edit(content, mentions, recorded.at),
        Event::MessageDeleted { .. } => message.delete(),
        Event::MessageSuperseded { by, .. } => message.superseded_by = Some(*by),
        Event::ReactionChanged { user, emoji, added, .. } => message.react(user, emoji, *added),
        Event::RoomCreated(_)
        | Event::RoomActivated
        | Event::RoomUpdated(_)
        | Event::RoomEnded { .. }
        | Event::MemberChanged { .. }
        | Event::InvitationCreated(_)
        | Event::InvitationClosed { .. }
        | Event::MessagePosted(_)
        | Event::LlmAdded(_)
        | Event::LlmUpdated(_)
        | Event::LlmRemoved(_)
        | Event::PollCreated(_)
        | Event::PollVoted(_)
        | Event::VoteRetracted { .. }
        | Event::PollClosed { .. }
        | Event::RegenerateRequested { .. }
        | Event::VoteAbstained { .. }
        | Event::ApprovalRequested(_)
        | Event::ApprovalDecided { .. }
        | Event::ContextSummarised(_)
        | Event::AutopilotChanged(_)
        | Event::RunStarted(_)
        | Event::RunEnded { .. } => {}
    }
}

fn member_changed(room: &mut Room, member: &Member, change: MemberChange, at: Timestamp) {
    match change {
        MemberChange::Joined | MemberChange::Updated => {
            room.former_roles.remove(&member.id);
            room.former_mutes.remove(&member.id);
            room.members.insert(member.id.clone(), member.clone());
        }
        // Who goes by themselves may come back as what they were; who is sent away not as an ADMIN.
        MemberChange::Left => member_went(room, &member.id, Role::Admin, at),
        MemberChange::Removed => member_went(room, &member.id, Role::Member, at),
        MemberChange::Banned => {
            member_went(room, &member.id, Role::Member, at);
            room.banned.insert(member.id.clone());
        }
        MemberChange::Unbanned => {
            room.banned.remove(&member.id);
        }
    }
}

/// Keeps the role a user may come back with, but not when it is what anybody gets: the map stays small. What let in
/// others in their name does so no more.
fn member_went(room: &mut Room, user: &UserId, most: Role, at: Timestamp) {
    let fresh = room.fresh_role(user);
    room.invitations.retain(|_, invitation| &invitation.created_by != user);
    room.former_mutes.retain(|_, until| *until > at);
    if let Some(until) = room.members.get(user).and_then(|m| m.muted_until).filter(|until| *until > at) {
        room.former_mutes.insert(user.clone(), until);
    }
    let had = match room.members.remove(user) {
        Some(member) => member.role,
        // Who is not here can be banned; a role of an earlier time counts.
        None => room.former_roles.get(user).copied().unwrap_or(fresh),
    };
    let role = had.min(most);
    if role == fresh {
        room.former_roles.remove(user);
    } else {
        room.former_roles.insert(user.clone(), role);
    }
}

fn room_updated(room: &mut Room, profile: &Profile) {
    room.profile = profile.clone();
    if profile.settings.slow_mode.is_zero() {
        room.last_posts.clear();
    }
}

/// Adds an invitation, and forgets those that have expired.
fn invited(room: &mut Room, invitation: &Invitation, at: Timestamp) {
    room.invitations.retain(|_, known| known.is_open(at));
    room.invitations.insert(invitation.id.clone(), invitation.clone());
}

/// Remembers who may not post again for a while. Of those who have gone no more are kept than there are members: the
/// map cannot grow by joining under ever new names.
fn posted_by(room: &mut Room, author: &Author, at: Timestamp) {
    let slow = room.profile.settings.slow_mode;
    let Some(user) = author.user().filter(|_| !slow.is_zero()) else {
        return;
    };
    room.last_posts.insert(user.clone(), at);
    let most = room.members.len().saturating_mul(2).saturating_add(FORMER_POSTS);
    if room.last_posts.len() > most {
        let members = &room.members;
        room.last_posts.retain(|user, last| members.contains_key(user) && at.since(*last) < slow);
    }
}

fn put_llm(room: &mut Room, llm: &LlmConfig) {
    match room.llms.iter_mut().find(|l| l.id == llm.id) {
        Some(slot) => *slot = llm.clone(),
        None => room.llms.push(llm.clone()),
    }
}

/// What is not said any more may stand in a summary as well.
fn message_changed(room: &mut Room, id: MessageId, of: Seq) {
    // A log that does not say where: what is not among the last messages may be anywhere.
    let recent = || room.recent_message(id).map_or(Seq::ZERO, |message| message.seq);
    let of = if of == Seq::ZERO { recent() } else { of };
    summaries::message_changed(room, of);
}

fn autopilot_changed(room: &mut Room, autopilot: &Autopilot) {
    if room.autopilot.as_ref().is_some_and(|last| last.id != autopilot.id) {
        // A turn of the one before that is still being taken is none of this one.
        for run in room.runs.values_mut() {
            run.turn = None;
        }
    }
    room.autopilot = Some(autopilot.clone());
}

fn run_ended(room: &mut Room, run: &Run) {
    room.runs.remove(&run.message_id);
    room.approvals.retain(|_, approval| approval.message_id != run.message_id);
    if let (Some(autopilot), Some(turn)) = (&mut room.autopilot, run.turn) {
        autopilot.turns = autopilot.turns.max(turn);
    }
}

fn abstained(room: &mut Room, poll_id: PollId, abstention: &Abstention) {
    if let Some(poll) = room.polls.get_mut(&poll_id) {
        poll.abstentions.retain(|known| known.llm_id != abstention.llm_id);
        poll.abstentions.push(abstention.clone());
    }
}

fn voted(room: &mut Room, vote: &Vote) {
    if let Some(poll) = room.polls.get_mut(&vote.poll_id) {
        // Who votes after all has not abstained.
        poll.abstentions.retain(|known| vote.voter != Author::Llm(known.llm_id.clone()));
        poll.ballots.insert(vote.voter.clone(), vote.ballot.clone());
    }
}
