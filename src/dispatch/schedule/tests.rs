//! Orders of beginning, by case: turns, votes, rooms that share a node, and what is stopped.

use futures_util::FutureExt as _;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    dispatch::unasked::unwanted,
    ids::{PollId, Seq, UserId},
};

const SLOTS: Slots = Slots { per_room: 2, queue_per_room: 4, per_node: 3 };

/// The `n`th job of a room; its question is `n` as well.
fn job(room: &str, n: u128, policy: TurnPolicy) -> Job {
    Job {
        room: RoomId::parse_key(room).unwrap(),
        message_id: MessageId(Uuid::from_u128(n)),
        llm_id: LlmId::parse("ada").unwrap(),
        reply_to: MessageId(Uuid::from_u128(n)),
        root: MessageId(Uuid::from_u128(n)),
        poll_id: None,
        chain_depth: 0,
        asked_by: Some(UserId::parse("ann").unwrap()),
        replaces: None,
        turn: None,
        model: String::new(),
        at_question: false,
        asked_at: Seq(1),
        policy,
    }
}

fn vote(room: &str, n: u128) -> Job {
    Job { poll_id: Some(PollId(Uuid::from_u128(9))), ..job(room, n, TurnPolicy::Sequential) }
}

/// The numbers of all jobs that begin now, in order.
fn begin(schedule: &mut Schedule) -> Vec<u128> {
    std::iter::from_fn(|| schedule.next()).map(|(job, _)| job.message_id.0.as_u128()).collect()
}

fn finish(schedule: &mut Schedule, room: &str, n: u128) -> Vec<u128> {
    schedule.finished(&RoomId::parse_key(room).unwrap(), MessageId(Uuid::from_u128(n)));
    begin(schedule)
}

#[test]
fn what_is_asked_side_by_side_begins_as_far_as_there_is_room() {
    let mut schedule = Schedule::new(SLOTS);
    let waits = (1..=7).map(|n| schedule.ask(job("r", n, TurnPolicy::Parallel)));
    assert_eq!(waits.collect::<Vec<_>>(), [Ok(0), Ok(1), Ok(2), Ok(3), Ok(4), Ok(5), Err(6)]);
    assert_eq!((begin(&mut schedule), schedule.count()), (vec![1, 2], 6));
    assert_eq!(schedule.ask(job("r", 8, TurnPolicy::Parallel)), Err(4), "four wait, and two run");
    assert_eq!(finish(&mut schedule, "r", 2), [3]);
    assert_eq!(finish(&mut schedule, "r", 1), [4]);
    for (ended, begun) in [(3, vec![5]), (4, vec![6]), (5, vec![]), (6, vec![])] {
        assert_eq!(finish(&mut schedule, "r", ended), begun);
    }
    assert_eq!((schedule.count(), schedule.rooms.len(), schedule.line.len(), schedule.running), (0, 0, 0, 0));
}

#[test]
fn one_after_the_other_in_the_order_of_the_questions() {
    let mut schedule = Schedule::new(SLOTS);
    for n in 1..=3 {
        schedule.ask(job("r", n, TurnPolicy::Sequential)).unwrap();
    }
    assert_eq!(begin(&mut schedule), [1]);
    assert_eq!(finish(&mut schedule, "r", 1), [2]);
    // A vote neither waits for an answer nor holds one up.
    assert_eq!(schedule.ask(vote("r", 4)), Ok(0));
    assert_eq!(begin(&mut schedule), [4]);
    assert_eq!(finish(&mut schedule, "r", 2), [3]);
    // What was asked when the room had changed its policy waits for nobody's turn, only for a slot.
    schedule.ask(job("r", 5, TurnPolicy::Sequential)).unwrap();
    schedule.ask(job("r", 6, TurnPolicy::Parallel)).unwrap();
    assert_eq!(begin(&mut schedule), [], "two run");
    assert_eq!(finish(&mut schedule, "r", 4), [6]);
    assert_eq!(finish(&mut schedule, "r", 3), [], "somebody speaks still");
    assert_eq!(finish(&mut schedule, "r", 6), [5]);
}

#[test]
fn free_slots_go_to_rooms_in_turn() {
    let mut schedule = Schedule::new(Slots { per_room: 3, queue_per_room: 100, per_node: 3 });
    for n in 1..=50 {
        schedule.ask(job("greedy", n, TurnPolicy::Parallel)).unwrap();
    }
    assert_eq!(begin(&mut schedule), [1, 2, 3]);
    for (n, room) in (101..).zip(["a", "b", "c"]) {
        schedule.ask(job(room, n, TurnPolicy::Parallel)).unwrap();
        schedule.ask(job(room, n + 100, TurnPolicy::Parallel)).unwrap();
    }
    // Whoever stood in the line first keeps its place; nobody gets a second slot before all had one.
    let mut order = Vec::new();
    for n in 1..=3 {
        order.extend(finish(&mut schedule, "greedy", n));
    }
    let rooms = ["a", "b", "c"];
    let room_of = |n: u128| rooms.get(n as usize % 100 - 1).filter(|_| n > 100).copied().unwrap_or("greedy");
    while order.len() < 9 {
        let next = order[order.len() - 3];
        order.extend(finish(&mut schedule, room_of(next), next));
    }
    assert_eq!(order, [101, 102, 103, 4, 201, 202, 203, 5, 6], "{order:?}");
}

#[test]
fn whatever_is_stopped_makes_place_and_leaves_nothing() {
    let mut schedule = Schedule::new(SLOTS);
    let room = RoomId::parse("r").unwrap();
    for n in 1..=4 {
        schedule.ask(job("r", n, TurnPolicy::Sequential)).unwrap();
    }
    let (_, stop) = schedule.next().unwrap();
    let stopped = schedule.stop(&room, &unwanted("enough"), |job| job.message_id.0.as_u128() <= 2);
    assert_eq!((stopped.running, stopped.dropped.len()), (1, 1));
    schedule.stop(&room, &unwanted("again"), |_| false);
    assert!(stop.token.is_cancelled() && stop.why() == "enough");
    assert_eq!(begin(&mut schedule), [], "it has been told, and has not ended");
    assert_eq!(finish(&mut schedule, "r", 1), [3]);
    assert_eq!(finish(&mut schedule, "r", 1), [], "nothing ends twice");
    schedule.clear_waiting();
    assert_eq!(finish(&mut schedule, "r", 3), []);
    // A queue that is emptied while its room stands in the line leaves no place in it.
    let mut full = Schedule::new(Slots { per_node: 0, ..SLOTS });
    full.ask(job("r", 1, TurnPolicy::Parallel)).unwrap();
    full.stop(&room, &unwanted(""), |_| true);
    for schedule in [schedule, full] {
        assert_eq!((schedule.rooms.len(), schedule.line.len(), schedule.running), (0, 0, 0));
    }
}

#[test]
fn who_waits_for_a_person_gives_its_slot_to_others_and_takes_its_turn_to_go_on() {
    let mut schedule = Schedule::new(Slots { per_room: 1, queue_per_room: 9, per_node: 1 });
    let [r, s] = ["r", "s"].map(|room| RoomId::parse(room).unwrap());
    let id = |n| MessageId(Uuid::from_u128(n));
    for n in [1, 2, 3] {
        schedule.ask(job("r", n, TurnPolicy::Parallel)).unwrap();
    }
    assert_eq!(begin(&mut schedule), [1]);
    schedule.give_back(&r, id(1));
    schedule.give_back(&r, id(1));
    assert_eq!(begin(&mut schedule), [2]);
    schedule.ask(job("s", 4, TurnPolicy::Parallel)).unwrap();
    let turn = schedule.take_back(&r, id(1)).unwrap();
    assert_eq!(begin(&mut schedule), []);
    assert!(turn.notified().now_or_never().is_none(), "there is no slot");
    assert_eq!(finish(&mut schedule, "r", 2), [4], "the other room stood in the line before");
    assert_eq!(finish(&mut schedule, "s", 4), [], "the one that goes on has the slot");
    assert!(turn.notified().now_or_never().is_some());
    assert!(schedule.take_back(&r, id(1)).is_none(), "it has one");
    assert_eq!(finish(&mut schedule, "r", 1), [3]);
    // A drain leaves those in the line that have begun; who ends without a slot gives none back.
    schedule.give_back(&r, id(3));
    schedule.ask(job("s", 5, TurnPolicy::Parallel)).unwrap();
    assert_eq!(begin(&mut schedule), [5]);
    let turn = schedule.take_back(&r, id(3)).unwrap();
    schedule.ask(job("s", 6, TurnPolicy::Parallel)).unwrap();
    assert_eq!(schedule.clear_waiting().len(), 1);
    assert_eq!(finish(&mut schedule, "s", 5), []);
    assert!(turn.notified().now_or_never().is_some());
    schedule.give_back(&r, id(3));
    schedule.finished(&r, id(3));
    schedule.finished(&s, id(5));
    assert_eq!((schedule.rooms.len(), schedule.line.len(), schedule.running), (0, 0, 0));
}

#[test]
fn who_waits_for_a_person_takes_no_place_in_the_queue() {
    let mut schedule = Schedule::new(Slots { per_room: 1, queue_per_room: 0, per_node: 9 });
    let room = RoomId::parse("r").unwrap();
    let id = |n| MessageId(Uuid::from_u128(n));
    schedule.ask(job("r", 1, TurnPolicy::Parallel)).unwrap();
    assert_eq!(begin(&mut schedule), [1]);
    assert_eq!(schedule.ask(job("r", 2, TurnPolicy::Parallel)), Err(0), "one runs");
    schedule.give_back(&room, id(1));
    assert_eq!(schedule.ask(job("r", 3, TurnPolicy::Parallel)), Ok(0));
    assert_eq!(begin(&mut schedule), [3]);
    schedule.give_back(&room, id(3));
    let turn = schedule.take_back(&room, id(1)).unwrap();
    assert_eq!(schedule.ask(job("r", 4, TurnPolicy::Parallel)), Err(0), "one goes on");
    assert_eq!(begin(&mut schedule), []);
    assert!(turn.notified().now_or_never().is_some());
    assert_eq!(finish(&mut schedule, "r", 1), []);
    schedule.give_back(&room, id(3));
    assert_eq!(schedule.ask(job("r", 5, TurnPolicy::Sequential)), Ok(1), "it waits for its turn");
    assert_eq!((begin(&mut schedule), finish(&mut schedule, "r", 3)), (vec![], vec![5]));
}

#[test]
fn an_answer_to_a_text_that_has_changed_is_asked_for_again_when_it_has_ended() {
    let mut schedule = Schedule::new(SLOTS);
    let room = RoomId::parse("r").unwrap();
    for n in [1, 2, 3] {
        schedule.ask(job("r", n, TurnPolicy::Parallel)).unwrap();
    }
    let (first, stop) = schedule.next().unwrap();
    schedule.next().unwrap();
    let again = |old: &Job| Job { message_id: MessageId(Uuid::from_u128(100)), ..old.clone() };
    let edited = unwanted("edited");
    assert_eq!(
        schedule.again(&room, first.reply_to, &edited, again).as_slice(),
        std::slice::from_ref(&first.llm_id)
    );
    assert_eq!(stop.why(), "edited");
    let waits = schedule.again(&room, MessageId(Uuid::from_u128(3)), &edited, again);
    assert_eq!(waits.len(), 1, "who waits will read the new text");
    assert_eq!(schedule.again(&room, MessageId(Uuid::from_u128(7)), &edited, again), []);
    let behind = schedule.finished(&room, first.message_id).unwrap();
    assert_eq!((behind.message_id.0.as_u128(), behind.reply_to), (100, first.reply_to));
    assert!(schedule.finished(&room, MessageId(Uuid::from_u128(2))).is_none());
}

/// What may happen to a schedule: a question or a vote, an end, a stop.
#[derive(Debug, Clone)]
enum Move {
    Ask {
        room: usize,
        vote: bool,
        policy: TurnPolicy,
    },
    End(usize),
    /// A run waits for a person.
    Pause(usize),
    /// It wants to go on.
    GoOn(usize),
    Stop {
        room: usize,
        even: bool,
    },
}

const ROOMS: [&str; 6] = ["a", "b", "x/a", "x/b", "x/c", "y/a"];

fn a_move() -> impl Strategy<Value = Move> {
    let policy =
        prop_oneof![Just(TurnPolicy::Parallel), Just(TurnPolicy::Sequential), Just(TurnPolicy::LatestWins)];
    let ask = (0..ROOMS.len(), prop::bool::weighted(0.2), policy)
        .prop_map(|(room, vote, policy)| Move::Ask { room, vote, policy });
    let stop = (0..ROOMS.len(), any::<bool>()).prop_map(|(room, even)| Move::Stop { room, even });
    let on = any::<usize>();
    prop_oneof![
        6 => ask,
        5 => on.prop_map(Move::End),
        2 => on.prop_map(Move::Pause),
        2 => on.prop_map(Move::GoOn),
        1 => stop,
    ]
}

/// Checks the bounds, and that nobody who asked one after the other speaks beside whoever spoke before.
fn check(schedule: &Schedule) {
    assert!(schedule.running <= SLOTS.per_node);
    let held = |runs: &RoomRuns| runs.active.iter().filter(|active| active.has_slot).count();
    assert_eq!(schedule.running, schedule.rooms.values().map(held).sum::<usize>());
    for (room, runs) in &schedule.rooms {
        assert!(held(runs) <= SLOTS.per_room && !(runs.active.is_empty() && runs.waiting.is_empty()));
        // Those that wait for a person take no place, and whoever goes on is not asked whether there is one.
        assert!(runs.waiting.len() <= SLOTS.per_room + SLOTS.queue_per_room);
        let places = schedule.line.iter().filter(|id| *id == room).count();
        assert_eq!(places, usize::from(runs.in_line), "a place in the line, and no two");
        if runs.wants_slot(SLOTS.per_room) {
            assert!(runs.in_line && schedule.running == SLOTS.per_node, "{room} could begin something");
        }
    }
    assert!(schedule.line.iter().all(|room| schedule.rooms.contains_key(room)));
}

proptest! {
    #[test]
    fn whatever_is_asked_begins_once_or_is_dropped_and_nothing_is_lost(
        moves in prop::collection::vec(a_move(), 1..200),
    ) {
        let mut schedule = Schedule::new(SLOTS);
        let (mut taken, mut over) = (0, 0);
        let mut running: Vec<Job> = Vec::new();
        let (mut paused_now, mut turns) = (Vec::new(), Vec::new());
        let ends = std::iter::repeat_n(Move::End(0), 100);
        for (n, step) in moves.into_iter().chain(ends).enumerate() {
            match step {
                Move::Ask { room, vote: is_vote, policy } => {
                    let id = n as u128;
                    let asked = if is_vote { vote(ROOMS[room], id) } else { job(ROOMS[room], id, policy) };
                    taken += usize::from(schedule.ask(asked).is_ok());
                }
                Move::End(at) if !running.is_empty() => {
                    let ended = running.remove(at % running.len());
                    schedule.finished(&ended.room, ended.message_id);
                    over += 1;
                }
                Move::Pause(at) if !running.is_empty() => {
                    let paused = &running[at % running.len()];
                    let mut active = schedule.rooms.values().flat_map(|runs| &runs.active);
                    if active.any(|a| a.job.message_id == paused.message_id && a.has_slot) {
                        schedule.give_back(&paused.room, paused.message_id);
                        paused_now.push(paused.message_id);
                    }
                }
                Move::GoOn(at) if !paused_now.is_empty() => {
                    let id = paused_now.remove(at % paused_now.len());
                    turns.retain(|(other, _)| *other != id);
                    if let Some(job) = running.iter().find(|job| job.message_id == id) {
                        turns.push((id, schedule.take_back(&job.room, id).unwrap()));
                    }
                }
                Move::End(_) | Move::Pause(_) | Move::GoOn(_) => {}
                Move::Stop { room, even } => {
                    let which = |job: &Job| job.message_id.0.as_u128().is_multiple_of(2) == even;
                    over += schedule.stop(&RoomId::parse_key(ROOMS[room]).unwrap(), &unwanted(""), which).dropped.len();
                }
            }
            while let Some((begun, _)) = {
                // Runs that go on take slots beside the one that begins: only without them is it clear whose turn it is.
                let goes_on = schedule.rooms.values().any(|runs| !runs.returning.is_empty());
                let stale = schedule.line.iter().any(|room| !schedule.rooms[room].wants_slot(SLOTS.per_room));
                let fewest = schedule.line.waiting().map(|(_, running)| running).min();
                let next = schedule.next();
                if let Some((begun, _)) = next.as_ref().filter(|_| !goes_on && !stale) {
                    let has = schedule.line.running(&begun.room.namespace());
                    prop_assert_eq!(Some(has - 1), fewest, "{:?} had more than others that waited", begun.room);
                }
                next
            } {
                let spoken = running.iter().any(|other| other.room == begun.room && other.is_spoken());
                let waits = begun.is_spoken() && begun.policy == TurnPolicy::Sequential;
                prop_assert!(!(waits && spoken), "{begun:?} speaks beside another");
                running.push(begun);
            }
            check(&schedule);
            // Who was told to go on has a slot, and who has none was not told.
            for (id, turn) in &turns {
                let active = schedule.rooms.values().flat_map(|runs| &runs.active).find(|a| a.job.message_id == *id);
                let told = turn.notified().now_or_never().is_some();
                if told {
                    turn.notify_one();
                }
                let paused_again = paused_now.contains(id);
                prop_assert!(active.is_none_or(|active| active.has_slot == told) || paused_again);
            }
        }
        prop_assert_eq!((running.len(), schedule.count(), over), (0, 0, taken));
    }
}

#[test]
fn what_waits_for_an_answer_of_another_node_waits_beside_the_queue() {
    let room = RoomId::parse("r").unwrap();
    let mut schedule = Schedule::new(SLOTS);
    let elsewhere = |n: u128| MessageId(Uuid::from_u128(n));
    for n in 1..=3 {
        // Asked for twice, it is asked once.
        schedule.ask_behind(elsewhere(90 + n), job("r", 10 + n, TurnPolicy::Parallel));
        schedule.ask_behind(elsewhere(90 + n), job("r", n, TurnPolicy::Parallel));
    }
    assert!(schedule.knows(&room) && !schedule.has(&room, elsewhere(91)));
    assert_eq!((begin(&mut schedule), schedule.count()), (vec![], 3), "nothing begins, and nothing is lost");
    assert_eq!(schedule.ask(job("r", 9, TurnPolicy::Parallel)), Ok(0), "nor does it take anybody's place");
    assert_eq!(begin(&mut schedule), [9]);
    assert_eq!(finish(&mut schedule, "r", 9), Vec::<u128>::new());
    let numbers = |jobs: Vec<Job>| jobs.iter().map(|job| job.message_id.0.as_u128()).collect::<Vec<_>>();
    assert_eq!(numbers(schedule.take_behind(&room, elsewhere(92))), [2]);
    assert_eq!(numbers(schedule.take_behind(&room, elsewhere(92))), Vec::<u128>::new());
    let stopped = schedule.stop(&room, &unwanted("enough"), |job| job.message_id == elsewhere(1));
    assert_eq!((stopped.running, stopped.dropped.len(), numbers(stopped.forgone)), (0, 0, vec![1]));
    assert_eq!(numbers(schedule.clear_waiting()), [3]);
    assert!(!schedule.knows(&room) && schedule.count() == 0);
}

#[test]
fn a_namespace_with_many_rooms_does_not_keep_one_with_a_single_room_waiting() {
    let mut schedule = Schedule::new(Slots { per_room: 2, queue_per_room: 100, per_node: 4 });
    for n in 1..=10_000 {
        schedule.ask(job(&format!("noisy/r{n}"), n, TurnPolicy::Parallel)).unwrap();
    }
    assert_eq!(begin(&mut schedule), [1, 2, 3, 4], "alone it has all");
    for n in [20_001, 20_002, 20_003] {
        schedule.ask(job("quiet/r", n, TurnPolicy::Parallel)).unwrap();
    }
    assert_eq!(finish(&mut schedule, "noisy/r1", 1), [20_001], "the very next slot");
    assert_eq!(finish(&mut schedule, "noisy/r2", 2), [20_002], "it has fewer still");
    assert_eq!(finish(&mut schedule, "noisy/r3", 3), [5], "no more than two at once in a room");
    assert_eq!(finish(&mut schedule, "quiet/r", 20_001), [20_003]);
    schedule.ask(job("third", 30_001, TurnPolicy::Parallel)).unwrap();
    assert_eq!(finish(&mut schedule, "noisy/r4", 4), [30_001], "the default namespace is one of them");
    let count = |name: &str| schedule.count_in(&Namespace::parse(name).unwrap());
    assert_eq!((count("noisy"), count("quiet"), count("default"), count("none")), (9996, 2, 1, 0));
}
