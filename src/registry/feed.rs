//! One room's ordered delivery on this node.
//!
//! Everything a session sees of a room goes through one lock here, never held across a wait: events in order,
//! chunks of answers, who is present, and the moment a session starts to listen. So the text so far that a joiner is
//! given and the first chunk after it fit together.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    bus::{Audience, LogBatch, Transient, TransientContent},
    domain::{
        llm::{ActiveAnswer, LiveAnswer},
        permissions::{Action, Least, Overrides, Standing},
        room::{Member, Presence, Visibility},
    },
    ids::{ConnectionId, NodeId, RoomId, Seq, UserId},
    registry::{
        RegistryLimits,
        calendar::{Calendar, Look},
        ours::Ours,
        outbound::{Backlog, Expelled, Outbound},
        pace::Pace,
        presence::{Change, PresenceNews, Present, Session},
        recent::Stretch,
        state::State,
    },
    store::Page,
    wire::{join::ChunkWish, transient},
};

/// Batches kept that came too early; beyond it the hole is read from the store with all that follows.
const EARLY_BATCHES: usize = 64;

/// Whether a batch could be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Yes, or it had been before.
    Done,
    /// Yes, but it waits to be told with others: somebody must `Feed::keep_pace`.
    Waits,
    /// Something before it is missing.
    Hole,
}

/// What a session that starts to listen is told of the present.
#[derive(Debug)]
pub struct Now<'a> {
    /// Who is online, at most as many as are shown.
    pub online: &'a [(UserId, Presence)],
    /// How many users are online.
    pub online_count: usize,
    /// Answers being written, as far as the session is told of them when the next chunk comes.
    pub answers: &'a [ActiveAnswer],
}

/// The delivery of one room.
#[derive(Debug)]
pub struct Feed {
    room: RoomId,
    pub(super) limits: RegistryLimits,
    state: Mutex<State>,
    /// Held from a change of presence until it has been told, so that nobody hears of a coming before the going.
    /// Taken before `state`, never after.
    telling: Mutex<()>,
    /// Something is due before `State::timer`.
    pub(super) sooner: Notify,
    /// Events were delivered; for the one who waits in [`Feed::beyond`].
    moved: Notify,
}

impl Feed {
    /// The delivery of a room behind `head`; `calendar` hears when it is to be looked at.
    pub(super) fn new(room: RoomId, head: Seq, limits: RegistryLimits, calendar: Arc<Calendar>) -> Self {
        let state = State::new(head, Look::new(calendar, room.clone()));
        Self {
            room,
            limits,
            state: Mutex::new(state),
            telling: Mutex::new(()),
            sooner: Notify::new(),
            moved: Notify::new(),
        }
    }

    /// This delivery on a node among others, which has taken up rooms `opening` times.
    pub(super) fn among_others(self, node: NodeId, opening: u64) -> Self {
        {
            let mut state = self.lock();
            state.present = Present::on(node);
            state.ours = Some(Ours::new(node, opening));
        }
        self
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps changes of presence and the telling of them in one order, as long as the guard is held.
    pub fn telling(&self) -> MutexGuard<'_, ()> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which room.
    pub fn room(&self) -> &RoomId {
        &self.room
    }

    /// The last position delivered.
    pub fn delivered(&self) -> Seq {
        self.lock().delivered
    }

    /// Waits until something behind this position was delivered. For one who waits at a time; cancel-safe.
    pub async fn beyond(&self, seq: Seq) {
        while self.delivered() <= seq {
            self.moved.notified().await;
        }
    }

    /// How many sessions listen.
    pub fn session_count(&self) -> usize {
        self.lock().present.sessions().len()
    }

    /// How many users are online, on all nodes.
    pub fn online_count(&self) -> usize {
        self.lock().present.user_count()
    }

    /// What waits for the session that reads most slowly.
    pub fn largest_backlog(&self) -> Backlog {
        let state = self.lock();
        let backlogs = state.present.sessions().iter().map(|session| session.outbound.backlog());
        backlogs.max_by_key(|backlog| backlog.bytes).unwrap_or_default()
    }

    /// Who is online, on all nodes; at most `max`.
    pub fn online(&self, max: usize) -> Vec<(UserId, Presence)> {
        self.lock().online(max)
    }

    /// How these users are shown.
    pub fn presence_of<'a>(&self, users: impl IntoIterator<Item = &'a UserId>) -> Vec<Presence> {
        let state = self.lock();
        users.into_iter().map(|user| state.present.presence(user)).collect()
    }

    /// Whether joins and leaves are told one by one.
    pub fn tells_everybody(&self) -> bool {
        self.lock().present.user_count() <= self.limits.participants_shown
    }

    /// Answers that are being written, with what has come of them.
    pub fn answers(&self) -> Vec<LiveAnswer> {
        self.lock().answers.whole().cloned().collect()
    }

    /// The shortest time between two chunks that a session here wants; `None`: nobody is here.
    pub fn shortest_interval(&self) -> Option<std::time::Duration> {
        self.lock().answers.shortest()
    }

    /// Takes answers that are running when the room is loaded.
    pub fn running(&self, answers: Vec<LiveAnswer>) {
        let mut state = self.lock();
        for answer in answers {
            // Where it began is in the log, which nobody has read to here.
            state.answers.begin(ActiveAnswer { answer, seq: Seq::default() });
        }
    }

    /// Lets a session listen: `start` is called with the present and the last position delivered, and must call
    /// [`Outbound::start`]. Nothing is delivered in between. The oldest sessions of a user who has too many are
    /// asked to end.
    pub fn enter(
        &self,
        connection: ConnectionId,
        member: &Member,
        outbound: &Arc<Outbound>,
        wish: ChunkWish,
        start: impl FnOnce(Now<'_>, Seq),
    ) -> PresenceNews {
        let pace = Pace::of(wish, self.limits.chunk_interval);
        let mut state = self.lock();
        state.flush();
        let change = state.present.enter(Session {
            connection,
            user: member.id.clone(),
            outbound: Arc::clone(outbound),
            standing: member.standing(),
            pace,
        });
        state.keep_member(member);
        state.say_of(&member.id, self.limits);
        state.end_oldest(&member.id, self.limits);
        state.answers.enter(pace);
        let answers = state.answers.as_told(pace);
        let online = state.online(self.limits.participants_shown);
        let now = Now { online: &online, online_count: state.present.user_count(), answers: &answers };
        start(now, state.delivered);
        state.news(change, self.limits)
    }

    /// What decides whether the user behind a connection may do this now, which must not depend on the visibility of the
    /// room; `None`: the session has ended.
    pub fn rights(&self, connection: ConnectionId, action: Action) -> Option<(Standing, Least)> {
        let state = self.lock();
        Some((state.present.standing(connection)?, state.permissions.least(action, Visibility::Public)))
    }

    /// Sets who may do what, where it is not the usual; later changes are heard with the log.
    pub fn permit(&self, permissions: Overrides) {
        self.lock().permissions = permissions;
    }

    /// Tells the session behind this queue, which was behind, what holds now. One that has left is told nothing.
    pub fn resync(&self, outbound: &Outbound, start: impl FnOnce(Now<'_>)) {
        let mut state = self.lock();
        let Some(pace) = state.present.pace_of(outbound) else {
            return;
        };
        state.flush();
        let answers = state.answers.as_told(pace);
        let online = state.online(self.limits.participants_shown);
        start(Now { online: &online, online_count: state.present.user_count(), answers: &answers });
    }

    /// Removes a session; `None`: it was not there.
    pub fn exit(&self, connection: ConnectionId) -> Option<(UserId, PresenceNews)> {
        let mut state = self.lock();
        let (user, pace, change) = state.present.exit(connection)?;
        state.answers.leave(pace);
        state.say_of(&user, self.limits);
        let news = state.news(change, self.limits);
        Some((user, news))
    }

    /// Sets how a connection is.
    pub fn set_presence(
        &self,
        connection: ConnectionId,
        presence: Presence,
    ) -> Option<(UserId, PresenceNews)> {
        let mut state = self.lock();
        let (user, before, after) = state.present.set(connection, presence)?;
        state.say_of(&user, self.limits);
        let news = state.news(Change::Connection { before, after }, self.limits);
        Some((user, news))
    }

    /// Asks every session to end.
    pub fn expel_all(&self, why: Expelled) {
        for session in self.lock().present.sessions() {
            session.outbound.expel(why);
        }
    }

    /// Delivers events in order, or keeps them until what is before them has come.
    pub fn deliver(&self, batch: LogBatch) -> Delivery {
        self.take(batch, self.limits)
    }

    /// Delivers what was read from the store for all sessions: it is late already.
    pub(super) fn deliver_missed(&self, batch: LogBatch) {
        self.take(batch, RegistryLimits { linger: Duration::ZERO, ..self.limits });
    }

    fn take(&self, batch: LogBatch, limits: RegistryLimits) -> Delivery {
        let mut state = self.lock();
        if batch.last <= state.delivered {
            return Delivery::Done;
        }
        if batch.first != state.delivered.next() {
            if batch.first > state.delivered && state.early.len() < EARLY_BATCHES {
                state.early.insert(batch.first, batch);
            }
            return Delivery::Hole;
        }
        state.hand_out(&batch, limits);
        state.hand_out_early(limits);
        self.moved.notify_one();
        if !state.early.is_empty() {
            // Whoever reads what is missing delivers it here.
            state.flush();
            return Delivery::Hole;
        }
        match state.linger.due() {
            Some(due) if self.wake_at(&mut state, due) => Delivery::Waits,
            Some(_) | None => Delivery::Done,
        }
    }

    /// Tells what was gathered, for somebody who will not be there when it is due.
    pub fn tell_gathered(&self) {
        self.lock().flush_gathered();
    }

    /// Takes note that the log reaches a position. True: something is missing here.
    pub fn reaches(&self, seq: Seq) -> bool {
        let mut state = self.lock();
        state.told = state.told.max(seq);
        seq > state.delivered
    }

    /// Delivers something that is not stored. True: text of an answer waits, and somebody must keep its pace.
    #[must_use]
    pub(super) fn deliver_transient(&self, transient: &Transient) -> bool {
        match &transient.content {
            TransientContent::Chunk { message_id, offset, text } => {
                return self.deliver_chunk(transient, (*message_id, *offset, text));
            }
            TransientContent::Error { .. } | TransientContent::Other => {}
        }
        let mut state = self.lock();
        // What was said before is heard before; for one user alone nothing is hurried.
        if !matches!(transient.audience, Audience::Users(_)) {
            state.flush_gathered();
        }
        for session in state.present.sessions() {
            let reaches = match &transient.audience {
                Audience::Room => true,
                Audience::Others(user) => &session.user != user,
                Audience::OtherConnections(connection) => &session.connection != connection,
                Audience::Users(users) => users.contains(&session.user),
            };
            if reaches {
                session.outbound.push_transient(transient.frame_for(session.outbound.dialect()));
            }
        }
        false
    }

    /// What follows `after`, if it is all in memory still.
    pub fn recent(&self, after: Seq, page: Page) -> Option<Vec<Stretch>> {
        self.lock().recent.behind(after, page)
    }

    /// Tells what was merged since the last time, and forgets what was kept long enough. Called about a second after it is due
    /// at the latest, where there are not very many rooms.
    pub(super) fn look(&self) {
        let mut state = self.lock();
        state.look.begun();
        if let Some(at) = state.recent.forget_old(Instant::now()) {
            state.look.by(at);
        }
        state.flush();
        if std::mem::take(&mut state.occupancy_changed) {
            let frame = transient::occupancy(state.present.user_count());
            for session in state.present.sessions() {
                session.outbound.push_transient(&frame);
            }
        }
    }
}

#[cfg(test)]
mod tests;
