//! Secrets that this server makes: shown once, known afterwards by their hash alone.
//!
//! A secret is 32 random bytes, written as 64 hexadecimal digits. What is hashed is that text, not the bytes it stands
//! for, and the first 16 digits of the SHA-256 are the public id of its holder: the rule of Deaddrop, so that its
//! secrets and ids can be taken over as they are. A public id is half of what a forger would have to match, so nothing
//! is believed before [`Hash::is_of`] has compared the whole hash. Making one fails only when the system gives no
//! randomness.

use std::fmt;

use aws_lc_rs::rand;
use secrecy::{ExposeSecret as _, SecretString};
use thiserror::Error;

use crate::digest;

/// Hexadecimal digits of a public id.
pub const ID_CHARS: usize = 16;
/// Hexadecimal digits of a secret.
pub const SECRET_CHARS: usize = 64;

/// The system gave no randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the system gives no randomness")]
pub struct NoRandomness;

/// Bytes that nobody can guess.
pub fn random_bytes() -> Result<[u8; SECRET_CHARS / 2], NoRandomness> {
    let mut bytes = [0; SECRET_CHARS / 2];
    rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// A secret: printed only by whoever asks for it by name.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// A new one.
    pub fn random() -> Result<Self, NoRandomness> {
        Ok(Self(digest::to_hex(&random_bytes()?).into()))
    }

    /// Its text, for the one answer that shows it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What is kept of it.
    pub fn hash(&self) -> Hash {
        Hash::of(self.expose())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What is kept of a secret. It is printed by its public id alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of the text that somebody shows.
    pub fn of(text: &str) -> Self {
        Self(digest::sha256(&[text.as_bytes()]))
    }

    /// As it is written down; `None` if that is not what `hex` is.
    pub fn parse(hex: &str) -> Option<Self> {
        digest::from_hex(hex).map(Self)
    }

    /// As it is written down.
    pub fn to_hex(self) -> String {
        digest::to_hex(&self.0)
    }

    /// The public id of whoever has the secret.
    pub fn id(self) -> String {
        let mut hex = self.to_hex();
        hex.truncate(ID_CHARS);
        hex
    }

    /// Whether a text can be a public id.
    pub fn is_id(text: &str) -> bool {
        text.len() == ID_CHARS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }

    /// Whether it is all of this other one, in a time that shows nothing of where they differ.
    pub fn is_same(self, other: Self) -> bool {
        digest::same(&self.0, &other.0)
    }

    /// Whether this is the text's, all of it.
    pub fn is_of(self, text: &str) -> bool {
        self.is_same(Self::of(text))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({}…)", self.id())
    }
}

/// Whether a text could be a secret at all. What could not be is refused without a look at the store.
pub fn is_shaped(text: &str) -> bool {
    text.len() == SECRET_CHARS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_text_and_not_of_its_bytes() {
        let text = "00".repeat(32);
        // `printf 0000… | sha256sum`
        let whole = "60e05bd1b195af2f94112fa7197a5c88289058840ce7c6df9693756bc6250f55";
        assert_eq!(Hash::of(&text).to_hex(), whole);
        assert_eq!(Hash::of(&text).id(), &whole[..ID_CHARS]);
        assert_ne!(Hash::of(&text).to_hex(), digest::to_hex(&digest::sha256(&[&[0; 32]])));
    }

    #[test]
    fn secrets_differ_and_are_shown_by_name_only() {
        let (one, other) = (Secret::random().unwrap(), Secret::random().unwrap());
        assert_ne!(one.expose(), other.expose());
        assert!(is_shaped(one.expose()) && is_shaped(other.expose()));
        for shown in [format!("{one:?}"), format!("{one}"), format!("{:?}", one.hash())] {
            assert!(!shown.contains(&one.expose()[..8]), "{shown}");
            assert!(!shown.contains(&one.hash().to_hex()), "{shown}");
        }
    }

    #[test]
    fn the_whole_hash_is_compared() {
        let secret = Secret::random().unwrap();
        let mut near = secret.hash();
        assert!(near.is_of(secret.expose()));
        near.0[31] ^= 1;
        assert_eq!(near.id(), secret.hash().id());
        assert!(!near.is_of(secret.expose()));
        assert_eq!(Hash::parse(&near.to_hex()), Some(near));
        assert_eq!(Hash::parse(&near.id()), None);
    }

    #[test]
    fn what_cannot_be_a_secret_is_seen() {
        for wrong in ["", "abc", &"A".repeat(64), &"g".repeat(64), &"a".repeat(65), &"é".repeat(32)] {
            assert!(!is_shaped(wrong), "{wrong}");
        }
    }
}
