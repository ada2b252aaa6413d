//! The client's half of a session stream: whole messages as bytes, read by the session.
//!
//! Decoding there and not here lets a message that cannot be read be answered in band, and the stream live. The small
//! buffer saves 8 KiB per session against the default.

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use tonic::{
    Code, Status, Streaming,
    codec::{BufferSettings, DecodeBuf, Decoder},
};

use crate::session::InboundError;

/// What is read at once; client messages are small.
const BUFFER: usize = 512;
/// Only used by encoders; required by the settings.
const YIELD: usize = 32 * 1024;

/// Cuts a stream into messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct Messages;

impl Decoder for Messages {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(len)))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, YIELD)
    }
}

/// A stream of messages as a session reads it.
pub fn inbound(
    stream: Streaming<Bytes>,
    max: usize,
) -> impl Stream<Item = Result<Bytes, InboundError>> + Unpin {
    stream.map(move |message| message.map_err(|status| refusal(&status, max)))
}

fn refusal(status: &Status, max: usize) -> InboundError {
    match status.code() {
        // What tonic says of a message beyond the limit.
        Code::OutOfRange => InboundError::TooLarge(format!("a message must have at most {max} bytes")),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => {
            InboundError::Broken(format!("the stream cannot be read: {}", status.message()))
        }
    }
}
