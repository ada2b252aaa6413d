//! Who there is: namespaces, their identities and API keys, and whose a secret is.
//!
//! Owns their documents in the store. Never keeps a secret, only hashes; never decides who may ask: whoever calls has
//! asked. A secret is found by itself alone, and finding nothing takes the same way as finding something: two readings
//! and one comparison of whole hashes. What was read is believed for half a second, so that a change is seen by every
//! node within one; a change here is seen at once. When the store does not answer nobody is let in.

mod cache;
mod certificates;
mod identities;
mod keys;
mod namespaces;
mod records;
mod shelf;
mod source;

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;

pub use identities::{IdentityChange, NewIdentity};
pub use keys::NewKey;
pub use namespaces::{NamespaceChange, NewNamespace};
pub use records::{IdentityRecord, KeyRecord, NamespaceRecord, SecretEntry};

use crate::{
    auth::{
        directory::{
            cache::Cache,
            records::{HolderKind, Pointer},
            shelf::{Fault, Shelf},
        },
        gate,
        grants::Grants,
        principal::{Credential, Principal},
        revoked::{self, Revocations, Revoked},
        scope::{Powers, Scopes},
        secret::{self, Hash, NoRandomness, Secret},
    },
    clock::{Clock, Timestamp},
    domain::rejection::{Code, Rejection},
    ids::{Namespace, UserId},
    store::{self, Store},
};

/// Secrets that one holder may have at a time: the one in use, and those that are being replaced.
const SECRETS: usize = 4;
/// Readings that may be under way for secrets that are shown: guesses must not take the whole store.
const READINGS: usize = 64;

/// How much there may be.
#[derive(Debug, Clone)]
pub struct DirectorySettings {
    /// Namespaces of the server.
    pub namespaces: u64,
    /// Identities of one namespace.
    pub identities: u64,
    /// API keys of one namespace, and of the server.
    pub keys: u64,
    /// Secrets that are remembered; as many again that were not found.
    pub remembered: usize,
    /// How long what was read is believed. With the reading itself it has to be less than a second.
    pub believed: Duration,
    /// How long it is remembered that what a user or a namespace had was revoked: no token may live longer.
    pub revocations_kept: Duration,
    /// How long the longest token lives: so long it is remembered that one was revoked.
    pub tokens_live: Duration,
    /// The namespace that clients' certificates speak for; none: they are no credentials on this server.
    pub certificates: Option<Namespace>,
}

impl Default for DirectorySettings {
    fn default() -> Self {
        Self {
            namespaces: 10_000,
            identities: 100_000,
            keys: 100,
            remembered: 10_000,
            believed: Duration::from_millis(500),
            revocations_kept: Duration::from_secs(7 * 24 * 3600),
            tokens_live: Duration::from_secs(7 * 24 * 3600),
            certificates: None,
        }
    }
}

/// Who there is. Clones are one.
#[derive(Debug, Clone)]
pub struct Directory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shelf: Shelf,
    clock: Arc<dyn Clock>,
    settings: DirectorySettings,
    revocations: Revocations,
    secrets: Cache<Hash, Arc<Card>>,
    namespaces: Cache<Namespace, Arc<NamespaceRecord>>,
    /// Those that were found to be revoked; others are not there.
    certificates: Cache<(Namespace, String), ()>,
    /// Keys by which tokens were made, and that are worth something.
    minters: Cache<(Namespace, String), Arc<Card>>,
    readings: Semaphore,
}

/// Whose a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The namespace it is of; the default one for a key of the server.
    pub namespace: Namespace,
    /// What it is.
    pub kind: Kind,
    /// The public id of the secret that was shown.
    pub id: String,
    /// When it ends; none: when it is replaced or revoked.
    pub expires_at: Option<Timestamp>,
}

/// What a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// An identity's.
    Identity {
        /// The public id of the identity.
        identity: String,
        /// The user it speaks for.
        user: UserId,
        /// The name others see.
        name: Option<String>,
    },
    /// An API key.
    Key {
        /// What it may do.
        scopes: Scopes,
        /// Whether it is the server's, and may do so in every namespace.
        everywhere: bool,
    },
    /// That of the owner of a namespace.
    Owner,
}

/// Why somebody is not let in.
#[derive(Debug, Clone)]
pub enum Refused {
    /// There is no such secret.
    Unknown,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
    /// Its namespace is archived.
    Archived,
    /// Nobody knows, because the store did not answer.
    Unavailable(store::Error),
}

impl Found {
    /// Who calls. An identity is its user. A key acts for any user, as far as its scopes go. An owner enters no room.
    pub fn principal(self, now: Timestamp) -> Principal {
        let base = Principal {
            namespace: self.namespace,
            issued_at: Some(now),
            expires_at: self.expires_at,
            ..Principal::open()
        };
        match self.kind {
            Kind::Identity { user, name, identity: _ } => {
                Principal { user: Some(user), name, credential: Credential::Identity(self.id), ..base }
            }
            Kind::Key { scopes, everywhere } => Principal {
                grants: scopes.grants(),
                powers: Powers { scopes, everywhere },
                credential: Credential::Key(self.id),
                ..base
            },
            Kind::Owner => Principal {
                grants: Grants::NONE,
                powers: Powers::owner(),
                credential: Credential::Owner(self.id),
                ..base
            },
        }
    }
}

/// A secret as it was read: whether it is worth anything now is asked each time.
#[derive(Debug)]
struct Card {
    namespace: Namespace,
    kind: Kind,
    entry: Option<SecretEntry>,
    is_revoked: bool,
}

impl Directory {
    /// The directory of a store.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, settings: DirectorySettings) -> Self {
        let DirectorySettings { remembered, believed, revocations_kept, tokens_live, .. } = settings;
        let kept = revoked::Kept { users: revocations_kept.max(tokens_live), tokens: tokens_live };
        Self(Arc::new(Inner {
            revocations: Revocations::new(Arc::clone(&store), Arc::clone(&clock), kept),
            shelf: Shelf::new(store),
            clock,
            settings,
            secrets: Cache::new(remembered.max(1), believed),
            namespaces: Cache::new(remembered.max(1), believed),
            certificates: Cache::new(remembered.max(1), believed),
            minters: Cache::new(remembered.max(1), believed),
            readings: Semaphore::new(READINGS),
        }))
    }

    /// What was revoked; somebody has to run it.
    pub fn revocations(&self) -> &Revocations {
        &self.0.revocations
    }

    /// Whose this secret is, if it is worth anything now.
    pub async fn find(&self, shown: &str) -> Result<Found, Refused> {
        if !secret::is_shaped(shown) {
            return Err(Refused::Unknown);
        }
        let hash = Hash::of(shown);
        let card = match self.0.secrets.get(&hash) {
            Ok(kept) => kept,
            Err(begun) => {
                // It is never closed: without a place the reading would only be one more.
                let _place = self.0.readings.acquire().await.ok();
                let card = self.read(hash).await.map_err(Refused::Unavailable)?.map(Arc::new);
                self.0.secrets.put(hash, card.clone(), begun);
                card
            }
        };
        let namespace = card.as_ref().map_or_else(Namespace::default, |card| card.namespace.clone());
        let record = self.namespace(&namespace).await?;
        let card = card.ok_or(Refused::Unknown)?;
        if card.is_revoked {
            return Err(Refused::Revoked);
        }
        let entry = card.entry.as_ref().ok_or(Refused::Unknown)?;
        if entry.is_over(self.0.clock.now()) {
            return Err(Refused::Expired);
        }
        let is_servers = matches!(card.kind, Kind::Key { everywhere: true, .. });
        if !is_servers && record.is_none_or(|record| record.archived_at.is_some()) {
            return Err(Refused::Archived);
        }
        let (id, expires_at) = (entry.id.clone(), entry.expires_at());
        Ok(Found { namespace, kind: card.kind.clone(), id, expires_at })
    }

    /// The same for a secret that was found before; one that was not is refused as if there were none.
    pub(super) async fn find_known(&self, shown: &str) -> Result<Found, Refused> {
        match secret::is_shaped(shown) && self.0.secrets.knows(&Hash::of(shown)) {
            true => self.find(shown).await,
            false => Err(Refused::Unknown),
        }
    }

    /// A namespace, archived or not; none: there is no such one. The default one is always there.
    pub async fn namespace(&self, namespace: &Namespace) -> Result<Option<Arc<NamespaceRecord>>, Refused> {
        let begun = match self.0.namespaces.get(namespace) {
            Ok(kept) => return Ok(kept),
            Err(begun) => begun,
        };
        let read = self.0.shelf.get::<NamespaceRecord>(&records::namespaces(), namespace.as_str()).await;
        let record = match read.map_err(Refused::Unavailable)? {
            Some((record, _)) => Some(Arc::new(record)),
            None => namespace.is_default().then(Arc::default),
        };
        self.0.namespaces.put(namespace.clone(), record.clone(), begun);
        Ok(record)
    }

    /// Whose a secret is, whether or not it is worth anything. The way is the same for one that is nobody's.
    async fn read(&self, hash: Hash) -> Result<Option<Card>, store::Error> {
        let id = hash.id();
        let shelf = &self.0.shelf;
        let pointer = shelf.get::<Pointer>(&records::secrets(), &id).await?.map(|(pointer, _)| pointer);
        let known = pointer.as_ref().and_then(|pointer| Hash::parse(&pointer.hash));
        // Nobody has a secret of this hash.
        let is_known = known.unwrap_or(Hash::of("")).is_same(hash);
        let pointer = pointer.unwrap_or_else(|| Pointer {
            kind: HolderKind::Identity,
            namespace: Namespace::default().to_string(),
            holder: id.clone(),
            hash: String::new(),
        });
        let Ok(namespace) = Namespace::parse(&pointer.namespace) else {
            return Ok(None);
        };
        let card = match pointer.kind {
            HolderKind::Identity => self.read_identity(&namespace, &pointer.holder, &id).await?,
            HolderKind::Key => self.read_key(Some(&namespace), &pointer.holder, &id).await?,
            HolderKind::ServerKey => self.read_key(None, &pointer.holder, &id).await?,
            HolderKind::Owner => self.read_owner(&namespace, &id).await?,
        };
        Ok(card.filter(|_| is_known))
    }

    async fn read_identity(
        &self,
        namespace: &Namespace,
        holder: &str,
        id: &str,
    ) -> Result<Option<Card>, store::Error> {
        let folder = records::identities(namespace);
        let record = self.0.shelf.get::<IdentityRecord>(&folder, holder).await?;
        Ok(record.and_then(|(record, _)| {
            let user = UserId::parse(&record.user).ok()?;
            let kind = Kind::Identity { identity: holder.to_owned(), user, name: record.name };
            let is_revoked = record.revoked_at.is_some();
            Some(Card { namespace: namespace.clone(), kind, entry: entry(record.secrets, id), is_revoked })
        }))
    }

    async fn read_key(
        &self,
        namespace: Option<&Namespace>,
        holder: &str,
        id: &str,
    ) -> Result<Option<Card>, store::Error> {
        let record = self.0.shelf.get::<KeyRecord>(&records::keys(namespace), holder).await?;
        Ok(record.map(|(record, _)| {
            let kind = Kind::Key { scopes: record.scopes(), everywhere: namespace.is_none() };
            let is_revoked = record.revoked_at.is_some();
            let namespace = namespace.cloned().unwrap_or_default();
            Card { namespace, kind, entry: entry(record.secrets, id), is_revoked }
        }))
    }

    /// Refuses what was made by a key, of this namespace or of the server, that is worth nothing any more.
    pub async fn admits_key(&self, namespace: &Namespace, id: &str) -> Result<(), gate::Refused> {
        let asked = (namespace.clone(), id.to_owned());
        let card = match self.0.minters.get(&asked) {
            Ok(kept) => kept,
            Err(begun) => {
                let own = self.read_key(Some(namespace), id, id).await.map_err(Refused::Unavailable)?;
                let card = match own {
                    Some(own) => Some(own),
                    None => self.read_key(None, id, id).await.map_err(Refused::Unavailable)?,
                };
                let card = card.map(Arc::new);
                self.0.minters.put(asked, card.clone(), begun);
                card
            }
        };
        // One that was tidied away was revoked long before.
        let card = card.filter(|card| !card.is_revoked).ok_or(gate::Refused::Revoked)?;
        match card.entry.as_ref().filter(|entry| !entry.is_over(self.0.clock.now())) {
            Some(_) => Ok(()),
            None => Err(gate::Refused::Expired),
        }
    }

    async fn read_owner(&self, namespace: &Namespace, id: &str) -> Result<Option<Card>, store::Error> {
        let read = self.0.shelf.get::<NamespaceRecord>(&records::namespaces(), namespace.as_str()).await?;
        Ok(read.map(|(record, _)| {
            let namespace = namespace.clone();
            Card { namespace, kind: Kind::Owner, entry: entry(record.secrets, id), is_revoked: false }
        }))
    }

    /// Ends secrets that were taken from their holder: streams are told, and their pointers are taken away.
    async fn end_secrets(&self, namespace: &Namespace, ended: Vec<SecretEntry>) -> Result<(), Rejection> {
        let now = self.0.clock.now();
        for secret in ended {
            let what = Revoked::Credential { id: secret.id.clone() };
            self.0.revocations.revoke(namespace, what, now).await?;
            self.0.shelf.remove(&records::secrets(), &secret.id).await.map_err(Fault::from)?;
        }
        Ok(())
    }

    /// A new secret, and where it leads. It is worth nothing before its holder names it.
    async fn new_secret(
        &self,
        kind: HolderKind,
        namespace: &Namespace,
        holder: Option<&str>,
        until: Option<Timestamp>,
    ) -> Result<(Secret, SecretEntry), Fault> {
        let secret = Secret::random().map_err(|NoRandomness| {
            Rejection::new(Code::Unavailable, "the system gives no randomness to make a secret of")
        })?;
        let (hash, id) = (secret.hash(), secret.hash().id());
        let pointer = Pointer {
            kind,
            namespace: namespace.to_string(),
            holder: holder.unwrap_or(&id).to_owned(),
            hash: hash.to_hex(),
        };
        if !self.0.shelf.put_pointer(&id, &pointer).await? {
            return Err(Rejection::new(Code::Unavailable, "a secret of this id is there; try again").into());
        }
        let until = until.map(|until| until.0);
        Ok((secret, SecretEntry { id, created_at: self.0.clock.now().0, until }))
    }

    /// What was read of this holder before a change is not believed any more. Nobody has shown a secret before it was
    /// made, so that what was not found is not looked at.
    fn forget(&self, is_changed: impl Fn(&Card) -> bool) {
        self.0.secrets.forget(|_, card| card.is_some_and(|card| is_changed(card)));
    }

    /// The same for a namespace and its owner.
    fn forget_namespace(&self, namespace: &Namespace) {
        self.0.namespaces.forget(|name, _| name == namespace);
        self.forget(|card| card.namespace == *namespace && card.kind == Kind::Owner);
    }
}

/// The entry of this secret, if its holder still has it.
fn entry(secrets: Vec<SecretEntry>, id: &str) -> Option<SecretEntry> {
    secrets.into_iter().find(|entry| entry.id == id)
}

/// Puts a new secret behind the others, which end with `until`. Returns those that are over now.
fn rotate(
    secrets: &mut Vec<SecretEntry>,
    new: SecretEntry,
    until: Timestamp,
    now: Timestamp,
) -> Vec<SecretEntry> {
    for old in secrets.iter_mut() {
        old.until = Some(old.until.map_or(until.0, |own| own.min(until.0)));
    }
    secrets.push(new);
    let mut ended: Vec<SecretEntry> = secrets.extract_if(.., |secret| secret.is_over(now)).collect();
    // Whoever rotates faster than the overlap ends loses the oldest.
    ended.extend(secrets.drain(..secrets.len().saturating_sub(SECRETS)));
    ended
}

/// The refusal of something that is not there, or that somebody may not know of: both read the same.
fn absent(what: &'static str, id: &str) -> Rejection {
    let shown: String = id.chars().take(64).collect();
    Rejection::new(Code::NotFound, format!("there is no {what} {shown:?}"))
}

#[cfg(test)]
mod tests;
