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
mod polls;
mod summary;
#[cfg(test)]
pub(super) mod tests;

use crate::{
    dispatch::{autopilot::Part, look::Model},
    domain::{
        limits::RECENT_MESSAGES,
        llm::LlmConfig,
        message::{Author, Message},
        poll::Poll,
        room::Room,
        summary::add_outside,
    },
    ids::{LlmId, MessageId, PollId, Seq, UserId},
    llm::{Turn, tokens::Tokenizer},
};

pub(super) use budget::{Count, Talk, prompt_tokens, summary_chunk, summary_space};
pub(super) use summary::{for_summary, summary_turns};

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
}

/// What of a room an LLM is told, copied at the moment it is asked.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    pub(super) llm: LlmConfig,
    pub(super) others: Vec<LlmConfig>,
    pub(super) open_polls: Vec<Poll>,
    /// What from outside of the room is in what it is told: whatever it says is made of that as well.
    pub(super) outside: Vec<String>,
    /// The conversation.
    pub(super) talk: Talk,
    /// Who is asked; `None`: nobody was chosen yet.
    pub(super) model: Option<Model>,
    /// Its part in an autopilot, when it is its turn.
    pub(super) part: Option<Part>,
}

/// The messages that an LLM was not given although it may see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// The oldest message it was given: what is missing is before it.
    pub(super) before: Seq,
    /// Up to here there is a summary.
    pub(super) summarised: Seq,
}

/// Looks at a room through the eyes of one of its LLMs; `None`: it is not there any more.
pub(super) fn scene(room: &Room, online: &[UserId], asked: &Asked) -> Option<Scene> {
    let llm = room.llm(&asked.llm)?.clone();
    let others: Vec<LlmConfig> = room.llms.iter().filter(|other| other.id != asked.llm).cloned().collect();
    let poll = asked.poll.and_then(|id| room.polls.get(&id));
    let all = visible(room, asked).count();
    let skipped = all.saturating_sub(asked.history);
    let talk = Talk {
        instructions: instructions::instructions(room, &llm, &others, online, poll),
        summary: room.summary.as_ref().map(summary::told),
        messages: visible(room, asked)
            .enumerate()
            .filter(|(at, message)| *at >= skipped || message.id == asked.question)
            .map(|(at, message)| item(room, asked, message, at < skipped))
            .collect(),
        ballot: poll.map(polls::ballot_paper),
        summarised: room.summary.as_ref().map_or(Seq::ZERO, |summary| summary.up_to),
        has_older: room.recent.len() >= RECENT_MESSAGES || skipped > 0,
        ..Talk::default()
    };
    let mut scene = Scene {
        others,
        open_polls: room.open_polls().cloned().collect(),
        outside: Vec::new(),
        talk,
        llm,
        model: None,
        part: None,
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
    pub(super) fn ask(&mut self, question: &Message) {
        if question.deleted || question.superseded_by.is_some() {
            return;
        }
        let own = question.author == Author::Llm(self.llm.id.clone());
        let rendered = messages::render(question, own, None, None);
        let item = budget::Item::new(question.seq, true, true, rendered, question.outside.clone());
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

    fn collect_outside(&mut self) {
        self.outside.clear();
        if let Some((_, outside)) = &self.talk.summary {
            add_outside(&mut self.outside, outside);
        }
        for item in &self.talk.messages {
            add_outside(&mut self.outside, &item.outside);
        }
    }
}

/// The messages an LLM may be told, oldest first: neither what was taken back nor what has another in its place.
fn visible<'a>(room: &'a Room, asked: &Asked) -> impl Iterator<Item = &'a Message> {
    let until = asked.replaces.and_then(|id| room.recent_message(id)).map(|replaced| replaced.seq);
    room.recent
        .iter()
        .filter(move |message| until.is_none_or(|until| message.seq < until))
        .filter(|message| !message.deleted && message.superseded_by.is_none())
}

fn item(room: &Room, asked: &Asked, message: &Message, apart: bool) -> budget::Item {
    let own = message.author == Author::Llm(asked.llm.clone());
    let quoted = message.reply_to.and_then(|id| room.recent_message(id));
    let poll = message.poll_id.and_then(|id| room.polls.get(&id));
    let mut outside = message.outside.clone();
    // A quote carries what the quoted text carries.
    if let (Some(quoted), false) = (quoted, own) {
        add_outside(&mut outside, &quoted.outside);
    }
    let rendered = messages::render(message, own, quoted, poll);
    budget::Item::new(message.seq, message.id == asked.question, apart, rendered, outside)
}
