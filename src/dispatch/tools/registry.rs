//! The tools that are built in, and the form in which every tool is offered.
//!
//! Each built-in tool is one [`BuiltIn`] in the file of what it is about: its name, when a run is offered it and with
//! which schema, and what it does. Arguments have passed the schema before a tool sees them.

use std::{fmt, sync::Arc};

use super::{
    call::{BuiltIn, CarryOut, Situation},
    effects::Effects,
    history, polls, talk, turns,
};
use crate::{dispatch::context::Scene, ids::PollId, json_schema::Schema, llm::Tool, mcp::ToolInfo};

/// All of them, in the order in which models are shown them.
const BUILT_IN: [&BuiltIn; 10] = [
    &polls::VOTE,
    &turns::CHOOSE,
    &turns::END,
    &turns::AGREE,
    &talk::OPT_OUT,
    &talk::MENTION,
    &polls::ACTIVE,
    &polls::RESULTS,
    &polls::CREATE,
    &history::READ,
];

/// A tool as one run is offered it.
#[derive(Debug, Clone)]
pub(in crate::dispatch) struct Offered {
    /// As the model is shown it.
    pub(super) tool: Tool,
    pub(super) schema: Schema,
    pub(super) kind: Kind,
}

/// Who carries out its calls.
#[derive(Clone)]
pub(super) enum Kind {
    /// This server.
    BuiltIn(CarryOut),
    /// Another one.
    External(Arc<ToolInfo>),
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(_) => f.write_str("BuiltIn"),
            Self::External(tool) => f.debug_tuple("External").field(&tool.name).finish(),
        }
    }
}

/// The built-in tools of a run. For a poll that is closed there are none.
pub(in crate::dispatch) fn built_in(scene: &Scene, poll_id: Option<PollId>, has_asker: bool) -> Vec<Offered> {
    let poll = poll_id.and_then(|id| scene.open_polls.iter().find(|poll| poll.id == id));
    if poll_id.is_some() && poll.is_none() {
        return Vec::new();
    }
    let situation = Situation { scene, poll, has_asker };
    BUILT_IN.iter().filter_map(|tool| offer(tool, &situation)).collect()
}

fn offer(tool: &BuiltIn, situation: &Situation<'_>) -> Option<Offered> {
    let (description, schema) = (tool.offer)(situation)?;
    // Those of this server are right: the tests below compile each.
    let schema = Schema::compile(schema)
        .inspect_err(|error| tracing::error!(tool = tool.name, %error, "a built-in tool is left out"))
        .ok()?;
    let parameters = schema.value().clone();
    let shown = Tool { name: tool.name.to_owned(), description, parameters };
    Some(Offered { tool: shown, schema, kind: Kind::BuiltIn(tool.carry_out) })
}

/// What the model is shown of them now: what it may not call any more is left out.
pub(in crate::dispatch) fn shown(offered: &[Offered], effects: &Effects) -> Vec<Tool> {
    let is_open = |offered: &&Offered| match &offered.kind {
        Kind::BuiltIn(_) => true,
        Kind::External(tool) => !tool.policy.trusted_only || effects.outside.is_empty(),
    };
    offered.iter().filter(is_open).map(|offered| offered.tool.clone()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::dispatch::context::Part;
    use crate::domain::autopilot::Kind as TurnKind;
    use crate::{
        clock::Timestamp,
        domain::{
            llm::{ChatStyle, LlmConfig},
            message::Author,
            poll::{Poll, PollOption},
        },
        ids::{LlmId, MessageId, OptionId, UserId},
    };

    pub(in crate::dispatch::tools) fn llm(id: &str) -> LlmConfig {
        LlmConfig {
            id: LlmId::parse(id).unwrap(),
            model: String::new(),
            persona: String::new(),
            display_name: id.to_uppercase(),
            title: String::new(),
            chat_style: ChatStyle::Unspecified,
            avatar: String::new(),
            allowed_tools: Vec::new(),
            fallback_models: Vec::new(),
        }
    }

    pub(in crate::dispatch::tools) fn poll(n: u128) -> Poll {
        let option = |index| PollOption {
            id: OptionId::at(index),
            text: format!("option {index}"),
            description: String::new(),
        };
        Poll {
            id: PollId(uuid::Uuid::from_u128(n)),
            message_id: MessageId(uuid::Uuid::from_u128(n + 1000)),
            creator: Author::User(UserId::parse("ann").unwrap()),
            creator_name: "Ann".into(),
            question: "Which?".into(),
            options: (0..2).map(option).collect(),
            allow_multiple: false,
            anonymous: false,
            mandatory: false,
            hide_results: false,
            created_at: Timestamp(0),
            closes_at: None,
            closed_at: None,
            ballots: Default::default(),
            quorum: 0,
            abstentions: Vec::new(),
            asked_by: None,
        }
    }

    pub(in crate::dispatch::tools) fn scene(others: &[&str], open_polls: Vec<Poll>) -> Scene {
        Scene {
            llm: llm("ada"),
            others: others.iter().map(|id| llm(id)).collect(),
            open_polls,
            talk: crate::dispatch::context::Talk::default(),
            model: None,
            outside: Vec::new(),
            part: None,
            unquoted: Vec::new(),
            names: Arc::default(),
        }
    }

    fn names(offered: &[Offered]) -> Vec<&str> {
        offered.iter().map(|offered| offered.tool.name.as_str()).collect()
    }

    #[test]
    fn a_run_is_offered_what_its_situation_allows() {
        let alone = scene(&[], Vec::new());
        assert_eq!(names(&built_in(&alone, None, false)), ["opt_out"]);
        assert_eq!(
            names(&built_in(&alone, None, true)),
            ["opt_out", "get_poll_results", "create_poll", "read_history"]
        );
        let all = scene(&["bob"], vec![poll(1)]);
        let turn = ["choose_speaker", "end_discussion", "agree"];
        let usual: Vec<_> =
            BUILT_IN.iter().map(|tool| tool.name).filter(|name| !turn.contains(name)).collect();
        assert_eq!(names(&built_in(&all, None, true)), usual);
    }

    #[test]
    fn a_turn_in_an_autopilot_brings_its_tools_and_calls_nobody() {
        let part = |kind| Part {
            kind,
            choices: vec![(llm("bob").id, "BOB".into())],
            text: String::new(),
            outside: Vec::new(),
        };
        let of =
            |kind| built_in(&Scene { part: Some(part(kind)), ..scene(&["bob"], Vec::new()) }, None, false);
        assert_eq!(names(&of(TurnKind::Choose)), ["choose_speaker", "end_discussion", "opt_out"]);
        assert!(of(TurnKind::Choose)[0].tool.description.contains("\"BOB\""));
        assert_eq!(names(&of(TurnKind::Agree)), ["agree", "opt_out"]);
        assert_eq!(names(&of(TurnKind::Improve)), ["opt_out"]);
    }

    #[test]
    fn who_is_asked_about_a_poll_can_answer_it_and_nothing_else() {
        let mandatory = Poll { mandatory: true, ..poll(2) };
        let scene = scene(&["bob"], vec![poll(1), mandatory]);
        let id = |n| Some(PollId(uuid::Uuid::from_u128(n)));
        assert_eq!(names(&built_in(&scene, id(1), true)), ["vote_on_poll", "opt_out"]);
        let only = built_in(&scene, id(2), true);
        assert_eq!(names(&only), ["vote_on_poll"]);
        let ids = &only[0].tool.parameters["properties"]["poll_id"]["enum"];
        assert_eq!(*ids, serde_json::json!([id(2).unwrap().to_string()]));
        assert!(built_in(&scene, id(3), true).is_empty(), "it is closed");
    }

    #[test]
    fn names_are_unlike_those_from_outside() {
        assert!(BUILT_IN.iter().all(|tool| !tool.name.contains("__")));
    }
}
