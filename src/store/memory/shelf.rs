//! The documents of the memory store.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;

use crate::store::documents::{Document, Expect, Folder};

/// All documents, in the order of their names within each folder.
#[derive(Debug, Default)]
pub(super) struct Shelf(BTreeMap<Folder, BTreeMap<String, (u64, Bytes)>>);

impl Shelf {
    pub(super) fn one(&self, folder: &Folder, name: &str) -> Option<Document> {
        self.0.get(folder)?.get_key_value(name).map(document)
    }

    pub(super) fn page(&self, folder: &Folder, after: Option<&str>, limit: usize) -> Vec<Document> {
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let names = self.0.get(folder).map(|names| names.range::<str, _>((behind, Bound::Unbounded)));
        names.into_iter().flatten().take(limit).map(document).collect()
    }

    /// All of all folders.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Folder, Document)> {
        self.0.iter().flat_map(|(folder, names)| names.iter().map(move |entry| (folder, document(entry))))
    }

    pub(super) fn put(&mut self, folder: &Folder, name: &str, expect: Expect, body: Bytes) -> bool {
        let names = self.0.entry(folder.clone()).or_default();
        let revision = names.get(name).map(|(revision, _)| *revision);
        if !expect.fits(revision) {
            return false;
        }
        match body.is_empty() {
            true => drop(names.remove(name)),
            false => drop(names.insert(name.to_owned(), (revision.unwrap_or(0) + 1, body))),
        }
        true
    }
}

fn document((name, (revision, body)): (&String, &(u64, Bytes))) -> Document {
    Document { name: name.clone(), revision: *revision, body: body.clone() }
}
