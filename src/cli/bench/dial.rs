//! The way to the server that is loaded: its address, and a connection over it.
//!
//! Errors name the address. Whether the server lets anybody in was asked before, by the ordinary client, whose errors a
//! person can do something about.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tonic::{Request, service::Interceptor as _};
use tower::Service as _;

use super::{
    args::Contract,
    link::Socket,
    protocol::{
        Protocol,
        http2::{self, Http2},
        nats::Nats,
        prefixed::Assembly,
    },
};
use crate::cli::{
    client::{self, CONNECT_TIMEOUT, Error, shown},
    text,
    tls::Dialer,
    token::Bearer,
};

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// gRPC in plain text.
    Http,
    /// gRPC over TLS.
    Https,
    /// Prefixed messages.
    Tcp,
    /// NATS.
    Nats,
}

/// A server.
pub(super) struct Dial {
    /// What it speaks.
    pub wire: Wire,
    /// Where it is.
    pub address: SocketAddr,
    /// What it is called.
    pub server: client::Server,
    uri: http::Uri,
    tls: Option<Dialer>,
    /// Name and password in the address, which only NATS takes.
    user: Option<(String, String)>,
    request: http2::Request,
}

impl Dial {
    /// Finds the address and reads what TLS is made of.
    pub(super) async fn new(server: client::Server, contract: Contract) -> Result<Self, Error> {
        let no_address = || Error::Address { given: text::line(&shown(&server.url)) };
        let uri: http::Uri = server.url.parse().map_err(|_| no_address())?;
        let wire = match uri.scheme_str() {
            Some("http") => Wire::Http,
            Some("https") => Wire::Https,
            Some("tcp") => Wire::Tcp,
            Some("nats") => Wire::Nats,
            _ => return Err(no_address()),
        };
        let usual = match wire {
            Wire::Https => Some(443),
            Wire::Nats => Some(4222),
            Wire::Http | Wire::Tcp => None,
        };
        let host = uri.host().ok_or_else(no_address)?.trim_matches(['[', ']']).to_owned();
        let port = uri.port_u16().or(usual).ok_or_else(no_address)?;
        let unreachable = |detail: String| Error::Unreachable {
            server: text::line(&shown(&server.url)),
            detail: text::line(&detail),
        };
        let found: Vec<SocketAddr> = lookup_host((host.as_str(), port))
            .await
            .map_err(|error| unreachable(error.to_string()))?
            .collect();
        let address = timeout(CONNECT_TIMEOUT, reachable(&found))
            .await
            .unwrap_or_else(|_| Err(late(CONNECT_TIMEOUT)))
            .map_err(|error| unreachable(error.to_string()))?;
        let tls = if wire == Wire::Https { Some(Dialer::new(&server.tls)?) } else { None };
        let shown = Bearer(server.token.clone())
            .call(Request::new(()))
            .map_err(|status| Error::from_status(&status, None))?;
        let request = http2::Request {
            is_tls: wire == Wire::Https,
            path: format!("/{}/RoomSession", contract.service()),
            authority: uri.authority().map(ToString::to_string).unwrap_or_default(),
            authorization: shown.metadata().get("authorization").map(|value| value.as_bytes().to_vec()),
        };
        let user = (wire == Wire::Nats).then(|| user_in(&uri)).flatten();
        Ok(Self { wire, address, server, uri, tls, user, request })
    }

    /// Whether it speaks gRPC.
    pub(super) fn is_grpc(&self) -> bool {
        matches!(self.wire, Wire::Http | Wire::Https)
    }

    /// A connection.
    pub(super) async fn connect(&self) -> Result<Box<dyn Socket>, Error> {
        let connected = timeout(CONNECT_TIMEOUT, self.socket()).await;
        let connected = connected.unwrap_or_else(|_| Err(late(CONNECT_TIMEOUT)));
        connected.map_err(|error| Error::Unreachable {
            server: text::line(&shown(&self.server.url)),
            detail: text::line(&error.to_string()),
        })
    }

    async fn socket(&self) -> io::Result<Box<dyn Socket>> {
        if let Some(dialer) = &self.tls {
            return Ok(Box::new(dialer.clone().call(self.uri.clone()).await?.into_inner()));
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    /// Begins what is spoken on a connection, for streams in these rooms.
    pub(super) fn begin(&self, rooms: Vec<String>, out: &mut Vec<u8>) -> Protocol {
        match self.wire {
            Wire::Http | Wire::Https => Protocol::Http2(Http2::open(&self.request, rooms.len(), out)),
            Wire::Tcp => Protocol::Tcp(Assembly::default()),
            Wire::Nats => Protocol::Nats(Nats::open(rooms, self.user.as_ref(), out)),
        }
    }
}

/// The first of these addresses that takes a connection: a server need not listen on all that its name has.
async fn reachable(addresses: &[SocketAddr]) -> io::Result<SocketAddr> {
    TcpStream::connect(addresses).await?.peer_addr()
}

/// `user:password` before the host.
fn user_in(uri: &http::Uri) -> Option<(String, String)> {
    let (user, _) = uri.authority()?.as_str().rsplit_once('@')?;
    let (name, password) = user.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

fn late(waited: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {waited:?}"))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn of_all_addresses_of_a_name_the_one_is_taken_that_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        // A port that was just free: bound once, so that nobody else listens on it.
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(reachable(&[closed, open]).await.unwrap(), open);
        assert!(reachable(&[closed]).await.is_err());
    }
}
