//! The room that fuzzed commands meet: people of every role, somebody banned, an LLM that writes, a call that waits,
//! a poll, messages. Its ids are the same in every run, so that inputs can name what is there.

use std::sync::OnceLock;

use salon::{
    clock::Timestamp,
    domain::{
        apply,
        approval::Approval,
        command::{Actor, Command, JoinProfile, MessageInput, OptionInput, PollInput},
        decide::{self, Context, Facts},
        event::{Event, NewRoom, Recorded},
        invitation::Secret,
        limits::Limits,
        llm::{ChatStyle, LlmConfig, Run},
        room::{Profile, Role, Room, Visibility},
    },
    ids::{ApprovalId, LlmId, MessageId, RoomId, Seq, UserId},
};
use uuid::Uuid;

/// Who acts, by the first byte of a step. The last three are no members.
pub const USERS: [&str; 6] = ["ada", "bob", "vera", "eve", "una", "Ünï ©"];

/// A room and its log.
#[derive(Clone)]
pub struct Table {
    pub room: Room,
    pub log: Vec<Recorded>,
    pub now: Timestamp,
    pub limits: Limits,
    ids: u128,
}

impl Table {
    /// The room as it is before the first step.
    pub fn laid() -> Self {
        // The same for every input: made once.
        static LAID: OnceLock<Table> = OnceLock::new();
        LAID.get_or_init(Self::lay).clone()
    }

    fn lay() -> Self {
        let now = Timestamp(1_700_000_000_000);
        // Small, so that they are met.
        let limits =
            Limits { llms_per_room: 3, members_per_room: 5, open_runs_per_room: 4, ..Limits::default() };
        let mut ids = 0;
        let decision = decide::create(
            Command::CreateRoom(new_room()),
            &mut Context {
                at: now,
                limits: &limits,
                facts: &Facts::default(),
                new_id: &mut || next(&mut ids),
                secret: None,
            },
        )
        .unwrap();
        let mut log = Vec::new();
        for new in decision.events {
            let seq = Seq(log.len() as u64 + 1);
            log.push(Recorded { seq, event_id: new.event_id, at: now, event: new.event });
        }
        let room = apply::fold(&log).unwrap();
        let mut table = Self { room, log, now, limits, ids };
        table.fill();
        table
    }

    fn fill(&mut self) {
        for (name, role) in [("ada", None), ("bob", None), ("vera", Some(Role::Viewer)), ("eve", None)] {
            let (name_shown, title, avatar) = (String::new(), String::new(), String::new());
            let profile =
                JoinProfile { name: name_shown, role, title, avatar, invitation: None, granted: None };
            self.must(&user(name), Command::Join(profile));
        }
        self.must(
            &user("ada"),
            Command::RemoveMember {
                user_id: UserId::parse("eve").unwrap(),
                ban: true,
                reason: String::new(),
            },
        );
        let said = self.must(&user("bob"), message("hello @bot")).unwrap();
        let option = |text: &str| OptionInput { text: text.into(), description: String::new() };
        self.must(
            &user("ada"),
            Command::CreatePoll(PollInput {
                question: "Tea?".into(),
                options: vec![option("yes"), option("no"), option("later")],
                allow_multiple: true,
                anonymous: false,
                mandatory: true,
                hide_results: false,
                closes_in: None,
                quorum: 0,
                outside: Vec::new(),
            }),
        );
        let run = self.run(said);
        let message_id = run.message_id;
        self.must(&Actor::Server, Command::StartRun(run));
        let approval = Approval {
            id: ApprovalId(self.fresh_id()),
            message_id,
            llm_id: LlmId::parse("bot").unwrap(),
            tool: "files__read".into(),
            arguments: "{}".into(),
            asked_by: Some(UserId::parse("bob").unwrap()),
            expires_at: self.now.plus(std::time::Duration::from_secs(100)),
        };
        self.must(&Actor::Server, Command::RequestApproval(approval));
    }

    /// An answer of the LLM to this message.
    fn run(&mut self, reply_to: MessageId) -> Run {
        Run {
            message_id: MessageId(self.fresh_id()),
            llm_id: LlmId::parse("bot").unwrap(),
            llm_name: "Bot".into(),
            reply_to,
            poll_id: None,
            chain_depth: 1,
            asked_by: Some(UserId::parse("bob").unwrap()),
            started_at: self.now,
            replaces: None,
            turn: None,
            model: String::new(),
        }
    }

    /// An id that nothing has.
    pub fn fresh_id(&mut self) -> Uuid {
        next(&mut self.ids)
    }

    /// What this command comes to; nothing is applied.
    pub fn decide(
        &mut self,
        actor: &Actor,
        command: Command,
        facts: &Facts,
    ) -> Result<decide::Decision, salon::domain::rejection::Rejection> {
        let ids = &mut self.ids;
        // Always the same one: what is found must be found again.
        let secret = decide::needs_secret(&command).then(|| Secret::new([7; 32]));
        let new_id = &mut || next(ids);
        let mut context = Context { at: self.now, limits: &self.limits, facts, new_id, secret };
        decide::decide(&self.room, actor, command, &mut context)
    }

    /// Applies what was decided, and shows each event and the room that it leaves behind.
    pub fn append(&mut self, decision: decide::Decision, mut look: impl FnMut(&Room, &Recorded)) {
        for new in decision.events {
            let seq = Seq(self.log.len() as u64 + 1);
            let recorded = Recorded { seq, event_id: new.event_id, at: self.now, event: new.event };
            apply::apply(&mut self.room, &recorded);
            look(&self.room, &recorded);
            self.log.push(recorded);
        }
    }

    /// Carries out a command of the opening; says which message was posted, if one was.
    fn must(&mut self, actor: &Actor, command: Command) -> Option<MessageId> {
        let decision = self.decide(actor, command, &Facts::default()).unwrap();
        let mut posted = None;
        self.append(decision, |_, recorded| {
            if let Event::MessagePosted(message) = &recorded.event {
                posted = Some(message.id);
            }
        });
        posted
    }
}

/// A person.
pub fn user(name: &str) -> Actor {
    Actor::User(UserId::parse(name).unwrap())
}

fn message(content: &str) -> Command {
    Command::SendMessage(MessageInput {
        content: content.into(),
        content_type: String::new(),
        reply_to: None,
        mentions: Vec::new(),
    })
}

fn new_room() -> NewRoom {
    let profile = Profile {
        name: "Room".into(),
        description: String::new(),
        visibility: Visibility::Public,
        settings: Default::default(),
    };
    let llms = vec![llm("bot", "Bot"), llm("mia", "Mia Ⅱ")];
    NewRoom {
        id: RoomId::parse("room").unwrap(),
        profile,
        created_by: Some(UserId::parse("ada").unwrap()),
        llms,
    }
}

/// An LLM.
pub fn llm(id: &str, name: &str) -> LlmConfig {
    LlmConfig {
        id: LlmId::parse(id).unwrap(),
        model: "model".into(),
        persona: String::new(),
        display_name: name.into(),
        title: String::new(),
        chat_style: ChatStyle::Unspecified,
        avatar: String::new(),
        allowed_tools: Vec::new(),
        fallback_models: Vec::new(),
    }
}

fn next(ids: &mut u128) -> Uuid {
    *ids += 1;
    // As the server's own: of version 7, ordered by time.
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + *ids)
}
