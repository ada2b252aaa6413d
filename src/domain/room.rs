//! A room: the fold of its log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    clock::Timestamp,
    domain::{
        approval::Approval,
        autopilot::{Autopilot, Status as AutopilotStatus},
        chain::Link,
        invitation::Invitation,
        limits::{Limits, RECENT_MESSAGES},
        llm::{LlmConfig, Run},
        message::{Author, Message},
        permissions::{Action, Least, Standing},
        poll::Poll,
        settings::{JoinRule, Settings},
        summary::{ChangedMessage, Summary},
    },
    ids::{ApprovalId, InvitationId, LlmId, MessageId, PollId, RoomId, Seq, UserId},
};

/// What a member may do; see [`crate::domain::permissions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads and writes.
    Member,
    /// Also changes members and the room.
    Admin,
}

/// Whether a user is shown as present: the best over all of the user's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Presence {
    /// No connection, or only connections that say so.
    #[default]
    Offline,
    /// Connected, not looking.
    Away,
    /// Connected.
    Online,
}

/// To whom a room is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// Everybody.
    Public,
    /// Its creator and its members.
    Private,
}

/// Where a room is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Nobody has joined yet.
    Waiting,
    /// In use.
    Active,
    /// Over since then: it can only be read.
    Ended(Timestamp),
}

/// A lasting human member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub id: UserId,
    /// The name others see.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// A few words under the name.
    pub title: String,
    /// An emoji or a URL.
    pub avatar: String,
    /// When they first joined.
    pub joined_at: Timestamp,
    /// Until then they can only read; it may have passed.
    pub muted_until: Option<Timestamp>,
}

impl Member {
    /// What decides what they may do.
    pub fn standing(&self) -> Standing {
        Standing { role: self.role, muted_until: self.muted_until }
    }
}

/// What is shown of a room in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// 1-200 characters.
    pub name: String,
    /// At most 2000 characters.
    pub description: String,
    /// To whom it is listed.
    pub visibility: Visibility,
    /// How its LLMs behave, and who may do what.
    pub settings: Settings,
}

impl Profile {
    /// What an action needs in this room.
    pub fn least(&self, action: Action) -> Least {
        self.settings.permissions.least(action, self.visibility)
    }
}

/// A room at one position of its log.
///
/// Bounded but for members, those who have been, and the ballots of open polls: messages and closed polls that have left
/// [`Room::recent`] are read from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// Its name for programs.
    pub id: RoomId,
    /// Its name for people, description, visibility.
    pub profile: Profile,
    /// Where it is in its life.
    pub status: Status,
    /// When it was created.
    pub created_at: Timestamp,
    /// Who becomes ADMIN on joining; `None`: whoever joins first.
    pub created_by: Option<UserId>,
    /// Lasting members.
    pub members: BTreeMap<UserId, Member>,
    /// Who may not join.
    pub banned: BTreeSet<UserId>,
    /// The role with which somebody who has gone may come back, where it is not [`Room::fresh_role`]: nobody gets a
    /// better role by leaving and joining again.
    pub former_roles: BTreeMap<UserId, Role>,
    /// Until when those are muted who have gone: nobody is heard again by leaving and joining.
    pub former_mutes: BTreeMap<UserId, Timestamp>,
    /// When those have posted last who may not again for a while; empty without [`Settings::slow_mode`].
    pub last_posts: BTreeMap<UserId, Timestamp>,
    /// What has been neither used nor revoked; some may have expired.
    pub invitations: BTreeMap<InvitationId, Invitation>,
    /// In the order they were added.
    pub llms: Vec<LlmConfig>,
    /// Open polls, and closed ones that a message in `recent` announces.
    pub polls: BTreeMap<PollId, Poll>,
    /// The last messages, oldest first.
    pub recent: VecDeque<Message>,
    /// Answers that have begun and not ended.
    pub runs: BTreeMap<MessageId, Run>,
    /// Calls of tools that wait for a decision; each belongs to one of `runs`.
    pub approvals: BTreeMap<ApprovalId, Approval>,
    /// What is known of messages that are too old to be given to an LLM.
    pub summary: Option<Summary>,
    /// Some of the summaries before it, each of fewer messages than the next: what the room goes back to when a
    /// message changes that newer ones stand for.
    pub earlier_summaries: Vec<Summary>,
    /// The last messages that have changed, in the order of the changes: what is made of them is stale.
    pub changed: VecDeque<ChangedMessage>,
    /// The last autopilot, also when it is over.
    pub autopilot: Option<Autopilot>,
    /// The position this state speaks for.
    pub seq: Seq,
    /// The last event that can change a decision.
    pub fence: Seq,
    /// What the log up to here comes to, where that is kept: moved on by whoever has the stored bytes, no rule asks it.
    pub chain: Option<Link>,
}

impl Room {
    /// Whether nothing can be written any more.
    pub fn has_ended(&self) -> bool {
        matches!(self.status, Status::Ended(_))
    }

    /// The LLM with this id.
    pub fn llm(&self, id: &LlmId) -> Option<&LlmConfig> {
        self.llms.iter().find(|llm| &llm.id == id)
    }

    /// One of the last messages.
    pub fn recent_message(&self, id: MessageId) -> Option<&Message> {
        // Backwards: what is asked for is nearly always among the newest.
        self.recent.iter().rev().find(|m| m.id == id)
    }

    /// The name others see of a member or an LLM.
    pub fn name_of<'a>(&'a self, author: &'a Author) -> &'a str {
        let name = match author {
            Author::User(id) => self.members.get(id).map(|m| m.name.as_str()),
            Author::Llm(id) => self.llm(id).map(|l| l.display_name.as_str()),
        };
        name.unwrap_or(author.as_str())
    }

    /// The most a user who has never been here may become: ADMIN is the creator, or in a room without one whoever
    /// comes first.
    pub fn fresh_role(&self, user: &UserId) -> Role {
        let founder = match &self.created_by {
            Some(creator) => creator == user,
            None => self.status == Status::Waiting,
        };
        if founder { Role::Admin } else { Role::Member }
    }

    /// Whether it is among the rooms of a user whom a store calls its creator or a member; none: among the public ones. A
    /// private one that takes an invitation is its creator's until somebody has come in, and from then on its members'.
    pub fn is_listed_to(&self, user: Option<&UserId>, limits: &Limits) -> bool {
        let may_come = || self.status == Status::Waiting || self.join_rule(limits) == JoinRule::Open;
        let is_theirs =
            |user: &UserId| self.members.contains_key(user) || (!self.banned.contains(user) && may_come());
        self.profile.visibility == Visibility::Public || user.is_some_and(is_theirs)
    }

    /// Who may become a member.
    pub fn join_rule(&self, limits: &Limits) -> JoinRule {
        let usual = match self.profile.visibility {
            Visibility::Private if limits.private_by_invitation => JoinRule::Invited,
            Visibility::Private | Visibility::Public => JoinRule::Open,
        };
        self.profile.settings.join_rule.unwrap_or(usual)
    }

    /// The last summary of what was said up to here.
    pub fn summary_before(&self, until: Seq) -> Option<&Summary> {
        self.earlier_summaries.iter().chain(&self.summary).rfind(|summary| summary.up_to <= until)
    }

    /// The autopilot that is not over.
    pub fn open_autopilot(&self) -> Option<&Autopilot> {
        self.autopilot.as_ref().filter(|autopilot| autopilot.status != AutopilotStatus::Ended)
    }

    /// How many polls take votes.
    pub fn open_polls(&self) -> impl Iterator<Item = &Poll> {
        self.polls.values().filter(|p| p.is_open())
    }

    /// Adds a message and forgets the oldest beyond the limit, with the closed poll it announced.
    pub(super) fn push_recent(&mut self, message: Message) {
        self.recent.push_back(message);
        while self.recent.len() > RECENT_MESSAGES {
            if let Some(poll_id) = self.recent.pop_front().and_then(|m| m.poll_id)
                && self.polls.get(&poll_id).is_some_and(|p| !p.is_open())
            {
                self.polls.remove(&poll_id);
            }
        }
    }

    /// Changes one of the last messages, if it is still among them.
    pub(super) fn change_recent(&mut self, id: MessageId, change: impl FnOnce(&mut Message)) {
        if let Some(message) = self.recent.iter_mut().rev().find(|m| m.id == id) {
            change(message);
        }
    }

    /// The first rule of a room that this state breaks, if any. For tests.
    pub fn broken_invariant(&self) -> Option<String> {
        if self.fence > self.seq {
            return Some(format!("fence {} is beyond seq {}", self.fence, self.seq));
        }
        if self.recent.len() > RECENT_MESSAGES {
            return Some(format!("{} recent messages", self.recent.len()));
        }
        let ordered = self.recent.iter().zip(self.recent.iter().skip(1)).all(|(a, b)| a.seq < b.seq);
        if !ordered {
            return Some("recent messages are out of order".into());
        }
        for poll in self.polls.values() {
            if let Some(broken) = broken_poll(poll) {
                return Some(broken);
            }
        }
        let mut names: Vec<String> = self.llms.iter().map(|l| l.display_name.to_lowercase()).collect();
        names.sort();
        names.dedup();
        if names.len() != self.llms.len() {
            return Some("two LLMs share a name".into());
        }
        if let Some(user) = self.banned.iter().find(|u| self.members.contains_key(*u)) {
            return Some(format!("{user} is banned and a member"));
        }
        if let Some(approval) = self.approvals.values().find(|a| !self.runs.contains_key(&a.message_id)) {
            return Some(format!("{:?} belongs to no running answer", approval.id));
        }
        let summaries = || self.earlier_summaries.iter().chain(&self.summary);
        if !summaries().zip(summaries().skip(1)).all(|(a, b)| a.up_to < b.up_to) {
            return Some("summaries are out of order".into());
        }
        if self.summary.is_none() && !self.earlier_summaries.is_empty() {
            return Some("an earlier summary is not told".into());
        }
        if self.runs.values().filter(|run| run.turn.is_some()).count() > 1 {
            return Some("two turns of an autopilot are taken at once".into());
        }
        let former = self.former_roles.keys().chain(self.former_mutes.keys());
        if let Some(user) = former.into_iter().find(|u| self.members.contains_key(*u)) {
            return Some(format!("{user} is a former member and a member"));
        }
        if let Some(muted) = self.members.values().find(|m| m.role == Role::Admin && m.muted_until.is_some())
        {
            return Some(format!("{} is muted and ADMIN", muted.id));
        }
        if !self.last_posts.is_empty() && self.profile.settings.slow_mode.is_zero() {
            return Some("last posts are kept without a slow mode".into());
        }
        let stray = |i: &&Invitation| !self.members.contains_key(&i.created_by) || i.id != i.hash.id();
        if let Some(invitation) = self.invitations.values().find(stray) {
            return Some(format!("the invitation {} is nobody's", invitation.id));
        }
        if let Err(rejection) = self.profile.settings.permissions.check() {
            return Some(rejection.message);
        }
        None
    }
}

fn broken_poll(poll: &Poll) -> Option<String> {
    for (voter, ballot) in &poll.ballots {
        if ballot.options.is_empty() {
            return Some(format!("{voter:?} has an empty ballot"));
        }
        if ballot.options.len() > 1 && !poll.allow_multiple {
            return Some(format!("{voter:?} has two votes in a single-choice poll"));
        }
        if ballot.options.iter().any(|o| poll.option(o).is_none()) {
            return Some(format!("{voter:?} voted for an option that does not exist"));
        }
    }
    None
}
