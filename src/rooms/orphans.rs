//! What a node has left open that is gone: its answers end as interrupted, its autopilots end or go on.
//!
//! Any number of nodes may do it at once: each end is recorded by one of them, and only that one goes on with what
//! follows from it. One room that cannot be written to keeps no other from being tidied up; the caller tries it again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::sync::oneshot;

use crate::{
    domain::{
        autopilot::Step,
        command::{Actor, Command},
        rejection::{Code, Rejection},
        room::Room,
    },
    ids::{AutopilotId, MessageId, RequestId, RoomId, UserId},
    registry::feed::Feed,
    rooms::{
        Rooms,
        task::{self, CommandTask, Done, Reply, Task},
    },
    store::{Idempotency, OpenRun},
    wire::reply,
};

/// In whose name it is recorded that an autopilot goes on elsewhere. A user of this name cannot know the request.
const RECORDER: &str = "server";

/// What came of closing what was left open.
#[derive(Debug, Default)]
pub struct Closed {
    /// Where something was closed, by this node and no other.
    pub rooms: BTreeSet<RoomId>,
    /// How many could not be closed now.
    pub left: usize,
}

impl Rooms {
    /// Ends answers whose nodes are gone. Before the answers of a room comes its autopilot, which stands in the same
    /// list: by its rule it ends, or goes on behind the answer and belongs to this node.
    pub async fn close_orphans(&self, open: Vec<OpenRun>) -> Closed {
        let mut closed = Closed::default();
        let mut by_room: BTreeMap<RoomId, Vec<OpenRun>> = BTreeMap::new();
        for orphan in open {
            by_room.entry(orphan.room.clone()).or_default().push(orphan);
        }
        for (room, open) in by_room {
            let count = open.len();
            if let Err((rejection, left)) = self.close_in(&room, open, &mut closed).await {
                tracing::warn!(%room, left, count, %rejection, "cannot close what was left open");
                closed.left += left;
            }
        }
        closed
    }

    async fn close_in(
        &self,
        room: &RoomId,
        mut open: Vec<OpenRun>,
        closed: &mut Closed,
    ) -> Result<(), (Rejection, usize)> {
        let count = open.len();
        let autopilot =
            self.restart_autopilot(room, &open, closed).await.map_err(|rejection| (rejection, count))?;
        open.retain(|orphan| Some(orphan.run) != autopilot);
        let (mut left, mut why) = (0, None);
        for OpenRun { run, .. } in open {
            let finish = Command::FinishRun(task::orphaned(run));
            match self.submit(room, Actor::Server, finish).await {
                Ok(_) => {
                    tracing::info!(%room, message_id = %run, "closed an answer whose server is gone");
                    closed.rooms.insert(room.clone());
                }
                // It has ended meanwhile.
                Err(rejection) if is_over(&rejection) => {}
                Err(rejection) => {
                    left += 1;
                    why = Some(rejection);
                }
            }
        }
        why.map_or(Ok(()), |rejection| Err((rejection, left)))
    }

    /// Tells the autopilot of a room, if it is among what is open, that its server is gone; returns which it is.
    async fn restart_autopilot(
        &self,
        room: &RoomId,
        open: &[OpenRun],
        closed: &mut Closed,
    ) -> Result<Option<MessageId>, Rejection> {
        let look =
            |room: &Room, _: &Arc<Feed>| room.open_autopilot().map(|autopilot| MessageId(autopilot.id.0));
        let found = match self.read(room, look).await {
            Err(Rejection { code: Code::RoomNotFound, .. }) => None,
            found => found?,
        };
        let Some(orphan) = found.and_then(|id| open.iter().find(|orphan| orphan.run == id)) else {
            return Ok(None);
        };
        let step = Command::StepAutopilot(AutopilotId(orphan.run.0), Step::Restarted);
        // It would be told again by everybody who finds it: once for each time that a node is outlived is enough.
        let mut request = format!("{} outlives {}", orphan.run, orphan.node);
        loop {
            match self.submit_once(room, step.clone(), &request).await {
                Ok(Done { duplicate: true, events: Some((_, at, _)), .. })
                    if self.is_still(orphan).await? =>
                {
                    // A node that did not know yet that it had lost its lease has steered it behind that restart.
                    request = format!("{} outlives {} after {at}", orphan.run, orphan.node);
                }
                Ok(done) => {
                    if !done.duplicate {
                        closed.rooms.insert(room.clone());
                    }
                    return Ok(Some(orphan.run));
                }
                Err(rejection) if is_over(&rejection) => return Ok(Some(orphan.run)),
                Err(rejection) => return Err(rejection),
            }
        }
    }

    /// Whether it is open and belongs to the same node by now.
    async fn is_still(&self, orphan: &OpenRun) -> Result<bool, Rejection> {
        let open = self.store().open_runs().await.map_err(|_| reply::unavailable())?;
        Ok(open.contains(orphan))
    }

    /// Carries out what the server asks of a room, once however many servers ask it.
    async fn submit_once(&self, room: &RoomId, command: Command, request: &str) -> Result<Done, Rejection> {
        let key = (UserId::parse(RECORDER).ok()).zip(RequestId::parse(request).ok());
        let idempotency = key.map(|(sender, request_id)| Idempotency { sender, request_id, body_hash: 0 });
        let (reply, answer) = oneshot::channel();
        let task = CommandTask { actor: Actor::Server, command, idempotency, reply: Reply::Caller(reply) };
        self.send(room, Task::Command(Box::new(task))).await?;
        answer.await.map_err(|_| reply::unavailable())?
    }
}

fn is_over(rejection: &Rejection) -> bool {
    matches!(rejection.code, Code::NotFound | Code::RoomEnded)
}
