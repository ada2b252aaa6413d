//! The tools of a turn in an autopilot: a moderator chooses who speaks next or ends it, others agree.
//!
//! Offered in such turns only. What was called is recorded when the answer ends, before its end is: so the next turn
//! knows of it.

use futures_util::FutureExt as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    answered::Answered,
    call::{BuiltIn, Call, Situation},
    effects::Effects,
};
use crate::{
    dispatch::plain,
    domain::{autopilot::Kind, limits::REASON_CHARS, mention},
};

/// Say who speaks next.
pub(super) const CHOOSE: BuiltIn = BuiltIn {
    name: "choose_speaker",
    offer: |at| {
        let part = at.scene.part.as_ref().filter(|part| part.kind == Kind::Choose)?;
        let who = plain::names(part.choices.iter().map(|(_, name)| name.as_str()));
        let schema = json!({
            "type": "object",
            "properties": {
                // No `enum`: it may be written in any letter case, and as an id.
                "participant": {"type": "string", "description": "Its name."},
                "instruction": {"type": "string", "description": "What it shall speak about."},
            },
            "required": ["participant"],
        });
        Some((format!("Choose who speaks next. They are: {who}."), schema))
    },
    carry_out: |call| async move { choose(call) }.boxed(),
};

/// End it.
pub(super) const END: BuiltIn = BuiltIn {
    name: "end_discussion",
    offer: |at| offered(at, Kind::Choose, "End the discussion, because everything is said."),
    carry_out: |call| async move { end(call) }.boxed(),
};

/// Agree.
pub(super) const AGREE: BuiltIn = BuiltIn {
    name: "agree",
    offer: |at| offered(at, Kind::Agree, "Agree to what was said last, as it was said."),
    carry_out: |call| async move { agree(call.effects) }.boxed(),
};

fn offered(at: &Situation<'_>, kind: Kind, description: &str) -> Option<(String, Value)> {
    let reason = json!({"type": "string", "description": "Why, in a few words."});
    let properties = if kind == Kind::Choose { json!({"reason": reason}) } else { json!({}) };
    let schema = json!({"type": "object", "properties": properties});
    at.scene.part.as_ref().filter(|part| part.kind == kind).map(|_| (description.to_owned(), schema))
}

#[derive(Debug, Deserialize)]
struct Choose {
    participant: String,
    #[serde(default)]
    instruction: String,
}

fn choose(mut call: Call<'_>) -> Answered {
    let Choose { participant, instruction } = match call.read() {
        Ok(arguments) => arguments,
        Err(failed) => return failed,
    };
    let named = mention::resolve(&call.by.scene.others, "", std::slice::from_ref(&participant));
    let mut choices = call.by.scene.part.iter().flat_map(|part| &part.choices);
    let found = choices.find(|(id, _)| named.contains(id));
    let Some((id, name)) = found else {
        return Answered::failed(&format!("there is nobody called {participant:?} to be chosen"));
    };
    let instruction = plain::start(instruction.trim(), REASON_CHARS).to_owned();
    call.effects.turn.chosen = Some((id.clone(), instruction));
    Answered::done(format!("next speaks {}", plain::quoted(name)))
}

#[derive(Debug, Deserialize)]
struct End {
    #[serde(default)]
    reason: String,
}

fn end(mut call: Call<'_>) -> Answered {
    let End { reason } = match call.read() {
        Ok(arguments) => arguments,
        Err(failed) => return failed,
    };
    let reason = plain::start(reason.trim(), REASON_CHARS);
    let name = &call.by.scene.llm.display_name;
    call.effects.turn.over =
        Some(if reason.is_empty() { format!("ended by {name}") } else { reason.to_owned() });
    Answered::done("the discussion is over")
}

fn agree(effects: &mut Effects) -> Answered {
    effects.turn.agrees = true;
    Answered::done("you agree")
}
