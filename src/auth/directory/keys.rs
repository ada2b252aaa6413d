//! API keys: what programs show, of a namespace or of the whole server.
//!
//! Several are there at once, so that one is replaced by making another, moving the programs over, and revoking the
//! first. A key is never shown again and never changed; what it may do is said when it is made.

use crate::{
    auth::{
        directory::{
            Directory, KeyRecord, absent,
            identities::document_name,
            records::{HolderKind, keys},
            shelf::{Fault, REVOKE_SOME},
        },
        revoked::Revoked,
        scope::{Scope, Scopes},
        secret::Secret,
    },
    clock::Timestamp,
    domain::{
        limits::{DISPLAY_NAME_CHARS, check_name, check_required},
        rejection::{Code, Rejection},
    },
    ids::Namespace,
    store::documents::Expect,
};

/// A key that is to be.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What it is for.
    pub label: String,
    /// What it may do.
    pub scopes: Scopes,
    /// When it ends; none: when it is revoked.
    pub expires_at: Option<Timestamp>,
}

impl Directory {
    /// Makes a key of a namespace, or of the server; it is shown this once.
    pub async fn create_key(
        &self,
        namespace: Option<&Namespace>,
        new: NewKey,
    ) -> Result<(String, KeyRecord, Secret), Rejection> {
        let NewKey { label, scopes, expires_at } = new;
        check_required("label", &label, DISPLAY_NAME_CHARS)?;
        check_name("label", &label, DISPLAY_NAME_CHARS)?;
        let now = self.0.clock.now();
        if scopes == Scopes::NONE {
            return Err(Rejection::field("scopes", "must name at least one"));
        }
        if expires_at.is_some_and(|at| at <= now) {
            return Err(Rejection::field("expires_at", "must be in the future"));
        }
        let kind = match namespace {
            Some(namespace) => {
                self.open_namespace(namespace).await?;
                HolderKind::Key
            }
            None => HolderKind::ServerKey,
        };
        let (folder, home) = (keys(namespace), namespace.cloned().unwrap_or_default());
        self.0.shelf.take_place(&folder, (self.0.settings.keys, "API keys"), REVOKE_SOME, now).await?;
        let (secret, entry) = self.new_secret(kind, &home, None, expires_at).await?;
        let id = entry.id.clone();
        let record = KeyRecord {
            label,
            scopes: scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            created_at: now.0,
            secrets: vec![entry],
            ..KeyRecord::default()
        };
        if !self.0.shelf.put(&folder, &id, Expect::Nothing, &record).await? {
            return Err(Rejection::new(Code::Unavailable, "a key of this id is there; try again"));
        }
        Ok((id, record, secret))
    }

    /// Keys in the order of their ids, behind `after`; revoked ones are among them.
    pub async fn list_keys(
        &self,
        namespace: Option<&Namespace>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, KeyRecord)>, Rejection> {
        if let Some(namespace) = namespace {
            self.get_namespace(namespace).await?;
        }
        Ok(self.0.shelf.page(&keys(namespace), after, limit).await.map_err(Fault::from)?)
    }

    /// Ends a key. A repeat is carried out again.
    pub async fn revoke_key(&self, namespace: Option<&Namespace>, id: &str) -> Result<KeyRecord, Rejection> {
        let now = self.0.clock.now();
        let missing = || Err(absent("API key", id));
        let revoke = |record: &mut KeyRecord| {
            record.revoked_at.get_or_insert(now.0);
            Ok(())
        };
        let changed = self.0.shelf.change(&keys(namespace), document_name(id)?, missing, revoke).await;
        // A key has one secret, and its id is that of the secret.
        self.forget(|card| card.entry.as_ref().is_some_and(|entry| entry.id == id));
        self.0.minters.forget(|(_, key), _| key == id);
        let (record, ()) = changed?;
        let what = Revoked::Credential { id: id.to_owned() };
        self.0.revocations.revoke(&namespace.cloned().unwrap_or_default(), what, now).await?;
        Ok(record)
    }

    /// Whether the server has a key with which everything can be done, so that it needs no first one.
    pub async fn has_server_admin(&self) -> Result<bool, Rejection> {
        let limit = usize::try_from(self.0.settings.keys).unwrap_or(usize::MAX);
        let now = self.0.clock.now();
        let is_admin = |record: &KeyRecord| {
            let is_live = record.revoked_at.is_none() && !record.secrets.iter().all(|key| key.is_over(now));
            is_live && record.scopes().allow(Scope::Admin)
        };
        Ok(self.list_keys(None, None, limit).await?.iter().any(|(_, record)| is_admin(record)))
    }
}
