//! Reading what has happened: messages and polls as they are now, pages of history, the log itself, lists of rooms.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::{
    domain::{
        apply,
        event::{Event, Recorded},
        message::Message,
        poll::Poll,
        rejection::{Code, Rejection},
        room::{Member, Presence, Room, Visibility},
    },
    ids::{MessageId, PollId, RoomId, Seq, UserId},
    rooms::{Rooms, load, refused},
    store::{Direction, Error, Page, Record, RoomFilter, Store},
    wire::{model, polls},
};

/// A message as it is now.
pub(super) async fn message(
    store: &dyn Store,
    room: &RoomId,
    id: MessageId,
) -> Result<Option<Message>, Error> {
    let events = events_about(store, room, &[id.0]).await?;
    Ok(messages_of(&events).remove(&id))
}

/// A poll that has left the state: as it was closed.
pub(super) async fn poll(store: &dyn Store, room: &RoomId, id: PollId) -> Result<Option<Poll>, Error> {
    let events = events_about(store, room, &[id.0]).await?;
    Ok(polls_of(events).remove(&id))
}

async fn events_about(store: &dyn Store, room: &RoomId, subjects: &[Uuid]) -> Result<Vec<Recorded>, Error> {
    if subjects.is_empty() {
        return Ok(Vec::new());
    }
    store.about(room, subjects).await?.iter().map(|record| load::recorded(store, record)).collect()
}

/// Cuts a page that is too large at the end that is read last; whether anything was cut. One message always stays:
/// an empty page would be taken for the end.
fn fit(messages: &mut Vec<Message>, direction: Direction, size: impl Fn(&Message) -> usize) -> bool {
    let all = messages.len();
    let mut taken = 0_usize;
    let mut fits = |message: &Message| {
        let first = taken == 0;
        taken = taken.saturating_add(size(message));
        first || taken <= PAGE_BYTES
    };
    match direction {
        Direction::Before(_) => {
            let kept = messages.iter().rev().take_while(|message| fits(message)).count();
            messages.drain(..all - kept);
        }
        Direction::After(_) => {
            let kept = messages.iter().take_while(|message| fits(message)).count();
            messages.truncate(kept);
        }
    }
    messages.len() < all
}

fn messages_of(events: &[Recorded]) -> HashMap<MessageId, Message> {
    let mut messages: HashMap<MessageId, Message> = HashMap::new();
    for recorded in events {
        match &recorded.event {
            Event::MessagePosted(message) => {
                messages
                    .insert(message.id, Message { seq: recorded.seq, at: recorded.at, ..message.clone() });
            }
            Event::MessageEdited { message_id, .. }
            | Event::MessageDeleted { message_id, .. }
            | Event::MessageSuperseded { message_id, .. }
            | Event::ReactionChanged { message_id, .. } => {
                if let Some(message) = messages.get_mut(message_id) {
                    apply::apply_to_message(message, recorded);
                }
            }
            _ => {}
        }
    }
    messages
}

fn polls_of(events: Vec<Recorded>) -> BTreeMap<PollId, Poll> {
    let mut polls = BTreeMap::new();
    for recorded in events {
        match recorded.event {
            Event::PollCreated(poll) | Event::PollClosed { poll, .. } => {
                polls.insert(poll.id, poll);
            }
            _ => {}
        }
    }
    polls
}

/// Bytes of a page: most clients take no answer above 4 MiB, and a thousand of the longest messages would be 16.
const PAGE_BYTES: usize = 2 * 1024 * 1024;

/// A page of a room's messages.
#[derive(Debug, Default)]
pub struct HistoryPage {
    /// In chronological order.
    pub messages: Vec<Message>,
    /// Every poll that a message of the page announces.
    pub polls: Vec<Poll>,
    /// There are more messages in the direction that was read.
    pub more: bool,
}

/// A page of a list.
#[derive(Debug)]
pub struct ListPage<T> {
    /// What is listed.
    pub items: Vec<T>,
    /// Where the next page begins; `None`: this is the last one.
    pub next: Option<u64>,
}

/// Members of a page, and the last of them if more follow.
pub type MemberPage = (Vec<(Member, Presence)>, Option<UserId>);

impl Rooms {
    /// Refuses a reader who is named and is not a member.
    pub async fn check_reader(&self, room: &RoomId, reader: Option<UserId>) -> Result<(), Rejection> {
        let Some(reader) = reader else {
            return self.read_latest(room, |_, _| ()).await;
        };
        let hidden = self.limits().domain.private_by_invitation;
        self.read_latest(room, move |room, _| {
            if room.members.contains_key(&reader) {
                return Ok(());
            }
            if hidden && room.profile.visibility == Visibility::Private {
                return Err(Rejection::no_room(&room.id));
            }
            Err(Rejection::denied(format!("{reader} is not a member of this room")))
        })
        .await?
    }

    /// A message as it is now, however old; `None`: there is none.
    pub async fn message(&self, room: &RoomId, id: MessageId) -> Result<Option<Message>, Rejection> {
        message(self.store().as_ref(), room, id).await.map_err(|error| refused(room, &error))
    }

    /// Messages as they are now.
    pub async fn history(
        &self,
        room: &RoomId,
        direction: Direction,
        limit: usize,
    ) -> Result<HistoryPage, Rejection> {
        let failed = |error| refused(room, &error);
        let store = self.store().as_ref();
        // One more than asked for tells whether there is another page.
        let mut records = store.messages(room, direction, limit + 1).await.map_err(failed)?;
        let more = records.len() > limit;
        if more {
            match direction {
                Direction::Before(_) => drop(records.remove(0)),
                Direction::After(_) => drop(records.pop()),
            }
        }
        let subjects: Vec<Uuid> = records.iter().map(|record| record.event_id.0).collect();
        let events = events_about(store, room, &subjects).await.map_err(failed)?;
        let mut found = messages_of(&events);
        let ids = records.iter().map(|record| MessageId(record.event_id.0));
        let mut messages: Vec<Message> = ids.filter_map(|id| found.remove(&id)).collect();
        // Polls are read only for what may stay, and then count as well.
        let cut = fit(&mut messages, direction, model::message_size);
        let mut polls = self.polls_for(room, &messages).await?;
        let sizes: HashMap<PollId, usize> =
            polls.iter().map(|poll| (poll.id, polls::poll_size(poll, room.name()))).collect();
        let size = |message: &Message| {
            let poll = message.poll_id.and_then(|id| sizes.get(&id)).copied();
            model::message_size(message) + poll.unwrap_or_default()
        };
        let cut = fit(&mut messages, direction, size) || cut;
        polls.retain(|poll| messages.iter().any(|message| message.poll_id == Some(poll.id)));
        Ok(HistoryPage { messages, polls, more: more || cut })
    }

    /// A poll as it is now, or as it was closed.
    pub async fn poll(&self, room: &RoomId, id: PollId) -> Result<Option<Poll>, Rejection> {
        let in_state = self.read_latest(room, move |room, _| room.polls.get(&id).cloned()).await?;
        match in_state {
            Some(poll) => Ok(Some(poll)),
            None => poll(self.store().as_ref(), room, id).await.map_err(|error| refused(room, &error)),
        }
    }

    async fn polls_for(&self, room: &RoomId, messages: &[Message]) -> Result<Vec<Poll>, Rejection> {
        let ids: Vec<PollId> = messages.iter().filter_map(|message| message.poll_id).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = ids.clone();
        // An open poll has its votes only in the state.
        let mut found: BTreeMap<PollId, Poll> = self
            .read_latest(room, move |room, _| {
                wanted.iter().filter_map(|id| Some((*id, room.polls.get(id)?.clone()))).collect()
            })
            .await?;
        let missing: Vec<Uuid> = ids.iter().filter(|id| !found.contains_key(id)).map(|id| id.0).collect();
        let store = self.store().as_ref();
        let events = events_about(store, room, &missing).await.map_err(|error| refused(room, &error))?;
        found.extend(polls_of(events));
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }

    /// Where the log ends.
    pub async fn end(&self, room: &RoomId) -> Result<Seq, Rejection> {
        let head = self.store().head(room).await.map_err(|error| refused(room, &error))?;
        Ok(head.map_or(Seq::ZERO, |head| head.seq))
    }

    /// The log itself.
    pub async fn log(&self, room: &RoomId, after: Seq, page: Page) -> Result<Vec<Record>, Rejection> {
        self.store().read(room, after, page).await.map_err(|error| refused(room, &error))
    }

    /// Rooms, newest first, each as `look` sees it, until the page is full as `size` counts; what it does not show is left
    /// out, and so is a room that cannot be read: the others must stay in reach.
    pub async fn list<T: Send + 'static>(
        &self,
        filter: RoomFilter,
        before: u64,
        limit: usize,
        look: impl Fn(&Room) -> Option<T> + Clone + Send + 'static,
        size: impl Fn(&T) -> usize,
    ) -> Result<ListPage<T>, Rejection> {
        let listed = self.store().list_rooms(filter, before, limit + 1).await.map_err(|error| {
            tracing::error!(error = &error as &(dyn std::error::Error + 'static), "the store failed");
            crate::wire::reply::unavailable()
        })?;
        let mut more = listed.len() > limit;
        let mut items: Vec<T> = Vec::new();
        let mut last = None;
        let mut taken = 0_usize;
        let mut failed = Vec::new();
        for entry in listed.into_iter().take(limit) {
            let look = look.clone();
            match self.read_latest(&entry.room, move |room, _| look(room)).await {
                Ok(None) => {}
                Ok(Some(item)) => {
                    taken = taken.saturating_add(size(&item));
                    if taken > PAGE_BYTES && !items.is_empty() {
                        more = true;
                        break;
                    }
                    items.push(item);
                }
                Err(rejection) => {
                    tracing::warn!(room = %entry.room, %rejection, "a room is left out of a list");
                    failed.push(rejection);
                }
            }
            last = Some(entry.position);
        }
        // One room may be broken; that of several not one can be read is a fault of the moment.
        if let (true, [_, .., rejection]) = (items.is_empty(), failed.as_slice()) {
            return Err(rejection.clone());
        }
        Ok(ListPage { items, next: last.filter(|_| more) })
    }

    /// Members in the order of their ids, behind `after`.
    pub async fn members(
        &self,
        room: &RoomId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<MemberPage, Rejection> {
        self.wait_for_others(room).await?;
        self.read_latest(room, move |room, feed| {
            let online: BTreeMap<UserId, Presence> = feed.online(usize::MAX).into_iter().collect();
            let behind = match &after {
                Some(after) => {
                    room.members.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded))
                }
                None => room.members.range(..),
            };
            let mut page: Vec<(Member, Presence)> = behind
                .take(limit + 1)
                .map(|(id, member)| (member.clone(), online.get(id).copied().unwrap_or_default()))
                .collect();
            let more = page.len() > limit;
            page.truncate(limit);
            let last = page.last().filter(|_| more).map(|(member, _)| member.id.clone());
            (page, last)
        })
        .await
    }
}

/// A cursor that this server did not make, or not for this list.
pub fn bad_cursor() -> Rejection {
    Rejection {
        field: Some("cursor"),
        ..Rejection::new(Code::InvalidArgument, "cursor was not made by this server for this list")
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::message::Author;

    fn message(n: u64) -> Message {
        let author = Author::User(UserId::parse("ann").unwrap());
        Message {
            id: MessageId(Uuid::from_u128(n.into())),
            seq: Seq(n),
            author,
            author_name: String::new(),
            content: String::new(),
            content_type: String::new(),
            reply_to: None,
            at: crate::clock::Timestamp(0),
            poll_id: None,
            mentions: Vec::new(),
            edited_at: None,
            deleted: false,
            reactions: Vec::new(),
            partial: false,
            chain_depth: 0,
            from_run: false,
            outside: Vec::new(),
            replaces: None,
            superseded_by: None,
            version: 0,
            changes: 0,
        }
    }

    fn kept(direction: Direction, sizes: [usize; 4]) -> (Vec<u64>, bool) {
        let mut messages = (0..4).map(message).collect();
        let size = |m: &Message| sizes[usize::try_from(m.seq.0).unwrap()];
        let cut = fit(&mut messages, direction, size);
        (messages.iter().map(|m| m.seq.0).collect(), cut)
    }

    #[test]
    fn a_page_is_cut_where_it_is_full_and_never_empty() {
        let (back, forth) = (Direction::Before(Seq(9)), Direction::After(Seq(0)));
        let (half, all) = (PAGE_BYTES / 2, PAGE_BYTES);
        assert_eq!(kept(back, [half / 2; 4]), (vec![0, 1, 2, 3], false));
        assert_eq!(kept(back, [half, half, half, 1]), (vec![2, 3], true));
        assert_eq!(kept(forth, [half; 4]), (vec![0, 1], true));
        assert_eq!(kept(back, [1, 1, 1, 3 * all]), (vec![3], true));
        assert_eq!(kept(forth, [3 * all, 1, 1, 1]), (vec![0], true));
    }
}
