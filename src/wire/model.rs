//! The things rooms are made of, as messages: rooms, members, LLMs, messages, polls. In both directions.

use std::{collections::BTreeMap, fmt};

use prost::Message as _;
use thiserror::Error;

use crate::{
    clock::Timestamp,
    domain::{
        event::NewRoom,
        llm::{ChatStyle, LlmConfig},
        message::{Author, Message, Reaction},
        poll::{Abstention, Ballot, Poll, PollOption},
        room::{Member, Presence, Role, Room, Status, Visibility},
    },
    ids::{IdError, LlmId, MessageId, OptionId, PollId, Seq, UserId},
    wire::{conduct, pb::room::v1 as pb},
};

/// Stored bytes are not what this server writes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("stored {what} cannot be read: {problem}")]
pub struct Corrupt {
    what: &'static str,
    problem: String,
}

impl Corrupt {
    /// A part that is missing or makes no sense.
    pub fn new(what: &'static str, problem: impl fmt::Display) -> Self {
        Self { what, problem: format!("{problem}") }
    }
}

/// A presence as a message field.
pub(super) fn presence_to_pb(presence: Presence) -> i32 {
    let status = match presence {
        Presence::Offline => pb::PresenceStatus::Offline,
        Presence::Away => pb::PresenceStatus::Away,
        Presence::Online => pb::PresenceStatus::Online,
    };
    status.into()
}

/// A moment as the contract says it.
pub fn time(at: Timestamp) -> Option<prost_types::Timestamp> {
    let seconds = at.0.div_euclid(1000);
    let nanos = i32::try_from(at.0.rem_euclid(1000)).unwrap_or(0) * 1_000_000;
    Some(prost_types::Timestamp { seconds, nanos })
}

pub(super) fn timestamp(time: Option<&prost_types::Timestamp>) -> Timestamp {
    time.map_or(Timestamp::default(), |t| {
        Timestamp(t.seconds.saturating_mul(1000).saturating_add(i64::from(t.nanos / 1_000_000)))
    })
}

/// Parses an id out of stored bytes.
pub(super) fn id<T: std::str::FromStr<Err = IdError>>(what: &'static str, text: &str) -> Result<T, Corrupt> {
    text.parse().map_err(|error| Corrupt::new(what, error))
}

pub(super) fn optional_id<T: std::str::FromStr<Err = IdError>>(
    what: &'static str,
    text: &str,
) -> Result<Option<T>, Corrupt> {
    if text.is_empty() { Ok(None) } else { id(what, text).map(Some) }
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
        room_id: room.id.to_string(),
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
    Ok(Message {
        id: id("message id", &message.message_id)?,
        seq: Seq(message.seq),
        author: author_from_pb(message.sender_type, &message.sender_id)?,
        author_name: message.sender_name,
        content: message.content,
        content_type: message.content_type,
        reply_to: optional_id::<MessageId>("message id", message.reply_to.as_deref().unwrap_or_default())?,
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
        version: message.version,
        chain_depth,
        from_run,
        changes: 0,
    })
}

/// Voters of one poll whose votes are shown one by one: a poll of thousands must not become a message that no client
/// takes. The counts are always of all.
pub const VOTES_SHOWN: usize = 200;
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

/// Bytes of a message as it is shown.
pub fn message_size(message: &Message) -> usize {
    message_to_pb(message).encoded_len()
}

/// Bytes of a poll as everybody may see it.
pub fn poll_size(poll: &Poll, room_id: &str) -> usize {
    poll_to_pb(poll, room_id).encoded_len()
}

/// Bytes of a room as it is shown.
pub fn room_size(room: &pb::RoomInfo) -> usize {
    room.encoded_len()
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
