//! Signed tokens as the gate asks for them.

use async_trait::async_trait;

use crate::{
    auth::{
        directory::Directory,
        gate::{self, Effort, Refused},
        jwt::{Verifier, claims::Claims, error::TokenError},
        principal::{Credential, Principal},
        secret::Hash,
    },
    clock::Timestamp,
};

/// Believes tokens of the issuers, for namespaces that are there.
#[derive(Debug)]
pub struct TokenSource {
    verifier: Verifier,
    directory: Directory,
}

impl TokenSource {
    /// Tokens that `verifier` believes; `directory` says which namespaces there are.
    pub fn new(verifier: Verifier, directory: Directory) -> Self {
        Self { verifier, directory }
    }

    /// Reads the keys that are elsewhere, so that the first token need not wait for them.
    pub async fn warm(&self) {
        self.verifier.warm().await;
    }
}

#[async_trait]
impl gate::Source for TokenSource {
    async fn verify(&self, credential: &str, now: Timestamp, effort: Effort) -> Result<Principal, Refused> {
        let verified = match effort {
            Effort::Full => self.verifier.verify(credential, now).await,
            Effort::Known => self.verifier.verify_at_once(credential, now),
        };
        let claims = verified.map_err(|error| match error {
            TokenError::Expired => Refused::Expired,
            TokenError::Unavailable => Refused::Unavailable,
            other => Refused::Token(other),
        })?;
        self.directory.admits(&claims.namespace).await?;
        if let Some(key) = &claims.minted_by {
            if !Hash::is_id(key) {
                return Err(Refused::Invalid("salon_key is not the id of a key"));
            }
            self.directory.admits_key(&claims.namespace, key).await?;
        }
        Ok(principal(claims))
    }
}

fn principal(claims: Claims) -> Principal {
    let Claims { namespace, user, name, room, grants, issued_at, expires_at, id, issuer, minted_by } = claims;
    Principal {
        room: room.map(|room| room.within(&namespace)),
        namespace,
        user: Some(user),
        name,
        grants,
        issued_at,
        expires_at: Some(expires_at),
        credential: Credential::Token { issuer: issuer.to_string(), id },
        minted_by,
        ..Principal::open()
    }
}
