//! The rules of one room's delivery, without a store and without a runtime.

use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};

use super::*;
use crate::{
    bus::Note,
    clock::Timestamp,
    domain::{event::MemberChange, room::Role},
    ids::{LlmId, MessageId},
    registry::outbound::{QueueLimits, Work},
};

const LIMITS: RegistryLimits = RegistryLimits {
    participants_shown: 2,
    sessions_per_user: 2,
    head_check: Duration::from_secs(2),
    chunk_interval: Duration::ZERO,
    linger: Duration::ZERO,
    gathered_events: 64,
};

fn feed(head: u64) -> Feed {
    limited(head, LIMITS)
}

fn limited(head: u64, limits: RegistryLimits) -> Feed {
    Feed::new(RoomId::parse("room").unwrap(), Seq(head), limits, Arc::default())
}

fn member(name: &str) -> Member {
    Member {
        id: UserId::parse(name).unwrap(),
        name: name.into(),
        role: Role::Member,
        title: String::new(),
        avatar: String::new(),
        joined_at: Timestamp(0),
        muted_until: None,
    }
}

fn enter(feed: &Feed, name: &str) -> (ConnectionId, Arc<Outbound>, PresenceNews) {
    let limits = QueueLimits { events: 100, bytes: 100_000, replies: 10 };
    let (connection, outbound) = (ConnectionId::next(), Arc::new(Outbound::new(limits)));
    let news = feed.enter(connection, &member(name), &outbound, ChunkWish::default(), |_, seq| {
        outbound.start(Bytes::new(), seq, seq);
    });
    feed.lock().present.check_invariants();
    (connection, outbound, news)
}

/// Everything that waits.
fn read(outbound: &Outbound) -> Bytes {
    let mut all = BytesMut::new();
    while let Poll::Ready(Some(Ok(bytes))) = outbound.poll_next(&mut Context::from_waker(Waker::noop())) {
        all.extend_from_slice(&bytes);
    }
    all.freeze()
}

/// Events as letters: a is the first position.
fn letters(first: u64, last: u64) -> Bytes {
    (first..=last).map(|seq| b'a' + u8::try_from(seq - 1).unwrap()).collect()
}

fn batch(first: u64, last: u64, notes: &[Note]) -> LogBatch {
    LogBatch { first: Seq(first), last: Seq(last), frames: letters(first, last), notes: notes.into() }
}

fn membership(name: &str, change: MemberChange, role: Role) -> Note {
    Note::Membership { user: UserId::parse(name).unwrap(), change, role, muted_until: None }
}

fn chunk(message_id: MessageId, offset: usize, text: &str) -> Transient {
    let content = TransientContent::Chunk { message_id, offset, text: text.into() };
    Transient { frame: Bytes::copy_from_slice(text.as_bytes()), audience: Audience::Room, content }
}

fn answer() -> LiveAnswer {
    LiveAnswer {
        message_id: MessageId(uuid::Uuid::now_v7()),
        llm_id: LlmId::parse("llm").unwrap(),
        reply_to: MessageId(uuid::Uuid::now_v7()),
        text: String::new(),
        started_at: Timestamp(0),
    }
}

fn texts(feed: &Feed) -> Vec<String> {
    feed.answers().into_iter().map(|answer| answer.text).collect()
}

fn started(answer: LiveAnswer) -> Note {
    Note::RunStarted(ActiveAnswer { answer, seq: Seq(1) })
}

/// Takes a chunk; nobody need keep a pace.
fn take(feed: &Feed, transient: &Transient) {
    assert!(!feed.deliver_transient(transient));
}

#[test]
fn what_comes_too_early_waits_for_what_is_before_it() {
    let feed = feed(0);
    let (_, ann, _) = enter(&feed, "ann");
    assert_eq!(feed.deliver(batch(5, 6, &[])), Delivery::Hole);
    assert_eq!(feed.deliver(batch(2, 3, &[])), Delivery::Hole);
    assert_eq!(read(&ann), "");
    assert_eq!(feed.deliver(batch(1, 1, &[])), Delivery::Hole);
    assert_eq!((read(&ann).as_ref(), feed.delivered()), (b"abc".as_ref(), Seq(3)));
    assert_eq!(feed.deliver(batch(4, 4, &[])), Delivery::Done);
    assert_eq!((read(&ann).as_ref(), feed.delivered()), (b"def".as_ref(), Seq(6)));
}

#[test]
fn repeats_are_delivered_once() {
    let feed = feed(2);
    let (_, ann, _) = enter(&feed, "ann");
    for _ in 0..3 {
        assert_eq!(feed.deliver(batch(1, 2, &[])), Delivery::Done);
        assert_eq!(feed.deliver(batch(3, 4, &[])), Delivery::Done);
    }
    assert_eq!(read(&ann), "cd");
}

#[test]
fn an_overlap_is_a_hole_that_the_store_closes() {
    let feed = feed(2);
    let (_, ann, _) = enter(&feed, "ann");
    assert_eq!(feed.deliver(batch(1, 3, &[])), Delivery::Hole);
    assert_eq!(read(&ann), "");
    // An overlapping batch is not kept, and one that was kept and has been overtaken is thrown away.
    assert_eq!(feed.deliver(batch(4, 4, &[])), Delivery::Hole);
    assert_eq!(feed.deliver(batch(3, 5, &[])), Delivery::Done);
    assert_eq!((read(&ann).as_ref(), feed.delivered()), (b"cde".as_ref(), Seq(5)));
}

#[test]
fn only_so_many_early_batches_are_kept() {
    let feed = feed(0);
    for n in 0..1000 {
        let seq = 2 + n;
        let early = LogBatch { first: Seq(seq), last: Seq(seq), frames: Bytes::new(), notes: [].into() };
        assert_eq!(feed.deliver(early), Delivery::Hole);
    }
    assert_eq!(feed.lock().early.len(), EARLY_BATCHES);
}

#[test]
fn a_session_hears_exactly_what_comes_behind_its_start() {
    let feed = feed(0);
    let _ = feed.deliver(batch(1, 1, &[]));
    let (_, ann, _) = enter(&feed, "ann");
    let _ = feed.deliver(batch(2, 2, &[]));
    let (connection, bob, _) = enter(&feed, "bob");
    let _ = feed.deliver(batch(3, 3, &[]));
    assert!(feed.exit(connection).is_some());
    assert!(feed.exit(connection).is_none());
    let _ = feed.deliver(batch(4, 4, &[]));
    assert_eq!((read(&ann).as_ref(), read(&bob).as_ref()), (b"bcd".as_ref(), b"c".as_ref()));
}

#[test]
fn chunks_make_up_the_text_so_far_and_repeats_do_not() {
    let (feed, answer) = (feed(0), answer());
    let (_, ann, _) = enter(&feed, "ann");
    let (id, whole) = (answer.message_id, answer.clone());
    take(&feed, &chunk(id, 0, "before the answer has begun"));
    let _ = feed.deliver(batch(1, 1, &[started(answer)]));
    for (offset, text) in [(0, "AB"), (2, "CD"), (2, "CD"), (0, "AB"), (4, "E")] {
        take(&feed, &chunk(id, offset, text));
    }
    assert_eq!(texts(&feed), ["ABCDE"]);
    assert_eq!(read(&ann), "aABCDE");
    // What is behind a hole is not told, and not part of the text so far, until the hole is closed.
    for (offset, text) in [(8, "I"), (6, "G"), (7, "H"), (9, "J")] {
        take(&feed, &chunk(id, offset, text));
        assert_eq!((texts(&feed), read(&ann)), (vec!["ABCDE".into()], Bytes::new()));
    }
    take(&feed, &chunk(id, 5, "F"));
    assert_eq!(texts(&feed), ["ABCDEFGHIJ"]);
    take(&feed, &chunk(id, 12, "M"));
    let _ = feed.deliver(batch(2, 2, &[Note::RunEnded(id)]));
    take(&feed, &chunk(id, 10, "too late"));
    assert!(texts(&feed).is_empty());
    let all = read(&ann);
    let merged = transient::chunk(&LiveAnswer { text: String::new(), ..whole }, 5, "FGHIJ");
    assert_eq!(all, [merged.as_ref(), b"b"].concat());
}

#[test]
fn transients_reach_their_audience_and_nobody_else() {
    let feed = feed(0);
    let (first, ann, _) = enter(&feed, "ann");
    let (_, ann_too, _) = enter(&feed, "ann");
    let (_, bob, _) = enter(&feed, "bob");
    let user = |name| UserId::parse(name).unwrap();
    for (audience, frame) in [
        (Audience::Room, "1"),
        (Audience::Others(user("ann")), "2"),
        (Audience::OtherConnections(first), "3"),
        (Audience::Users([user("ann"), user("nobody")].into()), "4"),
    ] {
        let content = TransientContent::Other;
        take(&feed, &Transient { frame: Bytes::from_static(frame.as_bytes()), audience, content });
    }
    assert_eq!((read(&ann), read(&ann_too), read(&bob)), ("14".into(), "134".into(), "123".into()));
}

#[test]
fn large_rooms_are_told_of_members_in_one_event() {
    let feed = feed(0);
    let (_, ann, _) = enter(&feed, "ann");
    let (_, _bob, _) = enter(&feed, "bob");
    assert!(feed.tells_everybody());
    let joined = |name| membership(name, MemberChange::Joined, Role::Member);
    let _ = feed.deliver(batch(1, 1, &[joined("bob")]));
    assert_eq!(read(&ann), "a", "two are not many");
    let (_, _cid, _) = enter(&feed, "cid");
    assert!(!feed.tells_everybody());
    let _ = feed.deliver(batch(2, 2, &[joined("cid")]));
    let _ =
        feed.deliver(batch(3, 4, &[joined("dan"), membership("eve", MemberChange::Removed, Role::Member)]));
    let _ = feed.deliver(batch(5, 5, &[membership("bob", MemberChange::Updated, Role::Viewer)]));
    assert_eq!(read(&ann), "");
    // What is no membership comes behind the merged event, and so do events of both kinds in one batch.
    let _ = feed.deliver(batch(6, 7, &[joined("fay")]));
    let merged = transient::members_merged(Seq(2), Seq(5), 2, 1, 1);
    assert_eq!(read(&ann), [merged.as_ref(), b"fg"].concat());
    assert_eq!(ann.taken(), Seq(7));
    // Otherwise it comes by itself.
    let _ = feed.deliver(batch(8, 8, &[membership("fay", MemberChange::Left, Role::Member)]));
    feed.look();
    feed.look();
    let occupancy = transient::occupancy(3);
    let merged = transient::members_merged(Seq(8), Seq(8), 0, 1, 0);
    assert_eq!(read(&ann), [merged.as_ref(), occupancy.as_ref()].concat());
}

#[test]
fn who_enters_a_large_room_is_told_only_what_comes_after() {
    let feed = feed(0);
    let (_, ann, _) = enter(&feed, "ann");
    let (_, _bob, _) = enter(&feed, "bob");
    let (_, _cid, _) = enter(&feed, "cid");
    let _ = feed.deliver(batch(1, 1, &[membership("dan", MemberChange::Joined, Role::Member)]));
    let (_, dan, _) = enter(&feed, "dan");
    let _ = feed.deliver(batch(2, 2, &[]));
    let merged = transient::members_merged(Seq(1), Seq(1), 1, 0, 0);
    assert_eq!((read(&ann), read(&dan)), ([merged.as_ref(), b"b"].concat().into(), "b".into()));
}

#[test]
fn in_large_rooms_presence_is_a_count() {
    let feed = feed(0);
    let (_, ann, news) = enter(&feed, "ann");
    assert_eq!(news, PresenceNews::User);
    let (bob, _outbound, news) = enter(&feed, "bob");
    assert_eq!(news, PresenceNews::User);
    assert_eq!(
        feed.set_presence(bob, Presence::Away),
        Some((member("bob").id, PresenceNews::Shown(Presence::Away)))
    );
    assert_eq!(feed.set_presence(bob, Presence::Away), Some((member("bob").id, PresenceNews::None)));
    let (cid, _outbound, news) = enter(&feed, "cid");
    assert_eq!(news, PresenceNews::None);
    assert_eq!(feed.set_presence(bob, Presence::Online), Some((member("bob").id, PresenceNews::None)));
    feed.look();
    assert_eq!(read(&ann), transient::occupancy(3));
    feed.look();
    assert_eq!(read(&ann), "", "nothing has changed since");
    // The room is small again: this exit is told.
    assert_eq!(feed.exit(cid), Some((member("cid").id, PresenceNews::User)));
    assert_eq!(feed.online_count(), 2);
}

#[test]
fn a_user_with_too_many_sessions_loses_the_oldest_ones() {
    let feed = feed(0);
    let entered: Vec<_> = (0..5).map(|_| enter(&feed, "ann")).collect();
    let expelled = |n: usize| entered[n].1.work() == Work::End(Expelled::TooManySessions);
    assert!((0..5).map(expelled).eq([true, true, true, false, false]));
    let (_, bob, _) = enter(&feed, "bob");
    assert_eq!(bob.work(), Work::Idle);
    assert!(feed.exit(entered[0].0).is_some());
}

#[test]
fn roles_follow_the_log() {
    let feed = feed(0);
    let role = |c| feed.rights(c, Action::Post).map(|(standing, _)| standing.role);
    let (ann, _outbound, _) = enter(&feed, "ann");
    let (too, _outbound, _) = enter(&feed, "ann");
    let (bob, _outbound, _) = enter(&feed, "bob");
    let _ = feed.deliver(batch(1, 1, &[membership("ann", MemberChange::Updated, Role::Admin)]));
    assert_eq!([ann, too, bob].map(role), [Some(Role::Admin), Some(Role::Admin), Some(Role::Member)]);
    let _ = feed.deliver(batch(2, 2, &[membership("ann", MemberChange::Joined, Role::Viewer)]));
    assert_eq!(role(too), Some(Role::Viewer));
    let _ = feed.exit(ann);
    assert_eq!(role(ann), None);
}

#[test]
fn mutes_and_permissions_follow_the_log() {
    let feed = feed(0);
    let (ann, _outbound, _) = enter(&feed, "ann");
    let mut permissions = Overrides::default();
    permissions.set(Action::Post, Some(Least::Role(Role::Admin)));
    let muted = Note::Membership {
        user: UserId::parse("ann").unwrap(),
        change: MemberChange::Updated,
        role: Role::Member,
        muted_until: Some(Timestamp(5)),
    };
    let _ = feed.deliver(batch(1, 1, &[muted]));
    let _ = feed.deliver(batch(2, 2, &[Note::Permissions(permissions)]));
    let standing = Standing { role: Role::Member, muted_until: Some(Timestamp(5)) };
    assert_eq!(feed.rights(ann, Action::Post), Some((standing, Least::Role(Role::Admin))));
    assert_eq!(feed.rights(ann, Action::DirectLlms), Some((standing, Least::Role(Role::Member))));
    feed.permit(Overrides::default());
    assert_eq!(feed.rights(ann, Action::Post), Some((standing, Least::Role(Role::Member))));
}

#[test]
fn whoever_is_no_member_any_more_is_asked_to_end_behind_the_event() {
    for (change, why) in [
        (MemberChange::Left, Expelled::Left),
        (MemberChange::Removed, Expelled::Removed),
        (MemberChange::Banned, Expelled::Banned),
    ] {
        let feed = feed(0);
        let (_, ann, _) = enter(&feed, "ann");
        let (_, bob, _) = enter(&feed, "bob");
        let _ = feed.deliver(batch(1, 1, &[membership("ann", change, Role::Member)]));
        assert_eq!((ann.work(), bob.work()), (Work::End(why), Work::Idle));
        assert_eq!(read(&ann), "a");
        let _ = feed.deliver(batch(2, 2, &[Note::RoomEnded]));
        assert_eq!(bob.work(), Work::End(Expelled::RoomEnded));
        assert_eq!(read(&bob), "ab");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_what_is_behind_a_position_is_woken_once_by_many() {
    let feed = feed(0);
    let mut waiting = std::pin::pin!(feed.beyond(Seq(2)));
    for seq in 1..=2 {
        let _ = feed.deliver(batch(seq, seq, &[]));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    }
    for seq in 3..=5 {
        let _ = feed.deliver(batch(seq, seq, &[]));
    }
    waiting.await;
    // What was known before is no news, although nobody has waited for it.
    assert!(futures_util::poll!(std::pin::pin!(feed.beyond(Seq(5)))).is_pending());
    feed.beyond(Seq(4)).await;
}

/// A feed of a large room that is being told something, and two of those who are there.
fn busy() -> (Feed, Arc<Outbound>, Arc<Outbound>) {
    let limits = RegistryLimits { linger: Duration::from_millis(5), participants_shown: 2000, ..LIMITS };
    let feed = limited(0, limits);
    for number in 0..500 {
        enter(&feed, &format!("user{number}"));
    }
    let (_, ann, _) = enter(&feed, "ann");
    let (_, ben, _) = enter(&feed, "ben");
    assert_eq!(feed.deliver(batch(1, 1, &[])), Delivery::Done, "it was quiet");
    assert_eq!((read(&ann).as_ref(), read(&ben).as_ref()), (b"a".as_ref(), b"a".as_ref()));
    (feed, ann, ben)
}

#[tokio::test(start_paused = true)]
async fn a_large_and_busy_room_is_told_several_events_as_one() {
    let (feed, ann, _) = busy();
    assert_eq!(feed.deliver(batch(2, 2, &[])), Delivery::Waits, "somebody must keep the pace");
    assert_eq!(feed.deliver(batch(3, 4, &[])), Delivery::Done, "it is kept");
    assert_eq!((read(&ann).as_ref(), feed.delivered()), (b"".as_ref(), Seq(4)));
    let feed = Arc::new(feed);
    let start = Instant::now();
    Arc::clone(&feed).keep_pace().await;
    // 502 sessions at 5 microseconds, and a timer of a millisecond.
    assert!((2500..=4000).contains(&start.elapsed().as_micros()), "{:?}", start.elapsed());
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(ann.poll_next(&mut context), Poll::Ready(Some(Ok(Bytes::from_static(b"bcd")))));
    tokio::time::advance(Duration::from_millis(5)).await;
    assert_eq!(feed.deliver(batch(5, 5, &[])), Delivery::Done, "it was quiet again");
    assert_eq!(read(&ann), "e");
}

#[tokio::test(start_paused = true)]
async fn what_is_gathered_is_told_before_anything_that_cannot_wait() {
    let (feed, ann, ben) = busy();
    let waits = |seq| assert_ne!(feed.deliver(batch(seq, seq, &[])), Delivery::Hole);
    waits(2);
    assert_eq!(
        feed.deliver(batch(3, 3, &[membership("ben", MemberChange::Removed, Role::Member)])),
        Delivery::Done
    );
    assert_eq!((read(&ann).as_ref(), read(&ben).as_ref()), (b"bc".as_ref(), b"bc".as_ref()));
    assert_eq!(ben.work(), Work::End(Expelled::Removed));
    waits(4);
    let (_, new, _) = enter(&feed, "new");
    waits(5);
    assert_eq!(
        (read(&ann).as_ref(), read(&new).as_ref()),
        (b"d".as_ref(), b"".as_ref()),
        "it began behind it"
    );
    let transient =
        |audience| Transient { frame: Bytes::from_static(b"!"), audience, content: TransientContent::Other };
    take(&feed, &transient(Audience::Users([UserId::parse("ann").unwrap()].into())));
    assert_eq!(read(&ann), "!", "what one is told hurries nobody");
    take(&feed, &transient(Audience::Room));
    assert_eq!((read(&ann).as_ref(), read(&new).as_ref()), (b"e!".as_ref(), b"e!".as_ref()));
    waits(6);
    feed.tell_gathered();
    assert_eq!((read(&ann).as_ref(), read(&new).as_ref()), (b"f".as_ref(), b"f".as_ref()));
    waits(7);
    let answer = answer();
    assert_eq!(feed.deliver(batch(8, 8, &[started(answer.clone())])), Delivery::Done);
    assert_eq!((read(&ann).as_ref(), read(&new).as_ref()), (b"gh".as_ref(), b"gh".as_ref()));
    assert_eq!(feed.deliver(batch(9, 9, &[])), Delivery::Done, "nothing waits while an answer is written");
    take(&feed, &chunk(answer.message_id, 0, "text"));
    assert_eq!(read(&ann), "itext");
    // Sent by a bus that has lost something: whoever reads it from the store keeps no pace.
    assert_eq!(feed.deliver(batch(10, 10, &[Note::RunEnded(answer.message_id)])), Delivery::Done);
    assert_eq!(feed.deliver(batch(12, 12, &[])), Delivery::Hole);
    feed.deliver_missed(batch(11, 11, &[]));
    assert_eq!(read(&ann), "jkl");
}

#[tokio::test(start_paused = true)]
async fn a_room_is_looked_at_only_when_something_is_due() {
    let calendar = Arc::new(Calendar::default());
    let room = RoomId::parse("room").unwrap();
    let feed = Feed::new(room.clone(), Seq(0), LIMITS, Arc::clone(&calendar));
    let due = || calendar.due(Instant::now(), 9);
    let (_, _ann, _) = enter(&feed, "ann");
    let (_, _bob, _) = enter(&feed, "bob");
    assert_eq!(due(), []);
    // What it keeps grows old.
    let _ = feed.deliver(batch(1, 1, &[]));
    tokio::time::advance(Duration::from_secs(4)).await;
    let _ = feed.deliver(batch(2, 2, &[]));
    let kept = || feed.recent(Seq(1), Page { events: 9, bytes: 9 }).is_some();
    for (seconds, is_due, still_kept) in
        [(5, false, true), (1, true, true), (3, false, true), (1, true, false)]
    {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        let found = due();
        assert_eq!(!found.is_empty(), is_due, "{found:?}");
        found.iter().for_each(|_| feed.look());
        assert_eq!(kept(), still_kept);
    }
    tokio::time::advance(Duration::from_hours(1)).await;
    assert_eq!(due(), [], "nothing is left");
    // A large room merges.
    let (cid, _outbound, _) = enter(&feed, "cid");
    assert_eq!(due(), std::slice::from_ref(&room));
    feed.look();
    let _ = feed.deliver(batch(3, 3, &[membership("dan", MemberChange::Joined, Role::Member)]));
    assert_eq!(due(), [room]);
    feed.look();
    assert_eq!(due(), []);
    feed.exit(cid);
    assert_eq!(due(), [], "of a small room everything was told");
}
