//! Tokens that libraries of other languages have made, good ones and forged ones, against the verifier.
//!
//! `python.json` and `node.json` were made once by the programs in `tests/foreign/tokens`. `tests/foreign/run tokens`
//! makes new ones with new keys, and names them in a variable; without it those are left out, and with
//! `SALON_TEST_TOKENS_REQUIRED` that is a failure.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use salon::{
    auth::{
        grants::Media,
        jwt::{
            Verifier,
            claims::{ClaimNames, Claims},
            error::TokenError,
            issuer::{Issuer, KeySource, Tenant},
            key::Algorithm,
            refresh::RefreshSettings,
        },
    },
    clock::Timestamp,
    domain::room::Role,
    ids::{Namespace, RoomId},
};
use secrecy::{SecretSlice, SecretString};
use serde::Deserialize;
use serde_json::Value;

/// One file of cases.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    /// Who has made them.
    by: String,
    /// When, in seconds.
    now: i64,
    issuers: BTreeMap<String, Keys>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    iss: Option<String>,
    #[serde(default)]
    audiences: Vec<String>,
    algorithms: Vec<String>,
    secret: Option<String>,
    pem: Option<String>,
    jwks: Option<Value>,
    kid: Option<String>,
    claims: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    token: String,
    /// Why it is refused: one of these words; none: it is believed.
    refused: Option<String>,
    user: Option<String>,
    room: Option<String>,
    display_name: Option<String>,
    role: Option<String>,
    may_write: Option<bool>,
    media: Option<Vec<String>>,
}

impl Cases {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn verifier(&self) -> Verifier {
        let issuers = self.issuers.iter().map(|(name, keys)| {
            let kid = keys.kid.clone();
            let secret = keys.secret.as_ref().map(|secret| KeySource::Secret {
                kid: kid.clone(),
                secret: SecretSlice::from(secret.clone().into_bytes()),
            });
            let pem = keys.pem.clone().map(|text| KeySource::Pem { kid: kid.clone(), text });
            let set = keys.jwks.as_ref().map(|set| KeySource::Set(SecretString::from(set.to_string())));
            Issuer {
                name: name.clone(),
                iss: keys.iss.clone(),
                audiences: keys.audiences.clone(),
                algorithms: keys.algorithms.iter().map(|name| Algorithm::parse(name).unwrap()).collect(),
                keys: secret.into_iter().chain(pem).chain(set).collect(),
                tenant: Tenant::Only(namespace()),
                claims: match keys.claims.as_deref() {
                    Some("coaching") => ClaimNames::coaching(),
                    _ => ClaimNames::default(),
                },
                leeway: Duration::from_secs(30),
                max_lifetime: Duration::from_secs(24 * 60 * 60),
                refresh: RefreshSettings::default(),
            }
        });
        Verifier::new(issuers.collect()).unwrap()
    }
}

fn namespace() -> Namespace {
    Namespace::parse("acme").unwrap()
}

/// One word for a refusal.
fn word(error: &TokenError) -> String {
    match error {
        TokenError::TooLong { .. } => "too_long".into(),
        TokenError::Malformed(_) => "malformed".into(),
        TokenError::Algorithm => "algorithm".into(),
        TokenError::Critical => "critical".into(),
        TokenError::Type => "type".into(),
        TokenError::Issuer => "issuer".into(),
        TokenError::Audience => "audience".into(),
        TokenError::UnknownKey => "unknown_key".into(),
        TokenError::Signature => "signature".into(),
        TokenError::Expired => "expired".into(),
        TokenError::NotYet => "not_yet".into(),
        TokenError::TooLongLived { .. } => "too_long_lived".into(),
        TokenError::Claim { name, .. } => format!("claim {name}"),
        TokenError::Unavailable => "unavailable".into(),
    }
}

/// What is wrong with what became of a case.
fn complaint(case: &Case, result: &Result<Claims, TokenError>) -> Option<String> {
    let claims = match (&case.refused, result) {
        (Some(words), Err(error)) if words.split('|').any(|wanted| wanted == word(error)) => return None,
        (Some(words), Err(error)) => return Some(format!("refused as {:?}, not as {words:?}", word(error))),
        (Some(words), Ok(_)) => return Some(format!("believed, and not refused as {words:?}")),
        (None, Err(error)) => return Some(format!("refused: {error}")),
        (None, Ok(claims)) => claims,
    };
    let role = claims.grants.role.map(|role| match role {
        Role::Viewer => "viewer",
        Role::Member => "member",
        Role::Admin => "admin",
    });
    let has = |kind: &str| case.media.as_ref().is_none_or(|media| media.iter().any(|word| word == kind));
    let media = Media { video: has("video"), audio: has("audio"), screen_share: has("screen-share") };
    let room = case.room.as_ref().map(|name| RoomId::parse(name).unwrap().within(&namespace()));
    let same = claims.namespace == namespace()
        && Some(claims.user.as_str()) == case.user.as_deref()
        && claims.room == room
        && claims.name == case.display_name
        && role == case.role.as_deref()
        && claims.grants.write == case.may_write.unwrap_or(true)
        && claims.grants.media == media;
    (!same).then(|| format!("says something else: {claims:?}, {:?}", claims.name))
}

/// Checks all cases of a file; returns how many were refused and believed, as they have to be.
async fn check(path: &Path) -> (usize, usize) {
    let cases = Cases::read(path);
    let verifier = cases.verifier();
    let now = Timestamp(cases.now * 1000);
    let mut complaints = Vec::new();
    for case in &cases.cases {
        let result = verifier.verify(&case.token, now).await;
        complaints.extend(complaint(case, &result).map(|text| format!("{}: {text}", case.name)));
        // No part of a token is repeated to anybody.
        if let Err(error) = &result {
            let tail = case.token.rsplit('.').next().unwrap_or_default();
            assert!(tail.len() < 16 || !error.to_string().contains(tail), "{}: {error}", case.name);
        }
    }
    assert!(complaints.is_empty(), "{}, {}:\n{}", path.display(), cases.by, complaints.join("\n"));
    let refused = cases.cases.iter().filter(|case| case.refused.is_some()).count();
    (refused, cases.cases.len() - refused)
}

#[tokio::test]
async fn those_that_were_kept() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/salon/tokens");
    let (refused, believed) = check(&here.join("python.json")).await;
    assert!(refused >= 200 && believed >= 25, "{refused} refused, {believed} believed");
    let (refused, believed) = check(&here.join("node.json")).await;
    assert!(refused >= 40 && believed >= 10, "{refused} refused, {believed} believed");
}

#[tokio::test]
async fn those_that_were_just_made() {
    let Ok(files) = std::env::var("SALON_TEST_TOKENS") else {
        assert!(std::env::var_os("SALON_TEST_TOKENS_REQUIRED").is_none(), "SALON_TEST_TOKENS is not set");
        println!("left out: SALON_TEST_TOKENS is not set; tests/foreign/run tokens sets it");
        return;
    };
    for file in files.split(':') {
        let (refused, believed) = check(Path::new(file)).await;
        println!("{file}: {refused} refused, {believed} believed");
        assert!(refused >= 40 && believed >= 10, "{refused} refused, {believed} believed");
    }
}

/// Whatever is done to a good token, it is refused or says the same; nothing panics.
#[tokio::test]
async fn tokens_that_are_damaged() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/salon/tokens");
    let cases = Cases::read(&here.join("python.json"));
    let verifier = cases.verifier();
    let now = Timestamp(cases.now * 1000);
    let mut tried = 0;
    for case in cases.cases.iter().filter(|case| case.refused.is_none()) {
        let good = verifier.verify(&case.token, now).await.unwrap();
        for at in (0..case.token.len()).step_by(7) {
            for with in ["", ".", "=", "A", "\0", "é", "..", "\u{202e}"] {
                let mut damaged = case.token.clone();
                damaged.replace_range(at..=at, with);
                if damaged != case.token {
                    let result = verifier.verify(&damaged, now).await;
                    assert!(result.is_err(), "{}: {with:?} at {at}: {good:?}", case.name);
                    tried += 1;
                }
            }
            assert!(verifier.verify(&case.token[..at], now).await.is_err());
            assert!(verifier.verify(&case.token[at + 1..], now).await.is_err());
        }
    }
    assert!(tried > 5000, "{tried}");
}
