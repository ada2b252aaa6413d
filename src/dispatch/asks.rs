//! What a commit asks of LLMs: who is called by a message, asked to vote, or asked again. Pure.

use crate::{
    dispatch::job::Job,
    domain::{
        approval::Decided,
        event::{Event, Recorded},
        llm::LlmConfig,
        message::{Author, Message},
        poll::Poll,
        rejection::Code,
        room::Room,
        settings::{ResponsePolicy, TurnPolicy},
    },
    ids::{ApprovalId, LlmId, MessageId, PollId, Seq, UserId},
};

/// What follows from an event.
#[derive(Debug)]
pub(super) enum Wish {
    /// Ask an LLM.
    Ask(Job),
    /// Ask nobody: a person has asked something newer where that ends what came of older questions.
    Overtaken(Job),
    /// A person has asked in a room where that ends the answers to what was asked before.
    Newer(MessageId),
    /// Make another answer in the place of this one.
    Replace(MessageId, UserId, String),
    /// Make the answers to this message anew.
    Redo(MessageId),
    /// An answer may be waiting for this decision.
    Decided(ApprovalId, Decided, String),
    /// An answer has ended.
    Ended(MessageId),
    /// End answers, for this reason.
    Stop(Which, Code, &'static str),
}

/// Which answers of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Which {
    /// The votes in a poll.
    Poll(PollId),
    /// Those of an LLM.
    Llm(LlmId),
    /// All.
    All,
}

impl Which {
    pub(super) fn matches(&self, job: &Job) -> bool {
        match self {
            Self::Poll(id) => job.poll_id == Some(*id),
            Self::Llm(id) => job.llm_id == *id,
            Self::All => true,
        }
    }
}

/// What follows here from events that other nodes have committed: what ends. What begins is theirs to begin.
pub(super) fn of_others(room: &Room, events: &[Recorded]) -> Vec<Wish> {
    let of_event = |recorded: &Recorded| match &recorded.event {
        Event::MessagePosted(message) => overtakes(room, message).then_some(Wish::Newer(message.id)),
        event => ends(event),
    };
    events.iter().filter_map(of_event).collect()
}

/// What follows from events that are committed together; `room` is what they leave behind.
pub(super) fn of(room: &Room, events: &[Recorded]) -> Vec<Wish> {
    events.iter().flat_map(|recorded| of_event(room, &recorded.event, events)).collect()
}

fn of_event(room: &Room, event: &Event, events: &[Recorded]) -> Vec<Wish> {
    match event {
        Event::MessagePosted(message) => called(room, message, events),
        Event::PollCreated(poll) => {
            room.llms.iter().map(|llm| Wish::Ask(Job::vote(room, llm.id.clone(), poll))).collect()
        }
        Event::LlmAdded(llm) => open_polls(room, llm).map(Wish::Ask).collect(),
        Event::RegenerateRequested { message_id, by, model } => {
            vec![Wish::Replace(*message_id, by.clone(), model.clone())]
        }
        Event::RoomCreated(_)
        | Event::RoomActivated
        | Event::MessageEdited { .. }
        | Event::MessageDeleted { .. }
        | Event::MessageSuperseded { .. }
        | Event::VoteAbstained { .. }
        | Event::ApprovalRequested(_)
        | Event::ApprovalDecided { .. }
        | Event::ContextSummarised(_)
        | Event::AutopilotChanged(_)
        | Event::RoomUpdated(_)
        | Event::MemberChanged { .. }
        | Event::InvitationCreated(_)
        | Event::InvitationClosed { .. }
        | Event::ReactionChanged { .. }
        | Event::LlmUpdated(_)
        | Event::PollVoted(_)
        | Event::VoteRetracted { .. }
        | Event::RunStarted(_)
        | Event::RunEnded { .. }
        | Event::PollClosed { .. }
        | Event::LlmRemoved(_)
        | Event::RoomEnded { .. } => ends(event).into_iter().collect(),
    }
}

/// What ends by an event, whoever has committed it.
fn ends(event: &Event) -> Option<Wish> {
    match event {
        Event::MessageEdited { message_id, regenerate: true, .. } => Some(Wish::Redo(*message_id)),
        Event::ApprovalDecided { id, decided, reason, .. } => {
            Some(Wish::Decided(*id, *decided, reason.clone()))
        }
        Event::RunEnded { run, .. } => Some(Wish::Ended(run.message_id)),
        Event::PollClosed { poll, .. } => {
            Some(Wish::Stop(Which::Poll(poll.id), Code::PollClosed, "the poll was closed"))
        }
        Event::LlmRemoved(id) => {
            Some(Wish::Stop(Which::Llm(id.clone()), Code::NotFound, "the LLM was removed from the room"))
        }
        Event::RoomEnded { .. } => Some(Wish::Stop(Which::All, Code::RoomEnded, "the room ended")),
        Event::RoomCreated(_)
        | Event::RoomActivated
        | Event::RoomUpdated(_)
        | Event::MemberChanged { .. }
        | Event::InvitationCreated(_)
        | Event::InvitationClosed { .. }
        | Event::MessagePosted(_)
        | Event::MessageEdited { regenerate: false, .. }
        | Event::MessageDeleted { .. }
        | Event::MessageSuperseded { .. }
        | Event::ReactionChanged { .. }
        | Event::RegenerateRequested { .. }
        | Event::LlmAdded(_)
        | Event::LlmUpdated(_)
        | Event::PollCreated(_)
        | Event::PollVoted(_)
        | Event::VoteRetracted { .. }
        | Event::VoteAbstained { .. }
        | Event::ApprovalRequested(_)
        | Event::ContextSummarised(_)
        | Event::AutopilotChanged(_)
        | Event::RunStarted(_) => None,
    }
}

/// The LLMs that a message calls.
fn called(room: &Room, message: &Message, events: &[Recorded]) -> Vec<Wish> {
    // Half an answer calls nobody.
    if message.mentions.is_empty() || message.partial {
        return Vec::new();
    }
    let settings = &room.profile.settings;
    let (chain_depth, asked_by) = match &message.author {
        Author::User(user) => (0, Some(user.clone())),
        Author::Llm(_) if settings.responses == ResponsePolicy::AddressedOnly => return Vec::new(),
        Author::Llm(_) => (message.chain_depth + 1, asker(message.id, events)),
    };
    let newer = overtakes(room, message).then_some(Wish::Newer(message.id));
    let (root, begun) = beginning(room, message);
    let overtaken = settings.turns == TurnPolicy::LatestWins && asked_since(room, begun);
    let ask = |llm_id: &LlmId| {
        let asked_by = asked_by.clone();
        let job = Job { root, chain_depth, asked_by, ..Job::new(room, llm_id.clone(), message.id) };
        if overtaken { Wish::Overtaken(job) } else { Wish::Ask(job) }
    };
    newer.into_iter().chain(message.mentions.iter().map(ask)).collect()
}

/// Whether a message ends the answers to what was asked before it.
fn overtakes(room: &Room, message: &Message) -> bool {
    let calls = !message.mentions.is_empty() && !message.partial;
    calls && room.profile.settings.turns == TurnPolicy::LatestWins && message.author.user().is_some()
}

/// The question at the beginning of the chain that a message stands in, and how far the log was when it began. A
/// chain that goes on from another version of an answer was asked for anew, when that was.
fn beginning(room: &Room, message: &Message) -> (MessageId, Seq) {
    let Some(mut first) = room.recent_message(message.id) else {
        return (message.id, room.seq);
    };
    let mut begun = None;
    while let Some(asked) = first.reply_to.filter(|_| first.from_run) {
        if first.replaces.is_some() {
            begun = begun.or(Some(first.seq));
        }
        match room.recent_message(asked).filter(|before| before.seq < first.seq) {
            Some(before) => first = before,
            // Older than what is in memory.
            None => return (asked, begun.unwrap_or(first.seq)),
        }
    }
    (first.id, begun.unwrap_or(first.seq))
}

/// Whether a person has asked LLMs something behind this position.
fn asked_since(room: &Room, seq: Seq) -> bool {
    let mut since = room.recent.iter().rev().take_while(|message| message.seq > seq);
    since.any(|message| message.author.user().is_some() && !message.mentions.is_empty())
}

/// The person at the beginning of the chain that an answer stands in, which ends beside it.
fn asker(answer: MessageId, events: &[Recorded]) -> Option<UserId> {
    events.iter().find_map(|recorded| match &recorded.event {
        Event::RunEnded { run, .. } if run.message_id == answer => run.asked_by.clone(),
        _ => None,
    })
}

/// An LLM that comes while polls are open votes in them, unless it has: it may have been here before.
fn open_polls(room: &Room, llm: &LlmConfig) -> impl Iterator<Item = Job> {
    let voter = Author::Llm(llm.id.clone());
    let open = room.open_polls().filter(move |poll: &&Poll| !poll.ballots.contains_key(&voter));
    open.map(|poll| Job::vote(room, llm.id.clone(), poll))
}

/// The votes that LLMs owe: they were asked, and the server has gone away since, or could not record why they did not.
pub(super) fn owed(room: &Room) -> Vec<Job> {
    let begun = |poll: &Poll, llm: &LlmConfig| {
        room.runs.values().any(|run| run.poll_id == Some(poll.id) && run.llm_id == llm.id)
    };
    let of_poll = |poll: &Poll| -> Vec<Job> {
        let owing = poll.owing(&room.llms).filter(|llm| !begun(poll, llm));
        owing.map(|llm| Job::vote(room, llm.id.clone(), poll)).collect()
    };
    room.open_polls().flat_map(of_poll).collect()
}

/// Another answer in the place of `old`; `None`: it is no answer to anything.
pub(super) fn replacement(room: &Room, old: &Message, by: Option<UserId>, model: String) -> Option<Job> {
    let Author::Llm(llm) = &old.author else {
        return None;
    };
    Some(Job {
        chain_depth: old.chain_depth,
        asked_by: by,
        replaces: Some(old.id),
        model,
        at_question: true,
        ..Job::new(room, llm.clone(), old.reply_to?)
    })
}

/// The answers to an edited message, anew: the newest version of each that is among the last messages of the room,
/// and answers of the LLMs it mentions that have given none. `asked` are those that will answer anyway.
///
/// The answers to a message that is not among the last itself may be out of reach: then nobody else is asked, because
/// they might have answered.
pub(super) fn redo(room: &Room, question: &Message, asked: &[LlmId]) -> Vec<Job> {
    let by = question.author.user();
    let answers: Vec<&Message> =
        room.recent.iter().filter(|m| m.from_run && m.reply_to == Some(question.id)).collect();
    let here = |id: &LlmId| room.llm(id).is_some() && !asked.contains(id);
    let newest = answers.iter().filter(|m| !m.deleted && m.superseded_by.is_none());
    let again = newest.filter_map(|old| replacement(room, old, by.cloned(), String::new()));
    let again = again.filter(|job| here(&job.llm_id));
    let is_known = room.recent_message(question.id).is_some();
    let answered = |id: &LlmId| answers.iter().any(|m| !m.deleted && m.author == Author::Llm(id.clone()));
    let fresh = question.mentions.iter().filter(|id| is_known && here(id) && !answered(id));
    let fresh = fresh.map(|id| Job {
        asked_by: by.cloned(),
        at_question: true,
        ..Job::new(room, id.clone(), question.id)
    });
    again.chain(fresh).collect()
}

#[cfg(test)]
mod tests;
