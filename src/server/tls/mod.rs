//! TLS of the door: the handshake, and who the client has proved to be.
//!
//! TLS 1.2 and 1.3 with the safe choices of rustls, and HTTP/2 as the only protocol. What is in force can be replaced at
//! any time: handshakes that begin later take the new files, connections that are open go on with what they began with.
//! Nothing here knows paths but [`files`]; a handshake that fails ends its own connection and nothing else.

pub mod files;
mod identity;
pub(super) mod reload;

use std::{
    io,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::ServerConfig;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::grpc::peer::ClientCertificate;

/// The one protocol that is spoken (RFC 9113, 3.1).
const ALPN: &[u8] = b"h2";

/// A connection on which TLS was agreed.
pub(super) type Stream = TlsStream<TcpStream>;

/// What handshakes are made with, now.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    current: Arc<RwLock<Arc<ServerConfig>>>,
}

/// Why a handshake led to nothing.
#[derive(Debug, Error)]
pub(super) enum HandshakeError {
    /// TLS itself failed.
    #[error("the TLS handshake failed")]
    Failed(#[source] io::Error),
    /// The client wants another protocol, or did not say which.
    #[error("the client does not ask for HTTP/2 (ALPN h2)")]
    Protocol,
    /// The certificate is valid, and does not say whose it is in a way that can be used.
    #[error("the client's certificate was verified, but its names cannot be read")]
    Identity(#[source] identity::Unreadable),
}

impl Tls {
    fn new(config: Arc<ServerConfig>) -> Self {
        Self { current: Arc::new(RwLock::new(config)) }
    }

    fn replace(&self, config: Arc<ServerConfig>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Agrees on keys with a client; its certificate, if it has shown one.
    pub(super) async fn handshake(
        &self,
        stream: TcpStream,
    ) -> Result<(Stream, Option<Arc<ClientCertificate>>), HandshakeError> {
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        let stream = TlsAcceptor::from(config).accept(stream).await.map_err(HandshakeError::Failed)?;
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(ALPN) {
            return Err(HandshakeError::Protocol);
        }
        let shown = session.peer_certificates().and_then(|chain| chain.first());
        let certificate = shown.map(identity::client_certificate).transpose();
        let certificate = certificate.map_err(HandshakeError::Identity)?.map(Arc::new);
        Ok((stream, certificate))
    }
}
