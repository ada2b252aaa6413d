//! The actions, the least role of each, and how far a room may set another.
//!
//! Pure data: `docs/permissions.md` is printed from it.

use crate::domain::{
    rejection::Rejection,
    room::{Role, Visibility},
};

/// Something a role allows or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Read, keep a read cursor, show presence, leave.
    Read,
    /// Send messages, type, signal.
    Post,
    /// Give reactions and take them back.
    React,
    /// Edit and delete one's own messages.
    ChangeOwn,
    /// Call LLMs by a mention.
    MentionLlms,
    /// Have LLMs use tools on one's behalf; to read the room by one takes [`Self::Read`] only.
    RunTools,
    /// Create polls, close one's own.
    CreatePolls,
    /// Vote, take a vote back.
    Vote,
    /// Interrupt and regenerate answers, start and control autopilots, decide calls of tools.
    DirectLlms,
    /// Add, change and remove LLMs.
    ManageLlms,
    /// Change the room's description.
    Describe,
    /// Make invitations, revoke one's own.
    Invite,
    /// Remove and mute members, revoke invitations.
    Kick,
    /// Ban users, and let them in again.
    Ban,
    /// Delete what others wrote.
    ModerateMessages,
    /// Change the text of what other people wrote.
    EditOthers,
    /// Close what others asked.
    ClosePolls,
    /// Change the roles of members.
    ChangeRoles,
    /// Change the room's name, visibility and settings.
    ChangeRoom,
    /// End the room.
    EndRoom,
}

/// What an action needs in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Least {
    /// This role, or a higher one.
    Role(Role),
    /// Not even an ADMIN.
    Nobody,
}

impl Least {
    /// Whether this role is enough.
    pub fn allows(self, role: Role) -> bool {
        match self {
            Self::Role(least) => role >= least,
            Self::Nobody => false,
        }
    }
}

impl Action {
    /// Every action, in the order of the table in the documentation.
    pub const ALL: [Self; 20] = [
        Self::Read,
        Self::Post,
        Self::React,
        Self::ChangeOwn,
        Self::MentionLlms,
        Self::RunTools,
        Self::CreatePolls,
        Self::Vote,
        Self::DirectLlms,
        Self::ManageLlms,
        Self::Describe,
        Self::Invite,
        Self::Kick,
        Self::Ban,
        Self::ModerateMessages,
        Self::EditOthers,
        Self::ClosePolls,
        Self::ChangeRoles,
        Self::ChangeRoom,
        Self::EndRoom,
    ];

    /// What it needs in a room that sets nothing else.
    pub fn least(self, visibility: Visibility) -> Least {
        match (self, visibility) {
            (Self::Read, _) => Least::Role(Role::Viewer),
            (
                Self::Post
                | Self::React
                | Self::ChangeOwn
                | Self::MentionLlms
                | Self::RunTools
                | Self::CreatePolls
                | Self::Vote
                | Self::DirectLlms
                | Self::ManageLlms
                | Self::Describe,
                _,
            )
            | (Self::Invite, Visibility::Public) => Least::Role(Role::Member),
            (
                Self::Kick
                | Self::Ban
                | Self::ModerateMessages
                | Self::ClosePolls
                | Self::ChangeRoles
                | Self::ChangeRoom
                | Self::EndRoom,
                _,
            )
            | (Self::Invite, Visibility::Private) => Least::Role(Role::Admin),
            // Nobody's words are changed by another, unless a room wants it.
            (Self::EditOthers, _) => Least::Nobody,
        }
    }

    /// The lowest role that a room may give it to; `None`: it is the same in all rooms.
    pub fn lowest(self) -> Option<Role> {
        match self {
            // Who may not read is no member.
            Self::Read => None,
            Self::Post
            | Self::React
            | Self::ChangeOwn
            | Self::MentionLlms
            | Self::RunTools
            | Self::CreatePolls
            | Self::Vote => Some(Role::Viewer),
            Self::DirectLlms
            | Self::ManageLlms
            | Self::Describe
            | Self::Invite
            | Self::Kick
            | Self::Ban
            | Self::ModerateMessages
            | Self::EditOthers
            | Self::ClosePolls
            | Self::ChangeRoles
            | Self::ChangeRoom
            | Self::EndRoom => Some(Role::Member),
        }
    }

    /// Whether a room may keep it from everybody: never what moderating needs.
    pub fn may_be_nobodys(self) -> bool {
        match self {
            Self::Post
            | Self::React
            | Self::ChangeOwn
            | Self::MentionLlms
            | Self::RunTools
            | Self::CreatePolls
            | Self::Vote
            | Self::DirectLlms
            | Self::ManageLlms
            | Self::Describe
            | Self::Invite
            | Self::EditOthers => true,
            Self::Read
            | Self::Kick
            | Self::Ban
            | Self::ModerateMessages
            | Self::ClosePolls
            | Self::ChangeRoles
            | Self::ChangeRoom
            | Self::EndRoom => false,
        }
    }

    /// Refuses a least role that this action may not have in any room.
    pub fn check_least(self, least: Least) -> Result<(), Rejection> {
        let what = self.describe();
        let field = "settings.permissions";
        match (self.lowest(), least) {
            (None, _) => {
                Err(Rejection::field(field, format_args!("must not change {what}: it is for every member")))
            }
            (Some(_), Least::Nobody) if !self.may_be_nobodys() => {
                Err(Rejection::field(field, format_args!("must leave {what} to ADMINs")))
            }
            (Some(lowest), Least::Role(role)) if role < lowest => {
                Err(Rejection::field(field, format_args!("must have at least {lowest:?} for {what}")))
            }
            (Some(_), _) => Ok(()),
        }
    }

    /// In words that fit before "needs the role".
    pub fn describe(self) -> &'static str {
        match self {
            Self::Read => "reading",
            Self::Post => "writing",
            Self::React => "reacting",
            Self::ChangeOwn => "changing one's own messages",
            Self::MentionLlms => "calling LLMs",
            Self::RunTools => "having LLMs use tools",
            Self::CreatePolls => "creating polls",
            Self::Vote => "voting",
            Self::DirectLlms => "directing LLMs",
            Self::ManageLlms => "adding and changing LLMs",
            Self::Describe => "changing the description",
            Self::Invite => "inviting",
            Self::Kick => "removing and muting members",
            Self::Ban => "banning",
            Self::ModerateMessages => "deleting the messages of others",
            Self::EditOthers => "editing the messages of others",
            Self::ClosePolls => "closing the polls of others",
            Self::ChangeRoles => "changing roles",
            Self::ChangeRoom => "changing the room",
            Self::EndRoom => "ending the room",
        }
    }
}
