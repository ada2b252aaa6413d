//! What a log comes to: one value for everything in it, in its order.
//!
//! Each position has a link: the digest of the link before it, and of everything that the store keeps of the event. So
//! whoever has kept the link of a position elsewhere can tell whether anything up to there was changed, removed, put in
//! another order or cut off. The first link is of the room's id: the log of one room is not that of another. Nothing is
//! stored for an event, and appends do not depend on it: everybody who reads the same log comes to the same links.
//!
//! A link tells nothing of what it is made of, as long as that cannot be guessed: what stays on the server and must not
//! be guessed (who has voted in secret) is stored with random bytes beside it (`wire/encode.rs`).

use crate::{
    clock::Timestamp,
    digest,
    domain::event::Kind,
    ids::{EventId, RoomId, Seq},
};

/// What is hashed before everything else, so that no other digest of this server is a link.
const FORM: &[u8] = b"salon.chain.1";

/// The link of one position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The position.
    pub seq: Seq,
    /// The digest.
    pub hash: [u8; 32],
}

/// What the store keeps of an event but for its position.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// Its id.
    pub event_id: EventId,
    /// When it was accepted.
    pub at: Timestamp,
    /// What kind it is.
    pub kind: Kind,
    /// What is sent of it.
    pub public: &'a [u8],
    /// What stays on the server.
    pub private: &'a [u8],
}

impl Link {
    /// The link before the first event of a room.
    pub fn first(room: &RoomId) -> Self {
        Self { seq: Seq::ZERO, hash: digest::sha256(&[FORM, room.as_str().as_bytes()]) }
    }

    /// The link of the event behind this one's position.
    pub fn next(&self, event: &Stored<'_>) -> Self {
        let seq = self.seq.next();
        let kind = match event.kind {
            Kind::Other => 0,
            Kind::Message => 1,
            Kind::Membership => 2,
        };
        let hash = digest::sha256(&[
            &self.hash,
            &seq.0.to_be_bytes(),
            event.event_id.0.as_bytes(),
            &event.at.0.to_be_bytes(),
            &[kind],
            &length(event.public),
            event.public,
            &length(event.private),
            event.private,
        ]);
        Self { seq, hash }
    }
}

/// Bytes of any length are hashed behind it: none can pass for a part of the next.
fn length(bytes: &[u8]) -> [u8; 8] {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn event(n: u128) -> Stored<'static> {
        let (event_id, at) = (EventId(Uuid::from_u128(n)), Timestamp(1_700_000_000_000));
        Stored { event_id, at, kind: Kind::Message, public: b"public", private: b"private" }
    }

    fn room(id: &str) -> RoomId {
        RoomId::parse(id).unwrap()
    }

    /// What was written down of a log must hold with every later version of the server.
    #[test]
    fn the_form_never_changes() {
        let first = Link::first(&room("lobby"));
        let second = first.next(&event(7));
        // As another implementation of SHA-256 has it, given the same bytes.
        assert_eq!(
            digest::to_hex(&first.hash),
            "6617434a2fe224f2b621bd3c660f23192664f9df9d0d0757b6675a097e5c0958"
        );
        assert_eq!(
            digest::to_hex(&second.hash),
            "82520f75201f70f79df4519876a2a53e5738659ba7bb5bcc73574e6d9576b184"
        );
        assert_eq!(second.seq, Seq(1));
    }

    #[test]
    fn every_part_of_an_event_and_every_event_before_it_counts() {
        let first = Link::first(&room("lobby"));
        let link = first.next(&event(7));
        let one = event(7);
        let others = [
            Stored { event_id: event(8).event_id, ..one },
            Stored { at: Timestamp(one.at.0 + 1), ..one },
            Stored { kind: Kind::Other, ..one },
            Stored { kind: Kind::Membership, ..one },
            Stored { public: b"publiC", ..one },
            Stored { private: b"privatE", ..one },
            Stored { private: b"", ..one },
            // What moves from one half to the other.
            Stored { public: b"publicp", private: b"rivate", ..one },
        ];
        for other in others {
            assert_ne!(first.next(&other).hash, link.hash, "{other:?}");
        }
        assert_ne!(Link::first(&room("lobby2")).next(&one).hash, link.hash);
        assert_ne!(link.next(&one).hash, Link { seq: Seq::ZERO, ..link }.next(&one).hash);
        let in_order = first.next(&event(1)).next(&event(2));
        assert_ne!(first.next(&event(2)).next(&event(1)).hash, in_order.hash);
    }
}
