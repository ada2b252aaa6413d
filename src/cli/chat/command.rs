//! From what a person meant to what the contract says: numbers on the screen become ids.
//!
//! Pure. A number or name that means nothing in this room is told to the person and never sent.

use crate::{
    cli::chat::{
        direct,
        input::Action,
        people,
        view::{Known, View},
    },
    wire::pb::room::v1::{
        AddLlm, CastVote, ClosePoll, CreatePoll, DeleteMessage, EditMessage, InterruptLlm, LlmConfig, Poll,
        PollOptionInput, React, RemoveLlm, RetractVote, SendMessage, UpdateRoomDescription,
        client_message::Payload,
    },
};

/// What is to be done with a line.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time: what was typed last")]
pub enum Command {
    /// Send it.
    Send(Payload),
    /// Answered here.
    Local(Local),
}

/// What the client answers without the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// List who is here.
    Who,
    /// List the commands.
    Help,
    /// Leave.
    Quit,
}

/// Turns an action into a command for this room. The error is for the person who typed it.
pub fn command(action: Action, view: &View) -> Result<Command, String> {
    let payload = match action {
        Action::Who => return Ok(Command::Local(Local::Who)),
        Action::Help => return Ok(Command::Local(Local::Help)),
        Action::Quit => return Ok(Command::Local(Local::Quit)),
        Action::Say(content) => Payload::Message(SendMessage { content, ..Default::default() }),
        Action::Reply(number, content) => {
            let reply_to = Some(message(view, Some(number))?.id.clone());
            Payload::Message(SendMessage { content, reply_to, ..Default::default() })
        }
        Action::React(number, emoji) => {
            let message_id = message(view, number)?.id.clone();
            Payload::React(React { message_id, emoji, remove: false })
        }
        Action::Edit(content) => {
            let message_id = own_message(view)?.id.clone();
            Payload::EditMessage(EditMessage { message_id, content, ..Default::default() })
        }
        Action::Delete(None) => {
            Payload::DeleteMessage(DeleteMessage { message_id: own_message(view)?.id.clone() })
        }
        Action::Delete(number) => {
            Payload::DeleteMessage(DeleteMessage { message_id: message(view, number)?.id.clone() })
        }
        Action::Topic(description) => Payload::UpdateRoomDescription(UpdateRoomDescription { description }),
        Action::Poll { question, options, multiple, anonymous } => Payload::CreatePoll(CreatePoll {
            question,
            options: options
                .into_iter()
                .map(|text| PollOptionInput { text, description: String::new() })
                .collect(),
            allow_multiple: multiple,
            anonymous,
            ..Default::default()
        }),
        Action::Vote { poll: number, options, reason } => {
            vote(poll(view, number)?, number, &options, reason)?
        }
        Action::Retract(number) => {
            Payload::RetractVote(RetractVote { poll_id: poll(view, number)?.poll_id.clone() })
        }
        Action::Close(number) => {
            Payload::ClosePoll(ClosePoll { poll_id: poll(view, number)?.poll_id.clone() })
        }
        Action::Interrupt(called) => Payload::Interrupt(InterruptLlm {
            llm_id: called.map(|called| llm(view, &called)).transpose()?.unwrap_or_default(),
            message_id: None,
        }),
        Action::AddLlm { id, name, model, persona } => Payload::AddLlm(AddLlm {
            llm: Some(LlmConfig { id, display_name: name, model, persona, ..Default::default() }),
        }),
        Action::Direct(direct) => direct::payload(direct, view, |called| llm(view, called))?,
        Action::People(people) => people::payload(people, view),
        Action::RemoveLlm(called) => Payload::RemoveLlm(RemoveLlm { llm_id: llm(view, &called)? }),
    };
    Ok(Command::Send(payload))
}

fn vote(poll: &Poll, number: usize, options: &[usize], reason: String) -> Result<Payload, String> {
    let option_ids = options
        .iter()
        .map(|option| {
            let found = option.checked_sub(1).and_then(|index| poll.options.get(index));
            found.map(|option| option.id.clone()).ok_or_else(|| {
                format!("poll {number} has the options 1 to {}, not {option}", poll.options.len())
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Payload::CastVote(CastVote { poll_id: poll.poll_id.clone(), option_ids, reason }))
}

fn poll(view: &View, number: usize) -> Result<&Poll, String> {
    view.poll(number).ok_or_else(|| {
        let open: Vec<String> = view.open_polls().map(|(number, _)| number.to_string()).collect();
        match open.as_slice() {
            [] => format!("there is no poll {number}; /poll Question | a | b makes one"),
            open => format!("there is no poll {number}; open: {}", open.join(", ")),
        }
    })
}

fn message(view: &View, number: Option<u64>) -> Result<&Known, String> {
    match number {
        Some(number) => view
            .message_at(number)
            .ok_or_else(|| format!("no message #{number} was seen here; its number stands before it")),
        None => view.last_message().ok_or_else(|| "there is no message yet".to_owned()),
    }
}

fn own_message(view: &View) -> Result<&Known, String> {
    view.last_own_message().ok_or_else(|| "you have not written a message here yet".to_owned())
}

fn llm(view: &View, called: &str) -> Result<String, String> {
    view.llm_id(called).map(str::to_owned).ok_or_else(|| {
        let known: Vec<&str> = view.llm_ids().collect();
        match known.as_slice() {
            [] => "there is no LLM in this room; /llm add ID NAME adds one".to_owned(),
            known => format!("there is no LLM {called:?} here; there are: {}", known.join(", ")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::chat::input,
        wire::pb::room::v1::{
            AutopilotMode, DecideApproval, Message, Participant, ParticipantType, PollOption, Regenerate,
            RoomState, ServerEvent, StartAutopilot, ToolApproval, server_event,
        },
    };

    fn view() -> View {
        let mut view = View::new("ann");
        let message = |seq, id: &str, sender: &str| Message {
            message_id: id.into(),
            sender_id: sender.into(),
            seq,
            ..Default::default()
        };
        let option = |id: &str| PollOption { id: id.into(), ..Default::default() };
        let state = RoomState {
            participants: vec![Participant {
                id: "ada".into(),
                name: "Ada Lovelace".into(),
                r#type: ParticipantType::Llm.into(),
                ..Default::default()
            }],
            messages: vec![
                message(3, "m3", "ann"),
                Message { sender_type: ParticipantType::Llm.into(), ..message(5, "m5", "ada") },
                message(7, "m7", "bob"),
            ],
            approvals: vec![ToolApproval { approval_id: "a".into(), ..Default::default() }],
            polls: vec![Poll {
                poll_id: "p".into(),
                options: vec![option("1"), option("2")],
                ..Default::default()
            }],
            ..Default::default()
        };
        view.apply(&ServerEvent {
            payload: Some(server_event::Payload::RoomState(state)),
            ..Default::default()
        });
        view
    }

    fn sent(line: &str) -> Result<Payload, String> {
        match command(input::parse(line)?.unwrap(), &view())? {
            Command::Send(payload) => Ok(payload),
            Command::Local(local) => panic!("{local:?}"),
        }
    }

    #[test]
    fn numbers_and_names_become_ids() {
        let reply = SendMessage { content: "yes".into(), reply_to: Some("m3".into()), ..Default::default() };
        assert_eq!(sent("/reply 3 yes"), Ok(Payload::Message(reply)));
        let react =
            |id: &str| Payload::React(React { message_id: id.into(), emoji: "👍".into(), remove: false });
        assert_eq!(sent("/react 👍"), Ok(react("m7")));
        assert_eq!(sent("/react #3 👍"), Ok(react("m3")));
        let edit = EditMessage { message_id: "m3".into(), content: "new".into(), ..Default::default() };
        assert_eq!(sent("/edit new"), Ok(Payload::EditMessage(edit)));
        let vote = CastVote { poll_id: "p".into(), option_ids: vec!["2".into()], reason: "why not".into() };
        assert_eq!(sent("/vote 1 2 why not"), Ok(Payload::CastVote(vote)));
        let interrupt = InterruptLlm { llm_id: "ada".into(), message_id: None };
        assert_eq!(sent("/interrupt ada lovelace"), Ok(Payload::Interrupt(interrupt)));
    }

    #[test]
    fn what_is_meant_for_llms_finds_its_answer_its_call_and_its_speakers() {
        let decide = |approve, reason: &str| {
            let (approval_id, reason) = ("a".into(), reason.into());
            Ok(Payload::DecideApproval(DecideApproval { approval_id, approve, reason }))
        };
        assert_eq!(sent("/approve"), decide(true, ""));
        assert_eq!(sent("/deny 1 not mine"), decide(false, "not mine"));
        let anew = Payload::Regenerate(Regenerate { message_id: "m5".into(), model: "big".into() });
        assert_eq!(sent("/regenerate big"), Ok(anew.clone()));
        assert_eq!(sent("/regenerate #5 big"), Ok(anew));
        let start = StartAutopilot {
            mode: AutopilotMode::Relay.into(),
            topic: "tea".into(),
            llm_ids: vec!["ada".into()],
            ..Default::default()
        };
        assert_eq!(sent("/autopilot relay @ADA tea"), Ok(Payload::StartAutopilot(start)));
        assert!(sent("/approve 2").unwrap_err().contains("there are: 1"));
        assert!(sent("/regenerate #3").unwrap_err().contains("#3 is not an answer"));
        assert!(sent("/regenerate #4").unwrap_err().contains("#4 was seen"));
        assert!(sent("/autopilot moderator tea").unwrap_err().contains("moderator:LLM"));
        assert!(sent("/autopilot debate @bob tea").unwrap_err().contains("ada"));
    }

    #[test]
    fn what_is_not_in_the_room_is_told_and_not_sent() {
        assert!(sent("/reply 4 yes").unwrap_err().contains("#4"));
        assert!(sent("/vote 2 1").unwrap_err().contains("open: 1"));
        assert!(sent("/vote 1 3").unwrap_err().contains("1 to 2"));
        assert!(sent("/interrupt bob").unwrap_err().contains("ada"));
    }
}
