//! Every way a decision can go, once. `random sequences` are in the system's tests; here are the borders.

mod autopilot;
mod invitations;
mod llms;
mod members;
mod messages;
mod polls;
mod rights;
mod rooms;
mod runs;

use super::*;
use crate::{
    domain::{
        apply,
        command::{JoinProfile, MessageInput, OptionInput, PollInput},
        event::{NewRoom, Recorded},
        llm::{ChatStyle, LlmConfig},
        room::{Profile, Role, Visibility},
        settings::{Settings, SettingsPatch},
    },
    ids::{LlmId, OptionId, RoomId, Seq},
};

/// A room with what a test needs to talk to it: `ann` created it, `bob` is a MEMBER, `vic` a VIEWER.
struct Table {
    room: Room,
    log: Vec<Recorded>,
    limits: Limits,
    facts: Facts,
    at: Timestamp,
    ids: u128,
}

impl Table {
    fn new() -> Self {
        let mut table = Self::empty(Some("ann"));
        for (name, role) in [("ann", None), ("bob", None), ("vic", Some(Role::Viewer))] {
            table.ok(name, join(role));
        }
        table
    }

    /// A room nobody has joined, with the LLMs Ada and Bot 1.
    fn empty(creator: Option<&str>) -> Self {
        let mut ids = 0;
        let limits = Limits::default();
        let at = Timestamp(1_000_000);
        let new = NewRoom { created_by: creator.map(user_id), ..new_room() };
        let decision = create_with(new, &limits, &mut ids).unwrap();
        let new = decision.events.into_iter().next().unwrap();
        let first = Recorded { seq: Seq(1), event_id: new.event_id, at, event: new.event };
        Self {
            room: apply::create(&first).unwrap(),
            log: vec![first],
            limits,
            facts: Facts::default(),
            at,
            ids,
        }
    }

    fn decide(&mut self, who: &str, command: Command) -> Result<Decision, Rejection> {
        let actor = match who.split_once(" as ") {
            Some((user, llm)) => Actor::Tool { llm: llm_id(llm), asked_by: user_id(user) },
            None if who == "server" => Actor::Server,
            None if self.room.llm(&llm_id(who)).is_some() || who == "ghost" => Actor::Llm(llm_id(who)),
            None => Actor::User(user_id(who)),
        };
        let ids = &mut self.ids;
        // A secret nobody else has, that a test can tell.
        let secret = needs_secret(&command).then(|| secret(*ids));
        let mut context = Context {
            at: self.at,
            limits: &self.limits,
            facts: &self.facts,
            new_id: &mut || next(ids),
            secret,
        };
        decide(&self.room, &actor, command, &mut context)
    }

    /// Carries a command out; gives its events.
    #[track_caller]
    fn ok(&mut self, who: &str, command: Command) -> Vec<Event> {
        let decision = self.decide(who, command).unwrap();
        let from = self.log.len();
        for new in decision.events {
            let seq = self.room.seq.next();
            let recorded = Recorded { seq, event_id: new.event_id, at: self.at, event: new.event };
            apply::apply(&mut self.room, &recorded);
            self.log.push(recorded);
        }
        assert_eq!(self.room.broken_invariant(), None);
        self.log[from..].iter().map(|recorded| recorded.event.clone()).collect()
    }

    /// Carries out a command that has one event.
    #[track_caller]
    fn one(&mut self, who: &str, command: Command) -> Event {
        let events = self.ok(who, command);
        let [event] = <[Event; 1]>::try_from(events).unwrap();
        event
    }

    #[track_caller]
    fn nothing(&mut self, who: &str, command: Command) {
        assert_eq!(self.ok(who, command), []);
    }

    /// A command that is refused: with this code, and with these words in the message.
    #[track_caller]
    fn refused(&mut self, who: &str, command: Command, code: Code, words: &str) {
        let what = format!("{who}: {command:.60?}");
        let rejection = self.decide(who, command).unwrap_err();
        check_refusal(&rejection, code, words, &what);
    }

    /// Posts a message; gives its id.
    #[track_caller]
    fn say(&mut self, who: &str, content: &str) -> MessageId {
        self.ok(who, send(content));
        self.room.recent.back().unwrap().id
    }

    fn role(&self, who: &str) -> Role {
        self.room.members[&user_id(who)].role
    }

    fn message(&self, id: MessageId) -> &Message {
        self.room.recent_message(id).unwrap()
    }
}

#[track_caller]
fn check_refusal(rejection: &Rejection, code: Code, words: &str, what: &str) {
    assert_eq!(rejection.code, code, "{what}: {rejection}");
    assert!(rejection.message.contains(words), "{what}: {rejection:?} lacks {words:?}");
    let of_a_field = matches!(code, Code::InvalidArgument | Code::InvalidPoll);
    assert!(!of_a_field || rejection.field.is_some(), "{what}: {rejection:?} names no field");
}

fn create_with(new: NewRoom, limits: &Limits, ids: &mut u128) -> Result<Decision, Rejection> {
    let facts = Facts::default();
    let new_id = &mut || next(ids);
    let mut context = Context { at: Timestamp(1_000_000), limits, facts: &facts, new_id, secret: None };
    create(Command::CreateRoom(new), &mut context)
}

fn next(ids: &mut u128) -> Uuid {
    *ids += 1;
    Uuid::from_u128(*ids)
}

fn secret(n: u128) -> Secret {
    let mut bytes = [7; 32];
    bytes[..16].copy_from_slice(&n.to_be_bytes());
    Secret::new(bytes)
}

fn user_id(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn llm_id(name: &str) -> LlmId {
    LlmId::parse(name).unwrap()
}

fn new_room() -> NewRoom {
    NewRoom {
        id: RoomId::parse("room").unwrap(),
        profile: Profile {
            name: "Room".into(),
            description: String::new(),
            visibility: Visibility::Public,
            settings: Settings::default(),
        },
        created_by: None,
        llms: vec![llm("ada", "Ada Lovelace"), llm("bot", "Bot 1")],
    }
}

fn llm(id: &str, name: &str) -> LlmConfig {
    LlmConfig {
        id: llm_id(id),
        model: String::new(),
        persona: String::new(),
        display_name: name.into(),
        title: String::new(),
        chat_style: ChatStyle::Unspecified,
        avatar: String::new(),
        allowed_tools: Vec::new(),
        fallback_models: Vec::new(),
    }
}

fn join(role: Option<Role>) -> Command {
    Command::Join(JoinProfile { role, ..JoinProfile::default() })
}

fn input(content: &str) -> MessageInput {
    MessageInput {
        content: content.into(),
        content_type: String::new(),
        reply_to: None,
        mentions: Vec::new(),
    }
}

fn send(content: &str) -> Command {
    Command::SendMessage(input(content))
}

fn poll(options: &[&str]) -> PollInput {
    PollInput {
        question: "Where to?".into(),
        options: options
            .iter()
            .map(|text| OptionInput { text: (*text).into(), description: String::new() })
            .collect(),
        allow_multiple: false,
        anonymous: false,
        mandatory: false,
        hide_results: false,
        closes_in: None,
        quorum: 0,
        outside: Vec::new(),
    }
}

fn option(n: usize) -> OptionId {
    OptionId::at(n - 1)
}

/// An id nothing has.
fn unknown() -> Uuid {
    Uuid::from_u128(u128::MAX)
}
