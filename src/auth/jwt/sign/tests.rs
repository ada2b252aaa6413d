//! What is signed here is believed here, and by nobody who has other keys.

use super::*;
use crate::auth::{
    grants::Media,
    jwt::{
        Verifier,
        error::{IssuerError, TokenError},
    },
};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
/// RFC 8410, 10.3: without and with its public part.
const ED25519: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
";

fn settings() -> SignerSettings {
    let max_lifetime = Duration::from_secs(3600);
    SignerSettings { issuer: "salon".into(), audience: "salon".into(), max_lifetime }
}

fn secret(byte: u8) -> SigningKey {
    SigningKey::from_secret(&[byte; 32]).unwrap()
}

fn token() -> JoinToken {
    let namespace = Namespace::parse("acme").unwrap();
    JoinToken {
        room: Some(RoomId::parse("tea").unwrap().within(&namespace)),
        namespace,
        user: UserId::parse("zoë \"z\"").unwrap(),
        name: Some("Zoë 🦊".into()),
        grants: Grants {
            role: Some(Role::Admin),
            moderate: false,
            media: Media { video: false, ..Media::ALL },
            ..Grants::default()
        },
        lifetime: Duration::from_secs(600),
        minted_by: None,
    }
}

async fn verify(
    by: &Signer,
    signed: &Signed,
    now: Timestamp,
) -> Result<crate::auth::jwt::claims::Claims, TokenError> {
    Verifier::new(vec![by.issuer()]).unwrap().verify(&signed.token, now).await
}

#[tokio::test]
async fn what_is_signed_is_believed_as_it_was_meant() {
    for key in [secret(1), SigningKey::ed25519_pem(ED25519).unwrap()] {
        let signer = Signer::new(settings(), key, Vec::new());
        let signed = signer.sign(&token(), NOW).unwrap();
        let claims = verify(&signer, &signed, NOW).await.unwrap();
        let of = token();
        assert_eq!(claims.namespace, of.namespace);
        assert_eq!(claims.user, of.user);
        assert_eq!(claims.name, of.name);
        assert_eq!(claims.room, of.room);
        assert_eq!(claims.grants, of.grants);
        assert_eq!(claims.id.as_deref(), Some(&*signed.id));
        assert_eq!(signed.expires_at, Timestamp(NOW.0 + 600_000));
        assert_eq!(claims.expires_at, signed.expires_at.plus(LEEWAY));
        let late = claims.expires_at;
        assert_eq!(verify(&signer, &signed, late).await, Err(TokenError::Expired));
    }
}

#[tokio::test]
async fn another_key_or_another_server_believes_nothing() {
    let signer = Signer::new(settings(), secret(1), Vec::new());
    let signed = signer.sign(&token(), NOW).unwrap();
    let other = Signer::new(settings(), secret(2), Vec::new());
    assert_eq!(verify(&other, &signed, NOW).await, Err(TokenError::UnknownKey));
    let elsewhere =
        Signer::new(SignerSettings { issuer: "other".into(), ..settings() }, secret(1), Vec::new());
    assert_eq!(verify(&elsewhere, &signed, NOW).await, Err(TokenError::Issuer));
    let elsewhere =
        Signer::new(SignerSettings { audience: "other".into(), ..settings() }, secret(1), Vec::new());
    assert_eq!(verify(&elsewhere, &signed, NOW).await, Err(TokenError::Audience));
}

#[tokio::test]
async fn keys_are_changed_without_one_refused_token() {
    // Each pair signs and believes at the same time: two servers of which one is a step ahead.
    let steps: [&[u8]; 4] = [&[1], &[1, 2], &[2, 1], &[2]];
    let signers = steps.map(|keys| {
        let (first, others) = keys.split_first().unwrap();
        Signer::new(settings(), secret(*first), others.iter().copied().map(secret).collect())
    });
    for pair in signers.windows(2) {
        for (by, at) in [(0, 1), (1, 0)] {
            let signed = pair[by].sign(&token(), NOW).unwrap();
            assert!(verify(&pair[at], &signed, NOW).await.is_ok());
        }
    }
}

#[test]
fn what_cannot_be_meant_is_not_signed() {
    let signer = Signer::new(settings(), secret(1), Vec::new());
    let sign = |of: JoinToken| signer.sign(&of, NOW).err();
    let max = settings().max_lifetime;
    let lifetime = |lifetime| sign(JoinToken { lifetime, ..token() });
    assert_eq!(lifetime(max), None);
    assert_eq!(lifetime(Duration::from_secs(1)), None);
    assert_eq!(lifetime(max + Duration::from_millis(1)), Some(SignError::Lifetime { max }));
    assert_eq!(lifetime(Duration::from_millis(999)), Some(SignError::Lifetime { max }));
    let name = |name: &str| sign(JoinToken { name: Some(name.into()), ..token() });
    assert_eq!(name(&"n".repeat(DISPLAY_NAME_CHARS)), None);
    assert!(matches!(name(&"n".repeat(DISPLAY_NAME_CHARS + 1)), Some(SignError::Name(_))));
    assert!(matches!(name("a\u{202e}"), Some(SignError::Name(_))));
    let room = RoomId::parse("tea").unwrap();
    assert_eq!(sign(JoinToken { room: Some(room), ..token() }), Some(SignError::ForeignRoom));
}

#[test]
fn the_longest_token_can_be_shown() {
    let signer = Signer::new(settings(), secret(1), Vec::new());
    let namespace = Namespace::parse(&"n".repeat(Namespace::MAX_CHARS)).unwrap();
    let of = JoinToken {
        room: Some(RoomId::parse(&"r".repeat(RoomId::MAX_CHARS)).unwrap().within(&namespace)),
        namespace,
        user: UserId::parse(&"🦊".repeat(UserId::MAX_CHARS)).unwrap(),
        name: Some("🦊".repeat(DISPLAY_NAME_CHARS)),
        ..token()
    };
    let signed = signer.sign(&of, NOW).unwrap();
    assert!(signed.token.len() < compact::MAX_BYTES, "{}", signed.token.len());
}

#[test]
fn keys_that_are_none_are_refused() {
    let short = SigningKey::from_secret(&[1; 31]).err();
    assert_eq!(short, Some(KeyError::ShortSecret { min: 32, len: 31 }));
    assert_eq!(SigningKey::from_secret(ED25519.as_bytes()).err(), Some(KeyError::PemAsSecret));
    for pem in ["", "secret", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        assert_eq!(SigningKey::ed25519_pem(pem).err(), Some(KeyError::NotPrivatePem), "{pem}");
    }
}

#[test]
fn nothing_that_is_printed_is_a_secret() {
    let key = secret(1);
    let Kind::Secret { bytes, .. } = &key.kind else { panic!("a secret") };
    let encoded = URL_SAFE_NO_PAD.encode(bytes);
    let signer = Signer::new(settings(), secret(1), Vec::new());
    let signed = signer.sign(&token(), NOW).unwrap();
    let printed =
        format!("{signer:?} {:?} {signed:?} {:?}", signer.issuer(), Verifier::new(vec![signer.issuer()]));
    assert!(!printed.contains(&encoded) && !printed.contains(&signed.token), "{printed}");
}

#[test]
fn two_servers_of_one_name_cannot_be_told_apart() {
    let signer = Signer::new(settings(), secret(1), Vec::new());
    let both = Verifier::new(vec![signer.issuer(), signer.issuer()]);
    assert!(matches!(both.err(), Some(IssuerError::Ambiguous { .. })));
}
