//! Logs that somebody has changed who knew the store: everything else agrees with them, and only what was written down
//! before does not.

use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use salon::{
    digest,
    domain::chain::Link,
    ids::{RoomId, Seq},
    ops::verify::heads::Heads,
    rooms::chain,
    store::{Page, memory::MemoryStore},
};

use super::*;

const ALL: Page = Page { events: 1_000_000, bytes: usize::MAX };

async fn verify_with(store: &dyn Store, kept: &Heads) -> (Heads, Vec<String>) {
    let (mut findings, mut now) = (Vec::new(), Heads::default());
    let mut tell = |finding: Finding| findings.push(finding.to_string());
    ops::verify::run_with(store, kept, &mut now, &mut tell).await.unwrap();
    (now, findings)
}

/// What the store's log of a room comes to, and all that it has.
async fn link(store: &dyn Store, room: &str) -> Link {
    let id = RoomId::parse(room).unwrap();
    let log = store.read(&id, Seq::ZERO, ALL).await.unwrap();
    log.iter().fold(Link::first(&id), |link, record| chain::next(&link, record))
}

/// What a server says it comes to.
async fn told(server: &TestServer, room: &str) -> Option<(u64, String)> {
    let request = pb::GetRoomRequest { room_id: room.into() };
    let answer = server.client().await.get_room(request).await.unwrap().into_inner();
    let integrity = answer.integrity?;
    assert_eq!(integrity.seq, answer.seq, "the digest is of the whole log");
    Some((integrity.seq, integrity.hash))
}

fn shown(link: Link) -> Option<(u64, String)> {
    Some((link.seq.0, digest::to_hex(&link.hash)))
}

fn chained() -> Setup {
    Setup::default().config(|config| config.rooms.integrity = salon::config::Integrity::Chained)
}

/// What is done to a room's log so that the rest of the store agrees with it, and the event that is named.
type Damage = fn(&Connection) -> i64;

fn rid(file: &Connection) -> i64 {
    file.query_row("SELECT rid FROM rooms WHERE id = 'room-1'", [], |row| row.get(0)).unwrap()
}

/// The position of the event that says this, in `room-1`.
fn at(file: &Connection, text: &str) -> i64 {
    let mut all = file.prepare("SELECT seq, public FROM events WHERE room = ?1 ORDER BY seq").unwrap();
    let rows = all.query_map([rid(file)], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)));
    let says = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    rows.unwrap().map(Result::unwrap).find(|(_, public)| says(public)).unwrap().0
}

fn replace(file: &Connection, seq: i64, column: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let place = params![rid(file), seq];
    let select = format!("SELECT {column} FROM events WHERE room = ?1 AND seq = ?2");
    let bytes = change(file.query_row(&select, place, |row| row.get(0)).unwrap());
    let update = format!("UPDATE events SET {column} = ?3 WHERE room = ?1 AND seq = ?2");
    assert_eq!(file.execute(&update, params![rid(file), seq, bytes]).unwrap(), 1);
}

fn head(file: &Connection) -> i64 {
    file.query_row("SELECT head FROM rooms WHERE id = 'room-1'", [], |row| row.get(0)).unwrap()
}

/// Somebody has said something else.
fn changed(file: &Connection) -> i64 {
    let seq = at(file, "line 5 ");
    replace(file, seq, "public", |bytes| {
        let place = bytes.windows(7).position(|part| part == b"line 5 ").unwrap();
        [&bytes[..place], b"LINE 5 ", &bytes[place + 7..]].concat()
    });
    seq
}

/// The half that nobody sees: an empty one gets a field that no version reads.
fn changed_inside(file: &Connection) -> i64 {
    let seq = at(file, "line 5 ");
    replace(file, seq, "private", |bytes| [&bytes[..], &[0xF8, 0x07, 0x01]].concat());
    seq
}

/// Two have spoken in another order.
fn reordered(file: &Connection) -> i64 {
    let (one, other) = (at(file, "line 5 "), at(file, "line 6 "));
    for (from, to) in [(one, 1_000_000), (other, one), (1_000_000, other)] {
        let moved = "UPDATE events SET seq = ?3 WHERE room = ?1 AND seq = ?2";
        assert_eq!(file.execute(moved, params![rid(file), from, to]).unwrap(), 1);
    }
    one
}

/// Somebody has said nothing, and everything behind it has moved up.
fn removed(file: &Connection) -> i64 {
    let (seq, rid) = (at(file, "line 5 "), rid(file));
    file.execute("DELETE FROM events WHERE room = ?1 AND seq = ?2", params![rid, seq]).unwrap();
    let negative = "UPDATE events SET seq = -seq WHERE room = ?1 AND seq > ?2";
    file.execute(negative, params![rid, seq]).unwrap();
    file.execute("UPDATE events SET seq = -seq - 1 WHERE room = ?1 AND seq < 0", [rid]).unwrap();
    file.execute("UPDATE rooms SET head = head - 1, fence = fence - 1 WHERE rid = ?1", [rid]).unwrap();
    file.execute("DELETE FROM requests WHERE room = ?1", [rid]).unwrap();
    seq
}

/// The last words were not said.
fn cut_off(file: &Connection) -> i64 {
    let (seq, rid) = (head(file), rid(file));
    file.execute("DELETE FROM events WHERE room = ?1 AND seq = ?2", params![rid, seq]).unwrap();
    file.execute("DELETE FROM requests WHERE room = ?1 AND last = ?2", params![rid, seq]).unwrap();
    file.execute("UPDATE rooms SET head = head - 1 WHERE rid = ?1", [rid]).unwrap();
    seq
}

/// The room was never there.
fn gone(file: &Connection) -> i64 {
    let (seq, rid) = (head(file), rid(file));
    for table in ["events", "requests", "members", "cursors", "snapshots"] {
        file.execute(&format!("DELETE FROM {table} WHERE room = ?1"), [rid]).unwrap();
    }
    file.execute("DELETE FROM rooms WHERE rid = ?1", [rid]).unwrap();
    seq
}

/// By name, whether the store agrees with itself afterwards, and what is said of it.
const DAMAGES: [(&str, Damage, bool, &str); 6] = [
    ("changed", changed, true, "the log up to here is not what it was when a head was kept of it"),
    ("changed inside", changed_inside, true, "the log up to here is not what it was"),
    ("reordered", reordered, false, "the log up to here is not what it was"),
    // Polls and edits name positions, so that more than this is wrong.
    ("removed", removed, false, "the log ends at"),
    ("cut off", cut_off, true, "its link was kept, and the log ends at"),
    ("gone", gone, true, "its head was kept, and the store has no such room"),
];

#[tokio::test]
async fn what_was_done_to_a_log_is_found_by_heads_that_were_kept_elsewhere() {
    let place = tempfile::tempdir().unwrap();
    let config = sqlite(&place.path().join("salon.db"));
    let (server, store) = serving(&config).await;
    live(&server).await;
    drop(store);
    server.shutdown().await;
    let store = store::open::open_to_read(&config).await.unwrap();
    let (heads, _) = verify_with(store.as_ref(), &Heads::default()).await;
    assert_eq!(verify_with(store.as_ref(), &heads).await.1, Vec::<String>::new(), "what was not touched");
    assert_eq!(heads.rooms(), 3);
    store.close().await.unwrap();
    for (name, damage, agrees, said) in DAMAGES {
        let copy = place.path().join("damaged.db");
        std::fs::copy(&config.path, &copy).unwrap();
        let file = Connection::open(&copy).unwrap();
        let (head, seq) = (head(&file), damage(&file));
        // What the server has made of the log before would speak against it.
        file.execute("DELETE FROM snapshots", []).unwrap();
        drop(file);
        let store = store::open::open_to_read(&sqlite(&copy)).await.unwrap();
        if agrees {
            let (_, found) = verify_with(store.as_ref(), &Heads::default()).await;
            assert_eq!(found, Vec::<String>::new(), "{name}: without heads nobody can know");
        }
        let (_, found) = verify_with(store.as_ref(), &heads).await;
        let named = format!("room room-1, event {head}: ");
        assert!(found.iter().any(|one| one.starts_with(&named) && one.contains(said)), "{name}: {found:#?}");
        assert!(found.iter().all(|one| one.starts_with("room room-1")), "{name}: {found:#?}");
        assert!(seq <= head);
        store.close().await.unwrap();
        for leftover in ["damaged.db", "damaged.db-wal", "damaged.db-shm"] {
            let _ = std::fs::remove_file(place.path().join(leftover));
        }
    }
}

#[tokio::test]
async fn heads_of_several_days_say_where_it_was() {
    let place = tempfile::tempdir().unwrap();
    let config = sqlite(&place.path().join("salon.db"));
    let (server, store) = serving(&config).await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let (mut positions, mut files) = (Vec::new(), String::new());
    for day in 0..3 {
        positions.push(ann.talk(&format!("day {day} was good")).await.seq.cast_signed());
        let (heads, findings) = verify_with(store.as_ref(), &Heads::default()).await;
        assert_eq!(findings, Vec::<String>::new());
        let file = place.path().join(format!("{day}"));
        heads.write(&file).unwrap();
        files.push_str(&std::fs::read_to_string(&file).unwrap());
        ann.talk("something else").await;
    }
    let file = place.path().join("all");
    std::fs::write(&file, files).unwrap();
    let kept = Heads::read(&file).unwrap();
    assert_eq!(verify_with(store.as_ref(), &kept).await.1, Vec::<String>::new(), "a log that has grown");
    server.shutdown().await;
    let changing = Connection::open(&config.path).unwrap();
    let text: Vec<u8> = changing
        .query_row("SELECT public FROM events WHERE seq = ?1", [positions[1]], |row| row.get(0))
        .unwrap();
    let update = "UPDATE events SET public = ?2 WHERE seq = ?1";
    let place_of = text.windows(4).position(|part| part == b"good").unwrap();
    let other = [&text[..place_of], b"poor", &text[place_of + 4..]].concat();
    changing.execute(update, params![positions[1], other]).unwrap();
    changing.execute("DELETE FROM snapshots", []).unwrap();
    drop(changing);
    let store = store::open::open_to_read(&config).await.unwrap();
    let (_, found) = verify_with(store.as_ref(), &kept).await;
    let said = format!(
        "room {room}, event {}: the log up to here is not what it was when a head was kept of it: of the events {} to {}",
        positions[1],
        positions[0] + 1,
        positions[1],
    );
    assert!(found.len() == 1 && found[0].starts_with(&said), "{said}\n{found:#?}");
    store.close().await.unwrap();
}

#[tokio::test]
async fn the_snapshot_of_a_chained_room_finds_what_its_state_does_not_show() {
    for (setup, finds) in [(chained(), true), (Setup::default(), false)] {
        let place = tempfile::tempdir().unwrap();
        let config = sqlite(&place.path().join("salon.db"));
        let store = store::open::open(&config).await.unwrap();
        let setup = setup.config(|config| config.rooms.snapshot_every = 100);
        let server = setup.store(Arc::clone(&store)).start().await;
        let room = server.room(&[]).await;
        let mut ann = server.join(&room, "ann").await;
        let first = ann.talk("I owe you 5 pounds").await.seq.cast_signed();
        for n in 0..150 {
            ann.talk(&format!("line {n}")).await;
        }
        assert_eq!(told(&server, &room).await, shown(link(store.as_ref(), &room).await).filter(|_| finds));
        server.shutdown().await;
        let file = Connection::open(&config.path).unwrap();
        let change = "UPDATE events SET public = ?2 WHERE seq = ?1";
        let select = "SELECT public FROM events WHERE seq = ?1";
        let text: Vec<u8> = file.query_row(select, [first], |row| row.get(0)).unwrap();
        let owes = text.windows(8).position(|part| part == b"5 pounds").unwrap();
        file.execute(change, params![first, [&text[..owes], b"9", &text[owes + 1..]].concat()]).unwrap();
        drop(file);
        let store = store::open::open_to_read(&config).await.unwrap();
        let (_, found) = verify_with(store.as_ref(), &Heads::default()).await;
        if finds {
            let said = "the log up to here is not what it was when its snapshot was saved";
            assert!(found.len() == 1 && found[0].starts_with(&format!("room {room}, event ")), "{found:?}");
            assert!(found[0].contains(said), "{found:?}");
        } else {
            assert_eq!(found, Vec::<String>::new(), "nothing keeps what it was");
        }
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_come_to_the_same_digest_whoever_writes() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::shared());
    let often = || chained().config(|config| config.rooms.snapshot_every = 10).store(Arc::clone(&store));
    let (a, b) = (often().start().await, often().start().await);
    let room = a.room(&["ada"]).await;
    let (mut ann, mut bob) = (a.join(&room, "ann").await, b.join(&room, "bob").await);
    let anns = async {
        for n in 0..60 {
            ann.command(message(&format!("ann {n}"))).await.unwrap();
        }
    };
    let bobs = async {
        for n in 0..60 {
            bob.command(message(&format!("bob {n}"))).await.unwrap();
            // What moves the fence makes others decide again.
            if n % 10 == 0 {
                let option = |text: &str| pb::PollOptionInput { text: text.into(), ..Default::default() };
                let options = vec![option("yes"), option("no")];
                let poll = pb::CreatePoll { question: "Tea?".into(), options, ..Default::default() };
                bob.command(Say::CreatePoll(poll)).await.unwrap();
            }
        }
    };
    tokio::join!(anns, bobs);
    let expected = shown(link(store.as_ref(), &room).await);
    assert_eq!(told(&a, &room).await, expected);
    assert_eq!(told(&b, &room).await, expected);
    // One that comes later begins with a snapshot; one that keeps none has nothing to tell, and does no harm.
    let (c, off) = (often().start().await, Setup::default().store(Arc::clone(&store)).start().await);
    assert_eq!(told(&c, &room).await, expected);
    assert_eq!(told(&off, &room).await, None);
    for server in [a, b, c, off] {
        server.shutdown().await;
    }
}

#[tokio::test]
async fn a_room_that_was_there_before_is_chained_from_its_first_event() {
    let place = tempfile::tempdir().unwrap();
    let config = sqlite(&place.path().join("salon.db"));
    let store = store::open::open(&config).await.unwrap();
    let setup = |store| Setup::default().store(store).config(|c| c.rooms.snapshot_every = 10);
    let off = setup(Arc::clone(&store)).start().await;
    let room = off.room(&[]).await;
    let mut ann = off.join(&room, "ann").await;
    for n in 0..40 {
        ann.talk(&format!("line {n}")).await;
    }
    let id = RoomId::parse(&room).unwrap();
    assert!(store.snapshot(&id).await.unwrap().is_some());
    drop(store);
    off.shutdown().await;
    // The second one finds it in the snapshot.
    for is_saved in [false, true] {
        let store = store::open::open(&config).await.unwrap();
        let saved = store.snapshot(&id).await.unwrap().unwrap();
        let saved = salon::wire::snapshot::decode(&saved.state).unwrap();
        assert_eq!(saved.chain.is_some(), is_saved);
        let chained = |config: &mut salon::config::Config| {
            config.rooms.integrity = salon::config::Integrity::Chained;
        };
        let server = setup(Arc::clone(&store)).config(chained).start().await;
        let mut ann = server.join(&room, "ann").await;
        assert_eq!(told(&server, &room).await, shown(link(store.as_ref(), &room).await));
        ann.talk("and one more").await;
        assert_eq!(told(&server, &room).await, shown(link(store.as_ref(), &room).await));
        drop(store);
        server.shutdown().await;
    }
}

/// Who knows the digests before and behind a vote could try all voters and choices, if nothing else went into them.
#[tokio::test]
async fn a_secret_vote_cannot_be_guessed_from_digests() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let server = chained().store(Arc::clone(&store)).start().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let option = |text: &str| pb::PollOptionInput { text: text.into(), ..Default::default() };
    let poll = pb::CreatePoll {
        question: "Tea?".into(),
        options: vec![option("yes"), option("no")],
        anonymous: true,
        ..Default::default()
    };
    ann.command(Say::CreatePoll(poll)).await.unwrap();
    let created = ann
        .pick(|payload| match payload {
            Payload::PollCreated(created) => created.poll.clone(),
            _ => None,
        })
        .await;
    let mut private = Vec::new();
    for _ in 0..2 {
        let poll_id = created.poll_id.clone();
        let cast =
            pb::CastVote { poll_id: poll_id.clone(), option_ids: vec!["1".into()], ..Default::default() };
        ann.command(Say::CastVote(cast)).await.unwrap();
        let log = store.read(&RoomId::parse(&room).unwrap(), Seq::ZERO, ALL).await.unwrap();
        private.push(log.last().unwrap().private.clone());
        ann.command(Say::RetractVote(pb::RetractVote { poll_id })).await.unwrap();
    }
    let differing = private[0].iter().zip(&private[1]).filter(|(a, b)| a != b).count();
    // The moment of a vote is in it too, but everybody sees that.
    assert!(private[0].len() == private[1].len() && differing >= 8, "{private:?}");
    server.shutdown().await;
}

/// Prints what a link costs beside the append that it is for.
#[tokio::test]
async fn a_link_costs_little_beside_its_append() {
    let place = tempfile::tempdir().unwrap();
    let (server, store) = serving(&sqlite(&place.path().join("salon.db"))).await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let begun = Instant::now();
    for n in 0..300 {
        ann.talk(&format!("{n} {}", "x".repeat(200))).await;
    }
    let said = begun.elapsed();
    let id = RoomId::parse(&room).unwrap();
    let log = store.read(&id, Seq::ZERO, ALL).await.unwrap();
    let begun = Instant::now();
    let link = log.iter().fold(Link::first(&id), |link, record| chain::next(&link, record));
    let folded = begun.elapsed();
    assert_eq!(link.seq.0, log.len() as u64);
    let each = |all: Duration| all.as_nanos() / log.len() as u128;
    println!("a message takes {} ns, its link {} ns", each(said), each(folded));
    assert!(folded * 10 < said, "{folded:?} of {said:?}");
    server.shutdown().await;
}

#[tokio::test]
async fn the_command_writes_heads_and_holds_the_store_against_them() {
    let place = crate::process::Place::new();
    let server = place.start().await;
    server.room("r", &["ada"]).await;
    server.join("r", "ann").await.talk("I owe you 5 pounds").await;
    let ran = |args: &'static [&'static str]| {
        let place = &place;
        async move {
            let output = place.run(args).await;
            let text = [output.stdout, output.stderr].concat();
            (output.status.code(), String::from_utf8_lossy(&text).into_owned())
        }
    };
    let (code, said) = ran(&["verify", "--write-heads", "h"]).await;
    assert!(code == Some(0) && said.contains("h: 1 head\n"), "{said}");
    let (code, said) = ran(&["verify", "--write-heads", "h"]).await;
    assert!(code == Some(1) && said.contains("h is there already"), "{said}");
    server.join("r", "bob").await.talk("hello").await;
    let (code, said) = ran(&["verify", "--heads", "h"]).await;
    assert!(code == Some(0) && said.contains("nothing is wrong"), "{said}");
    server.stop().await;
    let file = Connection::open(place.database()).unwrap();
    let select = "SELECT seq, public FROM events WHERE instr(public, CAST('5 pounds' AS BLOB)) > 0";
    let (seq, text): (i64, Vec<u8>) =
        file.query_row(select, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let owes = text.windows(8).position(|part| part == b"5 pounds").unwrap();
    let other = [&text[..owes], b"9", &text[owes + 1..]].concat();
    file.execute("UPDATE events SET public = ?2 WHERE seq = ?1", params![seq, other]).unwrap();
    drop(file);
    let (code, said) = ran(&["verify", "--heads", "h", "--write-heads", "h2"]).await;
    assert!(code == Some(3) && said.contains("room r, event ") && said.contains("when a head was"), "{said}");
    assert!(said.contains("h2 was not written"), "{said}");
    let (code, said) = ran(&["verify", "--heads", "nothing"]).await;
    assert!(code == Some(1) && said.contains("cannot read nothing"), "{said}");
}
