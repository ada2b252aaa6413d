//! Namespaces: created with a secret for their owner, changed, archived and opened again.
//!
//! Archiving ends what is open and lets nobody in; nothing is removed. The default namespace cannot be archived.

use std::time::Duration;

use crate::{
    auth::{
        directory::{
            Directory, NamespaceRecord, absent,
            records::{HolderKind, namespaces},
            rotate,
            shelf::Fault,
        },
        quotas::Quotas,
        revoked::Revoked,
        secret::Secret,
    },
    domain::{
        limits::{DISPLAY_NAME_CHARS, check_name},
        rejection::{Code, Rejection},
    },
    ids::Namespace,
    store::documents::Expect,
};

/// A namespace that is to be.
#[derive(Debug, Clone)]
pub struct NewNamespace {
    /// Its name.
    pub name: Namespace,
    /// What people call it.
    pub display_name: String,
    /// How much it may have.
    pub quotas: Quotas,
}

/// What of a namespace is to change; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct NamespaceChange {
    /// What people call it.
    pub display_name: Option<String>,
    /// How much it may have, as a whole.
    pub quotas: Option<Quotas>,
}

/// What to do where there are as many namespaces as there may be.
const MEND: &str = "those that are archived count as well: use one that is there, or bring one back";

impl Directory {
    /// Creates a namespace; its owner's secret is shown this once.
    pub async fn create_namespace(&self, new: NewNamespace) -> Result<(NamespaceRecord, Secret), Rejection> {
        let NewNamespace { name, display_name, quotas } = new;
        check_name("display_name", &display_name, DISPLAY_NAME_CHARS)?;
        let taken = || Rejection::new(Code::AlreadyExists, format!("there is a namespace {name} already"));
        if name.is_default() || self.stored_namespace(&name).await?.is_some() {
            return Err(taken());
        }
        let now = self.0.clock.now();
        let shelf = &self.0.shelf;
        shelf.take_place(&namespaces(), (self.0.settings.namespaces, "namespaces"), MEND, now).await?;
        let (secret, entry) = self.new_secret(HolderKind::Owner, &name, None, None).await?;
        let record = NamespaceRecord {
            display_name,
            created_at: now.0,
            quotas,
            secrets: vec![entry],
            ..NamespaceRecord::default()
        };
        if !shelf.put(&namespaces(), name.as_str(), Expect::Nothing, &record).await? {
            return Err(taken());
        }
        self.forget_namespace(&name);
        Ok((record, secret))
    }

    /// A namespace as it is written down; the default one is always there.
    pub async fn get_namespace(&self, name: &Namespace) -> Result<NamespaceRecord, Rejection> {
        match self.stored_namespace(name).await? {
            Some(record) => Ok(record),
            None if name.is_default() => Ok(NamespaceRecord::default()),
            None => Err(absent("namespace", name.as_str())),
        }
    }

    /// Namespaces in the order of their names, behind `after`. The default one is among them.
    pub async fn list_namespaces(
        &self,
        after: Option<&Namespace>,
        limit: usize,
    ) -> Result<Vec<(Namespace, NamespaceRecord)>, Rejection> {
        let page = self.0.shelf.page(&namespaces(), after.map(Namespace::as_str), limit).await;
        let page: Vec<(String, NamespaceRecord)> = page.map_err(Fault::from)?;
        let is_last = page.len() < limit;
        let mut listed: Vec<(Namespace, NamespaceRecord)> = page
            .into_iter()
            .filter_map(|(name, record)| Some((Namespace::parse(&name).ok()?, record)))
            .collect();
        let default = Namespace::default();
        // It has no document as long as nobody has changed it.
        let place = listed.partition_point(|(name, _)| *name < default);
        let is_behind = after.is_none_or(|after| *after < default);
        let is_there = listed.get(place).is_some_and(|(name, _)| *name == default);
        if is_behind && !is_there && (is_last || place < listed.len()) {
            listed.insert(place, (default, NamespaceRecord::default()));
            listed.truncate(limit);
        }
        Ok(listed)
    }

    /// Changes a namespace.
    pub async fn change_namespace(
        &self,
        name: &Namespace,
        change: NamespaceChange,
    ) -> Result<NamespaceRecord, Rejection> {
        if let Some(display_name) = &change.display_name {
            check_name("display_name", display_name, DISPLAY_NAME_CHARS)?;
        }
        self.write_namespace(name, |record| {
            if let Some(display_name) = &change.display_name {
                record.display_name.clone_from(display_name);
            }
            record.quotas = change.quotas.unwrap_or(record.quotas);
            Ok(())
        })
        .await
        .map(|(record, ())| record)
    }

    /// Lets nobody in any more and ends what is open, or lets them in again.
    pub async fn archive_namespace(
        &self,
        name: &Namespace,
        archived: bool,
    ) -> Result<NamespaceRecord, Rejection> {
        if name.is_default() {
            return Err(Rejection::field("namespace", "is the default one, which cannot be archived"));
        }
        let now = self.0.clock.now();
        let (record, ()) = self
            .write_namespace(name, |record| {
                record.archived_at = archived.then(|| record.archived_at.unwrap_or(now.0));
                Ok(())
            })
            .await?;
        if archived {
            self.0.revocations.revoke(name, Revoked::Namespace, now).await?;
        }
        Ok(record)
    }

    /// A new secret for the owner. The others are worth something for `overlap` more.
    pub async fn rotate_namespace_secret(
        &self,
        name: &Namespace,
        overlap: Duration,
    ) -> Result<(NamespaceRecord, Secret), Rejection> {
        let until = self.overlap_ends(overlap)?;
        self.0.revocations.check_rotation(name)?;
        self.get_namespace(name).await?;
        let (secret, entry) = self.new_secret(HolderKind::Owner, name, None, None).await?;
        let now = self.0.clock.now();
        let (record, ended) = self
            .write_namespace(name, |record| Ok(rotate(&mut record.secrets, entry.clone(), until, now)))
            .await?;
        self.end_secrets(name, ended).await?;
        self.announce_ends(name, &record.secrets).await?;
        Ok((record, secret))
    }

    async fn stored_namespace(&self, name: &Namespace) -> Result<Option<NamespaceRecord>, Rejection> {
        let read = self.0.shelf.get(&namespaces(), name.as_str()).await.map_err(Fault::from)?;
        Ok(read.map(|(record, _)| record))
    }

    async fn write_namespace<R: Send>(
        &self,
        name: &Namespace,
        change: impl FnMut(&mut NamespaceRecord) -> Result<R, Rejection> + Send,
    ) -> Result<(NamespaceRecord, R), Rejection> {
        let missing = || match name.is_default() {
            true => Ok(NamespaceRecord::default()),
            false => Err(absent("namespace", name.as_str())),
        };
        let changed = self.0.shelf.change(&namespaces(), name.as_str(), missing, change).await;
        self.forget_namespace(name);
        Ok(changed?)
    }
}
