//! Several servers of one store, of which some die, stand still or come: what they leave open is closed by others,
//! each once, and what belongs to the living is left alone. In time that the test moves.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use salon::{
    ids::NodeId,
    llm::{
        Finish, Request,
        scripted::{ScriptedProvider, Step},
    },
    store::{Store, memory::MemoryStore},
    wire::pb::room::v1::{
        self as pb, AutopilotMode as Mode, AutopilotStatus as Status, LlmDoneReason as Reason,
        client_message::Payload as Say, server_event::Payload,
    },
};
use serde_json::json;
use tokio::time::Instant;

use crate::harness::{Session, Setup, TestServer, held::HeldStore};

/// What somebody who has died may keep others waiting.
const WITHIN: Duration = Duration::from_secs(30);
/// Longer than anything that is waited for here.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Longer than any lease.
const LONG: Duration = Duration::from_secs(60);

fn shared() -> Arc<dyn Store> {
    Arc::new(MemoryStore::shared())
}

/// One who begins and never ends.
fn stalls(_: &Request) -> Vec<Step> {
    vec![Step::text("Once"), Step::Stall]
}

/// One who answers, and votes for the first option.
fn answers(request: &Request) -> Vec<Step> {
    match request.tools.iter().find(|tool| tool.name == "vote_on_poll") {
        Some(vote) => {
            let poll = &vote.parameters["properties"]["poll_id"]["enum"][0];
            let vote = json!({"poll_id": poll, "option_ids": ["1"]});
            vec![Step::tool("1", "vote_on_poll", &vote), Step::Done(Finish::ToolCalls)]
        }
        None => Step::answer("Tea."),
    }
}

async fn server(
    store: Arc<dyn Store>,
    reply: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static,
) -> TestServer {
    let setup = Setup::default().store(store).provider(ScriptedProvider::with("scripted", reply));
    let setup = setup.config(|config| {
        config.llm.budgets.server.tokens_per_day = Some(10_000_000);
        // As many as there are places below.
        config.llm.runs_per_node = 4;
        // An answer that stands still is ended by nothing else.
        config.llm.idle_timeout = PATIENCE;
        config.llm.total_timeout = PATIENCE;
    });
    setup.virtual_time().start_without_port().await
}

async fn join(server: &TestServer, room: &str, user: &str) -> Session {
    let mut session = server.join(room, user).await;
    session.patience = PATIENCE;
    session
}

/// Begins an answer, and waits until it is being written.
async fn begins(ann: &mut Session, what: Say) {
    ann.command(what).await.unwrap();
    ann.pick(|payload| matches!(payload, Payload::LlmThinking(_)).then_some(())).await;
}

fn message(text: &str) -> Say {
    crate::harness::session::message(text)
}

/// Waits for what no event tells of.
async fn until<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> (T, Duration) {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return (found, began.elapsed());
        }
        assert!(began.elapsed() < LONG, "{what}: not within {LONG:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn nodes(store: &Arc<dyn Store>) -> BTreeSet<NodeId> {
    store.leases().await.unwrap().into_iter().map(|lease| lease.node).collect()
}

fn identity(server: &TestServer) -> NodeId {
    server.server.graph().identity.now()
}

/// Waits until nothing is open any more that belongs to these; how long it took.
async fn until_closed(store: &Arc<dyn Store>, of: NodeId) -> Duration {
    let look = async || {
        let runs = store.open_runs().await.unwrap();
        let reserved = store.open_reservations().await.unwrap();
        let left = runs.iter().any(|run| run.node == of) || reserved.iter().any(|held| held.node == of);
        (!left).then_some(())
    };
    until("what a dead server left is closed", look).await.1
}

/// The ends of all answers of a room, each of them once, and no message twice.
fn ends(log: &[pb::ServerEvent]) -> Vec<Reason> {
    let (mut open, mut said, mut ends) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for event in log {
        match &event.payload {
            Some(Payload::LlmThinking(run)) => assert!(open.insert(run.message_id.clone()), "{run:?}"),
            Some(Payload::LlmDone(done)) => {
                assert!(open.remove(&done.message_id), "ended twice: {done:?}");
                ends.push(done.reason());
            }
            Some(Payload::MessageReceived(received)) => {
                let message = received.message.as_ref().unwrap();
                assert!(said.insert(message.message_id.clone()), "said twice: {message:?}");
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "never ended: {open:?}");
    ends
}

fn turns(log: &[pb::ServerEvent]) -> String {
    let turn = |event: &pb::ServerEvent| match &event.payload {
        Some(Payload::LlmThinking(run)) if run.autopilot_turn > 0 => {
            Some(format!("{}{}", run.llm_id, run.autopilot_turn))
        }
        _ => None,
    };
    log.iter().filter_map(turn).collect::<Vec<_>>().join(" ")
}

fn autopilot(on_restart: pb::AutopilotOnRestart) -> Say {
    Say::StartAutopilot(pb::StartAutopilot {
        mode: Mode::RoundRobin.into(),
        topic: "Tea or coffee?".into(),
        max_turns: 4,
        on_restart: on_restart.into(),
        ..Default::default()
    })
}

fn poll() -> Say {
    let option = |text: &str| pb::PollOptionInput { text: text.into(), ..Default::default() };
    Say::CreatePoll(pb::CreatePoll {
        question: "Which?".into(),
        options: vec![option("red"), option("green")],
        mandatory: true,
        ..Default::default()
    })
}

async fn reserved(server: &TestServer) -> u64 {
    let usage = server.client().await.get_usage(pb::GetUsageRequest::default()).await.unwrap();
    usage.into_inner().budgets.iter().map(|budget| budget.reserved).sum()
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_server_has_left_is_closed_once_by_those_that_live() {
    let store = shared();
    let way = HeldStore::new(Arc::clone(&store));
    let dies = server(Arc::<HeldStore>::clone(&way), stalls).await;
    let votes = Arc::new(AtomicUsize::new(0));
    let asked = |request: &Request, votes: &AtomicUsize| {
        if request.tools.iter().any(|tool| tool.name == "vote_on_poll") {
            votes.fetch_add(1, Ordering::SeqCst);
        }
        answers(request)
    };
    let (ones, others) = (Arc::clone(&votes), Arc::clone(&votes));
    let one = server(Arc::clone(&store), move |request| asked(request, &ones)).await;
    let other = server(Arc::clone(&store), move |request| asked(request, &others)).await;
    let mut rooms = Vec::new();
    let begun = [
        message("@a what is it?"),
        autopilot(pb::AutopilotOnRestart::Continue),
        autopilot(pb::AutopilotOnRestart::Stop),
        // For the second of them there is no place left: its vote is owed.
        poll(),
    ];
    for what in begun {
        let room = dies.room(&["a", "b"]).await;
        let mut ann = join(&dies, &room, "ann").await;
        // The others know the room, so that both could go on with what is in it.
        let others = (join(&one, &room, "bob").await, join(&other, &room, "eve").await);
        begins(&mut ann, what).await;
        rooms.push((room, ann, others));
    }
    let names: Vec<String> = rooms.iter().map(|(room, ..)| room.clone()).collect();
    let [question, goes_on, stops, asks] = names.as_slice() else { panic!("{names:?}") };
    assert_eq!(nodes(&store).await.len(), 3);
    assert_eq!(store.open_runs().await.unwrap().len(), 4 + 2);
    assert!(reserved(&one).await > 0);

    let dead = identity(&dies);
    way.hold(true);
    let took = until_closed(&store, dead).await;
    assert!(took <= WITHIN, "{took:?}");
    assert_eq!(nodes(&store).await, BTreeSet::from([identity(&one), identity(&other)]));
    let over = |payload: &Payload| match payload {
        Payload::AutopilotChanged(changed) => {
            changed.autopilot.clone().filter(|autopilot| autopilot.status() == Status::Ended)
        }
        _ => None,
    };
    assert_eq!(rooms[1].2.0.pick(over).await.reason, "all 4 turns were taken");
    let idle = async || store.open_runs().await.unwrap().is_empty().then_some(());
    until("the vote is given", idle).await;

    let log = one.log(goes_on).await;
    assert_eq!(turns(&log), "a1 b2 a3 b4", "each turn once");
    assert_eq!(ends(&log)[0], Reason::Interrupted);
    assert_eq!(ends(&one.log(question).await), [Reason::Interrupted]);
    let log = one.log(stops).await;
    assert_eq!((turns(&log).as_str(), ends(&log)), ("a1", vec![Reason::Interrupted]));
    assert_eq!(ends(&one.log(asks).await), [Reason::Interrupted, Reason::Completed]);
    assert_eq!(votes.load(Ordering::SeqCst), 1, "the vote that was owed, once");
    assert_eq!(reserved(&one).await, 0);

    // When it goes on, nothing that others have ended is ended or said again, and it goes on as another.
    way.hold(false);
    let back = async || (nodes(&store).await.len() == 3).then_some(());
    until("it comes back", back).await;
    assert_ne!(identity(&dies), dead);
    assert!(nodes(&store).await.contains(&identity(&dies)));
    let quiet = async || (dies.run_count() == 0).then_some(());
    until("it has given up", quiet).await;
    for room in &names {
        let before = one.log(room).await;
        ends(&before);
        assert_eq!(dies.log(room).await, before);
    }
    assert_eq!(reserved(&dies).await, 0);
    assert_eq!(turns(&one.log(goes_on).await), "a1 b2 a3 b4");
}

#[tokio::test(start_paused = true)]
async fn what_the_living_have_begun_is_left_alone_while_others_come_and_go() {
    let store = shared();
    let lives = server(Arc::clone(&store), stalls).await;
    let room = lives.room(&["a", "b"]).await;
    let mut ann = join(&lives, &room, "ann").await;
    begins(&mut ann, message("@a what is it?")).await;
    begins(&mut ann, autopilot(pb::AutopilotOnRestart::Stop)).await;
    let both = async || {
        let held = store.open_reservations().await.unwrap();
        (held.len() == 2).then_some(held)
    };
    let (held, _) = until("both are asked", both).await;
    let open = store.open_runs().await.unwrap();
    assert_eq!(open.len(), 3);
    for _ in 0..3 {
        let comes = server(HeldStore::new(Arc::clone(&store)), answers).await;
        let stays = nodes(&store).await;
        assert_eq!(stays, BTreeSet::from([identity(&lives), identity(&comes)]));
        tokio::time::sleep(LONG).await;
        assert_eq!(nodes(&store).await, stays, "nobody is buried alive");
        assert_eq!(store.open_runs().await.unwrap().len(), open.len());
        assert_eq!(store.open_reservations().await.unwrap(), held);
        // As it goes, it gives its lease back: nobody has to wait for it. Its store is another's as well.
        comes.server.shutdown(Duration::from_secs(1)).await;
        assert_eq!(nodes(&store).await, BTreeSet::from([identity(&lives)]));
    }
    let done = ann.settle().await;
    assert!(!done.iter().any(|event| matches!(event.payload, Some(Payload::LlmDone(_)))), "{done:?}");
}

#[tokio::test(start_paused = true)]
async fn who_cannot_say_that_it_lives_is_another_when_it_can() {
    let store = shared();
    // Only its beats stand still: all else it does as before, also in the name that it has lost.
    let way = HeldStore::of_beats(Arc::clone(&store));
    let slow = server(Arc::<HeldStore>::clone(&way), stalls).await;
    let other = server(Arc::clone(&store), answers).await;
    let room = slow.room(&["a"]).await;
    let mut ann = join(&slow, &room, "ann").await;
    begins(&mut ann, message("@a what is it?")).await;
    let was = identity(&slow);
    way.hold(true);
    let took = until_closed(&store, was).await;
    assert!(took <= WITHIN, "{took:?}");
    // It has heard of the end like everybody; what it begins now belongs to nobody who lives.
    ann.pick(|payload| matches!(payload, Payload::LlmDone(_)).then_some(())).await;
    assert_eq!(identity(&slow), was);
    begins(&mut ann, message("@a and now?")).await;
    let took = until_closed(&store, was).await;
    assert!(took <= WITHIN, "{took:?}");
    way.hold(false);
    let back = async || (identity(&slow) != was).then_some(());
    until("it has learnt of it", back).await;
    let quiet = async || (slow.run_count() == 0).then_some(());
    until("it has given up", quiet).await;
    begins(&mut ann, message("@a once more?")).await;
    let open = store.open_runs().await.unwrap();
    assert_eq!(open.iter().map(|run| run.node).collect::<Vec<_>>(), [identity(&slow)]);
    tokio::time::sleep(LONG).await;
    assert_eq!(store.open_runs().await.unwrap(), open, "now it is among the living");
    let interrupt = pb::InterruptLlm { llm_id: "a".into(), message_id: None };
    ann.command(Say::Interrupt(interrupt)).await.unwrap();
    let idle = async || store.open_runs().await.unwrap().is_empty().then_some(());
    until("it ends", idle).await;
    assert_eq!(ends(&other.log(&room).await), [Reason::Interrupted; 3]);
    assert_eq!(reserved(&other).await, 0);
}

#[tokio::test(start_paused = true)]
async fn when_the_store_was_away_for_all_nobody_is_dead() {
    let store = shared();
    let ways = [HeldStore::new(Arc::clone(&store)), HeldStore::new(Arc::clone(&store))];
    let one = server(Arc::<HeldStore>::clone(&ways[0]), stalls).await;
    let _other = server(Arc::<HeldStore>::clone(&ways[1]), answers).await;
    let room = one.room(&["a"]).await;
    let mut ann = join(&one, &room, "ann").await;
    begins(&mut ann, message("@a what is it?")).await;
    let (before, open) = (nodes(&store).await, store.open_runs().await.unwrap());
    for round in 0..5_u32 {
        ways.iter().for_each(|way| way.hold(true));
        tokio::time::sleep(LONG).await;
        // Whichever comes back first may not take the other for dead.
        ways[round as usize % 2].hold(false);
        tokio::time::sleep(Duration::from_secs(9)).await;
        ways.iter().for_each(|way| way.hold(false));
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(nodes(&store).await, before);
        assert_eq!(store.open_runs().await.unwrap(), open);
    }
}

#[tokio::test(start_paused = true)]
async fn who_close_the_same_at_once_record_each_end_once() {
    let store = shared();
    let way = HeldStore::new(Arc::clone(&store));
    let dies = server(Arc::<HeldStore>::clone(&way), stalls).await;
    let closers = [server(Arc::clone(&store), answers).await, server(Arc::clone(&store), answers).await];
    let room = dies.room(&["a", "b"]).await;
    let mut ann = join(&dies, &room, "ann").await;
    begins(&mut ann, autopilot(pb::AutopilotOnRestart::Continue)).await;
    let pause = pb::ControlAutopilot { action: pb::AutopilotAction::Pause.into(), reason: String::new() };
    ann.command(Say::ControlAutopilot(pause)).await.unwrap();
    begins(&mut ann, message("@b what is it?")).await;
    let open = store.open_runs().await.unwrap();
    assert_eq!(open.len(), 3);
    way.hold(true);
    let before = closers[0].log(&room).await.len();
    let close = |server: &TestServer| {
        let (rooms, open) = (server.server.graph().rooms.clone(), open.clone());
        async move { rooms.close_orphans(open).await }
    };
    let done = tokio::join!(close(&closers[0]), close(&closers[1]), close(&closers[0]));
    assert_eq!((done.0.left, done.1.left, done.2.left), (0, 0, 0));
    let log = closers[0].log(&room).await;
    assert_eq!(ends(&log), [Reason::Interrupted; 2]);
    let changed = |event: &&pb::ServerEvent| matches!(event.payload, Some(Payload::AutopilotChanged(_)));
    // That it goes on elsewhere, and what its turn has come to.
    assert_eq!(log[before..].iter().filter(changed).count(), 2, "{:?}", &log[before..]);
    let left = store.open_runs().await.unwrap();
    assert_eq!(left.len(), 1);
    assert!(closers.iter().any(|closer| identity(closer) == left[0].node), "it belongs to who recorded it");
}

/// Ann, who waits for an answer.
async fn asks(server: &TestServer, room: &str) -> Session {
    let mut ann = join(server, room, "ann").await;
    begins(&mut ann, message("@a what is it?")).await;
    ann
}

#[tokio::test(start_paused = true)]
async fn a_room_that_cannot_be_written_to_keeps_nothing_else_from_being_closed() {
    let store = shared();
    let way = HeldStore::new(Arc::clone(&store));
    let dies = server(Arc::<HeldStore>::clone(&way), stalls).await;
    let (mut rooms, mut sessions) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        rooms.push(dies.room(&["a"]).await);
        sessions.push(asks(&dies, rooms.last().unwrap()).await);
    }
    rooms.sort_unstable();
    let (stuck, other) = (rooms[0].as_str(), rooms[1].as_str());
    // Nobody who lives can write to it.
    let locked = HeldStore::of_room(Arc::clone(&store), stuck);
    let way_later = HeldStore::new(Arc::<HeldStore>::clone(&locked));
    let dies_later = server(Arc::<HeldStore>::clone(&way_later), stalls).await;
    let last = dies_later.room(&["a"]).await;
    sessions.push(asks(&dies_later, &last).await);
    let (first, second) = (identity(&dies), identity(&dies_later));
    let closer = server(Arc::<HeldStore>::clone(&locked), answers).await;
    locked.hold(true);
    let is_left =
        async |room: &str| store.open_runs().await.unwrap().iter().any(|run| run.room.as_str() == room);
    way.hold(true);
    until("the other room is closed", async || (!is_left(other).await).then_some(())).await;
    let left = async || {
        let reserved = store.open_reservations().await.unwrap();
        (!reserved.iter().any(|held| held.node == first)).then_some(())
    };
    until("what was reserved is settled", left).await;
    assert!(is_left(stuck).await);
    // Looking goes on meanwhile: who dies now is found as well.
    way_later.hold(true);
    let (_, took) = until("the next who is dead is found", async || {
        (!nodes(&store).await.contains(&second) && !is_left(&last).await).then_some(())
    })
    .await;
    assert!(took < WITHIN, "{took:?}");
    assert!(is_left(stuck).await);
    locked.hold(false);
    until("the room that was stuck is closed", async || (!is_left(stuck).await).then_some(())).await;
    drop(closer);
}

#[tokio::test(start_paused = true)]
async fn an_autopilot_is_taken_from_the_same_node_twice() {
    let store = shared();
    let was = server(Arc::clone(&store), stalls).await;
    let closer = server(Arc::clone(&store), stalls).await;
    let room = was.room(&["a", "b"]).await;
    let mut ann = join(&was, &room, "ann").await;
    begins(&mut ann, autopilot(pb::AutopilotOnRestart::Continue)).await;
    let owners = async || {
        let open = store.open_runs().await.unwrap();
        open.into_iter().map(|run| run.node).collect::<BTreeSet<_>>()
    };
    let control = |action: pb::AutopilotAction| {
        Say::ControlAutopilot(pb::ControlAutopilot { action: action.into(), reason: String::new() })
    };
    for action in [pb::AutopilotAction::Pause, pb::AutopilotAction::Resume, pb::AutopilotAction::Pause] {
        // It is steered in the old name once more.
        ann.command(control(action)).await.unwrap();
        assert!(owners().await.contains(&identity(&was)));
        let open = store.open_runs().await.unwrap();
        let of_old = open.into_iter().filter(|run| run.node == identity(&was)).collect();
        let closed = closer.server.graph().rooms.close_orphans(of_old).await;
        assert_eq!(closed.left, 0);
        assert!(!owners().await.contains(&identity(&was)), "{action:?}");
    }
}
