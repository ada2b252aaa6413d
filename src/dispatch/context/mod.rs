//! What an LLM is told: who it is, where it is, and what was said.
//!
//! The text of a room is data. Each message begins with its author in square brackets and quotation marks, written by
//! the server, and every further line of it is marked: no text can begin a line with an author, or like a line of the
//! server. Names and options stand in quotation marks that they cannot end. What members write about the room and
//! about its LLMs is marked in the same way.
//!
//! Looking at a room is quick, since the room stands still meanwhile; counting tokens and leaving out what does not
//! fit ([`Scene::fit`]) comes behind it. Nothing here fails.

mod budget;
mod instructions;
mod messages;
mod names;
mod part;
mod polls;
mod summary;
#[cfg(test)]
pub(super) mod tests;
mod view;

use std::sync::Arc;

use crate::{
    dispatch::model::Model,
    domain::{
        limits::RECENT_MESSAGES,
        llm::LlmConfig,
        message::{Author, Message},
        poll::Poll,
        summary::add_outside,
    },
    ids::{LlmId, MessageId, PollId, Seq, UserId},
    llm::{Turn, tokens::Tokenizer},
};

pub(super) use budget::{Count, LeftOut, Talk, prompt_tokens, summary_chunk, summary_space};
pub(super) use names::Names;
pub(super) use part::{Part, part};
pub(super) use summary::{for_summary, summary_turns};
pub(super) use view::View;

/// Old messages that are read from the log to be quoted: each is a reading of its own.
const QUOTES_READ: usize = 8;

/// What an LLM is asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Who.
    pub(super) llm: LlmId,
    /// The message that asks.
    pub(super) question: MessageId,
    /// The answer that is made anew: it is not told, nor what came behind it.
    pub(super) replaces: Option<MessageId>,
    /// The poll it is asked to vote in.
    pub(super) poll: Option<PollId>,
    /// Messages it is given at most, besides the question.
    pub(super) history: usize,
    /// Messages that are too old to be told and are answered by those that are: they are quoted.
    pub(super) quotes: Vec<Message>,
}

/// What of a room an LLM is told, copied at the moment it is asked.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    pub(super) llm: LlmConfig,
    pub(super) others: Vec<LlmConfig>,
    /// Without the votes in them.
    pub(super) open_polls: Vec<Poll>,
    /// What from outside of the room is in what it is told: whatever it says is made of that as well.
    pub(super) outside: Vec<String>,
    /// The conversation.
    pub(super) talk: Talk,
    /// Who is asked; `None`: nobody was chosen yet.
    pub(super) model: Option<Model>,
    /// Its part in an autopilot, when it is its turn.
    pub(super) part: Option<Part>,
    /// What is answered by messages that it is told, and is neither at hand nor in [`Asked::quotes`]: the newest.
    pub(super) unquoted: Vec<MessageId>,
    /// Who is called what.
    pub(super) names: Arc<Names>,
}

/// Looks at a room through the eyes of one of its LLMs; `None`: it is not there any more.
pub(super) fn scene<'a>(view: impl Into<View<'a>>, online: &[UserId], asked: &Asked) -> Option<Scene> {
    let view: View<'a> = view.into();
    let room = view.room;
    let llm = room.llm(&asked.llm)?.clone();
    let others: Vec<LlmConfig> = room.llms.iter().filter(|other| other.id != asked.llm).cloned().collect();
    let poll = asked.poll.and_then(|id| view.poll(id));
    let all = visible(view, asked).count();
    let skipped = all.saturating_sub(asked.history);
    let names = Names::of(room).and_of(view.recent()).and_of(&asked.quotes);
    let talk = Talk {
        instructions: instructions::instructions(room, &llm, &others, (online, &names), poll),
        summary: view.summary().map(summary::told),
        messages: visible(view, asked)
            .enumerate()
            .filter(|(at, message)| *at >= skipped || message.id == asked.question)
            .map(|(at, message)| item(view, asked, &names, message, at < skipped))
            .collect(),
        ballot: poll.map(polls::ballot_paper),
        summarised: view.summary().map_or(Seq::ZERO, |summary| summary.up_to),
        has_older: view.recent().len() >= RECENT_MESSAGES || skipped > 0,
        ..Talk::default()
    };
    let mut scene = Scene {
        others,
        open_polls: view.open_polls().map(Poll::blank).collect(),
        outside: Vec::new(),
        talk,
        llm,
        model: None,
        part: None,
        unquoted: unquoted(view, asked, skipped),
        names: Arc::new(names),
    };
    scene.collect_outside();
    Some(scene)
}

impl Scene {
    /// Whether the question is too old to be among the room's last messages.
    pub(super) fn lacks_question(&self) -> bool {
        !self.talk.messages.iter().any(|item| item.pinned)
    }

    /// Puts in the question, which had to be read from the log.
    pub(super) fn ask(&mut self, question: &Message, quoted: Option<&Message>) {
        if question.deleted || question.superseded_by.is_some() {
            return;
        }
        let own = question.author == Author::Llm(self.llm.id.clone());
        let names = Names::clone(&self.names).and_of([question]).and_of(quoted);
        let rendered = messages::render(question, own, quoted, None, &names);
        let outside = outside_of(question, own, quoted);
        let item = budget::Item::new(question.seq, true, true, rendered, outside);
        self.talk.messages.insert(0, item);
        self.collect_outside();
    }

    /// Leaves out what does not fit into `limit` tokens.
    pub(super) fn fit(&mut self, limit: u64, count: Count<'_>) {
        self.talk.fit(limit, count);
        self.collect_outside();
    }

    /// Everything a model is given, with the rounds of tools that there have been.
    pub(super) fn turns(&self, rounds: &[Turn]) -> Vec<Turn> {
        let tokenizer = self.model.as_ref().map_or(Tokenizer::Estimate, |model| model.tokenizer);
        self.talk.turns(rounds, &|text: &str| tokenizer.count(text))
    }

    /// What is missing before the oldest message, if anything is.
    pub(super) fn left_out(&self) -> Option<LeftOut> {
        self.talk.left_out()
    }

    /// Says something to the LLM that the server has to say, behind everything else.
    pub(super) fn remind(&mut self, text: &str) {
        let ballot = self.talk.ballot.get_or_insert_default();
        if !ballot.is_empty() {
            ballot.push_str("\n\n");
        }
        ballot.push_str(text);
    }

    /// Tells the LLM its part in an autopilot.
    pub(super) fn take_part(&mut self, part: Part) {
        self.remind(&part.text);
        self.part = Some(part);
        self.collect_outside();
    }

    fn collect_outside(&mut self) {
        self.outside.clear();
        if let Some(part) = &self.part {
            add_outside(&mut self.outside, &part.outside);
        }
        if let Some((_, outside)) = &self.talk.summary {
            add_outside(&mut self.outside, outside);
        }
        for item in &self.talk.messages {
            add_outside(&mut self.outside, &item.outside);
        }
    }
}

/// The messages an LLM may be told, oldest first: neither what was taken back nor what has another in its place.
fn visible<'a>(view: View<'a>, asked: &Asked) -> impl Iterator<Item = &'a Message> {
    let until = asked.replaces.and_then(|id| view.recent_message(id)).map(|replaced| replaced.seq);
    view.recent()
        .iter()
        .filter(move |message| until.is_none_or(|until| message.seq < until))
        .filter(|message| !message.deleted && message.superseded_by.is_none())
}

/// The message that another one answers.
fn quoted<'a>(view: View<'a>, asked: &'a Asked, id: MessageId) -> Option<&'a Message> {
    view.recent_message(id).or_else(|| asked.quotes.iter().find(|quote| quote.id == id))
}

/// What is answered and not at hand, of the newest messages first.
fn unquoted(view: View<'_>, asked: &Asked, skipped: usize) -> Vec<MessageId> {
    let own = Author::Llm(asked.llm.clone());
    let told: Vec<&Message> = visible(view, asked).skip(skipped).collect();
    // What it has said itself is told without a quote.
    let answered = told.iter().rev().filter(|message| message.author != own).filter_map(|m| m.reply_to);
    let mut missing = Vec::new();
    for id in answered.filter(|id| quoted(view, asked, *id).is_none()) {
        if missing.len() < QUOTES_READ && !missing.contains(&id) {
            missing.push(id);
        }
    }
    missing
}

/// What from outside is in a message as it is told: a quote carries what the quoted text carries.
fn outside_of(message: &Message, own: bool, quoted: Option<&Message>) -> Vec<String> {
    let mut outside = message.outside.clone();
    if let (Some(quoted), false) = (quoted, own) {
        add_outside(&mut outside, &quoted.outside);
    }
    outside
}

fn item(view: View<'_>, asked: &Asked, names: &Names, message: &Message, apart: bool) -> budget::Item {
    let own = message.author == Author::Llm(asked.llm.clone());
    let quoted = message.reply_to.and_then(|id| quoted(view, asked, id));
    let poll = message.poll_id.and_then(|id| view.poll(id));
    let outside = outside_of(message, own, quoted);
    let rendered = messages::render(message, own, quoted, poll, names);
    budget::Item::new(message.seq, message.id == asked.question, apart, rendered, outside)
}
