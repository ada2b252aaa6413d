//! A room in which everything there is to be allowed can be done, and one user in one standing.

use std::time::Duration;

use salon::{
    clock::Timestamp,
    domain::{
        apply,
        command::{Actor, Command, JoinProfile, MessageInput, OptionInput, PollInput},
        decide::{self, Context, Decision, Facts},
        event::{Event, NewRoom, Recorded},
        invitation::Secret,
        limits::Limits,
        llm::Run,
        permissions::{Action, Least},
        rejection::Rejection,
        room::{Profile, Role, Room, Visibility},
        settings::SettingsPatch,
    },
    ids::{InvitationId, LlmId, MessageId, PollId, RoomId, Seq, UserId},
};
use uuid::Uuid;

use super::{cases::Case, tables};

/// What decides what the user `who` may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Stranger,
    Viewer,
    Member,
    Admin,
    /// A MEMBER.
    Muted,
}

impl Standing {
    pub const ALL: [Self; 5] = [Self::Stranger, Self::Viewer, Self::Member, Self::Admin, Self::Muted];

    pub fn role(self) -> Option<Role> {
        match self {
            Self::Stranger => None,
            Self::Viewer => Some(Role::Viewer),
            Self::Member | Self::Muted => Some(Role::Member),
            Self::Admin => Some(Role::Admin),
        }
    }
}

#[derive(Debug, Clone)]
pub struct World {
    pub room: Room,
    at: Timestamp,
    ids: u128,
    /// A message and a poll of `who`, and those of `eve`.
    pub own: (MessageId, PollId),
    pub other: (MessageId, PollId),
    pub own_invitation: InvitationId,
    pub other_invitation: InvitationId,
    pub answer: MessageId,
}

pub fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

pub fn poll() -> Command {
    let option = |text: &str| OptionInput { text: text.into(), description: String::new() };
    Command::CreatePoll(PollInput {
        question: "Well?".into(),
        options: vec![option("yes"), option("no")],
        allow_multiple: false,
        anonymous: false,
        mandatory: false,
        hide_results: false,
        closes_in: None,
        quorum: 0,
        outside: Vec::new(),
    })
}

pub fn say(content: &str) -> Command {
    Command::SendMessage(MessageInput {
        content: content.into(),
        content_type: String::new(),
        reply_to: None,
        mentions: Vec::new(),
    })
}

impl World {
    pub fn new(standing: Standing, visibility: Visibility) -> Self {
        let profile = Profile {
            name: "Room".into(),
            description: String::new(),
            visibility,
            settings: Default::default(),
        };
        let new = NewRoom {
            id: RoomId::parse("room").unwrap(),
            profile,
            created_by: Some(user("ann")),
            llms: vec![tables::llm("ada")],
        };
        let at = Timestamp(1_000_000);
        let created = Recorded {
            seq: Seq(1),
            event_id: MessageId(Uuid::nil()).into(),
            at,
            event: Event::RoomCreated(new),
        };
        let nothing = (MessageId(Uuid::nil()), PollId(Uuid::nil()));
        let mut world = Self {
            room: apply::create(&created).unwrap(),
            at,
            ids: 100,
            own: nothing,
            other: nothing,
            own_invitation: InvitationId::parse("0").unwrap(),
            other_invitation: InvitationId::parse("0").unwrap(),
            answer: MessageId(Uuid::nil()),
        };
        for id in ["ann", "eve", "who", "bad"] {
            world.ok(id, Command::Join(JoinProfile::default()));
        }
        world.fill();
        world.stand(standing);
        world
    }

    /// What the commands of the cases are about.
    fn fill(&mut self) {
        let ban = Command::RemoveMember { user_id: user("bad"), ban: true, reason: String::new() };
        self.ok("ann", ban);
        // Who makes these is allowed to, whatever a private room says.
        self.permit(Action::Invite, Some(Least::Role(Role::Member)));
        self.own = (self.message("who"), self.poll("who"));
        self.other = (self.message("eve"), self.poll("eve"));
        self.own_invitation = self.invitation("who");
        self.other_invitation = self.invitation("eve");
        self.permit(Action::Invite, None);
        for poll_id in [self.own.1, self.other.1] {
            let options = vec![self.room.polls[&poll_id].options[0].id.clone()];
            self.ok("who", Command::CastVote { poll_id, options, reason: String::new() });
        }
        self.answer = MessageId(Uuid::from_u128(1));
        let run = Run {
            message_id: self.answer,
            llm_id: LlmId::parse("ada").unwrap(),
            llm_name: String::new(),
            reply_to: self.own.0,
            poll_id: None,
            chain_depth: 0,
            asked_by: Some(user("who")),
            started_at: Timestamp::default(),
            replaces: None,
            turn: None,
            model: String::new(),
        };
        self.act(&Actor::Server, Command::StartRun(run));
        self.act(&Actor::Server, tables::approval(self.answer, self.at));
    }

    fn stand(&mut self, standing: Standing) {
        let role = |role| Command::UpdateMember { user_id: user("who"), role };
        match standing {
            Standing::Stranger => self.ok("who", Command::Leave),
            Standing::Viewer => self.ok("ann", role(Role::Viewer)),
            Standing::Member => {}
            Standing::Admin => self.ok("ann", role(Role::Admin)),
            Standing::Muted => {
                let (user_id, duration) = (user("who"), Duration::from_secs(60));
                self.ok("ann", Command::MuteMember { user_id, duration, reason: String::new() });
            }
        }
    }

    fn permit(&mut self, action: Action, least: Option<Least>) {
        let settings = SettingsPatch { permissions: vec![(action, least)], ..Default::default() };
        self.ok("ann", Command::UpdateRoom { name: None, description: None, visibility: None, settings });
    }

    /// This room with another policy.
    pub fn with(&self, action: Action, least: Option<Least>) -> Self {
        let mut world = self.clone();
        if least.is_some() {
            world.permit(action, least);
        }
        world
    }

    fn message(&mut self, who: &str) -> MessageId {
        self.ok(who, say("hello"));
        self.room.recent.back().unwrap().id
    }

    fn poll(&mut self, who: &str) -> PollId {
        self.ok(who, poll());
        self.room.recent.back().unwrap().poll_id.unwrap()
    }

    fn invitation(&mut self, who: &str) -> InvitationId {
        self.ok(who, tables::invite());
        let made = |(id, invitation): (&InvitationId, &salon::domain::invitation::Invitation)| {
            (invitation.created_by == user(who)).then(|| id.clone())
        };
        self.room.invitations.iter().find_map(made).unwrap()
    }

    #[track_caller]
    fn ok(&mut self, who: &str, command: Command) {
        self.act(&Actor::User(user(who)), command);
    }

    #[track_caller]
    fn act(&mut self, actor: &Actor, command: Command) {
        let decision = self.judge(actor, command).unwrap();
        for new in decision.events {
            self.ids += 1;
            let seq = self.room.seq.next();
            apply::apply(
                &mut self.room,
                &Recorded { seq, event_id: new.event_id, at: self.at, event: new.event },
            );
        }
        self.ids += 100;
    }

    /// What a case comes to.
    pub fn decide(&self, case: &Case) -> Result<Decision, Rejection> {
        self.judge(&case.actor, case.command.clone())
    }

    fn judge(&self, actor: &Actor, command: Command) -> Result<Decision, Rejection> {
        let (limits, facts) = (Limits::default(), Facts::default());
        let mut ids = self.ids;
        let mut random = [0; 32];
        random[..16].copy_from_slice(&ids.to_be_bytes());
        let mut new_id = || {
            ids += 1;
            Uuid::from_u128(ids)
        };
        let secret = decide::needs_secret(&command).then(|| Secret::new(random));
        let mut context =
            Context { at: self.at, limits: &limits, facts: &facts, new_id: &mut new_id, secret };
        decide::decide(&self.room, actor, command, &mut context)
    }
}
