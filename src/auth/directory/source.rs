//! The directory as the gate asks it: for secrets, and for what was taken back.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{FutureExt as _, future::BoxFuture};

use crate::{
    auth::{
        directory::{self, Directory},
        gate::{self, Effort, Refused},
        principal::Principal,
        revoked::Revocations,
    },
    clock::Timestamp,
    ids::Namespace,
};

impl From<directory::Refused> for Refused {
    fn from(refused: directory::Refused) -> Self {
        match refused {
            directory::Refused::Unknown => Self::Invalid("it is not known"),
            directory::Refused::Expired => Self::Expired,
            directory::Refused::Revoked => Self::Revoked,
            // Told to whoever has a good secret, and to nobody else.
            directory::Refused::Archived => Self::Invalid("its namespace is archived"),
            directory::Refused::Unavailable(error) => {
                tracing::warn!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "a secret cannot be looked up"
                );
                Self::Unavailable
            }
        }
    }
}

#[async_trait]
impl gate::Source for Directory {
    async fn verify(&self, credential: &str, now: Timestamp, effort: Effort) -> Result<Principal, Refused> {
        let found = match effort {
            Effort::Full => self.find(credential).await,
            Effort::Known => self.find_known(credential).await,
        };
        Ok(found?.principal(now))
    }
}

impl Directory {
    /// Refuses a namespace that is not there or is archived: for credentials that the directory does not keep, which
    /// name one.
    pub async fn admits(&self, namespace: &Namespace) -> Result<(), Refused> {
        match self.namespace(namespace).await? {
            Some(record) if record.archived_at.is_none() => Ok(()),
            Some(_) => Err(directory::Refused::Archived.into()),
            None => Err(Refused::Invalid("its namespace is not known")),
        }
    }
}

impl gate::Revoked for Revocations {
    fn is_revoked(&self, principal: &Principal) -> bool {
        Self::is_revoked(self, principal)
    }

    fn until_revoked(&self, principal: Arc<Principal>) -> BoxFuture<'static, ()> {
        // All streams are woken by each: one that has nothing to do with it asks a map in memory up to three times, and
        // once where nothing of its namespace is revoked. Several that come while it asks wake it once more.
        let (revocations, mut changes) = (self.clone(), self.subscribe());
        async move {
            while !revocations.is_revoked(&principal) {
                if changes.changed().await.is_err() {
                    // Nobody is left who could revoke anything.
                    std::future::pending::<()>().await;
                }
            }
        }
        .boxed()
    }

    fn until_replaced(
        &self,
        principal: Arc<Principal>,
        known: Option<Timestamp>,
    ) -> BoxFuture<'static, Timestamp> {
        let (revocations, mut changes) = (self.clone(), self.subscribe());
        async move {
            loop {
                let ends_at = revocations.ends_at(&principal);
                if let Some(at) = ends_at.filter(|at| known.is_none_or(|known| *at < known)) {
                    return at;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
        .boxed()
    }
}
