//! `salon bench answers`: rooms with an LLM that is asked, and whose answers everybody reads while they are written.
//!
//! The server's own provider answers, so what is measured is that together with the way of the text to the members. A
//! closed loop keeps so many answers open; a paced one asks when it is time.

use std::{
    collections::{BTreeMap, HashMap},
    future::ready,
};

use serde::Serialize;

use super::{
    Error,
    crew::Crew,
    figures::{Quantiles, Times},
    hear::{self, Event, kind},
    load::{self, Load},
    plan::{Pace, Plan},
    progress::Progress,
    report::{Own, Report, per},
    say::Header,
    talk::Talk,
    world::{Outbox, Script},
};
use crate::wire::pb::room::v1 as pb;

/// The LLM of every room.
const LLM: &str = "bench";
/// `PARTICIPANT_TYPE` of an LLM.
const IS_LLM: u64 = 2;
/// `LLM_DONE_REASON_COMPLETED`.
const COMPLETED: u64 = 1;

/// What the report says of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Figures {
    /// Questions whose answers are over.
    pub answers: u64,
    /// Those that did not end by themselves, by `llm_done.reason`.
    pub not_completed: BTreeMap<u64, u64>,
    /// Questions that nothing answered.
    pub unanswered: u64,
    /// Deliveries of parts of answers.
    pub chunks: u64,
    /// In a second.
    pub chunks_per_second: f64,
    /// From when a question was due until a member had the first part of its answer.
    pub first_chunk_us: Quantiles,
    /// From when a question was due until who asked had heard its end.
    pub answer_us: Quantiles,
}

struct Asked {
    due: u64,
    session: usize,
    is_open: bool,
}

/// What its sessions do.
struct Answers {
    talk: Talk,
    is_closed_loop: bool,
    /// By the id of the message that asked.
    asked: HashMap<Box<[u8]>, Asked>,
    figures: Figures,
    first: Times,
    whole: Times,
}

/// Runs it.
pub(super) async fn run(plan: &Plan, progress: &Progress) -> Result<Report, Error> {
    let llm = pb::LlmConfig {
        id: LLM.to_owned(),
        display_name: LLM.to_owned(),
        model: plan.llm.clone(),
        ..Default::default()
    };
    let crew = Crew::prepare(plan, &[llm], progress).await?;
    let mut talk = Talk::new(plan, crew.speech(plan), &[LLM.to_owned()]);
    talk.without_refill();
    let answers = Answers {
        talk,
        is_closed_loop: matches!(plan.pace, Pace::InFlight(_)),
        asked: HashMap::new(),
        figures: Figures::default(),
        first: Times::new(),
        whole: Times::new(),
    };
    let opened = load::open(plan, &crew, answers, progress).await?;
    let measured = load::run(plan, &crew, &opened, progress, ready(Ok(()))).await?;
    let answers = &mut opened.world.borrow_mut().script;
    let mut figures = std::mem::take(&mut answers.figures);
    figures.unanswered = answers.asked.values().filter(|asked| asked.is_open).count() as u64;
    figures.chunks_per_second = per(figures.chunks, plan.duration.as_secs_f64());
    figures.first_chunk_us = answers.first.quantiles();
    figures.answer_us = answers.whole.quantiles();
    let is_sound = figures.chunks > 0 && figures.unanswered == 0 && figures.not_completed.is_empty();
    let problem = (!is_sound).then(|| {
        format!(
            "answers: {} unanswered, not completed by reason: {:?}; see limits.rates.*.llm_calls and llm.* of the server",
            figures.unanswered, figures.not_completed
        )
    });
    Ok(Report::new(plan)
        .with_talk(&crew, &answers.talk, measured)
        .with(Own::Answers(figures))
        .ending(is_sound, problem))
}

impl Answers {
    /// A person's message asks; false: it is an answer itself.
    fn question(&mut self, event: &Event<'_>) -> bool {
        let message = hear::bytes(event.body, 1).unwrap_or_default();
        if hear::number(message, 4) == IS_LLM {
            return false;
        }
        let header = event.text().and_then(Header::read);
        let asker = header.and_then(|header| Some((header.due, self.talk.session_of(header.sender)?)));
        if let (Some((due, session)), Some(id)) = (asker, hear::bytes(message, 1))
            && !self.asked.contains_key(id)
        {
            self.asked.insert(id.into(), Asked { due, session, is_open: true });
        }
        true
    }

    /// An event that is no matter of the messages has its place among them all the same.
    fn follow(&mut self, session: usize, event: &Event<'_>) {
        let is_behind = self.talk.follow(session, event);
        self.talk.counts.inversions += u64::from(is_behind);
    }

    fn chunk(&mut self, event: &Event<'_>, now: u64) {
        self.talk.parts += 1;
        if self.talk.is_measured(now) {
            self.figures.chunks += 1;
        }
        let is_first = hear::number(event.body, 20) == 0;
        let asked = hear::bytes(event.body, 4).and_then(|id| self.asked.get(id));
        if let Some(asked) = asked.filter(|asked| is_first && self.talk.is_measured(asked.due)) {
            self.first.record(now.saturating_sub(asked.due));
        }
    }

    fn done(&mut self, session: usize, event: &Event<'_>, now: u64, say: &mut Outbox) {
        let asked = hear::bytes(event.body, 29).and_then(|id| self.asked.get_mut(id));
        let Some(asked) = asked.filter(|asked| asked.is_open && asked.session == session) else {
            return;
        };
        asked.is_open = false;
        let due = asked.due;
        let reason = hear::number(event.body, 20);
        if reason != COMPLETED {
            *self.figures.not_completed.entry(reason).or_default() += 1;
        }
        if self.talk.is_measured(due) {
            self.figures.answers += 1;
            self.whole.record(now.saturating_sub(due));
        }
        if self.is_closed_loop {
            self.talk.refill(now, say);
        }
    }
}

impl Script for Answers {
    fn joined(&mut self, session: usize, seq: u64) {
        self.talk.joined(session, seq);
    }

    fn resumed(&mut self, session: usize, seq: u64) {
        self.talk.resumed(session, seq);
    }

    fn heard(&mut self, session: usize, message: &[u8], now: u64, say: &mut Outbox) {
        let event = Event::read(message).unwrap_or_default();
        match event.kind {
            kind::CHUNK => self.chunk(&event, now),
            kind::DONE => {
                self.follow(session, &event);
                self.done(session, &event, now, say);
            }
            kind::MESSAGE if !self.question(&event) => self.follow(session, &event),
            _ => self.talk.heard(session, message, now, say),
        }
    }

    fn ended(&mut self, session: usize, why: &str) {
        self.talk.ended(session, why);
    }
}

impl Load for Answers {
    fn talk(&mut self) -> &mut Talk {
        &mut self.talk
    }

    fn is_done(&self) -> bool {
        self.talk.is_delivered() && self.asked.values().all(|asked| !asked.is_open)
    }
}
