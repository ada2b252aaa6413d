//! What an address on the network counts as, wherever something is counted by addresses.
//!
//! Pure; knows of no connection.

use std::net::{IpAddr, Ipv6Addr};

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
    }
}
