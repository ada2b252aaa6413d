//! What a room must be, kept as full lists and counted again each time.

use std::collections::BTreeMap;

use salon::{
    domain::{
        event::{Event, MemberChange, Recorded},
        limits::RECENT_MESSAGES,
        message::{Author, Message, Reaction},
        poll::Poll,
        room::{Member, Role, Room},
    },
    ids::{LlmId, MessageId, OptionId, PollId, UserId},
};

/// Every message, poll and answer there has been.
#[derive(Debug, Default)]
pub struct Model {
    pub messages: Vec<Message>,
    pub polls: Vec<Poll>,
    pub votes: BTreeMap<PollId, Vec<(Author, Vec<OptionId>)>>,
    pub runs: Vec<RunTrace>,
    /// What everybody who has ever been here or been banned may be, whether they are here or not.
    pub roles: BTreeMap<UserId, Role>,
    pub creator: Option<UserId>,
    pub names: BTreeMap<LlmId, String>,
}

/// An answer that has begun.
#[derive(Debug)]
pub struct RunTrace {
    pub id: MessageId,
    pub name: String,
    pub ended: usize,
}

impl Model {
    pub fn message(&self, id: MessageId) -> Option<&Message> {
        self.messages.iter().find(|m| m.id == id)
    }

    /// A poll with its ballots as the log has them.
    pub fn poll(&self, id: PollId) -> Option<&Poll> {
        self.polls.iter().find(|p| p.id == id)
    }

    /// Follows one event, and checks what the event says of itself.
    pub fn follow(&mut self, recorded: &Recorded) {
        match &recorded.event {
            Event::MessagePosted(message) => {
                if message.from_run {
                    let run = self.runs.iter().find(|run| run.id == message.id).expect("the answer began");
                    assert_eq!(message.author_name, run.name, "the name with which the answer began");
                }
                assert_eq!(recorded.event_id.0, message.id.0, "a message and its event have one id");
                assert!(self.messages.last().is_none_or(|last| last.seq < recorded.seq));
                let at = recorded.at;
                self.messages.push(Message { seq: recorded.seq, at, ..message.clone() });
            }
            Event::MessageEdited { message_id, content, mentions, .. } => {
                let message = self.message_mut(*message_id);
                assert!(!message.deleted, "a deleted message was edited");
                message.content.clone_from(content);
                message.mentions.clone_from(mentions);
                message.edited_at = Some(recorded.at);
                message.changes += 1;
            }
            Event::MessageDeleted { message_id, .. } => {
                let message = self.message_mut(*message_id);
                assert!(!message.deleted, "a message was deleted twice");
                message.deleted = true;
                message.content = String::new();
                message.mentions = Vec::new();
                message.reactions = Vec::new();
            }
            Event::ReactionChanged { message_id, user, emoji, added } => {
                let message = self.message_mut(*message_id);
                message.changes += 1;
                let reactions = &mut message.reactions;
                let before: Vec<_> = given(reactions);
                let one = (emoji.clone(), user.clone());
                assert_ne!(before.contains(&one), *added, "a reaction that changes nothing");
                *reactions = regroup(before, &one, *added);
            }
            Event::PollCreated(_)
            | Event::PollVoted(_)
            | Event::VoteRetracted { .. }
            | Event::VoteAbstained { .. }
            | Event::PollClosed { .. } => self.follow_poll(recorded),
            Event::RunStarted(_) | Event::RunEnded { .. } => self.follow_run(&recorded.event),
            Event::RoomCreated(new) => {
                self.creator.clone_from(&new.created_by);
                self.names = new.llms.iter().map(|l| (l.id.clone(), l.display_name.clone())).collect();
            }
            Event::MemberChanged { member, change, .. } => self.follow_member(member, *change),
            Event::LlmAdded(llm) | Event::LlmUpdated(llm) => {
                self.names.insert(llm.id.clone(), llm.display_name.clone());
            }
            Event::MessageSuperseded { message_id, by, .. } => {
                let newer = self.message(*by).expect("the newer answer was posted before");
                let fragment = self.message(*message_id).is_some_and(|message| message.partial);
                assert!(newer.replaces == Some(*message_id) || (fragment && !newer.partial), "{newer:?}");
                let older = self.message_mut(*message_id);
                assert_eq!(older.superseded_by, None, "an answer was replaced twice");
                older.superseded_by = Some(*by);
            }
            Event::InvitationCreated(_)
            | Event::InvitationClosed { .. }
            | Event::RegenerateRequested { .. }
            | Event::ApprovalRequested(_)
            | Event::ApprovalDecided { .. }
            | Event::ContextSummarised(_)
            | Event::AutopilotChanged(_) => {}
            // Answers of it may still be open.
            Event::LlmRemoved(_) | Event::RoomActivated | Event::RoomUpdated(_) | Event::RoomEnded { .. } => {
            }
        }
    }

    fn follow_run(&mut self, event: &Event) {
        match event {
            Event::RunStarted(run) => {
                assert!(self.runs.iter().all(|r| r.id != run.message_id), "an answer began twice");
                assert_eq!(Some(&run.llm_name), self.names.get(&run.llm_id));
                self.runs.push(RunTrace { id: run.message_id, name: run.llm_name.clone(), ended: 0 });
            }
            Event::RunEnded { run, .. } => {
                let trace = self.runs.iter_mut().find(|r| r.id == run.message_id).expect("the answer began");
                trace.ended += 1;
                assert_eq!(trace.ended, 1, "an answer ended twice");
            }
            other => unreachable!("{other:?} is about no answer"),
        }
    }

    fn follow_member(&mut self, member: &Member, change: MemberChange) {
        let first = self.roles.is_empty();
        let known = self.roles.entry(member.id.clone());
        match change {
            MemberChange::Joined => {
                let founder = self.creator.as_ref().map_or(first, |creator| creator == &member.id);
                let most = *known.or_insert(if founder { Role::Admin } else { Role::Member });
                assert!(member.role <= most, "{} came back as more than they were", member.id);
                self.roles.insert(member.id.clone(), member.role);
            }
            MemberChange::Updated => {
                self.roles.insert(member.id.clone(), member.role);
            }
            MemberChange::Removed | MemberChange::Banned => {
                known.and_modify(|role| *role = (*role).min(Role::Member)).or_insert(Role::Member);
            }
            MemberChange::Left | MemberChange::Unbanned => {}
        }
    }

    fn follow_poll(&mut self, recorded: &Recorded) {
        match &recorded.event {
            Event::PollCreated(poll) => {
                assert!(poll.ballots.is_empty() && poll.is_open());
                assert_eq!(self.message(poll.message_id).map(|m| m.poll_id), Some(Some(poll.id)));
                self.polls.push(poll.clone());
            }
            Event::PollVoted(vote) => {
                let poll = self.poll_mut(vote.poll_id);
                assert!(poll.is_open(), "a vote in a closed poll");
                assert!(
                    poll.allow_multiple || vote.ballot.options.len() == 1,
                    "two options in a single choice"
                );
                assert!(vote.ballot.options.contains(&vote.option));
                assert!(vote.retracted.iter().all(|option| !vote.ballot.options.contains(option)));
                poll.ballots.insert(vote.voter.clone(), vote.ballot.clone());
                poll.abstentions.retain(|known| vote.voter != Author::Llm(known.llm_id.clone()));
                let votes = self.votes.entry(vote.poll_id).or_default();
                votes.retain(|(voter, _)| voter != &vote.voter);
                votes.push((vote.voter.clone(), vote.ballot.options.clone()));
            }
            Event::VoteRetracted { poll_id, voter, options } => {
                let poll = self.poll_mut(*poll_id);
                assert!(poll.is_open(), "a retraction in a closed poll");
                assert_eq!(poll.ballots.remove(voter).map(|b| b.options).as_ref(), Some(options));
                self.votes.entry(*poll_id).or_default().retain(|(other, _)| other != voter);
            }
            Event::VoteAbstained { poll_id, abstention } => {
                let voter = Author::Llm(abstention.llm_id.clone());
                let poll = self.poll_mut(*poll_id);
                assert!(poll.is_open() && poll.mandatory && !poll.ballots.contains_key(&voter));
                poll.abstentions.retain(|known| known.llm_id != abstention.llm_id);
                poll.abstentions.push(abstention.clone());
            }
            Event::PollClosed { poll, .. } => self.close(poll, recorded),
            other => unreachable!("{other:?} is about no poll"),
        }
    }

    /// What a room's state must have of all this.
    pub fn check(&self, room: &Room) {
        for (user, role) in &self.roles {
            let kept = room.members.get(user).map(|m| m.role).or(room.former_roles.get(user).copied());
            assert_eq!(kept.unwrap_or_else(|| room.fresh_role(user)), *role, "the role of {user}");
        }
        let usual = room.former_roles.iter().find(|(user, role)| room.fresh_role(user) == **role);
        assert_eq!(usual, None, "kept although anybody gets it");
        let start = self.messages.len().saturating_sub(RECENT_MESSAGES);
        assert!(room.recent.iter().eq(&self.messages[start..]), "the last messages differ from the model's");
        let open: Vec<_> = self.runs.iter().filter(|run| run.ended == 0).map(|run| run.id).collect();
        assert_eq!(room.runs.keys().copied().collect::<Vec<_>>(), open, "the open answers differ");
        let shown = |poll: &&Poll| {
            poll.is_open() || self.messages[start..].iter().any(|m| m.poll_id == Some(poll.id))
        };
        let polls: Vec<_> = self.polls.iter().filter(shown).collect();
        assert!(room.polls.values().eq(polls), "the polls differ from the model's");
        for poll in room.polls.values() {
            self.recount(poll);
        }
    }

    fn close(&mut self, closed: &Poll, recorded: &Recorded) {
        let poll = self.poll_mut(closed.id);
        assert!(poll.is_open(), "a poll was closed twice");
        poll.closed_at = Some(recorded.at);
        assert_eq!(poll, closed, "a closed poll carries everything the log said of it");
        self.recount(closed);
    }

    /// What a poll says of its votes, against the votes counted one by one.
    fn recount(&self, poll: &Poll) {
        let votes = self.votes.get(&poll.id).map(Vec::as_slice).unwrap_or_default();
        let count = |option: &OptionId| votes.iter().filter(|(_, options)| options.contains(option)).count();
        let counted: Vec<_> =
            poll.options.iter().map(|o| (o.id.clone(), u32::try_from(count(&o.id)).unwrap())).collect();
        assert_eq!(poll.tallies(), counted, "the tallies differ from a recount");
        assert_eq!(usize::try_from(poll.ballot_count()).unwrap(), votes.len());
    }

    fn message_mut(&mut self, id: MessageId) -> &mut Message {
        self.messages.iter_mut().find(|m| m.id == id).expect("an event is about a message that exists")
    }

    fn poll_mut(&mut self, id: PollId) -> &mut Poll {
        self.polls.iter_mut().find(|p| p.id == id).expect("an event is about a poll that exists")
    }
}

type Given = (String, salon::ids::UserId);

fn given(reactions: &[Reaction]) -> Vec<Given> {
    reactions.iter().flat_map(|r| r.users.iter().map(|user| (r.emoji.clone(), user.clone()))).collect()
}

fn regroup(mut all: Vec<Given>, one: &Given, added: bool) -> Vec<Reaction> {
    if added {
        all.push(one.clone());
    } else {
        all.retain(|given| given != one);
    }
    let mut groups: Vec<Reaction> = Vec::new();
    for (emoji, user) in all {
        match groups.iter_mut().find(|group| group.emoji == emoji) {
            Some(group) => group.users.push(user),
            None => groups.push(Reaction { emoji, users: vec![user] }),
        }
    }
    groups
}
