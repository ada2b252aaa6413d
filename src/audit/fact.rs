//! What is recorded, and how it is kept.
//!
//! A kept entry is JSON of plain words, so that one of another version can still be read. Texts of others (ids, names of
//! issuers) are cut where they are too long.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    ids::{Namespace, RoomId, UserId},
    store::documents::Document,
};

/// The longest text of an entry, in characters.
const TEXT: usize = 200;
/// Where somebody is connected from is told up to so many.
const ORIGINS: usize = 4;

macro_rules! acts {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)+) => {
        /// What was done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Act {
            $($(#[$doc])* $name,)+
        }

        impl Act {
            /// Its word.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }
        }
    };
}

acts! {
    /// A stream or a call has shown a credential.
    SignIn = "sign_in",
    /// A stream has shown another one.
    Reauthenticate = "reauthenticate",
    /// A stream was closed, because its credential has ended or was revoked.
    StreamRevoked = "stream_revoked",
    /// A member was removed.
    Kick = "kick",
    /// A user was banned.
    Ban = "ban",
    /// A ban was lifted.
    Unban = "unban",
    /// A member may not write for a time.
    Mute = "mute",
    /// A member was changed by somebody else, or is ADMIN by a credential: `detail` has the role, and `by themselves` for
    /// an ADMIN who has joined or changed without anybody else.
    RoleChange = "role_change",
    /// A room was renamed, or who may see it, join it and do what there was changed: `detail` has what holds now.
    RoomUpdate = "room_update",
    /// A room was ended.
    RoomEnd = "room_end",
    /// An invitation was made.
    InvitationCreate = "invitation_create",
    /// An invitation was used.
    InvitationUse = "invitation_use",
    /// An invitation was taken back.
    InvitationRevoke = "invitation_revoke",
    /// A namespace was created.
    NamespaceCreate = "namespace_create",
    /// The name or the quotas of a namespace were changed, or it was brought back.
    NamespaceUpdate = "namespace_update",
    /// The secret of a namespace was changed.
    NamespaceRotate = "namespace_rotate",
    /// A namespace was put away.
    NamespaceArchive = "namespace_archive",
    /// An identity was created.
    IdentityCreate = "identity_create",
    /// The name of an identity, or what is remembered of it, was changed.
    IdentityUpdate = "identity_update",
    /// The secret of an identity was changed.
    IdentityRotate = "identity_rotate",
    /// An identity was revoked.
    IdentityRevoke = "identity_revoke",
    /// A key was created.
    KeyCreate = "key_create",
    /// A key was changed for another.
    KeyRotate = "key_rotate",
    /// A key was revoked.
    KeyRevoke = "key_revoke",
    /// A token was minted.
    TokenMint = "token_mint",
    /// A token was revoked.
    TokenRevoke = "token_revoke",
    /// Whatever a user had was revoked.
    UserRevoke = "user_revoke",
    /// A client's certificate was revoked.
    CertificateRevoke = "certificate_revoke",
    /// The administration was read.
    Look = "look",
    /// A limit was hit: `detail` says which.
    LimitHit = "limit_hit",
    /// Facts were not recorded: `count` says how many.
    FactsLost = "facts_lost",
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Outcome {
    /// It was done.
    #[default]
    Done,
    /// It was refused: `detail` says why.
    Refused,
}

impl Outcome {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }
}

/// By which credential, and from where.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// What the credential is called, and never what is secret about it; empty: there was none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub credential: String,
    /// The address of the peer, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// In whose audit it belongs. What nobody's is belongs to the default one.
    pub namespace: Namespace,
    /// What was done.
    pub act: Act,
    /// What came of it.
    pub outcome: Outcome,
    /// Who did it.
    pub actor: Option<UserId>,
    /// Where.
    pub room: Option<RoomId>,
    /// To whom or what: a user, a key, an identity.
    pub subject: String,
    /// A word of the server's own, never of a client: a role, a limit, the code of a refusal.
    pub detail: String,
    /// By which credentials and from where.
    pub origins: Vec<Origin>,
    /// How often, if it is told once for many.
    pub count: u64,
}

impl Fact {
    /// One that was done once.
    pub fn new(namespace: Namespace, act: Act) -> Self {
        Self {
            namespace,
            act,
            outcome: Outcome::Done,
            actor: None,
            room: None,
            subject: String::new(),
            detail: String::new(),
            origins: Vec::new(),
            count: 1,
        }
    }

    /// Done by this user.
    #[must_use]
    pub fn by(self, actor: UserId) -> Self {
        Self { actor: Some(actor), ..self }
    }

    /// Done in this room.
    #[must_use]
    pub fn within(self, room: RoomId) -> Self {
        Self { room: Some(room), ..self }
    }

    /// Done to this one.
    #[must_use]
    pub fn to(self, subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), ..self }
    }

    /// With this word of the server's.
    #[must_use]
    pub fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// Done like this.
    #[must_use]
    pub fn from(self, origin: Origin) -> Self {
        Self { origins: vec![origin], ..self }
    }

    /// Not done, for this reason of the server's.
    #[must_use]
    pub fn refused(self, reason: impl Into<String>) -> Self {
        Self { outcome: Outcome::Refused, ..self.detail(reason) }
    }

    /// Whether somebody without any right can cause it as often as they like.
    pub(super) fn is_often(&self) -> bool {
        self.outcome == Outcome::Refused || self.act == Act::LimitHit
    }
}

/// A fact as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// Ordered by time. It is the document's name, and not in it.
    #[serde(skip)]
    pub id: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// What was done: [`Act::as_str`], or `unreadable`.
    pub act: String,
    /// What came of it: [`Outcome::as_str`].
    pub outcome: String,
    /// Who did it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub actor: String,
    /// The room's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub room: String,
    /// To whom or what.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// A word of the server's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// By which credentials and from where: of what happens in rooms, all by which the actor was connected then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<Origin>,
    /// How often.
    pub count: u64,
    /// Which server has recorded it.
    pub node: String,
}

impl Entry {
    /// What is kept of a fact.
    pub(super) fn new(id: String, at: Timestamp, node: &str, fact: &Fact) -> Self {
        let text = |text: &str| text.chars().take(TEXT).collect::<String>();
        let origins = fact.origins.iter().take(ORIGINS);
        Self {
            id,
            at_ms: at.0,
            act: fact.act.as_str().to_owned(),
            outcome: fact.outcome.as_str().to_owned(),
            actor: fact.actor.as_ref().map(ToString::to_string).unwrap_or_default(),
            room: fact.room.as_ref().map(|room| room.name().to_owned()).unwrap_or_default(),
            subject: text(&fact.subject),
            detail: text(&fact.detail),
            origins: origins
                .map(|origin| Origin { credential: text(&origin.credential), peer: origin.peer })
                .collect(),
            count: fact.count,
            node: node.to_owned(),
        }
    }

    /// One that cannot be read is shown as that: it must not hide those behind it.
    pub(super) fn of_document(document: Document) -> Self {
        let read = serde_json::from_slice::<Self>(&document.body);
        let read = read.unwrap_or_else(|_| Self { act: "unreadable".to_owned(), ..Self::default() });
        Self { id: document.name, ..read }
    }
}
