//! Who is in one room on other nodes, as far as they have said.
//!
//! Each node numbers its changes, so that one that is repeated or late does nothing, and one that is missing is known
//! to be: then the node is asked for everybody. What a node said holds as long as it goes on saying so. Pure: the
//! caller says what time it is, and what is heard comes back as what it changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    domain::room::{Member, Presence},
    ids::{NodeId, UserId},
    wire::hint::presence::{PresenceHint, PresentPage, PresentUser, Said},
};

/// Other nodes in one room.
pub(super) const NODES: usize = 64;
/// Users in one room on one of them.
pub(super) const USERS: usize = 100_000;
/// A node that has said nothing for so long is not believed any more: two of its renewals may be lost or late, and
/// with what it takes to notice this is less than 15 s.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(12);
/// Between two looks there is a second. If there was more than this, this node stood still, and what others said
/// meanwhile may not have been read yet.
const STOOD_STILL: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_secs(1);
/// So many renewals in a row of fewer changes than are known of: what is known was never said.
const CONTRADICTIONS: u32 = 3;
/// Changes remembered that came before others; beyond it everybody is asked for anyway.
const EARLY: usize = 256;

/// All other nodes.
#[derive(Debug, Default)]
pub(super) struct Others {
    nodes: BTreeMap<NodeId, Node>,
    /// The last arrival of a connection that was heard of.
    last_arrival: u64,
    /// When it was last looked whether one of them is silent.
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Node {
    heard: Instant,
    opening: u64,
    /// All changes up to here are in `users`.
    upto: u64,
    /// There are changes up to here.
    highest: u64,
    /// Changes behind `upto` that are in `users`.
    early: BTreeSet<u64>,
    users: BTreeMap<UserId, Known>,
    /// Users who went by a change behind `upto`: what is older does not bring them back.
    gone: BTreeMap<UserId, u64>,
    /// Everybody, as long as pages are missing.
    pages: Pages,
    /// Renewals in a row of fewer changes than are known of.
    contradicted: u32,
}

/// A user on another node.
#[derive(Debug)]
pub(super) struct Known {
    /// The change that told it.
    version: u64,
    /// The best over the connections there.
    pub(super) presence: Presence,
    /// When each of them came.
    pub(super) arrivals: Arc<[u64]>,
}

#[derive(Debug, Default)]
struct Pages {
    version: u64,
    count: u32,
    come: BTreeMap<u32, Vec<PresentUser>>,
}

/// What has changed for a user on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shift {
    pub(super) node: NodeId,
    pub(super) user: UserId,
    /// As they were there; `None`: not there.
    pub(super) before: Option<Presence>,
    /// As they are there.
    pub(super) after: Option<Presence>,
    /// What others are told of who comes, if the node has said it.
    pub(super) member: Option<Arc<Member>>,
}

/// What was heard is more than is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Beyond {
    /// Of nodes.
    #[error("a room is open on more than {NODES} other nodes")]
    Nodes,
    /// Of users.
    #[error("more than {USERS} users are in a room on one other node")]
    Users,
}

impl Others {
    /// How a user is, as these nodes say; `None`: not there.
    pub(super) fn presence(&self, user: &UserId, without: Option<NodeId>) -> Option<Presence> {
        let others = self.nodes.iter().filter(|(node, _)| Some(**node) != without);
        others.filter_map(|(_, node)| node.users.get(user)).map(|known| known.presence).max()
    }

    /// The arrivals of a user's connections.
    pub(super) fn arrivals(&self, user: &UserId) -> impl Iterator<Item = (u64, NodeId)> {
        let there = self.nodes.iter().filter_map(move |(id, node)| Some((*id, node.users.get(user)?)));
        there.flat_map(|(id, known)| known.arrivals.iter().map(move |arrival| (*arrival, id)))
    }

    /// The last arrival of a connection that was heard of.
    pub(super) fn last_arrival(&self) -> u64 {
        self.last_arrival
    }

    /// Whether what a node says was heard from its beginning or, at some time, as a whole.
    pub(super) fn knows(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.upto > 0)
    }

    /// Nodes of which changes were missed: they must be asked.
    pub(super) fn incomplete(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().filter(|(_, node)| node.highest > node.upto).map(|(id, _)| *id)
    }

    /// Takes what a node says; returns what it changes.
    pub(super) fn hear(&mut self, hint: &PresenceHint, now: Instant) -> Result<Vec<Shift>, Beyond> {
        let mut shifts = Vec::new();
        match (&hint.said, self.nodes.get(&hint.node).map(|node| node.opening)) {
            // Who asks has told nothing yet, and who has gone was not known.
            (Said::Ask(_), _) | (Said::Closed, None) => return Ok(shifts),
            (_, None) if self.nodes.len() >= NODES => return Err(Beyond::Nodes),
            (_, Some(known)) if hint.opening < known => return Ok(shifts),
            (_, _) => {}
        }
        let node = self.nodes.entry(hint.node).or_insert_with(|| Node::new(hint.opening, now));
        if hint.opening > node.opening {
            node.clear(hint.node, &mut shifts);
            *node = Node::new(hint.opening, now);
        }
        node.heard = now;
        if hint.said == Said::Same {
            node.compare(hint.version);
        }
        node.highest = node.highest.max(hint.version);
        let arrivals = match &hint.said {
            Said::Changed(user) => user.arrivals.last().copied(),
            Said::All(page) => page.users.iter().filter_map(|user| user.arrivals.last().copied()).max(),
            Said::Same | Said::Closed | Said::Ask(_) => None,
        };
        self.last_arrival = self.last_arrival.max(arrivals.unwrap_or_default());
        let taken = match &hint.said {
            Said::Changed(user) => node.change(hint, user, &mut shifts),
            Said::All(page) => node.take_page(hint, page, &mut shifts),
            Said::Closed => {
                node.clear(hint.node, &mut shifts);
                // What it said before and comes late is void.
                node.upto = u64::MAX;
                Ok(())
            }
            Said::Same | Said::Ask(_) => Ok(()),
        };
        // What could be taken has changed something.
        if shifts.is_empty() { taken.map(|()| shifts) } else { Ok(shifts) }
    }

    /// Forgets one node that has said nothing for too long; returns what that changes.
    pub(super) fn forget_one(&mut self, now: Instant) -> Option<(NodeId, Vec<Shift>)> {
        let since = self.looked.replace(now).map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        if since > STOOD_STILL {
            // The time in which nothing could be heard counts as one look: on a node where every look is late, who is
            // silent is forgotten all the same.
            let stood = since.saturating_sub(LOOK);
            self.nodes.values_mut().for_each(|node| node.heard = now.min(node.heard + stood));
        }
        let silent = |node: &Node| now.saturating_duration_since(node.heard) >= FORGOTTEN_AFTER;
        let id = self.nodes.iter().find(|(_, node)| silent(node)).map(|(id, _)| *id)?;
        let mut shifts = Vec::new();
        self.nodes.remove(&id)?.clear(id, &mut shifts);
        Some((id, shifts))
    }

    #[cfg(test)]
    pub(super) fn users(&self) -> impl Iterator<Item = &UserId> {
        self.nodes.values().flat_map(|node| node.users.keys())
    }
}

impl Node {
    fn new(opening: u64, heard: Instant) -> Self {
        Self {
            heard,
            opening,
            upto: 0,
            highest: 0,
            early: BTreeSet::new(),
            users: BTreeMap::new(),
            gone: BTreeMap::new(),
            pages: Pages::default(),
            contradicted: 0,
        }
    }

    /// The node says that there are changes up to `version`. One renewal may be late, but not one after the other: then
    /// something was said in the node's name, and everything is to be told again. Until it is, users stay as they are.
    fn compare(&mut self, version: u64) {
        let is_less = version < self.highest.max(self.upto);
        self.contradicted = if is_less { self.contradicted + 1 } else { 0 };
        if self.contradicted < CONTRADICTIONS {
            return;
        }
        let mut users = std::mem::take(&mut self.users);
        users.values_mut().for_each(|known| known.version = 0);
        *self = Self { users, ..Self::new(self.opening, self.heard) };
    }

    fn clear(&mut self, id: NodeId, shifts: &mut Vec<Shift>) {
        for (user, known) in std::mem::take(&mut self.users) {
            shifts.push(Shift { node: id, user, before: Some(known.presence), after: None, member: None });
        }
        (self.pages, self.gone) = (Pages::default(), BTreeMap::new());
    }

    /// Takes the change of one user.
    fn change(
        &mut self,
        hint: &PresenceHint,
        user: &PresentUser,
        shifts: &mut Vec<Shift>,
    ) -> Result<(), Beyond> {
        if hint.version <= self.upto {
            return Ok(());
        }
        let taken = self.set(hint.node, hint.version, user, shifts);
        // What is not kept was heard all the same: to ask for it again and again would not help.
        if self.early.len() < EARLY {
            self.early.insert(hint.version);
        }
        self.advance(self.upto);
        taken
    }

    /// All changes up to `upto` are known.
    fn advance(&mut self, upto: u64) {
        self.upto = upto;
        while let Some(first) =
            self.early.first().copied().filter(|first| *first <= self.upto.saturating_add(1))
        {
            self.early.remove(&first);
            self.upto = self.upto.max(first);
        }
        let upto = self.upto;
        self.gone.retain(|_, version| *version > upto);
    }

    /// Sets how a user is there as of `version`, unless something newer is known.
    fn set(
        &mut self,
        id: NodeId,
        version: u64,
        user: &PresentUser,
        shifts: &mut Vec<Shift>,
    ) -> Result<(), Beyond> {
        let known = self.users.get(&user.user);
        let newest = known.map(|known| known.version).max(self.gone.get(&user.user).copied());
        if newest.is_some_and(|newest| newest >= version) {
            return Ok(());
        }
        let before = known.map(|known| known.presence);
        let is_here = !user.arrivals.is_empty();
        if is_here && known.is_none() && self.users.len() >= USERS {
            return Err(Beyond::Users);
        }
        let name = user.user.clone();
        if is_here {
            self.gone.remove(&name);
            let arrivals = Arc::clone(&user.arrivals);
            self.users.insert(name.clone(), Known { version, presence: user.presence, arrivals });
        } else {
            self.users.remove(&name);
            if self.gone.len() < EARLY {
                self.gone.insert(name.clone(), version);
            }
        }
        let (after, member) = (is_here.then_some(user.presence), user.member.clone());
        // One that has not come is of no interest to anybody; one more connection may be.
        if before.is_some() || after.is_some() {
            shifts.push(Shift { node: id, user: name, before, after, member });
        }
        Ok(())
    }

    /// Takes a page of everybody; with the last one that is missing what was not known is made good.
    fn take_page(
        &mut self,
        hint: &PresenceHint,
        page: &PresentPage,
        shifts: &mut Vec<Shift>,
    ) -> Result<(), Beyond> {
        let version = hint.version;
        // All of it is known, by changes or by an answer to somebody else.
        if version <= self.upto || version < self.pages.version {
            return Ok(());
        }
        if (version, page.pages) != (self.pages.version, self.pages.count) {
            self.pages = Pages { version, count: page.pages, come: BTreeMap::new() };
        }
        let kept: usize = self.pages.come.values().map(Vec::len).sum();
        if kept + page.users.len() > USERS {
            self.pages = Pages::default();
            self.advance(version);
            return Err(Beyond::Users);
        }
        self.pages.come.insert(page.page, page.users.clone());
        if u32::try_from(self.pages.come.len()).is_ok_and(|come| come < self.pages.count) {
            return Ok(());
        }
        let all: Vec<PresentUser> = std::mem::take(&mut self.pages.come).into_values().flatten().collect();
        let named: BTreeSet<&UserId> = all.iter().map(|user| &user.user).collect();
        let is_stale = |user: &UserId, known: &Known| known.version <= version && !named.contains(user);
        let stale: Vec<UserId> =
            self.users.iter().filter(|(user, known)| is_stale(user, known)).map(|(u, _)| u.clone()).collect();
        for user in stale {
            let before = self.users.remove(&user).map(|known| known.presence);
            shifts.push(Shift { node: hint.node, user, before, after: None, member: None });
        }
        let mut taken = Ok(());
        for user in &all {
            taken = self.set(hint.node, version, user, shifts).and(taken);
        }
        self.advance(version);
        taken
    }
}

#[cfg(test)]
mod tests;
