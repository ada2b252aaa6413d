//! What a node tells others of who is in a room there, and how it travels.
//!
//! It is numbered by the node that tells it, so that it may be lost, repeated and reordered. Reading it bounds
//! everything: a node that sends more than any node does is refused, not believed.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::error::{
    HintError::{self, Malformed},
    id,
};
use crate::{
    domain::{
        limits::{AVATAR_CHARS, DISPLAY_NAME_CHARS, TITLE_CHARS},
        room::{Member, Presence},
    },
    ids::{NodeId, UserId},
    wire::{
        model::{member_from_pb, member_to_pb, presence_to_pb},
        pb::{
            room::v1 as room,
            salon::bus::v1::{self as pb, presence::Said as SaidPb},
        },
    },
};

/// Users on one page: with names, titles and avatars of common length some 30 KiB.
pub const PAGE_USERS: usize = 512;
/// About how many bytes a page has at most: far below what any bus takes.
pub const PAGE_BYTES: usize = 48 * 1024;
/// Pages of everybody on one node.
pub const PAGES: u32 = 4096;
/// Connections of one user on one node that are told of, the newest: twice what may be configured, since those that
/// must end are there for a moment longer.
pub const CONNECTIONS: usize = 2000;
/// The largest number that orders connections. Nobody joins so often.
pub const LAST_ARRIVAL: u64 = 1 << 53;

/// What one node says of who is in a room there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceHint {
    /// Which node.
    pub node: NodeId,
    /// Grows whenever the node takes up the room: what it said before is void.
    pub opening: u64,
    /// How many changes there have been since, with the one that is told.
    pub version: u64,
    /// What is said.
    pub said: Said,
}

/// See [`PresenceHint`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The change with the number `version`.
    Changed(PresentUser),
    /// Everybody as of `version`, or a part.
    All(PresentPage),
    /// Nothing has changed since `version`.
    Same,
    /// The node has left the room.
    Closed,
    /// Everybody is wanted: of this node, or of all.
    Ask(Option<NodeId>),
}

/// A part of everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentPage {
    /// Which, from 0 on.
    pub page: u32,
    /// How many there are.
    pub pages: u32,
    /// Who.
    pub users: Vec<PresentUser>,
}

/// A user on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentUser {
    /// Who.
    pub user: UserId,
    /// The best over the connections there.
    pub presence: Presence,
    /// When each connection came, in order; none: the user is not there any more.
    pub arrivals: Arc<[u64]>,
    /// What others are told of who comes, if they are told one by one.
    pub member: Option<Arc<Member>>,
}

impl PresentUser {
    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        let member = self.member.as_ref().map_or(0, |m| m.name.len() + m.title.len() + m.avatar.len() + 32);
        self.user.as_str().len() + member + 4 * self.arrivals.len() + 16
    }
}

impl PresenceHint {
    /// About how many bytes it takes.
    pub fn size(&self) -> usize {
        let said = match &self.said {
            Said::Changed(user) => user.size(),
            Said::All(page) => page.users.iter().map(PresentUser::size).sum(),
            Said::Same | Said::Closed | Said::Ask(_) => 0,
        };
        said + 48
    }
}

pub(super) fn to_pb(hint: &PresenceHint) -> pb::Presence {
    let said = match &hint.said {
        Said::Changed(user) => SaidPb::Changed(user_to_pb(user)),
        Said::All(PresentPage { page, pages, users }) => SaidPb::All(pb::PresentPage {
            page: *page,
            pages: *pages,
            users: users.iter().map(user_to_pb).collect(),
        }),
        Said::Same => SaidPb::Same(true),
        Said::Closed => SaidPb::Closed(true),
        Said::Ask(of) => SaidPb::Ask(of.map(node_to_pb).unwrap_or_default()),
    };
    pb::Presence {
        node_id: node_to_pb(hint.node),
        opening: hint.opening,
        version: hint.version,
        said: Some(said),
    }
}

pub(super) fn from_pb(hint: pb::Presence) -> Result<PresenceHint, HintError> {
    // Behind the largest there would be nothing: a node could never be told of again.
    if hint.opening >= LAST_ARRIVAL || hint.version >= LAST_ARRIVAL {
        return Err(Malformed("the number of a change of presence"));
    }
    let said = match hint.said.ok_or(Malformed("it says nothing of presence"))? {
        SaidPb::Changed(_) if hint.version == 0 => return Err(Malformed("a change without a number")),
        SaidPb::Changed(user) => Said::Changed(user_from_pb(user)?),
        SaidPb::All(page) => Said::All(page_from_pb(page)?),
        SaidPb::Same(_) => Said::Same,
        SaidPb::Closed(_) => Said::Closed,
        SaidPb::Ask(of) if of.is_empty() => Said::Ask(None),
        SaidPb::Ask(of) => Said::Ask(Some(node_from_pb(&of)?)),
    };
    let node = node_from_pb(&hint.node_id)?;
    Ok(PresenceHint { node, opening: hint.opening, version: hint.version, said })
}

fn page_from_pb(page: pb::PresentPage) -> Result<PresentPage, HintError> {
    let pb::PresentPage { page, pages, users } = page;
    if pages == 0 || pages > PAGES || page >= pages || users.len() > PAGE_USERS {
        return Err(Malformed("a page of presence"));
    }
    let users = users.into_iter().map(user_from_pb).collect::<Result<Vec<_>, _>>()?;
    if users.iter().any(|user| user.arrivals.is_empty()) {
        return Err(Malformed("somebody is present without a connection"));
    }
    Ok(PresentPage { page, pages, users })
}

fn user_to_pb(user: &PresentUser) -> pb::PresentUser {
    let member = user.member.as_ref().map(|member| {
        // What follows from the rest is not said twice.
        room::Participant { id: String::new(), ..member_to_pb(member, Presence::Offline) }
    });
    pb::PresentUser {
        user_id: user.user.to_string(),
        presence: presence_to_pb(user.presence),
        connections: user.arrivals.to_vec(),
        member,
    }
}

fn user_from_pb(user: pb::PresentUser) -> Result<PresentUser, HintError> {
    let pb::PresentUser { user_id, presence, connections, member } = user;
    // Two may be equal when the numbers have come to their end; then the node and the connection decide.
    let in_order = connections.first().is_none_or(|first| *first > 0)
        && connections.last().is_none_or(|last| *last < LAST_ARRIVAL)
        && connections.is_sorted();
    if !in_order || connections.len() > CONNECTIONS {
        return Err(Malformed("the connections of a user"));
    }
    let presence = match room::PresenceStatus::try_from(presence) {
        Ok(room::PresenceStatus::Online) => Presence::Online,
        Ok(room::PresenceStatus::Away) => Presence::Away,
        Ok(room::PresenceStatus::Offline) => Presence::Offline,
        Ok(room::PresenceStatus::Unspecified) | Err(_) => return Err(Malformed("a presence")),
    };
    let member = member.map(|member| member_of(&user_id, member)).transpose()?;
    Ok(PresentUser { user: id(&user_id)?, presence, arrivals: connections.into(), member })
}

fn member_of(user_id: &str, member: room::Participant) -> Result<Arc<Member>, HintError> {
    let member = member_from_pb(room::Participant { id: user_id.to_owned(), ..member })
        .map_err(|_| Malformed("a member"))?;
    let too_long = |text: &str, max| text.chars().count() > max;
    // Who gives no name is called by their id.
    if too_long(&member.name, DISPLAY_NAME_CHARS.max(UserId::MAX_CHARS))
        || too_long(&member.title, TITLE_CHARS)
        || too_long(&member.avatar, AVATAR_CHARS)
        || member.name.chars().any(crate::ids::is_disturbing)
    {
        return Err(Malformed("what is shown of a member"));
    }
    Ok(Arc::new(member))
}

fn node_to_pb(node: NodeId) -> Bytes {
    Bytes::copy_from_slice(node.0.as_bytes())
}

fn node_from_pb(bytes: &[u8]) -> Result<NodeId, HintError> {
    Uuid::from_slice(bytes).map(NodeId).map_err(|_| Malformed("the id of a node"))
}
