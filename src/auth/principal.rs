//! Who calls: what a verified credential comes to, whatever kind it is of.
//!
//! Made by whoever verifies credentials, read by every door. Holds no secret: it may be logged.

use std::fmt;

use crate::{
    auth::{
        grants::{Grants, Need},
        scope::{Powers, Scope},
    },
    clock::Timestamp,
    domain::rejection::Rejection,
    ids::{Namespace, RoomId, UserId},
};

/// Who calls, and how far their credential goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The namespace the call stays in.
    pub namespace: Namespace,
    /// The user it speaks for; none: any user of the namespace, as the call says.
    pub user: Option<UserId>,
    /// The name others see, where the credential says it; a join cannot say another.
    pub name: Option<String>,
    /// The one room it may enter; none: every room that lets its user in.
    pub room: Option<RoomId>,
    /// How much of what a role allows it allows.
    pub grants: Grants,
    /// What it may do besides that.
    pub powers: Powers,
    /// When it was issued, or shown if it is a secret; none: nobody knows, so that it counts as very old.
    pub issued_at: Option<Timestamp>,
    /// When it ends; none: when it is revoked.
    pub expires_at: Option<Timestamp>,
    /// What was shown.
    pub credential: Credential,
    /// The API key by which it was made, if it is a token of ours: it ends with that.
    pub minted_by: Option<String>,
}

/// Which credential was shown: what it is called, and never what is secret about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Credential {
    /// None was asked for: users are who they say they are.
    Open,
    /// The secret of an identity, by its own public id: that of the identity until it is rotated.
    Identity(String),
    /// An API key, by its public id.
    Key(String),
    /// The secret of a namespace, by its public id.
    Owner(String),
    /// A token of this issuer, by its id if it has one.
    Token {
        /// Who has signed it.
        issuer: String,
        /// Its `jti`.
        id: Option<String>,
    },
    /// A client's certificate, by its SHA-256 in hexadecimal digits.
    Certificate(String),
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("none"),
            Self::Identity(id) => write!(f, "identity {id}"),
            Self::Key(id) => write!(f, "key {id}"),
            Self::Owner(id) => write!(f, "owner {id}"),
            Self::Token { issuer, id: Some(id) } => write!(f, "token {id:?} of {issuer:?}"),
            Self::Token { issuer, id: None } => write!(f, "token of {issuer:?}"),
            Self::Certificate(fingerprint) => write!(f, "certificate {fingerprint}"),
        }
    }
}

impl Principal {
    /// Everybody, where nobody is asked who they are: any user of the default namespace.
    pub fn open() -> Self {
        Self {
            namespace: Namespace::default(),
            user: None,
            name: None,
            room: None,
            grants: Grants::default(),
            powers: Powers::NONE,
            issued_at: None,
            expires_at: None,
            credential: Credential::Open,
            minted_by: None,
        }
    }

    /// Whether nobody was asked who they are.
    pub fn is_open(&self) -> bool {
        self.credential == Credential::Open
    }

    /// Whether somebody may become a member by it: a key that only reads writes nobody into a room.
    pub fn may_join(&self) -> Result<(), Rejection> {
        self.grants.require(Need::Join)?;
        if matches!(self.credential, Credential::Key(_)) && !self.powers.scopes.allow(Scope::RoomsWrite) {
            return Err(Rejection::denied("joining a room needs the scope `rooms.write`"));
        }
        Ok(())
    }

    /// The room of this name in the caller's namespace. One that the credential does not reach is not there.
    pub fn room(&self, named: &RoomId) -> Result<RoomId, Rejection> {
        let room = named.within(&self.namespace);
        match &self.room {
            Some(only) if *only != room => Err(Rejection::no_room(&room)),
            Some(_) | None => Ok(room),
        }
    }

    /// Refuses what is not about one room to a credential that is for one room only: of the others it must not tell.
    pub fn reaches_all_rooms(&self) -> Result<(), Rejection> {
        match &self.room {
            Some(only) => {
                let message = format!("your credential is for the room {:?} only", only.name());
                Err(Rejection::denied(message))
            }
            None => Ok(()),
        }
    }

    /// The user the caller speaks for; `named` is whom the call names, in a field of this path.
    pub fn speaks_for(
        &self,
        field: &'static str,
        named: Option<UserId>,
    ) -> Result<Option<UserId>, Rejection> {
        match (&self.user, named) {
            (None, named) => Ok(named),
            (Some(own), None) => Ok(Some(own.clone())),
            (Some(own), Some(named)) if *own == named => Ok(Some(named)),
            (Some(_), Some(_)) => Err(Rejection {
                field: Some(field),
                ..Rejection::denied(format!("{field} is not whom your credential speaks for"))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rejection::Code;

    fn of(user: Option<&str>, room: Option<&str>) -> Principal {
        let namespace = Namespace::parse("acme").unwrap();
        let room = room.map(|name| RoomId::parse(name).unwrap().within(&namespace));
        let user = user.map(|user| UserId::parse(user).unwrap());
        Principal { namespace, user, room, credential: Credential::Key("k".into()), ..Principal::open() }
    }

    #[test]
    fn rooms_are_those_of_the_callers_namespace() {
        let tea = RoomId::parse("tea").unwrap();
        assert_eq!(of(None, None).room(&tea).unwrap().as_str(), "acme/tea");
        assert_eq!(Principal::open().room(&tea).unwrap(), tea);
        assert_eq!(of(None, Some("tea")).room(&tea).unwrap().as_str(), "acme/tea");
        assert_eq!(of(None, Some("milk")).room(&tea).unwrap_err().code, Code::RoomNotFound);
    }

    #[test]
    fn who_is_let_into_one_room_is_told_of_no_other() {
        assert_eq!(of(None, None).reaches_all_rooms(), Ok(()));
        assert_eq!(of(None, Some("tea")).reaches_all_rooms().unwrap_err().code, Code::PermissionDenied);
    }

    #[test]
    fn a_credential_of_one_user_speaks_for_nobody_else() {
        let (ann, bob) = (UserId::parse("ann").unwrap(), UserId::parse("bob").unwrap());
        let anns = of(Some("ann"), None);
        assert_eq!(anns.speaks_for("user_id", None).unwrap(), Some(ann.clone()));
        assert_eq!(anns.speaks_for("user_id", Some(ann)).unwrap().unwrap().as_str(), "ann");
        assert_eq!(anns.speaks_for("user_id", Some(bob.clone())).unwrap_err().code, Code::PermissionDenied);
        assert_eq!(of(None, None).speaks_for("user_id", Some(bob.clone())).unwrap(), Some(bob));
        assert_eq!(of(None, None).speaks_for("user_id", None).unwrap(), None);
    }
}
