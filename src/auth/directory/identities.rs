//! Identities: users with a secret of their own.
//!
//! An identity's public id is that of its first secret, and stays when the secret is rotated. Several may speak for
//! the same user, for example one for each device. A revoked one stays in lists for a month.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    auth::{
        directory::{
            Directory, IdentityRecord, Kind, SecretEntry, absent,
            records::{HolderKind, identities},
            rotate,
            shelf::{Fault, REVOKE_SOME},
        },
        revoked::Revoked,
        secret::Secret,
    },
    clock::Timestamp,
    domain::{
        limits::{DISPLAY_NAME_CHARS, check_chars, check_name, check_required},
        rejection::{Code, Rejection},
    },
    ids::{Namespace, UserId},
    store::documents::Expect,
};

/// Entries in the metadata of an identity; characters of a key, and of a value.
const METADATA_ENTRIES: usize = 32;
const METADATA_KEY_CHARS: usize = 64;
const METADATA_VALUE_CHARS: usize = 256;

/// An identity that is to be.
#[derive(Debug, Clone, Default)]
pub struct NewIdentity {
    /// The user it speaks for; none: one whose id is the identity's.
    pub user: Option<UserId>,
    /// The name others see; none: what each join says.
    pub name: Option<String>,
    /// What the application wants to remember of it.
    pub metadata: BTreeMap<String, String>,
}

/// What of an identity is to change; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct IdentityChange {
    /// The name others see; empty: what each join says.
    pub name: Option<String>,
    /// What the application wants to remember of it, as a whole.
    pub metadata: Option<BTreeMap<String, String>>,
}

impl Directory {
    /// Creates an identity; its secret is shown this once.
    pub async fn create_identity(
        &self,
        namespace: &Namespace,
        new: NewIdentity,
    ) -> Result<(String, IdentityRecord, Secret), Rejection> {
        let NewIdentity { user, name, metadata } = new;
        check_holder(name.as_deref(), &metadata)?;
        self.open_namespace(namespace).await?;
        let now = self.0.clock.now();
        let folder = identities(namespace);
        self.0
            .shelf
            .take_place(&folder, (self.0.settings.identities, "identities"), REVOKE_SOME, now)
            .await?;
        let (secret, entry) = self.new_secret(HolderKind::Identity, namespace, None, None).await?;
        let id = entry.id.clone();
        let record = IdentityRecord {
            user: user.map_or_else(|| id.clone(), |user| user.as_str().to_owned()),
            name: name.filter(|name| !name.is_empty()),
            metadata,
            created_at: now.0,
            secrets: vec![entry],
            ..IdentityRecord::default()
        };
        if !self.0.shelf.put(&folder, &id, Expect::Nothing, &record).await? {
            return Err(Rejection::new(Code::Unavailable, "an identity of this id is there; try again"));
        }
        Ok((id, record, secret))
    }

    /// An identity by its public id.
    pub async fn get_identity(&self, namespace: &Namespace, id: &str) -> Result<IdentityRecord, Rejection> {
        let found =
            self.0.shelf.get(&identities(namespace), document_name(id)?).await.map_err(Fault::from)?;
        found.map(|(record, _)| record).ok_or_else(|| absent("identity", id))
    }

    /// Identities of a namespace in the order of their ids, behind `after`; revoked ones are among them.
    pub async fn list_identities(
        &self,
        namespace: &Namespace,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, IdentityRecord)>, Rejection> {
        self.get_namespace(namespace).await?;
        Ok(self.0.shelf.page(&identities(namespace), after, limit).await.map_err(Fault::from)?)
    }

    /// Changes what is remembered of an identity. Streams that are open keep the name they have.
    pub async fn change_identity(
        &self,
        namespace: &Namespace,
        id: &str,
        change: IdentityChange,
    ) -> Result<IdentityRecord, Rejection> {
        let none = BTreeMap::new();
        check_holder(change.name.as_deref(), change.metadata.as_ref().unwrap_or(&none))?;
        let write = |record: &mut IdentityRecord| {
            if let Some(name) = &change.name {
                record.name = Some(name.clone()).filter(|name| !name.is_empty());
            }
            if let Some(metadata) = &change.metadata {
                record.metadata.clone_from(metadata);
            }
            Ok(())
        };
        self.write_identity(namespace, id, write).await.map(|(record, ())| record)
    }

    /// A new secret for an identity. The others are worth something for `overlap` more.
    pub async fn rotate_identity_secret(
        &self,
        namespace: &Namespace,
        id: &str,
        overlap: Duration,
    ) -> Result<(IdentityRecord, Secret), Rejection> {
        let until = self.overlap_ends(overlap)?;
        self.0.revocations.check_rotation(namespace)?;
        let is_over = || Rejection::new(Code::NotFound, format!("the identity {id} is revoked"));
        if self.get_identity(namespace, id).await?.revoked_at.is_some() {
            return Err(is_over());
        }
        let (secret, entry) = self.new_secret(HolderKind::Identity, namespace, Some(id), None).await?;
        let now = self.0.clock.now();
        let write = |record: &mut IdentityRecord| match record.revoked_at {
            Some(_) => Err(is_over()),
            None => Ok(rotate(&mut record.secrets, entry.clone(), until, now)),
        };
        let (record, ended) = self.write_identity(namespace, id, write).await?;
        self.end_secrets(namespace, ended).await?;
        self.announce_ends(namespace, &record.secrets).await?;
        Ok((record, secret))
    }

    /// Ends an identity: its secrets are worth nothing, and its streams end. A repeat is carried out again, so that
    /// one whose outcome is not known can be repeated.
    pub async fn revoke_identity(
        &self,
        namespace: &Namespace,
        id: &str,
    ) -> Result<IdentityRecord, Rejection> {
        let now = self.0.clock.now();
        let write = |record: &mut IdentityRecord| {
            record.revoked_at.get_or_insert(now.0);
            Ok(())
        };
        let (record, ()) = self.write_identity(namespace, id, write).await?;
        for secret in &record.secrets {
            let what = Revoked::Credential { id: secret.id.clone() };
            self.0.revocations.revoke(namespace, what, now).await?;
        }
        Ok(record)
    }

    /// Refuses a namespace that is not there, and one where nothing new may begin.
    pub(super) async fn open_namespace(&self, namespace: &Namespace) -> Result<(), Rejection> {
        match self.get_namespace(namespace).await?.archived_at {
            None => Ok(()),
            Some(_) => Err(Rejection::new(Code::RoomEnded, format!("the namespace {namespace} is archived"))),
        }
    }

    /// When secrets end that are replaced now.
    pub(super) fn overlap_ends(&self, overlap: Duration) -> Result<Timestamp, Rejection> {
        let max = self.0.settings.revocations_kept;
        match overlap <= max {
            true => Ok(self.0.clock.now().plus(overlap)),
            false => Err(Rejection::field("overlap", format_args!("must be at most {} s", max.as_secs()))),
        }
    }

    /// Tells streams that came with a secret that is being replaced when it ends.
    pub(super) async fn announce_ends(
        &self,
        namespace: &Namespace,
        secrets: &[SecretEntry],
    ) -> Result<(), Rejection> {
        for (secret, until) in secrets.iter().filter_map(|secret| Some((secret, secret.expires_at()?))) {
            let what = Revoked::Credential { id: secret.id.clone() };
            self.0.revocations.revoke(namespace, what, until).await?;
        }
        Ok(())
    }

    async fn write_identity<R: Send>(
        &self,
        namespace: &Namespace,
        id: &str,
        change: impl FnMut(&mut IdentityRecord) -> Result<R, Rejection> + Send,
    ) -> Result<(IdentityRecord, R), Rejection> {
        let (folder, name) = (identities(namespace), document_name(id)?);
        let changed = self.0.shelf.change(&folder, name, || Err(absent("identity", id)), change).await;
        self.forget(|card| {
            let is_it = matches!(&card.kind, Kind::Identity { identity, .. } if identity == id);
            is_it && card.namespace == *namespace
        });
        Ok(changed?)
    }
}

/// A public id, before a store is asked for it: what cannot be one is not there.
pub(super) fn document_name(id: &str) -> Result<&str, Rejection> {
    match id.len() == crate::auth::secret::ID_CHARS && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(id),
        false => Err(absent("such id", id)),
    }
}

fn check_holder(name: Option<&str>, metadata: &BTreeMap<String, String>) -> Result<(), Rejection> {
    check_name("display_name", name.unwrap_or_default(), DISPLAY_NAME_CHARS)?;
    if metadata.len() > METADATA_ENTRIES {
        let problem = format!("must have at most {METADATA_ENTRIES} entries, has {}", metadata.len());
        return Err(Rejection::field("metadata", problem));
    }
    for (key, value) in metadata {
        check_required("metadata", key, METADATA_KEY_CHARS)?;
        check_chars("metadata", value, METADATA_VALUE_CHARS)?;
    }
    Ok(())
}
