//! What a credential lets its holder do, at most.
//!
//! Owns the words and how they narrow one another. Never gives a right by itself: what somebody may do in a room is
//! the room's own rule, and a grant only takes away from that. The one exception is [`Grants::role`], with which a
//! join may become more than a plain member. Pure: nothing here fails.

use crate::domain::{rejection::Rejection, room::Role};

/// What a credential lets its holder do, at most. The default takes nothing away and raises no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a word of its own in a token, and all combinations occur"
)]
pub struct Grants {
    /// The role a join may lead to; none: what the room gives to whoever comes.
    pub role: Option<Role>,
    /// Whether rooms may be joined and read. Without it nothing else matters.
    pub join: bool,
    /// Whether something may be said in them: messages, reactions, polls, questions to LLMs.
    pub write: bool,
    /// Whether the rights over others may be used that the holder's role has: to remove, to mute, to delete.
    pub moderate: bool,
    /// Whether the rights over the room itself may be used that the holder's role has: to change it, to end it.
    pub admin: bool,
    /// Which media may be sent. The server carries none: it tells the application.
    pub media: Media,
}

impl Default for Grants {
    fn default() -> Self {
        Self { role: None, join: true, write: true, moderate: true, admin: true, media: Media::ALL }
    }
}

impl Grants {
    /// Nothing at all.
    pub const NONE: Self =
        Self { role: None, join: false, write: false, moderate: false, admin: false, media: Media::NONE };

    /// Refuses what is not granted.
    pub fn require(self, need: Need) -> Result<(), Rejection> {
        let granted = match need {
            Need::Join => self.join,
            Need::Write => self.join && self.write,
            Need::Moderate => self.join && self.moderate,
            Need::Admin => self.join && self.admin,
        };
        match granted {
            true => Ok(()),
            false => Err(Rejection::denied(format!("your credential does not grant `{}`", need.describe()))),
        }
    }

    /// What both allow. Whoever makes a credential for somebody else gives away no more than they have. No role
    /// means no raise, so that it is less than any role.
    #[must_use]
    pub fn narrowed_by(self, other: Self) -> Self {
        Self {
            role: self.role.zip(other.role).map(|(one, two)| one.min(two)),
            join: self.join && other.join,
            write: self.write && other.write,
            moderate: self.moderate && other.moderate,
            admin: self.admin && other.admin,
            media: self.media.narrowed_by(other.media),
        }
    }
}

/// Which part of a credential something needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// To be in a room and read it.
    Join,
    /// To say something in it.
    Write,
    /// To use rights over others.
    Moderate,
    /// To use rights over the room.
    Admin,
}

impl Need {
    fn describe(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Write => "write",
            Self::Moderate => "moderate",
            Self::Admin => "admin",
        }
    }
}

/// Which media may be sent. The default is all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Media {
    /// The camera.
    pub video: bool,
    /// The microphone.
    pub audio: bool,
    /// The screen.
    pub screen_share: bool,
}

impl Default for Media {
    fn default() -> Self {
        Self::ALL
    }
}

impl Media {
    /// Every kind.
    pub const ALL: Self = Self { video: true, audio: true, screen_share: true };
    /// No kind.
    pub const NONE: Self = Self { video: false, audio: false, screen_share: false };

    /// The kinds that both allow.
    #[must_use]
    pub fn narrowed_by(self, other: Self) -> Self {
        Self {
            video: self.video && other.video,
            audio: self.audio && other.audio,
            screen_share: self.screen_share && other.screen_share,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_takes_nothing_away_and_raises_no_role() {
        let all = Grants::default();
        assert_eq!(all.role, None);
        assert!(all.join && all.write && all.moderate && all.admin);
        assert_eq!(all.media, Media::ALL);
        assert_eq!(Media::default(), Media::ALL);
    }

    #[test]
    fn narrowing_never_adds() {
        let reader =
            Grants { write: false, media: Media { video: false, ..Media::ALL }, ..Grants::default() };
        assert_eq!(reader.narrowed_by(Grants::default()), reader);
        assert_eq!(Grants::default().narrowed_by(reader), reader);
        assert_eq!(Grants::default().narrowed_by(Grants::NONE), Grants::NONE);
    }

    #[test]
    fn a_role_is_given_on_only_by_whoever_has_as_much() {
        let with = |role| Grants { role, ..Grants::default() };
        for (wanted, own, given) in [
            (Some(Role::Admin), None, None),
            (None, Some(Role::Admin), None),
            (Some(Role::Admin), Some(Role::Member), Some(Role::Member)),
            (Some(Role::Viewer), Some(Role::Admin), Some(Role::Viewer)),
        ] {
            assert_eq!(with(wanted).narrowed_by(with(own)).role, given);
        }
    }
}
