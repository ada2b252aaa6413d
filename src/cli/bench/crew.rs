//! What every scenario begins with: rooms, a way to the server, its process, and sessions that have joined.

use std::time::Duration;

use futures_util::{TryStreamExt as _, stream};
use tokio::time::timeout;

use super::{
    Error,
    args::Contract,
    dial::{Dial, Wire},
    handles,
    load::Tasks,
    plan::Plan,
    process::{Process, Used},
    progress::Progress,
    rooms, say,
    talk::Speech,
    world::{self, NotOpened, Script, Shared},
};
use crate::wire::pb::room::v1 as pb;

/// Connections that are opened at the same time: a server's backlog has 128 places at the least.
const AT_ONCE: usize = 64;
/// How long the sessions of one connection may take to join. A server on a busy machine takes long, a person gives up.
pub(super) const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
/// What joins have set off is over when so long nothing has come.
const QUIET: Duration = Duration::from_millis(200);
/// But no longer than this.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Crew {
    /// The way to the server.
    pub dial: Dial,
    /// The rooms' ids.
    pub rooms: Vec<String>,
    /// The server's process, if it is on this machine.
    pub process: Option<Process>,
}

impl Crew {
    /// Makes the rooms, with these LLMs, and finds the server's process.
    pub(super) async fn prepare(
        plan: &Plan,
        llms: &[pb::LlmConfig],
        progress: &Progress,
    ) -> Result<Self, Error> {
        handles::allow(plan.sessions().div_ceil(plan.per_connection))?;
        let dial = Dial::new(plan.server.clone(), plan.contract).await?;
        progress.counting("rooms", plan.rooms);
        let rooms = rooms::create(plan, &dial, llms, &|more| progress.more(more)).await?;
        let process = match plan.pid {
            Some(pid) => {
                Some(Process::of(pid).ok_or_else(|| Error::Machine(format!("there is no process {pid}")))?)
            }
            None => Process::listening(dial.address),
        };
        Ok(Self { dial, rooms, process })
    }

    /// How messages are spoken there.
    pub(super) fn speech(&self, plan: &Plan) -> Speech {
        match (self.dial.wire, plan.contract) {
            (Wire::Nats, _) => Speech::Bare,
            (_, Contract::Original) => Speech::Unacknowledged,
            (_, Contract::Salon) => Speech::Acknowledged,
        }
    }

    /// What the server has used up to now.
    pub(super) fn used(&self) -> Option<Used> {
        self.process.as_ref().and_then(Process::used)
    }

    /// In which room a session is, and how it joins.
    pub(super) fn join_of(&self, plan: &Plan, session: usize, after_seq: Option<u64>) -> (String, Vec<u8>) {
        let room = self.rooms.get(plan.room_of(session)).cloned().unwrap_or_default();
        let join = say::join(&room, &rooms::user(session), after_seq);
        (room, join)
    }

    /// Opens all sessions.
    pub(super) async fn open_all<S: Script + 'static>(
        &self,
        plan: &Plan,
        world: &Shared<S>,
        tasks: &Tasks,
        progress: &Progress,
    ) -> Result<(), Error> {
        progress.counting("sessions", plan.sessions());
        let connections = world.borrow().connections();
        let opened = stream::iter((0..connections).map(Ok)).try_for_each_concurrent(
            AT_ONCE,
            |connection| async move {
                let sessions = world.borrow().sessions_of(connection).len();
                let join_of = |session| self.join_of(plan, session, None);
                let opened = world::open(world, tasks, &self.dial, connection, join_of);
                match timeout(JOIN_TIMEOUT, opened).await {
                    Ok(Ok(())) => {
                        progress.more(sessions as u64);
                        Ok(())
                    }
                    Ok(Err(why)) => Err(Error::NotOpened(why)),
                    Err(_) => Err(Error::NotOpened(NotOpened::Ended(format!(
                        "no answer to a join within {JOIN_TIMEOUT:?}"
                    )))),
                }
            },
        );
        opened.await
    }
}

/// Waits until what the joins have set off is over.
pub(super) async fn settle<S: Script>(world: &Shared<S>) {
    let arrived = |world: &Shared<S>| world.borrow().arrived;
    let quiet = async {
        let mut before = arrived(world);
        loop {
            tokio::time::sleep(QUIET).await;
            let now = arrived(world);
            if now == before {
                return;
            }
            before = now;
        }
    };
    // A room that is never quiet is measured as it is.
    let _ = timeout(SETTLE_MAX, quiet).await;
}
