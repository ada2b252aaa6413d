//! The router, driven by scripted providers under paused time: every wait is exact.

mod breaks;
mod names;
mod random;
mod tried;
mod tries;

use super::*;
use crate::llm::{
    Finish, Speaker, Turn,
    scripted::{ScriptedProvider, Step},
};

/// From the start of a test's answer to its deadline.
const DEADLINE: Duration = Duration::from_secs(300);
const FIRST_TOKEN: Duration = Duration::from_secs(30);

fn providers(all: &[&Arc<ScriptedProvider>]) -> BTreeMap<String, Arc<dyn Provider>> {
    all.iter().map(|one| (one.name().to_owned(), Arc::clone(*one) as Arc<dyn Provider>)).collect()
}

/// A router whose default is the first of `all`.
fn router(all: &[&Arc<ScriptedProvider>], change: impl FnOnce(&mut RouterSettings)) -> Router {
    let mut settings = RouterSettings { jitter: Jitter::seeded(1), ..RouterSettings::default() };
    change(&mut settings);
    Router::new(providers(all), all[0].name(), settings).unwrap()
}

/// A provider that gives these answers one after the other.
fn provider(name: &str, replies: Vec<Vec<Step>>) -> Arc<ScriptedProvider> {
    Arc::new(ScriptedProvider::replies(name, replies))
}

/// A provider that always does the same.
fn always(name: &str, steps: Vec<Step>) -> Arc<ScriptedProvider> {
    Arc::new(ScriptedProvider::with(name, move |_| steps.clone()))
}

fn fails(kind: ErrorKind) -> Vec<Step> {
    fails_for(kind, None)
}

fn fails_for(kind: ErrorKind, retry_after: Option<Duration>) -> Vec<Step> {
    let message = format!("told to be {}", kind.as_str());
    vec![Step::Error(Error { kind, provider: "scripted".into(), message, retry_after })]
}

fn request() -> Request {
    Request {
        model: String::new(),
        turns: vec![Turn::Text { speaker: Speaker::User, text: "hello".into() }],
        tools: Vec::new(),
        form: None,
        max_tokens: 1000,
        display_name: "Ada".into(),
    }
}

fn limits() -> Attempts {
    Attempts { first_token: FIRST_TOKEN, deadline: Instant::now() + DEADLINE }
}

async fn ask(router: &Router, model: &str) -> Result<Answered, Error> {
    router.answer(&router.plan(model, &[]), request(), limits(), &mut Vec::new()).await
}

/// The text of an answer and the error it ended with, if any.
async fn hear(mut answered: Answered) -> (String, Option<ErrorKind>) {
    let mut text = String::new();
    while let Some(delta) = answered.deltas.next().await {
        match delta {
            Ok(Delta::Text(more)) => text.push_str(&more),
            Ok(Delta::Done(_)) => return (text, None),
            Ok(Delta::ToolCall(_) | Delta::Usage { .. } | Delta::Progress) => {}
            Err(error) => return (text, Some(error.kind)),
        }
    }
    panic!("an answer without an end");
}
