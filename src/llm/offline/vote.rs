//! How the offline provider votes: by a fixed rule that gives different names different votes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::llm::{Request, ToolCall, Turn};

/// The tool of a vote, as the dispatcher names it.
const VOTE_TOOL: &str = "vote_on_poll";
/// The tool that lists polls.
const LIST_TOOL: &str = "get_active_polls";
/// Words by which a conversation asks for a vote.
const VOTE_WORDS: [&str; 4] = ["vote", "votes", "voting", "poll"];

/// The call that the vote needs next: first the list of the polls if the tool does not say which options belong to
/// the poll, then the vote. `None`: no vote is asked for, it is done, or nothing says what can be voted on.
pub(super) fn next_call(request: &Request, said: &str, since: &[Turn]) -> Option<ToolCall> {
    let tool = request.tools.iter().find(|tool| tool.name == VOTE_TOOL)?;
    let asks = said
        .split(|c: char| !c.is_alphanumeric())
        .any(|word| VOTE_WORDS.iter().any(|known| word.eq_ignore_ascii_case(known)));
    if !asks || has_voted(since) {
        return None;
    }
    // Unique in the conversation, as there is at most one call a turn.
    let id = format!("offline_{}", request.turns.len());
    let polls = choices(tool.parameters.pointer("/properties/poll_id/enum"));
    // The poll that is spoken of, else the newest.
    let poll = polls.iter().find(|poll| said.contains(*poll)).or(polls.last())?;
    let of_schema = choices(tool.parameters.pointer("/properties/option_ids/items/enum"));
    // The options in the schema are those of all polls.
    let options = if polls.len() == 1 && !of_schema.is_empty() {
        of_schema.into_iter().map(str::to_owned).collect()
    } else {
        let listed = listed_options(since, poll);
        let can_list = request.tools.iter().any(|tool| tool.name == LIST_TOOL);
        if listed.is_empty() && can_list && !was_called(since, LIST_TOOL) {
            return Some(ToolCall { id, name: LIST_TOOL.to_owned(), arguments: "{}".to_owned() });
        }
        listed
    };
    let index = rule(&request.display_name, poll).checked_rem(options.len())?;
    let option = options.get(index)?;
    let reason = format!(
        "Salon's offline stand-in votes by a fixed rule, which gave option {} of {}.",
        index + 1,
        options.len()
    );
    let arguments = json!({ "poll_id": poll, "option_ids": [option], "reason": reason });
    Some(ToolCall { id, name: VOTE_TOOL.to_owned(), arguments: arguments.to_string() })
}

/// Whether a vote was cast, successfully or not: a refused one is not repeated.
pub(super) fn has_voted(since: &[Turn]) -> bool {
    was_called(since, VOTE_TOOL)
}

fn was_called(turns: &[Turn], tool: &str) -> bool {
    turns.iter().any(|turn| match turn {
        Turn::ToolCalls { calls, .. } => calls.iter().any(|call| call.name == tool),
        Turn::Text { .. } | Turn::ToolResult { .. } => false,
    })
}

/// The options of `poll` as a tool listed them.
fn listed_options(turns: &[Turn], poll: &str) -> Vec<String> {
    let listed = turns.iter().rev().find_map(|turn| match turn {
        Turn::ToolResult { result, .. } => options_of(&serde_json::from_str(result).ok()?, poll),
        Turn::Text { .. } | Turn::ToolCalls { .. } => None,
    });
    listed.unwrap_or_default()
}

/// Finds the poll anywhere in `value`, so that the list can have any shape. `serde_json` bounds the depth.
fn options_of(value: &Value, poll: &str) -> Option<Vec<String>> {
    match value {
        Value::Array(items) => items.iter().find_map(|item| options_of(item, poll)),
        Value::Object(fields) => {
            if id_of(value, "poll_id") != Some(poll) {
                return fields.values().find_map(|field| options_of(field, poll));
            }
            let options = fields.get("options")?.as_array()?;
            let ids = options.iter().filter_map(|option| id_of(option, "option_id").or(option.as_str()));
            Some(ids.map(str::to_owned).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn id_of<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).or(value.get("id"))?.as_str()
}

fn choices(schema: Option<&Value>) -> Vec<&str> {
    let mut seen = BTreeSet::new();
    let texts = schema.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    texts.filter(|text| seen.insert(*text)).collect()
}

/// A number that is always the same for the same name and poll, and spreads over both.
fn rule(name: &str, poll: &str) -> usize {
    let mut hasher = crc32fast::Hasher::new();
    for part in [name, "\0", poll] {
        hasher.update(part.as_bytes());
    }
    usize::try_from(hasher.finalize()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::llm::Tool;

    fn request(name: &str, polls: &Value, options: &Value) -> Request {
        let parameters = json!({"type": "object", "properties": {
            "poll_id": {"type": "string", "enum": polls},
            "option_ids": {"type": "array", "items": {"type": "string", "enum": options}},
            "reason": {"type": "string"}
        }});
        Request {
            model: String::new(),
            turns: Vec::new(),
            tools: vec![Tool { name: VOTE_TOOL.into(), description: String::new(), parameters }],
            form: None,
            max_tokens: 0,
            display_name: name.into(),
        }
    }

    fn vote(request: &Request, said: &str) -> Option<(String, String)> {
        let call = next_call(request, said, &[])?;
        assert_eq!(call.name, VOTE_TOOL);
        let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
        let text = |pointer: &str| arguments.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        assert!(text("/reason").contains("offline"));
        Some((text("/poll_id"), text("/option_ids/0")))
    }

    #[test]
    fn it_votes_only_when_asked_to_and_able_to() {
        let able = request("Ada", &json!(["p1"]), &json!(["a", "b"]));
        assert!(vote(&able, "Please VOTE now").is_some());
        assert!(vote(&able, "a new poll: tea?").is_some());
        assert_eq!(vote(&able, "my devotee likes pollen"), None);
        assert_eq!(vote(&request("Ada", &json!([]), &json!(["a"])), "vote"), None);
        assert_eq!(vote(&request("Ada", &json!(["p1"]), &json!([])), "vote"), None);
        assert_eq!(vote(&request("Ada", &json!(["p1"]), &json!(null)), "vote"), None);
        let toolless = Request { tools: Vec::new(), ..able };
        assert_eq!(vote(&toolless, "vote"), None);
    }

    #[test]
    fn of_several_polls_it_asks_for_the_list_and_votes_in_the_one_that_is_spoken_of_else_the_newest() {
        let mut request = request("Ada", &json!(["p1", "p2", "p3"]), &json!(["a", "b", "c"]));
        let list = Tool { name: LIST_TOOL.into(), description: String::new(), parameters: json!({}) };
        assert_eq!(vote(&request, "vote"), None, "without a list nobody knows whose the options are");
        request.tools.push(list);
        let call = next_call(&request, "vote", &[]).unwrap();
        assert_eq!((call.name.as_str(), call.arguments.as_str()), (LIST_TOOL, "{}"));
        let polls = json!({"polls": [
            {"poll_id": "p2", "options": [{"option_id": "b"}]},
            {"id": "p3", "options": [{"id": "c"}]},
        ]});
        let mut since = vec![
            Turn::ToolCalls { text: String::new(), calls: vec![call.clone()] },
            Turn::ToolResult { call_id: call.id, result: polls.to_string() },
        ];
        let voted = |said: &str| next_call(&request, said, &since).unwrap().arguments;
        assert!(voted("vote in p2").contains(r#""option_ids":["b"],"poll_id":"p2""#));
        assert!(voted("vote").contains(r#""option_ids":["c"],"poll_id":"p3""#));
        assert_eq!(next_call(&request, "vote in p1", &since), None, "the list is not asked for twice");
        let cast = next_call(&request, "vote", &since).unwrap();
        since.push(Turn::ToolCalls { text: String::new(), calls: vec![cast] });
        assert_eq!(next_call(&request, "vote", &since), None, "one vote is enough");
    }

    #[test]
    fn the_same_name_votes_the_same_and_many_names_do_not() {
        let options: HashSet<String> = (0..30)
            .map(|name| {
                let request = request(&name.to_string(), &json!(["p"]), &json!(["a", "b", "c"]));
                let first = vote(&request, "vote").unwrap();
                assert_eq!(Some(&first), vote(&request, "vote").as_ref());
                first.1
            })
            .collect();
        assert_eq!(options.len(), 3);
    }
}
