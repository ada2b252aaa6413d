//! What is spoken with a server, without any I/O: bytes in, messages out, and the other way round.
//!
//! Three wires carry the same conversation: HTTP/2 with gRPC, the same messages over plain TCP, and NATS. Each costs the
//! generator about as little, so that what differs between servers is the servers. A fault ends the connection.

pub(super) mod http2;
pub(super) mod nats;
pub(super) mod prefixed;

use thiserror::Error;

use http2::Http2;
use nats::Nats;
use prefixed::Assembly;

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// The server does not speak as it should.
    #[error("the server sent {0}")]
    Spoken(String),
    /// The server goes away.
    #[error("the server sent the connection away (GOAWAY, code {code}): {text}")]
    GoAway {
        /// The code of HTTP/2.
        code: u32,
        /// What it says of it.
        text: String,
    },
    /// There are more streams than the server takes.
    #[error(
        "the server takes {allowed} streams on a connection (grpc.max_streams_per_connection): give fewer with --streams-per-connection"
    )]
    Streams {
        /// How many it takes.
        allowed: u32,
    },
    /// The connection is gone.
    #[error("the connection was lost: {0}")]
    Lost(String),
}

/// What has come on a connection, with the place of its stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    /// A message: of gRPC, or a text where there is none around it.
    Message(usize, &'a [u8]),
    /// The stream is served; only where no message says so.
    Joined(usize),
    /// The stream is over, and why.
    Ended(usize, &'a str),
}

/// One connection.
#[derive(Debug)]
pub(super) enum Protocol {
    /// gRPC.
    Http2(Http2),
    /// The messages of gRPC with their prefix, and nothing else; one stream.
    Tcp(Assembly),
    /// NATS.
    Nats(Nats),
}

impl Protocol {
    /// Sends one message on a stream.
    pub(super) fn send(&mut self, index: usize, message: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Http2(http2) => http2.send(index, message, out),
            Self::Tcp(_) => out.extend_from_slice(message),
            Self::Nats(nats) => nats.send(index, message, out),
        }
    }

    /// Takes what has come, and says how much of it need not be shown again.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        hear: &mut impl FnMut(Heard<'_>),
    ) -> Result<usize, Fault> {
        match self {
            Self::Http2(http2) => http2.receive(bytes, out, hear),
            Self::Tcp(assembly) => {
                assembly.feed(bytes, &mut |message| hear(Heard::Message(0, message)))?;
                Ok(bytes.len())
            }
            Self::Nats(nats) => nats.receive(bytes, out, hear),
        }
    }
}
