//! The tools with which an LLM says nothing, or lets another one speak. Both need no right but to be in the room.

use futures_util::FutureExt as _;
use serde::Deserialize;
use serde_json::json;

use super::{
    answered::Answered,
    call::{BuiltIn, Call},
};
use crate::{
    dispatch::{context::Scene, plain},
    domain::{limits::REASON_CHARS, mention},
};

/// Characters of what a call of another LLM may say to it.
const CONTEXT_CHARS: usize = 1000;

/// Say nothing.
pub(super) const OPT_OUT: BuiltIn = BuiltIn {
    name: "opt_out",
    offer: |at| {
        if at.poll.is_some_and(|poll| poll.mandatory) {
            return None;
        }
        let schema = json!({
            "type": "object",
            "properties": {"reason": {"type": "string", "description": "Why, in a few words."}},
        });
        Some(("Say nothing this time.".into(), schema))
    },
    carry_out: |call| async move { opt_out(call) }.boxed(),
};

/// Let another LLM answer.
pub(super) const MENTION: BuiltIn = BuiltIn {
    name: "mention",
    offer: |at| {
        if at.poll.is_some() || at.scene.part.is_some() || at.scene.others.is_empty() {
            return None;
        }
        let names: Vec<&str> = at.scene.others.iter().map(|llm| llm.display_name.as_str()).collect();
        let schema = json!({
            "type": "object",
            "properties": {
                // No `enum`: it may be written in any letter case, and as an id.
                "participant": {"type": "string", "description": "Its name."},
                "context": {"type": "string", "description": "What you want them to look at."},
            },
            "required": ["participant"],
        });
        let who = plain::names(names);
        Some((format!("Ask another LLM of the room to answer after you. They are: {who}."), schema))
    },
    carry_out: |call| async move { call_other(call) }.boxed(),
};

#[derive(Debug, Deserialize)]
struct OptOut {
    #[serde(default)]
    reason: String,
}

fn opt_out(mut call: Call<'_>) -> Answered {
    match call.read() {
        Ok(OptOut { reason }) => {
            call.effects.opted_out = Some(plain::start(&reason, REASON_CHARS).to_owned());
            Answered::done("you say nothing")
        }
        Err(failed) => failed,
    }
}

#[derive(Debug, Deserialize)]
struct Mention {
    participant: String,
    #[serde(default)]
    context: String,
}

fn call_other(mut call: Call<'_>) -> Answered {
    let Mention { participant, context } = match call.read() {
        Ok(arguments) => arguments,
        Err(failed) => return failed,
    };
    let scene: &Scene = call.by.scene;
    let found = mention::resolve(&scene.others, "", std::slice::from_ref(&participant));
    if found.is_empty() {
        return Answered::failed(&format!("there is no LLM {participant:?} in this room"));
    }
    let mut called = Vec::new();
    for other in scene.others.iter().filter(|other| found.contains(&other.id)) {
        let name = other.display_name.as_str();
        called.push(name);
        let told = (name.to_owned(), plain::start(context.trim(), CONTEXT_CHARS).to_owned());
        let is_new = !call.effects.mentions.contains(&other.id);
        if is_new {
            call.effects.mentions.push(other.id.clone());
        }
        if is_new || !(told.1.is_empty() || call.effects.told.contains(&told)) {
            call.effects.told.push(told);
        }
    }
    Answered::done(format!("after you answer: {}", plain::names(called)))
}
