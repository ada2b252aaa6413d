//! What an LLM may do besides talking, with its own few rights: opt out, call another LLM, vote, look at polls.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    dispatch::{context::Scene, plain},
    domain::{
        command::{Actor, Command},
        limits::REASON_CHARS,
        mention,
        poll::Poll,
    },
    ids::{LlmId, OptionId, PollId, RoomId},
    llm::{Tool, ToolCall},
    rooms::Rooms,
};

/// Characters of what a call of another LLM may say to it.
const CONTEXT_CHARS: usize = 1000;

/// What the tool calls of an answer have come to.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// The LLM wants to say nothing; with its reason.
    pub(super) opted_out: Option<String>,
    /// LLMs it has called.
    pub(super) mentions: Vec<LlmId>,
    /// What it wants to tell them.
    pub(super) mention_text: String,
    /// The polls it has voted in.
    pub(super) voted: Vec<PollId>,
}

/// The tools of a run: for a poll it is asked about only those that answer it.
pub(super) fn offered(scene: &Scene, poll_id: Option<PollId>) -> Vec<Tool> {
    let mut tools = Vec::new();
    if let Some(id) = poll_id {
        if let Some(poll) = scene.open_polls.iter().find(|poll| poll.id == id) {
            tools.push(vote_tool(std::slice::from_ref(poll)));
            if !poll.mandatory {
                tools.push(opt_out_tool());
            }
        }
        return tools;
    }
    tools.push(opt_out_tool());
    if !scene.others.is_empty() {
        tools.push(mention_tool(&scene.others.iter().map(|l| l.display_name.as_str()).collect::<Vec<_>>()));
    }
    if !scene.open_polls.is_empty() {
        tools.push(vote_tool(&scene.open_polls));
        tools.push(Tool {
            name: "get_active_polls".into(),
            description: "The polls that are open in this room, with their options and votes.".into(),
            parameters: json!({"type": "object", "properties": {}}),
        });
    }
    tools
}

fn opt_out_tool() -> Tool {
    Tool {
        name: "opt_out".into(),
        description: "Say nothing this time.".into(),
        parameters: json!({
            "type": "object",
            "properties": {"reason": {"type": "string", "description": "Why, in a few words."}},
        }),
    }
}

fn mention_tool(names: &[&str]) -> Tool {
    Tool {
        name: "mention".into(),
        description: format!(
            "Ask another LLM of the room to answer after you. They are: {}.",
            plain::names(names.iter().copied())
        ),
        parameters: json!({
            "type": "object",
            "properties": {
                "participant": {"type": "string", "enum": names},
                "context": {"type": "string", "description": "What you want them to look at."},
            },
            "required": ["participant"],
        }),
    }
}

fn vote_tool(polls: &[Poll]) -> Tool {
    let ids: Vec<String> = polls.iter().map(|poll| poll.id.to_string()).collect();
    let mut options: Vec<&str> = polls.iter().flat_map(|p| p.options.iter().map(|o| o.id.as_str())).collect();
    options.sort_unstable();
    options.dedup();
    Tool {
        name: "vote_on_poll".into(),
        description: "Vote in a poll of this room.".into(),
        parameters: json!({
            "type": "object",
            "properties": {
                "poll_id": {"type": "string", "enum": ids},
                "option_ids": {"type": "array", "items": {"type": "string", "enum": options}},
                "reason": {"type": "string", "description": "Why, in a sentence."},
            },
            "required": ["poll_id", "option_ids"],
        }),
    }
}

/// Carries out a call; the result is for the model, also when the call was wrong.
pub(super) async fn carry_out(
    rooms: &Rooms,
    room: &RoomId,
    scene: &Scene,
    offered: &[Tool],
    call: &ToolCall,
    effects: &mut Effects,
) -> String {
    if !offered.iter().any(|tool| tool.name == call.name) {
        return failure(&format!("there is no tool {:?} here", call.name));
    }
    // Models send nothing at all when there are no arguments.
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { call.arguments.as_str() };
    match call.name.as_str() {
        "opt_out" => match serde_json::from_str(arguments) {
            Ok(OptOut { reason }) => {
                effects.opted_out = Some(plain::start(&reason, REASON_CHARS).to_owned());
                success("you say nothing")
            }
            Err(error) => failure(&error.to_string()),
        },
        "mention" => match serde_json::from_str(arguments) {
            Ok(arguments) => call_other(scene, &arguments, effects),
            Err(error) => failure(&error.to_string()),
        },
        "vote_on_poll" => match serde_json::from_str(arguments) {
            Ok(arguments) => vote(rooms, room, &scene.llm.id, arguments, effects).await,
            Err(error) => failure(&error.to_string()),
        },
        "get_active_polls" => active_polls(rooms, room).await,
        other => failure(&format!("there is no tool {other:?} here")),
    }
}

#[derive(Debug, Deserialize)]
struct OptOut {
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Deserialize)]
struct Mention {
    participant: String,
    #[serde(default)]
    context: String,
}

#[derive(Debug, Deserialize)]
struct CastVote {
    poll_id: String,
    option_ids: Vec<String>,
    #[serde(default)]
    reason: String,
}

fn success(what: &str) -> String {
    json!({"ok": true, "result": what}).to_string()
}

fn failure(why: &str) -> String {
    json!({"ok": false, "error": why}).to_string()
}

fn call_other(scene: &Scene, arguments: &Mention, effects: &mut Effects) -> String {
    let found = mention::resolve(&scene.others, "", std::slice::from_ref(&arguments.participant));
    if found.is_empty() {
        return failure(&format!("there is no LLM {:?} in this room", arguments.participant));
    }
    for id in found {
        if !effects.mentions.contains(&id) {
            let name =
                scene.others.iter().find(|l| l.id == id).map_or(id.as_str(), |l| l.display_name.as_str());
            let separator = if effects.mention_text.is_empty() { "" } else { "\n" };
            let context = plain::start(arguments.context.trim(), CONTEXT_CHARS);
            effects.mention_text.push_str(&format!("{separator}@{name} {context}"));
            effects.mentions.push(id);
        }
    }
    success("they will answer after you")
}

async fn vote(
    rooms: &Rooms,
    room: &RoomId,
    llm: &LlmId,
    arguments: CastVote,
    effects: &mut Effects,
) -> String {
    let Ok(poll_id) = PollId::parse(&arguments.poll_id) else {
        return failure("there is no such poll");
    };
    let Ok(options) =
        arguments.option_ids.iter().map(|id| OptionId::parse(id)).collect::<Result<Vec<_>, _>>()
    else {
        return failure("there is no such option");
    };
    let command = Command::CastVote { poll_id, options, reason: arguments.reason };
    match rooms.submit(room, Actor::Llm(llm.clone()), command).await {
        Ok(_) => {
            effects.voted.push(poll_id);
            success("you have voted")
        }
        Err(rejection) => failure(&rejection.message),
    }
}

async fn active_polls(rooms: &Rooms, room: &RoomId) -> String {
    let look = |room: &crate::domain::room::Room, _: &std::sync::Arc<crate::registry::feed::Feed>| {
        room.open_polls().map(describe).collect::<Vec<Value>>()
    };
    match rooms.read(room, look).await {
        Ok(polls) => json!({"ok": true, "polls": polls}).to_string(),
        Err(rejection) => failure(&rejection.message),
    }
}

fn describe(poll: &Poll) -> Value {
    let options: Vec<Value> = poll
        .options
        .iter()
        .map(|option| {
            let mut value =
                json!({"id": option.id.as_str(), "text": option.text, "description": option.description});
            if let (false, Some(object)) = (poll.results_hidden(), value.as_object_mut()) {
                object.insert("votes".into(), json!(poll.votes_for(&option.id)));
            }
            value
        })
        .collect();
    json!({
        "poll_id": poll.id.to_string(),
        "question": poll.question,
        "options": options,
        "allow_multiple": poll.allow_multiple,
        "asked_by": poll.creator_name,
    })
}
