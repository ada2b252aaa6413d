//! The whole of the audit over the memory store, in time that the tests move.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::{
    clock::ManualClock,
    ids::RoomId,
    store::{documents::Expect, memory::MemoryStore},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct World {
    audit: Audit,
    store: Arc<dyn Store>,
    clock: Arc<ManualClock>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

fn world(enabled: bool) -> World {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let clock = Arc::new(ManualClock::new(Timestamp(1_800_000_000_000)));
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let settings = AuditSettings { enabled, retention: 90 * DAY };
    let audit = Audit::start(
        Arc::clone(&store),
        Arc::clone(&clock) as Arc<dyn Clock>,
        NodeId::random(),
        settings,
        &tasks,
        stop.clone(),
    );
    World { audit, store, clock, tasks, stop }
}

impl World {
    /// Ends like a server, which writes what waits; then reads.
    async fn end(self) -> Vec<Entry> {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let (mut all, mut after): (Vec<Entry>, Option<String>) = (Vec::new(), None);
        loop {
            let page = self.audit.read(&Namespace::default(), after.as_deref(), PAGE).await.unwrap();
            let Some(last) = page.last() else { return all };
            after = Some(last.id.clone());
            all.extend(page);
        }
    }

    async fn entries(&self) -> Vec<Entry> {
        self.audit.read(&Namespace::default(), None, PAGE).await.unwrap()
    }
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn kick(subject: &str) -> Fact {
    let room = RoomId::parse("lobby").unwrap();
    Fact::new(Namespace::default(), Act::Kick).by(user("ann")).within(room).to(subject)
}

fn refused() -> Fact {
    Fact::new(Namespace::default(), Act::SignIn).refused("expired").from(origin())
}

fn origin() -> Origin {
    Origin { credential: String::new(), peer: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)) }
}

#[tokio::test(start_paused = true)]
async fn what_was_done_is_kept_in_order_with_how_its_actor_had_come() {
    let world = world(true);
    let key = Origin { credential: "key 0123".into(), ..origin() };
    let here = world.audit.signed_in(Namespace::default(), user("ann"), key.clone());
    world.audit.record(kick("bob"));
    world.clock.advance(Duration::from_secs(1));
    world.audit.record(kick("cid"));
    drop(here);
    world.audit.record(kick("dan"));
    // Another's, of whom this one does not read.
    world.audit.record(Fact { namespace: Namespace::parse("acme").unwrap(), ..kick("eve") });
    let entries = world.end().await;
    let shown: Vec<_> =
        entries.iter().map(|e| (e.act.as_str(), e.subject.as_str(), e.origins.len())).collect();
    assert_eq!(shown, [("sign_in", "", 1), ("kick", "bob", 1), ("kick", "cid", 1), ("kick", "dan", 0)]);
    assert!(entries.is_sorted_by(|a, b| a.id < b.id));
    let second = &entries[1];
    assert_eq!((second.actor.as_str(), second.room.as_str(), second.count), ("ann", "lobby", 1));
    assert_eq!((second.outcome.as_str(), &second.origins[..]), ("done", &[key][..]));
    assert_eq!(second.at_ms, 1_800_000_000_000);
}

#[tokio::test(start_paused = true)]
async fn from_a_moment_on_can_be_read() {
    let world = world(true);
    world.audit.record(kick("bob"));
    world.clock.advance(Duration::from_secs(60));
    let moment = Audit::position(world.clock.now());
    world.audit.record(kick("cid"));
    let (audit, entries) = (world.audit.clone(), world.end().await);
    assert_eq!(entries.len(), 2);
    let later = audit.read(&Namespace::default(), Some(&moment), 10).await.unwrap();
    assert_eq!(later, entries[1..]);
    assert_eq!(audit.read(&Namespace::default(), None, 1).await.unwrap(), entries[..1]);
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_all_the_time_makes_two_entries_a_minute() {
    let world = world(true);
    for _ in 0..3 {
        for _ in 0..100_000 {
            world.audit.record(refused());
        }
        tokio::time::sleep(Duration::from_secs(61)).await;
    }
    let entries = world.end().await;
    assert!(entries.iter().all(|e| e.act == "sign_in" && e.outcome == "refused" && e.detail == "expired"));
    let counts: Vec<u64> = entries.iter().map(|entry| entry.count).collect();
    assert_eq!(counts, [1, 99_999, 1, 99_999, 1, 99_999]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_counted_and_the_count_is_kept() {
    let world = world(true);
    // The writer has no turn before the first wait.
    for n in 0..QUEUE + 500 {
        world.audit.record(kick(&format!("user {n}")));
    }
    let entries = world.end().await;
    assert_eq!(entries.len(), QUEUE + 1);
    assert_eq!((entries[0].act.as_str(), entries[0].count), ("facts_lost", 500));
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_removed_and_nothing_else() {
    let world = world(true);
    for n in 0..450 {
        world.audit.record(kick(&format!("user {n}")));
    }
    let acme = Namespace::parse("acme").unwrap();
    world.audit.record(Fact { namespace: acme.clone(), ..kick("eve") });
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.clock.advance(89 * DAY);
    world.audit.record(kick("late"));
    tokio::time::sleep(Duration::from_secs(2 * 60 * 60)).await;
    assert_eq!(world.entries().await.len(), 451);
    world.clock.advance(2 * DAY);
    tokio::time::sleep(Duration::from_secs(2 * 60 * 60)).await;
    let left = world.entries().await;
    assert_eq!(left.iter().map(|entry| entry.subject.as_str()).collect::<Vec<_>>(), ["late"]);
    assert_eq!(world.audit.read(&acme, None, 10).await.unwrap(), []);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn where_it_is_switched_off_nothing_is_kept() {
    let world = world(false);
    world.audit.record(kick("bob"));
    drop(world.audit.signed_in(Namespace::default(), user("ann"), origin()));
    assert_eq!(world.end().await, []);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_cannot_be_read_hides_no_other() {
    let world = world(true);
    let garbage = bytes::Bytes::from_static(b"{\"act\":");
    world.store.put_document(&folder(&Namespace::default()), "1", Expect::Nothing, garbage).await.unwrap();
    world.audit.record(kick("bob"));
    let entries = world.end().await;
    let acts: Vec<_> = entries.iter().map(|entry| entry.act.as_str()).collect();
    assert_eq!(acts, ["kick", "unreadable"]);
}
