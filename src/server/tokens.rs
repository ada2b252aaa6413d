//! From `auth.tokens` of the configuration to who is trusted, and what signs.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use thiserror::Error;

use crate::{
    auth::jwt::{
        Verifier,
        claims::ClaimNames,
        error::{IssuerError, KeyError},
        issuer::{Issuer, KeySource, Tenant},
        key::Algorithm,
        refresh::RefreshSettings,
        sign::{LEEWAY, Signer, SignerSettings, SigningKey},
    },
    config::{TokenIssuer, Tokens},
    domain::room::Role,
    ids::Namespace,
};

/// What begins a key in the PEM format.
const PEM_BEGIN: &str = "-----BEGIN";

/// Why keys cannot be used as they are.
#[derive(Debug, Error)]
pub enum TokensError {
    /// An issuer cannot be trusted as it is described.
    #[error("auth.tokens: {0}")]
    Issuer(#[from] IssuerError),
    /// A key of ours is no good.
    #[error("auth.tokens.signing_key_env or signing_key_file: {0}")]
    Signing(#[from] KeyError),
}

/// What believes tokens, and what signs them.
#[derive(Debug)]
pub struct TokenParts {
    /// Believes those of the issuers, and those that `signer` signs.
    pub verifier: Verifier,
    /// Signs join tokens; none without a key.
    pub signer: Option<Signer>,
}

/// Makes them; nothing is fetched yet.
pub fn build(tokens: &Tokens) -> Result<TokenParts, TokensError> {
    let mut issuers: Vec<Issuer> =
        tokens.issuers.iter().map(|(name, entry)| issuer(name, entry, tokens.keys_of(name))).collect();
    let signer = signer(tokens)?;
    issuers.extend(signer.as_ref().map(Signer::issuer));
    Ok(TokenParts { verifier: Verifier::new(issuers)?, signer })
}

/// How long any token may be believed: it may be from as far in the future as clocks differ, and ends as much later.
pub fn longest_life(tokens: &Tokens) -> Duration {
    let issuers = tokens.issuers.values().map(|entry| entry.max_lifetime + 2 * entry.leeway);
    issuers.fold(tokens.signing_max_lifetime + 2 * LEEWAY, Duration::max)
}

fn signer(tokens: &Tokens) -> Result<Option<Signer>, KeyError> {
    let mut keys = Vec::new();
    for key in tokens.signing_keys() {
        let text = key.expose_secret();
        keys.push(match text.starts_with(PEM_BEGIN) {
            true => SigningKey::ed25519_pem(text)?,
            false => SigningKey::from_secret(text.as_bytes())?,
        });
    }
    let mut keys = keys.into_iter();
    let settings = SignerSettings {
        issuer: tokens.signing_name.clone(),
        audience: tokens.signing_name.clone(),
        max_lifetime: tokens.signing_max_lifetime,
    };
    Ok(keys.next().map(|first| Signer::new(settings, first, keys.collect())))
}

/// What an entry says, which has been checked: what nobody could have written is left out.
fn issuer(name: &str, entry: &TokenIssuer, keys: &[SecretString]) -> Issuer {
    let algorithms: Vec<Algorithm> =
        entry.algorithms.iter().filter_map(|name| Algorithm::parse(name)).collect();
    let is_secret = algorithms.iter().any(|algorithm| algorithm.is_symmetric());
    let keys = keys.iter().map(|key| {
        let text = key.expose_secret();
        match is_secret {
            true => KeySource::Secret { kid: None, secret: SecretSlice::from(text.as_bytes().to_vec()) },
            false => KeySource::Pem { kid: None, text: text.to_owned() },
        }
    });
    let file = entry.jwks_file.clone().map(KeySource::File);
    let url = entry.jwks_url.clone().map(KeySource::Url);
    Issuer {
        name: name.to_owned(),
        iss: entry.issuer.clone(),
        audiences: entry.audiences.clone(),
        keys: keys.chain(file).chain(url).collect(),
        algorithms,
        tenant: Tenant::Only(Namespace::parse(&entry.namespace).unwrap_or_default()),
        claims: claims(entry),
        leeway: entry.leeway,
        max_lifetime: entry.max_lifetime,
        refresh: RefreshSettings::default(),
    }
}

fn claims(entry: &TokenIssuer) -> ClaimNames {
    let mut claims = match entry.claims.as_str() {
        "coaching" => ClaimNames::coaching(),
        _ => ClaimNames::default(),
    };
    for (key, name) in entry.claim_names.iter() {
        let claim = match key {
            "user" => &mut claims.user,
            "name" => &mut claims.name,
            "room" => &mut claims.room,
            "role" => &mut claims.role,
            "grants" => &mut claims.grants,
            _ => &mut claims.media,
        };
        name.clone_into(claim);
    }
    let role = |word: &str| match word {
        "viewer" => Some(Role::Viewer),
        "member" => Some(Role::Member),
        "admin" => Some(Role::Admin),
        _ => None,
    };
    claims.roles.extend(entry.roles.iter().filter_map(|(word, own)| Some((word.clone(), role(own)?))));
    claims
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_revoked_is_remembered_as_long_as_the_longest_token_lives() {
        let mut tokens = Tokens::default();
        assert_eq!(longest_life(&tokens), tokens.signing_max_lifetime + 2 * LEEWAY);
        let year = Duration::from_secs(366 * 24 * 3600);
        let minute = Duration::from_secs(60);
        let entry = TokenIssuer { max_lifetime: year, leeway: minute, ..TokenIssuer::default() };
        tokens.issuers.insert("idp".into(), entry);
        tokens.issuers.insert("other".into(), TokenIssuer::default());
        assert_eq!(longest_life(&tokens), year + 2 * minute);
    }
}
