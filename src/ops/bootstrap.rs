//! The first API key of a server: made in the store itself, because nobody can call the server for it yet.
//!
//! Refuses when there is one already, unless it is told to: whoever reaches the store can do everything with it anyway,
//! and one who has lost every key must not be locked out.

use std::sync::Arc;

use thiserror::Error;

use crate::{
    auth::{
        directory::{Directory, DirectorySettings, NewKey},
        scope::{Scope, Scopes},
        secret::Secret,
    },
    clock::Clock,
    domain::rejection::Rejection,
    store::Store,
};

/// The label of such a key.
const LABEL: &str = "bootstrap";

/// A key that was made.
#[derive(Debug)]
pub struct Made {
    /// Its public id.
    pub id: String,
    /// The key itself.
    pub secret: Secret,
}

/// Why none was made.
#[derive(Debug, Error)]
pub enum Error {
    /// There is one that can make others.
    #[error(
        "the server has a key with the scope admin already: make others with `salon admin key create --everywhere`, or \
         give --force if it is lost, and revoke the lost one then"
    )]
    Exists,
    /// The directory says no.
    #[error(transparent)]
    Refused(#[from] Rejection),
}

/// Makes a key with which everything can be done.
pub async fn run(store: Arc<dyn Store>, clock: Arc<dyn Clock>, force: bool) -> Result<Made, Error> {
    let directory = Directory::new(store, clock, DirectorySettings::default());
    if !force && directory.has_server_admin().await? {
        return Err(Error::Exists);
    }
    let scopes = Scopes::from_iter([Scope::Admin]);
    let new = NewKey { label: LABEL.to_owned(), scopes, expires_at: None };
    let (id, _, secret) = directory.create_key(None, new).await?;
    Ok(Made { id, secret })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::{ManualClock, Timestamp},
        store::memory::MemoryStore,
    };

    #[tokio::test]
    async fn there_is_one_first_key_unless_it_is_revoked_or_lost() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp(1)));
        let run = |force| run(Arc::clone(&store), Arc::clone(&clock), force);
        let first = run(false).await.unwrap();
        assert!(matches!(run(false).await.unwrap_err(), Error::Exists));
        let second = run(true).await.unwrap();
        let directory = Directory::new(Arc::clone(&store), Arc::clone(&clock), DirectorySettings::default());
        for made in [&first, &second] {
            let found = directory.find(made.secret.expose()).await.unwrap().principal(clock.now());
            assert!(found.powers.everywhere && found.powers.scopes.allow(Scope::Admin));
            directory.revoke_key(None, &made.id).await.unwrap();
        }
        run(false).await.unwrap();
    }
}
