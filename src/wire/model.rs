//! The things rooms are made of, as messages: rooms, members, LLMs, messages. In both directions; polls are in
//! `polls`.

use prost::Message as _;

use crate::{
    digest,
    domain::{
        chain::Link,
        event::NewRoom,
        llm::{ChatStyle, LlmConfig},
        message::{Author, Message, Reaction},
        room::{Member, Presence, Role, Room, Status, Visibility},
    },
    ids::{LlmId, MessageId, PollId, Seq, UserId},
    wire::{
        basic::{Corrupt, id, optional_id, time, timestamp},
        conduct,
        pb::room::v1 as pb,
        rights,
    },
};

/// A presence as a message field.
pub(super) fn presence_to_pb(presence: Presence) -> i32 {
    let status = match presence {
        Presence::Offline => pb::PresenceStatus::Offline,
        Presence::Away => pb::PresenceStatus::Away,
        Presence::Online => pb::PresenceStatus::Online,
    };
    status.into()
}

/// The role as a message field.
pub fn role_to_pb(role: Role) -> i32 {
    let role = match role {
        Role::Viewer => pb::Role::Viewer,
        Role::Member => pb::Role::Member,
        Role::Admin => pb::Role::Admin,
    };
    role.into()
}

/// The role in a message field; `None`: unspecified, or not known to this server.
pub fn role_from_pb(role: i32) -> Option<Role> {
    match pb::Role::try_from(role) {
        Ok(pb::Role::Admin) => Some(Role::Admin),
        Ok(pb::Role::Member) => Some(Role::Member),
        Ok(pb::Role::Viewer) => Some(Role::Viewer),
        Ok(pb::Role::Unspecified) | Err(_) => None,
    }
}

fn visibility_to_pb(visibility: Visibility) -> i32 {
    let visibility = match visibility {
        Visibility::Public => pb::RoomVisibility::Public,
        Visibility::Private => pb::RoomVisibility::Private,
    };
    visibility.into()
}

/// The visibility in a message field; `None`: unspecified, or not known to this server.
pub fn visibility_from_pb(visibility: i32) -> Option<Visibility> {
    match pb::RoomVisibility::try_from(visibility) {
        Ok(pb::RoomVisibility::Public) => Some(Visibility::Public),
        Ok(pb::RoomVisibility::Private) => Some(Visibility::Private),
        Ok(pb::RoomVisibility::Unspecified) | Err(_) => None,
    }
}

fn chat_style_to_pb(style: ChatStyle) -> i32 {
    let style = match style {
        ChatStyle::Unspecified => pb::ChatStyle::Unspecified,
        ChatStyle::Conversational => pb::ChatStyle::Conversational,
        ChatStyle::Detailed => pb::ChatStyle::Detailed,
        ChatStyle::Bullet => pb::ChatStyle::Bullet,
    };
    style.into()
}

/// The chat style in a message field; one that is not known asks for nothing.
pub fn chat_style_from_pb(style: i32) -> ChatStyle {
    match pb::ChatStyle::try_from(style) {
        Ok(pb::ChatStyle::Conversational) => ChatStyle::Conversational,
        Ok(pb::ChatStyle::Detailed) => ChatStyle::Detailed,
        Ok(pb::ChatStyle::Bullet) => ChatStyle::Bullet,
        Ok(pb::ChatStyle::Unspecified) | Err(_) => ChatStyle::Unspecified,
    }
}

/// A room as it is shown.
pub fn room_info(room: &Room) -> pb::RoomInfo {
    let (status, ended_at) = match room.status {
        Status::Waiting => (pb::RoomStatus::Waiting, None),
        Status::Active => (pb::RoomStatus::Active, None),
        Status::Ended(at) => (pb::RoomStatus::Ended, time(at)),
    };
    pb::RoomInfo {
        room_id: room.id.name().to_owned(),
        name: room.profile.name.clone(),
        created_at: time(room.created_at),
        created_by: room.created_by.as_ref().map(ToString::to_string).unwrap_or_default(),
        llms: room.llms.iter().map(llm_to_pb).collect(),
        description: room.profile.description.clone(),
        visibility: visibility_to_pb(room.profile.visibility),
        status: status.into(),
        ended_at,
        member_count: u32::try_from(room.members.len()).unwrap_or(u32::MAX),
        settings: Some(conduct::settings_to_pb(&room.profile.settings)),
    }
}

/// What a log comes to.
pub fn integrity_to_pb(link: &Link) -> pb::RoomIntegrity {
    pb::RoomIntegrity { seq: link.seq.0, hash: digest::to_hex(&link.hash) }
}

/// An LLM's configuration.
pub fn llm_to_pb(llm: &LlmConfig) -> pb::LlmConfig {
    pb::LlmConfig {
        id: llm.id.to_string(),
        model: llm.model.clone(),
        persona: llm.persona.clone(),
        display_name: llm.display_name.clone(),
        title: llm.title.clone(),
        chat_style: chat_style_to_pb(llm.chat_style),
        avatar: llm.avatar.clone(),
        allowed_tools: llm.allowed_tools.clone(),
        fallback_models: llm.fallback_models.clone(),
    }
}

/// A room that may be created, as the call that creates it; nobody has chosen its id or its creator.
pub fn draft_to_pb(room: &NewRoom) -> pb::CreateRoomRequest {
    pb::CreateRoomRequest {
        name: room.profile.name.clone(),
        description: room.profile.description.clone(),
        llms: room.llms.iter().map(llm_to_pb).collect(),
        ..Default::default()
    }
}

/// An LLM's configuration, with its id already parsed.
pub(super) fn llm_from_pb(id: LlmId, llm: pb::LlmConfig) -> LlmConfig {
    LlmConfig {
        id,
        model: llm.model,
        persona: llm.persona,
        display_name: llm.display_name,
        title: llm.title,
        chat_style: chat_style_from_pb(llm.chat_style),
        avatar: llm.avatar,
        allowed_tools: llm.allowed_tools,
        fallback_models: llm.fallback_models,
    }
}

pub(super) fn llms_from_pb(llms: Vec<pb::LlmConfig>) -> Result<Vec<LlmConfig>, Corrupt> {
    llms.into_iter().map(|llm| Ok(llm_from_pb(id("LLM id", &llm.id)?, llm))).collect()
}

/// A human member as shown.
pub fn member_to_pb(member: &Member, presence: Presence) -> pb::Participant {
    pb::Participant {
        id: member.id.to_string(),
        name: member.name.clone(),
        role: role_to_pb(member.role),
        r#type: pb::ParticipantType::Human.into(),
        title: member.title.clone(),
        is_online: presence != Presence::Offline,
        avatar: member.avatar.clone(),
        presence: presence_to_pb(presence),
        joined_at: time(member.joined_at),
        muted_until: rights::muted_to_pb(member),
    }
}

pub(super) fn member_from_pb(member: pb::Participant) -> Result<Member, Corrupt> {
    Ok(Member {
        id: id("member id", &member.id)?,
        name: member.name,
        role: role_from_pb(member.role).ok_or_else(|| Corrupt::new("member", "no role"))?,
        title: member.title,
        avatar: member.avatar,
        joined_at: timestamp(member.joined_at.as_ref()),
        muted_until: member.muted_until.as_ref().map(|until| timestamp(Some(until))),
    })
}

/// An LLM as a participant: always there.
pub fn llm_participant(llm: &LlmConfig) -> pb::Participant {
    pb::Participant {
        id: llm.id.to_string(),
        name: llm.display_name.clone(),
        role: pb::Role::Member.into(),
        r#type: pb::ParticipantType::Llm.into(),
        title: llm.title.clone(),
        is_online: true,
        avatar: llm.avatar.clone(),
        presence: presence_to_pb(Presence::Online),
        joined_at: None,
        muted_until: None,
    }
}

pub(super) fn author_type(author: &Author) -> i32 {
    match author {
        Author::User(_) => pb::ParticipantType::Human.into(),
        Author::Llm(_) => pb::ParticipantType::Llm.into(),
    }
}

pub(super) fn author_from_pb(kind: i32, id_text: &str) -> Result<Author, Corrupt> {
    match pb::ParticipantType::try_from(kind) {
        Ok(pb::ParticipantType::Human) => Ok(Author::User(id("user id", id_text)?)),
        Ok(pb::ParticipantType::Llm) => Ok(Author::Llm(id("LLM id", id_text)?)),
        Ok(pb::ParticipantType::Unspecified) | Err(_) => Err(Corrupt::new("author", "no type")),
    }
}

/// A message as it is now.
pub fn message_to_pb(message: &Message) -> pb::Message {
    let reaction = |r: &Reaction| pb::Reaction {
        emoji: r.emoji.clone(),
        user_ids: r.users.iter().map(ToString::to_string).collect(),
    };
    pb::Message {
        message_id: message.id.to_string(),
        sender_id: message.author.as_str().to_owned(),
        sender_name: message.author_name.clone(),
        sender_type: author_type(&message.author),
        content: message.content.clone(),
        reply_to: message.reply_to.map(|id| id.to_string()),
        timestamp: time(message.at),
        poll_id: message.poll_id.map(|id| id.to_string()),
        seq: message.seq.0,
        content_type: message.content_type.clone(),
        mentions: message.mentions.iter().map(ToString::to_string).collect(),
        edited_at: message.edited_at.and_then(time),
        deleted: message.deleted,
        reactions: message.reactions.iter().map(reaction).collect(),
        partial: message.partial,
        outside_sources: message.outside.clone(),
        replaces: message.replaces.map(|id| id.to_string()).unwrap_or_default(),
        superseded_by: message.superseded_by.map(|id| id.to_string()).unwrap_or_default(),
        version: message.version,
        streamed: false,
    }
}

pub(super) fn message_from_pb(
    message: pb::Message,
    chain_depth: u32,
    from_run: bool,
) -> Result<Message, Corrupt> {
    let reaction = |r: pb::Reaction| {
        let users: Result<Vec<UserId>, Corrupt> = r.user_ids.iter().map(|u| id("user id", u)).collect();
        Ok(Reaction { emoji: r.emoji, users: users? })
    };
    let reply_to = message.reply_to.as_deref().unwrap_or_default();
    // Logs from before versions were counted say nothing of the first one.
    let least_version = u32::from(from_run && !reply_to.is_empty());
    Ok(Message {
        id: id("message id", &message.message_id)?,
        seq: Seq(message.seq),
        author: author_from_pb(message.sender_type, &message.sender_id)?,
        author_name: message.sender_name,
        content: message.content,
        content_type: message.content_type,
        reply_to: optional_id::<MessageId>("message id", reply_to)?,
        at: timestamp(message.timestamp.as_ref()),
        poll_id: optional_id::<PollId>("poll id", message.poll_id.as_deref().unwrap_or_default())?,
        mentions: message.mentions.iter().map(|m| id("LLM id", m)).collect::<Result<_, _>>()?,
        edited_at: message.edited_at.as_ref().map(|t| timestamp(Some(t))),
        deleted: message.deleted,
        reactions: message.reactions.into_iter().map(reaction).collect::<Result<_, Corrupt>>()?,
        partial: message.partial,
        outside: message.outside_sources,
        replaces: optional_id("message id", &message.replaces)?,
        superseded_by: optional_id("message id", &message.superseded_by)?,
        version: message.version.max(least_version),
        chain_depth,
        from_run,
        changes: 0,
    })
}

/// Bytes of a message as it is shown.
pub fn message_size(message: &Message) -> usize {
    message_to_pb(message).encoded_len()
}

/// Bytes of a room as it is shown.
pub fn room_size(room: &pb::RoomInfo) -> usize {
    room.encoded_len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_logs_that_count_no_versions_are_first_ones() {
        let message = |version, reply_to: Option<uuid::Uuid>| pb::Message {
            message_id: uuid::Uuid::now_v7().to_string(),
            sender_id: "ada".into(),
            sender_type: pb::ParticipantType::Llm.into(),
            reply_to: reply_to.map(|id| id.to_string()),
            version,
            ..Default::default()
        };
        let question = Some(uuid::Uuid::now_v7());
        for (message, from_run, version) in [
            (message(0, question), true, 1),
            (message(3, question), true, 3),
            (message(0, question), false, 0),
            (message(0, None), true, 0),
        ] {
            assert_eq!(message_from_pb(message, 0, from_run).unwrap().version, version);
        }
    }
}
