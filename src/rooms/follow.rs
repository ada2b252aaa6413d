//! What is in the log and not in a room's state: what other processes have appended, and what became of an append that
//! was not answered.
//!
//! A state that is behind is moved on with the events behind it, page by page; nothing before them is read again. Only
//! when they do not continue it, or the store fails, it is given up and the room is loaded anew. Whoever follows commits
//! ([`super::AfterCommit`]) is told of every event once and in the order of the log, whichever way it was read: up to
//! `heard` it was, and what is behind that was decided here if its id is among `own`, else by another process.
//!
//! Of an append that failed behind its write nobody knows whether it was carried out, until it is found here. One that
//! is not found may still be on its way, so its id is kept for a while: whoever decided it is the one who acts on it.
//! When reading fails the room stays unread, and is tried again; nothing is told twice by that.

use crate::{
    domain::{apply, event::Recorded, rejection::Rejection, room::Room},
    ids::Seq,
    rooms::{AfterCommit as _, chain, load, refused, worker::Worker},
    store::Error,
};

/// Ids of events that were decided here and are not found: those of a few of the largest groups.
const OWN: usize = 4096;
/// Groups that come out as expected before a room is taken for one that nobody else writes to: a copy of it for each
/// costs a large room more than to be loaded anew once in so many.
const KEEPS_BEFORE: u32 = 64;

impl Worker {
    /// Whether another process is known to have appended to the log: what was delivered here is not in the state.
    pub(super) fn is_behind(&self) -> bool {
        let delivered = self.feed.as_ref().map_or(Seq::ZERO, |feed| feed.delivered());
        self.group.is_empty() && self.state.as_ref().is_some_and(|room| room.seq < delivered)
    }

    /// Asks the store how far the log reaches, and moves the state on to there. Whether that changed it.
    pub(super) async fn catch_up(&mut self) -> Result<bool, Rejection> {
        let moved = match self.state.as_ref().map(|room| room.seq) {
            None => self.load().await.map(|()| true)?,
            Some(at) => {
                let head = self.rooms.store().head(&self.id).await;
                let head = head.map_err(|error| refused(&self.id, &error))?;
                let moved = head.is_some_and(|head| head.seq > at);
                if moved {
                    self.follow().await?;
                }
                moved
            }
        };
        self.looked = true;
        Ok(moved)
    }

    /// Moves the state on to the end of the log.
    pub(super) async fn follow(&mut self) -> Result<(), Rejection> {
        // Whatever goes wrong meanwhile, it is read anew.
        let Some(mut room) = self.state.take() else {
            return self.load().await;
        };
        loop {
            match self.next_page(&mut room).await {
                Ok(Page::End) => break,
                Ok(Page::More { events, is_last }) => {
                    let others = self.tell(&room, &events);
                    // Whoever has committed them saves a snapshot for them.
                    self.saved = self.saved.plus(others).min(room.seq);
                    if is_last {
                        break;
                    }
                }
                Ok(Page::Elsewhere) => {
                    tracing::warn!(room = %self.id, at = %room.seq, "the log does not go on where the state ends");
                    return self.load().await;
                }
                Err(error) => return Err(refused(&self.id, &error)),
            }
        }
        let end = room.seq;
        self.state = Some(room);
        if let Some(feed) = self.feed.as_ref().filter(|feed| feed.delivered() < end) {
            self.rooms.registry().fill(feed);
        }
        Ok(())
    }

    async fn next_page(&self, room: &mut Room) -> Result<Page, Error> {
        let store = self.rooms.store().as_ref();
        let records = store.read(&self.id, room.seq, load::PAGE).await?;
        if records.is_empty() {
            return Ok(Page::End);
        }
        // What was read had an end of its own, unless the page was nearly full.
        let bytes: usize = records.iter().map(|record| record.public.len()).sum();
        let is_last = records.len() < load::PAGE.events && bytes < load::PAGE.bytes / 2;
        let mut events = Vec::with_capacity(records.len());
        for record in &records {
            if record.seq != room.seq.next() {
                return Ok(Page::Elsewhere);
            }
            let recorded = load::recorded(store, record)?;
            apply::apply(room, &recorded);
            chain::read(room, record);
            events.push(recorded);
        }
        Ok(Page::More { events, is_last })
    }

    /// Tells what a room that was read anew has that was not told yet.
    pub(super) async fn hear(&mut self, room: &Room) -> Result<(), Error> {
        while self.heard < room.seq {
            let store = self.rooms.store().as_ref();
            let records = store.read(&self.id, self.heard, load::PAGE).await?;
            let within = records.iter().take_while(|record| record.seq <= room.seq);
            let events = within.map(|record| load::recorded(store, record)).collect::<Result<Vec<_>, _>>()?;
            if events.is_empty() {
                break;
            }
            self.tell(room, &events);
        }
        Ok(())
    }

    /// Tells events that were read; returns how many of them others have committed. `room` is what they leave behind,
    /// or what follows from still more.
    fn tell(&mut self, room: &Room, events: &[Recorded]) -> u64 {
        let mut others = 0;
        let observer = &self.rooms.0.after_commit;
        for stretch in
            events.chunk_by(|a, b| self.own.contains(&a.event_id) == self.own.contains(&b.event_id))
        {
            let is_own = stretch.first().is_some_and(|first| self.own.contains(&first.event_id));
            match is_own {
                true => observer.committed(room, stretch),
                false => observer.followed(room, stretch),
            }
            if let Some(last) = stretch.last().filter(|_| !is_own) {
                self.rooms.0.clocks.compare(last.at, self.rooms.clock().now());
                others += u64::try_from(stretch.len()).unwrap_or(u64::MAX);
            }
        }
        for recorded in events {
            self.own.remove(&recorded.event_id);
        }
        self.heard = events.last().map_or(self.heard, |last| last.seq);
        if others > 0 {
            self.keeps_before = KEEPS_BEFORE;
        }
        others
    }

    /// Tells what was committed here, and is in the state already.
    pub(super) fn told(&mut self, events: &[Recorded]) {
        let (Some(room), Some(last)) = (&self.state, events.last()) else {
            return self.expect_own(events);
        };
        self.rooms.0.after_commit.committed(room, events);
        self.heard = last.seq;
    }

    /// Keeps in mind that these were decided here: they are told when they are found in the log.
    pub(super) fn expect_own<'a>(&mut self, events: impl IntoIterator<Item = &'a Recorded>) {
        if self.own.len() > OWN {
            self.own.clear();
        }
        self.own.extend(events.into_iter().map(|recorded| recorded.event_id));
    }
}

/// What is behind a state.
enum Page {
    /// Events, which are in the state now.
    More {
        /// In order; never empty.
        events: Vec<Recorded>,
        /// The log ended behind them.
        is_last: bool,
    },
    /// Nothing.
    End,
    /// Something that does not continue it.
    Elsewhere,
}
