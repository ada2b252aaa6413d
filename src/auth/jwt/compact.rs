//! The compact form of a signed token: three parts in base64url with points between them.
//!
//! Takes it apart without believing any of it. Headers that say where a key is to be had (`jku`, `x5u`), or that hold
//! one (`jwk`, `x5c`), are not looked at: keys come from who runs this server, never from who sends a token.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::auth::jwt::{error::TokenError, json, key::Algorithm};

/// The longest token, in bytes: metadata of a call have to fit 16 KiB, and everything before the signature is work for
/// somebody who has not proven anything yet.
pub const MAX_BYTES: usize = 8 << 10;
/// The longest name of a key, in bytes: a hash in hexadecimal has 64, some providers take a URL.
const KID_BYTES: usize = 256;

/// A token that was taken apart, and that nobody has verified.
pub(super) struct Compact<'a> {
    /// What the signature is over.
    pub(super) signed: &'a [u8],
    /// The signature.
    pub(super) signature: Vec<u8>,
    /// How it claims to be signed.
    pub(super) algorithm: Algorithm,
    /// Which key it claims to be signed with.
    pub(super) kid: Option<String>,
    /// What it says.
    pub(super) payload: Map<String, Value>,
}

impl<'a> Compact<'a> {
    /// Takes `token` apart.
    pub(super) fn parse(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_BYTES {
            return Err(TokenError::TooLong { max: MAX_BYTES });
        }
        let three = TokenError::Malformed("it must consist of three parts with points between them");
        let (signed, signature) = token.rsplit_once('.').ok_or_else(|| three.clone())?;
        let (header, payload) = signed.split_once('.').ok_or_else(|| three.clone())?;
        if payload.contains('.') || header.is_empty() || payload.is_empty() {
            return Err(three);
        }
        let header = decode(header).ok_or(TokenError::Malformed("its first part is no base64url"))?;
        let header =
            json::object(&header).ok_or(TokenError::Malformed("its first part is no JSON object"))?;
        let (algorithm, kid) = read_header(&header)?;
        let payload = decode(payload).ok_or(TokenError::Malformed("its second part is no base64url"))?;
        let payload =
            json::object(&payload).ok_or(TokenError::Malformed("its second part is no JSON object"))?;
        let signature = decode(signature)
            .filter(|signature| !signature.is_empty())
            .ok_or(TokenError::Malformed("its third part is no base64url"))?;
        Ok(Self { signed: signed.as_bytes(), signature, algorithm, kid, payload })
    }
}

/// Joins what is to be signed.
pub(super) fn signing_input(header: &Value, payload: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(payload))
}

/// The token that is signed.
pub(super) fn join(signed: &str, signature: &[u8]) -> String {
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Base64 for URLs, in its one form: no padding, no bits to spare, no other characters.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn read_header(header: &Map<String, Value>) -> Result<(Algorithm, Option<String>), TokenError> {
    // Whatever it asks for: nothing beyond the standard itself is understood. `b64` changes what is signed, and means
    // something only as a critical header.
    if header.contains_key("crit") || header.contains_key("b64") {
        return Err(TokenError::Critical);
    }
    if ["enc", "zip"].iter().any(|name| header.contains_key(*name)) {
        return Err(TokenError::Malformed("it is encrypted or compressed"));
    }
    let is_known = |typ: &str| {
        let typ = typ.to_ascii_lowercase();
        ["jwt", "at+jwt"].contains(&typ.strip_prefix("application/").unwrap_or(&typ))
    };
    match header.get("typ") {
        None => {}
        Some(Value::String(typ)) if is_known(typ) => {}
        Some(_) => return Err(TokenError::Type),
    }
    let algorithm = match header.get("alg") {
        Some(Value::String(name)) => Algorithm::parse(name).ok_or(TokenError::Algorithm)?,
        Some(_) | None => return Err(TokenError::Malformed("its header has no text `alg`")),
    };
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= KID_BYTES => Some(kid.clone()),
        Some(_) => return Err(TokenError::Malformed("its `kid` is no text of at most 256 bytes")),
    };
    Ok((algorithm, kid))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn token(header: &Value) -> Result<(Algorithm, Option<String>), TokenError> {
        let token = join(&signing_input(header, &json!({})), b"signature");
        Compact::parse(&token).map(|compact| (compact.algorithm, compact.kid))
    }

    #[test]
    fn a_token_is_taken_apart() {
        let signed = signing_input(&json!({"alg": "HS256", "kid": "k"}), &json!({"sub": "zoe"}));
        let token = join(&signed, b"signature");
        let compact = Compact::parse(&token).unwrap();
        assert_eq!(compact.signed, signed.as_bytes());
        assert_eq!(compact.signature, b"signature");
        assert_eq!((compact.algorithm, compact.kid.as_deref()), (Algorithm::Hs256, Some("k")));
        assert_eq!(compact.payload.get("sub"), Some(&json!("zoe")));
    }

    #[test]
    fn what_has_not_three_parts_is_refused() {
        for text in ["", ".", "..", "...", "a", "a.b", "a.b.c.d", "a.b.c.d.e", "é.é.é", "\0.\0.\0"] {
            assert!(matches!(Compact::parse(text), Err(TokenError::Malformed(_))), "{text:?}");
        }
        assert!(matches!(Compact::parse(&".".repeat(MAX_BYTES)), Err(TokenError::Malformed(_))));
    }

    #[test]
    fn the_length_is_limited() {
        let at = "a".repeat(MAX_BYTES);
        assert!(matches!(Compact::parse(&at), Err(TokenError::Malformed(_))));
        let over = "a".repeat(MAX_BYTES + 1);
        assert_eq!(Compact::parse(&over).err(), Some(TokenError::TooLong { max: MAX_BYTES }));
    }

    #[test]
    fn base64_has_one_form() {
        assert_eq!(decode("_-8"), Some(vec![0xff, 0xef]));
        for text in ["_-8=", "/+8", "_-9", "_", "_- 8", "_-8\n"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    #[test]
    fn types_are_read_leniently_and_critical_headers_never() {
        for typ in ["JWT", "jwt", "at+jwt", "application/at+jwt", "application/JWT"] {
            assert_eq!(token(&json!({"alg": "HS256", "typ": typ})), Ok((Algorithm::Hs256, None)), "{typ}");
        }
        for typ in [json!("dpop+jwt"), json!("logout+jwt"), json!(""), json!(1), json!(null), json!(["JWT"])]
        {
            assert_eq!(token(&json!({"alg": "HS256", "typ": typ})), Err(TokenError::Type), "{typ}");
        }
        for header in [
            json!({"alg": "HS256", "crit": ["b64"], "b64": false}),
            json!({"alg": "HS256", "crit": []}),
            json!({"alg": "HS256", "crit": null}),
            json!({"alg": "HS256", "b64": true}),
        ] {
            assert_eq!(token(&header), Err(TokenError::Critical), "{header}");
        }
    }

    #[test]
    fn an_algorithm_is_one_of_ours() {
        for alg in
            ["none", "None", "", "hs256", "HS512", "RS512", "PS256", "ES256K", "ES384", "dir", "RSA-OAEP"]
        {
            assert_eq!(token(&json!({"alg": alg})), Err(TokenError::Algorithm), "{alg}");
        }
        for header in [json!({}), json!({"alg": null}), json!({"alg": ["HS256"]}), json!({"alg": 1})] {
            assert!(matches!(token(&header), Err(TokenError::Malformed(_))), "{header}");
        }
    }

    #[test]
    fn the_name_of_a_key_is_a_text_of_limited_length() {
        let of = |kid: Value| token(&json!({"alg": "HS256", "kid": kid}));
        assert!(of(json!("k".repeat(KID_BYTES))).is_ok());
        for kid in [json!("k".repeat(KID_BYTES + 1)), json!(1), json!(null), json!({"k": 1})] {
            assert!(matches!(of(kid), Err(TokenError::Malformed(_))));
        }
    }
}
