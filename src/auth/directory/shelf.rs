//! Documents with a type: read, listed, changed by comparing revisions, and counted.
//!
//! What cannot be read as its type is an error of the store. A change that others keep overtaking is given up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    auth::directory::records::{Count, Life, Pointer, counts, secrets},
    clock::Timestamp,
    domain::rejection::{Code, Rejection},
    store::{
        Error, ErrorKind, Store,
        documents::{BODY_BYTES, Document, Expect, Folder},
    },
};

/// How often a change is tried that others overtake: enough for what people do, and an end for what machines do.
const CHANGE_ATTEMPTS: usize = 16;
/// How many documents are read at once when all of a folder are.
const PAGE: usize = 500;
/// How often a full folder is counted: all of it is read for that.
const RECOUNT_MS: i64 = 60_000;
/// What to do where there are as many identities or keys as there may be.
pub(super) const REVOKE_SOME: &str = "revoke some that nobody uses, which makes room 30 days later";
/// How long what is over stays in lists: as long as somebody may ask who it was.
const ENDED_KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// The documents of a store.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    store: Arc<dyn Store>,
    /// Folders that were full, and when they were counted last; no longer ago than [`RECOUNT_MS`].
    counted: Arc<Mutex<HashMap<String, Timestamp>>>,
}

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is not to be done.
    Rejected(Rejection),
    /// The store did not do it.
    Store(Error),
}

impl From<Rejection> for Fault {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Rejected(rejection) => rejection,
            Fault::Store(error) => {
                tracing::warn!(
                    error = &error as &(dyn std::error::Error + 'static),
                    "the directory cannot be read or written"
                );
                Self::new(Code::Unavailable, "the directory cannot be reached now; try again")
            }
        }
    }
}

impl Shelf {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, counted: Arc::default() }
    }

    /// A document and its revision.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        folder: &Folder,
        name: &str,
    ) -> Result<Option<(T, u64)>, Error> {
        match self.store.document(folder, name).await? {
            Some(document) => Ok(Some((self.read(folder, &document)?, document.revision))),
            None => Ok(None),
        }
    }

    /// Documents of a folder with their names, behind `after`.
    pub(super) async fn page<T: DeserializeOwned>(
        &self,
        folder: &Folder,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, T)>, Error> {
        let page = self.store.documents(folder, after, limit).await?;
        page.into_iter().map(|document| Ok((document.name.clone(), self.read(folder, &document)?))).collect()
    }

    /// Writes a document; whether it was as expected.
    pub(super) async fn put<T: Serialize + Sync>(
        &self,
        folder: &Folder,
        name: &str,
        expect: Expect,
        value: &T,
    ) -> Result<bool, Fault> {
        let body = serde_json::to_vec(value)
            .map_err(|error| self.corrupt(format!("cannot write {folder}/{name}: {error}")))?;
        if body.len() > BODY_BYTES {
            let message = format!("what is kept may have {BODY_BYTES} bytes, this would be {}", body.len());
            return Err(Rejection::new(Code::InvalidArgument, message).into());
        }
        Ok(self.store.put_document(folder, name, expect, body.into()).await?)
    }

    /// Takes a document away, if it is there.
    pub(super) async fn remove(&self, folder: &Folder, name: &str) -> Result<(), Error> {
        self.store.put_document(folder, name, Expect::Anything, Bytes::new()).await.map(drop)
    }

    /// Changes a document that is there, or that begins as `absent`; tries again when somebody else was faster.
    pub(super) async fn change<T, R>(
        &self,
        folder: &Folder,
        name: &str,
        absent: impl Fn() -> Result<T, Rejection> + Send,
        mut change: impl FnMut(&mut T) -> Result<R, Rejection> + Send,
    ) -> Result<(T, R), Fault>
    where
        T: Serialize + DeserializeOwned + Send + Sync,
        R: Send,
    {
        for _ in 0..CHANGE_ATTEMPTS {
            let (mut value, expect) = match self.get::<T>(folder, name).await? {
                Some((value, revision)) => (value, Expect::Revision(revision)),
                None => (absent()?, Expect::Nothing),
            };
            let result = change(&mut value)?;
            if self.put(folder, name, expect, &value).await? {
                return Ok((value, result));
            }
        }
        Err(Rejection::new(Code::Unavailable, "others are changing the same; try again").into())
    }

    /// Takes one of a folder's places, before a document is put there: how many there are, and of what; and what to do
    /// when none is left. A place that was taken for what was never written is found again when all seem to be taken.
    pub(super) async fn take_place(
        &self,
        folder: &Folder,
        (limit, what): (u64, &'static str),
        mend: &'static str,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let take = |count: &mut Count| {
            let is_free = count.taken < limit;
            count.taken += u64::from(is_free);
            Ok(is_free)
        };
        if self.change(&counts(), folder.as_str(), || Ok(Count::default()), take).await?.1 {
            return Ok(());
        }
        let full = || {
            let message = format!("there can be {limit} {what} at most; {mend}");
            Fault::from(Rejection::new(Code::ResourceExhausted, message))
        };
        if !self.may_count(folder, now) {
            return Err(full());
        }
        let taken = self.tidy(folder, now).await?;
        let recount = |count: &mut Count| {
            count.taken = taken;
            take(count)
        };
        let (_, is_taken) = self.change(&counts(), folder.as_str(), || Ok(Count::default()), recount).await?;
        if !is_taken {
            return Err(full());
        }
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).remove(folder.as_str());
        Ok(())
    }

    /// Whether a folder that is full may be counted now: whoever asks again and again must not have all of it read each
    /// time.
    fn may_count(&self, folder: &Folder, now: Timestamp) -> bool {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.retain(|_, at| now.0.abs_diff(at.0) < RECOUNT_MS.unsigned_abs());
        if counted.contains_key(folder.as_str()) {
            return false;
        }
        counted.insert(folder.as_str().to_owned(), now);
        true
    }

    /// Forgets what has been over for long, and counts what is left.
    async fn tidy(&self, folder: &Folder, now: Timestamp) -> Result<u64, Fault> {
        let (mut left, mut after) = (0, None::<String>);
        loop {
            let page = self.page::<Life>(folder, after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else {
                return Ok(left);
            };
            after = Some(last.clone());
            for (name, life) in page {
                if life.ended_at().is_none_or(|at| at > now.0.saturating_sub(ENDED_KEPT_MS)) {
                    left += 1;
                    continue;
                }
                for secret in &life.secrets {
                    self.remove(&secrets(), &secret.id).await?;
                }
                self.remove(folder, &name).await?;
            }
        }
    }

    /// Says whose a secret is. Before its holder's document names it, it is worth nothing. `false`: there is one of
    /// this public id already.
    pub(super) async fn put_pointer(&self, id: &str, pointer: &Pointer) -> Result<bool, Fault> {
        self.put(&secrets(), id, Expect::Nothing, pointer).await
    }

    fn read<T: DeserializeOwned>(&self, folder: &Folder, document: &Document) -> Result<T, Error> {
        serde_json::from_slice(&document.body)
            .map_err(|error| self.corrupt(format!("cannot read {folder}/{}: {error}", document.name)))
    }

    fn corrupt(&self, what: String) -> Error {
        Error { kind: ErrorKind::Corrupt, store: self.store.name(), what, source: None }
    }
}
