//! Models by their names, and what a room sees of a provider that fails while another one stands in.

use std::time::Duration;

use salon::llm::{
    Error, ErrorKind,
    scripted::{ScriptedProvider, Step},
};

use super::*;

fn failing(name: &str) -> ScriptedProvider {
    let error = Error {
        kind: ErrorKind::Overloaded,
        provider: name.into(),
        message: "secret".into(),
        retry_after: None,
    };
    ScriptedProvider::with(name, move |_| vec![Step::Error(error.clone())])
}

/// A room with one LLM of this model, and somebody in it.
async fn room(server: &TestServer, model: &str) -> (String, Session) {
    let llm = pb::LlmConfig { model: model.into(), ..crate::harness::llm("ada") };
    let request = pb::CreateRoomRequest {
        name: "Test".into(),
        created_by: "admin".into(),
        llms: vec![llm],
        ..Default::default()
    };
    let room = server.create(request).await;
    let session = server.join(&room, "ann").await;
    (room, session)
}

#[tokio::test]
async fn a_fallback_answers_and_llm_done_says_who_it_was() {
    let said = |request: &salon::llm::Request| Step::answer(format!("I am {}", request.model));
    let server = Setup::default()
        .provider(failing("main"))
        .also(ScriptedProvider::with("spare", said))
        .config(|config| {
            config.llm.retry.attempts = 2;
            config.llm.retry.base = Duration::from_millis(1);
            config.llm.aliases = [("fast".into(), "main:big".into())].into();
            config.llm.fallbacks = vec!["spare:small".into()];
        })
        .start()
        .await;
    let (id, mut ann) = room(&server, "fast").await;
    ann.talk("@ada hello").await;
    let answer = follow(&mut ann).await;
    answer.assert_ended(Reason::Completed, "I am small");
    assert_eq!((answer.done.provider.as_str(), answer.done.model.as_str()), ("spare", "small"));
    assert_eq!((answer.done.error_code.as_str(), answer.done.error_message.as_str()), ("", ""));
    assert_eq!(all_ended_once(&server, &id).await, [answer.done]);
    server.shutdown().await;
}

#[tokio::test]
async fn when_nobody_answers_the_room_is_told_once_about_whom_it_wanted() {
    let server = Setup::default()
        .provider(failing("main"))
        .also(failing("spare"))
        .config(|config| config.llm.fallbacks = vec!["spare:small".into()])
        .start()
        .await;
    let (id, mut ann) = room(&server, "main:big").await;
    ann.talk("@ada hello").await;
    let answer = follow(&mut ann).await;
    answer.assert_ended(Reason::Failed, "");
    let done = &answer.done;
    assert_eq!(
        (done.provider.as_str(), done.model.as_str(), done.error_code.as_str()),
        ("main", "big", "overloaded")
    );
    assert!(!format!("{:?}", server.log(&id).await).contains("secret"));
    assert_eq!(all_ended_once(&server, &id).await, [answer.done]);
    server.shutdown().await;
}
