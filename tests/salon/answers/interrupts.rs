//! Stopping answers: at once, exactly those that are meant, and with what was said kept.

use std::time::{Duration, Instant};

use salon::llm::{
    Finish,
    scripted::{Call, Script, ScriptedProvider},
};
use serde_json::json;

use super::*;

/// A server whose model `script` plays; `runs` answers run at the same time in a room.
async fn scripted(runs: usize) -> (TestServer, Script) {
    let (provider, script) = ScriptedProvider::new("scripted");
    let server = Setup::default().provider(provider).config(|c| c.llm.runs_per_room = runs).start().await;
    (server, script)
}

/// Lets `who` ask ada, and her begin to answer with `text`, which `who` hears.
async fn begin(who: &mut Session, script: &mut Script, text: &str) -> (Call, pb::LlmThinking) {
    who.talk("@ada hello").await;
    let mut call = script.next_call().await.unwrap();
    let thinking = thinking(who).await;
    assert!(call.text(text).await);
    who.find(|event| matches!(&event.payload, Some(Payload::LlmChunk(chunk)) if chunk.content == text)).await;
    (call, thinking)
}

/// How often an answer is stopped to see how long that takes.
const INTERRUPTS: usize = 200;
/// How many round trips of the same stream may pass between an interrupt and the end of the call upstream: the ack is
/// one, what follows in the server and on the way to a model takes a few more.
const ROUND_TRIPS: u32 = 10;
/// Below this a round trip is as long as the machine is busy with something else.
const SHORTEST: Duration = Duration::from_millis(5);

/// What 50 and 99 of 100 take at most.
fn percentiles(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100 - 1])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[expect(clippy::print_stdout, reason = "figures")]
async fn an_interrupt_closes_the_call_upstream_at_once() {
    let fake = FakeOpenAi::start(Reply::stream().delta(&json!({"content": "For ever"})).stall()).await;
    let server = over_the_wire(&fake).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut bob = server.join(&room, "bob").await;
    let (mut closed, mut round_trips) = (Vec::new(), Vec::new());
    for n in 1..=INTERRUPTS {
        ann.talk("@ada hello").await;
        let thinking = thinking(&mut bob).await;
        let first = chunk(&mut bob).await;
        let asked = Instant::now();
        bob.settle().await;
        round_trips.push(asked.elapsed());
        let sent = Instant::now();
        bob.say(interrupt("ada", None)).await;
        fake.disconnected(n).await;
        closed.push(sent.elapsed());
        let heard = follow_from(&mut bob, thinking, vec![first]).await;
        let other = follow(&mut ann).await;
        assert_eq!((&heard.chunks, &heard.message), (&other.chunks, &other.message));
        for answer in [heard, other] {
            answer.assert_ended(Reason::Interrupted, "For ever");
            assert_eq!(answer.done.detail, "interrupted by bob");
        }
    }
    let ((median, most), (trip, slow)) = (percentiles(&mut closed), percentiles(&mut round_trips));
    println!("{INTERRUPTS} interrupts, to the end upstream: p50 {median:?}, p99 {most:?}");
    println!("a round trip: p50 {trip:?}, p99 {slow:?}");
    let bound = slow.max(SHORTEST) * ROUND_TRIPS;
    assert!(most < bound, "p99 {most:?}, and a round trip {slow:?}");
    assert_eq!(all_ended_once(&server, &room).await.len(), INTERRUPTS);
    server.shutdown().await;
}

#[tokio::test]
async fn one_of_two_answers_of_the_same_llm_is_stopped_by_its_id() {
    let (server, mut script) = scripted(8).await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    let (mut first, one) = begin(&mut ann, &mut script, "one").await;
    let (second, two) = begin(&mut ann, &mut script, "two").await;
    let unknown = ann.command(interrupt("", Some("01890000-0000-7000-8000-000000000000"))).await.unwrap_err();
    assert_eq!(unknown.code, "not_found");
    ann.command(interrupt("ada", Some(&two.message_id))).await.unwrap();
    second.cancelled().await;
    assert!(first.text(" goes on").await && first.done(Finish::Stop).await);
    // Both first chunks were taken already.
    let ended = [end_of(&mut ann, &two).await, end_of(&mut ann, &one).await];
    assert_eq!(ended, [(Reason::Interrupted, "two".into()), (Reason::Completed, "one goes on".into())]);
    all_ended_once(&server, &room).await;
    let over = ann.command(interrupt("ada", None)).await.unwrap_err();
    assert_eq!(over.code, "not_found", "nothing is left to stop");
    server.shutdown().await;
}

/// How an answer ended whose chunks are of no interest, and its text.
async fn end_of(session: &mut Session, thinking: &pb::LlmThinking) -> (Reason, String) {
    let id = &thinking.message_id;
    let done = session
        .pick(|p| match p {
            Payload::LlmDone(done) if done.message_id == *id => Some(done.reason()),
            _ => None,
        })
        .await;
    let text = session
        .pick(|p| match p {
            Payload::MessageReceived(r) => {
                r.message.clone().filter(|m| m.message_id == *id).map(|m| m.content)
            }
            _ => None,
        })
        .await;
    (done, text)
}

#[tokio::test]
async fn an_answer_that_waits_is_stopped_without_a_trace() {
    let (server, mut script) = scripted(1).await;
    let room = server.room(&["ada", "bob"]).await;
    let mut ann = server.join(&room, "ann").await;
    let (call, one) = begin(&mut ann, &mut script, "one").await;
    ann.talk("@bob and you?").await;
    assert_eq!(server.run_count(), 2);
    ann.command(interrupt("bob", None)).await.unwrap();
    assert_eq!(server.run_count(), 1);
    assert!(!call.is_cancelled() && call.done(Finish::Stop).await);
    assert_eq!(end_of(&mut ann, &one).await, (Reason::Completed, "one".into()));
    quiet(&server).await;
    assert_eq!(all_ended_once(&server, &room).await.len(), 1, "bob has not begun");
    server.shutdown().await;
}

#[tokio::test]
async fn an_answer_outlives_the_stream_of_whoever_asked() {
    let (server, mut script) = scripted(8).await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut bob = server.join(&room, "bob").await;
    let (mut call, _) = begin(&mut ann, &mut script, "one").await;
    drop(ann);
    bob.pick(|p| matches!(p, Payload::UserLeft(left) if left.user_id == "ann").then_some(())).await;
    assert!(call.text(" two").await && call.done(Finish::Stop).await);
    follow(&mut bob).await.assert_ended(Reason::Completed, "one two");
    server.shutdown().await;
}

#[tokio::test]
async fn a_viewer_stops_nothing() {
    let (server, mut script) = scripted(8).await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut eve = Session::open(server.client().await).await;
    let join = crate::harness::session::join(&room, "eve");
    eve.say(Say::Join(pb::JoinRoom { role: pb::Role::Viewer.into(), ..join })).await;
    eve.take_state().await;
    let (call, one) = begin(&mut ann, &mut script, "one").await;
    assert_eq!(eve.command(interrupt("ada", None)).await.unwrap_err().code, "permission_denied");
    assert!(!call.is_cancelled() && call.done(Finish::Stop).await);
    assert_eq!(end_of(&mut ann, &one).await, (Reason::Completed, "one".into()));
    server.shutdown().await;
}
