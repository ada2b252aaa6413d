//! Who is at the other end of a connection, as far as the connection itself tells.
//!
//! Every request has a [`Peer`] in its extensions. Nothing here decides what a peer may do: that is for whoever reads
//! it. A connection that has neither an address nor a certificate (one through memory) is the default peer.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use crate::clock::Timestamp;

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
    /// The address that limits for each peer count by; see [`counted()`].
    pub fn counted(&self) -> Option<IpAddr> {
        self.address.and_then(counted)
    }
}

/// What an address is counted as. A host of IPv6 has a whole /64 to itself, so that its addresses count as one. None:
/// not counted, because it is this machine.
pub fn counted(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V4(address) => Some(address.into()),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Some(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_as_what_one_host_has() {
        for (address, as_what) in [
            ("192.0.2.7", Some("192.0.2.7")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("2001:db8:1:2:3:4:5:6", Some("2001:db8:1:2::")),
            ("2001:db8:1:2:ffff::", Some("2001:db8:1:2::")),
            ("2001:db8:1:3::", Some("2001:db8:1:3::")),
            ("127.0.0.1", None),
            ("127.8.8.8", None),
            ("::1", None),
            ("::ffff:127.0.0.1", None),
        ] {
            let as_what: Option<IpAddr> = as_what.map(|text| text.parse().unwrap());
            assert_eq!(counted(address.parse().unwrap()), as_what, "{address}");
        }
        assert_eq!(Peer::default().counted(), None);
    }
}
