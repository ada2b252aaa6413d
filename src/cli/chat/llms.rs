//! What LLMs do besides answering, one line each: calls of tools, answers made anew, talks among themselves. Pure.

use crate::{
    cli::{
        chat::{direct::mode_name, view::View},
        text,
    },
    wire::pb::room::v1::{
        ApprovalDecided, ApprovalDecision, Autopilot, AutopilotStatus, LlmReceipt, LlmToolCall, ReceiptState,
        RegenerateRequested, ToolApproval, server_event::Payload,
    },
};

/// What to tell; `None` when there is nothing to tell, or the event is about something else. `lively`: to somebody who
/// sits there, who is told of what is under way too.
pub fn told(view: &View, payload: &Payload, lively: bool) -> Option<String> {
    match payload {
        Payload::ApprovalRequested(requested) => waiting(view, requested.approval.as_ref()?),
        Payload::ApprovalDecided(decision) => Some(decided(view, decision)),
        Payload::RegenerateRequested(requested) => Some(regenerate(view, requested)),
        Payload::MessageSuperseded(superseded) => {
            let (old, new) = (number(view, &superseded.message_id), number(view, &superseded.by_message_id));
            Some(format!("{new} takes the place of {old}"))
        }
        Payload::ContextSummarised(summarised) => {
            let up_to = summarised.summary.as_ref()?.up_to_seq;
            Some(format!("what was said up to #{up_to} is summarised for the LLMs"))
        }
        Payload::VoteAbstained(abstained) => {
            let abstention = abstained.abstention.as_ref()?;
            let name = match abstention.llm_name.as_str() {
                "" => view.name(&abstention.llm_id),
                name => name,
            };
            let poll = view.poll_number(&abstained.poll_id).map_or("a poll".into(), |n| format!("poll {n}"));
            Some(format!("{} did not vote in {poll}{}", text::line(name), behind(": ", &abstention.reason)))
        }
        Payload::LlmToolCall(call) if lively => tool_call(view, call),
        Payload::LlmReceipt(receipt) if lively => waits(view, receipt),
        _ => None,
    }
}

/// A call that waits for a person.
pub fn waiting(view: &View, approval: &ToolApproval) -> Option<String> {
    let number = view.approvals.number(&approval.approval_id)?;
    let asked_by = match approval.asked_by_id.as_str() {
        "" => String::new(),
        id => format!(" for {}", text::line(view.name(id))),
    };
    Some(format!(
        "{} wants to call {} with {}{asked_by}, call {number}{}\n  let it with: /approve {number} - or not: /deny {number} [reason]",
        text::line(view.name(&approval.llm_id)),
        text::line(&approval.tool),
        text::line(&approval.arguments),
        approval.expires_at.as_ref().map(|at| format!(", until {}", clock(at.seconds))).unwrap_or_default(),
    ))
}

fn decided(view: &View, decided: &ApprovalDecided) -> String {
    let call = view.approvals.number(&decided.approval_id).map_or("a call".into(), |number| {
        let tool = view.approvals.get(number).map(|known| text::line(&known.tool)).unwrap_or_default();
        format!("call {number}, {tool}")
    });
    let who = text::line(view.name(&decided.by_id));
    let reason = behind(": ", &decided.reason);
    match decided.decision() {
        ApprovalDecision::Approved => format!("{who} has allowed {call}{reason}"),
        ApprovalDecision::Denied => format!("{who} has not allowed {call}{reason}"),
        ApprovalDecision::Expired => format!("nobody has decided {call} in time"),
        ApprovalDecision::Cancelled | ApprovalDecision::Unspecified => {
            format!("{call} does not wait any more{reason}")
        }
    }
}

fn regenerate(view: &View, requested: &RegenerateRequested) -> String {
    let (who, old) = (text::line(view.name(&requested.by_id)), number(view, &requested.message_id));
    format!("{who} wants another answer than {old}{}", behind(" by ", &requested.model))
}

fn tool_call(view: &View, call: &LlmToolCall) -> Option<String> {
    let (name, tool) = (text::line(view.name(&call.llm_id)), text::line(&call.tool));
    match (call.ended, call.failed) {
        (false, _) => Some(format!("{name} calls {tool}")),
        (true, true) => Some(format!("{tool} has failed for {name}")),
        (true, false) => None,
    }
}

/// A question that waits behind others; what is taken up at once is seen soon enough.
fn waits(view: &View, receipt: &LlmReceipt) -> Option<String> {
    let waits = receipt.state() == ReceiptState::Delivered && receipt.waiting > 0;
    let name = text::line(view.name(&receipt.llm_id));
    let others = if receipt.waiting == 1 { "answer" } else { "answers" };
    waits.then(|| format!("{name} has {} {others} to give before yours", receipt.waiting))
}

/// What has changed about the room's autopilot since `last`.
pub fn autopilot(view: &View, last: Option<&Autopilot>, now: &Autopilot) -> Option<String> {
    let last = last.filter(|last| last.autopilot_id == now.autopilot_id);
    let reason = behind(": ", &now.reason);
    match (last, now.status()) {
        (Some(last), AutopilotStatus::Running) if last.status() == AutopilotStatus::Paused => {
            Some("the LLMs talk on".to_owned())
        }
        (Some(last), AutopilotStatus::Running) => {
            let chosen = !now.chosen_llm_id.is_empty() && last.chosen_llm_id != now.chosen_llm_id;
            let told = (&last.chosen_llm_id, &last.instruction) != (&now.chosen_llm_id, &now.instruction);
            if chosen || (told && !now.chosen_llm_id.is_empty()) {
                let (by, next) = (view.name(&now.moderator_llm_id), view.name(&now.chosen_llm_id));
                let what = behind(": ", &now.instruction);
                return Some(format!("{} asks {}{what}", text::line(by), text::line(next)));
            }
            // The first of them has proposed it; a new proposal begins anew.
            let is_same =
                !last.agreed_llm_ids.is_empty() && now.agreed_llm_ids.starts_with(&last.agreed_llm_ids);
            let agreed = now.agreed_llm_ids.iter().skip(last.agreed_llm_ids.len());
            let agreed: Vec<String> = agreed.map(|id| text::line(view.name(id))).collect();
            (is_same && !agreed.is_empty()).then(|| format!("agreed: {}", agreed.join(", ")))
        }
        (None, AutopilotStatus::Running | AutopilotStatus::Unspecified) => Some(running(view, now)),
        // The turn that was being taken when it was paused has ended.
        (Some(last), AutopilotStatus::Paused) if (last.status, &last.reason) == (now.status, &now.reason) => {
            None
        }
        (_, AutopilotStatus::Paused) => {
            Some(format!("the LLMs wait{reason}; /autopilot resume lets them talk on"))
        }
        (_, AutopilotStatus::Ended) => {
            let turns = if now.turns == 1 { "turn" } else { "turns" };
            Some(format!("the LLMs are done after {} {turns}{reason}", now.turns))
        }
        (Some(_), AutopilotStatus::Unspecified) => None,
    }
}

/// An autopilot that is there, for whoever comes.
pub fn running(view: &View, now: &Autopilot) -> String {
    let who: Vec<String> = now.llm_ids.iter().map(|id| text::line(view.name(id))).collect();
    let moderator = match now.moderator_llm_id.as_str() {
        "" => String::new(),
        id => format!(", {} chooses who speaks", text::line(view.name(id))),
    };
    format!(
        "the LLMs talk about \"{}\" ({}: {}{moderator}; {} of {} turns); /autopilot stop ends it",
        text::excerpt(&now.topic, 80),
        mode_name(now.mode()),
        who.join(", "),
        now.turns,
        now.max_turns,
    )
}

fn number(view: &View, id: &str) -> String {
    view.message_by_id(id).map_or("an older answer".into(), |known| format!("#{}", known.seq))
}

fn behind(mark: &str, words: &str) -> String {
    let words = text::line(words);
    if words.is_empty() { words } else { format!("{mark}{words}") }
}

/// Hours and minutes, in UTC.
pub fn clock(seconds: i64) -> String {
    let minutes = seconds.div_euclid(60).rem_euclid(24 * 60);
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}
