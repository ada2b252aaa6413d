//! Who is in a room, on this node and on others: several connections may be one user.
//!
//! A user is there as long as there is one connection anywhere, and is shown as the best of them. Whatever others are
//! told is the change of that, so that one device more or less, on whatever node, is told to nobody.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;

use crate::{
    domain::{
        permissions::Standing,
        room::{Member, Presence},
    },
    ids::{ConnectionId, NodeId, UserId},
    registry::{
        others::{Beyond, Others, Shift},
        outbound::Outbound,
        pace::Pace,
    },
    wire::hint::presence::{CONNECTIONS, LAST_ARRIVAL, PresenceHint, PresentUser},
};

/// What of a user's presence others must be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceNews {
    /// Nothing has changed for others.
    None,
    /// The user is there now, or is gone.
    User,
    /// The user is shown differently.
    Shown(Presence),
}

/// A session as the registry sees it.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) connection: ConnectionId,
    pub(super) user: UserId,
    pub(super) outbound: Arc<Outbound>,
    /// What decides what the user may do now.
    pub(super) standing: Standing,
    /// How it is told of answers.
    pub(super) pace: Pace,
}

/// What an entry or an exit means for the user, not only for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The user was not there before, or is not there any more.
    User,
    /// Only one connection more or less; how the user is shown may have changed.
    Connection {
        /// Before.
        before: Presence,
        /// After.
        after: Presence,
    },
}

/// What was heard from another node of one user.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) user: UserId,
    pub(super) change: Change,
    /// As the user is shown now; `None`: gone.
    pub(super) shown: Option<Presence>,
    /// What others are told of who comes.
    pub(super) member: Option<Arc<Member>>,
}

/// Everybody in one room.
#[derive(Debug)]
pub(super) struct Present {
    node: NodeId,
    /// In the order of arrival: what delivery walks over.
    sessions: Vec<Session>,
    /// Everybody who is here or elsewhere.
    users: BTreeMap<UserId, Here>,
    others: Others,
    /// The arrival of the last connection here.
    last_arrival: u64,
}

/// A user on this node.
#[derive(Debug, Default)]
struct Here {
    /// Oldest first; none: the user is elsewhere.
    connections: Vec<Connection>,
    /// What other nodes are told of the user, if there are any.
    member: Option<Arc<Member>>,
}

#[derive(Debug, Clone, Copy)]
struct Connection {
    id: ConnectionId,
    presence: Presence,
    /// Orders it among all of the room, on whatever node.
    arrival: u64,
}

impl Default for Present {
    fn default() -> Self {
        Self {
            node: NodeId::NOBODY,
            sessions: Vec::new(),
            users: BTreeMap::new(),
            others: Others::default(),
            last_arrival: 0,
        }
    }
}

impl Present {
    /// Nobody, on this node among others.
    pub(super) fn on(node: NodeId) -> Self {
        Self { node, ..Self::default() }
    }

    pub(super) fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    pub(super) fn user_count(&self) -> usize {
        self.users.len()
    }

    pub(super) fn users(&self) -> impl Iterator<Item = (&UserId, Presence)> {
        self.users.keys().map(|user| (user, self.presence(user)))
    }

    /// How a user is shown.
    pub(super) fn presence(&self, user: &UserId) -> Presence {
        self.shown(user, None).unwrap_or_default()
    }

    /// How a user is shown, leaving out one node; `None`: not there.
    fn shown(&self, user: &UserId, without: Option<NodeId>) -> Option<Presence> {
        let here = self.users.get(user).and_then(Here::presence);
        here.max(self.others.presence(user, without))
    }

    /// The oldest sessions of a user on this node, as many as must go so that on all nodes `max` are left. All nodes
    /// agree on the order: each ends its own, and together they end as many as are too many. Those that were asked to
    /// end and have not ended yet are among them, so a burst of joins asks for one end each. `alone`: others do not
    /// count.
    pub(super) fn beyond(&self, user: &UserId, max: usize, alone: bool) -> impl Iterator<Item = &Outbound> {
        let here = self.users.get(user).map_or(&[][..], |here| here.connections.as_slice());
        let mut all: Vec<(u64, NodeId, Option<ConnectionId>)> =
            here.iter().map(|connection| (connection.arrival, self.node, Some(connection.id))).collect();
        if !alone {
            all.extend(self.others.arrivals(user).map(|(arrival, node)| (arrival, node, None)));
        }
        all.sort_unstable();
        all.truncate(all.len().saturating_sub(max));
        all.into_iter().filter_map(|(_, _, oldest)| {
            self.sessions.iter().find(|s| Some(s.connection) == oldest).map(|s| s.outbound.as_ref())
        })
    }

    pub(super) fn enter(&mut self, session: Session) -> Change {
        let (connection, user) = (session.connection, session.user.clone());
        self.sessions.push(session);
        let before = self.shown(&user, None);
        let arrival = self.next_arrival();
        let here = self.users.entry(user.clone()).or_default();
        here.connections.push(Connection { id: connection, presence: Presence::Online, arrival });
        Change::of(before, self.shown(&user, None))
    }

    fn next_arrival(&mut self) -> u64 {
        let last = self.last_arrival.max(self.others.last_arrival());
        self.last_arrival = (last + 1).min(LAST_ARRIVAL - 1);
        self.last_arrival
    }

    /// Keeps what other nodes are told of a user.
    pub(super) fn keep_member(&mut self, member: &Member) {
        if let Some(here) = self.users.get_mut(&member.id) {
            here.member = Some(Arc::new(member.clone()));
        }
    }

    /// A member has come back changed on another node; whether that changes what is told of one who is here.
    pub(super) fn learn(&mut self, member: &Arc<Member>) -> bool {
        let known = self.users.get_mut(&member.id).and_then(|here| here.member.as_mut());
        known.is_some_and(|known| std::mem::replace(known, Arc::clone(member)) != *member)
    }

    /// Sets what decides what a user may do.
    pub(super) fn set_standing(&mut self, user: &UserId, standing: Standing) {
        for session in self.sessions.iter_mut().filter(|s| &s.user == user) {
            session.standing = standing;
        }
        if let Some(member) = self.users.get_mut(user).and_then(|here| here.member.as_mut()) {
            let member = Arc::make_mut(member);
            (member.role, member.muted_until) = (standing.role, standing.muted_until);
        }
    }

    /// What decides what the user behind a connection may do.
    pub(super) fn standing(&self, connection: ConnectionId) -> Option<Standing> {
        self.sessions.iter().find(|s| s.connection == connection).map(|s| s.standing)
    }

    /// How a session is told of answers.
    pub(super) fn pace_of(&self, outbound: &Outbound) -> Option<Pace> {
        self.sessions.iter().find(|s| std::ptr::eq(s.outbound.as_ref(), outbound)).map(|s| s.pace)
    }

    /// Removes a connection; `None`: it was not there.
    pub(super) fn exit(&mut self, connection: ConnectionId) -> Option<(UserId, Pace, Change)> {
        let index = self.sessions.iter().position(|s| s.connection == connection)?;
        let Session { user, pace, .. } = self.sessions.remove(index);
        let before = self.shown(&user, None);
        let here = self.users.get_mut(&user)?;
        here.connections.retain(|known| known.id != connection);
        if here.connections.is_empty() {
            here.member = None;
        }
        let after = self.shown(&user, None);
        if after.is_none() {
            self.users.remove(&user);
        }
        Some((user, pace, Change::of(before, after)))
    }

    /// Sets how one connection is; returns the user's presence before and after.
    pub(super) fn set(
        &mut self,
        connection: ConnectionId,
        presence: Presence,
    ) -> Option<(UserId, Presence, Presence)> {
        let user = self.sessions.iter().find(|s| s.connection == connection)?.user.clone();
        let before = self.presence(&user);
        let connections = &mut self.users.get_mut(&user)?.connections;
        for known in connections.iter_mut().filter(|known| known.id == connection) {
            known.presence = presence;
        }
        let after = self.presence(&user);
        Some((user, before, after))
    }

    /// How a user is on this node, for other nodes; `shown`: with what they tell of who comes.
    pub(super) fn said_of(&self, user: &UserId, shown: bool) -> PresentUser {
        let here = self.users.get(user);
        let connections = here.map_or(&[][..], |here| here.connections.as_slice());
        let newest = connections.len().saturating_sub(CONNECTIONS);
        PresentUser {
            user: user.clone(),
            presence: here.and_then(Here::presence).unwrap_or_default(),
            arrivals: connections.iter().skip(newest).map(|connection| connection.arrival).collect(),
            member: here.and_then(|here| here.member.clone()).filter(|_| shown),
        }
    }

    /// Who is on this node.
    pub(super) fn here(&self) -> impl Iterator<Item = &UserId> {
        self.users.iter().filter(|(_, here)| !here.connections.is_empty()).map(|(user, _)| user)
    }

    /// Whether a node was heard before, and not only in part.
    pub(super) fn knows(&self, node: NodeId) -> bool {
        self.others.knows(node)
    }

    /// Takes what another node says.
    pub(super) fn hear(&mut self, hint: &PresenceHint, now: Instant) -> Result<Vec<Heard>, Beyond> {
        let shifts = self.others.hear(hint, now)?;
        Ok(self.shifted(shifts))
    }

    /// Forgets a node that has said nothing for too long.
    pub(super) fn forget_one(&mut self, now: Instant) -> Option<(NodeId, Vec<Heard>)> {
        let (node, shifts) = self.others.forget_one(now)?;
        Some((node, self.shifted(shifts)))
    }

    /// Nodes of which something was missed.
    pub(super) fn incomplete(&self) -> impl Iterator<Item = NodeId> {
        self.others.incomplete()
    }

    /// Lets the connections of a user on this node be those that came last; whether they were not before. The node
    /// did not know of the others when they came.
    pub(super) fn come_last(&mut self, user: &UserId) -> bool {
        let first = self.users.get(user).and_then(|here| here.connections.first()).map(|first| first.arrival);
        let newest = self.others.arrivals(user).map(|(arrival, _)| arrival).max();
        let (Some(first), Some(newest)) = (first, newest) else {
            return false;
        };
        if newest < first {
            return false;
        }
        let count = self.users.get(user).map_or(0, |here| here.connections.len());
        let arrivals: Vec<u64> = (0..count).map(|_| self.next_arrival()).collect();
        let connections = self.users.get_mut(user).map(|here| here.connections.iter_mut());
        for (connection, arrival) in connections.into_iter().flatten().zip(arrivals) {
            connection.arrival = arrival;
        }
        true
    }

    /// What the changes on one node mean for the users.
    fn shifted(&mut self, shifts: Vec<Shift>) -> Vec<Heard> {
        let mut heard = Vec::with_capacity(shifts.len());
        for Shift { node, user, before, after, member } in shifts {
            let rest = self.shown(&user, Some(node));
            let shown = rest.max(after);
            if shown.is_some() {
                self.users.entry(user.clone()).or_default();
            } else {
                self.users.remove(&user);
            }
            heard.push(Heard { user, change: Change::of(rest.max(before), shown), shown, member });
        }
        heard
    }

    /// Whether all views agree. For tests.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let mut by_session: Vec<_> = self.sessions.iter().map(|s| (s.user.clone(), s.connection)).collect();
        let all = self.users.iter();
        let mut by_user: Vec<_> =
            all.flat_map(|(user, here)| here.connections.iter().map(|c| (user.clone(), c.id))).collect();
        by_session.sort();
        by_user.sort();
        assert_eq!(by_session, by_user);
        assert!(self.users.keys().all(|user| self.shown(user, None).is_some()));
        assert!(self.others.users().all(|user| self.users.contains_key(user)));
        let in_order = |here: &Here| here.connections.is_sorted_by_key(|connection| connection.arrival);
        assert!(self.users.values().all(in_order));
    }
}

impl Here {
    /// The best over the connections; `None`: there are none.
    fn presence(&self) -> Option<Presence> {
        self.connections.iter().map(|connection| connection.presence).max()
    }
}

impl Change {
    fn of(before: Option<Presence>, after: Option<Presence>) -> Self {
        match (before, after) {
            (Some(before), Some(after)) => Self::Connection { before, after },
            // One that was not there and is not there changes nothing.
            (None, None) => Self::Connection { before: Presence::Offline, after: Presence::Offline },
            (None, Some(_)) | (Some(_), None) => Self::User,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::outbound::QueueLimits;

    const PACE: Pace = Pace { interval: std::time::Duration::ZERO, compact: false };

    fn session(connection: ConnectionId, user: &UserId) -> Session {
        let outbound = Outbound::new(QueueLimits { events: 4, bytes: 1024, replies: 4 });
        Session {
            connection,
            user: user.clone(),
            outbound: Arc::new(outbound),
            standing: Standing { role: crate::domain::room::Role::Member, muted_until: None },
            pace: PACE,
        }
    }

    #[test]
    fn a_user_is_there_from_the_first_connection_to_the_last() {
        let (ann, bob) = (UserId::parse("ann").unwrap(), UserId::parse("bob").unwrap());
        let (c1, c2, c3) = (ConnectionId::next(), ConnectionId::next(), ConnectionId::next());
        let mut present = Present::default();
        assert_eq!(present.enter(session(c1, &ann)), Change::User);
        let more = Change::Connection { before: Presence::Online, after: Presence::Online };
        assert_eq!(present.enter(session(c2, &ann)), more);
        assert_eq!(present.enter(session(c3, &bob)), Change::User);
        present.check_invariants();

        assert_eq!(present.set(c1, Presence::Away), Some((ann.clone(), Presence::Online, Presence::Online)));
        assert_eq!(present.set(c2, Presence::Away), Some((ann.clone(), Presence::Online, Presence::Away)));
        present.check_invariants();

        let less = Change::Connection { before: Presence::Away, after: Presence::Away };
        assert_eq!(present.exit(c1), Some((ann.clone(), PACE, less)));
        assert_eq!(present.exit(c1), None);
        assert_eq!(present.exit(c2), Some((ann, PACE, Change::User)));
        assert_eq!(present.exit(c3), Some((bob, PACE, Change::User)));
        present.check_invariants();
        assert_eq!(present.user_count(), 0);
    }
}
