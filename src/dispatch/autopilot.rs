//! LLMs that talk among themselves: the next turn begins when the one before has ended.
//!
//! Owns when a turn is asked for; whose it is, and when it is over, is the domain's to say, and a turn is begun and
//! ended like every other answer. Nothing is remembered but which turn was asked for: behind every commit of a room the
//! next step is found anew from its state, so that nothing that happens meanwhile is missed, and a second turn at the
//! same time is refused by the decision. Of several nodes the one that has moved the autopilot on or steered it last
//! takes the next turn; the others only end what they have begun ([`super::elsewhere`]). A turn that cannot begin pauses the autopilot, with the reason: nothing is
//! tried again and again. What a crash has left goes on when the server is tidied up ([`LlmDispatcher::resume`]).

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use crate::{
    dispatch::{
        inner::{Inner, LlmDispatcher},
        job::{Job, TurnOf},
        tools::Effects,
        turns::Asked,
        unasked::unwanted,
    },
    domain::{
        autopilot::{Autopilot, Next, Step, Turn},
        command::{Actor, Command},
        message::Author,
        rejection::{Code, Rejection},
        room::Room,
    },
    ids::{AutopilotId, MessageId, RoomId},
    registry::feed::Feed,
    rooms::Rooms,
};

/// Between two tries to record a step when the store fails.
const STEP_RETRY: Duration = Duration::from_millis(250);
/// How often a step is tried. Behind that it waits for the next commit of its room.
const STEP_TRIES: usize = 40;

impl LlmDispatcher {
    /// Goes on with the autopilots and the votes of these rooms, and from now on with those of every room.
    pub async fn resume(&self, rooms: impl IntoIterator<Item = RoomId>) {
        self.0.autopilots.set_ready();
        for room in rooms {
            let dispatcher = self.clone();
            let look = move |room: &Room, _: &Arc<Feed>| {
                dispatcher.0.autopilots.set_here(&room.id);
                dispatcher.ask_owed(room);
                dispatcher.drive(room);
            };
            looked(&room, self.0.rooms.read(&room, look).await);
        }
    }

    /// Asks for the votes that are owed in these rooms: whoever was to ask for them may be gone, and has left no trace
    /// of it. A vote that somebody is asked for is not asked for again.
    pub async fn ask_votes(&self, rooms: impl IntoIterator<Item = RoomId>) {
        for room in rooms {
            let dispatcher = self.clone();
            looked(&room, self.0.rooms.read(&room, move |room, _| dispatcher.ask_owed(room)).await);
        }
    }

    async fn look_again(&self, room: &RoomId) {
        let dispatcher = self.clone();
        looked(room, self.0.rooms.read(room, move |room, _| dispatcher.drive(room)).await);
    }

    /// Ends the turn that was asked for here, if its autopilot is over or another one.
    pub(super) fn forget_turn(&self, room: &Room) {
        if let Some(gone) = self.0.autopilots.forget(room) {
            let why = room.autopilot.as_ref().map_or("", |autopilot| autopilot.reason.as_str());
            let why = if why.is_empty() { "the autopilot is over" } else { why };
            self.stop(&room.id, &unwanted(why), |job| job.message_id == gone.message_id);
        }
    }

    /// Does what follows from how a room's autopilot stands, unless another node does; behind every commit of this one.
    pub(super) fn drive(&self, room: &Room) {
        if room.autopilot.is_none() || !self.0.autopilots.is_ready() {
            return;
        }
        self.forget_turn(room);
        if self.0.autopilots.is_elsewhere(&room.id) {
            return;
        }
        let is_taken = room.runs.values().any(|run| run.turn.is_some());
        let Some(autopilot) = room.open_autopilot().filter(|_| !is_taken) else {
            return;
        };
        if self.0.autopilots.asked().contains_key(&room.id) {
            return;
        }
        match autopilot.next(room) {
            Next::Wait => {}
            Next::Over(reason) => self.step(&room.id, autopilot.id, Step::End { reason }),
            Next::Turn(turn) => self.take_turn(room, autopilot, turn),
        }
    }

    fn take_turn(&self, room: &Room, autopilot: &Autopilot, turn: Turn) {
        let message_id = MessageId(Uuid::now_v7());
        let number = autopilot.turns + 1;
        let asked = Asked { autopilot: autopilot.id, turn: number, message_id, refused: None };
        self.0.autopilots.asked().insert(room.id.clone(), asked);
        self.ask(&Job {
            message_id,
            asked_by: Some(autopilot.started_by.clone()),
            turn: Some(TurnOf { autopilot: autopilot.id, number }),
            ..Job::new(room, turn.llm, question(room, autopilot))
        });
    }

    /// A job is over: had it been a turn that began, it would have been forgotten by its end.
    pub(super) fn turn_over(&self, job: &Job) {
        let Some(asked) = self.0.autopilots.take(job) else {
            return;
        };
        match asked.refused.clone() {
            Some(reason) => self.pause(&job.room, &asked, reason),
            // Meanwhile it was paused, or ended, or the LLM removed: what is next follows from that.
            None => {
                let (dispatcher, room) = (self.clone(), job.room.clone());
                self.0.tasks.spawn(async move { dispatcher.look_again(&room).await });
            }
        }
    }

    /// A turn was refused: the autopilot pauses, unless another node has taken it meanwhile.
    fn pause(&self, room: &RoomId, asked: &Asked, reason: String) {
        let (dispatcher, room) = (self.clone(), room.clone());
        let (id, turn) = (asked.autopilot, asked.turn);
        let is_due = move |room: &Room, _: &Arc<Feed>| {
            let is_taken = room.runs.values().any(|run| run.turn.is_some());
            room.open_autopilot().is_some_and(|open| open.id == id && open.turns < turn && !is_taken)
        };
        self.0.tasks.spawn(async move {
            // If the room cannot be read, the step is tried until it can.
            if dispatcher.0.rooms.read_latest(&room, is_due).await.unwrap_or(true) {
                submit(&dispatcher.0.rooms, &room, id, Step::Pause { reason }).await;
            }
        });
    }

    fn step(&self, room: &RoomId, autopilot: AutopilotId, step: Step) {
        let (rooms, room) = (self.0.rooms.clone(), room.clone());
        self.0.tasks.spawn(async move { submit(&rooms, &room, autopilot, step).await });
    }
}

fn looked(room: &RoomId, looked: Result<(), Rejection>) {
    if let Err(rejection) = looked {
        tracing::debug!(%room, %rejection, "a room was not looked at");
    }
}

/// What a turn answers: what an LLM of the autopilot has said last, or else the topic.
fn question(room: &Room, autopilot: &Autopilot) -> MessageId {
    let since = room.recent.iter().rev().take_while(|message| message.id != autopilot.message_id);
    let spoken = since.filter(|message| {
        let by_one_of_them = match &message.author {
            Author::Llm(id) => autopilot.llms.contains(id) || autopilot.moderator.as_ref() == Some(id),
            Author::User(_) => false,
        };
        by_one_of_them && message.from_run && !message.deleted && message.superseded_by.is_none()
    });
    spoken.map(|message| message.id).next().unwrap_or(autopilot.message_id)
}

async fn submit(rooms: &Rooms, room: &RoomId, autopilot: AutopilotId, step: Step) {
    for _ in 0..STEP_TRIES {
        let command = Command::StepAutopilot(autopilot, step.clone());
        match rooms.submit(room, Actor::Server, command).await {
            Err(Rejection { code: Code::Unavailable, .. }) => tokio::time::sleep(STEP_RETRY).await,
            Ok(_) => return,
            // It has ended meanwhile.
            Err(rejection) => return tracing::debug!(%room, %rejection, "an autopilot was not moved on"),
        }
    }
    tracing::warn!(%room, "an autopilot could not be moved on: the store fails");
}

/// Records what an LLM has done by the tools of its turn, before the turn ends.
pub(super) async fn conclude(inner: &Inner, job: &Job, effects: &Effects) {
    // Whatever it has called, it moves on only the autopilot whose turn it had.
    let Some(TurnOf { autopilot, .. }) = job.turn else {
        return;
    };
    let done = &effects.turn;
    // An instruction is made of all that whoever gives it has read.
    let outside = effects.outside.clone();
    let chosen = done.chosen.clone().map(|(llm, instruction)| Step::Choose { llm, instruction, outside });
    let agrees = done.agrees.then(|| Step::Agree(job.llm_id.clone()));
    let over = done.over.clone().map(|reason| Step::End { reason });
    for step in [chosen, agrees, over].into_iter().flatten() {
        submit(&inner.rooms, &job.room, autopilot, step).await;
    }
}
