//! What is kept beside rooms: who is listed which room, and the ledger.
//!
//! Memberships of all rooms are compared as sums first, which needs no memory; only when those differ are rooms looked at
//! one by one, and named.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
};

use crate::{
    ids::{RoomId, Seq, UserId},
    ops::{
        Error, LIST,
        verify::{Finding, LOOKS, Verify, room::fold, unreadable},
    },
    store::{
        self,
        inventory::{Inventory, Item},
    },
};

/// Rooms whose wrong memberships are told one by one.
const ROOMS_TOLD: usize = 100;

/// Of memberships or rooms: equal for equal sets, whatever their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sum {
    number: u64,
    hashes: u64,
}

impl Sum {
    pub(super) fn add(&mut self, members: &[(RoomId, UserId)]) {
        for (room, user) in members {
            self.add_one(room, user);
        }
    }

    fn add_one(&mut self, room: &RoomId, user: &UserId) {
        self.count(&(room, user));
    }

    pub(super) fn add_room(&mut self, room: &RoomId) {
        self.count(room);
    }

    fn count(&mut self, one: &impl Hash) {
        let mut hasher = DefaultHasher::new();
        one.hash(&mut hasher);
        self.number += 1;
        self.hashes = self.hashes.wrapping_add(hasher.finish());
    }
}

/// A room whose memberships differ.
struct Differing {
    /// Members by the log, of which those that are listed are taken away.
    members: BTreeSet<UserId>,
    /// Where the log ended when it was read.
    at: Seq,
}

impl Verify<'_> {
    /// Who is listed which room.
    pub(super) async fn members(&mut self) -> Result<(), Error> {
        let mut listed = Sum::default();
        if let Err(problem) = unreadable(self.each_member(|room, user| listed.add_one(room, user)).await)? {
            let what = format!("the list of all Members cannot be read to its end: {problem}");
            self.found(Finding { room: None, seq: None, what });
            return Ok(());
        }
        if listed == self.members {
            return Ok(());
        }
        let mut findings = Vec::new();
        for _ in 0..LOOKS {
            let (found, moved) = self.compare_members().await?;
            findings = found;
            if !moved {
                break;
            }
        }
        for finding in findings {
            self.found(finding);
        }
        Ok(())
    }

    /// What is wrong, and whether any of those rooms was written to meanwhile.
    async fn compare_members(&self) -> Result<(Vec<Finding>, bool), Error> {
        let mut sums: HashMap<RoomId, Sum> = HashMap::new();
        self.each_member(|room, user| sums.entry(room.clone()).or_default().add_one(room, user)).await?;
        let mut differing: HashMap<RoomId, Differing> = HashMap::new();
        let mut last: Option<Item> = None;
        loop {
            let page = unreadable(self.store.inventory(&Inventory::Rooms, last.as_ref(), LIST).await)?;
            // What cannot be read has been told already.
            let page = page.unwrap_or_default();
            let Some(end) = page.last().cloned() else { break };
            for item in page {
                let Item::Room(listed) = item else { continue };
                // One that cannot be read has been told already.
                let Some(room) = fold(self.store, &listed.room).await? else { continue };
                let mut sum = Sum::default();
                room.members.keys().for_each(|user| sum.add_one(&listed.room, user));
                if sum != sums.get(&listed.room).copied().unwrap_or_default() && differing.len() < ROOMS_TOLD
                {
                    let members = room.members.into_keys().collect();
                    differing.insert(listed.room, Differing { members, at: room.seq });
                }
            }
            last = Some(end);
        }
        let mut findings = Vec::new();
        let finding = |room: &RoomId, what| Finding { room: Some(room.clone()), seq: None, what };
        self.each_member(|room, user| {
            if let Some(differing) = differing.get_mut(room)
                && !differing.members.remove(user)
            {
                findings.push(finding(room, format!("{user} is listed as a member, and is none")));
            }
        })
        .await?;
        let mut moved = false;
        for (room, Differing { members, at }) in differing {
            let head = unreadable(self.store.head(&room).await)?;
            moved |= head.is_ok_and(|head| head.is_none_or(|head| head.seq != at));
            let missing = members
                .iter()
                .map(|user| finding(&room, format!("{user} is a member, and is not listed it")));
            findings.extend(missing);
        }
        Ok((findings, moved))
    }

    async fn each_member(&self, mut member: impl FnMut(&RoomId, &UserId) + Send) -> Result<(), store::Error> {
        let mut last: Option<Item> = None;
        loop {
            let page = self.store.inventory(&Inventory::Members, last.as_ref(), LIST).await?;
            for item in &page {
                if let Item::Member { user, room } = item {
                    member(room, user);
                }
            }
            match page.into_iter().next_back() {
                Some(item) => last = Some(item),
                None => return Ok(()),
            }
        }
    }

    /// What is left of rooms that no list has.
    pub(super) async fn strays(&mut self) -> Result<(), Error> {
        let mut last: Option<Item> = None;
        loop {
            let page = self.page(&Inventory::Strays, last.as_ref()).await?;
            for item in &page {
                if let Item::Stray { number } = item {
                    let what = format!(
                        "the store keeps what belongs to a room that it does not list, and cannot name (number {number})"
                    );
                    self.found(Finding { room: None, seq: None, what });
                }
            }
            match page.into_iter().next_back() {
                Some(item) => last = Some(item),
                None => return Ok(()),
            }
        }
    }

    /// That nothing is held by nobody.
    pub(super) async fn ledger(&mut self) -> Result<(), Error> {
        if !self.store.open_reservations().await?.is_empty() {
            self.report.is_ledger_busy = true;
            return Ok(());
        }
        let mut last: Option<Item> = None;
        loop {
            let page = self.page(&Inventory::Accounts, last.as_ref()).await?;
            let Some(end) = page.last().cloned() else { return Ok(()) };
            for item in page {
                let Item::Account(kept) = item else { continue };
                if kept.balance.reserved == 0 {
                    continue;
                }
                // Asked again, in this order: an answer may have begun when the page was read, and may have ended since.
                if !self.store.open_reservations().await?.is_empty() {
                    self.report.is_ledger_busy = true;
                    return Ok(());
                }
                let now = self.store.balances(std::slice::from_ref(&kept.account)).await?;
                let held = now.first().map_or(0, |balance| balance.reserved).min(kept.balance.reserved);
                if held > 0 && self.store.open_reservations().await?.is_empty() {
                    let what = format!(
                        "the account {} holds {held} for answers, and none is open",
                        kept.account.key
                    );
                    self.found(Finding { room: None, seq: None, what });
                }
            }
            last = Some(end);
        }
    }
}
