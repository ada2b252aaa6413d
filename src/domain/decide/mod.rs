//! A room and a command give events, or a rejection.
//!
//! Nothing here waits, reads a clock or makes up an id: what is needed comes in through [`Context`]. A decision is
//! valid for the state it was made on; whether that state still held is checked by the store (the fence).

mod approvals;
mod autopilot;
mod invitations;
mod llms;
mod members;
mod messages;
mod polls;
mod rooms;
mod runs;
#[cfg(test)]
mod tests;
mod turns;

use uuid::Uuid;

use crate::{
    clock::Timestamp,
    domain::{
        command::{Actor, Command},
        event::Event,
        invitation::Secret,
        limits::Limits,
        llm::Run,
        message::Message,
        permissions,
        poll::Poll,
        rejection::{Code, Rejection},
        room::{Member, Role, Room},
    },
    ids::{EventId, InvitationId, MessageId, PollId, UserId},
};

/// What a decision may look at besides the room and the command.
#[allow(missing_debug_implementations, reason = "holds a closure")]
pub struct Context<'a> {
    /// Now.
    pub at: Timestamp,
    /// How large things may be.
    pub limits: &'a Limits,
    /// What [`lookup`] asked for, if it exists.
    pub facts: &'a Facts,
    /// Makes time-ordered ids.
    pub new_id: &'a mut dyn FnMut() -> Uuid,
    /// Fresh random bytes, for a command that [`needs_secret`].
    pub secret: Option<Secret>,
}

/// Whether [`Context::secret`] must be there for this command.
pub fn needs_secret(command: &Command) -> bool {
    matches!(command, Command::CreateInvitation { .. })
}

/// Something older than the state keeps, read from the store beforehand.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The message a command names.
    pub message: Option<Message>,
    /// The poll a command names.
    pub poll: Option<Poll>,
}

/// What must be read before a command can be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// A message that has left [`Room::recent`].
    Message(MessageId),
    /// A poll that has left [`Room::polls`].
    Poll(PollId),
}

/// What the state lacks for this command.
pub fn lookup(room: &Room, command: &Command) -> Option<Lookup> {
    match command {
        Command::SendMessage(input) => {
            input.reply_to.filter(|id| room.recent_message(*id).is_none()).map(Lookup::Message)
        }
        Command::EditMessage { message_id, .. }
        | Command::DeleteMessage { message_id }
        | Command::Regenerate { message_id, .. }
        | Command::React { message_id, .. } => {
            room.recent_message(*message_id).is_none().then_some(Lookup::Message(*message_id))
        }
        Command::CastVote { poll_id, .. } | Command::RetractVote(poll_id) | Command::ClosePoll(poll_id) => {
            (!room.polls.contains_key(poll_id)).then_some(Lookup::Poll(*poll_id))
        }
        Command::CreateRoom(_)
        | Command::Join(_)
        | Command::Leave
        | Command::AddLlm(_)
        | Command::UpdateLlm { .. }
        | Command::RemoveLlm(_)
        | Command::CreatePoll(_)
        | Command::UpdateRoom { .. }
        | Command::UpdateMember { .. }
        | Command::RemoveMember { .. }
        | Command::MuteMember { .. }
        | Command::CreateInvitation { .. }
        | Command::RevokeInvitation(_)
        | Command::EndRoom { .. }
        | Command::DecideApproval { .. }
        | Command::StartAutopilot(_)
        | Command::ControlAutopilot { .. }
        | Command::RequestApproval(_)
        | Command::ExpireApproval(_)
        | Command::Abstain { .. }
        | Command::RecordSummary { .. }
        | Command::StepAutopilot(..) => None,
        Command::StartRun(run) | Command::StartTurn(_, run) => replaced(room, run),
        Command::FinishRun(outcome) => room.runs.get(&outcome.message_id).and_then(|run| replaced(room, run)),
    }
}

/// The answer whose place a run takes, if it has left the state.
fn replaced(room: &Room, run: &Run) -> Option<Lookup> {
    run.replaces.filter(|id| room.recent_message(*id).is_none()).map(Lookup::Message)
}

/// An event that is to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Unique; for a message its id.
    pub event_id: EventId,
    /// What happened.
    pub event: Event,
}

/// What a command comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// In order; all or none are appended. Empty: the command changes nothing.
    pub events: Vec<NewEvent>,
    /// Whether the decision rests on state that another node might be changing.
    pub fenced: bool,
    /// What only whoever sent the command is told, when it is stored.
    pub asides: Vec<Aside>,
}

/// Something for whoever sent a command, and for nobody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aside {
    /// What lets somebody in.
    Secret {
        /// By which invitation.
        id: InvitationId,
        /// What they must know.
        secret: Secret,
    },
    /// A part of it was not carried out.
    Without(Rejection),
}

impl Decision {
    /// The command changes nothing.
    fn nothing() -> Self {
        Self::default()
    }

    /// Events that rest on members, polls, LLMs or the life of the room.
    fn fenced(events: Vec<NewEvent>) -> Self {
        Self { events, fenced: true, asides: Vec::new() }
    }

    /// Events that are right whatever happens beside them.
    fn free(events: Vec<NewEvent>) -> Self {
        Self { events, fenced: false, asides: Vec::new() }
    }
}

impl Context<'_> {
    fn event(&mut self, event: Event) -> NewEvent {
        NewEvent { event_id: EventId((self.new_id)()), event }
    }
}

/// Decides the first command of a room.
pub fn create(command: Command, context: &mut Context<'_>) -> Result<Decision, Rejection> {
    match command {
        Command::CreateRoom(room) => rooms::create(room, context),
        // The command is not named: it may hold what somebody wrote.
        _ => Err(Rejection::new(Code::RoomNotFound, "there is no such room")),
    }
}

/// Decides a command on a room.
pub fn decide(
    room: &Room,
    actor: &Actor,
    command: Command,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    if room.has_ended() {
        return Err(Rejection::room_ended());
    }
    permissions::admit(room, actor, &command, context.at)?;
    match command {
        Command::CreateRoom(new) => {
            Err(Rejection::new(Code::AlreadyExists, format!("the room {} exists already", new.id.name())))
        }
        Command::Join(profile) => members::join(room, user(actor)?, profile, context),
        Command::Leave => members::leave(room, user(actor)?, context),
        Command::UpdateMember { user_id, role } => {
            members::update(room, user(actor)?, &user_id, role, context)
        }
        Command::RemoveMember { user_id, ban, reason } => {
            members::remove(room, user(actor)?, user_id, ban, reason, context)
        }
        Command::MuteMember { user_id, duration, reason } => {
            members::mute(room, user(actor)?, &user_id, duration, reason, context)
        }
        Command::CreateInvitation { expires_in, role, for_user } => {
            invitations::create(room, user(actor)?, expires_in, role, for_user, context)
        }
        Command::RevokeInvitation(id) => invitations::revoke(room, user(actor)?, id, context),
        Command::SendMessage(input) => messages::send(room, user(actor)?, input, context),
        Command::EditMessage { message_id, content, regenerate } => {
            messages::edit(room, user(actor)?, message_id, content, regenerate, context)
        }
        Command::Regenerate { message_id, model } => {
            messages::regenerate(room, user(actor)?, message_id, model, context)
        }
        Command::DeleteMessage { message_id } => messages::delete(room, user(actor)?, message_id, context),
        Command::React { message_id, emoji, add } => {
            messages::react(room, user(actor)?, message_id, emoji, add, context)
        }
        Command::AddLlm(llm) => llms::add(room, llm, context),
        Command::UpdateLlm { llm_id, patch } => llms::update(room, &llm_id, patch, context),
        Command::RemoveLlm(llm_id) => llms::remove(room, llm_id, context),
        Command::CreatePoll(input) => polls::create(room, actor, input, context),
        Command::CastVote { poll_id, options, reason } => {
            polls::vote(room, actor, poll_id, &options, reason, context)
        }
        Command::RetractVote(poll_id) => polls::retract(room, actor, poll_id, context),
        Command::ClosePoll(poll_id) => polls::close(room, actor, poll_id, context),
        Command::UpdateRoom { name, description, visibility, settings } => {
            rooms::update(room, user(actor)?, (name, description, visibility), settings, context)
        }
        Command::DecideApproval { id, approve, reason } => {
            approvals::decide(room, user(actor)?, id, approve, reason, context)
        }
        Command::StartAutopilot(input) => autopilot::start(room, user(actor)?, input, context),
        Command::ControlAutopilot { control, reason } => {
            autopilot::control(room, user(actor)?, control, reason, context)
        }
        Command::EndRoom { reason } => rooms::end(room, user(actor)?, reason, context),
        Command::StartTurn(id, run) => autopilot::start_turn(room, id, run, context),
        Command::StartRun(run) => runs::start(room, run, context),
        Command::FinishRun(outcome) => runs::finish(room, outcome, context),
        Command::Abstain { poll_id, llm_id, reason } => {
            Ok(polls::abstain(room, poll_id, llm_id, &reason, context))
        }
        Command::RequestApproval(approval) => approvals::request(room, approval, context),
        Command::ExpireApproval(id) => approvals::expire(room, id, context),
        Command::RecordSummary { summary, read_at } => runs::summarised(room, summary, read_at, context),
        Command::StepAutopilot(id, step) => autopilot::step(room, id, step, context),
    }
}

/// The person who acts; a few commands are for people only.
fn user(actor: &Actor) -> Result<&UserId, Rejection> {
    match actor {
        Actor::User(id) => Ok(id),
        Actor::Llm(_) | Actor::Tool { .. } | Actor::Server => {
            Err(Rejection::denied("only people may do this"))
        }
    }
}

/// A member who was admitted; what the command needs beyond that is asked with [`permissions::require`].
fn member<'a>(room: &'a Room, user: &UserId) -> Result<&'a Member, Rejection> {
    room.members.get(user).ok_or_else(|| Rejection::denied(format!("{user} is not a member of this room")))
}

/// Whether this member may post already, in a room that lets each post only once in a while.
fn check_pace(room: &Room, member: &Member, at: Timestamp) -> Result<(), Rejection> {
    match room.last_posts.get(&member.id) {
        Some(last) => check_pace_since(room, member, *last, at),
        None => Ok(()),
    }
}

/// The same for somebody who has said something `last`.
fn check_pace_since(room: &Room, member: &Member, last: Timestamp, at: Timestamp) -> Result<(), Rejection> {
    let slow = room.profile.settings.slow_mode;
    if slow.is_zero() || member.role == Role::Admin {
        return Ok(());
    }
    match slow.checked_sub(at.since(last)).filter(|left| !left.is_zero()) {
        Some(left) => Err(Rejection {
            message: format!(
                "this room is in slow mode, with {} ms between two messages of a member; try again in {} ms",
                slow.as_millis(),
                left.as_millis()
            ),
            ..Rejection::rate_limited("messages", left)
        }),
        None => Ok(()),
    }
}
