//! A conversation as the body of a chat completions request.

use serde::Serialize;
use serde_json::Value;

use crate::llm::{Request, Speaker, Tool, ToolCall, Turn};

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
    pub(super) fn new(request: &'a Request, model: &'a str, dialect: Dialect, want_usage: bool) -> Self {
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
        let body = serde_json::to_value(Wanted::new(&request, "m", Dialect::Compatible, true)).unwrap();
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
    fn openai_itself_gets_the_new_name_of_the_longest_answer() {
        let request = Request {
            model: String::new(),
            turns: vec![],
            tools: vec![],
            form: None,
            max_tokens: 7,
            display_name: String::new(),
        };
        let body =
            serde_json::to_value(Wanted::new(&request, "m", Dialect::of("api.openai.com"), false)).unwrap();
        assert_eq!(body, json!({"model": "m", "messages": [], "max_completion_tokens": 7, "stream": true}));
        assert_eq!(Dialect::of("localhost"), Dialect::Compatible);
    }
}
