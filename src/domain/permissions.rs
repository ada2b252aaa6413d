//! What each role may do. One table; every door asks it.

use crate::{
    domain::{
        approval::Approval,
        rejection::{Code, Rejection},
        room::{Member, Role, Room},
    },
    ids::UserId,
};

/// Something a role allows or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read, keep a read cursor, show presence.
    Read,
    /// Send messages, edit and delete one's own, react, type, signal.
    Write,
    /// Create polls, vote, close one's own.
    Poll,
    /// Add, change and remove LLMs; interrupt their answers.
    DirectLlms,
    /// Change the room's description.
    Describe,
    /// Change the room's name and visibility.
    ChangeRoom,
    /// Change, remove and ban members; delete what others wrote; close what others asked.
    Moderate,
    /// End the room.
    EndRoom,
}

impl Action {
    /// Every action, in the order of the table in the documentation.
    pub const ALL: [Self; 8] = [
        Self::Read,
        Self::Write,
        Self::Poll,
        Self::DirectLlms,
        Self::Describe,
        Self::ChangeRoom,
        Self::Moderate,
        Self::EndRoom,
    ];

    /// The least role that may do it.
    pub fn least_role(self) -> Role {
        match self {
            Self::Read => Role::Viewer,
            Self::Write | Self::Poll | Self::DirectLlms | Self::Describe => Role::Member,
            Self::ChangeRoom | Self::Moderate | Self::EndRoom => Role::Admin,
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Self::Read => "reading",
            Self::Write => "writing",
            Self::Poll => "taking part in polls",
            Self::DirectLlms => "directing LLMs",
            Self::Describe => "changing the description",
            Self::ChangeRoom => "changing the room",
            Self::Moderate => "moderating",
            Self::EndRoom => "ending the room",
        }
    }
}

/// Whether a role may do something.
pub fn allows(role: Role, action: Action) -> bool {
    role >= action.least_role()
}

/// The member who may do this, or why not.
pub fn require<'a>(room: &'a Room, user: &UserId, action: Action) -> Result<&'a Member, Rejection> {
    let Some(member) = room.members.get(user) else {
        return Err(Rejection::new(Code::PermissionDenied, format!("{user} is not a member of this room")));
    };
    if allows(member.role, action) {
        return Ok(member);
    }
    Err(Rejection::denied(format!(
        "{} needs the role {:?}, {user} is {:?}",
        action.describe(),
        action.least_role(),
        member.role
    )))
}

/// Whether this user may decide a call of a tool: an ADMIN, or a member on whose own behalf the LLM acts.
pub fn may_decide(room: &Room, approval: &Approval, user: &UserId) -> Result<(), Rejection> {
    let member = require(room, user, Action::DirectLlms)?;
    if member.role == Role::Admin || approval.asked_by.as_ref() == Some(user) {
        return Ok(());
    }
    Err(Rejection::denied("only an ADMIN, or whoever the LLM acts for, may decide this"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cell_of_the_table() {
        let table = Action::ALL
            .map(|action| [Role::Viewer, Role::Member, Role::Admin].map(|role| allows(role, action)));
        assert_eq!(
            table,
            [
                [true, true, true],   // read
                [false, true, true],  // write
                [false, true, true],  // poll
                [false, true, true],  // direct LLMs
                [false, true, true],  // describe
                [false, false, true], // change the room
                [false, false, true], // moderate
                [false, false, true], // end
            ]
        );
    }
}
