//! What an LLM is told about its turn in an autopilot, and whom it may choose in it. The words are the server's; the
//! topic and what a moderator wants are quoted. Nothing here fails: whose turn is over has no part.

use std::fmt::Write as _;

use super::names::Names;
use crate::{
    dispatch::plain::{block, names},
    domain::{
        autopilot::{Autopilot, Kind, Side},
        message::Author,
        room::Room,
    },
    ids::LlmId,
};

/// An LLM's part in an autopilot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::dispatch) struct Part {
    /// What it does with its turn.
    pub(in crate::dispatch) kind: Kind,
    /// Whom it may choose: ids and names.
    pub(in crate::dispatch) choices: Vec<(LlmId, String)>,
    /// What it is told.
    pub(in crate::dispatch) text: String,
    /// What from outside of the room went into that.
    pub(in crate::dispatch) outside: Vec<String>,
}

/// The part of an LLM whose turn it is; `None`: it is not any more.
pub(in crate::dispatch) fn part(room: &Room, llm: &LlmId) -> Option<Part> {
    let autopilot = room.open_autopilot()?;
    let turn = autopilot.turn(room).ok().filter(|turn| &turn.llm == llm)?;
    let choices: Vec<(LlmId, String)> = autopilot
        .llms
        .iter()
        .filter_map(|id| Some((id.clone(), room.llm(id)?.display_name.clone())))
        .collect();
    // One that was meant for somebody who is not there any more is nobody's.
    let is_chosen = autopilot.chosen.as_ref() == Some(llm);
    let instruction = if is_chosen { autopilot.instruction.as_str() } else { "" };
    let outside = if is_chosen { autopilot.outside.clone() } else { Vec::new() };
    let text = text(room, autopilot, turn.kind, instruction, &choices);
    let choices = if turn.kind == Kind::Choose { choices } else { Vec::new() };
    Some(Part { kind: turn.kind, choices, text, outside })
}

fn text(
    room: &Room,
    autopilot: &Autopilot,
    kind: Kind,
    instruction: &str,
    speakers: &[(LlmId, String)],
) -> String {
    let starter = Author::User(autopilot.started_by.clone());
    let mut text = String::from("The LLMs of this room talk among themselves. ");
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "{} has asked for it; the topic is: {}\nThis is turn {} of at most {}, and it is yours. ",
        Names::of(room).told(&starter, room.name_of(&starter)),
        block(&autopilot.topic),
        autopilot.turns + 1,
        autopilot.max_turns,
    );
    text.push_str(&match kind {
        Kind::Speak if instruction.is_empty() => {
            "Say what you have to say about the topic and about what was said last.".to_owned()
        }
        Kind::Speak => format!("The moderator has chosen you, and wants: {}", block(instruction)),
        Kind::Choose => format!(
            "You are the moderator: call the tool choose_speaker to say who speaks next and what about, or \
             end_discussion when everything is said. You may choose: {}.",
            names(speakers.iter().map(|(_, name)| name.as_str()))
        ),
        Kind::Argue(side) => format!(
            "This is a debate, and you speak {} the topic. Answer what the other side has said last.",
            preposition(side)
        ),
        Kind::SumUp(side) => format!(
            "The debate is at its end. You have spoken {} the topic: sum up in a few sentences, and bring \
             nothing new.",
            preposition(side)
        ),
        Kind::Improve => "Carry on the work of the one before you: give the whole work, with what you \
             improve in it, and nothing about it. If nobody has begun, begin."
            .to_owned(),
        Kind::Agree => {
            "All of you are to agree. If you agree to what was said last, call the tool agree. If \
             not, say what you propose instead, and why; then the others have to agree to that."
                .to_owned()
        }
    });
    text
}

fn preposition(side: Side) -> &'static str {
    match side {
        Side::For => "for",
        Side::Against => "against",
    }
}
