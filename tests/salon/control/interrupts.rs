//! Interrupts of answers that another server writes.

use super::*;
use crate::harness::until;

/// A model for the first server, which the test plays; the second one's must not be asked.
async fn pair(runs: usize) -> (Pair, String, Script) {
    let (provider, script) = ScriptedProvider::new("scripted");
    let a = Setup::default().provider(provider).config(|config| config.llm.runs_per_room = runs);
    let pair = Pair::of(a, Setup::default().provider(nobody())).await;
    let room = pair.room(&["ada", "bot"]).await;
    (pair, room, script)
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_reaches_whoever_writes_although_the_first_word_is_lost() {
    let (pair, room, mut script) = pair(4).await;
    let (mut ann, mut bob) = (pair.a.join(&room, "ann").await, pair.b.join(&room, "bob").await);
    ann.talk("@ada hello").await;
    let call = begins(&mut script, "For ever").await;
    chunk(&mut bob, "For ever").await;
    ann.talk("@bot hello").await;
    let other = begins(&mut script, "Me too").await;
    let mut lost = false;
    pair.hub.loses(move |message| is_interrupt(message) && !std::mem::replace(&mut lost, true));
    // It is accepted at once, whatever becomes of it, and the session goes on.
    bob.command(interrupt("ada", None)).await.unwrap();
    assert!(!call.is_cancelled());
    bob.talk("and?").await;
    call.cancelled().await;
    for session in [&mut ann, &mut bob] {
        let end = done(session).await;
        assert_eq!((end.llm_id.as_str(), end.reason()), ("ada", pb::LlmDoneReason::Interrupted));
        assert_eq!(end.detail, "interrupted by bob");
    }
    assert_eq!(pair.hub.interrupts(), 2);
    let said = messages(&pair.b.log(&room).await).into_iter().find(|m| m.sender_id == "ada").unwrap();
    assert_eq!((said.content.as_str(), said.partial), ("For ever", true));
    // The other answer goes on, and nothing more is sent.
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(!other.is_cancelled() && pair.hub.interrupts() == 2);
    let nothing = bob.command(interrupt("ada", None)).await.unwrap_err();
    assert_eq!(nothing.code, "not_found");
    pair.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_answer_or_all_and_those_that_wait() {
    let (pair, room, mut script) = pair(2).await;
    let (mut ann, mut bob) = (pair.a.join(&room, "ann").await, pair.b.join(&room, "bob").await);
    for _ in 0..4 {
        ann.talk("@ada hello").await;
    }
    let calls = [begins(&mut script, "one").await, begins(&mut script, "two").await];
    let (first, second) = (thinking(&mut bob).await, thinking(&mut bob).await);
    bob.command(interrupt("", Some(&second.message_id))).await.unwrap();
    assert_eq!(done(&mut bob).await.message_id, second.message_id);
    let third = begins(&mut script, "three").await;
    thinking(&mut bob).await;
    // Two that begin at the same time may ask the model in either order.
    assert_eq!(calls.iter().filter(|call| call.is_cancelled()).count(), 1);
    // All: also the one that has not begun.
    bob.command(interrupt("", None)).await.unwrap();
    third.cancelled().await;
    calls[0].cancelled().await;
    calls[1].cancelled().await;
    until("an answer was left over", || pair.a.run_count() == 0).await;
    let log = pair.b.log(&room).await;
    let ended = log.iter().filter(|event| matches!(event.payload, Some(Payload::LlmDone(_)))).count();
    assert_eq!(ended, 3, "the fourth has never begun");
    assert!(log.iter().any(
        |event| matches!(&event.payload, Some(Payload::LlmDone(done)) if done.message_id == first.message_id)
    ));
    pair.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_behind_an_interrupt_is_not_meant_by_it() {
    let (pair, room, mut script) = pair(4).await;
    let (mut ann, mut bob) = (pair.a.join(&room, "ann").await, pair.b.join(&room, "bob").await);
    ann.talk("@ada hello").await;
    let call = begins(&mut script, "old").await;
    thinking(&mut bob).await;
    // Nothing gets through for a while: one answer ends by itself, and another one begins.
    pair.hub.loses(is_interrupt);
    bob.command(interrupt("ada", None)).await.unwrap();
    ann.talk("@bot hello").await;
    ann.talk("@ada again").await;
    let later = [begins(&mut script, "new").await, begins(&mut script, "new").await];
    pair.hub.loses(|_| false);
    call.cancelled().await;
    assert_eq!(done(&mut bob).await.llm_id, "ada");
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(later.iter().all(|call| !call.is_cancelled()));
    pair.end().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_for_ever_who_does_not_hear() {
    let (pair, room, mut script) = pair(4).await;
    let (mut ann, mut bob) = (pair.a.join(&room, "ann").await, pair.b.join(&room, "bob").await);
    ann.talk("@ada hello").await;
    let call = begins(&mut script, "on and on").await;
    thinking(&mut bob).await;
    pair.hub.loses(is_interrupt);
    bob.command(interrupt("ada", None)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(pair.hub.interrupts(), 10);
    assert!(!call.is_cancelled());
    pair.end().await;
}
