//! Everything that happens because time has passed, in time that the test moves: minutes cost nothing, and every
//! moment is exact.

mod rooms;
mod sessions;

use std::time::Duration;

use salon::wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload};
use tokio::time::Instant;

use crate::harness::{Session, Setup, TestServer};

/// Timers have a millisecond's grain, and what follows one takes a few more of them.
const GRAIN: Duration = Duration::from_millis(20);
/// Longer than anything that is waited for here.
const PATIENCE: Duration = Duration::from_secs(3600);

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

async fn start() -> TestServer {
    Setup::default().virtual_time().start_without_port().await
}

async fn join(server: &TestServer, room: &str, user: &str) -> Session {
    let mut session = server.join(room, user).await;
    session.patience = PATIENCE;
    session
}

#[track_caller]
fn assert_after(began: Instant, expected: Duration) {
    let elapsed = began.elapsed();
    assert!(elapsed >= expected && elapsed < expected + GRAIN, "{elapsed:?} instead of {expected:?}");
}
