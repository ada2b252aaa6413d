//! Invitations: what lets one user into a room, once, until its time has passed.
//!
//! The secret exists in two places only: with whoever made the invitation, and with whom they gave it. Rooms keep its
//! SHA-256. Nothing here makes up a secret: it comes in, like ids and the time.

use std::{fmt, fmt::Write as _, time::Duration};

use crate::{
    clock::Timestamp,
    digest,
    domain::room::Role,
    ids::{InvitationId, UserId},
};

/// Invitations that still let somebody in, in one room.
pub const INVITATIONS: usize = 100;
/// How long one lets in when nobody says otherwise.
pub const DEFAULT_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long one may let in at most.
pub const LONGEST_LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What somebody must know to be let in. Shown nowhere by accident: it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Of these random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        Self(random)
    }

    /// The text that is handed over: 64 hexadecimal digits.
    pub fn reveal(&self) -> String {
        hex(&self.0)
    }

    /// What of it is kept.
    pub fn hash(&self) -> SecretHash {
        SecretHash(digest::sha256(&[&self.0]))
    }

    /// Reads the text that was handed over; `None`: it is no secret.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = digits.iter().try_fold(0_u8, |sum, digit| {
                let digit = char::from(*digit).to_digit(16)?;
                sum.checked_mul(16)?.checked_add(u8::try_from(digit).ok()?)
            })?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// SHA-256 of a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Reads one back; `None`: it has another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// As it is kept.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The id of the invitation with this secret: what may be shown of it.
    pub fn id(&self) -> InvitationId {
        InvitationId::of_hash(&self.0)
    }

    /// Whether both are the same; it takes as long when they differ early as when they differ late.
    pub fn is(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretHash({})", self.id())
    }
}

/// An invitation that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Unique.
    pub id: InvitationId,
    /// Of its secret.
    pub hash: SecretHash,
    /// What it makes of who comes with it.
    pub role: Role,
    /// Only this user; `None`: anybody.
    pub for_user: Option<UserId>,
    /// Who made it.
    pub created_by: UserId,
    /// From when on it lets nobody in.
    pub expires_at: Timestamp,
}

impl Invitation {
    /// Whether its time has not passed.
    pub fn is_open(&self, at: Timestamp) -> bool {
        self.expires_at > at
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A text takes whatever is written to it.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_it_is_revealed_and_shown_nowhere_else() {
        let secret = Secret::new(std::array::from_fn(|n| u8::try_from(n * 7).unwrap()));
        let text = secret.reveal();
        assert_eq!((text.len(), Secret::parse(&text)), (64, Some(secret.clone())));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        for bad in ["", &text[1..], &format!("{text}0"), &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(Secret::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_hash_is_sha_256_and_its_beginning_the_id() {
        // The vector of FIPS 180-4 for 32 zero bytes is well known.
        let hash = Secret::new([0; 32]).hash();
        assert_eq!(hex(&hash.0), "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925");
        assert_eq!(hash.id().as_str(), "66687aadf862bd77");
        assert!(hash.is(&hash) && !hash.is(&Secret::new([1; 32]).hash()));
        assert_eq!(SecretHash::from_bytes(hash.as_bytes()), Some(hash));
        assert_eq!(SecretHash::from_bytes(&[0; 31]), None);
    }
}
