//! A request as a model takes it that cannot call tools: what was called and returned is told as text.

use std::collections::HashMap;

use crate::llm::{Request, Speaker, Turn};

/// Takes the tools away and makes texts of the turns about them. Results are never left without their calls.
pub(super) fn without_tools(request: &mut Request) {
    request.tools.clear();
    let mut called = HashMap::new();
    for turn in &mut request.turns {
        let told = match turn {
            Turn::Text { .. } => continue,
            Turn::ToolCalls { text, calls } => {
                let mut lines: Vec<String> = Vec::new();
                lines.extend((!text.is_empty()).then(|| text.clone()));
                for call in calls {
                    lines.push(format!("[called the tool {} with {}]", call.name, call.arguments));
                    called.insert(call.id.clone(), call.name.clone());
                }
                Turn::Text { speaker: Speaker::Assistant, text: lines.join("\n") }
            }
            Turn::ToolResult { call_id, result } => {
                let name = called.get(call_id).map_or("unknown", String::as_str);
                Turn::Text {
                    speaker: Speaker::User,
                    text: format!("[the tool {name} returned]\n{result}\n[end of what the tool returned]"),
                }
            }
        };
        *turn = told;
    }
}
