//! Budgets: what is reserved before a call and settled behind it, whatever goes wrong in between.

mod answers;
mod model;
mod properties;
mod requests;
mod serving;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use salon::{
    budget::{Budgets, Cost, Hold, Limits, Refused, ScopeLimits, Scopes},
    clock::{Clock, Timestamp},
    ids::{MessageId, RoomId, UserId},
    nodes::Identity,
    store::Store,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

/// The beginning of a day.
const MIDNIGHT: Timestamp = Timestamp(20_000 * 86_400_000);
/// What no wait for the task in the background reaches, in the runtime's time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A clock that can be set back.
#[derive(Debug)]
struct SetClock(AtomicI64);

impl SetClock {
    fn new(at: Timestamp) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(at.0)))
    }

    fn set(&self, at: Timestamp) {
        self.0.store(at.0, Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// The budgets of one process, which can die.
struct Process {
    budgets: Budgets,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Process {
    fn start(store: &Arc<dyn Store>, clock: &Arc<SetClock>, limits: Limits) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let clock: Arc<dyn Clock> = Arc::<SetClock>::clone(clock);
        let budgets = Budgets::start(Arc::clone(store), clock, Identity::new(), limits, &tasks, stop.clone());
        Self { budgets, tasks, stop }
    }

    /// Asks for one call of a user in a room.
    fn ask(
        &self,
        user: &str,
        room: &str,
        worst: Cost,
    ) -> impl Future<Output = Result<Hold, Refused>> + use<> {
        let (budgets, scopes) = (self.budgets.clone(), scopes(user, room));
        async move { budgets.reserve(run(), &scopes, worst).await }
    }

    /// Settles what the process before has left, as a start does it; how many there were.
    async fn recover(&self) -> usize {
        let mut found = 0;
        loop {
            let open = self.budgets.open().await.unwrap();
            found = found.max(open.len());
            if self.budgets.recover(&open).await == 0 {
                return found;
            }
        }
    }

    /// As a shutdown does it.
    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Waits for the task in the background.
async fn until_open(store: &Arc<dyn Store>, count: usize) {
    let settled = async {
        while store.open_reservations().await.unwrap().len() != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("it is never settled");
}

fn scopes(user: &str, room: &str) -> Scopes {
    Scopes { user: UserId::parse(user).ok(), room: RoomId::parse(room).ok(), ..Scopes::default() }
}

fn run() -> MessageId {
    MessageId(Uuid::new_v4())
}

fn tokens(tokens: u64) -> Cost {
    Cost { tokens, micros: Some(0) }
}

/// A limit of a room's tokens, and no other.
fn room_tokens_per_minute(limit: u64) -> Limits {
    let room = ScopeLimits { tokens_per_minute: Some(limit), ..ScopeLimits::default() };
    Limits { room, ..Limits::default() }
}
