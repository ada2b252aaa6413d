//! How an answer reaches the room: merged, whole, and for whoever comes in the middle as well.

use std::time::Duration;

use salon::llm::{
    Finish,
    scripted::{ScriptedProvider, Step},
};
use serde_json::json;
use tokio::task::JoinSet;

use super::*;

const DELTAS: usize = 10_000;

#[tokio::test]
#[expect(clippy::print_stdout, reason = "figures")]
async fn many_small_deltas_become_few_chunks() {
    // Not with an `a`, which could become "ada:", and would be held back until that is clear.
    let text: String = ('b'..='z').cycle().take(DELTAS).collect();
    let steps: Vec<Step> = text.chars().map(Step::text).chain([Step::Done(Finish::Stop)]).collect();
    let server =
        Setup::default().provider(ScriptedProvider::with("scripted", move |_| steps.clone())).start().await;
    let window = server.config.llm.chunk_window;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada hello").await;
    let answer = follow(&mut ann).await;
    answer.assert_ended(Reason::Completed, &text);
    assert_eq!(answer.chunks[0].content, "b", "the first goes out at once");
    // The first, the last, and one a window between them.
    let windows = u128::from(answer.done.duration_ms) / window.as_millis();
    let most = 2 + usize::try_from(windows).unwrap();
    println!("{DELTAS} deltas in {} ms: {} chunks", answer.done.duration_ms, answer.chunks.len());
    assert!(answer.chunks.len() <= most && most < DELTAS / 10, "{} chunks", answer.chunks.len());
    server.shutdown().await;
}

#[tokio::test]
async fn a_real_stream_of_small_events_is_merged_too() {
    let text = "ab".repeat(1000);
    let reply =
        text.chars().fold(Reply::stream(), |reply, c| reply.delta(&json!({"content": c}))).end("stop");
    let fake = FakeOpenAi::start(reply).await;
    let server = over_the_wire(&fake).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada hello").await;
    let answer = follow(&mut ann).await;
    answer.assert_ended(Reason::Completed, &text);
    let windows = answer.done.duration_ms / 40;
    assert!(answer.chunks.len() <= 2 + windows as usize, "{} in {windows} windows", answer.chunks.len());
    server.shutdown().await;
}

#[tokio::test]
async fn the_first_text_does_not_wait_and_the_next_not_for_more() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let server = Setup::default().provider(provider).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada hello").await;
    let mut call = script.next_call().await.unwrap();
    // Each is seen although the model says no more behind it.
    for (text, offset) in [("one", 0), (" two", 3), (" three", 7)] {
        assert!(call.text(text).await);
        let chunk = chunk(&mut ann).await;
        assert_eq!((chunk.content.as_str(), chunk.offset), (text, offset));
    }
    server.shutdown().await;
}

/// The text so far that a joiner is given and the chunks behind it must be the whole answer.
async fn hears_it_all(mut session: Session, text: &str, so_far: Option<&str>) {
    let given = std::mem::take(&mut session.state.active_answers);
    let (before, answer) = match given.as_slice() {
        [active] => {
            assert_eq!(
                (active.llm_id.as_str(), so_far.unwrap_or(&active.content)),
                ("ada", &*active.content)
            );
            let thinking = pb::LlmThinking { message_id: active.message_id.clone(), ..Default::default() };
            (active.content.clone(), rest_of(&mut session, thinking).await)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(concatenated(&answer.0, &before), text, "joined behind {before:?}");
    assert_eq!(answer.1, text);
}

/// The chunks that are still to come, and the final text.
async fn rest_of(session: &mut Session, thinking: pb::LlmThinking) -> (Vec<pb::LlmChunk>, String) {
    let id = thinking.message_id;
    let mut chunks = Vec::new();
    loop {
        let of_answer = |payload: &Payload| match payload {
            Payload::LlmChunk(chunk) if chunk.message_id == id => Some(Ok(chunk.clone())),
            Payload::MessageReceived(received) => {
                received.message.clone().filter(|m| m.message_id == id).map(|m| Err(m.content))
            }
            _ => None,
        };
        match session.pick(of_answer).await {
            Ok(chunk) => chunks.push(chunk),
            Err(text) => return (chunks, text),
        }
    }
}

#[tokio::test]
async fn whoever_joins_in_the_middle_has_the_whole_text_at_every_cut() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let at_once = |config: &mut salon::config::Config| config.llm.chunk_window = Duration::ZERO;
    let server = Setup::default().provider(provider).config(at_once).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada hello").await;
    let mut call = script.next_call().await.unwrap();
    let words = ["", "Grüße", " aus", " 東京", ",\n", "wie", " geht", " es", "? 👋🏽", " Gut", "."];
    let (mut so_far, mut joined) = (String::new(), Vec::new());
    for (n, word) in words.into_iter().enumerate() {
        assert!(call.text(word).await);
        if !word.is_empty() {
            assert_eq!(chunk(&mut ann).await.content, word);
        }
        so_far.push_str(word);
        joined.push((server.join(&room, &format!("late{n}")).await, so_far.clone()));
    }
    assert!(call.done(Finish::Stop).await);
    for (session, cut) in joined {
        hears_it_all(session, &so_far, Some(&cut)).await;
    }
    let after = server.join(&room, "after").await;
    assert_eq!(after.state.active_answers, []);
    assert_eq!(after.state.messages.last().unwrap().content, so_far);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[expect(clippy::print_stdout, reason = "figures")]
async fn joins_that_race_with_chunks_miss_and_repeat_nothing() {
    let (provider, mut script) = ScriptedProvider::new("scripted");
    let at_once = |config: &mut salon::config::Config| config.llm.chunk_window = Duration::ZERO;
    let server = Setup::default().provider(provider).config(at_once).start().await;
    let room = server.room(&["ada"]).await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@ada hello").await;
    let mut call = script.next_call().await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..24 {
        clients.push(server.client().await);
    }
    assert!(call.text("begin").await);
    chunk(&mut ann).await;
    let (mut joins, mut sessions) = (JoinSet::new(), Vec::new());
    let mut text = "begin".to_owned();
    // The model talks until everybody is in; every few words another one comes.
    for n in 0.. {
        let word = format!(" {n}");
        assert!(call.text(&word).await);
        text.push_str(&word);
        // Nobody's queue may run over: what is left out is not what is tested here.
        if n % 4 == 3 {
            chunk_up_to(&mut ann, text.len()).await;
            if let Some(client) = clients.pop() {
                let room = room.clone();
                joins.spawn(async move { Session::join(client, &room, &format!("late{n}")).await });
            }
        }
        while let Some(session) = joins.try_join_next() {
            sessions.push(session.unwrap());
        }
        if joins.is_empty() && clients.is_empty() {
            break;
        }
    }
    assert!(call.done(Finish::Stop).await);
    let cuts: std::collections::BTreeSet<usize> =
        sessions.iter().map(|s| s.state.active_answers[0].content.len()).collect();
    assert!(cuts.len() > 1, "all joined at the same time");
    println!("{} sessions joined at {} cuts of {} bytes", sessions.len(), cuts.len(), text.len());
    for session in sessions {
        hears_it_all(session, &text, None).await;
    }
    server.shutdown().await;
}

/// Waits for the chunk that ends at `len`.
async fn chunk_up_to(session: &mut Session, len: usize) {
    while {
        let chunk = chunk(session).await;
        chunk.offset + (chunk.content.len() as u64) < len as u64
    } {}
}
