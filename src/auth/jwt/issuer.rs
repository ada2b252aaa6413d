//! Who is trusted, and with what.
//!
//! An issuer has keys, the algorithms it signs with, and one tenant that it speaks for. What contradicts itself is
//! refused before any token comes.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use serde_json::{Map, Value};

use crate::{
    auth::jwt::{
        claims::{self, ClaimNames},
        compact::Compact,
        error::{IssuerError, KeyError, TokenError},
        fetch::{InFile, Remote, Source},
        jwk::KeySet,
        key::{Algorithm, Key},
        refresh::{RefreshSettings, Refreshed},
        times::Window,
    },
    ids::Namespace,
};

/// Somebody whose tokens are believed.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// How the operator calls them.
    pub name: String,
    /// What their tokens have as `iss`; none: they have none.
    pub iss: Option<String>,
    /// What this server is called in `aud`, of which one must be there. None: the tokens must not have an `aud`.
    pub audiences: Vec<String>,
    /// What they sign with.
    pub algorithms: Vec<Algorithm>,
    /// Their keys. Several at once are how keys are changed.
    pub keys: Vec<KeySource>,
    /// Whom they speak for.
    pub tenant: Tenant,
    /// What their claims mean.
    pub claims: ClaimNames,
    /// How far their clock may be from ours.
    pub leeway: Duration,
    /// How long their tokens may be valid.
    pub max_lifetime: Duration,
    /// How often their key sets are read that change.
    pub refresh: RefreshSettings,
}

/// Where an issuer's key is.
#[derive(Clone)]
pub enum KeySource {
    /// A secret for HS256.
    Secret {
        /// What tokens call it; none: any name is taken for its own.
        kid: Option<String>,
        /// Its bytes.
        secret: SecretSlice<u8>,
    },
    /// A public key in the PEM format.
    Pem {
        /// What tokens call it; none: any name is taken for its own.
        kid: Option<String>,
        /// The whole text.
        text: String,
    },
    /// A JSON Web Key Set; it may hold secrets.
    Set(SecretString),
    /// A file with a JSON Web Key Set, which is read again; it may hold secrets.
    File(PathBuf),
    /// The URL of a JSON Web Key Set, which is read again.
    Url(String),
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret { kid, .. } => write!(f, "Secret({kid:?})"),
            Self::Pem { kid, .. } => write!(f, "Pem({kid:?})"),
            Self::Set(_) => f.write_str("Set"),
            Self::File(path) => write!(f, "File({})", path.display()),
            // It may hold a secret.
            Self::Url(_) => f.write_str("Url"),
        }
    }
}

/// Whom an issuer speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenant {
    /// This one, whatever a token says.
    Only(Namespace),
    /// The one that this claim names: for an issuer that is trusted in all of them.
    Claim(String),
}

impl Tenant {
    pub(super) fn read(&self, payload: &Map<String, Value>) -> Result<Namespace, TokenError> {
        match self {
            Self::Only(namespace) => Ok(namespace.clone()),
            Self::Claim(name) => {
                let text =
                    claims::text(payload, name)?.ok_or_else(|| TokenError::claim(name, "is missing"))?;
                Namespace::parse(text).map_err(|error| TokenError::claim(name, error.to_string()))
            }
        }
    }
}

/// An issuer whose settings have been checked.
#[derive(Debug)]
pub(super) struct Trusted {
    pub(super) name: Arc<str>,
    pub(super) iss: Option<String>,
    audiences: Vec<String>,
    pub(super) algorithms: Vec<Algorithm>,
    /// The keys that never change.
    fixed: KeySet,
    /// The sets that do.
    pub(super) changing: Vec<Refreshed>,
    pub(super) tenant: Tenant,
    pub(super) claims: ClaimNames,
    pub(super) window: Window,
}

impl Trusted {
    pub(super) fn new(issuer: Issuer) -> Result<Self, IssuerError> {
        let refused = |rule| IssuerError::Refused { issuer: issuer.name.clone(), rule };
        if issuer.keys.is_empty() {
            return Err(refused("has no key"));
        }
        if issuer.algorithms.is_empty() {
            return Err(refused("must name the algorithms it signs with"));
        }
        if issuer.iss.as_deref() == Some("") || issuer.audiences.iter().any(String::is_empty) {
            return Err(refused("must not have an empty `iss` or audience"));
        }
        if issuer.claims.user.is_empty() {
            return Err(refused("must name the claim that says who the user is"));
        }
        let name: Arc<str> = issuer.name.as_str().into();
        let mut fixed = Vec::new();
        let mut changing = Vec::new();
        for source in issuer.keys {
            let bad = |source| IssuerError::Key { issuer: issuer.name.clone(), source };
            let again: Box<dyn Source> = match source {
                KeySource::File(path) => Box::new(InFile(path)),
                KeySource::Url(url) => Box::new(Remote::new(&url).map_err(bad)?),
                KeySource::Secret { .. } | KeySource::Pem { .. } | KeySource::Set(_) => {
                    fixed.extend(read(source).map_err(bad)?);
                    continue;
                }
            };
            changing.push(Refreshed::new(Arc::clone(&name), again, issuer.refresh));
        }
        // One that is never used is a mistake, and the mistake is seen here instead of with the first token.
        if let Some(key) = fixed.iter().find(|key| !issuer.algorithms.contains(&key.algorithm())) {
            let rule = match key.algorithm() {
                Algorithm::Hs256 => "has a secret, and does not sign with HS256",
                Algorithm::Rs256 => "has an RSA key, and does not sign with RS256",
                Algorithm::Es256 => "has a key of P-256, and does not sign with ES256",
                Algorithm::EdDsa => "has a key of Ed25519, and does not sign with EdDSA",
            };
            return Err(IssuerError::Refused { issuer: issuer.name, rule });
        }
        let fixed =
            KeySet::new(fixed).map_err(|source| IssuerError::Key { issuer: issuer.name.clone(), source })?;
        Ok(Self {
            name,
            iss: issuer.iss,
            audiences: issuer.audiences,
            algorithms: issuer.algorithms,
            fixed,
            changing,
            tenant: issuer.tenant,
            claims: issuer.claims,
            window: Window { leeway: issuer.leeway, max_lifetime: issuer.max_lifetime },
        })
    }

    /// Whether a token could be of either.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let none = self.audiences.is_empty() && other.audiences.is_empty();
        self.iss == other.iss && (none || self.audiences.iter().any(|one| other.audiences.contains(one)))
    }

    /// Whether a token for these is one for us.
    pub(super) fn is_meant(&self, audiences: &Option<Vec<&str>>) -> bool {
        match audiences {
            None => self.audiences.is_empty(),
            Some(named) => self.audiences.iter().any(|own| named.contains(&own.as_str())),
        }
    }

    /// Whether one of the keys has signed it that are in memory.
    pub(super) fn check_signature_at_once(&self, token: &Compact<'_>) -> Result<(), TokenError> {
        let is_signed = |keys: &KeySet| is_signed(keys, token);
        let changing = || self.changing.iter().filter_map(Refreshed::kept);
        match is_signed(&self.fixed) || changing().any(|keys| is_signed(&keys)) {
            true => Ok(()),
            false => Err(TokenError::Signature),
        }
    }

    /// Whether one of its keys has signed it.
    pub(super) async fn check_signature(&self, token: &Compact<'_>) -> Result<(), TokenError> {
        let (algorithm, kid) = (token.algorithm, token.kid.as_deref());
        let is_signed = |keys: &KeySet| is_signed(keys, token);
        if is_signed(&self.fixed) {
            return Ok(());
        }
        let mut refused = match self.fixed.fitting(algorithm, kid).next() {
            Some(_) => TokenError::Signature,
            None => TokenError::UnknownKey,
        };
        for set in &self.changing {
            // A key of that name tells. Without a name only the signature tells whether the set is too old.
            match set.keys(|keys| keys.names(algorithm, kid) || is_signed(keys)).await {
                Ok(keys) if is_signed(&keys) => return Ok(()),
                Ok(_) => refused = TokenError::Signature,
                Err(TokenError::Unavailable) => refused = TokenError::Unavailable,
                Err(_) => {}
            }
        }
        // What has no name cannot be unknown.
        Err(if refused == TokenError::UnknownKey && kid.is_none() { TokenError::Signature } else { refused })
    }
}

/// Whether one of these keys has signed it.
fn is_signed(keys: &KeySet, token: &Compact<'_>) -> bool {
    let (algorithm, kid) = (token.algorithm, token.kid.as_deref());
    keys.fitting(algorithm, kid).any(|key| key.verifies(token.signed, &token.signature))
}

/// The keys of a source that never changes.
fn read(source: KeySource) -> Result<Vec<Key>, KeyError> {
    match source {
        KeySource::Secret { kid, secret } => Ok(vec![Key::secret(kid, secret.expose_secret())?]),
        KeySource::Pem { kid, text } => Ok(vec![Key::public_pem(kid, &text)?]),
        KeySource::Set(text) => Ok(KeySet::parse(text.expose_secret(), true)?.into_keys()),
        KeySource::File(_) | KeySource::Url(_) => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests;
