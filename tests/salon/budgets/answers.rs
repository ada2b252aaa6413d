//! What answers take of the budgets, through the whole server: the most before they begin, what it was behind them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use salon::{
    config::{Config, ModelEntry, Money, Price, PriceEntry},
    llm::{
        Error, ErrorKind, Finish, ToolCall,
        scripted::{Script, ScriptedProvider, Step},
    },
    wire::pb::room::v1::{
        self as pb, LlmDoneReason as Reason, client_message::Payload as Say, server_event::Payload,
    },
};

use super::{MIDNIGHT, SetClock, serving::usage};
use crate::harness::{
    Session, Setup, TestServer,
    gate::{Fault, GatedStore},
    until,
};

/// The longest answer: so long that two answers differ by less, whatever they are told.
const LONGEST: u32 = 100_000;

/// A server whose LLMs ask the model `priced` of `provider`, on a day that does not end.
fn setup(provider: &Arc<ScriptedProvider>) -> Setup {
    let mut setup =
        Setup { provider: Arc::clone(provider) as _, clock: SetClock::new(MIDNIGHT), ..Setup::default() };
    let config = &mut setup.config;
    config.llm.max_tokens = LONGEST;
    config.llm.context_tokens = 1_000_000;
    config.llm.models = BTreeMap::from([("priced".to_owned(), priced("0.15", "0.6"))]);
    setup
}

fn priced(input: &str, output: &str) -> ModelEntry {
    let price = |text| Price::parse(text).unwrap();
    let prices = Some(PriceEntry { input: price(input), output: price(output) });
    ModelEntry { context_tokens: Some(1_000_000), prices, ..ModelEntry::default() }
}

/// A room with the LLM `bot` of this model.
async fn room(server: &TestServer, model: &str) -> String {
    let llms = vec![pb::LlmConfig { model: model.into(), ..crate::harness::llm("bot") }];
    let (name, created_by) = ("Test".into(), "admin".into());
    server.create(pb::CreateRoomRequest { name, created_by, llms, ..Default::default() }).await
}

fn driven() -> (Arc<ScriptedProvider>, Script) {
    let (provider, script) = ScriptedProvider::new("scripted");
    (Arc::new(provider), script)
}

fn replying(steps: Vec<Step>) -> Arc<ScriptedProvider> {
    Arc::new(ScriptedProvider::with("scripted", move |_| steps.clone()))
}

fn counted(prompt_tokens: u32, completion_tokens: u32) -> Vec<Step> {
    let usage = Step::Usage { prompt_tokens, completion_tokens };
    vec![Step::text("Well."), usage, Step::Done(Finish::Stop)]
}

async fn done(session: &mut Session) -> pb::LlmDone {
    session.pick(|p| if let Payload::LlmDone(done) = p { Some(done.clone()) } else { None }).await
}

/// Asks and waits for the end.
async fn ask(session: &mut Session) -> pb::LlmDone {
    session.talk("@bot what do you think?").await;
    done(session).await
}

/// What of today is spent and reserved of the room: tokens, then money.
async fn today(server: &TestServer, user: Option<&str>, room: Option<&str>) -> [(u64, u64); 2] {
    let budgets = usage(server, user, room).await;
    [(budgets[0].spent, budgets[0].reserved), (budgets[1].spent, budgets[1].reserved)]
}

/// The most that one answer to `ann` in a new room can take.
async fn worst() -> u64 {
    let (provider, mut script) = driven();
    let server = setup(&provider).config(|c| c.llm.budgets.room.tokens_per_day = Some(1 << 30)).start().await;
    let room = room(&server, "priced").await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@bot what do you think?").await;
    let call = script.next_call().await.unwrap();
    let [(spent, reserved), _] = today(&server, None, Some(&room)).await;
    assert!(spent == 0 && reserved > u64::from(LONGEST), "{reserved}");
    assert!(call.done(Finish::Stop).await);
    done(&mut ann).await;
    server.shutdown().await;
    reserved
}

#[tokio::test]
async fn an_answer_may_begin_when_the_most_it_can_take_is_left_to_the_last_token() {
    let worst = worst().await;
    for (limit, reason) in [(worst, Reason::Completed), (worst - 1, Reason::OverBudget)] {
        let provider = replying(counted(30, 7));
        let tight = |config: &mut Config| config.llm.budgets.room.tokens_per_day = Some(limit);
        let server = setup(&provider).config(tight).start().await;
        let room = room(&server, "priced").await;
        let mut ann = server.join(&room, "ann").await;
        let done = ask(&mut ann).await;
        assert_eq!(done.reason(), reason, "{done:?}");
        let passed = usize::from(reason == Reason::Completed);
        assert_eq!(provider.calls(), passed);
        if passed == 0 {
            let told = format!(
                "this may take {worst}, and the budget is {limit} tokens per day of the room: it can never be done"
            );
            assert_eq!((done.error_code.as_str(), done.error_message), ("over_budget", told));
            assert_eq!(done.retry_at, None, "asking again is of no use");
        }
        let again = ask(&mut ann).await;
        assert_eq!(again.reason(), Reason::OverBudget, "the history is longer, and the budget smaller");
        server.shutdown().await;
    }
}

/// Reads a budget again and again until it is told to stop; `limit` must hold in every one.
async fn watch(server: &TestServer, room: &str, limit: u64, stop: &AtomicBool) -> u32 {
    let mut seen = 0;
    while !stop.load(Ordering::SeqCst) {
        let budget = usage(server, None, Some(room)).await.remove(0);
        assert_eq!(budget.limit, Some(limit));
        assert!(budget.spent + budget.reserved <= limit, "{budget:?}");
        seen += 1;
        tokio::task::yield_now().await;
    }
    seen
}

const ASKERS: usize = 64;

#[tokio::test]
async fn of_sixty_four_questions_at_once_one_is_answered_where_one_answer_fits() {
    // Whatever an answer is told here, it is less than half of the longest one: one fits, and never two.
    let limit = u64::from(LONGEST) * 3 / 2;
    let (provider, mut script) = driven();
    let tight = |config: &mut Config| {
        config.llm.budgets.room.tokens_per_day = Some(limit);
        (config.llm.runs_per_room, config.llm.queue_per_room) = (ASKERS, ASKERS);
    };
    let server = setup(&provider).config(tight).start().await;
    let room = room(&server, "priced").await;
    let mut sessions = Vec::new();
    for n in 0..ASKERS {
        sessions.push(server.join(&room, &format!("user-{n}")).await);
    }
    let stop = AtomicBool::new(false);
    let talk = async {
        for (n, session) in sessions.iter_mut().enumerate() {
            let content = format!("@bot question {n}?");
            session.say(crate::harness::session::message(&content)).await;
        }
        let mut call = script.next_call().await.unwrap();
        let mut ends = Vec::new();
        for _ in 1..ASKERS {
            ends.push(done(&mut sessions[0]).await);
        }
        assert!(call.text("I think so.").await && call.done(Finish::Stop).await);
        let whole = done(&mut sessions[0]).await;
        stop.store(true, Ordering::SeqCst);
        (ends, whole)
    };
    let ((ends, whole), seen) = tokio::join!(talk, watch(&server, &room, limit, &stop));
    assert!(seen > 1, "it was looked at {seen} times only");
    assert_eq!((whole.reason(), provider.calls()), (Reason::Completed, 1));
    for end in &ends {
        assert_eq!((end.reason(), end.error_code.as_str()), (Reason::OverBudget, "over_budget"), "{end:?}");
        let names = format!("the budget of {limit} tokens per day of the room has ");
        assert!(end.error_message.starts_with(&names), "{}", end.error_message);
        assert_eq!(end.retry_at.unwrap().seconds * 1000, MIDNIGHT.0 + 86_400_000);
        assert_eq!(end.usage.unwrap_or_default(), pb::TokenUsage::default());
    }
    // What it did not take is there for the next one.
    let [(spent, reserved), _] = today(&server, None, Some(&room)).await;
    assert!(spent > 0 && spent < limit / 2 && reserved == 0, "{spent} {reserved}");
    sessions[0].talk("@bot once more").await;
    let mut call = script.next_call().await.unwrap();
    assert!(call.text("Still.").await && call.done(Finish::Stop).await);
    assert_eq!(done(&mut sessions[0]).await.reason(), Reason::Completed);
    server.shutdown().await;
}

#[tokio::test]
async fn what_an_answer_costs_is_told_with_it_and_charged_to_all_three() {
    // 11 · 0.15 + 7 · 0.60 = 5.85 millionths, rounded up.
    let provider = replying(counted(11, 7));
    let server = setup(&provider).start().await;
    let room = room(&server, "priced").await;
    let (mut ann, mut bob) = (server.join(&room, "ann").await, server.join(&room, "bob").await);
    let usage = pb::TokenUsage { prompt_tokens: 11, completion_tokens: 7, cost_micros: 6 };
    let ended = ask(&mut ann).await;
    assert_eq!((ended.reason(), ended.usage), (Reason::Completed, Some(usage)));
    assert_eq!(done(&mut bob).await.usage, Some(usage));
    assert_eq!(ask(&mut bob).await.usage, Some(usage));
    for (user, room, answers) in
        [(Some("ann"), None, 1), (Some("bob"), None, 1), (None, Some(room.as_str()), 2), (None, None, 2)]
    {
        let budgets = super::serving::usage(&server, user, room).await;
        let spent: Vec<u64> = budgets.iter().map(|budget| budget.spent).collect();
        // A day's tokens and money, and a minute's.
        assert_eq!(spent, [18 * answers, 6 * answers, 18 * answers, 6 * answers], "{user:?} {room:?}");
        assert!(budgets.iter().all(|budget| budget.reserved == 0));
    }
    server.shutdown().await;
}

#[tokio::test]
async fn an_interrupted_answer_costs_its_prompt_and_what_was_heard() {
    let (provider, mut script) = driven();
    let limited = |config: &mut Config| {
        config.llm.budgets.room.tokens_per_day = Some(1_000_000);
        config.llm.budgets.server.money_per_day = Some(Money { micros: 1_000_000 });
    };
    let server = setup(&provider).config(limited).start().await;
    let room = room(&server, "priced").await;
    let mut ann = server.join(&room, "ann").await;
    ann.talk("@bot tell me everything").await;
    let mut call = script.next_call().await.unwrap();
    let [(_, tokens), (_, money)] = today(&server, None, Some(&room)).await;
    assert!(call.text("It all began ").await);
    ann.pick(|p| if let Payload::LlmChunk(_) = p { Some(()) } else { None }).await;
    let interrupt = pb::InterruptLlm { llm_id: "bot".into(), message_id: None };
    ann.command(Say::Interrupt(interrupt)).await.unwrap();
    let end = done(&mut ann).await;
    assert_eq!(end.reason(), Reason::Interrupted);
    call.cancelled().await;
    let [(spent, left), (cost, left_money)] = today(&server, None, Some(&room)).await;
    assert_eq!((left, left_money), (0, 0), "nothing stays reserved");
    // Of a model that nobody knows twice the counted prompt was reserved. Heard were a few words.
    let prompt = (tokens - u64::from(LONGEST)) / 2;
    assert!(prompt > 0 && (prompt + 1..prompt + 20).contains(&spent), "{spent} of {tokens}, {prompt} told");
    assert!((prompt * 15 / 100..money / 2).contains(&cost), "{cost} of {money}");
    assert_eq!(end.usage.unwrap().cost_micros, cost);
    server.shutdown().await;
}

#[tokio::test]
async fn the_end_of_the_room_tells_what_the_first_round_of_an_answer_has_taken() {
    let (provider, mut script) = driven();
    let server = setup(&provider).start().await;
    let room = room(&server, "priced").await;
    let (mut admin, mut ann) = (server.join(&room, "admin").await, server.join(&room, "ann").await);
    ann.talk("@bot tell me everything").await;
    let mut call = script.next_call().await.unwrap();
    assert!(call.text("It all began ").await);
    ann.pick(|p| if let Payload::LlmChunk(_) = p { Some(()) } else { None }).await;
    admin.command(Say::EndRoom(pb::EndRoom::default())).await.unwrap();
    let end = done(&mut ann).await;
    assert_eq!((end.reason(), end.detail.as_str()), (Reason::Interrupted, "the room ended"));
    call.cancelled().await;
    until("the end of the answer", || server.run_count() == 0).await;
    let used = end.usage.unwrap();
    assert!(used.prompt_tokens > 0 && used.completion_tokens > 0 && end.first_token_ms > 0, "{end:?}");
    let charged = today(&server, Some("ann"), None).await;
    let tokens = u64::from(used.prompt_tokens) + u64::from(used.completion_tokens);
    assert_eq!(charged, [(tokens, 0), (used.cost_micros, 0)]);
    server.shutdown().await;
}

#[tokio::test]
async fn an_answer_that_fails_at_once_is_free_and_one_that_fails_later_is_not() {
    let limited = |config: &mut Config| config.llm.budgets.room.tokens_per_day = Some(1_000_000);
    let fails = |kind| {
        let error = Error { kind, provider: "scripted".into(), message: "no".into(), retry_after: None };
        Step::Error(error)
    };
    for (steps, is_free) in [
        (vec![fails(ErrorKind::RateLimited)], true),
        (vec![fails(ErrorKind::BadRequest)], true),
        (vec![fails(ErrorKind::Timeout)], false),
        (vec![Step::text("I "), fails(ErrorKind::Overloaded)], false),
    ] {
        let what = format!("{steps:?}");
        let provider = replying(steps);
        let server = setup(&provider).config(limited).start().await;
        let room = room(&server, "priced").await;
        let mut ann = server.join(&room, "ann").await;
        let end = ask(&mut ann).await;
        assert!(matches!(end.reason(), Reason::Failed | Reason::TimedOut), "{end:?}");
        let [(tokens, reserved), (money, reserved_money)] = today(&server, None, Some(&room)).await;
        assert_eq!((reserved, reserved_money), (0, 0), "{what}");
        assert_eq!((tokens == 0, money == 0), (is_free, is_free), "{what}");
        server.shutdown().await;
    }
}

#[tokio::test]
async fn a_model_without_a_price_is_refused_where_money_is_limited() {
    let provider = replying(counted(11, 7));
    let limited =
        |config: &mut Config| config.llm.budgets.user.money_per_day = Some(Money { micros: 2_000_000 });
    let server = setup(&provider).config(limited).start().await;
    let id = room(&server, "unheard-of").await;
    let mut ann = server.join(&id, "ann").await;
    let end = ask(&mut ann).await;
    assert_eq!((end.reason(), end.error_code.as_str()), (Reason::OverBudget, "over_budget"));
    let told = "no price is known for this model, and there is a budget of 2 money per day of the user";
    assert_eq!((end.error_message.as_str(), end.retry_at), (told, None));
    assert_eq!(provider.calls(), 0);
    let id = room(&server, "priced").await;
    let mut ann = server.join(&id, "ann").await;
    assert_eq!(ask(&mut ann).await.reason(), Reason::Completed, "a price is known for this one");
    server.shutdown().await;
}

#[tokio::test]
async fn the_stand_in_costs_tokens_and_no_money() {
    let setup = Setup::default();
    let limited = |config: &mut Config| {
        config.llm.budgets.server.money_per_day = Some(Money { micros: 1 });
        config.llm.budgets.room.tokens_per_day = Some(1_000_000);
    };
    let server = setup.config(limited).start().await;
    let room = room(&server, "").await;
    let mut ann = server.join(&room, "ann").await;
    let end = ask(&mut ann).await;
    assert_eq!((end.reason(), end.usage.unwrap().cost_micros), (Reason::Completed, 0));
    let [(tokens, 0), (0, 0)] = today(&server, None, Some(&room)).await else { panic!("it is not free") };
    assert!(tokens > 0);
    server.shutdown().await;
}

#[tokio::test]
async fn no_model_is_asked_while_the_ledger_fails() {
    for fault in [Fault::Before, Fault::After] {
        let provider = replying(counted(11, 7));
        let store = Arc::new(GatedStore::new());
        let limited = |config: &mut Config| config.llm.budgets.room.tokens_per_day = Some(200_000);
        let server = setup(&provider).config(limited).store(Arc::clone(&store) as _).start().await;
        let room = room(&server, "priced").await;
        let mut ann = server.join(&room, "ann").await;
        store.ledger_fails(Some(fault), 1);
        let end = ask(&mut ann).await;
        assert_eq!((end.reason(), end.error_code.as_str()), (Reason::OverBudget, "over_budget"), "{fault:?}");
        assert_eq!((end.error_message.as_str(), end.retry_at), ("the budgets cannot be read now", None));
        assert_eq!((provider.calls(), store.ledger_is_faulty()), (0, false));
        // What it may have reserved is given back, or this one would not fit.
        while !salon::store::Store::open_reservations(store.as_ref()).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(ask(&mut ann).await.reason(), Reason::Completed, "{fault:?}");
        assert_eq!(today(&server, None, Some(&room)).await, [(18, 0), (6, 0)], "{fault:?}");
        server.shutdown().await;
    }
}

#[tokio::test]
async fn a_vote_is_charged_to_whoever_made_the_poll() {
    let provider = replying(counted(11, 7));
    let server = setup(&provider).start().await;
    let room = room(&server, "priced").await;
    let mut ann = server.join(&room, "ann").await;
    let options =
        ["tea", "coffee"].map(|text| pb::PollOptionInput { text: text.into(), ..Default::default() });
    let create = pb::CreatePoll { question: "Which?".into(), options: options.into(), ..Default::default() };
    ann.command(Say::CreatePoll(create)).await.unwrap();
    let end = done(&mut ann).await;
    assert_ne!(end.poll_id, "");
    let rounds = u64::try_from(provider.calls()).unwrap();
    let expected = [(18 * rounds, 0), (6 * rounds, 0)];
    assert!(rounds > 0 && end.usage.unwrap().cost_micros == 6 * rounds, "{end:?}");
    assert_eq!(today(&server, Some("ann"), None).await, expected);
    assert_eq!(today(&server, None, Some(&room)).await, expected);
    server.shutdown().await;
}

#[tokio::test]
async fn a_summary_is_charged_to_the_room_and_to_nobody_in_it() {
    let notes = Arc::new(ScriptedProvider::with("scripted", |request| match request.model.as_str() {
        "notes" => counted(100, 10),
        _ => counted(11, 7),
    }));
    let short_memory = |config: &mut Config| {
        config.llm.history_messages = 10;
        config.llm.summary.after = 5;
        config.llm.summary.model = Some("notes".into());
        config.llm.models.insert("notes".into(), priced("1", "2"));
    };
    let server = setup(&notes).config(short_memory).start().await;
    let room = room(&server, "priced").await;
    let mut ann = server.join(&room, "ann").await;
    for n in 0..14 {
        ann.talk(&format!("word {n}")).await;
    }
    ask(&mut ann).await;
    ann.pick(|p| if let Payload::ContextSummarised(_) = p { Some(()) } else { None }).await;
    until("both calls", || notes.calls() == 2).await;
    assert_eq!(today(&server, Some("ann"), None).await, [(18, 0), (6, 0)]);
    assert_eq!(today(&server, None, Some(&room)).await, [(18 + 110, 0), (6 + 120, 0)]);
    assert_eq!(today(&server, None, None).await, [(18 + 110, 0), (6 + 120, 0)]);
    server.shutdown().await;
}

#[tokio::test]
async fn of_a_provider_that_does_not_count_the_calls_of_tools_are_counted_too() {
    let mut spent = Vec::new();
    for length in [1, 60_000] {
        let arguments = format!("{{{}}}", " ".repeat(length));
        let call = Step::Tool(ToolCall { id: "1".into(), name: "opt_out".into(), arguments });
        let provider = replying(vec![call, Step::Done(Finish::ToolCalls)]);
        let server = setup(&provider).start().await;
        let room = room(&server, "priced").await;
        let mut ann = server.join(&room, "ann").await;
        assert_eq!((ask(&mut ann).await.reason(), provider.calls()), (Reason::OptedOut, 1));
        spent.push(today(&server, None, Some(&room)).await[0].0);
        server.shutdown().await;
    }
    assert!(spent[1] > spent[0] + 10_000, "{spent:?}");
}
