//! Commands of a room, decided one after the other and appended together.

use uuid::Uuid;

use crate::{
    auth::secret,
    bus::BusMessage,
    domain::{
        command::{Actor, Command, RunOutcome},
        decide::{self, Context, Decision, Facts, Lookup},
        event::Recorded,
        invitation::Secret,
        llm::{RunEnd, RunReport},
        rejection::{Code, Rejection},
    },
    ids::Seq,
    rooms::{
        AfterCommit as _, Used, chain,
        commit::{self, Entry, Then},
        history, refused,
        task::{Done, Entering, Reply},
        worker::Worker,
    },
    store::{Append, Idempotency, Outcome, Receipt},
    wire::reply,
};

/// Tries of a command whose fence another node moved, each on a state read anew.
const TRIES: usize = 4;
/// Tries of a group with a command of the server, for which nobody asks again. Against one other node that is as quick
/// each try is the toss of a coin, against three it is won once in four times: all of so many are lost one time in a
/// hundred even then.
const SERVER_TRIES: usize = 16;

impl Worker {
    /// Decides a command and adds it to the group, or answers at once.
    pub(super) async fn decide(
        &mut self,
        actor: Actor,
        command: Command,
        idempotency: Option<Idempotency>,
        then: Then,
    ) {
        let ends = matches!(command, Command::EndRoom { .. });
        let decided = match self.try_decide(&actor, &command).await {
            Ok(decision) if !decision.events.is_empty() && !ends => Ok(decision),
            judged => {
                // Nothing changes, or it is refused: perhaps because this is a repeat, perhaps because of commands
                // before it that are not stored yet. An end takes the answers with it, which are stored for
                // themselves: it must be known before that it is no repeat.
                let stood = self.commit().await;
                if let Some(first) = self.first_result(idempotency.as_ref()).await {
                    return self.done(then, first);
                }
                match if stood { self.has_moved_on().await } else { Ok(true) } {
                    Ok(false) => judged,
                    Ok(true) => self.decide_now(&actor, &command).await,
                    // What others have made of it is not known: neither is what it comes to.
                    Err(rejection) => Err(rejection),
                }
            }
        };
        match decided {
            Ok(decision) if decision.events.is_empty() => {
                self.done(then, Ok(Done::NOTHING));
            }
            Ok(decision) => {
                if let Err(rejection) = self.charge(&then) {
                    return self.done(then, Err(rejection));
                }
                let decision = if ends {
                    Box::pin(self.keep_answers(&actor, &command, decision)).await
                } else {
                    decision
                };
                self.add(actor, command, decision, idempotency, then);
            }
            Err(rejection) => self.done(then, Err(rejection)),
        }
    }

    /// Whether what others have committed has changed the state: what it refuses must not have been allowed by that.
    /// What was acknowledged before a task came is seen by one look for all that came together.
    async fn has_moved_on(&mut self) -> Result<bool, Rejection> {
        if self.looked || !self.rooms.store().is_shared() {
            return Ok(false);
        }
        Box::pin(self.catch_up()).await
    }

    /// Takes the price of a join that makes a member or changes one.
    fn charge(&self, then: &Then) -> Result<(), Rejection> {
        match (then, &self.state) {
            (Then::Join(task), Some(room)) => {
                let is_member = room.members.contains_key(&task.join.user_id);
                task.charge.take(if is_member { Entering::Changed } else { Entering::New })
            }
            (Then::Join(_) | Then::Reply(_), _) => Ok(()),
        }
    }

    /// Ends the answers of a room that is about to end with what they have said; the end is then decided anew.
    async fn keep_answers(&mut self, actor: &Actor, end: &Command, decided: Decision) -> Decision {
        let answers = self.feed.as_ref().map(|feed| feed.answers()).unwrap_or_default();
        for answer in answers {
            let used = self.rooms.0.after_commit.used(&self.id, answer.message_id);
            let Used { report, outside } = used.unwrap_or_default();
            let duration = self.rooms.clock().now().since(answer.started_at).as_millis();
            let report = RunReport {
                duration_ms: u32::try_from(duration).unwrap_or(u32::MAX),
                detail: "the room ended".into(),
                ..report
            };
            let outcome = RunOutcome {
                message_id: answer.message_id,
                end: RunEnd::Interrupted,
                text: answer.text,
                mentions: Vec::new(),
                outside,
                report,
            };
            let finish = Command::FinishRun(outcome);
            if let Ok(decision) = self.decide_now(&Actor::Server, &finish).await {
                self.add(Actor::Server, finish, decision, None, Then::Reply(Reply::Nobody));
            }
        }
        self.decide_now(actor, end).await.unwrap_or(decided)
    }

    async fn try_decide(&mut self, actor: &Actor, command: &Command) -> Result<Decision, Rejection> {
        if self.lookup(command).is_some() {
            // What is about to be appended may be about the same message.
            self.commit().await;
        }
        self.decide_now(actor, command).await
    }

    fn lookup(&self, command: &Command) -> Option<Lookup> {
        decide::lookup(self.state.as_ref()?, command)
    }

    /// Decides on the state as it is.
    async fn decide_now(&self, actor: &Actor, command: &Command) -> Result<Decision, Rejection> {
        let facts = match self.lookup(command) {
            Some(lookup) => self.facts(lookup).await?,
            None => Facts::default(),
        };
        let room = self.state.as_ref().ok_or_else(reply::unavailable)?;
        let secret = if decide::needs_secret(command) { Some(fresh_secret()?) } else { None };
        let mut context = Context {
            secret,
            at: self.rooms.clock().now(),
            limits: &self.rooms.limits().domain,
            facts: &facts,
            new_id: &mut Uuid::now_v7,
        };
        decide::decide(room, actor, command.clone(), &mut context)
    }

    async fn facts(&self, lookup: Lookup) -> Result<Facts, Rejection> {
        let store = self.rooms.store().as_ref();
        let failed = |error| refused(&self.id, &error);
        Ok(match lookup {
            Lookup::Message(id) => {
                Facts { message: history::message(store, &self.id, id).await.map_err(failed)?, poll: None }
            }
            Lookup::Poll(id) => {
                Facts { message: None, poll: history::poll(store, &self.id, id).await.map_err(failed)? }
            }
        })
    }

    fn add(
        &mut self,
        actor: Actor,
        command: Command,
        decision: Decision,
        idempotency: Option<Idempotency>,
        then: Then,
    ) {
        let Some(room) = &mut self.state else {
            return self.done(then, Err(reply::unavailable()));
        };
        if self.group.is_empty() && self.keeps_before > 0 {
            self.before = Some(Box::new(room.clone()));
        }
        // A repeat earlier in the group will not be appended again. What was decided on its effects must not be
        // appended either: it is then decided anew.
        let after_repeatable = self.group.iter().any(Entry::may_be_a_repeat_that_matters);
        let fence = (decision.fenced || after_repeatable).then_some(room.fence);
        let at = self.rooms.clock().now();
        let asides = decision.asides;
        let (recorded, records, directory) = commit::apply_and_encode(room, decision.events, at);
        let node = self.rooms.identity().now();
        let append = Append { records, fence, idempotency, directory, node };
        self.group.push(Entry { actor, command, recorded, append, asides, then });
    }

    /// What a repeated command came to the first time, if it is one.
    async fn first_result(&self, idempotency: Option<&Idempotency>) -> Option<Result<Done, Rejection>> {
        let key = idempotency?;
        match self.rooms.store().request(&self.id, &key.sender, &key.request_id).await {
            Ok(Some((receipt, hash))) if hash == key.body_hash => Some(Ok(done(receipt, true))),
            Ok(Some(_)) => Some(Err(reused())),
            Ok(None) => None,
            Err(error) => Some(Err(refused(&self.id, &error))),
        }
    }

    /// Appends the group, answers, and publishes. False: the state that it was decided on did not hold.
    pub(super) async fn commit(&mut self) -> bool {
        let mut group = std::mem::take(&mut self.group);
        let (mut stood, mut tries) = (true, 0);
        while tries < most_tries(&group) {
            if group.is_empty() {
                return stood;
            }
            tries += 1;
            let appends = group.iter().map(|entry| entry.append.clone()).collect();
            match self.rooms.store().append(&self.id, appends).await {
                Ok(outcomes) => {
                    let (again, as_expected) = self.settle(group, outcomes).await;
                    group = again;
                    stood &= as_expected;
                }
                Err(error) => {
                    self.expect_own(group.iter().flat_map(|entry| &entry.recorded));
                    for entry in group {
                        self.done(entry.then, Err(refused(&self.id, &error)));
                    }
                    // Whether they were appended is found out by reading the log, not guessed.
                    (self.state, self.before) = (None, None);
                    let _ = self.ensure_loaded().await;
                    return false;
                }
            }
        }
        if !group.is_empty() {
            // Decided again and again, and applied each time, but never appended.
            self.state = self.before.take().map(|before| *before);
        }
        for entry in group {
            self.done(entry.then, Err(reply::unavailable()));
        }
        false
    }

    /// Answers what was appended; returns what must be decided again, on the state read anew, and whether everything
    /// came out as expected.
    async fn settle(&mut self, group: Vec<Entry>, outcomes: Vec<Outcome>) -> (Vec<Entry>, bool) {
        let mut batches = commit::Batches::default();
        let mut committed: Vec<Recorded> = Vec::new();
        let (mut joins, mut again) = (Vec::new(), Vec::new());
        let mut as_expected = true;
        let mut link = self.state.as_ref().and_then(|room| room.chain);
        for (entry, outcome) in group.into_iter().zip(outcomes) {
            let result = match outcome {
                Outcome::Appended(receipt) => {
                    as_expected &= entry.recorded.first().is_some_and(|first| first.seq == receipt.first);
                    let positions = (receipt.first.0..=receipt.last.0).map(Seq);
                    for ((seq, record), recorded) in positions.zip(&entry.append.records).zip(entry.recorded)
                    {
                        let recorded = Recorded { seq, ..recorded };
                        batches.push(seq, record, &recorded);
                        link = link.map(|link| chain::appended(&link, record));
                        committed.push(recorded);
                    }
                    Ok(Done { asides: entry.asides, ..done(receipt, false) })
                }
                Outcome::Duplicate(receipt) => {
                    as_expected = false;
                    Ok(done(receipt, true))
                }
                Outcome::Reused => {
                    as_expected = false;
                    Err(reused())
                }
                Outcome::FenceMoved(_) => {
                    as_expected = false;
                    again.push(entry);
                    continue;
                }
            };
            match (&entry.then, &result) {
                // Who comes in is told of a room in which all of this has happened.
                (Then::Join(_), Ok(_)) => joins.push((entry.then, result)),
                // The sender's ack goes out before the event itself.
                (Then::Join(_) | Then::Reply(_), _) => self.done(entry.then, result),
            }
        }
        for batch in batches.finish() {
            self.rooms.registry().bus().publish(&self.id, BusMessage::Log(batch));
        }
        let before = self.before.take();
        if as_expected {
            self.keeps_before = self.keeps_before.saturating_sub(1);
            if let Some(room) = &mut self.state {
                room.chain = link;
            }
            self.told(&committed);
        } else {
            self.expect_own(&committed);
            self.state = before.map(|before| *before);
            let _ = Box::pin(self.follow()).await;
        }
        for (then, result) in joins {
            self.done(then, result);
        }
        let again = if again.is_empty() { again } else { Box::pin(self.decide_again(again)).await };
        (again, as_expected)
    }

    async fn decide_again(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        for entry in entries {
            let idempotency = entry.append.idempotency;
            match self.decide_now(&entry.actor, &entry.command).await {
                Ok(decision) if !decision.events.is_empty() => {
                    self.add(entry.actor, entry.command, decision, idempotency, entry.then);
                }
                Ok(_) => self.done(entry.then, Ok(Done::NOTHING)),
                Err(rejection) => self.done(entry.then, Err(rejection)),
            }
        }
        std::mem::take(&mut self.group)
    }
}

/// How often a group is tried.
fn most_tries(group: &[Entry]) -> usize {
    if group.iter().any(|entry| matches!(entry.actor, Actor::Server)) { SERVER_TRIES } else { TRIES }
}

fn done(receipt: Receipt, duplicate: bool) -> Done {
    Done {
        events: Some((receipt.first, receipt.last, receipt.event_id)),
        duplicate,
        // Nobody is told again what was told to nobody else.
        asides: Vec::new(),
    }
}

/// What lets somebody in.
fn fresh_secret() -> Result<Secret, Rejection> {
    let random = secret::random_bytes().map_err(|error| {
        tracing::error!(%error, "the system gives no random bytes");
        Rejection::new(Code::Internal, "the server could not make a secret")
    })?;
    Ok(Secret::new(random))
}

fn reused() -> Rejection {
    Rejection {
        field: Some("request_id"),
        ..Rejection::new(Code::RequestIdReused, "this request_id was used for another command")
    }
}
