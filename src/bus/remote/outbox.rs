//! What waits to be sent: bounded in messages and in bytes.
//!
//! What does not fit is lost, and counted. Of lost events it is remembered how far their log reaches: that is sent
//! as soon as there is room again, so that other nodes read the store at once and not at their next look at it.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::mpsc, time::Instant};

use super::tally::Tally;
use crate::{
    bus::{BusMessage, TransientContent},
    ids::{NodeId, RoomId, Seq},
    wire::hint::{
        codec,
        presence::{PresenceHint, Said},
    },
};

/// Messages that wait.
const QUEUE: usize = 8192;
/// Their bytes.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// Rooms of which it is remembered how far their logs reach; others are found by looking at the store.
const BEHIND: usize = 16_384;
/// Something that is not stored is of no use to anybody after so long.
const FRESH: Duration = Duration::from_secs(2);

/// The way in; the way out is a [`Queue`].
#[derive(Debug)]
pub(super) struct Outbox {
    sender: mpsc::Sender<Waiting>,
    bytes: AtomicUsize,
    /// Events up to here were lost.
    behind: Mutex<HashMap<RoomId, Seq>>,
    pub(super) unsent: Tally,
    pub(super) too_large: Tally,
}

/// A message that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) room: RoomId,
    pub(super) message: BusMessage,
    since: Instant,
}

/// The way out of an [`Outbox`].
pub(super) type Queue = mpsc::Receiver<Waiting>;

impl Outbox {
    pub(super) fn new() -> (Self, Queue) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let outbox = Self {
            sender,
            bytes: AtomicUsize::new(0),
            behind: Mutex::default(),
            unsent: Tally::default(),
            too_large: Tally::default(),
        };
        (outbox, queue)
    }

    /// Lets a message wait for its turn.
    pub(super) fn push(&self, room: &RoomId, message: &BusMessage) {
        let bytes = size(message);
        // While the server is away, what every room says again and again must not take the place of events.
        if !is_said_again(message) || self.sender.capacity() > QUEUE / 2 {
            if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= QUEUE_BYTES {
                let waiting = Waiting { room: room.clone(), message: message.clone(), since: Instant::now() };
                match self.sender.try_send(waiting) {
                    Ok(()) => return,
                    Err(mpsc::error::TrySendError::Full(_) | mpsc::error::TrySendError::Closed(_)) => {}
                }
            }
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.lost(room, message, "the bus is slower than this node");
    }

    /// Notes that a message was not sent.
    pub(super) fn lost(&self, room: &RoomId, message: &BusMessage, why: &str) {
        if let Some(count) = self.unsent.add() {
            tracing::warn!(why, count, "messages to other nodes were not sent: events come from the store");
        }
        let reaches = match message {
            BusMessage::Log(batch) => batch.last,
            BusMessage::Reaches(seq) => *seq,
            // Whoever has sent it sends it again; what was lost of presence is noticed at the next renewal.
            BusMessage::Transient(_) | BusMessage::Interrupt(_) | BusMessage::Presence(_) => return,
        };
        let mut behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        if behind.len() < BEHIND || behind.contains_key(room) {
            let known = behind.entry(room.clone()).or_insert(reaches);
            *known = reaches.max(*known);
        }
    }

    /// Takes what is to be sent out of the count of what waits; leaves out what has become useless.
    pub(super) fn taken(&self, waiting: Vec<Waiting>) -> Vec<(RoomId, BusMessage)> {
        let bytes = waiting.iter().map(|waiting| size(&waiting.message)).sum();
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        waiting
            .into_iter()
            .filter(|waiting| !grows_old(&waiting.message) || waiting.since.elapsed() < FRESH)
            .map(|waiting| (waiting.room, waiting.message))
            .collect()
    }

    /// How far logs reach of which events were lost.
    pub(super) fn take_behind(&self) -> Vec<(RoomId, BusMessage)> {
        let behind = std::mem::take(&mut *self.behind.lock().unwrap_or_else(PoisonError::into_inner));
        behind.into_iter().map(|(room, seq)| (room, BusMessage::Reaches(seq))).collect()
    }

    /// A message as bytes, or what stands for one that is larger than `largest`; `None`: nothing does.
    pub(super) fn encode(
        &self,
        node: NodeId,
        room: &RoomId,
        message: &BusMessage,
        largest: usize,
    ) -> Option<Bytes> {
        let bytes = codec::encode(node, room, message);
        if bytes.len() <= largest.min(codec::MAX_BYTES) {
            return Some(bytes);
        }
        if let Some(count) = self.too_large.add() {
            let bytes = bytes.len();
            tracing::warn!(%room, bytes, largest, count, "messages are larger than the bus takes: other nodes read the store");
        }
        match message {
            BusMessage::Log(batch) => Some(codec::encode(node, room, &BusMessage::Reaches(batch.last))),
            // The stored message has the whole text, and a page of presence is never so large.
            BusMessage::Reaches(_)
            | BusMessage::Transient(_)
            | BusMessage::Interrupt(_)
            | BusMessage::Presence(_) => None,
        }
    }
}

/// Renewals and questions: the next one says as much.
fn is_said_again(message: &BusMessage) -> bool {
    matches!(message, BusMessage::Presence(PresenceHint { said: Said::Same | Said::Ask(_), .. }))
}

/// Whether it is of no use after [`FRESH`].
fn grows_old(message: &BusMessage) -> bool {
    matches!(message, BusMessage::Transient(_)) || is_said_again(message)
}

fn size(message: &BusMessage) -> usize {
    match message {
        BusMessage::Log(batch) => batch.frames.len() + 64 * batch.notes.len(),
        BusMessage::Reaches(_) => 16,
        // Ids are short.
        BusMessage::Interrupt(_) => 256,
        BusMessage::Transient(transient) => {
            let content = match &transient.content {
                TransientContent::Chunk { text, .. } => text.len(),
                TransientContent::Error { original } => original.len(),
                TransientContent::Other => 0,
            };
            transient.frame.len() + content
        }
        BusMessage::Presence(hint) => hint.size(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::{Audience, LogBatch, Transient};

    fn room(n: usize) -> RoomId {
        RoomId::parse(&format!("room-{n}")).unwrap()
    }

    fn batch(last: u64, bytes: usize) -> BusMessage {
        let frames = vec![0; bytes].into();
        BusMessage::Log(LogBatch { first: Seq(last), last: Seq(last), frames, notes: [].into() })
    }

    fn transient() -> BusMessage {
        let frame = Bytes::from_static(&[0; 6]);
        BusMessage::Transient(Transient { frame, audience: Audience::Room, content: TransientContent::Other })
    }

    fn presence(said: Said) -> BusMessage {
        BusMessage::Presence(PresenceHint { node: NodeId::NOBODY, opening: 1, version: 1, said })
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_is_counted_and_told_of_later() {
        let (outbox, mut queue) = Outbox::new();
        for n in 0..QUEUE {
            outbox.push(&room(0), &batch(1 + n as u64, 1));
        }
        assert_eq!(outbox.unsent.total(), 0);
        outbox.push(&room(1), &batch(9, 1));
        outbox.push(&room(1), &batch(7, 1));
        outbox.push(&room(1), &transient());
        assert_eq!(outbox.unsent.total(), 3);
        let mut waiting = Vec::new();
        queue.recv_many(&mut waiting, QUEUE).await;
        assert_eq!(outbox.taken(waiting).len(), QUEUE);
        assert_eq!(outbox.take_behind(), [(room(1), BusMessage::Reaches(Seq(9)))]);
        assert_eq!(outbox.take_behind(), []);
        // Bytes are bounded, too, and there is room again for all of them.
        for n in 1..=4 {
            outbox.push(&room(2), &batch(n, QUEUE_BYTES / 4));
        }
        outbox.push(&room(2), &batch(5, 1));
        assert_eq!(outbox.unsent.total(), 4);
        let mut waiting = Vec::new();
        queue.recv_many(&mut waiting, QUEUE).await;
        assert_eq!(outbox.taken(waiting).len(), 4);
        assert_eq!(outbox.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_stored_grows_old() {
        let (outbox, mut queue) = Outbox::new();
        outbox.push(&room(0), &transient());
        outbox.push(&room(0), &batch(1, 1));
        [Said::Same, Said::Ask(None), Said::Closed]
            .into_iter()
            .for_each(|s| outbox.push(&room(0), &presence(s)));
        tokio::time::advance(FRESH).await;
        outbox.push(&room(0), &transient());
        outbox.push(&room(0), &presence(Said::Same));
        let mut waiting = Vec::new();
        queue.recv_many(&mut waiting, QUEUE).await;
        let sent: Vec<BusMessage> = outbox.taken(waiting).into_iter().map(|(_, message)| message).collect();
        assert_eq!(sent, [batch(1, 1), presence(Said::Closed), transient(), presence(Said::Same)]);
    }

    #[test]
    fn what_is_said_again_and_again_leaves_room_for_events() {
        let (outbox, _queue) = Outbox::new();
        (0..QUEUE).for_each(|_| outbox.push(&room(0), &presence(Said::Same)));
        assert_eq!(outbox.unsent.total(), QUEUE as u64 / 2);
        (0..QUEUE / 2).for_each(|n| outbox.push(&room(1), &batch(1 + n as u64, 1)));
        assert_eq!((outbox.unsent.total(), outbox.take_behind()), (QUEUE as u64 / 2, vec![]));
    }

    #[test]
    fn what_is_too_large_becomes_a_hint() {
        let (outbox, _queue) = Outbox::new();
        let node = NodeId::random();
        let encode = |message: &BusMessage| outbox.encode(node, &room(0), message, 200);
        let hint = codec::encode(node, &room(0), &BusMessage::Reaches(Seq(5)));
        assert_eq!(encode(&batch(5, 1000)), Some(hint));
        let frame = vec![0; 1000].into();
        let large = Transient { frame, audience: Audience::Room, content: TransientContent::Other };
        assert_eq!(encode(&BusMessage::Transient(large)), None);
        assert_eq!(outbox.too_large.total(), 2);
        assert!(encode(&batch(5, 10)).is_some());
        assert_eq!(outbox.too_large.total(), 2);
    }
}
