//! Tokens as strangers send them, and tokens that are signed properly and say anything.

use std::time::Duration;

use aws_lc_rs::hmac;
use futures_util::FutureExt as _;
use salon::{
    auth::jwt::{
        Verifier,
        claims::ClaimNames,
        issuer::{Issuer, KeySource, Tenant},
        key::Algorithm,
        refresh::RefreshSettings,
    },
    clock::Timestamp,
    ids::is_disturbing,
};

/// What the issuer signs with.
const SECRET: [u8; 32] = [7; 32];
/// How far the issuer's clock may be from ours.
const LEEWAY: Duration = Duration::from_secs(30);
/// 1 800 000 000 s: what seeds are valid at.
pub const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// The first byte says what follows: a token; a header and a payload that the issuer signs; a key set and a token.
pub fn token(data: &[u8]) {
    believed(data);
}

/// As [`token`]; whether it is believed.
pub fn believed(data: &[u8]) -> bool {
    let Some((what, data)) = data.split_first() else { return false };
    let pieces = super::pieces(data);
    let second = pieces.get(1).copied().unwrap_or_default();
    match what % 3 {
        0 => check_own(&String::from_utf8_lossy(data)),
        1 => check_own(&signed(pieces[0], second)),
        _ => {
            let set = String::from_utf8_lossy(pieces[0]).into_owned();
            // A key set that is none is refused before any token comes.
            let Some(verifier) = verifier(Some(set)) else { return false };
            check(&verifier, &String::from_utf8_lossy(second))
        }
    }
}

/// Where the issuer has one key, that has signed what is believed.
fn check_own(token: &str) -> bool {
    let is_believed = check(&verifier(None).expect("an issuer with a secret"), token);
    if is_believed {
        let (head, _) = token.rsplit_once('.').expect("what is believed has a signature");
        assert_eq!(token, with_signature(head), "what is believed is signed by the issuer");
    }
    is_believed
}

fn check(verifier: &Verifier, token: &str) -> bool {
    let result = verifier.verify(token, NOW).now_or_never().expect("keys that are here are not waited for");
    match result {
        Ok(claims) => {
            assert!(claims.expires_at.plus(LEEWAY) > NOW, "what is believed is not over");
            true
        }
        Err(error) => {
            let said = error.to_string();
            assert!(!said.contains(is_disturbing), "{said:?}");
            false
        }
    }
}

fn verifier(set: Option<String>) -> Option<Verifier> {
    let own = KeySource::Secret { kid: Some("k1".into()), secret: SECRET.to_vec().into() };
    let keys = [own].into_iter().chain(set.map(|set| KeySource::Set(set.into()))).collect();
    let issuer = Issuer {
        name: "issuer".into(),
        iss: Some("https://issuer".into()),
        audiences: vec!["salon".into()],
        algorithms: Algorithm::ALL.to_vec(),
        keys,
        tenant: Tenant::Claim("tenant".into()),
        claims: ClaimNames::coaching(),
        leeway: LEEWAY,
        max_lifetime: Duration::from_secs(24 * 3600),
        refresh: RefreshSettings::default(),
    };
    Verifier::new(vec![issuer]).ok()
}

/// A token as its issuer makes it, whatever it says.
pub fn signed(header: &[u8], payload: &[u8]) -> String {
    with_signature(&format!("{}.{}", base64(header), base64(payload)))
}

fn with_signature(head: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRET);
    format!("{head}.{}", base64(hmac::sign(&key, head.as_bytes()).as_ref()))
}

/// Base64 for URLs, without padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let mut bits = [0, 0, 0, 0];
        bits[1..=three.len()].copy_from_slice(three);
        let bits = u32::from_be_bytes(bits);
        for at in 0..=three.len() {
            text.push(char::from(LETTERS[(bits >> (18 - 6 * at)) as usize & 63]));
        }
    }
    text
}
