//! Settings that contradict themselves, and whose token a token is.

use serde_json::{Value, json};

use super::*;
use crate::{
    auth::jwt::{Verifier, claims::Claims, compact},
    clock::Timestamp,
};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
/// Of 1024 bits.
const SHORT_RSA: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCrRVHHhpbayD4EkaSS46HJT4pW
ye12OCkQtqmNOqEWnVvyKqpNSE7dbX3FM32NlB4WMbviKpgjEhJ9Te1oDM+NbWDG
mOUi/DQBAvsZ31IxgR5BfM9hgx4C00/epiSzklC7uIEb3Pfy3BraontSz0y1cBPW
24l3/mZTrrXmL7GKiQIDAQAB
-----END PUBLIC KEY-----
";

fn secret(byte: u8) -> KeySource {
    KeySource::Secret { kid: None, secret: SecretSlice::from(vec![byte; 32]) }
}

/// A key set whose one key is for Ed25519.
fn ed25519() -> KeySource {
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]});
    KeySource::Set(SecretString::from(set.to_string()))
}

fn issuer(name: &str, audiences: &[&str]) -> Issuer {
    Issuer {
        name: name.into(),
        iss: Some("issuer".into()),
        audiences: audiences.iter().map(|name| (*name).to_owned()).collect(),
        algorithms: vec![Algorithm::Hs256],
        keys: vec![secret(1)],
        tenant: Tenant::Only(Namespace::parse(name).unwrap()),
        claims: ClaimNames::default(),
        leeway: Duration::ZERO,
        max_lifetime: Duration::from_secs(3600),
        refresh: RefreshSettings::default(),
    }
}

async fn verify(issuers: Vec<Issuer>, more: &Value) -> Result<Claims, TokenError> {
    let mut payload = json!({"iss": "issuer", "sub": "zoe", "exp": NOW.0 / 1000 + 60});
    let members = payload.as_object_mut().unwrap();
    members.extend(more.as_object().unwrap().clone());
    let signed = compact::signing_input(&json!({"alg": "HS256"}), &payload);
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &[1; 32]);
    let token = compact::join(&signed, aws_lc_rs::hmac::sign(&key, signed.as_bytes()).as_ref());
    let verifier = Verifier::new(issuers).unwrap();
    let (waited, at_once) = (verifier.verify(&token, NOW).await, verifier.verify_at_once(&token, NOW));
    assert_eq!(waited.is_ok(), at_once.is_ok(), "the keys are in memory");
    waited
}

#[test]
fn settings_that_contradict_themselves_are_refused() {
    let refused = |change: fn(&mut Issuer)| {
        let mut issuer = issuer("a", &["salon"]);
        change(&mut issuer);
        Verifier::new(vec![issuer]).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(refused(|_| {}), "");
    for (says, change) in [
        ("has no key", (|issuer| issuer.keys.clear()) as fn(&mut Issuer)),
        ("must name the algorithms", |issuer| issuer.algorithms.clear()),
        ("empty `iss`", |issuer| issuer.iss = Some(String::new())),
        ("empty `iss` or audience", |issuer| issuer.audiences.push(String::new())),
        ("must name the claim", |issuer| issuer.claims.user.clear()),
        ("does not sign with HS256", |issuer| issuer.algorithms = vec![Algorithm::EdDsa]),
        ("does not sign with EdDSA", |issuer| issuer.keys.push(ed25519())),
        ("at most 64 keys", |issuer| issuer.keys = vec![secret(1); 65]),
        ("2048 to 8192 bits, has 1024", |issuer| {
            issuer.keys = vec![KeySource::Pem { kid: None, text: SHORT_RSA.into() }];
        }),
        ("at least 32 bytes, has 31", |issuer| {
            issuer.keys = vec![KeySource::Secret { kid: None, secret: SecretSlice::from(vec![1; 31]) }];
        }),
        ("must not be a key in the PEM format", |issuer| {
            let secret = SecretSlice::from(SHORT_RSA.as_bytes().to_vec());
            issuer.keys = vec![KeySource::Secret { kid: None, secret }];
        }),
        ("BEGIN PUBLIC KEY", |issuer| {
            issuer.keys = vec![KeySource::Pem { kid: None, text: "not a key".into() }];
        }),
        ("must be an https:// URL", |issuer| {
            issuer.keys = vec![KeySource::Url("http://id.example.com/keys".into())];
        }),
    ] {
        let said = refused(change);
        assert!(said.contains(says) && said.contains("`a`"), "{says}: {said:?}");
    }
}

#[tokio::test]
async fn one_issuer_may_speak_for_several_by_their_audiences() {
    let both = || vec![issuer("a", &["one", "uno"]), issuer("b", &["two"])];
    for (aud, namespace) in [(json!("one"), "a"), (json!(["x", "uno"]), "a"), (json!("two"), "b")] {
        let claims = verify(both(), &json!({"aud": aud})).await.unwrap();
        assert_eq!(claims.namespace.as_str(), namespace);
    }
    // Whose it is would depend on their order.
    for more in [json!({"aud": ["one", "two"]}), json!({"aud": "x"}), json!({})] {
        assert_eq!(verify(both(), &more).await, Err(TokenError::Audience), "{more}");
    }
    let alike = Verifier::new(vec![issuer("a", &["one", "two"]), issuer("b", &["two"])]);
    assert!(matches!(alike.err(), Some(IssuerError::Ambiguous { one, other }) if one == "a" && other == "b"));
    assert!(Verifier::new(vec![issuer("a", &[]), issuer("b", &[])]).is_err());
}

#[tokio::test]
async fn without_an_audience_of_ours_there_must_be_none() {
    let one = || vec![issuer("a", &[])];
    assert!(verify(one(), &json!({})).await.is_ok());
    assert_eq!(verify(one(), &json!({"aud": "salon"})).await, Err(TokenError::Audience));
}

#[tokio::test]
async fn only_who_is_trusted_in_all_names_the_tenant() {
    let named = |more: Value| async move {
        verify(vec![Issuer { tenant: Tenant::Claim("ns".into()), ..issuer("a", &[]) }], &more).await
    };
    assert_eq!(named(json!({"ns": "acme"})).await.unwrap().namespace.as_str(), "acme");
    for ns in [json!(""), json!("a/b"), json!("A"), json!(1), json!(null)] {
        let refused = named(json!({"ns": ns})).await;
        assert!(matches!(&refused, Err(TokenError::Claim { name, .. }) if name == "ns"), "{refused:?}");
    }
    assert!(named(json!({})).await.is_err());
    // Another may write there what they like.
    let fixed = verify(vec![issuer("a", &[])], &json!({"ns": "acme"})).await.unwrap();
    assert_eq!(fixed.namespace.as_str(), "a");
}
