//! Making tokens: the seam to whoever has the key to sign them.

use std::{fmt, time::Duration};

use secrecy::SecretString;

use crate::{
    auth::grants::Grants,
    clock::Timestamp,
    domain::rejection::Rejection,
    ids::{Namespace, RoomId, UserId},
};

/// What a token is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// The namespace it stays in.
    pub namespace: Namespace,
    /// The user it speaks for.
    pub user: UserId,
    /// The name others see; none: what each join says.
    pub name: Option<String>,
    /// The one room it may enter; none: every room that lets its user in.
    pub room: Option<RoomId>,
    /// What it allows, at most.
    pub grants: Grants,
    /// How long it is valid.
    pub lifetime: Duration,
}

/// A token that was made.
#[derive(Debug, Clone)]
pub struct Minted {
    /// The token.
    pub token: SecretString,
    /// Its `jti`.
    pub id: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Makes tokens that this server believes. Each says when it was issued: a user's can be revoked up to a time.
pub trait MintTokens: fmt::Debug + Send + Sync {
    /// Makes one that begins now. Refuses what cannot be signed, naming the field.
    fn mint(&self, token: &NewToken, now: Timestamp) -> Result<Minted, Rejection>;
}
