//! What this client knows of the room: who is in it, its polls by number, its last messages by number.
//!
//! Owns no output. It folds the events of one stream, and every fact it keeps came from the server; what it does
//! not know (after a resume without a state) is answered with nothing, never with a guess.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    cli::chat::approvals::Approvals,
    wire::pb::room::v1::{
        MemberChange, Message, Participant, ParticipantType, Poll, PollStatus, PresenceStatus, Role,
        ServerEvent, server_event::Payload,
    },
};

/// How many messages can be named by their number: far more than a screen shows.
const MESSAGES_MAX: usize = 1000;

/// How many polls keep their options; older ones lose them, and their numbers are never given again.
const POLLS_MAX: usize = 200;

/// The room as far as it was told.
#[derive(Debug, Default)]
pub struct View {
    /// The id of the user of this client.
    pub me: String,
    /// The room's name.
    pub room_name: String,
    /// What the room is about.
    pub topic: String,
    /// How many different users are online, when it was told.
    pub online_count: u32,
    /// Calls of tools that wait for somebody's word.
    pub approvals: Approvals,
    people: BTreeMap<String, Person>,
    polls: BTreeMap<usize, Poll>,
    polls_seen: usize,
    messages: VecDeque<Known>,
}

/// A human or an LLM.
#[derive(Debug, Clone)]
pub struct Person {
    /// As shown; may be empty.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Whether it is an LLM.
    pub llm: bool,
    /// Whether it is here.
    pub online: bool,
}

/// A message that can be named by its number.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its position in the log, which is its number on the screen.
    pub seq: u64,
    /// Its id.
    pub id: String,
    /// Who sent it.
    pub sender_id: String,
    /// Whether it is an answer of an LLM.
    pub by_llm: bool,
    /// Whether another answer has its place.
    pub superseded: bool,
}

impl View {
    /// What this user sees who has not been told anything yet.
    pub fn new(me: &str) -> Self {
        Self { me: me.to_owned(), ..Self::default() }
    }

    /// Takes in what an event says.
    pub fn apply(&mut self, event: &ServerEvent) {
        match &event.payload {
            Some(Payload::RoomState(state)) => {
                self.people.clear();
                state.participants.iter().for_each(|person| self.person(person));
                if let Some(room) = &state.room {
                    self.room_name.clone_from(&room.name);
                    self.topic.clone_from(&room.description);
                }
                if let Some(you) = &state.you {
                    self.me.clone_from(&you.id);
                    self.person(you);
                    self.set_online(&you.id, true);
                }
                self.online_count = state.online_count;
                state.polls.iter().for_each(|poll| self.poll_told(poll));
                self.approvals.state(&state.approvals);
                state.messages.iter().for_each(|message| self.message(message, message.seq));
            }
            Some(Payload::Resumed(resumed)) => {
                self.people.values_mut().for_each(|person| person.online = person.llm);
                resumed.online.iter().for_each(|person| self.person(person));
                self.online_count = resumed.online_count;
            }
            Some(Payload::MessageReceived(received)) => {
                if let Some(message) = &received.message {
                    self.message(message, event.seq);
                }
            }
            Some(Payload::MessageDeleted(deleted)) => {
                self.messages.retain(|known| known.id != deleted.message_id);
            }
            Some(Payload::MessageSuperseded(old)) => {
                let known = self.messages.iter_mut().filter(|known| known.id == old.message_id);
                known.for_each(|known| known.superseded = true);
            }
            Some(Payload::RoomUpdated(updated)) => {
                if let Some(room) = &updated.room {
                    self.room_name.clone_from(&room.name);
                    self.topic.clone_from(&room.description);
                }
            }
            Some(Payload::ApprovalRequested(requested)) => {
                requested.approval.iter().for_each(|approval| self.approvals.requested(approval));
            }
            Some(Payload::ApprovalDecided(decided)) => self.approvals.decided(&decided.approval_id),
            Some(Payload::PollCreated(created)) => created.poll.iter().for_each(|poll| self.poll_told(poll)),
            Some(Payload::PollClosed(closed)) => closed.poll.iter().for_each(|poll| self.poll_told(poll)),
            Some(payload) => self.apply_to_people(payload),
            None => {}
        }
    }

    fn apply_to_people(&mut self, payload: &Payload) {
        match payload {
            Payload::UserJoined(joined) => joined.user.iter().for_each(|user| {
                self.person(user);
                self.set_online(&user.id, true);
            }),
            Payload::UserLeft(left) => self.set_online(&left.user_id, false),
            Payload::PresenceChanged(changed) => {
                self.set_online(&changed.user_id, changed.status() != PresenceStatus::Offline);
            }
            Payload::Occupancy(occupancy) => self.online_count = occupancy.online_count,
            Payload::MemberChanged(changed) => {
                let Some(member) = &changed.member else { return };
                match changed.change() {
                    MemberChange::Left | MemberChange::Removed | MemberChange::Banned => {
                        self.people.remove(&member.id);
                    }
                    MemberChange::Unbanned => {}
                    MemberChange::Joined | MemberChange::Updated | MemberChange::Unspecified => {
                        self.person(member);
                    }
                }
            }
            Payload::LlmAdded(added) => added.llm.iter().for_each(|llm| self.llm(&llm.id, &llm.display_name)),
            Payload::LlmUpdated(updated) => {
                updated.llm.iter().for_each(|llm| self.llm(&llm.id, &llm.display_name));
            }
            Payload::LlmRemoved(removed) => {
                self.people.remove(&removed.llm_id);
            }
            _ => {}
        }
    }

    fn person(&mut self, told: &Participant) {
        let llm = told.r#type() == ParticipantType::Llm;
        let online = llm || told.is_online;
        let person = Person { name: told.name.clone(), role: told.role(), llm, online };
        self.people.insert(told.id.clone(), person);
    }

    fn llm(&mut self, id: &str, name: &str) {
        let person = Person { name: name.to_owned(), role: Role::Member, llm: true, online: true };
        self.people.insert(id.to_owned(), person);
    }

    fn set_online(&mut self, id: &str, online: bool) {
        if let Some(person) = self.people.get_mut(id) {
            person.online = online;
        }
    }

    /// A poll keeps the number it got when it was first told.
    fn poll_told(&mut self, poll: &Poll) {
        let number = self.poll_number(&poll.poll_id).unwrap_or_else(|| {
            self.polls_seen += 1;
            self.polls_seen
        });
        self.polls.insert(number, poll.clone());
        if self.polls.len() > POLLS_MAX {
            self.polls.pop_first();
        }
    }

    fn message(&mut self, message: &Message, seq: u64) {
        if message.deleted || self.messages.back().is_some_and(|last| last.seq >= seq) {
            return;
        }
        if self.messages.len() == MESSAGES_MAX {
            self.messages.pop_front();
        }
        let (id, sender_id) = (message.message_id.clone(), message.sender_id.clone());
        let by_llm = message.sender_type() == ParticipantType::Llm && message.poll_id.is_none();
        let superseded = !message.superseded_by.is_empty();
        self.messages.push_back(Known { seq, id, sender_id, by_llm, superseded });
    }

    /// How `id` is called: its name, or its id when it has none.
    pub fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.people.get(id).map(|person| person.name.as_str()).filter(|name| !name.is_empty()).unwrap_or(id)
    }

    /// Everybody known, by id.
    pub fn people(&self) -> impl Iterator<Item = (&str, &Person)> {
        self.people.iter().map(|(id, person)| (id.as_str(), person))
    }

    /// The id of the LLM with this id or name, letter case aside.
    pub fn llm_id(&self, called: &str) -> Option<&str> {
        let wanted = called.to_lowercase();
        self.people()
            .filter(|(_, person)| person.llm)
            .find(|(id, person)| id.to_lowercase() == wanted || person.name.to_lowercase() == wanted)
            .map(|(id, _)| id)
    }

    /// The ids of the room's LLMs.
    pub fn llm_ids(&self) -> impl Iterator<Item = &str> {
        self.people().filter(|(_, person)| person.llm).map(|(id, _)| id)
    }

    /// The poll with this number.
    pub fn poll(&self, number: usize) -> Option<&Poll> {
        self.polls.get(&number)
    }

    /// The number of a poll.
    pub fn poll_number(&self, poll_id: &str) -> Option<usize> {
        self.polls.iter().find(|(_, poll)| poll.poll_id == poll_id).map(|(number, _)| *number)
    }

    /// Polls that take votes, with their numbers.
    pub fn open_polls(&self) -> impl Iterator<Item = (usize, &Poll)> {
        let open = |poll: &Poll| poll.status() != PollStatus::PollClosed;
        self.polls.iter().filter(move |(_, poll)| open(poll)).map(|(number, poll)| (*number, poll))
    }

    /// The message at this position.
    pub fn message_at(&self, seq: u64) -> Option<&Known> {
        self.messages.iter().rev().find(|known| known.seq == seq)
    }

    /// The message with this id.
    pub fn message_by_id(&self, id: &str) -> Option<&Known> {
        self.messages.iter().rev().find(|known| known.id == id)
    }

    /// The newest message.
    pub fn last_message(&self) -> Option<&Known> {
        self.messages.back()
    }

    /// The newest answer of an LLM that no other has the place of.
    pub fn last_answer(&self) -> Option<&Known> {
        self.messages.iter().rev().find(|known| known.by_llm && !known.superseded)
    }

    /// The newest message of this user.
    pub fn last_own_message(&self) -> Option<&Known> {
        self.messages.iter().rev().find(|known| known.sender_id == self.me)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::room::v1::{MessageReceived, MessageSuperseded};

    #[test]
    fn the_last_answer_is_one_that_stands() {
        let mut view = View::new("ann");
        let mut tell = |seq, payload| {
            view.apply(&ServerEvent { seq, payload: Some(payload), ..ServerEvent::default() });
            view.last_answer().map(|known| known.id.clone())
        };
        let answer = |id: &str| {
            let sender_type = ParticipantType::Llm.into();
            let message = Message { message_id: id.into(), sender_type, ..Message::default() };
            Payload::MessageReceived(MessageReceived { message: Some(message) })
        };
        assert_eq!(tell(1, answer("whole")).as_deref(), Some("whole"));
        assert_eq!(tell(2, answer("fragment")).as_deref(), Some("fragment"));
        let old = MessageSuperseded { message_id: "fragment".into(), by_message_id: "whole".into() };
        assert_eq!(tell(3, Payload::MessageSuperseded(old)).as_deref(), Some("whole"));
    }
}
