//! The way to a server: one channel, and errors that say what a person can do about them.
//!
//! Never retries by itself: a command that should survive a lost connection does so with what it knows of its
//! own state. A server that cannot be reached is an error within [`CONNECT_TIMEOUT`].

use std::{fmt, io, time::Duration};

use thiserror::Error;
use tonic::{
    Code, Status,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};

use crate::{
    cli::{
        text,
        tls::{self, Dialer, TlsOptions},
        token::{Bearer, Token},
    },
    wire::pb::room::v1::{admin_service_client::AdminServiceClient, room_service_client::RoomServiceClient},
};

/// How long to wait for a TCP connection: a server nearby answers in milliseconds, one across the world in less
/// than a second, and a person does not want to stare at nothing.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What may be under way on the whole connection; a burst of history must not wait for window updates.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// What may be under way on one stream.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// A `room_state` with long messages may be larger than the 4 MiB a client accepts by default.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why a command could not do its work.
#[derive(Debug, Error)]
pub enum Error {
    /// The address cannot be read.
    #[error("{given:?} is no server address; write host:port, for example 127.0.0.1:50052")]
    Address {
        /// What was given.
        given: String,
    },
    /// TLS cannot be spoken with what was given.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// Nobody answers at the address.
    #[error(
        "no server answers at {server} ({detail}); is it running? `salon serve` starts one, --server names another"
    )]
    Unreachable {
        /// The address that was tried.
        server: String,
        /// The innermost cause.
        detail: String,
    },
    /// The server wants a credential, or another one.
    #[error("the server refused: {0}; give a credential with SALON_TOKEN or --token-file")]
    Unauthenticated(String),
    /// The room does not exist, and the command does not create rooms.
    #[error(
        "there is no room {room:?}; `salon rooms` lists rooms, `salon chat {room} --create` creates this one"
    )]
    NoRoom {
        /// The room that was asked for.
        room: String,
    },
    /// The server speaks another contract.
    #[error("the server at this address does not know this call; is it a Salon server of this version?")]
    Unimplemented,
    /// The server said no.
    #[error("the server refused: {message} ({code})")]
    Refused {
        /// The contract's code, or the status' name.
        code: String,
        /// The server's words, safe to print.
        message: String,
    },
    /// The connection broke while an answer was awaited.
    #[error("the connection to the server was lost: {0}")]
    Lost(String),
    /// What the server sent does not fit the contract.
    #[error("the server's answer could not be read: {0}")]
    Answer(String),
    /// Writing to the output failed.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// The terminal cannot be used for a conversation.
    #[error("this terminal cannot be used: {0}; try with a pipe, for example: echo hello | salon chat ROOM")]
    Terminal(String),
}

impl Error {
    /// Whether the reader of the output went away, which ends a command without being its fault.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// A refused call about `room`.
    pub fn from_status(status: &Status, room: Option<&str>) -> Self {
        let message = text::line(status.message());
        // What the server says itself has no cause here; what happened on the way to it has.
        let by_server = std::error::Error::source(status).is_none() && !message.is_empty();
        match (status.code(), room) {
            (Code::Unavailable, _) if by_server => Self::Refused { code: "Unavailable".to_owned(), message },
            (Code::NotFound, Some(room)) => Self::NoRoom { room: text::line(room) },
            (Code::Unauthenticated, _) => Self::Unauthenticated(message),
            (Code::Unimplemented, _) if !by_server => Self::Unimplemented,
            (Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded, _) => {
                Self::Lost(if message.is_empty() { status.code().to_string() } else { message })
            }
            (code, _) => Self::Refused { code: format!("{code:?}"), message },
        }
    }
}

/// A server, and how it is to be trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// `host:port`, `http://host:port` or `https://host:port`.
    pub url: String,
    /// What TLS is made of, if the address asks for it.
    pub tls: TlsOptions,
    /// What it is shown; none: it lets anybody in.
    pub token: Option<Token>,
}

impl From<String> for Server {
    fn from(url: String) -> Self {
        Self { url, ..Self::default() }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.url))
    }
}

/// An address without what stands before its host, which may be a password.
pub fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}

/// The address as a URI that tonic can dial: a bare `host:port` speaks plain HTTP/2.
fn endpoint(server: &str) -> Result<Endpoint, Error> {
    let given = || text::line(&shown(server));
    let uri = match server.contains("://") {
        true => server.to_owned(),
        false => format!("http://{server}"),
    };
    let parsed: http::Uri = uri.parse().map_err(|_| Error::Address { given: given() })?;
    let is_tls = parsed.scheme_str() == Some("https");
    let is_server = matches!(parsed.scheme_str(), Some("http" | "https"))
        && matches!(parsed.path(), "" | "/")
        // A host alone is enough where the scheme says which port is meant.
        && (parsed.port_u16().is_some() || (is_tls && parsed.port().is_none()));
    if !is_server {
        return Err(Error::Address { given: given() });
    }
    Ok(Endpoint::from(parsed)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_adaptive_window(false))
}

/// Connects to `server`. The channel connects anew by itself with the next call after it was lost.
pub async fn connect(server: &Server) -> Result<Channel, Error> {
    let endpoint = endpoint(&server.url)?;
    let connected = match endpoint.uri().scheme_str() {
        Some("https") => endpoint.connect_with_connector(Dialer::new(&server.tls)?).await,
        _ => endpoint.connect().await,
    };
    connected.map_err(|error| Error::Unreachable {
        server: text::line(&shown(&server.url)),
        detail: innermost(&error),
    })
}

/// A channel that adds the caller's credential.
pub type Wire = InterceptedService<Channel, Bearer>;
/// A client of the room service.
pub type Rooms = RoomServiceClient<Wire>;
/// A client of the administration.
pub type Admin = AdminServiceClient<Wire>;

/// A client of the room service at `server`.
pub async fn rooms(server: &Server) -> Result<Rooms, Error> {
    let client = RoomServiceClient::with_interceptor(connect(server).await?, Bearer(server.token.clone()));
    Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX))
}

/// A client of the administration at `server`.
pub async fn admin(server: &Server) -> Result<Admin, Error> {
    Ok(AdminServiceClient::with_interceptor(connect(server).await?, Bearer(server.token.clone())))
}

/// What went wrong at the very bottom: "transport error" alone helps nobody.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    text::line(&cause.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in [
            "127.0.0.1:50052",
            "http://[::1]:50052",
            "room.example:443",
            "http://a:1/",
            "https://a:1",
            "https://room.example",
        ] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in ["", "localhost", "http://", "a b:1", "host:port", "http://a:1/path", "ftp://a:1"] {
            assert!(matches!(endpoint(bad), Err(Error::Address { .. })), "{bad}");
        }
    }

    #[test]
    fn a_password_in_the_address_is_not_shown() {
        for (given, seen) in [
            ("nats://ada:s3cr3t@127.0.0.1:4222", "nats://127.0.0.1:4222"),
            ("ada:s3cr3t@127.0.0.1:50052", "127.0.0.1:50052"),
            ("http://127.0.0.1:50052", "http://127.0.0.1:50052"),
            ("http://:s3c@r3t@[::1]:1", "http://[::1]:1"),
        ] {
            assert_eq!(shown(given), seen);
            assert_eq!(Server::from(given.to_owned()).to_string(), seen);
        }
        let refused = endpoint("ftp://ada:s3cr3t@a:1").unwrap_err().to_string();
        assert!(!refused.contains("s3cr3t"), "{refused}");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_named_with_what_to_do() {
        // A port that was just free: bound once, so that nobody else listens on it.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = connect(&format!("127.0.0.1:{port}").into()).await.unwrap_err().to_string();
        assert!(error.contains(&port.to_string()), "{error}");
        assert!(error.contains("salon serve"), "{error}");
        assert!(error.to_lowercase().contains("refused"), "{error}");
    }

    #[test]
    fn a_refusal_keeps_the_servers_words_and_none_of_its_escapes() {
        let error = Error::from_status(&Status::not_found("gone"), Some("tea")).to_string();
        assert!(error.contains("salon chat tea --create"), "{error}");
        let error = Error::from_status(&Status::permission_denied("no\u{1b}[2J way"), None).to_string();
        assert_eq!(error, "the server refused: no way (PermissionDenied)");
        let error = Error::from_status(&Status::unavailable("no room was proposed"), None).to_string();
        assert_eq!(error, "the server refused: no room was proposed (Unavailable)");
    }
}
