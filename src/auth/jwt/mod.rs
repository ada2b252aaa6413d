//! JSON Web Tokens: what somebody has signed whom we trust is believed, within what that somebody may say.
//!
//! Owns the way from a text to [`Claims`], and from what our own server grants to a text (`sign.rs`). Whom to trust is
//! given as [`Issuer`]s, what time it is as a [`Timestamp`]: never asks the machine, never knows of gRPC, of a store or
//! of the configuration, and never looks for a key where a token says that one is. A token is refused with a
//! [`TokenError`] whatever it holds; only when an issuer's keys cannot be read nobody knows, and it may come again.
//!
//! Signatures are those of `aws-lc-rs`, which TLS brings along. The rest is done here because what stands around them
//! is where readers of tokens have failed: a key has one algorithm and is used with no other, names stand once in an
//! object, base64 has one form, and times are compared with a time that is given.

pub mod claims;
pub mod compact;
pub mod error;
mod fetch;
pub mod issuer;
mod json;
mod jwk;
pub mod key;
pub mod refresh;
mod rights;
pub mod sign;
pub mod source;
mod times;

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Map, Value};

use crate::{
    auth::jwt::{
        claims::Claims,
        compact::Compact,
        error::{IssuerError, TokenError},
        issuer::{Issuer, Trusted},
    },
    clock::Timestamp,
};

/// Believes tokens of the issuers it was given, and of nobody else.
#[derive(Debug)]
pub struct Verifier {
    trusted: Vec<Trusted>,
}

impl Verifier {
    /// Trusts these issuers. Nothing is fetched yet.
    pub fn new(issuers: Vec<Issuer>) -> Result<Self, IssuerError> {
        let trusted: Vec<Trusted> = issuers.into_iter().map(Trusted::new).collect::<Result<_, _>>()?;
        for (at, one) in trusted.iter().enumerate() {
            if let Some(other) = trusted.iter().skip(at + 1).find(|other| one.is_like(other)) {
                return Err(IssuerError::Ambiguous {
                    one: one.name.to_string(),
                    other: other.name.to_string(),
                });
            }
        }
        Ok(Self { trusted })
    }

    /// Whether nobody is trusted at all.
    pub fn is_empty(&self) -> bool {
        self.trusted.is_empty()
    }

    /// Reads the key sets that change, so that the first tokens need not wait. What fails is logged, and read again
    /// when it is needed.
    pub async fn warm(&self) {
        join_all(self.trusted.iter().flat_map(|trusted| &trusted.changing).map(|set| set.keys(|_| true)))
            .await;
    }

    /// What `token` says, if it is to be believed `now`. Waits only for keys: usually not at all.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        let (compact, trusted) = self.trusted(token)?;
        trusted.check_signature(&compact).await?;
        Self::claims(trusted, &compact, now)
    }

    /// The same with the keys that are in memory: never waits, and nothing is fetched for a key that is not known.
    pub fn verify_at_once(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        let (compact, trusted) = self.trusted(token)?;
        trusted.check_signature_at_once(&compact)?;
        Self::claims(trusted, &compact, now)
    }

    /// A token in its parts, and whose it says it is.
    fn trusted<'t>(&self, token: &'t str) -> Result<(Compact<'t>, &Trusted), TokenError> {
        let compact = Compact::parse(token)?;
        let trusted = self.issuer_of(&compact.payload)?;
        match trusted.algorithms.contains(&compact.algorithm) {
            true => Ok((compact, trusted)),
            false => Err(TokenError::Algorithm),
        }
    }

    /// What a token says whose signature is good.
    fn claims(trusted: &Trusted, compact: &Compact<'_>, now: Timestamp) -> Result<Claims, TokenError> {
        let expires_at = trusted.window.check(&compact.payload, now)?;
        let holder = trusted.claims.read(&compact.payload)?;
        let namespace = trusted.tenant.read(&compact.payload)?;
        Ok(Claims {
            user: holder.user,
            name: holder.name,
            room: holder.room.map(|room| room.within(&namespace)),
            grants: holder.grants,
            expires_at,
            issued_at: times::moment(&compact.payload, "iat")?,
            id: holder.id,
            issuer: Arc::clone(&trusted.name),
            minted_by: holder.minted_by,
            namespace,
        })
    }

    /// Whose token it says it is. Nothing of it is believed yet: it only chooses whose keys have to fit.
    fn issuer_of(&self, payload: &Map<String, Value>) -> Result<&Trusted, TokenError> {
        let iss = claims::text(payload, "iss")?;
        let audiences = audiences(payload)?;
        let mut of_issuer = self.trusted.iter().filter(|trusted| trusted.iss.as_deref() == iss).peekable();
        if of_issuer.peek().is_none() {
            return Err(TokenError::Issuer);
        }
        let mut meant = of_issuer.filter(|trusted| trusted.is_meant(&audiences));
        match (meant.next(), meant.next()) {
            (Some(trusted), None) => Ok(trusted),
            // For two of ours at once: whose it is would depend on their order.
            (Some(_), Some(_)) | (None, _) => Err(TokenError::Audience),
        }
    }
}

/// Whom a token is meant for: nobody in particular, one, or several.
fn audiences(payload: &Map<String, Value>) -> Result<Option<Vec<&str>>, TokenError> {
    let refused = || TokenError::claim("aud", "must be a text or a list of texts");
    match payload.get("aud") {
        None => Ok(None),
        Some(Value::String(one)) => Ok(Some(vec![one])),
        Some(Value::Array(several)) => {
            let texts = several.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
            texts.map(Some).ok_or_else(refused)
        }
        Some(_) => Err(refused()),
    }
}
