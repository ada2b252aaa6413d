//! Who may do what in a room: one table, and one place that asks it.
//!
//! [`action`] says which least role each action has, and between which bounds a room may set another one; [`commands`]
//! says which action each command needs. [`admit`] asks both before a command is decided; what depends on whose
//! message, poll or invitation it is, is looked at beside the rule it belongs to, by [`require`].
//!
//! Owns no state: the role and the mute of a member are the room's, and so is what it sets differently. Fails by a
//! rejection that names what was needed.

pub mod action;
pub mod commands;

use std::collections::BTreeMap;

pub use action::{Action, Least};
use commands::{By, Needs};

use crate::{
    clock::Timestamp,
    domain::{
        approval::Approval,
        command::{Actor, Command},
        rejection::{Code, Rejection},
        room::{Member, Role, Room, Visibility},
    },
    ids::UserId,
};

/// What a room sets differently from the table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides(BTreeMap<Action, Least>);

impl Overrides {
    /// The least role for an action in a room that is visible like this.
    pub fn least(&self, action: Action, visibility: Visibility) -> Least {
        self.0.get(&action).copied().unwrap_or_else(|| action.least(visibility))
    }

    /// What differs, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (Action, Least)> {
        self.0.iter().map(|(action, least)| (*action, *least))
    }

    /// Sets an action, or with `None` makes it as in the table again.
    pub fn set(&mut self, action: Action, least: Option<Least>) {
        match least {
            Some(least) => self.0.insert(action, least),
            None => self.0.remove(&action),
        };
    }

    /// Refuses what would take from ADMINs what moderating needs, or give it to those who only read.
    pub fn check(&self) -> Result<(), Rejection> {
        self.iter().try_for_each(|(action, least)| action.check_least(least))
    }
}

/// What of a member decides what they may do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The role.
    pub role: Role,
    /// Until then only reading is allowed.
    pub muted_until: Option<Timestamp>,
}

impl Standing {
    /// Whether this user, who stands like this, may do something that needs `least`; or why not.
    pub fn check(self, user: &UserId, action: Action, least: Least, at: Timestamp) -> Result<(), Rejection> {
        if !least.allows(self.role) {
            let (what, role) = (action.describe(), self.role);
            return Err(Rejection::denied(match least {
                Least::Role(least) => format!("{what} needs the role {least:?}, {user} is {role:?}"),
                Least::Nobody => format!("{what} is allowed to nobody in this room"),
            }));
        }
        match self.muted_until {
            Some(until) if until > at && action != Action::Read => {
                let left = until.since(at);
                let message =
                    format!("{user} is muted for another {} ms and can only read", left.as_millis());
                Err(Rejection { retry_after: Some(left), ..Rejection::denied(message) })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether an actor may come with this command at all; the finer rules of the command are asked after it.
pub fn admit(room: &Room, actor: &Actor, command: &Command, at: Timestamp) -> Result<(), Rejection> {
    let row = commands::row(command);
    match (row.needs, actor) {
        (Needs::Server, Actor::Server) | (Needs::Itself, Actor::User(_)) => Ok(()),
        (Needs::Server, _) => Err(Rejection::denied("only the server may do this")),
        (Needs::AnyOf(actions), Actor::User(user)) => require_any(room, user, actions, at),
        (Needs::AnyOf(actions), Actor::Tool { asked_by, .. }) if row.by == By::Voters => {
            require(room, asked_by, Action::RunTools, at)?;
            require_any(room, asked_by, actions, at)
        }
        // What they may do is the rule of the poll.
        (Needs::AnyOf(_), Actor::Llm(_) | Actor::Server) if row.by == By::Voters => Ok(()),
        (Needs::Itself | Needs::AnyOf(_), _) => Err(Rejection::denied("only people may do this")),
    }
}

fn require_any(room: &Room, user: &UserId, actions: &[Action], at: Timestamp) -> Result<(), Rejection> {
    let mut refused = None;
    for action in actions {
        match require(room, user, *action, at) {
            Ok(_) => return Ok(()),
            Err(rejection) => refused = refused.or(Some(rejection)),
        }
    }
    refused.map_or(Ok(()), Err)
}

/// The member who may do this now, or why not.
pub fn require<'a>(
    room: &'a Room,
    user: &UserId,
    action: Action,
    at: Timestamp,
) -> Result<&'a Member, Rejection> {
    let member = member(room, user)?;
    member.standing().check(user, action, room.profile.least(action), at)?;
    Ok(member)
}

/// Whether a member's role allows something, also while the member is muted.
pub fn require_role(room: &Room, user: &UserId, action: Action) -> Result<(), Rejection> {
    let standing = Standing { muted_until: None, ..member(room, user)?.standing() };
    standing.check(user, action, room.profile.least(action), Timestamp::default())
}

fn member<'a>(room: &'a Room, user: &UserId) -> Result<&'a Member, Rejection> {
    room.members
        .get(user)
        .ok_or_else(|| Rejection::new(Code::PermissionDenied, format!("{user} is not a member of this room")))
}

/// Refuses to let somebody act on a member of a higher role.
pub fn check_not_above(by: &Member, other: &Member) -> Result<(), Rejection> {
    if other.role <= by.role {
        return Ok(());
    }
    Err(Rejection::denied(format!("{} is {:?}, and you are {:?}", other.id, other.role, by.role)))
}

/// Whether this user may decide a call of a tool: an ADMIN, or a member on whose own behalf the LLM acts.
pub fn may_decide(room: &Room, approval: &Approval, user: &UserId, at: Timestamp) -> Result<(), Rejection> {
    let member = require(room, user, Action::DirectLlms, at)?;
    if member.role == Role::Admin || approval.asked_by.as_ref() == Some(user) {
        return Ok(());
    }
    Err(Rejection::denied("only an ADMIN, or whoever the LLM acts for, may decide this"))
}
