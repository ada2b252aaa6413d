//! What the directory writes down, as JSON.
//!
//! A field that is not there has its default, and one that is not known (from a newer server) is kept as it is when the
//! document is written again. No document holds a secret: [`Pointer`] has the hash of one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    auth::{
        quotas::Quotas,
        scope::{Scope, Scopes},
    },
    clock::Timestamp,
    ids::Namespace,
    store::documents::Folder,
};

/// Whose secret it is: `secrets/<public id>`. Never changed; what it is worth is said by its holder's document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pointer {
    pub(super) kind: HolderKind,
    /// In which namespace; the default one for a key of the server.
    pub(super) namespace: String,
    /// The name of the holder's document.
    pub(super) holder: String,
    /// SHA-256 of the secret.
    pub(super) hash: String,
}

/// What a secret can belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum HolderKind {
    Identity,
    Key,
    ServerKey,
    Owner,
}

/// One secret of a holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretEntry {
    /// Its public id.
    pub id: String,
    /// When it was made.
    pub created_at: i64,
    /// When it ends; none: when it is replaced or revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
}

impl SecretEntry {
    /// When it ends.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.until.map(Timestamp)
    }

    /// Whether it has ended.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now.0)
    }
}

/// A namespace as it is written down.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceRecord {
    /// What people call it.
    pub display_name: String,
    /// When it was created; 0: it was there from the beginning.
    pub created_at: i64,
    /// Since when nobody comes in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived_at: Option<i64>,
    /// How much it may have; what is not said is the server's default.
    pub quotas: Quotas,
    /// Its owner's secrets, the newest last.
    pub secrets: Vec<SecretEntry>,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

/// An identity as it is written down.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdentityRecord {
    /// The user it speaks for.
    pub user: String,
    /// The name others see; none: what each join says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What the application wants to remember of it.
    pub metadata: BTreeMap<String, String>,
    /// When it was created.
    pub created_at: i64,
    /// Since when it is worth nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<i64>,
    /// Its secrets, the newest last.
    pub secrets: Vec<SecretEntry>,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

/// An API key as it is written down.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyRecord {
    /// What it is for.
    pub label: String,
    /// What it may do, by name. A name that this server does not know allows nothing.
    pub scopes: Vec<String>,
    /// When it was created.
    pub created_at: i64,
    /// Since when it is worth nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<i64>,
    /// The key itself: one.
    pub secrets: Vec<SecretEntry>,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

impl KeyRecord {
    /// What it may do.
    pub fn scopes(&self) -> Scopes {
        self.scopes.iter().filter_map(|name| Scope::parse(name)).collect()
    }
}

/// What identities and keys have in common: enough to see that one is over.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Life {
    pub(super) revoked_at: Option<i64>,
    pub(super) secrets: Vec<SecretEntry>,
}

impl Life {
    /// Since when it is worth nothing; none: it is worth something.
    pub(super) fn ended_at(&self) -> Option<i64> {
        let untils: Option<Vec<i64>> = self.secrets.iter().map(|secret| secret.until).collect();
        self.revoked_at.or_else(|| untils?.into_iter().max())
    }
}

/// How many documents a folder has, at least.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Count {
    pub(super) taken: u64,
}

/// Where documents are.
pub(super) fn secrets() -> Folder {
    Folder::new(&["secrets"])
}

pub(super) fn namespaces() -> Folder {
    Folder::new(&["namespaces"])
}

pub(super) fn identities(namespace: &Namespace) -> Folder {
    Folder::new(&["identities", namespace.as_str()])
}

/// Of a namespace, or of the server.
pub(super) fn keys(namespace: Option<&Namespace>) -> Folder {
    match namespace {
        Some(namespace) => Folder::new(&["keys", namespace.as_str()]),
        None => Folder::new(&["server-keys"]),
    }
}

pub(super) fn revoked_certificates(namespace: &Namespace) -> Folder {
    Folder::new(&["revoked-certificates", namespace.as_str()])
}

pub(super) fn counts() -> Folder {
    Folder::new(&["counts"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_server_has_written_is_kept() {
        let text = r#"{"user":"ann","colour":"red","secrets":[{"id":"a","created_at":1}]}"#;
        let mut record: IdentityRecord = serde_json::from_str(text).unwrap();
        record.name = Some("Ann".into());
        let again: Value = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!((&again["colour"], &again["name"]), (&"red".into(), &"Ann".into()));
        assert_eq!(serde_json::from_str::<NamespaceRecord>("{}").unwrap(), NamespaceRecord::default());
    }

    #[test]
    fn a_key_from_a_newer_server_may_do_what_is_known() {
        let record = KeyRecord { scopes: vec!["tokens".into(), "planets".into()], ..KeyRecord::default() };
        assert_eq!(record.scopes().iter().collect::<Vec<_>>(), [Scope::Tokens]);
    }

    #[test]
    fn a_holder_is_over_when_its_last_secret_is() {
        let entry = |until| SecretEntry { id: "a".into(), created_at: 0, until };
        let life = |secrets| Life { revoked_at: None, secrets };
        assert_eq!(life(vec![entry(Some(5)), entry(None)]).ended_at(), None);
        assert_eq!(life(vec![entry(Some(5)), entry(Some(9))]).ended_at(), Some(9));
        assert_eq!(Life { revoked_at: Some(3), secrets: vec![entry(None)] }.ended_at(), Some(3));
    }
}
