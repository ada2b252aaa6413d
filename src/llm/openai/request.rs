//! A conversation as the body of a chat completions request.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::llm::{Request, Speaker, Tool, ToolCall, Turn, form::NamedSchema};

/// Which of two names a server knows for the longest answer. OpenAI's newer models refuse the old name, and most
/// other servers do not know the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `max_completion_tokens`.
    OpenAi,
    /// `max_tokens`.
    Compatible,
}

impl Dialect {
    pub(super) fn of(host: &str) -> Self {
        if host == "api.openai.com" || host.ends_with(".openai.azure.com") {
            Self::OpenAi
        } else {
            Self::Compatible
        }
    }
}

/// The body.
#[derive(Debug, Serialize)]
pub(super) struct Wanted<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    /// Left out when empty: OpenAI refuses an empty list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WantedTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    /// With own types async-openai leaves this to its caller.
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    /// What the operator adds; never one of the names above.
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
}

/// The names that the operator may not add: Salon says them itself, or they would make several answers of one.
pub(super) const OWN_NAMES: [&str; 9] = [
    "model",
    "messages",
    "tools",
    "max_completion_tokens",
    "max_tokens",
    "stream",
    "stream_options",
    "response_format",
    "n",
];

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "json_schema")]
struct ResponseFormat<'a> {
    json_schema: NamedSchema<'a>,
}

#[derive(Debug, Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Debug, Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum Message<'a> {
    System {
        content: &'a str,
    },
    User {
        content: &'a str,
    },
    Assistant {
        /// `null` beside tool calls when there is no text.
        content: Option<&'a str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<MadeCall<'a>>,
    },
    Tool {
        tool_call_id: &'a str,
        content: &'a str,
    },
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "function")]
struct MadeCall<'a> {
    id: &'a str,
    function: MadeFunction<'a>,
}

#[derive(Debug, Serialize)]
struct MadeFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "function")]
struct WantedTool<'a> {
    function: WantedFunction<'a>,
}

#[derive(Debug, Serialize)]
struct WantedFunction<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a Value,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(
        request: &'a Request,
        model: &'a str,
        dialect: Dialect,
        want_usage: bool,
        extra: &'a Map<String, Value>,
    ) -> Self {
        // Zero would be refused; it means that the caller sets no limit.
        let longest = (request.max_tokens > 0).then_some(request.max_tokens);
        Self {
            model,
            messages: request.turns.iter().map(message).collect(),
            tools: request.tools.iter().map(tool).collect(),
            max_completion_tokens: longest.filter(|_| dialect == Dialect::OpenAi),
            max_tokens: longest.filter(|_| dialect == Dialect::Compatible),
            stream: true,
            stream_options: want_usage.then_some(StreamOptions { include_usage: true }),
            response_format: request.form.as_ref().map(|form| ResponseFormat { json_schema: form.into() }),
            extra,
        }
    }
}

fn message(turn: &Turn) -> Message<'_> {
    match turn {
        Turn::Text { speaker: Speaker::System, text } => Message::System { content: text },
        Turn::Text { speaker: Speaker::User, text } => Message::User { content: text },
        Turn::Text { speaker: Speaker::Assistant, text } => {
            Message::Assistant { content: Some(text), tool_calls: Vec::new() }
        }
        Turn::ToolCalls { text, calls } => Message::Assistant {
            content: (!text.is_empty()).then_some(text),
            tool_calls: calls.iter().map(call).collect(),
        },
        Turn::ToolResult { call_id, result } => Message::Tool { tool_call_id: call_id, content: result },
    }
}

fn call(call: &ToolCall) -> MadeCall<'_> {
    MadeCall { id: &call.id, function: MadeFunction { name: &call.name, arguments: &call.arguments } }
}

fn tool(tool: &Tool) -> WantedTool<'_> {
    WantedTool {
        function: WantedFunction {
            name: &tool.name,
            description: &tool.description,
            parameters: &tool.parameters,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::llm::AnswerForm;

    fn text(speaker: Speaker, text: &str) -> Turn {
        Turn::Text { speaker, text: text.to_owned() }
    }

    #[test]
    fn a_whole_conversation_becomes_the_body_that_servers_know() {
        let call = ToolCall { id: "c1".into(), name: "opt_out".into(), arguments: "{}".into() };
        let request = Request {
            model: String::new(),
            turns: vec![
                text(Speaker::System, "be kind"),
                text(Speaker::User, "hi"),
                text(Speaker::Assistant, "hello"),
                Turn::ToolCalls { text: String::new(), calls: vec![call] },
                Turn::ToolResult { call_id: "c1".into(), result: "ok".into() },
            ],
            tools: vec![Tool {
                name: "opt_out".into(),
                description: "say nothing".into(),
                parameters: json!({"type": "object"}),
            }],
            form: None,
            max_tokens: 9,
            display_name: "Ada".into(),
        };
        let body =
            serde_json::to_value(Wanted::new(&request, "m", Dialect::Compatible, true, &Map::new())).unwrap();
        assert_eq!(
            body,
            json!({
                "model": "m",
                "messages": [
                    {"role": "system", "content": "be kind"},
                    {"role": "user", "content": "hi"},
                    {"role": "assistant", "content": "hello"},
                    {"role": "assistant", "content": null, "tool_calls": [
                        {"id": "c1", "type": "function", "function": {"name": "opt_out", "arguments": "{}"}}
                    ]},
                    {"role": "tool", "tool_call_id": "c1", "content": "ok"}
                ],
                "tools": [{"type": "function", "function":
                    {"name": "opt_out", "description": "say nothing", "parameters": {"type": "object"}}}],
                "max_tokens": 9,
                "stream": true,
                "stream_options": {"include_usage": true}
            })
        );
    }

    #[test]
    fn a_form_is_asked_for_and_nothing_of_ours_may_be_added() {
        let form = AnswerForm { name: "room".into(), schema: json!({"type": "object"}) };
        let request = Request {
            model: String::new(),
            turns: vec![text(Speaker::User, "hi")],
            tools: vec![Tool { name: "t".into(), description: String::new(), parameters: json!({}) }],
            form: Some(form),
            max_tokens: 1,
            display_name: String::new(),
        };
        let mut names = vec!["n".to_owned()];
        for dialect in [Dialect::Compatible, Dialect::OpenAi] {
            let body = serde_json::to_value(Wanted::new(&request, "m", dialect, true, &Map::new())).unwrap();
            assert_eq!(
                body["response_format"],
                json!({"type": "json_schema", "json_schema":
                    {"name": "room", "schema": {"type": "object"}, "strict": false}})
            );
            names.extend(body.as_object().unwrap().keys().cloned());
        }
        names.sort();
        names.dedup();
        let mut own = OWN_NAMES.map(str::to_owned);
        own.sort();
        assert_eq!(names, own, "whatever is sent is on the list");
    }

    #[test]
    fn openai_itself_gets_the_new_name_of_the_longest_answer() {
        let request = Request {
            model: String::new(),
            turns: vec![],
            tools: vec![],
            form: None,
            max_tokens: 7,
            display_name: String::new(),
        };
        let extra = Map::from_iter([("top_k".to_owned(), json!(3))]);
        let wanted = Wanted::new(&request, "m", Dialect::of("api.openai.com"), false, &extra);
        let body = serde_json::to_value(wanted).unwrap();
        assert_eq!(
            body,
            json!({"model": "m", "messages": [], "max_completion_tokens": 7, "stream": true, "top_k": 3})
        );
        assert_eq!(Dialect::of("localhost"), Dialect::Compatible);
    }
}
