//! SIGKILL while LLMs answer.

use std::collections::BTreeMap;

use salon::wire::pb::room::v1::{self as pb, server_event::Payload};
use serde_json::json;

use super::{Place, Salon};
use crate::{
    fake_openai::{FakeOpenAi, Received, Reply},
    harness::{
        Session,
        session::{is_lasting, message},
    },
};

/// How often each answer was begun, and how it ended.
fn runs(log: &[pb::ServerEvent]) -> BTreeMap<String, (usize, Vec<pb::LlmDoneReason>)> {
    let mut runs = BTreeMap::<String, (usize, Vec<pb::LlmDoneReason>)>::new();
    for event in log {
        match &event.payload {
            Some(Payload::LlmThinking(thinking)) => {
                runs.entry(thinking.message_id.clone()).or_default().0 += 1;
            }
            Some(Payload::LlmDone(done)) => {
                runs.entry(done.message_id.clone()).or_default().1.push(done.reason());
            }
            _ => {}
        }
    }
    runs
}

#[tokio::test]
async fn answers_that_ran_when_the_server_was_killed_end_once_as_interrupted() {
    let model = FakeOpenAi::start(|request: &Received| match request.number {
        0..3 => Reply::stream().delta(&json!({"content": "I was about to say"})).stall(),
        _ => Reply::text("Now I can."),
    })
    .await;
    let place = Place::new().env("OPENAI_BASE_URL", &model.base_url());
    let server = place.start().await;
    server.room("r", &["ada", "bob", "eve"]).await;
    let mut ann = server.join("r", "ann").await;
    ann.talk("@ada @bob @eve what do you think?").await;
    let mut last = 0;
    for _ in 0..3 {
        let event = ann.find(|event| matches!(event.payload, Some(Payload::LlmThinking(_)))).await;
        last = last.max(event.seq);
    }
    for _ in 0..3 {
        let chunk = ann.find(|event| matches!(event.payload, Some(Payload::LlmChunk(_)))).await;
        assert!(!is_lasting(&chunk));
    }
    server.kill().await;

    let server = place.start().await;
    let mut ann = Session::resume(server.client().await, "r", "ann", last).await;
    let Some(Payload::Resumed(resumed)) = ann.next().await.payload else { panic!("not resumed") };
    assert_eq!(resumed.active_answers, []);
    let log = server.log_of("r").await;
    let open = runs(&log);
    assert_eq!(open.len(), 3);
    assert!(open.values().all(|run| *run == (1, vec![pb::LlmDoneReason::Interrupted])), "{open:?}");
    let missed = ann.lasting_until(log.last().unwrap().seq).await;
    assert!(missed.iter().eq(log.iter().filter(|event| event.seq > last)));

    // The room goes on, and another kill ends nothing twice.
    ann.command_as("and-now", message("@ada and now?")).await.unwrap();
    let done = |payload: &Payload| match payload {
        Payload::LlmDone(done) => Some(done.reason()),
        _ => None,
    };
    assert_eq!(ann.pick(done).await, pb::LlmDoneReason::Completed);
    server.kill().await;
    let server = place.start().await;
    let after = runs(&server.log_of("r").await);
    assert_eq!(after.len(), 4);
    assert!(after.values().all(|(begun, ended)| (*begun, ended.len()) == (1, 1)), "{after:?}");
    assert!(open.iter().all(|(id, run)| after[id] == *run));
    server.stop().await;
}

/// What the budgets of today hold, those of the server without a user or room: tokens, then money.
async fn today(server: &Salon, user: Option<&str>, room: Option<&str>) -> Vec<pb::Budget> {
    let request = pb::GetUsageRequest { user_id: user.map(str::to_owned), room_id: room.map(str::to_owned) };
    let told = server.client().await.get_usage(request).await.unwrap();
    told.into_inner().budgets.into_iter().filter(|b| b.window() == pb::BudgetWindow::Day).collect()
}

/// What the budgets of the server hold, then of the user and of every room.
async fn everywhere(server: &Salon) -> Vec<pb::Budget> {
    let mut all = today(server, None, None).await;
    all.extend(today(server, Some("ann"), None).await);
    for n in 0..ROOMS {
        all.extend(today(server, None, Some(&format!("r{n}"))).await);
    }
    all
}

/// Budgets in which fifty answers fit, and the price of the model that gives them.
const BUDGETS: &str = "
llm:
  models:
    gpt-4o-mini: { prices: { input: 0.25, output: 2 } }
  budgets:
    server: { tokens_per_day: 1000000, money_per_day: 1.5 }
    user: { tokens_per_day: 900000 }
    room: { tokens_per_day: 200000 }
";

const ROOMS: usize = 10;
const LLMS: [&str; 5] = ["ada", "bob", "cat", "dan", "eve"];

#[tokio::test]
async fn fifty_answers_that_ran_when_the_server_was_killed_are_all_closed_and_none_counts_as_whole() {
    let half =
        Reply::stream().delta(&json!({"content": "I was about"})).delta(&json!({"content": " to say"}));
    let model = FakeOpenAi::start(half.stall()).await;
    let place = Place::new().env("OPENAI_BASE_URL", &model.base_url());
    std::fs::write(place.path("config.yaml"), BUDGETS).unwrap();
    let server = place.start().await;
    let mut sessions = Vec::new();
    for n in 0..ROOMS {
        let room = format!("r{n}");
        server.room(&room, &LLMS).await;
        let mut ann = server.join(&room, "ann").await;
        ann.talk("@all what do you think?").await;
        sessions.push(ann);
    }
    // Every one of them has said something that somebody has read.
    for ann in &mut sessions {
        let mut heard = std::collections::BTreeSet::new();
        while heard.len() < LLMS.len() {
            let said =
                |p: &Payload| if let Payload::LlmChunk(c) = p { Some(c.message_id.clone()) } else { None };
            heard.insert(ann.pick(said).await);
        }
    }
    let before = everywhere(&server).await;
    let limits: Vec<_> = before.iter().map(|budget| budget.limit).collect();
    assert_eq!(limits.len(), 2 * (2 + ROOMS));
    let [of_server, of_user, of_room] = [&limits[..2], &limits[2..4], &limits[4..6]];
    assert_eq!(of_server, [Some(1_000_000), Some(1_500_000)]);
    assert_eq!((of_user, of_room), (&[Some(900_000), None][..], &[Some(200_000), None][..]));
    for budget in &before {
        let held = budget.reserved;
        assert!(budget.spent == 0 && held > 0 && held <= budget.limit.unwrap_or(held), "{budget:?}");
    }
    // Of each answer at least its prompt and "I was about", three tokens, were had.
    let heard = |answers: usize| u64::try_from(3 * answers).unwrap();
    assert!(before[0].reserved >= heard(ROOMS * LLMS.len()) && before[4].reserved >= heard(LLMS.len()));
    server.kill().await;

    let server = place.start().await;
    for (then, now) in before.iter().zip(everywhere(&server).await) {
        // Nobody knows what of it was used: all of it counts, unless midnight has come.
        let expected = if then.resets_at == now.resets_at { then.reserved } else { 0 };
        assert_eq!((now.spent, now.reserved, now.limit), (expected, 0, then.limit));
    }
    for n in 0..ROOMS {
        let log = server.log_of(&format!("r{n}")).await;
        let runs = runs(&log);
        assert_eq!(runs.len(), LLMS.len());
        assert!(runs.values().all(|run| *run == (1, vec![pb::LlmDoneReason::Interrupted])), "{runs:?}");
        let whole = log.iter().filter_map(|event| match &event.payload {
            Some(Payload::MessageReceived(received)) => received.message.as_ref(),
            _ => None,
        });
        let whole = whole.filter(|m| m.sender_type() == pb::ParticipantType::Llm && !m.partial).count();
        assert_eq!(whole, 0, "half an answer is not a whole one");
        let ann = server.join(&format!("r{n}"), "ann").await;
        assert_eq!(ann.state.active_answers, []);
    }
    server.stop().await;
}
