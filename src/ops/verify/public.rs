//! The lists of public rooms: each has those of its namespace, and nobody else's.
//!
//! As with memberships, sums are compared first; only a namespace whose sums differ is listed by name.

use std::collections::BTreeSet;

use crate::{
    domain::room::Visibility,
    ids::{Namespace, RoomId},
    ops::{
        Error, LIST,
        verify::{Finding, LOOKS, Verify, lists::Sum, unreadable},
    },
    store::{
        self, Listed, RoomFilter,
        inventory::{Inventory, Item},
    },
};

impl Verify<'_> {
    /// What everybody of a namespace is listed.
    pub(super) async fn public_rooms(&mut self) -> Result<(), Error> {
        for (namespace, kept) in std::mem::take(&mut self.public) {
            let mut sum = Sum::default();
            let listed = self.each_public(&namespace, |listed| sum.add_room(&listed.room)).await;
            if let Err(problem) = unreadable(listed)? {
                let what = format!("the public rooms of {namespace} cannot be listed: {problem}");
                self.found(Finding { room: None, seq: None, what });
            } else if sum != kept {
                self.compare_public(&namespace).await?;
            }
        }
        Ok(())
    }

    /// Told is what is wrong at every look: a room may become public, or be hidden, while it is looked at.
    async fn compare_public(&mut self, namespace: &Namespace) -> Result<(), Error> {
        let mut wrong: Option<BTreeSet<(RoomId, &str)>> = None;
        for _ in 0..LOOKS {
            let kept = self.public_of(namespace).await?;
            let mut listed = BTreeSet::new();
            self.each_public(namespace, |one| listed.extend([one.room.clone()])).await?;
            let missing = kept.difference(&listed).map(|room| (room.clone(), "it is public, and not listed"));
            let others = listed.difference(&kept).map(|room| match room.namespace() == *namespace {
                true => (room.clone(), "it is listed as public, and is not"),
                false => (room.clone(), "it is listed as public in another namespace than its own"),
            });
            let found: BTreeSet<_> = missing.chain(others).collect();
            let found = match &wrong {
                Some(before) => before.intersection(&found).cloned().collect(),
                None => found,
            };
            let is_sound = found.is_empty();
            wrong = Some(found);
            if is_sound {
                break;
            }
        }
        for (room, what) in wrong.unwrap_or_default() {
            self.found(Finding { room: Some(room), seq: None, what: what.to_owned() });
        }
        Ok(())
    }

    /// The rooms of a namespace that are public by themselves.
    async fn public_of(&self, namespace: &Namespace) -> Result<BTreeSet<RoomId>, Error> {
        let (mut rooms, mut last) = (BTreeSet::new(), None);
        loop {
            // What cannot be read has been told already.
            let page = unreadable(self.store.inventory(&Inventory::Rooms, last.as_ref(), LIST).await)?;
            let page = page.unwrap_or_default();
            let Some(end) = page.last().cloned() else { return Ok(rooms) };
            rooms.extend(page.into_iter().filter_map(|item| match item {
                Item::Room(room)
                    if room.visibility == Visibility::Public && room.room.namespace() == *namespace =>
                {
                    Some(room.room)
                }
                _ => None,
            }));
            last = Some(end);
        }
    }

    async fn each_public(
        &self,
        namespace: &Namespace,
        mut room: impl FnMut(&Listed) + Send,
    ) -> Result<(), store::Error> {
        let mut before = u64::MAX;
        loop {
            let page = self.store.list_rooms(RoomFilter::Public(namespace.clone()), before, LIST).await?;
            page.iter().for_each(&mut room);
            match page.last() {
                Some(last) => before = last.position,
                None => return Ok(()),
            }
        }
    }
}
