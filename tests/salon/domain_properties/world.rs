//! A room that is driven as the server drives it: decide, give positions, apply. Every rule is checked each time.

use std::{cell::Cell, collections::BTreeMap, collections::BTreeSet, time::Duration};

use salon::{
    clock::Timestamp,
    domain::{
        apply,
        command::{Actor, Command},
        decide::{self, Aside, Context, Decision, Facts, Lookup},
        event::{Event, MemberChange, Recorded},
        invitation::Secret,
        limits::{Limits, RECENT_MESSAGES},
        llm::LlmConfig,
        message::Author,
        permissions::Overrides,
        rejection::{Code, Rejection},
        room::{Role, Room},
        settings::{JoinRule, Settings},
    },
    ids::{EventId, Seq},
};
use uuid::Uuid;

use super::{model::Model, steps::Opening};

/// A room, its log and its model.
#[derive(Debug)]
pub struct World {
    room: Room,
    log: Vec<Recorded>,
    event_ids: BTreeSet<EventId>,
    now: Cell<Timestamp>,
    ids: Cell<u128>,
    limits: Limits,
    pub model: Model,
    /// The secrets of the invitations that were made, the last ones last.
    pub secrets: Vec<Secret>,
    /// How often each kind of event and refusal came.
    pub reached: BTreeMap<String, usize>,
}

impl World {
    pub fn new(opening: &Opening) -> Self {
        // Small, so that they are met.
        let limits =
            Limits { llms_per_room: 3, members_per_room: 5, open_runs_per_room: 4, ..Limits::default() };
        let mut ids = 0;
        let at = Timestamp(1_000_000);
        let decision = decide::create(
            Command::CreateRoom(opening.room()),
            &mut Context {
                at,
                limits: &limits,
                facts: &Facts::default(),
                new_id: &mut || count(&mut ids),
                secret: None,
            },
        )
        .unwrap();
        let [created] = <[_; 1]>::try_from(decision.events).unwrap();
        let first = Recorded { seq: Seq(1), event_id: created.event_id, at, event: created.event };
        let mut model = Model::default();
        model.follow(&first);
        Self {
            room: apply::create(&first).unwrap(),
            event_ids: [first.event_id].into(),
            log: vec![first],
            now: Cell::new(at),
            ids: Cell::new(ids),
            limits,
            model,
            secrets: Vec::new(),
            reached: [("RoomCreated".to_owned(), 1)].into(),
        }
    }

    /// An id that nothing has.
    pub fn fresh_id(&self) -> Uuid {
        let mut ids = self.ids.get();
        let id = count(&mut ids);
        self.ids.set(ids);
        id
    }

    /// The room as it is.
    pub fn room(&self) -> &Room {
        &self.room
    }

    pub fn now(&self) -> Timestamp {
        self.now.get()
    }

    /// Everything that has happened.
    pub fn log(&self) -> &[Recorded] {
        &self.log
    }

    pub fn wait(&self, time: Duration) {
        self.now.set(self.now.get().plus(time));
    }

    /// Lets somebody do something, and checks every rule.
    pub fn step(&mut self, actor: &Actor, command: Command) {
        self.wait(Duration::from_millis(10));
        let ended = self.room.has_ended();
        let before = self.room.clone();
        let what = format!("{actor:?}: {command:?}");
        match self.decide(actor, command) {
            Err(rejection) => {
                assert!(
                    !ended || rejection.code == Code::RoomEnded,
                    "{what} in an ended room: {rejection:?}"
                );
                self.check_rejection(&rejection);
            }
            Ok(decision) => {
                assert!(!ended, "{what} was accepted in an ended room");
                check_decision(&before, actor, &decision, self.now(), &what);
                self.secrets.extend(decision.asides.iter().filter_map(|aside| match aside {
                    Aside::Secret { secret, .. } => Some(secret.clone()),
                    Aside::Without(_) => None,
                }));
                if decision.events.is_empty() {
                    self.reach("nothing".into());
                }
                self.append(decision);
            }
        }
        self.check(&what);
    }

    fn decide(&mut self, actor: &Actor, command: Command) -> Result<Decision, Rejection> {
        let mut facts = Facts::default();
        match decide::lookup(&self.room, &command) {
            Some(Lookup::Message(id)) => facts.message = self.model.message(id).cloned(),
            Some(Lookup::Poll(id)) => facts.poll = self.model.poll(id).cloned(),
            None => {}
        }
        let mut ids = self.ids.get();
        let secret = decide::needs_secret(&command).then(|| secret(ids));
        let mut context = Context {
            at: self.now.get(),
            limits: &self.limits,
            facts: &facts,
            new_id: &mut || count(&mut ids),
            secret,
        };
        let result = decide::decide(&self.room, actor, command, &mut context);
        self.ids.set(ids);
        result
    }

    fn append(&mut self, decision: Decision) {
        for new in decision.events {
            let seq = Seq(self.log.len() as u64 + 1);
            let recorded = Recorded { seq, event_id: new.event_id, at: self.now.get(), event: new.event };
            assert!(self.event_ids.insert(recorded.event_id), "two events have one id");
            self.reach(name(&recorded.event));
            self.model.follow(&recorded);
            apply::apply(&mut self.room, &recorded);
            self.log.push(recorded);
        }
        if self.model.messages.len() == RECENT_MESSAGES + 1 {
            self.reach("more messages than the state keeps".into());
        }
    }

    fn check(&self, what: &str) {
        assert_eq!(self.room.broken_invariant(), None, "after {what}");
        assert_eq!(self.room.seq, Seq(self.log.len() as u64), "after {what}");
        let fence = self.log.iter().rev().find(|r| r.event.moves_fence()).map(|r| r.seq);
        assert_eq!(Some(self.room.fence), fence, "after {what}");
        self.model.check(&self.room);
        assert_eq!(apply::fold(&self.log).as_ref(), Some(&self.room), "the fold of the log, after {what}");
        let end = self.log.iter().position(|r| matches!(r.event, Event::RoomEnded { .. }));
        assert!(end.is_none_or(|index| index + 1 == self.log.len()), "something follows the end");
        if self.room.has_ended() {
            assert!(self.room.runs.is_empty(), "an answer is open in an ended room");
            assert_eq!(self.room.open_autopilot(), None, "an autopilot is open in an ended room");
            assert_eq!(self.room.open_polls().count(), 0, "a poll is open in an ended room");
        }
        assert!(self.room.llms.len() <= self.limits.llms_per_room);
        assert!(self.room.members.len() <= self.limits.members_per_room);
        assert!(self.room.runs.len() <= self.limits.open_runs_per_room);
    }

    fn check_rejection(&mut self, rejection: &Rejection) {
        assert!(!rejection.message.is_empty());
        let name = match rejection.code {
            Code::PollClosed => "a closed poll's refusal".into(),
            Code::RoomEnded => "an ended room's refusal".into(),
            code => format!("{code:?}"),
        };
        self.reach(name);
    }

    fn reach(&mut self, name: String) {
        *self.reached.entry(name).or_default() += 1;
    }
}

/// What an actor may cause, whatever was asked.
fn check_decision(before: &Room, actor: &Actor, decision: &Decision, at: Timestamp, what: &str) {
    let events = || decision.events.iter().map(|new| &new.event);
    check_rights(before, actor, decision, at, what);
    assert!(decision.fenced || !events().any(Event::moves_fence), "{what} moves the fence without asking it");
    for event in events() {
        if let Event::PollClosed { poll, .. } = event {
            let told = |llm: &LlmConfig| {
                poll.ballots.contains_key(&Author::Llm(llm.id.clone()))
                    || poll.abstentions.iter().any(|known| known.llm_id == llm.id)
            };
            assert!(!poll.mandatory || before.llms.iter().all(told), "{what}: who had to vote? {poll:?}");
        }
    }
    let role = match actor {
        Actor::User(id) => before.members.get(id).map(|m| m.role),
        Actor::Llm(_) => {
            assert!(events().all(is_about_polls), "{what}");
            assert!(!events().any(|event| matches!(event, Event::PollCreated(_))), "{what}");
            return;
        }
        Actor::Tool { asked_by, .. } => {
            assert!(events().all(is_about_polls), "{what}");
            before.members.get(asked_by).map(|m| m.role)
        }
        Actor::Server => {
            assert!(events().all(is_of_the_server), "{what}");
            return;
        }
    };
    let gives_more = before.profile.settings.permissions != Overrides::default();
    if role.is_none() || (role == Some(Role::Viewer) && !gives_more) {
        assert!(events().all(|event| is_own_membership(event, actor)), "{what} by {role:?}");
    }
    let others_can_moderate = before
        .members
        .iter()
        .any(|(id, member)| *actor != Actor::User(id.clone()) && member.role == Role::Admin);
    if role == Some(Role::Admin) && !others_can_moderate && before.members.len() > 1 {
        let gone = |e: &Event| matches!(e, Event::MemberChanged { change: MemberChange::Left, .. });
        assert!(!events().any(gone), "{what}: the only ADMIN left the others alone");
    }
    if role != Some(Role::Admin) && !gives_more {
        assert!(!events().any(|event| matches!(event, Event::RoomEnded { .. })), "{what} by {role:?}");
    }
}

/// What mutes, slow mode, invitations and permissions promise, whatever was asked.
fn check_rights(before: &Room, actor: &Actor, decision: &Decision, at: Timestamp, what: &str) {
    let events = || decision.events.iter().map(|new| &new.event);
    if let Actor::User(user) | Actor::Tool { asked_by: user, .. } = actor
        && let Some(member) = before.members.get(user)
    {
        let muted = member.muted_until.is_some_and(|until| until > at);
        assert!(!muted || events().all(|event| is_own_membership(event, actor)), "{what} by a muted member");
        let posts = || {
            events().any(|event| matches!(event, Event::MessagePosted(m) if m.author.user() == Some(user)))
        };
        let slow = before.profile.settings.slow_mode;
        let since = before.last_posts.get(user).map(|last| at.since(*last));
        let too_soon =
            !slow.is_zero() && member.role != Role::Admin && since.is_some_and(|since| since < slow);
        assert!(!too_soon || !posts(), "{what} in slow mode");
    }
    for event in events() {
        match event {
            Event::InvitationClosed { id, .. } => assert!(before.invitations[id].is_open(at), "{what}"),
            Event::MemberChanged { member, change: MemberChange::Joined, .. } => {
                let invited = events().any(|event| {
                    matches!(event, Event::InvitationClosed { used_by: Some(user), .. } if *user == member.id)
                });
                let invited_only = before.profile.settings.join_rule == Some(JoinRule::Invited);
                let founder = before.fresh_role(&member.id) == Role::Admin;
                assert!(!invited_only || invited || founder, "{what} without an invitation");
            }
            Event::RoomUpdated(profile) => {
                let (old, new) = (&before.profile.settings, &profile.settings);
                let rights = |s: &Settings| (s.permissions.clone(), s.join_rule, s.slow_mode);
                let is_admin = matches!(actor, Actor::User(user) if before.members[user].role == Role::Admin);
                assert!(is_admin || rights(old) == rights(new), "{what}: rights changed by no ADMIN");
            }
            _ => {}
        }
    }
}

fn is_own_membership(event: &Event, actor: &Actor) -> bool {
    match event {
        Event::RoomActivated => true,
        Event::InvitationClosed { used_by: Some(user), .. } => *actor == Actor::User(user.clone()),
        Event::MemberChanged { member, change, by, .. } => {
            let own = matches!(change, MemberChange::Joined | MemberChange::Updated | MemberChange::Left);
            own && by.is_none() && *actor == Actor::User(member.id.clone())
        }
        _ => false,
    }
}

fn is_about_polls(event: &Event) -> bool {
    match event {
        Event::MessagePosted(message) => message.poll_id.is_some(),
        Event::PollCreated(_)
        | Event::PollVoted(_)
        | Event::VoteRetracted { .. }
        // The closing says it of whoever had to vote and did not.
        | Event::VoteAbstained { .. }
        | Event::PollClosed { .. } => true,
        _ => false,
    }
}

fn is_of_the_server(event: &Event) -> bool {
    match event {
        Event::MessagePosted(message) => message.from_run,
        Event::RunStarted(_)
        | Event::RunEnded { .. }
        | Event::MessageSuperseded { .. }
        | Event::VoteAbstained { .. }
        | Event::ApprovalRequested(_)
        | Event::ApprovalDecided { by: None, .. }
        | Event::ContextSummarised(_)
        | Event::AutopilotChanged(_) => true,
        Event::PollClosed { by, .. } => by.is_none(),
        _ => false,
    }
}

fn name(event: &Event) -> String {
    if let Event::MemberChanged { change, .. } = event {
        return format!("MemberChanged {change:?}");
    }
    let debug = format!("{event:?}");
    debug.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

/// The secret of the invitation that is made when so many ids have been.
pub fn secret(ids: u128) -> Secret {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&ids.to_be_bytes());
    Secret::new(bytes)
}

fn count(ids: &mut u128) -> Uuid {
    *ids += 1;
    Uuid::from_u128(*ids)
}
