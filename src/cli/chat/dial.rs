//! Opening a stream and joining the room, once.
//!
//! Tells a refusal, which will be the same next time, from a loss, which may not. It never tries again by itself;
//! [`backoff`] says how long whoever does should wait.

use std::time::Duration;

use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use uuid::Uuid;

use crate::{
    cli::{client::Rooms, text},
    wire::pb::room::v1::{
        ClientMessage, Closing, Error, JoinRoom, ServerEvent, client_message::Payload as Said,
        server_event::Payload,
    },
};

/// How long a join may take: the server itself waits ten seconds for one.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The first wait before coming back, doubled with every attempt.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);

/// The longest wait: a server that is back is found within seconds, and a herd of clients does not trample it.
const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// Commands on their way to the transport; a server that does not read for so long is as good as gone.
const WIRE_QUEUE: usize = 64;

/// An open stream.
#[derive(Debug)]
pub struct Link {
    /// What the client says.
    pub wire: mpsc::Sender<ClientMessage>,
    /// What the server says.
    pub stream: Streaming<ServerEvent>,
}

/// Why a stream could not be joined.
#[derive(Debug, Clone, PartialEq)]
pub enum DialError {
    /// The server said no.
    Refused(Error),
    /// The server closed the stream at once.
    Closed(Closing),
    /// No answer, or half of one.
    Lost(String),
}

/// Opens a stream and joins the room; the event is the `room_state`, or `resumed`.
pub async fn dial(client: &mut Rooms, join: &JoinRoom) -> Result<(Link, ServerEvent), DialError> {
    timeout(JOIN_TIMEOUT, join_stream(client, join))
        .await
        .unwrap_or_else(|_| Err(DialError::Lost("no answer to the join".to_owned())))
}

async fn join_stream(client: &mut Rooms, join: &JoinRoom) -> Result<(Link, ServerEvent), DialError> {
    let (wire, queue) = mpsc::channel(WIRE_QUEUE);
    // A new id each time: a join that is repeated is meant to happen again.
    let request_id = Uuid::new_v4().simple().to_string();
    let message = ClientMessage { payload: Some(Said::Join(join.clone())), request_id: request_id.clone() };
    wire.try_send(message).map_err(|error| DialError::Lost(error.to_string()))?;
    let response = client.room_session(ReceiverStream::new(queue)).await;
    let mut stream = response.map_err(|status| from_status(&status))?.into_inner();
    loop {
        let event = stream.message().await.map_err(|status| from_status(&status))?;
        let Some(event) = event else {
            return Err(DialError::Lost("the server ended the stream".to_owned()));
        };
        match event.payload {
            Some(Payload::RoomState(_) | Payload::Resumed(_)) => return Ok((Link { wire, stream }, event)),
            Some(Payload::Closing(closing)) => return Err(DialError::Closed(closing)),
            Some(Payload::Error(error)) if event.request_id.is_empty() || event.request_id == request_id => {
                return Err(DialError::Refused(error));
            }
            _ => {}
        }
    }
}

/// What a status means for the stream it ended, or never opened.
pub fn from_status(status: &Status) -> DialError {
    let message = text::line(status.message());
    let code = match status.code() {
        Code::NotFound => "room_not_found",
        Code::PermissionDenied => "permission_denied",
        Code::Unauthenticated => "unauthenticated",
        Code::InvalidArgument => "invalid_argument",
        Code::FailedPrecondition => "failed_precondition",
        Code::Unimplemented => "unsupported",
        _ => {
            let words = if message.is_empty() { status.code().description().to_owned() } else { message };
            return DialError::Lost(words);
        }
    };
    DialError::Refused(Error { code: code.to_owned(), message, ..Default::default() })
}

/// How long to wait before attempt number `attempt` (from 0): doubled each time, and anywhere in the upper half of that,
/// chosen by `random`, so that many clients do not come back at once.
pub fn backoff(attempt: u32, random: u64) -> Duration {
    let full = BACKOFF_FIRST.saturating_mul(2_u32.saturating_pow(attempt)).min(BACKOFF_MAX);
    let half_ms = u64::try_from(full.as_millis() / 2).unwrap_or(0);
    Duration::from_millis(half_ms + random % (half_ms + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_stay_bounded_and_differ() {
        for attempt in 0..40 {
            let (low, high) = (backoff(attempt, 0), backoff(attempt, u64::MAX - 1));
            assert!(low >= BACKOFF_FIRST / 2 && high <= BACKOFF_MAX, "{attempt}: {low:?} {high:?}");
        }
        assert!(backoff(3, 0) >= backoff(0, 0) * 8);
        assert_ne!(backoff(3, 1), backoff(3, 2));
    }
}
