//! Making tokens: the seam to whoever has the key to sign them.

use std::{fmt, time::Duration};

use secrecy::SecretString;

use crate::{
    auth::{
        grants::Grants,
        jwt::sign::{JoinToken, SignError, Signer},
    },
    clock::Timestamp,
    domain::rejection::{Code, Rejection},
    ids::{Namespace, RoomId, UserId},
};

/// What a token is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// The namespace it stays in.
    pub namespace: Namespace,
    /// The user it speaks for.
    pub user: UserId,
    /// The name others see; none: what each join says.
    pub name: Option<String>,
    /// The one room it may enter; none: every room that lets its user in.
    pub room: Option<RoomId>,
    /// What it allows, at most.
    pub grants: Grants,
    /// How long it is valid.
    pub lifetime: Duration,
    /// The API key by which it is made, with which it ends.
    pub minted_by: Option<String>,
}

/// A token that was made.
#[derive(Debug, Clone)]
pub struct Minted {
    /// The token.
    pub token: SecretString,
    /// Its `jti`.
    pub id: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Makes tokens that this server believes. Each says when it was issued: a user's can be revoked up to a time.
pub trait MintTokens: fmt::Debug + Send + Sync {
    /// Makes one that begins now. Refuses what cannot be signed, naming the field.
    fn mint(&self, token: &NewToken, now: Timestamp) -> Result<Minted, Rejection>;
}

impl MintTokens for Signer {
    fn mint(&self, token: &NewToken, now: Timestamp) -> Result<Minted, Rejection> {
        let NewToken { namespace, user, name, room, grants, lifetime, minted_by } = token.clone();
        let signed = self.sign(&JoinToken { namespace, user, name, room, grants, lifetime, minted_by }, now);
        let signed = signed.map_err(|error| {
            let field = match error {
                SignError::Lifetime { .. } => "lifetime_ms",
                SignError::Name(_) => "display_name",
                SignError::ForeignRoom => "room_id",
            };
            Rejection { field: Some(field), ..Rejection::new(Code::InvalidArgument, error.to_string()) }
        })?;
        Ok(Minted { token: signed.token.into(), id: signed.id, expires_at: signed.expires_at })
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::auth::jwt::{
        Verifier,
        sign::{SignerSettings, SigningKey},
    };

    #[tokio::test]
    async fn what_is_minted_is_believed_and_says_when_it_was_issued() {
        let settings = SignerSettings {
            issuer: "salon".into(),
            audience: "salon".into(),
            max_lifetime: Duration::from_secs(3600),
        };
        let signer = Signer::new(settings, SigningKey::from_secret(&[7; 32]).unwrap(), Vec::new());
        let (now, acme) = (Timestamp(1_700_000_000_000), Namespace::parse("acme").unwrap());
        let token = NewToken {
            room: Some(RoomId::parse("tea").unwrap().within(&acme)),
            namespace: acme.clone(),
            user: UserId::parse("ann").unwrap(),
            name: None,
            grants: Grants::default(),
            lifetime: Duration::from_secs(60),
            minted_by: Some("0123456789abcdef".into()),
        };
        let minted = signer.mint(&token, now).unwrap();
        let verifier = Verifier::new(vec![signer.issuer()]).unwrap();
        let claims = verifier.verify(minted.token.expose_secret(), now).await.unwrap();
        assert_eq!(
            (claims.namespace, claims.user, claims.room),
            (acme, token.user.clone(), token.room.clone())
        );
        assert_eq!((claims.issued_at, claims.id), (Some(now), Some(minted.id)));
        assert_eq!(claims.minted_by, token.minted_by);
        let long = NewToken { lifetime: Duration::from_secs(3601), ..token };
        assert_eq!(signer.mint(&long, now).unwrap_err().field, Some("lifetime_ms"));
    }
}
