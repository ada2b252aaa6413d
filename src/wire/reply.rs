//! What one stream is told: its snapshot, acks, errors, and why it ends.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    clock::Timestamp,
    domain::{
        decide::Aside,
        llm::ActiveAnswer,
        rejection::{Code, Rejection},
        room::{Presence, Role, Room},
    },
    ids::{EventId, RequestId, Seq, UserId},
    wire::{
        basic::time,
        conduct,
        frame::frame,
        model::{llm_participant, member_to_pb, message_to_pb, room_info},
        pb::room::v1::{self as pb, server_event::Payload},
        polls::poll_to_pb,
        rights, shrink,
    },
};

/// Under which name of the service a stream was opened: it decides how error codes are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// `room.v1.RoomService`.
    #[default]
    V1,
    /// `api.room.Room`: codes in capitals, as its clients know them.
    Original,
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClosingReason {
    /// The client asked for it.
    Left,
    /// The room is over.
    RoomEnded,
    /// An ADMIN removed the member.
    Removed,
    /// An ADMIN banned the member.
    Banned,
    /// The server is going away.
    Draining,
    /// No join came in time.
    JoinTimeout,
    /// The user has opened more streams than allowed.
    TooManySessions,
    /// Commands were sent while their answers were not read.
    SlowConsumer,
    /// What came was no message.
    ProtocolError,
    /// A fault of the server.
    Internal,
    /// The stream has become as old as one may be.
    SessionAge,
    /// The credential of the stream has ended, and no other was shown.
    CredentialExpired,
    /// Somebody has taken the credential back.
    CredentialRevoked,
}

impl ClosingReason {
    /// Whether a client should come back by itself.
    pub fn reconnect(self) -> bool {
        match self {
            Self::Draining | Self::SlowConsumer | Self::Internal | Self::SessionAge => true,
            Self::Left
            | Self::RoomEnded
            | Self::Removed
            | Self::Banned
            | Self::JoinTimeout
            | Self::TooManySessions
            | Self::CredentialExpired
            | Self::CredentialRevoked
            | Self::ProtocolError => false,
        }
    }

    fn to_pb(self) -> pb::ClosingReason {
        match self {
            Self::Left => pb::ClosingReason::Left,
            Self::RoomEnded => pb::ClosingReason::RoomEnded,
            Self::Removed => pb::ClosingReason::Removed,
            Self::Banned => pb::ClosingReason::Banned,
            Self::Draining => pb::ClosingReason::Draining,
            Self::JoinTimeout => pb::ClosingReason::JoinTimeout,
            Self::TooManySessions => pb::ClosingReason::TooManySessions,
            Self::SlowConsumer => pb::ClosingReason::SlowConsumer,
            Self::ProtocolError => pb::ClosingReason::ProtocolError,
            Self::Internal => pb::ClosingReason::Internal,
            Self::SessionAge => pb::ClosingReason::SessionAge,
            Self::CredentialExpired => pb::ClosingReason::CredentialExpired,
            Self::CredentialRevoked => pb::ClosingReason::CredentialRevoked,
        }
    }
}

/// The last event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// Why.
    pub reason: ClosingReason,
    /// For a person.
    pub message: String,
    /// When to come back.
    pub reconnect_after: Duration,
    /// From where.
    pub resume: Seq,
    /// How long the stream may still be read; none: nothing is said.
    pub deadline: Option<Duration>,
}

/// What transient facts hold at a position, and what is particular to one user.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// Who is online, at most as many as are shown.
    pub online: &'a [(UserId, Presence)],
    /// How many users are online.
    pub online_count: usize,
    /// Answers being written.
    pub answers: &'a [ActiveAnswer],
    /// Whose stream it is.
    pub you: &'a UserId,
    /// Their read cursor.
    pub read: Seq,
    /// Messages of others behind it.
    pub unread: u32,
    /// How often a heartbeat comes.
    pub heartbeat: Duration,
    /// How many human participants to show.
    pub participants_shown: usize,
    /// Now.
    pub at: Timestamp,
}

/// What holds now, as a stream is told it.
#[derive(Debug)]
pub struct Snapshot {
    /// The framed event.
    pub frame: Bytes,
    /// Texts of answers that are being written are left out: their messages must come whole.
    pub texts_omitted: bool,
}

/// The whole room at `room.seq`.
pub fn room_state(room: &Room, view: &View<'_>, request_id: Option<&RequestId>) -> Snapshot {
    let you_presence = presence_of(view, view.you);
    let mut state = pb::RoomState {
        room: Some(room_info(room)),
        participants: participants(room, view),
        messages: room.recent.iter().map(message_to_pb).collect(),
        polls: room.polls.values().map(|p| poll_to_pb(p, room.id.name())).collect(),
        active_answers: answers(view),
        you: room.members.get(view.you).map(|m| member_to_pb(m, you_presence)),
        read_seq: view.read.0,
        unread_count: view.unread,
        online_count: count(view.online_count),
        heartbeat_interval_ms: millis(view.heartbeat),
        approvals: room.approvals.values().map(conduct::approval_to_pb).collect(),
        autopilot: room.autopilot.as_ref().map(conduct::autopilot_to_pb),
        summary: room.summary.as_ref().map(conduct::summary_to_pb),
        invitations: invitations(room, view),
    };
    let texts_omitted = shrink::state(&mut state);
    let frame = frame(&pb::ServerEvent {
        payload: Some(Payload::RoomState(state)),
        request_id: request_id.map(ToString::to_string).unwrap_or_default(),
        seq: room.seq.0,
        ..Default::default()
    });
    Snapshot { frame, texts_omitted }
}

/// The stream continues behind `after`; the log ends at `room.seq` now.
pub fn resumed(room: &Room, after: Seq, view: &View<'_>, request_id: Option<&RequestId>) -> Snapshot {
    let online = view
        .online
        .iter()
        .filter_map(|(user, presence)| room.members.get(user).map(|member| member_to_pb(member, *presence)));
    let mut resumed = pb::Resumed {
        after_seq: after.0,
        online: online.collect(),
        active_answers: answers(view),
        online_count: count(view.online_count),
        read_seq: view.read.0,
        unread_count: view.unread,
        heartbeat_interval_ms: millis(view.heartbeat),
    };
    let texts_omitted = shrink::resumed(&mut resumed);
    let frame = frame(&pb::ServerEvent {
        payload: Some(Payload::Resumed(resumed)),
        request_id: request_id.map(ToString::to_string).unwrap_or_default(),
        seq: room.seq.0,
        ..Default::default()
    });
    Snapshot { frame, texts_omitted }
}

/// Those online first, then other members as long as there is space, then every LLM.
fn participants(room: &Room, view: &View<'_>) -> Vec<pb::Participant> {
    let online = view.online.iter().filter_map(|(user, presence)| Some((room.members.get(user)?, *presence)));
    let offline = room
        .members
        .values()
        .filter(|member| !view.online.iter().any(|(user, _)| user == &member.id))
        .map(|member| (member, Presence::Offline));
    online
        .chain(offline)
        .take(view.participants_shown)
        .map(|(member, presence)| member_to_pb(member, presence))
        .chain(room.llms.iter().map(llm_participant))
        .collect()
}

/// What still lets somebody in; for an ADMIN.
fn invitations(room: &Room, view: &View<'_>) -> Vec<pb::Invitation> {
    let is_admin = room.members.get(view.you).is_some_and(|you| you.role == Role::Admin);
    let open = room.invitations.values().filter(|invitation| is_admin && invitation.is_open(view.at));
    open.map(rights::invitation_to_pb).collect()
}

fn presence_of(view: &View<'_>, user: &UserId) -> Presence {
    view.online.iter().find(|(id, _)| id == user).map_or(Presence::Online, |(_, presence)| *presence)
}

fn answers(view: &View<'_>) -> Vec<pb::ActiveAnswer> {
    let answer = |active: &ActiveAnswer| pb::ActiveAnswer {
        message_id: active.answer.message_id.to_string(),
        llm_id: active.answer.llm_id.to_string(),
        reply_to: active.answer.reply_to.to_string(),
        content: active.answer.text.clone(),
        started_at: time(active.answer.started_at),
        thinking_seq: active.seq.0,
        text_omitted: false,
    };
    view.answers.iter().map(answer).collect()
}

/// A command was carried out.
pub fn ack(request_id: &RequestId, done: Option<(Seq, Seq, EventId)>, duplicate: bool) -> Bytes {
    let (seq, last_seq, event_id) = match done {
        Some((first, last, id)) => (first.0, last.0, id.to_string()),
        None => (0, 0, String::new()),
    };
    frame(&pb::ServerEvent {
        payload: Some(Payload::Ack(pb::Ack { seq, last_seq, event_id, duplicate })),
        request_id: request_id.to_string(),
        ..Default::default()
    })
}

/// A command was refused.
pub fn error(rejection: &Rejection, request_id: Option<&RequestId>, dialect: Dialect) -> Bytes {
    let code = match dialect {
        Dialect::V1 => rejection.code.as_str().to_owned(),
        Dialect::Original => rejection.code.as_str().to_uppercase(),
    };
    let error = pb::Error {
        code,
        message: rejection.message.clone(),
        retryable: rejection.code.retryable(),
        // Rounded up: it must have passed, and 0 would say that there is no such time.
        retry_after_ms: rejection.retry_after.map(|wait| millis(wait).saturating_add(1)).unwrap_or_default(),
        field: rejection.field.unwrap_or_default().to_owned(),
    };
    frame(&pb::ServerEvent {
        payload: Some(Payload::Error(error)),
        request_id: request_id.map(ToString::to_string).unwrap_or_default(),
        ..Default::default()
    })
}

/// Something that only whoever sent a command is told, beside its ack.
pub fn aside(aside: &Aside, request_id: Option<&RequestId>, dialect: Dialect) -> Bytes {
    match aside {
        Aside::Secret { id, secret } => frame(&pb::ServerEvent {
            payload: Some(Payload::InvitationSecret(pb::InvitationSecret {
                invitation_id: id.to_string(),
                secret: secret.reveal(),
            })),
            request_id: request_id.map(ToString::to_string).unwrap_or_default(),
            ..Default::default()
        }),
        // With the request id it would be taken for the command's refusal.
        Aside::Without(rejection) => error(rejection, None, dialect),
    }
}

/// The answer to a ping.
pub fn pong(request_id: Option<&RequestId>) -> Bytes {
    frame(&pb::ServerEvent {
        payload: Some(Payload::Pong(pb::Pong {})),
        request_id: request_id.map(ToString::to_string).unwrap_or_default(),
        ..Default::default()
    })
}

/// The last event of a stream.
pub fn closing(closing: &Closing) -> Bytes {
    frame(&pb::ServerEvent {
        payload: Some(Payload::Closing(pb::Closing {
            reason: closing.reason.to_pb().into(),
            message: closing.message.clone(),
            reconnect: closing.reason.reconnect(),
            reconnect_after_ms: millis(closing.reconnect_after),
            resume_seq: closing.resume.0,
            // 0 would say that nothing is known.
            deadline_ms: closing.deadline.map_or(0, |left| millis(left).max(1)),
        })),
        ..Default::default()
    })
}

/// A fault that is not the client's: it is told no more than that.
pub fn unavailable() -> Rejection {
    Rejection::new(Code::Unavailable, "the server could not store this; it was not carried out, try again")
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
