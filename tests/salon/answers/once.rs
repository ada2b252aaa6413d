//! Whatever goes wrong, and whenever: an answer that has begun ends once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use salon::{
    llm::{Delta, Deltas, Error, ErrorKind, Finish, Provider, Request, ToolCall, scripted::ScriptedProvider},
    store::Store,
};

use super::*;
use crate::harness::gate::GatedStore;

const SEEDS: std::ops::Range<u64> = 0..8;
const STEPS: usize = 600;
const LLMS: [&str; 3] = ["ada", "bob", "eve"];

/// Numbers that look like chance and are the same in every run.
#[derive(Debug)]
struct Chance(AtomicU64);

impl Chance {
    fn below(&self, n: u64) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn of<'a, T>(&self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// A model that does anything.
#[derive(Debug)]
struct Wild(Arc<Chance>);

fn broken() -> Error {
    let message = "told to fail".to_owned();
    Error { kind: ErrorKind::Overloaded, provider: "wild".into(), message, retry_after: None }
}

fn text(text: &str) -> Result<Delta, Error> {
    Ok(Delta::Text(text.to_owned()))
}

fn call(name: &str) -> Result<Delta, Error> {
    Ok(Delta::ToolCall(ToolCall { id: "1".into(), name: name.into(), arguments: "{}".into() }))
}

#[async_trait]
impl Provider for Wild {
    fn name(&self) -> &'static str {
        "wild"
    }

    async fn answer(&self, _: Request) -> Result<Deltas, Error> {
        let done = || Ok(Delta::Done(Finish::Stop));
        let behind =
            |n: u64| stream::once(tokio::time::sleep(Duration::from_millis(n))).filter_map(async |()| None);
        let said = match self.0.below(12) {
            0 => return Err(broken()),
            1 => panic!("told to panic"),
            2 => std::future::pending().await,
            3 => vec![text("Half"), Err(broken())],
            4 => vec![text("No end")],
            5 => vec![done()],
            6 => vec![call("opt_out"), Ok(Delta::Done(Finish::ToolCalls))],
            7 => vec![call("no_such_tool"), Ok(Delta::Done(Finish::ToolCalls))],
            8 => {
                let (half, rest) =
                    (stream::iter([text("Half")]), stream::once(async { panic!("told to panic") }));
                return Ok(half.chain(rest).boxed());
            }
            9 => return Ok(stream::iter([text("Half")]).chain(stream::pending()).boxed()),
            10 => vec![text("Ask @bob."), done()],
            _ => vec![text("A whole answer"), done()],
        };
        Ok(behind(self.0.below(30)).chain(stream::iter(said)).boxed())
    }
}

/// Something that a person does; whether it is refused does not matter here.
async fn act(chance: &Chance, session: &mut Session, messages: &mut Vec<String>, store: &GatedStore) {
    let llm = *chance.of(&LLMS);
    let command = match chance.below(18) {
        0 => interrupt("", None),
        1 => interrupt(llm, None),
        2 => Say::RemoveLlm(pb::RemoveLlm { llm_id: llm.into() }),
        3 | 4 => Say::AddLlm(pb::AddLlm { llm: Some(crate::harness::llm(llm)) }),
        5 => turns(*chance.of(&[
            pb::TurnPolicy::Parallel,
            pb::TurnPolicy::Sequential,
            pb::TurnPolicy::LatestWins,
        ])),
        6 if !messages.is_empty() => Say::EditMessage(pb::EditMessage {
            message_id: chance.of(messages).clone(),
            content: format!("@{llm} or rather this?"),
            regenerate: true,
        }),
        7 => {
            let options =
                ["a", "b"].map(|text| pb::PollOptionInput { text: text.into(), ..Default::default() });
            let mandatory = chance.below(2) == 0;
            let question = "Which?".into();
            Say::CreatePoll(pb::CreatePoll {
                question,
                options: options.into(),
                mandatory,
                ..Default::default()
            })
        }
        8 | 9 => {
            let is_answer = |p: &Payload| {
                if let Payload::LlmDone(done) = p { Some(done.message_id.clone()) } else { None }
            };
            let done =
                session.settle().await.into_iter().filter_map(|e| e.payload.as_ref().and_then(is_answer));
            let Some(message_id) = done.last() else { return };
            Say::Regenerate(pb::Regenerate { message_id, model: String::new() })
        }
        10 => return store.fail_one(),
        12 => return store.lose_nth(1 + usize::try_from(chance.below(4)).unwrap()),
        11 => return tokio::time::sleep(Duration::from_millis(chance.below(40))).await,
        _ => crate::harness::session::message(&format!("@{llm} what is it?")),
    };
    let said = matches!(command, Say::Message(_));
    if let (Ok(ack), true) = (session.command(command).await, said) {
        messages.push(ack.event_id);
    }
}

async fn run(seed: u64) -> usize {
    let chance = Arc::new(Chance(AtomicU64::new(seed)));
    let store = Arc::new(GatedStore::new());
    let config = |config: &mut salon::config::Config| {
        config.llm.runs_per_node = 5;
        config.llm.runs_per_room = 3;
        config.llm.queue_per_room = 4;
        config.llm.first_token_timeout = Duration::from_millis(200);
        config.llm.idle_timeout = Duration::from_millis(200);
        config.llm.total_timeout = Duration::from_secs(1);
    };
    let kept: Arc<dyn Store> = Arc::<GatedStore>::clone(&store);
    let setup = Setup::default().provider(Wild(Arc::clone(&chance))).store(kept).config(config);
    let server = setup.virtual_time().start_without_port().await;
    let mut rooms = Vec::new();
    for _ in 0..3 {
        let room = server.room(&LLMS).await;
        let mut session = server.join(&room, "admin").await;
        session.patience = Duration::from_secs(3600);
        rooms.push((room, session, Vec::new()));
    }
    for _ in 0..STEPS {
        let at = usize::try_from(chance.below(3)).unwrap();
        let (_, session, messages) = &mut rooms[at];
        act(&chance, session, messages, &store).await;
    }
    // One room ends in the middle of whatever it does, the others come to rest.
    let _ = rooms[0].1.command(Say::EndRoom(pb::EndRoom::default())).await;
    quiet(&server).await;
    let mut ended = 0;
    for (room, ..) in &rooms {
        ended += all_ended_once(&server, room).await.len();
    }
    server.shutdown().await;
    ended
}

#[tokio::test(start_paused = true)]
#[expect(clippy::print_stdout, reason = "figures")]
async fn every_answer_that_begins_ends_once_whatever_goes_wrong() {
    let mut ended = 0;
    for seed in SEEDS {
        let runs = run(seed).await;
        println!("seed {seed}: {runs} answers");
        ended += runs;
    }
    assert!(ended > 500, "only {ended} answers");
}

#[tokio::test]
async fn what_is_in_the_log_is_asked_once_although_the_store_said_that_it_failed() {
    let store = Arc::new(GatedStore::new());
    let server = Setup::default().store(Arc::<GatedStore>::clone(&store)).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.settle().await;
    store.lose_nth(1);
    let failed = ann.command(crate::harness::session::message("@ada hello")).await.unwrap_err();
    assert_eq!(failed.code, "unavailable");
    follow(&mut ann).await;
    quiet(&server).await;
    assert_eq!(all_ended_once(&server, &room).await.len(), 1);
    // What was not stored asks nobody.
    store.fail_one();
    let failed = ann.command(crate::harness::session::message("@ada and now?")).await.unwrap_err();
    assert_eq!(failed.code, "unavailable");
    quiet(&server).await;
    assert_eq!(all_ended_once(&server, &room).await.len(), 1);
    server.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_log_is_asked_although_it_could_not_be_read_for_long() {
    let store = Arc::new(GatedStore::new());
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let setup = Setup::default().provider(provider).store(Arc::<GatedStore>::clone(&store)).virtual_time();
    let server = setup.start_without_port().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.settle().await;
    store.lose_nth(1);
    store.reads_fail(true);
    let failed = ann.command(crate::harness::session::message("@ada hello")).await.unwrap_err();
    assert_eq!(failed.code, "unavailable");
    // Nobody is there any more, and a room without doubts would be forgotten.
    drop(ann);
    tokio::time::sleep(3 * server.config.rooms.idle_unload).await;
    store.reads_fail(false);
    let asked = tokio::time::timeout(crate::harness::DEADLINE, script.next_call());
    let call = asked.await.expect("nobody asked her").unwrap();
    assert!(call.done(Finish::Stop).await);
    quiet(&server).await;
    assert_eq!(all_ended_once(&server, &room).await.len(), 1);
    server.shutdown().await;
}
