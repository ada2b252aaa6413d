//! Rooms to look at.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::{
    clock::Timestamp,
    dispatch::context::Asked,
    domain::{
        apply,
        event::{Event, NewRoom, Recorded},
        llm::{ChatStyle, LlmConfig},
        message::{Author, Message, PLAIN_TEXT},
        poll::{Poll, PollOption},
        room::{Member, Profile, Role, Room, Visibility},
        settings::Settings,
    },
    ids::{EventId, LlmId, MessageId, OptionId, PollId, RoomId, Seq, UserId},
    llm::Turn,
};

pub(super) fn llm(id: &str, name: &str) -> LlmConfig {
    LlmConfig {
        id: LlmId::parse(id).unwrap(),
        model: String::new(),
        persona: String::new(),
        display_name: name.into(),
        title: String::new(),
        chat_style: ChatStyle::Unspecified,
        avatar: String::new(),
        allowed_tools: Vec::new(),
        fallback_models: Vec::new(),
    }
}

/// A room with Ann, Bob, Ada and Bot; who is asked is Ada.
pub(in crate::dispatch) fn room() -> Room {
    let profile = Profile {
        name: "Tea".into(),
        description: String::new(),
        visibility: Visibility::Public,
        settings: Settings::default(),
    };
    let new = NewRoom {
        id: RoomId::parse("tea").unwrap(),
        profile,
        created_by: None,
        llms: vec![llm("ada", "Ada"), llm("bot", "Bot")],
    };
    let created = Recorded {
        seq: Seq(1),
        event_id: EventId(Uuid::from_u128(1)),
        at: Timestamp(0),
        event: Event::RoomCreated(new),
    };
    let mut room = apply::fold([&created]).unwrap();
    for (id, name) in [("ann", "Ann"), ("bob", "Bob")] {
        let member = Member {
            id: UserId::parse(id).unwrap(),
            name: name.into(),
            role: Role::Member,
            title: String::new(),
            avatar: String::new(),
            joined_at: Timestamp(0),
            muted_until: None,
        };
        room.members.insert(member.id.clone(), member);
    }
    room
}

/// A message of `ann`, of `bob` or of `llm:<id>`.
pub(in crate::dispatch) fn message(seq: u64, author: &str, content: &str) -> Message {
    let (author, name) = match author.strip_prefix("llm:") {
        Some(id) => (Author::Llm(LlmId::parse(id).unwrap()), id),
        None => (Author::User(UserId::parse(author).unwrap()), author),
    };
    let mut letters = name.chars();
    let first = letters.next().unwrap().to_ascii_uppercase();
    Message {
        id: MessageId(Uuid::from_u128(u128::from(seq) + 100)),
        seq: Seq(seq),
        author_name: format!("{first}{}", letters.as_str()),
        author,
        content: content.into(),
        content_type: PLAIN_TEXT.into(),
        reply_to: None,
        at: Timestamp(0),
        poll_id: None,
        mentions: Vec::new(),
        edited_at: None,
        deleted: false,
        reactions: Vec::new(),
        partial: false,
        chain_depth: 0,
        from_run: false,
        outside: Vec::new(),
        replaces: None,
        superseded_by: None,
        version: 0,
        changes: 0,
    }
}

pub(super) fn poll(id: u128) -> Poll {
    let option = |id: &str, text: &str| PollOption {
        id: OptionId::parse(id).unwrap(),
        text: text.into(),
        description: String::new(),
    };
    Poll {
        id: PollId(Uuid::from_u128(id)),
        message_id: MessageId(Uuid::from_u128(id)),
        creator: Author::Llm(LlmId::parse("ada").unwrap()),
        creator_name: "Ada".into(),
        question: "Tea?".into(),
        options: vec![option("1", "yes\" (x"), option("2", "no")],
        allow_multiple: false,
        anonymous: false,
        mandatory: false,
        hide_results: false,
        created_at: Timestamp(0),
        closes_at: None,
        closed_at: None,
        ballots: BTreeMap::new(),
        quorum: 0,
        abstentions: Vec::new(),
        asked_by: None,
    }
}

/// Ada is asked by the message at this position.
pub(super) fn asked(question: u64) -> Asked {
    Asked {
        llm: LlmId::parse("ada").unwrap(),
        question: message(question, "ann", "").id,
        replaces: None,
        poll: None,
        history: 50,
        quotes: Vec::new(),
    }
}

pub(super) fn text_of(turn: &Turn) -> &str {
    match turn {
        Turn::Text { text, .. } | Turn::ToolCalls { text, .. } => text,
        Turn::ToolResult { result, .. } => result,
    }
}
