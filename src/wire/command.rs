//! What a client says, read into the domain's terms. Whatever cannot be is a rejection that names the field.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    digest,
    domain::{
        command::{Command, MessageInput, OptionInput, PollInput},
        event::NewRoom,
        llm::{LlmConfig, LlmPatch},
        rejection::{Code, Rejection},
        room::{Presence, Profile, Visibility},
        settings::SettingsPatch,
    },
    ids::{IdError, LlmId, MessageId, RequestId, RoomId, Seq, UserId},
    wire::{
        conduct,
        join::{self, JoinWish},
        model::{chat_style_from_pb, llm_from_pb, role_from_pb, visibility_from_pb},
        pb::room::v1::{self as pb, client_message::Payload},
        rights,
    },
};

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// What to call it in the answer.
    pub request_id: Option<RequestId>,
    /// A digest of what is asked, without the request id.
    pub body_hash: u64,
    /// What is asked.
    pub request: Request,
}

/// What a client asks of its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Take part in a room.
    Join(JoinWish),
    /// Are you there?
    Ping,
    /// Go on with another credential.
    Authenticate(Shown),
    /// A lasting command.
    Command(Command),
    /// End the stream, and the membership unless it is to be kept.
    Leave {
        /// Stay a member.
        keep_membership: bool,
    },
    /// Typing began or ended.
    Typing(bool),
    /// Stop answers.
    Interrupt {
        /// Whose; `None`: everybody's.
        llm_id: Option<LlmId>,
        /// Only this one.
        message_id: Option<MessageId>,
    },
    /// Move the read cursor.
    MarkRead(ReadUpTo),
    /// Be away, or back.
    SetPresence(Presence),
    /// Something of the application's own.
    Signal {
        /// What it is.
        kind: String,
        /// Passed on as it is.
        data: Bytes,
        /// Empty: everybody else.
        to: Vec<UserId>,
    },
}

/// A credential as a client shows it in its stream; never printed.
#[derive(Debug, Clone)]
pub struct Shown(pub SecretString);

impl PartialEq for Shown {
    fn eq(&self, other: &Self) -> bool {
        digest::same(self.0.expose_secret().as_bytes(), other.0.expose_secret().as_bytes())
    }
}

impl Eq for Shown {}

/// Up to where something was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadUpTo {
    /// A position.
    Seq(Seq),
    /// A message.
    Message(MessageId),
}

/// A message that could not be read, with the request id it had, if that could be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// What to call it in the answer.
    pub request_id: Option<RequestId>,
    /// What was wrong.
    pub rejection: Rejection,
}

/// Only the request id of a message, for answering one that is otherwise broken.
#[derive(Clone, PartialEq, prost::Message)]
struct OnlyRequestId {
    #[prost(bytes = "bytes", tag = "100")]
    request_id: Bytes,
}

/// Reads one message of a stream.
pub fn read(bytes: &Bytes) -> Result<Inbound, Unreadable> {
    let mut message = pb::ClientMessage::decode(bytes.clone()).map_err(|error| unreadable(bytes, &error))?;
    let text = std::mem::take(&mut message.request_id);
    let request_id = match text.as_str() {
        "" => None,
        text => Some(RequestId::parse(text).map_err(|error| Unreadable {
            request_id: None,
            rejection: Rejection::id("request_id", &error),
        })?),
    };
    // Only a command that can be repeated is compared.
    let body_hash = if request_id.is_some() { digest(&message) } else { 0 };
    match request(message) {
        Ok(request) => Ok(Inbound { request_id, body_hash, request }),
        Err(rejection) => Err(Unreadable { request_id, rejection }),
    }
}

fn unreadable(bytes: &Bytes, error: &prost::DecodeError) -> Unreadable {
    let request_id = OnlyRequestId::decode(bytes.clone())
        .ok()
        .and_then(|only| RequestId::parse(std::str::from_utf8(&only.request_id).ok()?).ok());
    // The decoder names the field and the fault; it has seen nothing but the client's own bytes.
    Unreadable {
        request_id,
        rejection: Rejection::new(Code::InvalidArgument, format!("the message cannot be read: {error}")),
    }
}

/// Tells a repeat from a reuse: equal for equal commands, whatever version of the server computes it.
fn digest(message: &pb::ClientMessage) -> u64 {
    let bytes = message.encode_to_vec();
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    (length << 32) | u64::from(crc32fast::hash(&bytes))
}

pub(super) fn parse<T: std::str::FromStr<Err = IdError>>(
    field: &'static str,
    text: &str,
) -> Result<T, Rejection> {
    text.parse().map_err(|error| Rejection::id(field, &error))
}

/// An id of this server that is no UUID cannot be of anything in the room.
fn existing<T: std::str::FromStr<Err = IdError>>(what: &'static str, text: &str) -> Result<T, Rejection> {
    text.parse().map_err(|_| Rejection::not_found(what, format_args!("{:?}", shorten(text))))
}

/// Enough of a wrong id to recognise it.
pub(super) fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

fn request(message: pb::ClientMessage) -> Result<Request, Rejection> {
    let Some(payload) = message.payload else {
        return Err(Rejection::new(
            Code::Unsupported,
            "the message is empty, or a command this server does not know",
        ));
    };
    Ok(match payload {
        Payload::Join(join) => Request::Join(join::read(join)?),
        Payload::Ping(_) => Request::Ping,
        Payload::Authenticate(asked) => Request::Authenticate(read_credential(asked.credential)?),
        Payload::Leave(leave) => Request::Leave { keep_membership: leave.keep_membership },
        Payload::Typing(typing) => Request::Typing(typing.is_typing),
        Payload::Interrupt(interrupt) => read_interrupt(&interrupt)?,
        Payload::MarkRead(read) => Request::MarkRead(read_mark(&read)?),
        Payload::SetPresence(set) => Request::SetPresence(read_presence(set)?),
        Payload::Signal(signal) => read_signal(signal)?,
        Payload::Message(_)
        | Payload::AddLlm(_)
        | Payload::UpdateLlm(_)
        | Payload::CreatePoll(_)
        | Payload::CastVote(_)
        | Payload::ClosePoll(_)
        | Payload::RemoveLlm(_)
        | Payload::UpdateRoomDescription(_)
        | Payload::EditMessage(_)
        | Payload::DeleteMessage(_)
        | Payload::React(_)
        | Payload::RetractVote(_)
        | Payload::UpdateMember(_)
        | Payload::RemoveMember(_)
        | Payload::UpdateRoom(_)
        | Payload::Regenerate(_)
        | Payload::DecideApproval(_)
        | Payload::StartAutopilot(_)
        | Payload::ControlAutopilot(_)
        | Payload::CreateInvitation(_)
        | Payload::RevokeInvitation(_)
        | Payload::MuteMember(_)
        | Payload::EndRoom(_) => Request::Command(command(payload)?),
    })
}

fn command(payload: Payload) -> Result<Command, Rejection> {
    Ok(match payload {
        Payload::Message(message) => Command::SendMessage(MessageInput {
            content: message.content,
            content_type: message.content_type,
            reply_to: message.reply_to.map(|id| existing("message", &id)).transpose()?,
            mentions: message.mentions,
        }),
        Payload::AddLlm(add) => {
            Command::AddLlm(read_llm(add.llm.ok_or_else(|| Rejection::field("add_llm.llm", "must be set"))?)?)
        }
        Payload::UpdateLlm(update) => read_update_llm(update)?,
        Payload::RemoveLlm(remove) => Command::RemoveLlm(parse("remove_llm.llm_id", &remove.llm_id)?),
        Payload::CreatePoll(poll) => Command::CreatePoll(read_poll(poll)),
        Payload::CastVote(vote) => Command::CastVote {
            poll_id: existing("poll", &vote.poll_id)?,
            options: vote.option_ids.iter().map(|id| existing("option", id)).collect::<Result<_, _>>()?,
            reason: vote.reason,
        },
        Payload::RetractVote(retract) => Command::RetractVote(existing("poll", &retract.poll_id)?),
        Payload::ClosePoll(close) => Command::ClosePoll(existing("poll", &close.poll_id)?),
        Payload::UpdateRoomDescription(update) => {
            let settings = SettingsPatch::default();
            let description = Some(update.description);
            Command::UpdateRoom { name: None, description, visibility: None, settings }
        }
        _ => return command_about_the_room(payload),
    })
}

fn command_about_the_room(payload: Payload) -> Result<Command, Rejection> {
    Ok(match payload {
        Payload::EditMessage(edit) => {
            let message_id = existing("message", &edit.message_id)?;
            Command::EditMessage { message_id, content: edit.content, regenerate: edit.regenerate }
        }
        Payload::Regenerate(again) => Command::Regenerate {
            message_id: existing("message", &again.message_id)?,
            model: again.model.trim().to_owned(),
        },
        Payload::DecideApproval(decide) => Command::DecideApproval {
            id: existing("call that waits for a decision", &decide.approval_id)?,
            approve: decide.approve,
            reason: decide.reason,
        },
        Payload::StartAutopilot(start) => conduct::read_start(start)?,
        Payload::ControlAutopilot(control) => conduct::read_control(control)?,
        Payload::DeleteMessage(delete) => {
            Command::DeleteMessage { message_id: existing("message", &delete.message_id)? }
        }
        Payload::React(react) => Command::React {
            message_id: existing("message", &react.message_id)?,
            emoji: react.emoji,
            add: !react.remove,
        },
        Payload::UpdateMember(update) => Command::UpdateMember {
            user_id: parse("update_member.user_id", &update.user_id)?,
            role: role_from_pb(update.role)
                .ok_or_else(|| Rejection::field("update_member.role", "must be ADMIN, MEMBER or VIEWER"))?,
        },
        Payload::RemoveMember(remove) => Command::RemoveMember {
            user_id: parse("remove_member.user_id", &remove.user_id)?,
            ban: remove.ban,
            reason: remove.reason,
        },
        Payload::UpdateRoom(update) => Command::UpdateRoom {
            name: update.name.map(|name| name.trim().to_owned()),
            description: update.description,
            visibility: visibility_from_pb(update.visibility),
            settings: conduct::read_settings(update.settings.as_ref(), update.allowed_tools)?,
        },
        Payload::CreateInvitation(create) => rights::read_create(&create)?,
        Payload::RevokeInvitation(revoke) => rights::read_revoke(&revoke)?,
        Payload::MuteMember(mute) => rights::read_mute(mute)?,
        Payload::EndRoom(end) => Command::EndRoom { reason: end.reason },
        // `request` hands over lasting commands only.
        _ => return Err(Rejection::new(Code::Internal, "not a lasting command")),
    })
}

/// The longest credential, in bytes: a token with many claims.
const CREDENTIAL_BYTES: usize = 8 * 1024;

fn read_credential(credential: String) -> Result<Shown, Rejection> {
    let field = "authenticate.credential";
    match credential.len() {
        0 => Err(Rejection::field(field, "must not be empty")),
        len if len > CREDENTIAL_BYTES => Err(Rejection::field(
            field,
            format_args!("must have at most {CREDENTIAL_BYTES} bytes, has {len}"),
        )),
        _ => Ok(Shown(credential.into())),
    }
}

fn read_interrupt(interrupt: &pb::InterruptLlm) -> Result<Request, Rejection> {
    let llm_id = match interrupt.llm_id.as_str() {
        "" => None,
        text => Some(parse("interrupt.llm_id", text)?),
    };
    let message_id = match interrupt.message_id.as_deref() {
        None | Some("") => None,
        Some(text) => Some(existing("running answer", text)?),
    };
    Ok(Request::Interrupt { llm_id, message_id })
}

fn read_mark(read: &pb::MarkRead) -> Result<ReadUpTo, Rejection> {
    match (read.seq, read.message_id.as_str()) {
        (0, "") => Err(Rejection::field("mark_read", "must have a seq or a message_id")),
        (0, text) => Ok(ReadUpTo::Message(existing("message", text)?)),
        (seq, _) => Ok(ReadUpTo::Seq(Seq(seq))),
    }
}

fn read_presence(set: pb::SetPresence) -> Result<Presence, Rejection> {
    match set.status() {
        pb::PresenceStatus::Online => Ok(Presence::Online),
        pb::PresenceStatus::Away => Ok(Presence::Away),
        pb::PresenceStatus::Offline => Ok(Presence::Offline),
        pb::PresenceStatus::Unspecified => {
            Err(Rejection::field("set_presence.status", "must be ONLINE, AWAY or OFFLINE"))
        }
    }
}

fn read_signal(signal: pb::SendSignal) -> Result<Request, Rejection> {
    use crate::domain::limits::{
        SIGNAL_BYTES, SIGNAL_RECIPIENTS, SIGNAL_TYPE_CHARS, check_name, check_required,
    };
    check_required("signal.type", &signal.r#type, SIGNAL_TYPE_CHARS)?;
    check_name("signal.type", &signal.r#type, SIGNAL_TYPE_CHARS)?;
    let len = signal.data.len();
    if len > SIGNAL_BYTES {
        return Err(Rejection::field(
            "signal.data",
            format_args!("must have at most {SIGNAL_BYTES} bytes, has {len}"),
        ));
    }
    let len = signal.to.len();
    if len > SIGNAL_RECIPIENTS {
        return Err(Rejection::field(
            "signal.to",
            format_args!("must have at most {SIGNAL_RECIPIENTS} users, has {len}"),
        ));
    }
    let to = signal.to.iter().map(|user| parse("signal.to", user)).collect::<Result<_, _>>()?;
    Ok(Request::Signal { kind: signal.r#type, data: signal.data, to })
}

fn read_llm(llm: pb::LlmConfig) -> Result<LlmConfig, Rejection> {
    let id: LlmId = parse("llm.id", &llm.id)?;
    // A client that gives no name means the id.
    let display_name =
        if llm.display_name.is_empty() { llm.id.clone() } else { llm.display_name.trim().to_owned() };
    Ok(llm_from_pb(id, pb::LlmConfig { display_name, ..llm }))
}

fn read_update_llm(update: pb::UpdateLlm) -> Result<Command, Rejection> {
    Ok(Command::UpdateLlm {
        llm_id: parse("update_llm.llm_id", &update.llm_id)?,
        patch: LlmPatch {
            model: update.model,
            persona: update.persona,
            display_name: update.display_name.map(|name| name.trim().to_owned()),
            title: update.title,
            chat_style: update.chat_style.map(chat_style_from_pb),
            avatar: update.avatar,
            allowed_tools: update.allowed_tools.map(|list| list.values),
            fallback_models: update.fallback_models.map(|list| list.values),
        },
    })
}

fn read_poll(poll: pb::CreatePoll) -> PollInput {
    let option = |o: pb::PollOptionInput| OptionInput { text: o.text, description: o.description };
    PollInput {
        question: poll.question,
        options: poll.options.into_iter().map(option).collect(),
        allow_multiple: poll.allow_multiple,
        anonymous: poll.anonymous || poll.secret_ballot,
        mandatory: poll.mandatory,
        hide_results: poll.hide_results_until_closed || poll.secret_ballot,
        quorum: poll.quorum,
        outside: Vec::new(),
        closes_in: match poll.closes_in_ms {
            0 => None,
            ms => Some(Duration::from_millis(ms)),
        },
    }
}

/// Reads the request that creates a room.
pub fn new_room(request: pb::CreateRoomRequest) -> Result<NewRoom, Rejection> {
    let id = match request.room_id.as_deref() {
        None | Some("") => RoomId::random(),
        Some(text) => RoomId::parse(text).map_err(|error| Rejection::id("room_id", &error))?,
    };
    let created_by = match request.created_by.as_str() {
        "" => None,
        text => Some(parse("created_by", text)?),
    };
    Ok(NewRoom {
        id,
        profile: Profile {
            name: request.name.trim().to_owned(),
            description: request.description,
            visibility: visibility_from_pb(request.visibility).unwrap_or(Visibility::Public),
            settings: conduct::settings_from_pb(request.settings.as_ref()),
        },
        created_by,
        llms: request.llms.into_iter().map(read_llm).collect::<Result<_, _>>()?,
    })
}
