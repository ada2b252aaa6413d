//! A room's dealings with its sessions: letting them in, telling them what holds now, moving their cursors.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    domain::{
        message::Message,
        permissions::{self, Action},
        rejection::Rejection,
    },
    ids::{MessageId, RoomId, Seq, UserId},
    registry::{feed::Now, outbound::Outbound, seat::Seat},
    rooms::{
        Rooms,
        commit::Then,
        history, refused,
        task::{Done, JoinTask, Reply},
        worker::Worker,
    },
    wire::{
        command::ReadUpTo,
        join::Join,
        reply::{self, View},
    },
};

/// A join that resumes gets what it missed one by one up to this many events, else a fresh `room_state`: a snapshot
/// with its last 50 messages is then the shorter way.
const RESUME_EVENTS: u64 = 1000;

impl Worker {
    pub(super) fn done(&self, then: Then, result: Result<Done, Rejection>) {
        match (then, result) {
            (Then::Reply(reply), result) => reply.send(result),
            (Then::Join(task), Ok(_)) => self.enter(*task),
            (Then::Join(task), Err(rejection)) => {
                let _ = task.reply.send(Err(rejection));
            }
        }
    }

    /// Lets a member's session in: snapshot and subscription are one step under the feed's lock.
    fn enter(&self, task: JoinTask) {
        let JoinTask { join, request_id, connection, outbound, read, unread, reply, charge: _ } = task;
        let Join { user_id, after, chunks, .. } = join;
        let (Some(room), Some(feed)) = (&self.state, &self.feed) else {
            let _ = reply.send(Err(reply::unavailable()));
            return;
        };
        let Some(member) = room.members.get(&user_id).cloned() else {
            let _ = reply.send(Err(Rejection::denied(format!("{user_id} is not a member of this room"))));
            return;
        };
        let telling = feed.telling();
        let news = feed.enter(connection, &member, &outbound, chunks, |now, delivered| {
            let view = self.view(&now, &user_id, read, unread);
            let known = room.seq.max(delivered);
            match after {
                Some(after) if after <= room.seq && room.seq.0 - after.0 <= RESUME_EVENTS => {
                    start(&outbound, reply::resumed(room, after, &view, request_id.as_ref()), after, known);
                }
                Some(_) | None => {
                    start(&outbound, reply::room_state(room, &view, request_id.as_ref()), room.seq, known);
                }
            }
        });
        let (registry, clock) = (Arc::clone(self.rooms.registry()), Arc::clone(self.rooms.clock()));
        let seat = Seat::take(registry, clock, Arc::clone(feed), connection, member, news);
        drop(telling);
        seat.tell_nodes();
        // If the session is gone, the seat is dropped here and the room is left again.
        let _ = reply.send(Ok(seat));
    }

    fn view<'a>(&self, now: &Now<'a>, you: &'a UserId, read: Seq, unread: u32) -> View<'a> {
        View {
            online: now.online,
            online_count: now.online_count,
            answers: now.answers,
            you,
            read,
            unread,
            heartbeat: self.rooms.limits().heartbeat,
            participants_shown: self.rooms.limits().participants_shown,
            at: self.rooms.clock().now(),
        }
    }

    pub(super) fn resync(&self, user: &UserId, outbound: &Arc<Outbound>, read: Seq, unread: u32) {
        let (Some(room), Some(feed)) = (&self.state, &self.feed) else {
            return;
        };
        feed.resync(outbound, |now| {
            let view = self.view(&now, user, read, unread);
            outbound.resynced(frame_for(outbound, reply::resumed(room, outbound.taken(), &view, None)));
        });
    }

    /// Moves a read cursor beside the room's task: it is not part of the log.
    pub(super) fn mark_read(&self, up_to: ReadUpTo, seat: Arc<Seat>, reply: Reply) {
        let Some(room) = &self.state else {
            return reply.send(Err(reply::unavailable()));
        };
        if let Err(rejection) = permissions::require_role(room, seat.user(), Action::Read) {
            return reply.send(Err(rejection));
        }
        let target = match up_to {
            ReadUpTo::Seq(seq) if seq > room.seq => {
                let problem = format_args!("must be at most {}, the newest position; is {seq}", room.seq);
                return reply.send(Err(Rejection::field("mark_read.seq", problem)));
            }
            ReadUpTo::Seq(seq) => (Some(seq), None),
            ReadUpTo::Message(id) => (room.recent_message(id).map(|m| m.seq), Some(id)),
        };
        let (rooms, id) = (self.rooms.clone(), self.id.clone());
        self.rooms.0.tasks.spawn(async move {
            reply.send(move_cursor(&rooms, &id, target, &seat).await);
        });
    }
}

async fn move_cursor(
    rooms: &Rooms,
    id: &RoomId,
    target: (Option<Seq>, Option<MessageId>),
    seat: &Seat,
) -> Result<Done, Rejection> {
    let store = rooms.store().as_ref();
    let failed = |error| refused(id, &error);
    let seq = match target {
        (Some(seq), _) => seq,
        (None, Some(message_id)) => {
            let message: Option<Message> = history::message(store, id, message_id).await.map_err(failed)?;
            message.ok_or_else(|| Rejection::not_found("message", message_id))?.seq
        }
        (None, None) => return Err(Rejection::field("mark_read", "must have a seq or a message_id")),
    };
    let before = store.cursor(id, seat.user()).await.map_err(failed)?;
    let after = store.advance_cursor(id, seat.user(), seq).await.map_err(failed)?;
    if after > before {
        seat.receipt(after, target.1);
    }
    Ok(Done::NOTHING)
}

/// Lets a session begin with what holds now.
fn start(outbound: &Outbound, snapshot: reply::Snapshot, taken: Seq, known: Seq) {
    outbound.start(frame_for(outbound, snapshot), taken, known);
}

/// Whoever is not told the texts so far gets messages whole.
fn frame_for(outbound: &Outbound, snapshot: reply::Snapshot) -> Bytes {
    if snapshot.texts_omitted {
        outbound.want_whole_messages();
    }
    snapshot.frame
}
