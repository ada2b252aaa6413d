//! Who is in a room on this node: several connections may be one user.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    domain::room::{Presence, Role},
    ids::{ConnectionId, UserId},
    registry::{outbound::Outbound, pace::Pace},
};

/// A session as the registry sees it.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) connection: ConnectionId,
    pub(super) user: UserId,
    pub(super) outbound: Arc<Outbound>,
    /// What the user may do now.
    pub(super) role: Role,
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

/// Everybody in one room.
#[derive(Debug, Default)]
pub(super) struct Present {
    /// In the order of arrival: what delivery walks over.
    sessions: Vec<Session>,
    /// The connections of each user, oldest first; never empty.
    users: BTreeMap<UserId, Vec<(ConnectionId, Presence)>>,
}

impl Present {
    pub(super) fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    pub(super) fn user_count(&self) -> usize {
        self.users.len()
    }

    pub(super) fn users(&self) -> impl Iterator<Item = (&UserId, Presence)> {
        self.users.iter().map(|(user, connections)| (user, best(connections)))
    }

    /// How a user is shown.
    pub(super) fn presence(&self, user: &UserId) -> Presence {
        self.users.get(user).map(|connections| best(connections)).unwrap_or_default()
    }

    /// The oldest sessions of a user, as many as must go so that with one more there are `max`. Those that were
    /// asked to end and have not ended yet are among them, so a burst of joins asks for one end each.
    pub(super) fn oldest_beyond(&self, user: &UserId, max: usize) -> impl Iterator<Item = &Outbound> {
        let connections = self.users.get(user).map_or(&[][..], Vec::as_slice);
        let beyond = (connections.len() + 1).saturating_sub(max);
        connections.iter().take(beyond).filter_map(|(oldest, _)| {
            self.sessions.iter().find(|s| &s.connection == oldest).map(|s| s.outbound.as_ref())
        })
    }

    pub(super) fn enter(&mut self, session: Session) -> Change {
        let connection = session.connection;
        let connections = self.users.entry(session.user.clone()).or_default();
        self.sessions.push(session);
        let before = best(connections);
        connections.push((connection, Presence::Online));
        match connections.len() {
            1 => Change::User,
            _ => Change::Connection { before, after: best(connections) },
        }
    }

    /// Sets what a user may do.
    pub(super) fn set_role(&mut self, user: &UserId, role: Role) {
        for session in self.sessions.iter_mut().filter(|s| &s.user == user) {
            session.role = role;
        }
    }

    /// What the user behind a connection may do.
    pub(super) fn role(&self, connection: ConnectionId) -> Option<Role> {
        self.sessions.iter().find(|s| s.connection == connection).map(|s| s.role)
    }

    /// How a session is told of answers.
    pub(super) fn pace_of(&self, outbound: &Outbound) -> Option<Pace> {
        self.sessions.iter().find(|s| std::ptr::eq(s.outbound.as_ref(), outbound)).map(|s| s.pace)
    }

    /// Removes a connection; `None`: it was not there.
    pub(super) fn exit(&mut self, connection: ConnectionId) -> Option<(UserId, Pace, Change)> {
        let index = self.sessions.iter().position(|s| s.connection == connection)?;
        let Session { user, pace, .. } = self.sessions.remove(index);
        let connections = self.users.get_mut(&user)?;
        let before = best(connections);
        connections.retain(|(id, _)| *id != connection);
        let after = best(connections);
        if connections.is_empty() {
            self.users.remove(&user);
            return Some((user, pace, Change::User));
        }
        Some((user, pace, Change::Connection { before, after }))
    }

    /// Sets how one connection is; returns the user's presence before and after.
    pub(super) fn set(
        &mut self,
        connection: ConnectionId,
        presence: Presence,
    ) -> Option<(UserId, Presence, Presence)> {
        let user = self.sessions.iter().find(|s| s.connection == connection)?.user.clone();
        let connections = self.users.get_mut(&user)?;
        let before = best(connections);
        for (_, shown) in connections.iter_mut().filter(|(id, _)| *id == connection) {
            *shown = presence;
        }
        let after = best(connections);
        Some((user, before, after))
    }

    /// Whether both views agree. For tests.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let mut by_session: Vec<_> = self.sessions.iter().map(|s| (s.user.clone(), s.connection)).collect();
        let mut by_user: Vec<_> =
            self.users.iter().flat_map(|(user, all)| all.iter().map(|(id, _)| (user.clone(), *id))).collect();
        by_session.sort();
        by_user.sort();
        assert_eq!(by_session, by_user);
        assert!(self.users.values().all(|connections| !connections.is_empty()));
    }
}

fn best(connections: &[(ConnectionId, Presence)]) -> Presence {
    connections.iter().map(|(_, presence)| *presence).max().unwrap_or_default()
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
            role: Role::Member,
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
