//! The folder of the store where revocations are: what is new in it, and what is old.
//!
//! Each document's name begins with the time at which it was written, so that both ends are read without the middle. What
//! a store does not answer is asked again later.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    auth::revoked::{Inner, Revocation, Revoked, millis},
    clock::Timestamp,
    store::{
        Error,
        documents::{Document, Expect, Folder},
    },
};

/// How far the clock of another node may be behind ours.
pub(super) const OVERLAP: Duration = Duration::from_secs(30);
/// Documents that are read in one call, and calls in one reading; what is left is read by the next.
pub(super) const PAGE: usize = 256;
const PAGES: usize = 64;
/// How long its document stays: as long as a server may be unable to read the store and still be told of it.
pub(super) const SECRET_DOCUMENT_KEPT: Duration = Duration::from_secs(3600);

/// How far the folder was read.
pub(super) struct Reading {
    /// Everything up to this name was.
    after: String,
    /// Whether the end was reached once.
    pub(super) is_done: bool,
}

impl Reading {
    pub(super) fn new(of: &Inner) -> Self {
        Self { after: key(of.oldest()), is_done: false }
    }

    pub(super) async fn read(&mut self, of: &Inner) -> Result<(), Error> {
        let begun = of.clock.now();
        for _ in 0..PAGES {
            let page = of.store.documents(&folder(), Some(&self.after), PAGE).await?;
            if let Some(last) = page.last() {
                self.after = last.name.clone();
                of.learn(page.iter().filter_map(parse));
                continue;
            }
            self.is_done = true;
            // What a slower clock has written since then stands before what was read.
            let again = begun.0.saturating_sub(millis(OVERLAP));
            self.after = self.after.clone().min(key(Timestamp(again)));
            // A name is read again only within that time.
            of.write().names.retain(|name| *name > self.after);
            break;
        }
        Ok(())
    }
}

/// How far the folder was looked at for what is old.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    after: Option<String>,
}

impl Sweep {
    /// Takes out of the store what is too old to matter. What is left of a sweep is done by the next, so that none is
    /// long.
    pub(super) async fn sweep(&mut self, of: &Inner) -> Result<(), Error> {
        for _ in 0..PAGES {
            let page = of.store.documents(&folder(), self.after.as_deref(), PAGE).await?;
            for document in &page {
                let until =
                    written(&document.name).unwrap_or_default().saturating_add(Self::kept(of, document));
                if until < of.clock.now().0 {
                    of.store.put_document(&folder(), &document.name, Expect::Anything, Bytes::new()).await?;
                }
            }
            let young = key(Timestamp(of.clock.now().0.saturating_sub(millis(SECRET_DOCUMENT_KEPT))));
            self.after = page.last().map(|last| last.name.clone()).filter(|last| *last < young);
            if self.after.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// How long a document stays, in milliseconds. One that cannot be read is of a newer server: as long as any.
    fn kept(of: &Inner, document: &Document) -> i64 {
        match serde_json::from_slice(&document.body).map(|revocation: Revocation| revocation.what) {
            Ok(Revoked::Credential { .. } | Revoked::Certificate { .. }) => millis(SECRET_DOCUMENT_KEPT),
            Ok(what) => of.kept(&what),
            Err(_) => millis(of.kept.users.max(of.kept.tokens)),
        }
    }
}

/// When a document was written, by the clock of who wrote it.
pub(super) fn written(name: &str) -> Option<i64> {
    name.split_once('-')?.0.parse().ok()
}

/// What a document says. One that says nothing we know is from a newer server.
pub(super) fn parse(document: &Document) -> Option<(String, Revocation)> {
    let read = serde_json::from_slice(&document.body);
    if let Err(error) = &read {
        tracing::warn!(name = document.name, %error, "a revocation cannot be read");
    }
    Some((document.name.clone(), read.ok()?))
}

pub(super) fn folder() -> Folder {
    Folder::new(&["revoked"])
}

/// The beginning of a name: times as texts of one length, in the order of the times.
pub(super) fn key(at: Timestamp) -> String {
    format!("{:014}", at.0.max(0))
}
