//! Sets of keys as JSON (RFC 7517): what of one is used.
//!
//! A set is somebody else's, and may hold keys for other purposes: what is not meant for signatures, is of another
//! kind, or could be broken is passed by. A set of which nothing is left is refused, and so is one that gives a private
//! key away: then anybody can sign.

use serde_json::{Map, Value};

use crate::auth::jwt::{
    compact::decode,
    error::KeyError,
    json,
    key::{Algorithm, Key},
};

/// Keys of one set: a token without a name of a key is tried with all of its algorithm.
const MOST_KEYS: usize = 64;

/// Keys to be tried.
#[derive(Debug, Clone, Default)]
pub(super) struct KeySet(Vec<Key>);

impl KeySet {
    /// These keys.
    pub(super) fn new(keys: Vec<Key>) -> Result<Self, KeyError> {
        if keys.len() > MOST_KEYS { Err(KeyError::TooMany { max: MOST_KEYS }) } else { Ok(Self(keys)) }
    }

    /// The keys of a set that `text` is. Secrets are taken only from one that nobody else can read.
    pub(super) fn parse(text: &str, with_secrets: bool) -> Result<Self, KeyError> {
        let set = json::object(text.as_bytes())
            .ok_or(KeyError::NotKeySet("it is no JSON object, or says something twice"))?;
        let Some(Value::Array(members)) = set.get("keys") else {
            return Err(KeyError::NotKeySet("it has no list `keys`"));
        };
        if members.len() > MOST_KEYS {
            return Err(KeyError::TooMany { max: MOST_KEYS });
        }
        let mut keys = Vec::new();
        for member in members.iter().filter_map(Value::as_object) {
            if member.contains_key("d") {
                return Err(KeyError::NotKeySet("it holds a private key: whoever reads it can sign"));
            }
            keys.extend(read(member, with_secrets));
        }
        if keys.is_empty() { Err(KeyError::NoUsableKey) } else { Ok(Self(keys)) }
    }

    /// Whether one of them is called `kid`, and is for `algorithm`.
    pub(super) fn names(&self, algorithm: Algorithm, kid: Option<&str>) -> bool {
        kid.is_some() && self.0.iter().any(|key| key.kid.as_deref() == kid && key.algorithm() == algorithm)
    }

    /// Those that a token may be signed with.
    pub(super) fn fitting(&self, algorithm: Algorithm, kid: Option<&str>) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(move |key| key.fits(algorithm, kid))
    }

    /// What it is made of.
    pub(super) fn into_keys(self) -> Vec<Key> {
        self.0
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }
}

/// One key, if it can be used.
fn read(member: &Map<String, Value>, with_secrets: bool) -> Option<Key> {
    let text = |name: &str| member.get(name).and_then(Value::as_str);
    let bytes = |name: &str| text(name).and_then(decode);
    let number = |name: &str| <[u8; 32]>::try_from(bytes(name)?).ok();
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    if let Some(Value::Array(uses)) = member.get("key_ops")
        && !uses.iter().any(|word| word == "verify")
    {
        return None;
    }
    let kid = text("kid").map(str::to_owned);
    let key = match (text("kty")?, text("crv")) {
        ("RSA", _) => {
            let n = bytes("n")?;
            // Some write the zero that the standard leaves out.
            let n = n.strip_prefix(&[0]).unwrap_or(&n);
            Key::rsa(kid, n, &bytes("e")?)
        }
        ("EC", Some("P-256")) => Key::p256(kid, &number("x")?, &number("y")?),
        ("OKP", Some("Ed25519")) => Key::ed25519(kid, &number("x")?),
        ("oct", _) if with_secrets => Key::secret(kid, &bytes("k")?),
        _ => return None,
    };
    let key = key.inspect_err(|error| tracing::debug!(%error, "key of a set passed by")).ok()?;
    // What it says it is for may not be what it is.
    let is_meant = text("alg").is_none_or(|name| Algorithm::parse(name) == Some(key.algorithm()));
    is_meant.then_some(key)
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::json;

    use super::*;

    /// From RFC 7517, A.1.
    fn ec() -> Value {
        json!({
            "kty": "EC", "crv": "P-256", "kid": "ec",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
            "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        })
    }

    fn secret(bytes: usize) -> Value {
        json!({"kty": "oct", "kid": "s", "k": URL_SAFE_NO_PAD.encode(vec![7; bytes])})
    }

    fn with(mut key: Value, name: &str, value: Value) -> Value {
        key[name] = value;
        key
    }

    fn count(keys: &[Value], with_secrets: bool) -> Result<usize, KeyError> {
        KeySet::parse(&json!({"keys": keys}).to_string(), with_secrets).map(|set| set.iter().count())
    }

    #[test]
    fn keys_for_signatures_are_taken_and_others_passed_by() {
        assert_eq!(count(&[ec()], false), Ok(1));
        for passed_by in [
            with(ec(), "use", json!("enc")),
            with(ec(), "key_ops", json!(["sign"])),
            with(ec(), "alg", json!("RS256")),
            with(ec(), "alg", json!("ES384")),
            with(ec(), "crv", json!("P-384")),
            with(ec(), "x", json!("AAAA")),
            // Not on the curve.
            with(ec(), "x", json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
            json!({"kty": "new"}),
            json!({}),
            json!(1),
            // Three bits more than nothing.
            json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
        ] {
            assert_eq!(
                count(std::slice::from_ref(&passed_by), false),
                Err(KeyError::NoUsableKey),
                "{passed_by}"
            );
            assert_eq!(count(&[passed_by, ec()], false), Ok(1));
        }
        for taken in [
            with(ec(), "use", json!("sig")),
            with(ec(), "key_ops", json!(["verify"])),
            with(ec(), "alg", json!("ES256")),
        ] {
            assert_eq!(count(&[taken], false), Ok(1));
        }
    }

    #[test]
    fn an_exponent_of_one_is_refused() {
        // The signature of everything would be the message itself.
        let modulus = URL_SAFE_NO_PAD.encode([0xc1; 256]);
        let of = |e: &str| count(&[json!({"kty": "RSA", "n": modulus, "e": e})], false);
        assert_eq!(of("AQAB"), Ok(1));
        assert_eq!(of("AQ"), Err(KeyError::NoUsableKey));
        assert_eq!(of("Ag"), Err(KeyError::NoUsableKey));
    }

    #[test]
    fn secrets_are_taken_only_where_nobody_else_reads_and_never_short_ones() {
        assert_eq!(count(&[secret(32)], true), Ok(1));
        assert_eq!(count(&[secret(31)], true), Err(KeyError::NoUsableKey));
        assert_eq!(count(&[secret(32)], false), Err(KeyError::NoUsableKey));
    }

    #[test]
    fn a_set_that_gives_a_private_key_away_is_refused() {
        let private = with(ec(), "d", json!("870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"));
        assert!(matches!(count(&[ec(), private], true), Err(KeyError::NotKeySet(_))));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["", "[]", "{}", r#"{"keys": {}}"#, r#"{"keys": [], "keys": []}"#, "<html>"] {
            assert!(matches!(KeySet::parse(text, true), Err(KeyError::NotKeySet(_))), "{text}");
        }
        assert_eq!(count(&[], true), Err(KeyError::NoUsableKey));
        assert_eq!(count(&vec![ec(); MOST_KEYS], true), Ok(MOST_KEYS));
        assert_eq!(count(&vec![ec(); MOST_KEYS + 1], true), Err(KeyError::TooMany { max: MOST_KEYS }));
    }

    #[test]
    fn a_key_is_for_one_algorithm_and_one_name() {
        let set = KeySet::parse(&json!({"keys": [ec(), secret(32)]}).to_string(), true).unwrap();
        let fitting = |algorithm, kid| set.fitting(algorithm, kid).count();
        assert_eq!(fitting(Algorithm::Es256, Some("ec")), 1);
        assert_eq!(fitting(Algorithm::Es256, None), 1);
        assert_eq!(fitting(Algorithm::Es256, Some("s")), 0);
        assert_eq!(fitting(Algorithm::Hs256, Some("ec")), 0);
        assert!(set.names(Algorithm::Hs256, Some("s")));
        assert!(!set.names(Algorithm::Es256, Some("s")));
        assert!(!set.names(Algorithm::Es256, None));
    }
}
