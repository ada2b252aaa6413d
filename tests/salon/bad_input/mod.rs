//! What clients get wrong, by mistake or on purpose. Each is answered, nothing is lost, and neither the server nor
//! anybody else in the room is harmed.

mod calls;
mod connections;
mod floods;
mod messages;
mod permissions;
mod polls;
mod repeats;

use salon::wire::pb::room::v1 as pb;

use crate::harness::{Session, Setup, TestServer};

/// A room with somebody in it who does nothing wrong.
struct Scene {
    server: TestServer,
    room: String,
    bystander: Session,
}

impl Scene {
    async fn new() -> Self {
        Self::with(Setup::default(), &[]).await
    }

    async fn with(setup: Setup, llms: &[&str]) -> Self {
        let server = setup.start().await;
        let room = server.room(llms).await;
        let bystander = server.join(&room, "bystander").await;
        Self { server, room, bystander }
    }

    async fn join(&self, user: &str) -> Session {
        self.server.join(&self.room, user).await
    }

    /// The bystander goes on talking, has seen every event in order and without a hole, in the bytes of the log; and
    /// whoever comes now is let in.
    async fn unharmed(mut self) {
        let last = self.bystander.talk("and life goes on").await.seq;
        let heard = self.bystander.lasting_until(last).await;
        assert!(heard.iter().map(|event| event.seq).eq(self.bystander.seq + 1..=last));
        let log = self.server.log(&self.room).await;
        assert!(log.iter().map(|event| event.seq).eq(1..=last));
        assert!(heard.iter().eq(log.iter().filter(|event| event.seq > self.bystander.seq)));
        let mut late = self.join("late").await;
        assert!(late.talk("hello").await.seq > last);
        self.server.shutdown().await;
    }
}

/// What a refusal must be.
#[track_caller]
fn refused(answer: Result<pb::Ack, pb::Error>, code: &str) -> pb::Error {
    let error = answer.expect_err("this must be refused");
    assert_eq!(error.code, code, "{error:?}");
    assert!(!error.message.is_empty());
    error
}
