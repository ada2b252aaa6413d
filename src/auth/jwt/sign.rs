//! Tokens that our own server signs: somebody may come, until then, and do at most this.
//!
//! They are meant to be short: made by an application's server for a user who joins now. [`Signer::issuer`] says whom
//! to trust so that they are believed, on each server that has the same keys. The first key signs and all are
//! believed: a new one is added behind the old one everywhere, then moved before it, and the old one is taken away when
//! its last token has expired.

use std::{fmt, time::Duration};

use aws_lc_rs::{
    hkdf, hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use secrecy::SecretString;
use serde_json::{Value, json};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    auth::{
        grants::Grants,
        jwt::{
            claims::{ClaimNames, KEY_CLAIM},
            compact,
            error::KeyError,
            issuer::{Issuer, KeySource, Tenant},
            key::{Algorithm, SECRET_BYTES},
            refresh::RefreshSettings,
            rights,
        },
    },
    clock::Timestamp,
    digest::{sha256, to_hex},
    domain::{
        limits::{DISPLAY_NAME_CHARS, check_name},
        room::Role,
    },
    ids::{Namespace, RoomId, UserId},
};

/// The claim that names the tenant: our own server speaks for all of them.
const NAMESPACE_CLAIM: &str = "ns";
/// How far the clocks of servers that share keys may be from one another.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// A key that tokens are signed with.
pub struct SigningKey {
    kid: String,
    kind: Kind,
}

enum Kind {
    Secret { key: Box<hmac::Key>, bytes: [u8; SECRET_BYTES] },
    Ed25519(Box<Ed25519KeyPair>),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A secret of the server's, from which the key for HS256 is derived: whatever else is derived from the same
    /// secret shows nothing of this one.
    pub fn from_secret(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < SECRET_BYTES {
            return Err(KeyError::ShortSecret { min: SECRET_BYTES, len: secret.len() });
        }
        if secret.starts_with(b"-----BEGIN") {
            return Err(KeyError::PemAsSecret);
        }
        let mut bytes = [0; SECRET_BYTES];
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"salon");
        let derived = salt.extract(secret);
        let derived = derived.expand(&[b"join tokens, HS256"], hkdf::HKDF_SHA256);
        // It fails for longer keys than there are.
        let too_long = |_| KeyError::ShortSecret { min: SECRET_BYTES, len: 0 };
        derived.map_err(too_long)?.fill(&mut bytes).map_err(too_long)?;
        let key = Box::new(hmac::Key::new(hmac::HMAC_SHA256, &bytes));
        Ok(Self { kid: name_of(b"secret", &bytes), kind: Kind::Secret { key, bytes } })
    }

    /// A private key of Ed25519 in the PEM format: whoever has its public part can check, and not sign.
    pub fn ed25519_pem(pem: &str) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::NotPrivatePem)?;
        // Some programs write the public part behind it and some do not.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der())
            .map_err(|_| KeyError::NotPrivatePem)?;
        Ok(Self { kid: name_of(b"ed25519", pair.public_key().as_ref()), kind: Kind::Ed25519(Box::new(pair)) })
    }

    fn algorithm(&self) -> Algorithm {
        match self.kind {
            Kind::Secret { .. } => Algorithm::Hs256,
            Kind::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    fn sign(&self, signed: &str) -> Vec<u8> {
        match &self.kind {
            Kind::Secret { key, .. } => hmac::sign(key, signed.as_bytes()).as_ref().to_vec(),
            Kind::Ed25519(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
        }
    }

    /// What checks it.
    fn as_jwk(&self) -> Value {
        match &self.kind {
            Kind::Secret { bytes, .. } => {
                json!({"kty": "oct", "alg": "HS256", "kid": self.kid, "k": URL_SAFE_NO_PAD.encode(bytes)})
            }
            Kind::Ed25519(pair) => {
                let x = URL_SAFE_NO_PAD.encode(pair.public_key());
                json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": self.kid, "x": x})
            }
        }
    }
}

/// A name that is the same on each server, and shows nothing of the key.
fn name_of(kind: &[u8], bytes: &[u8]) -> String {
    let hash = to_hex(&sha256(&[b"salon key ", kind, b" ", bytes]));
    hash.chars().take(16).collect()
}

/// What all tokens of a server have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerSettings {
    /// Who they are from (`iss`).
    pub issuer: String,
    /// Whom they are for (`aud`).
    pub audience: String,
    /// How long they may be valid.
    pub max_lifetime: Duration,
}

/// What one token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The tenant.
    pub namespace: Namespace,
    /// Who its holder is.
    pub user: UserId,
    /// How its holder is called.
    pub name: Option<String>,
    /// The one room it is for; none: any of the tenant's.
    pub room: Option<RoomId>,
    /// What it lets its holder do, at most.
    pub grants: Grants,
    /// How long it is valid.
    pub lifetime: Duration,
    /// The API key by which it is made, with which it ends; none: nobody's.
    pub minted_by: Option<String>,
}

/// A token, and what its maker wants to know of it. What is printed of it is no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Signed {
    /// The token: a secret.
    pub token: String,
    /// Its name (`jti`), by which it can be revoked.
    pub id: String,
    /// When it expires.
    pub expires_at: Timestamp,
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Signed");
        debug.field("id", &self.id).field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Why a token is not made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SignError {
    /// It would be valid for too long, or not at all.
    #[error("a token can be valid from 1 s to {} s", .max.as_secs())]
    Lifetime {
        /// The limit.
        max: Duration,
    },
    /// It cannot be the name of anybody.
    #[error("{0}")]
    Name(String),
    /// The room is another tenant's.
    #[error("the room is of another namespace")]
    ForeignRoom,
}

/// Signs tokens.
#[derive(Debug)]
pub struct Signer {
    settings: SignerSettings,
    first: SigningKey,
    others: Vec<SigningKey>,
}

impl Signer {
    /// Signs with `first`; tokens of `others` are believed as well.
    pub fn new(settings: SignerSettings, first: SigningKey, others: Vec<SigningKey>) -> Self {
        Self { settings, first, others }
    }

    /// A token that is valid from `now` on.
    pub fn sign(&self, of: &JoinToken, now: Timestamp) -> Result<Signed, SignError> {
        let max = self.settings.max_lifetime;
        if of.lifetime < Duration::from_secs(1) || of.lifetime > max {
            return Err(SignError::Lifetime { max });
        }
        if let Some(name) = &of.name {
            check_name("name", name, DISPLAY_NAME_CHARS)
                .map_err(|rejection| SignError::Name(rejection.to_string()))?;
        }
        if of.room.as_ref().is_some_and(|room| room.namespace() != of.namespace) {
            return Err(SignError::ForeignRoom);
        }
        // In whole seconds, as everybody reads them; it never begins later than now.
        let issued = now.0.div_euclid(1000);
        let expires = issued.saturating_add(i64::try_from(of.lifetime.as_secs()).unwrap_or(i64::MAX));
        let id = Uuid::new_v4().simple().to_string();
        let header = json!({"alg": self.first.algorithm().as_str(), "typ": "JWT", "kid": self.first.kid});
        let mut payload = json!({
            "iss": self.settings.issuer,
            "aud": self.settings.audience,
            "sub": of.user.as_str(),
            NAMESPACE_CLAIM: of.namespace.as_str(),
            "grants": rights::write(of.grants),
            "iat": issued,
            "exp": expires,
            "jti": id,
        });
        let role = of.grants.role.map(|role| match role {
            Role::Viewer => "viewer",
            Role::Member => "member",
            Role::Admin => "admin",
        });
        let texts = [
            ("room", of.room.as_ref().map(RoomId::name)),
            ("name", of.name.as_deref()),
            ("role", role),
            (KEY_CLAIM, of.minted_by.as_deref()),
        ];
        if let Some(payload) = payload.as_object_mut() {
            payload
                .extend(texts.into_iter().filter_map(|(claim, text)| Some((claim.to_owned(), text?.into()))));
        }
        let signed = compact::signing_input(&header, &payload);
        let token = compact::join(&signed, &self.first.sign(&signed));
        Ok(Signed { token, id, expires_at: Timestamp(expires.saturating_mul(1000)) })
    }

    /// Whom to trust so that what this signs is believed.
    pub fn issuer(&self) -> Issuer {
        let keys = || [&self.first].into_iter().chain(&self.others);
        let set = json!({"keys": keys().map(SigningKey::as_jwk).collect::<Vec<_>>()});
        let mut algorithms: Vec<Algorithm> = keys().map(SigningKey::algorithm).collect();
        algorithms.sort();
        algorithms.dedup();
        Issuer {
            name: "this server".into(),
            iss: Some(self.settings.issuer.clone()),
            audiences: vec![self.settings.audience.clone()],
            algorithms,
            keys: vec![KeySource::Set(SecretString::from(set.to_string()))],
            tenant: Tenant::Claim(NAMESPACE_CLAIM.into()),
            claims: ClaimNames::default(),
            leeway: LEEWAY,
            max_lifetime: self.settings.max_lifetime,
            refresh: RefreshSettings::default(),
        }
    }
}

#[cfg(test)]
mod tests;
