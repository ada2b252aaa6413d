//! Messages: sent, edited, deleted, reacted to.

use crate::{
    domain::{
        command::MessageInput,
        decide::{Aside, Context, Decision, NewEvent, check_pace, check_pace_since, member, turns},
        event::Event,
        limits::{
            CHANGES_PER_MESSAGE, CONTENT_TYPE_CHARS, EMOJI_BYTES, EMOJI_PER_MESSAGE, MENTIONS, MODEL_CHARS,
            check_name,
        },
        mention,
        message::{Author, Message, PLAIN_TEXT},
        permissions::{self, Action, Least},
        rejection::{Code, Rejection},
        room::{Role, Room},
    },
    ids::{EventId, LlmId, MessageId, Seq, UserId},
};

pub(super) fn send(
    room: &Room,
    user: &UserId,
    input: MessageInput,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    let member = member(room, user)?;
    check_content("message.content", &input.content, context.limits.message_bytes)?;
    check_name("message.content_type", &input.content_type, CONTENT_TYPE_CHARS)?;
    if input.mentions.len() > MENTIONS {
        let len = input.mentions.len();
        return Err(Rejection::field(
            "message.mentions",
            format_args!("must have at most {MENTIONS} names, has {len}"),
        ));
    }
    if let Some(id) = input.reply_to {
        let target = target(room, id, context)?;
        if target.deleted {
            return Err(Rejection::not_found("message", id));
        }
    }
    check_pace(room, member, context.at)?;
    let id = MessageId((context.new_id)());
    let content_type = if input.content_type.is_empty() { PLAIN_TEXT.to_owned() } else { input.content_type };
    let mentions = mentions_in(room, &input.content, &content_type, &input.mentions);
    let (mentions, asides) = callable(room, user, mentions, context);
    let message = Message {
        content_type,
        reply_to: input.reply_to,
        mentions,
        ..plain(id, Author::User(user.clone()), member.name.clone(), input.content, context)
    };
    let name = message.author_name.clone();
    let posted = posted(message);
    let decision = match turns::interrupted_by(room, &name, context) {
        Some(paused) => Decision::fenced(vec![posted, paused]),
        None => Decision::free(vec![posted]),
    };
    Ok(Decision { asides, ..decision })
}

/// Whom a message of this user calls; somebody who may call nobody is told of each whom it does not.
fn callable(
    room: &Room,
    user: &UserId,
    mentions: Vec<LlmId>,
    context: &Context<'_>,
) -> (Vec<LlmId>, Vec<Aside>) {
    let Err(refused) = permissions::require(room, user, Action::MentionLlms, context.at) else {
        return (mentions, Vec::new());
    };
    let told = |id: &LlmId| {
        let message = format!("the LLM {id} was not asked: {refused}");
        Aside::Without(Rejection { message, ..refused.clone() })
    };
    (Vec::new(), mentions.iter().map(told).collect())
}

pub(super) fn edit(
    room: &Room,
    user: &UserId,
    message_id: MessageId,
    content: String,
    regenerate: bool,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    check_content("edit_message.content", &content, context.limits.message_bytes)?;
    let message = living_target(room, message_id, context)?;
    let is_own = message.author.user() == Some(user);
    if is_own {
        permissions::require(room, user, Action::ChangeOwn, context.at)?;
        // An edit says something too: it waits like a message, and so does the next one of the same message.
        check_pace(room, member(room, user)?, context.at)?;
        if let Some(edited) = message.edited_at {
            check_pace_since(room, member(room, user)?, edited, context.at)?;
        }
    } else if message.author.user().is_none() || regenerate {
        // What LLMs have said is not put into their mouths, and nobody asks again in the name of another.
        return Err(Rejection::denied("only its author may edit a message"));
    } else if let Err(refused) = permissions::require(room, user, Action::EditOthers, context.at) {
        let nobody = room.profile.least(Action::EditOthers) == Least::Nobody;
        return Err(if nobody { Rejection::denied("only its author may edit a message") } else { refused });
    }
    if message.poll_id.is_some() {
        return Err(Rejection::field("edit_message.message_id", "is a poll, which cannot be edited"));
    }
    if regenerate {
        permissions::require(room, user, Action::DirectLlms, context.at)?;
    } else if message.content == content {
        return Ok(Decision::nothing());
    }
    check_changes(message)?;
    let mentions = mentions_in(room, &content, &message.content_type, &[]);
    let (mentions, asides) = callable(room, user, mentions, context);
    let by = (!is_own).then(|| user.clone());
    let edited = Event::MessageEdited { message_id, of: message.seq, content, mentions, regenerate, by };
    // Without `regenerate` nobody would have been asked anyway.
    let asides = if regenerate { asides } else { Vec::new() };
    Ok(Decision { asides, ..Decision::free(vec![context.event(edited)]) })
}

pub(super) fn regenerate(
    room: &Room,
    user: &UserId,
    message_id: MessageId,
    model: String,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    check_name("regenerate.model", &model, MODEL_CHARS)?;
    let message = living_target(room, message_id, context)?;
    replaceable(room, message)?;
    let event = Event::RegenerateRequested { message_id, by: user.clone(), model };
    Ok(Decision::free(vec![context.event(event)]))
}

/// Whether another answer may take the place of this one.
pub(super) fn replaceable(room: &Room, message: &Message) -> Result<(), Rejection> {
    let Author::Llm(llm) = &message.author else {
        return Err(Rejection::field("regenerate.message_id", "must be an answer of an LLM"));
    };
    if !message.from_run || message.reply_to.is_none() {
        return Err(Rejection::field("regenerate.message_id", "must be an answer of an LLM"));
    }
    if room.llm(llm).is_none() {
        return Err(Rejection::not_found("LLM", llm));
    }
    if let Some(newer) = message.superseded_by {
        let problem = format_args!("must be the newest version, which is {newer}");
        return Err(Rejection::field("regenerate.message_id", problem));
    }
    if room.runs.values().any(|run| run.replaces == Some(message.id)) {
        return Err(Rejection::new(Code::AlreadyExists, "another answer in its place is being written"));
    }
    Ok(())
}

pub(super) fn delete(
    room: &Room,
    user: &UserId,
    message_id: MessageId,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    let message = target(room, message_id, context)?;
    // Whoever may delete what others wrote may delete what they wrote themselves.
    if permissions::require(room, user, Action::ModerateMessages, context.at).is_err() {
        if message.author.user() != Some(user) {
            let who = least_name(room, Action::ModerateMessages);
            return Err(Rejection::denied(format!("only its author or {who} may delete a message")));
        }
        permissions::require(room, user, Action::ChangeOwn, context.at)?;
    }
    if message.poll_id.is_some() {
        return Err(Rejection::field("delete_message.message_id", "is a poll: close it instead"));
    }
    if message.deleted {
        return Ok(Decision::nothing());
    }
    let deleted = Event::MessageDeleted { message_id, of: message.seq, by: user.clone() };
    Ok(Decision::free(vec![context.event(deleted)]))
}

pub(super) fn react(
    room: &Room,
    user: &UserId,
    message_id: MessageId,
    emoji: String,
    add: bool,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    if emoji.is_empty() || emoji.len() > EMOJI_BYTES {
        let len = emoji.len();
        return Err(Rejection::field(
            "react.emoji",
            format_args!("must have 1 to {EMOJI_BYTES} bytes, has {len}"),
        ));
    }
    // Joined emoji contain U+200D, which is otherwise refused in names.
    if let Some(c) = emoji.chars().find(|c| c.is_control() || c.is_whitespace()) {
        return Err(Rejection::field("react.emoji", format_args!("must not contain {c:?}")));
    }
    let message = living_target(room, message_id, context)?;
    if message.has_reaction(user, &emoji) == add {
        return Ok(Decision::nothing());
    }
    // Taking back is always possible: it cannot be done more often than adding.
    if add {
        check_changes(message)?;
    }
    let known = message.reactions.iter().any(|r| r.emoji == emoji);
    if add && !known && message.reactions.len() >= EMOJI_PER_MESSAGE {
        return Err(Rejection::new(
            Code::ResourceExhausted,
            format!("a message has at most {EMOJI_PER_MESSAGE} different emoji"),
        ));
    }
    let event = Event::ReactionChanged { message_id, user: user.clone(), emoji, added: add };
    Ok(Decision::free(vec![context.event(event)]))
}

/// Who may do something in this room, for a sentence.
pub(super) fn least_name(room: &Room, action: Action) -> &'static str {
    match room.profile.least(action) {
        Least::Role(Role::Viewer) => "any member",
        Least::Role(Role::Member) => "a MEMBER",
        Least::Role(Role::Admin) => "an ADMIN",
        Least::Nobody => "nobody else",
    }
}

/// Refuses to change a message that has been changed as often as may be.
fn check_changes(message: &Message) -> Result<(), Rejection> {
    if message.changes < CHANGES_PER_MESSAGE {
        return Ok(());
    }
    Err(Rejection::new(
        Code::ResourceExhausted,
        format!("a message takes at most {CHANGES_PER_MESSAGE} edits and reactions"),
    ))
}

/// A plain message; its position is set when it is appended.
pub(super) fn plain(
    id: MessageId,
    author: Author,
    author_name: String,
    content: String,
    context: &Context<'_>,
) -> Message {
    Message {
        id,
        seq: Seq::ZERO,
        author,
        author_name,
        content,
        content_type: PLAIN_TEXT.to_owned(),
        reply_to: None,
        at: context.at,
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

pub(super) fn posted(message: Message) -> NewEvent {
    NewEvent { event_id: EventId::from(message.id), event: Event::MessagePosted(message) }
}

/// The LLMs that a text and a list of names mention. Only text is searched: an `@all` inside a JSON body calls
/// nobody.
fn mentions_in(room: &Room, content: &str, content_type: &str, names: &[String]) -> Vec<LlmId> {
    let text = if content_type.starts_with("text/") { content } else { "" };
    mention::resolve(&room.llms, text, names)
}

pub(super) fn check_content(field: &'static str, content: &str, max: usize) -> Result<(), Rejection> {
    if content.trim().is_empty() {
        return Err(Rejection::field(field, "must not be empty"));
    }
    let len = content.len();
    if len > max {
        return Err(Rejection::field(field, format_args!("must have at most {max} bytes, has {len}")));
    }
    Ok(())
}

fn target<'a>(room: &'a Room, id: MessageId, context: &'a Context<'_>) -> Result<&'a Message, Rejection> {
    room.recent_message(id)
        .or(context.facts.message.as_ref().filter(|m| m.id == id))
        .ok_or_else(|| Rejection::not_found("message", id))
}

pub(super) fn living_target<'a>(
    room: &'a Room,
    id: MessageId,
    context: &'a Context<'_>,
) -> Result<&'a Message, Rejection> {
    match target(room, id, context)? {
        message if message.deleted => Err(Rejection::not_found("message", id)),
        message => Ok(message),
    }
}
