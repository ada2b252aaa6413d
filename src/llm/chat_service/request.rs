//! A conversation as the Chat Service's request.
//!
//! The contract has nothing that ties a tool's result to its call, and the original's service passes on nothing but
//! roles and texts. So both are told in words: a model reads them, and no server behind the service can refuse them.

use std::collections::HashMap;

use crate::{
    llm::{Request, Speaker, Tool, Turn, form::NamedSchema},
    wire::pb::{
        api::{ChatRequest, ResponseFormat, ToolDefinition},
        shared::{Content, Message, MessageRole, content},
    },
};

/// What is sent. A model that nobody names is left to the service.
pub(super) fn wanted(request: &Request, default_model: &str) -> ChatRequest {
    let model = if request.model.is_empty() { default_model } else { &request.model };
    ChatRequest {
        messages: messages(&request.turns),
        models: Some(model).filter(|model| !model.is_empty()).map(str::to_owned).into_iter().collect(),
        max_tokens: Some(request.max_tokens).filter(|max| *max > 0),
        tools: request.tools.iter().map(definition).collect(),
        response_format: request.form.as_ref().map(|form| ResponseFormat {
            r#type: "json_schema".into(),
            json_schema: serde_json::to_string(&NamedSchema::from(form)).ok(),
        }),
    }
}

fn messages(turns: &[Turn]) -> Vec<Message> {
    let mut called = HashMap::new();
    let mut messages = Vec::with_capacity(turns.len());
    for turn in turns {
        match turn {
            Turn::Text { speaker, text } => messages.push(message(role(*speaker), text.clone())),
            Turn::ToolCalls { text, calls } => {
                called.extend(calls.iter().map(|call| (call.id.as_str(), call)));
                // The service leaves out what has no text.
                if !text.is_empty() {
                    messages.push(message(MessageRole::Assistant, text.clone()));
                }
            }
            Turn::ToolResult { call_id, result } => {
                let call = called.get(call_id.as_str());
                let (name, arguments) = call.map_or(("a tool", ""), |call| (&call.name, &call.arguments));
                let text = format!("You called {name}({arguments}). It returned: {result}");
                messages.push(message(MessageRole::User, text));
            }
        }
    }
    messages
}

fn role(speaker: Speaker) -> MessageRole {
    match speaker {
        Speaker::System => MessageRole::System,
        Speaker::User => MessageRole::User,
        Speaker::Assistant => MessageRole::Assistant,
    }
}

fn message(role: MessageRole, text: String) -> Message {
    let contents = vec![Content { content: Some(content::Content::Text(text)) }];
    Message { role: role.into(), contents, tool_calls: Vec::new() }
}

fn definition(tool: &Tool) -> ToolDefinition {
    ToolDefinition {
        name: tool.name.clone(),
        description: tool.description.clone(),
        parameters_json: tool.parameters.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::llm::{AnswerForm, ToolCall};

    fn text(speaker: Speaker, text: &str) -> Turn {
        Turn::Text { speaker, text: text.to_owned() }
    }

    fn request() -> Request {
        let call = ToolCall { id: "c1".into(), name: "get_poll".into(), arguments: r#"{"id":1}"#.into() };
        Request {
            model: String::new(),
            turns: vec![
                text(Speaker::System, "be kind"),
                text(Speaker::User, "hi"),
                text(Speaker::Assistant, "hello"),
                Turn::ToolCalls { text: String::new(), calls: vec![call.clone()] },
                Turn::ToolResult { call_id: "c1".into(), result: "tea".into() },
                Turn::ToolCalls { text: "So:".into(), calls: vec![ToolCall { id: "c2".into(), ..call }] },
                Turn::ToolResult { call_id: "unknown".into(), result: "coffee".into() },
            ],
            tools: vec![Tool {
                name: "get_poll".into(),
                description: "gets".into(),
                parameters: json!({"type": "object"}),
            }],
            form: Some(AnswerForm { name: "room".into(), schema: json!({"type": "object"}) }),
            max_tokens: 0,
            display_name: "Ada".into(),
        }
    }

    #[test]
    fn a_whole_conversation_is_told_in_roles_and_texts() {
        let wanted = wanted(&request(), "");
        let told: Vec<(MessageRole, &str)> = wanted
            .messages
            .iter()
            .map(|message| {
                let Some(content::Content::Text(text)) = &message.contents[0].content else { panic!() };
                (message.role(), text.as_str())
            })
            .collect();
        assert_eq!(
            told,
            [
                (MessageRole::System, "be kind"),
                (MessageRole::User, "hi"),
                (MessageRole::Assistant, "hello"),
                (MessageRole::User, r#"You called get_poll({"id":1}). It returned: tea"#),
                (MessageRole::Assistant, "So:"),
                (MessageRole::User, "You called a tool(). It returned: coffee"),
            ]
        );
        assert_eq!((wanted.models.len(), wanted.max_tokens), (0, None), "left to the service");
        assert_eq!(wanted.tools[0].parameters_json, r#"{"type":"object"}"#);
        let form = wanted.response_format.unwrap();
        let schema: Value = serde_json::from_str(form.json_schema()).unwrap();
        assert_eq!(form.r#type, "json_schema");
        assert_eq!(schema, json!({"name": "room", "schema": {"type": "object"}, "strict": false}));
    }

    #[test]
    fn the_llm_s_model_comes_before_the_default() {
        let named = Request { model: "big".into(), max_tokens: 7, ..request() };
        assert_eq!(wanted(&named, "small").models, ["big"]);
        assert_eq!(wanted(&named, "small").max_tokens, Some(7));
        assert_eq!(wanted(&request(), "small").models, ["small"]);
    }
}
