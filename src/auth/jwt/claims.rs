//! What a believed token says, in our words.
//!
//! Issuers call things by their own names: [`ClaimNames`] says which claim is meant, and what their words for roles
//! mean here. A claim that is there and is not what it has to be refuses the token: to read it as if it were missing
//! could give more than its issuer meant.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde_json::{Map, Value};

use crate::{
    auth::{
        grants::Grants,
        jwt::{error::TokenError, rights},
    },
    clock::Timestamp,
    domain::{limits::DISPLAY_NAME_CHARS, room::Role},
    ids::{Namespace, RoomId, UserId, is_disturbing},
};

/// The claim that names the API key by which our own server has made a token. Whoever else says it only binds their own.
pub(super) const KEY_CLAIM: &str = "salon_key";
/// The longest name of a token, in bytes.
const ID_BYTES: usize = 256;

/// What a believed token says.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    /// The tenant that its issuer speaks for.
    pub namespace: Namespace,
    /// Who its holder is.
    pub user: UserId,
    /// How its holder is called; cut to what a display name can be.
    pub name: Option<String>,
    /// The one room it is for, of its namespace; none: any room of that.
    pub room: Option<RoomId>,
    /// What it lets its holder do, at most.
    pub grants: Grants,
    /// From when on it is not believed any more: its `exp`, and the leeway of its issuer.
    pub expires_at: Timestamp,
    /// When it was issued, if it says so: what a user had can be revoked up to a time.
    pub issued_at: Option<Timestamp>,
    /// Its own name (`jti`), by which it can be revoked.
    pub id: Option<String>,
    /// Who issued it, as the operator calls them.
    pub issuer: Arc<str>,
    /// The API key by which it was made: it ends with that.
    pub minted_by: Option<String>,
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("namespace", &self.namespace)
            .field("user", &self.user)
            .field("room", &self.room)
            .field("grants", &self.grants)
            .field("expires_at", &self.expires_at)
            .field("id", &self.id)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// Which claims of an issuer say what, and what its words for roles mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimNames {
    /// Who the holder is; must be there.
    pub user: String,
    /// How the holder is called.
    pub name: String,
    /// The one room it is for.
    pub room: String,
    /// The role in that room.
    pub role: String,
    /// What the holder may do: an object of `join`, `write`, `moderate`, `admin` and `media`, or a list of words.
    pub grants: String,
    /// Which media may be sent: a list of `video`, `audio` and `screen-share`.
    pub media: String,
    /// What words for roles mean, besides `viewer`, `member` and `admin`.
    pub roles: BTreeMap<String, Role>,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            user: "sub".into(),
            name: "name".into(),
            room: "room".into(),
            role: "role".into(),
            grants: "grants".into(),
            media: "media".into(),
            roles: BTreeMap::new(),
        }
    }
}

impl ClaimNames {
    /// The names of the coaching application: a coach leads the room, a client takes part in it.
    pub fn coaching() -> Self {
        Self {
            user: "userId".into(),
            room: "roomId".into(),
            media: "permissions".into(),
            roles: [("coach".into(), Role::Admin), ("client".into(), Role::Member)].into(),
            ..Self::default()
        }
    }

    /// What `payload` says of its holder.
    pub(super) fn read(&self, payload: &Map<String, Value>) -> Result<Holder, TokenError> {
        let user = text(payload, &self.user)?.ok_or_else(|| TokenError::claim(&self.user, "is missing"))?;
        let user = UserId::parse(user).map_err(|error| TokenError::claim(&self.user, error.to_string()))?;
        let name = text(payload, &self.name)?.map(display_name).filter(|name| !name.is_empty());
        let room = text(payload, &self.room)?.map(|room| room_name(&self.room, room)).transpose()?;
        let id = text(payload, "jti")?;
        if id.is_some_and(|id| id.is_empty() || id.len() > ID_BYTES || id.contains(is_disturbing)) {
            return Err(TokenError::claim("jti", "must have 1 to 256 bytes, without control characters"));
        }
        let mut grants = rights::read(&self.grants, payload.get(&self.grants))?;
        if let Some(media) = rights::media(&self.media, payload.get(&self.media))? {
            grants.media = grants.media.narrowed_by(media);
        }
        grants.role = text(payload, &self.role)?.map(|role| self.role(role)).transpose()?;
        let minted_by = text(payload, KEY_CLAIM)?.map(str::to_owned);
        Ok(Holder { user, name, room, grants, id: id.map(str::to_owned), minted_by })
    }

    /// A word that nobody has explained may mean less than what everybody gets, so that it is refused.
    fn role(&self, word: &str) -> Result<Role, TokenError> {
        let own = match word {
            "viewer" => Some(Role::Viewer),
            "member" => Some(Role::Member),
            "admin" => Some(Role::Admin),
            _ => None,
        };
        let role = self.roles.get(word).copied().or(own);
        role.ok_or_else(|| TokenError::claim(&self.role, "is no role that is known here"))
    }
}

/// What a token says of its holder.
pub(super) struct Holder {
    pub(super) user: UserId,
    pub(super) name: Option<String>,
    /// In no namespace yet.
    pub(super) room: Option<RoomId>,
    pub(super) grants: Grants,
    pub(super) id: Option<String>,
    pub(super) minted_by: Option<String>,
}

/// A claim that is a text, if it is there.
pub(super) fn text<'a>(payload: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, TokenError> {
    match payload.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(TokenError::claim(name, "must be a text")),
    }
}

/// The name alone: a room of another tenant cannot be named.
fn room_name(claim: &str, room: &str) -> Result<RoomId, TokenError> {
    RoomId::parse(room).map_err(|error| TokenError::claim(claim, error.to_string()))
}

/// A name is shown and nothing else, so that a strange one keeps nobody out.
fn display_name(text: &str) -> String {
    let shown = text.trim().chars().filter(|c| !is_disturbing(*c)).take(DISPLAY_NAME_CHARS);
    shown.collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::grants::Media;

    fn read(names: &ClaimNames, payload: &Value) -> Result<Holder, TokenError> {
        names.read(payload.as_object().unwrap())
    }

    /// The claim that was refused.
    fn refused(payload: &Value) -> String {
        match read(&ClaimNames::default(), payload) {
            Err(TokenError::Claim { name, .. }) => name,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("believed: {payload}"),
        }
    }

    #[test]
    fn a_user_is_enough() {
        let holder = read(&ClaimNames::default(), &json!({"sub": "zoe"})).unwrap();
        assert_eq!(holder.user.as_str(), "zoe");
        assert_eq!((holder.name, holder.room, holder.id), (None, None, None));
        assert_eq!(holder.grants, Grants::default());
    }

    #[test]
    fn all_of_it_is_read() {
        let payload = json!({
            "sub": "zoe", "name": " Zoë ", "room": "salon", "role": "viewer", "jti": "t1",
            "grants": {"write": false}, "media": ["audio"], "other": [1],
        });
        let holder = read(&ClaimNames::default(), &payload).unwrap();
        assert_eq!(holder.name.as_deref(), Some("Zoë"));
        assert_eq!(holder.room.as_ref().map(RoomId::name), Some("salon"));
        assert_eq!(holder.id.as_deref(), Some("t1"));
        let wanted = Grants {
            role: Some(Role::Viewer),
            write: false,
            media: Media { audio: true, ..Media::NONE },
            ..Grants::default()
        };
        assert_eq!(holder.grants, wanted);
    }

    #[test]
    fn a_token_of_the_coaching_application_is_read() {
        let mut payload = json!({
            "userId": "u1", "roomId": "r1", "sessionId": "s1", "role": "coach", "name": "Ann",
            "permissions": ["video", "audio", "screen-share"],
        });
        let names = ClaimNames::coaching();
        let holder = read(&names, &payload).unwrap();
        assert_eq!((holder.user.as_str(), holder.room.as_ref().map(RoomId::name)), ("u1", Some("r1")));
        assert_eq!(holder.grants, Grants { role: Some(Role::Admin), ..Grants::default() });
        payload["role"] = json!("client");
        payload["permissions"] = json!(["audio"]);
        let holder = read(&names, &payload).unwrap();
        assert_eq!(holder.grants.role, Some(Role::Member));
        assert_eq!(holder.grants.media, Media { audio: true, ..Media::NONE });
        payload["role"] = json!("supervisor");
        assert!(read(&names, &payload).is_err());
        payload["role"] = json!("client");
        payload["roomId"] = json!("other/r1");
        assert!(read(&names, &payload).is_err());
    }

    #[test]
    fn what_is_no_claim_of_its_kind_refuses_the_token() {
        for (claim, values) in [
            (
                "sub",
                vec![json!(""), json!(1), json!(null), json!(["zoe"]), json!("a\nb"), json!("x".repeat(129))],
            ),
            ("name", vec![json!(1), json!(null), json!({})]),
            ("room", vec![json!(""), json!(7), json!("a/b"), json!("a b"), json!(null)]),
            ("role", vec![json!("owner"), json!(""), json!("Admin"), json!(["admin"]), json!(null)]),
            ("jti", vec![json!(""), json!(1), json!("x".repeat(257)), json!("a\u{202e}")]),
            ("grants", vec![json!(1), json!(null), json!({"write": "no"}), json!([1])]),
            ("media", vec![json!("video"), json!([null]), json!(null)]),
        ] {
            for value in values {
                let mut payload = json!({"sub": "zoe"});
                payload[claim] = value;
                assert_eq!(refused(&payload), claim, "{payload}");
            }
        }
        assert_eq!(refused(&json!({})), "sub");
    }

    #[test]
    fn a_strange_name_keeps_nobody_out() {
        let name =
            |text: &str| read(&ClaimNames::default(), &json!({"sub": "z", "name": text})).unwrap().name;
        assert_eq!(name(&"n".repeat(DISPLAY_NAME_CHARS + 1)), Some("n".repeat(DISPLAY_NAME_CHARS)));
        assert_eq!(name("a\u{202e}b\nc"), Some("abc".into()));
        assert_eq!(name(" \n "), None);
    }
}
