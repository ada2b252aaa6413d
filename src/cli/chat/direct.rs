//! What a person types to direct LLMs: to let them call tools, answer anew, or talk among themselves. Pure.
//!
//! Owns the syntax of these commands and their meaning in a room. Who may do it is the server's to say.

use crate::{
    cli::chat::{
        view::View,
        words::{number, split_word, text},
    },
    wire::pb::room::v1::{
        AutopilotAction, AutopilotMode, ControlAutopilot, DecideApproval, Regenerate, StartAutopilot,
        client_message::Payload,
    },
};

/// A command to LLMs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Direct {
    /// `/approve [N]` and `/deny [N] [reason]`
    Decide {
        /// The call's number on the screen; none: the only one that waits.
        number: Option<usize>,
        /// Whether it may be made.
        approve: bool,
        /// May be empty.
        reason: String,
    },
    /// `/regenerate [#N] [MODEL]`
    Regenerate {
        /// The answer's number; none: the last one.
        number: Option<usize>,
        /// Empty: the LLM's own.
        model: String,
    },
    /// `/autopilot MODE [@LLM…] topic`
    Start {
        /// How they talk.
        mode: AutopilotMode,
        /// Who chooses who speaks.
        moderator: Option<String>,
        /// Who speaks, in this order; empty: all.
        speakers: Vec<String>,
        /// What about.
        topic: String,
    },
    /// `/autopilot stop|pause|resume`
    Control(AutopilotAction),
}

/// Modes, as they are typed and shown.
const MODES: [(&str, AutopilotMode); 5] = [
    ("round_robin", AutopilotMode::RoundRobin),
    ("moderator", AutopilotMode::Moderator),
    ("debate", AutopilotMode::Debate),
    ("relay", AutopilotMode::Relay),
    ("consensus", AutopilotMode::Consensus),
];

/// How a mode is shown.
pub fn mode_name(mode: AutopilotMode) -> &'static str {
    MODES.iter().find(|(_, known)| *known == mode).map_or("autopilot", |(name, _)| name)
}

/// Understands what stands behind the command `name`; `None`: it is written in another way.
pub fn parse(name: &str, rest: &str) -> Option<Direct> {
    match name {
        "/approve" => {
            let number = if rest.is_empty() { None } else { Some(number(rest)?) };
            Some(Direct::Decide { number, approve: true, reason: String::new() })
        }
        "/deny" => {
            let (number, reason) = numbered(rest);
            Some(Direct::Decide { number, approve: false, reason: reason.to_owned() })
        }
        "/regenerate" => {
            let (number, model) = numbered(rest);
            let one_word = !model.contains(char::is_whitespace);
            one_word.then(|| Direct::Regenerate { number, model: model.to_owned() })
        }
        "/autopilot" => autopilot(rest),
        _ => None,
    }
}

/// A number before the rest, if there is one.
fn numbered(rest: &str) -> (Option<usize>, &str) {
    let (word, behind) = split_word(rest);
    match number(word) {
        Some(number) => (Some(number), behind),
        None => (None, rest),
    }
}

fn autopilot(rest: &str) -> Option<Direct> {
    let (verb, mut rest) = split_word(rest);
    match (verb, rest) {
        ("stop", "") => return Some(Direct::Control(AutopilotAction::Stop)),
        ("pause", "") => return Some(Direct::Control(AutopilotAction::Pause)),
        ("resume", "") => return Some(Direct::Control(AutopilotAction::Resume)),
        _ => {}
    }
    let (name, moderator) = match verb.split_once(':') {
        Some((name, moderator)) => (name, Some(moderator.trim_start_matches('@').to_owned())),
        None => (verb, None),
    };
    let name = name.replace('-', "_");
    let (_, mode) = MODES.into_iter().find(|(known, _)| *known == name)?;
    let mut speakers = Vec::new();
    while let Some(speaker) = split_word(rest).0.strip_prefix('@') {
        speakers.push(speaker.to_owned());
        rest = split_word(rest).1;
    }
    Some(Direct::Start { mode, moderator, speakers, topic: text(rest)? })
}

/// What is sent for it. `llm` finds an LLM by what it is called. The errors are for the person who typed it.
pub fn payload(
    direct: Direct,
    view: &View,
    llm: impl Fn(&str) -> Result<String, String>,
) -> Result<Payload, String> {
    Ok(match direct {
        Direct::Decide { number, approve, reason } => {
            let approval_id = view.approvals.meant(number)?.approval_id.clone();
            Payload::DecideApproval(DecideApproval { approval_id, approve, reason })
        }
        Direct::Regenerate { number, model } => {
            Payload::Regenerate(Regenerate { message_id: answer(view, number)?, model })
        }
        Direct::Start { mode, moderator, speakers, topic } => {
            let moderator = match (mode, moderator) {
                (AutopilotMode::Moderator, None) => {
                    return Err("say who chooses the speakers: /autopilot moderator:LLM topic".to_owned());
                }
                (_, moderator) => moderator.map(|called| llm(&called)).transpose()?,
            };
            Payload::StartAutopilot(StartAutopilot {
                mode: mode.into(),
                topic,
                llm_ids: speakers.iter().map(|called| llm(called)).collect::<Result<_, _>>()?,
                moderator_llm_id: moderator.unwrap_or_default(),
                ..Default::default()
            })
        }
        Direct::Control(action) => {
            Payload::ControlAutopilot(ControlAutopilot { action: action.into(), ..Default::default() })
        }
    })
}

/// The answer with this number, or the last one.
fn answer(view: &View, number: Option<usize>) -> Result<String, String> {
    let Some(number) = number else {
        let last = view.last_answer().ok_or("no LLM has answered here yet")?;
        return Ok(last.id.clone());
    };
    let known = u64::try_from(number).ok().and_then(|seq| view.message_at(seq));
    let known =
        known.ok_or_else(|| format!("no message #{number} was seen here; its number stands before it"))?;
    match known.by_llm {
        true => Ok(known.id.clone()),
        false => Err(format!("#{number} is not an answer of an LLM")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_stand_before_reasons_and_models() {
        let decide = |number, approve, reason: &str| {
            Some(Direct::Decide { number, approve, reason: reason.to_owned() })
        };
        assert_eq!(parse("/approve", ""), decide(None, true, ""));
        assert_eq!(parse("/approve", "#2"), decide(Some(2), true, ""));
        assert_eq!(parse("/approve", "yes please"), None, "an approval has no reason, and is not guessed");
        assert_eq!(parse("/deny", "2 too dear"), decide(Some(2), false, "too dear"));
        assert_eq!(parse("/deny", "too dear"), decide(None, false, "too dear"));
        let regenerate = |number, model: &str| Some(Direct::Regenerate { number, model: model.to_owned() });
        assert_eq!(parse("/regenerate", ""), regenerate(None, ""));
        assert_eq!(parse("/regenerate", "#12 gpt-4o"), regenerate(Some(12), "gpt-4o"));
        assert_eq!(parse("/regenerate", "gpt-4o"), regenerate(None, "gpt-4o"));
        assert_eq!(parse("/regenerate", "it is wrong"), None);
    }

    #[test]
    fn an_autopilot_has_a_mode_speakers_and_a_topic() {
        let start = |mode, moderator: Option<&str>, speakers: &[&str]| {
            let speakers = speakers.iter().map(ToString::to_string).collect();
            Some(Direct::Start {
                mode,
                moderator: moderator.map(str::to_owned),
                speakers,
                topic: "tea or coffee".into(),
            })
        };
        let parse = |rest| parse("/autopilot", rest);
        assert_eq!(parse("debate tea or coffee"), start(AutopilotMode::Debate, None, &[]));
        assert_eq!(
            parse("round-robin @ada  @bob tea or coffee"),
            start(AutopilotMode::RoundRobin, None, &["ada", "bob"])
        );
        assert_eq!(
            parse("moderator:@eve @ada tea or coffee"),
            start(AutopilotMode::Moderator, Some("eve"), &["ada"])
        );
        assert_eq!(parse("stop"), Some(Direct::Control(AutopilotAction::Stop)));
        for bad in ["", "debate", "debate @ada", "stop now", "quarrel tea or coffee"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_mode_has_a_name() {
        for (name, mode) in MODES {
            assert_eq!(mode_name(mode), name);
        }
    }
}
