//! How the LLMs of a room behave, as messages: settings, approvals, summaries, autopilots. In both directions.

use crate::{
    domain::{
        approval::{Approval, Decided},
        autopilot::{Autopilot, AutopilotInput, Control, Mode, OnHuman, OnRestart, Status},
        command::Command,
        event::Event,
        rejection::Rejection,
        settings::{ResponsePolicy, Settings, SettingsPatch, TurnPolicy},
        summary::Summary,
    },
    ids::{ApprovalId, IdError, LlmId, UserId},
    wire::{
        basic::{Corrupt, id, optional_id, time, timestamp},
        pb::room::v1::{self as pb, server_event::Payload},
        rights,
    },
};

/// Settings as they are shown.
pub(super) fn settings_to_pb(settings: &Settings) -> pb::RoomSettings {
    let turns = match settings.turns {
        TurnPolicy::Parallel => pb::TurnPolicy::Parallel,
        TurnPolicy::Sequential => pb::TurnPolicy::Sequential,
        TurnPolicy::LatestWins => pb::TurnPolicy::LatestWins,
    };
    let responses = match settings.responses {
        ResponsePolicy::AgentChain => pb::ResponsePolicy::AgentChain,
        ResponsePolicy::AddressedOnly => pb::ResponsePolicy::AddressedOnly,
    };
    let shown = pb::RoomSettings {
        turn_policy: turns.into(),
        response_policy: responses.into(),
        allowed_tools: settings.allowed_tools.clone(),
        ..Default::default()
    };
    rights::settings_to_pb(settings, shown)
}

/// What of settings a message changes; policies that are unspecified, or not known to this server, stay as they are.
fn patch_from_pb(settings: &pb::RoomSettings) -> SettingsPatch {
    let patch = SettingsPatch {
        turns: match settings.turn_policy() {
            pb::TurnPolicy::Unspecified => None,
            pb::TurnPolicy::Parallel => Some(TurnPolicy::Parallel),
            pb::TurnPolicy::Sequential => Some(TurnPolicy::Sequential),
            pb::TurnPolicy::LatestWins => Some(TurnPolicy::LatestWins),
        },
        responses: match settings.response_policy() {
            pb::ResponsePolicy::Unspecified => None,
            pb::ResponsePolicy::AgentChain => Some(ResponsePolicy::AgentChain),
            pb::ResponsePolicy::AddressedOnly => Some(ResponsePolicy::AddressedOnly),
        },
        allowed_tools: if settings.allowed_tools.is_empty() {
            None
        } else {
            Some(settings.allowed_tools.clone())
        },
        ..SettingsPatch::default()
    };
    rights::patch_from_pb(settings, patch)
}

/// The settings in a message; `None`: those a room has when nobody says otherwise.
pub(super) fn settings_from_pb(settings: Option<&pb::RoomSettings>) -> Settings {
    settings.map_or_else(Settings::default, |settings| Settings::default().patched(patch_from_pb(settings)))
}

/// What a change of a room says about its settings.
pub(super) fn read_settings(
    settings: Option<&pb::RoomSettings>,
    allowed_tools: Option<pb::StringList>,
) -> Result<SettingsPatch, Rejection> {
    settings.map_or(Ok(()), rights::check)?;
    let patch = settings.map(patch_from_pb).unwrap_or_default();
    match (patch.allowed_tools.is_some(), allowed_tools) {
        (true, Some(_)) => Err(Rejection::field(
            "update_room.allowed_tools",
            "must not be set together with settings.allowed_tools",
        )),
        (false, Some(list)) => Ok(SettingsPatch { allowed_tools: Some(list.values), ..patch }),
        (_, None) => Ok(patch),
    }
}

/// A call that waits for a decision.
pub(super) fn approval_to_pb(approval: &Approval) -> pb::ToolApproval {
    pb::ToolApproval {
        approval_id: approval.id.to_string(),
        message_id: approval.message_id.to_string(),
        llm_id: approval.llm_id.to_string(),
        tool: approval.tool.clone(),
        arguments: approval.arguments.clone(),
        asked_by_id: approval.asked_by.as_ref().map(ToString::to_string).unwrap_or_default(),
        expires_at: time(approval.expires_at),
    }
}

/// A call begins to wait.
pub(super) fn approval_requested(approval: &Approval) -> Payload {
    Payload::ApprovalRequested(pb::ApprovalRequested { approval: Some(approval_to_pb(approval)) })
}

/// A call was decided.
pub(super) fn approval_decided(
    id: ApprovalId,
    decided: Decided,
    by: Option<&UserId>,
    reason: &str,
) -> Payload {
    Payload::ApprovalDecided(pb::ApprovalDecided {
        approval_id: id.to_string(),
        decision: decided_to_pb(decided),
        by_id: by.map(ToString::to_string).unwrap_or_default(),
        reason: reason.to_owned(),
    })
}

/// Messages were summarised.
pub(super) fn summarised(summary: &Summary) -> Payload {
    Payload::ContextSummarised(pb::ContextSummarised { summary: Some(summary_to_pb(summary)) })
}

/// An autopilot began, changed or ended.
pub(super) fn autopilot_changed(autopilot: &Autopilot) -> Payload {
    Payload::AutopilotChanged(pb::AutopilotChanged { autopilot: Some(autopilot_to_pb(autopilot)) })
}

/// Reads what the four functions above write.
pub(super) fn event_from_pb(payload: Payload) -> Result<Event, Corrupt> {
    Ok(match payload {
        Payload::ApprovalRequested(requested) => {
            let approval = requested.approval.ok_or_else(|| Corrupt::new("approval", "it is empty"))?;
            Event::ApprovalRequested(approval_from_pb(approval)?)
        }
        Payload::ApprovalDecided(decided) => Event::ApprovalDecided {
            id: id("approval id", &decided.approval_id)?,
            decided: decided_from_pb(decided.decision)?,
            by: optional_id("user id", &decided.by_id)?,
            reason: decided.reason,
        },
        Payload::ContextSummarised(summarised) => {
            let summary = summarised.summary.ok_or_else(|| Corrupt::new("summary", "it is empty"))?;
            Event::ContextSummarised(summary_from_pb(summary))
        }
        Payload::AutopilotChanged(changed) => {
            let autopilot = changed.autopilot.ok_or_else(|| Corrupt::new("autopilot", "it is empty"))?;
            Event::AutopilotChanged(autopilot_from_pb(autopilot)?)
        }
        // Transient events, and those that are read elsewhere.
        _ => return Err(Corrupt::new("event", "it is of a kind that is never stored")),
    })
}

pub(super) fn approval_from_pb(approval: pb::ToolApproval) -> Result<Approval, Corrupt> {
    Ok(Approval {
        id: id("approval id", &approval.approval_id)?,
        message_id: id("message id", &approval.message_id)?,
        llm_id: id("LLM id", &approval.llm_id)?,
        tool: approval.tool,
        arguments: approval.arguments,
        asked_by: optional_id("user id", &approval.asked_by_id)?,
        expires_at: timestamp(approval.expires_at.as_ref()),
    })
}

fn decided_to_pb(decided: Decided) -> i32 {
    let decision = match decided {
        Decided::Approved => pb::ApprovalDecision::Approved,
        Decided::Denied => pb::ApprovalDecision::Denied,
        Decided::Expired => pb::ApprovalDecision::Expired,
        Decided::Cancelled => pb::ApprovalDecision::Cancelled,
    };
    decision.into()
}

fn decided_from_pb(decision: i32) -> Result<Decided, Corrupt> {
    match pb::ApprovalDecision::try_from(decision) {
        Ok(pb::ApprovalDecision::Approved) => Ok(Decided::Approved),
        Ok(pb::ApprovalDecision::Denied) => Ok(Decided::Denied),
        Ok(pb::ApprovalDecision::Expired) => Ok(Decided::Expired),
        Ok(pb::ApprovalDecision::Cancelled) => Ok(Decided::Cancelled),
        Ok(pb::ApprovalDecision::Unspecified) | Err(_) => Err(Corrupt::new("approval", "no decision")),
    }
}

pub(super) fn summary_to_pb(summary: &Summary) -> pb::ContextSummary {
    pb::ContextSummary {
        text: summary.text.clone(),
        up_to_seq: summary.up_to.0,
        model: summary.model.clone(),
        outside_sources: summary.outside.clone(),
    }
}

pub(super) fn summary_from_pb(summary: pb::ContextSummary) -> Summary {
    Summary {
        text: summary.text,
        up_to: crate::ids::Seq(summary.up_to_seq),
        model: summary.model,
        outside: summary.outside_sources,
    }
}

/// An autopilot as it stands.
pub(super) fn autopilot_to_pb(autopilot: &Autopilot) -> pb::Autopilot {
    let mode = match autopilot.mode {
        Mode::RoundRobin => pb::AutopilotMode::RoundRobin,
        Mode::Moderator => pb::AutopilotMode::Moderator,
        Mode::Debate => pb::AutopilotMode::Debate,
        Mode::Relay => pb::AutopilotMode::Relay,
        Mode::Consensus => pb::AutopilotMode::Consensus,
    };
    let status = match autopilot.status {
        Status::Running => pb::AutopilotStatus::Running,
        Status::Paused => pb::AutopilotStatus::Paused,
        Status::Ended => pb::AutopilotStatus::Ended,
    };
    let on_human = match autopilot.on_human {
        OnHuman::Steer => pb::AutopilotOnHuman::Steer,
        OnHuman::Pause => pb::AutopilotOnHuman::Pause,
    };
    let on_restart = match autopilot.on_restart {
        OnRestart::Stop => pb::AutopilotOnRestart::Stop,
        OnRestart::Continue => pb::AutopilotOnRestart::Continue,
    };
    let text = |id: &Option<LlmId>| id.as_ref().map(ToString::to_string).unwrap_or_default();
    pb::Autopilot {
        autopilot_id: autopilot.id.to_string(),
        mode: mode.into(),
        status: status.into(),
        topic: autopilot.topic.clone(),
        llm_ids: autopilot.llms.iter().map(ToString::to_string).collect(),
        moderator_llm_id: text(&autopilot.moderator),
        max_turns: autopilot.max_turns,
        turns: autopilot.turns,
        on_human: on_human.into(),
        on_restart: on_restart.into(),
        started_by_id: autopilot.started_by.to_string(),
        reason: autopilot.reason.clone(),
        chosen_llm_id: text(&autopilot.chosen),
        instruction: autopilot.instruction.clone(),
        outside_sources: autopilot.outside.clone(),
        agreed_llm_ids: autopilot.agreed.iter().map(ToString::to_string).collect(),
        message_id: autopilot.message_id.to_string(),
        last_llm_id: text(&autopilot.last),
        failures: autopilot.failures,
    }
}

fn mode_from_pb(mode: i32) -> Option<Mode> {
    match pb::AutopilotMode::try_from(mode) {
        Ok(pb::AutopilotMode::RoundRobin) => Some(Mode::RoundRobin),
        Ok(pb::AutopilotMode::Moderator) => Some(Mode::Moderator),
        Ok(pb::AutopilotMode::Debate) => Some(Mode::Debate),
        Ok(pb::AutopilotMode::Relay) => Some(Mode::Relay),
        Ok(pb::AutopilotMode::Consensus) => Some(Mode::Consensus),
        Ok(pb::AutopilotMode::Unspecified) | Err(_) => None,
    }
}

fn on_human_from_pb(on_human: i32) -> OnHuman {
    match pb::AutopilotOnHuman::try_from(on_human) {
        Ok(pb::AutopilotOnHuman::Pause) => OnHuman::Pause,
        Ok(pb::AutopilotOnHuman::Steer | pb::AutopilotOnHuman::Unspecified) | Err(_) => OnHuman::Steer,
    }
}

fn on_restart_from_pb(on_restart: i32) -> OnRestart {
    match pb::AutopilotOnRestart::try_from(on_restart) {
        Ok(pb::AutopilotOnRestart::Continue) => OnRestart::Continue,
        Ok(pb::AutopilotOnRestart::Stop | pb::AutopilotOnRestart::Unspecified) | Err(_) => OnRestart::Stop,
    }
}

pub(super) fn autopilot_from_pb(autopilot: pb::Autopilot) -> Result<Autopilot, Corrupt> {
    let status = match autopilot.status() {
        pb::AutopilotStatus::Running => Status::Running,
        pb::AutopilotStatus::Paused => Status::Paused,
        pb::AutopilotStatus::Ended => Status::Ended,
        pb::AutopilotStatus::Unspecified => return Err(Corrupt::new("autopilot", "no status")),
    };
    let llms = |ids: &[String]| ids.iter().map(|llm| id("LLM id", llm)).collect::<Result<Vec<_>, _>>();
    Ok(Autopilot {
        id: id("autopilot id", &autopilot.autopilot_id)?,
        mode: mode_from_pb(autopilot.mode).ok_or_else(|| Corrupt::new("autopilot", "no mode"))?,
        status,
        llms: llms(&autopilot.llm_ids)?,
        moderator: optional_id("LLM id", &autopilot.moderator_llm_id)?,
        max_turns: autopilot.max_turns,
        turns: autopilot.turns,
        on_human: on_human_from_pb(autopilot.on_human),
        on_restart: on_restart_from_pb(autopilot.on_restart),
        started_by: id("user id", &autopilot.started_by_id)?,
        chosen: optional_id("LLM id", &autopilot.chosen_llm_id)?,
        agreed: llms(&autopilot.agreed_llm_ids)?,
        last: optional_id("LLM id", &autopilot.last_llm_id)?,
        failures: autopilot.failures,
        message_id: id("message id", &autopilot.message_id)?,
        topic: autopilot.topic,
        reason: autopilot.reason,
        instruction: autopilot.instruction,
        outside: autopilot.outside_sources,
    })
}

/// Reads the command that starts an autopilot.
pub(super) fn read_start(start: pb::StartAutopilot) -> Result<Command, Rejection> {
    let llm = |field: &'static str, text: &str| -> Result<LlmId, Rejection> {
        text.parse().map_err(|error: IdError| Rejection::id(field, &error))
    };
    let mode = mode_from_pb(start.mode)
        .ok_or_else(|| Rejection::field("start_autopilot.mode", "must be one of the modes"))?;
    let moderator = match start.moderator_llm_id.as_str() {
        "" => None,
        text => Some(llm("start_autopilot.moderator_llm_id", text)?),
    };
    let llms = start.llm_ids.iter().map(|text| llm("start_autopilot.llm_ids", text));
    Ok(Command::StartAutopilot(AutopilotInput {
        mode,
        llms: llms.collect::<Result<_, _>>()?,
        moderator,
        max_turns: start.max_turns,
        on_human: on_human_from_pb(start.on_human),
        on_restart: on_restart_from_pb(start.on_restart),
        topic: start.topic,
    }))
}

/// Reads the command that stops, pauses or resumes one.
pub(super) fn read_control(control: pb::ControlAutopilot) -> Result<Command, Rejection> {
    let wanted = match control.action() {
        pb::AutopilotAction::Stop => Control::Stop,
        pb::AutopilotAction::Pause => Control::Pause,
        pb::AutopilotAction::Resume => Control::Resume,
        pb::AutopilotAction::Unspecified => {
            return Err(Rejection::field("control_autopilot.action", "must be STOP, PAUSE or RESUME"));
        }
    };
    Ok(Command::ControlAutopilot { control: wanted, reason: control.reason })
}
