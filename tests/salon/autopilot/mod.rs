//! LLMs that talk among themselves, through the whole server: who takes which turn, and how it ends.

mod control;
mod modes;
mod restart;

use salon::wire::pb::room::v1::{
    self as pb, AutopilotAction as Action, AutopilotMode as Mode, AutopilotStatus as Status,
    client_message::Payload as Say, server_event::Payload,
};

use crate::harness::{Session, TestServer};

fn start(mode: Mode, llms: &[&str], max_turns: u32) -> pb::StartAutopilot {
    pb::StartAutopilot {
        mode: mode.into(),
        topic: "Tea or coffee?".into(),
        llm_ids: llms.iter().map(|id| (*id).to_owned()).collect(),
        max_turns,
        ..Default::default()
    }
}

async fn control(session: &mut Session, action: Action) -> Result<pb::Ack, pb::Error> {
    let control = pb::ControlAutopilot { action: action.into(), reason: String::new() };
    session.command(Say::ControlAutopilot(control)).await
}

/// The next state of an autopilot that is like this; those before it are taken as well.
async fn status(session: &mut Session, status: Status) -> pb::Autopilot {
    let of = |payload: &Payload| match payload {
        Payload::AutopilotChanged(changed) => changed.autopilot.clone(),
        _ => None,
    };
    loop {
        let autopilot = session.pick(of).await;
        if autopilot.status() == status {
            return autopilot;
        }
    }
}

/// Who has begun a turn, in order; their numbers have no holes.
fn turns(log: &[pb::ServerEvent]) -> String {
    let mut names = Vec::new();
    for event in log {
        if let Some(Payload::LlmThinking(thinking)) = &event.payload
            && thinking.autopilot_turn > 0
        {
            names.push(thinking.llm_id.clone());
            assert_eq!(thinking.autopilot_turn as usize, names.len(), "{thinking:?}");
        }
    }
    names.join(" ")
}

/// Starts it, and follows it to its end: who took turns, and how it stood then.
async fn follow(server: &TestServer, room: &str, start: pb::StartAutopilot) -> (String, pb::Autopilot) {
    let mut ann = server.join(room, "ann").await;
    ann.command(Say::StartAutopilot(start)).await.unwrap();
    let end = status(&mut ann, Status::Ended).await;
    (turns(&server.log(room).await), end)
}
