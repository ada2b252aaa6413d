//! Who is at the other end of a connection, as far as the connection itself tells.
//!
//! Every request has a [`Peer`] in its extensions. Nothing here decides what a peer may do: that is for whoever reads
//! it. A connection that has neither an address nor a certificate (one through memory) is the default peer.

use std::{net::IpAddr, sync::Arc};

use crate::{address, clock::Timestamp};

/// The other end of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// Where it connects from; behind a proxy, the proxy's.
    pub address: Option<IpAddr>,
    /// What it has proved to be, by a certificate that the server's authorities have signed.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// A verified certificate of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Who it names: the first URI of its alternative names, else the first DNS name or e-mail address of them, else
    /// the common name.
    pub subject: String,
    /// The SHA-256 of the whole certificate, in lower-case hex.
    pub fingerprint: String,
    /// When it ends to be valid.
    pub not_after: Timestamp,
}

impl Peer {
    /// The address that limits for each peer count by; see [`address::counted`].
    pub fn counted(&self) -> Option<IpAddr> {
        self.address.and_then(address::counted)
    }
}
