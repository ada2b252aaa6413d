//! The client commands of the real binary against a real server.

use std::process::Output;

use salon::{
    cli::{
        exit::Exit,
        rooms::generate::{self, GenerateOptions},
    },
    wire::pb::room::v1 as pb,
};

use super::Place;

fn text(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn a_log_is_printed_and_a_room_that_is_not_there_is_an_error() {
    let place = Place::new();
    let server = place.start().await;
    server.room("tea", &[]).await;
    let mut ann = server.join("tea", "ann").await;
    for n in 0..5 {
        ann.talk(&format!("message {n}")).await;
    }
    let (code, out, errors) = text(&place.run(&["log", "tea", "--server", &server.url]).await);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events = server.log_of("tea").await;
    let seqs: Vec<String> = lines.iter().map(|line| line["seq"].as_str().unwrap().to_owned()).collect();
    assert!(seqs.iter().eq(events.iter().map(|event| event.seq.to_string()).collect::<Vec<_>>().iter()));
    assert_eq!(lines.last().unwrap()["messageReceived"]["message"]["content"], "message 4");

    let part = ["log", "tea", "--after", "3", "--limit", "2", "--server", &server.url];
    let (code, out, _) = text(&place.run(&part).await);
    assert_eq!((code, out.lines().count()), (Some(0), 2));
    assert!(out.lines().next().unwrap().contains("\"seq\":\"4\""), "{out}");

    let (code, out, errors) = text(&place.run(&["log", "gone", "--server", &server.url]).await);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(errors.contains("there is no room") && errors.contains("salon rooms"), "{errors}");
    server.stop().await;
}

#[tokio::test]
async fn usage_is_printed_for_people_and_for_programs() {
    let place = Place::new().env("SALON__LLM__BUDGETS__ROOM__MONEY_PER_DAY", "12.5");
    let server = place.start().await;
    server.room("tea", &[]).await;
    let (code, out, errors) = text(&place.run(&["usage", "--room", "tea", "--server", &server.url]).await);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let money = out.lines().find(|line| line.contains("day") && line.contains("money")).unwrap();
    assert!(money.contains("room") && money.contains("12.5"), "{out}");
    let (code, out, _) = text(&place.run(&["usage", "--json", "--server", &server.url]).await);
    let first: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!((code, out.lines().count()), (Some(0), 4));
    assert_eq!(
        (&first["scope"], &first["window"]),
        (&"BUDGET_SCOPE_SERVER".into(), &"BUDGET_WINDOW_DAY".into())
    );
    let (code, out, errors) = text(&place.run(&["usage", "--room", "gone", "--server", &server.url]).await);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(errors.contains("there is no room"), "{errors}");
    server.stop().await;
}

#[tokio::test]
async fn rooms_are_listed_for_people_and_for_programs() {
    let place = Place::new();
    let server = place.start().await;
    server.room("tea", &[]).await;
    server.room("coffee", &[]).await;
    let (code, out, errors) = text(&place.run(&["rooms", "--server", &server.url]).await);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(out.contains("tea") && out.contains("COFFEE"), "{out}");
    let (code, out, _) = text(&place.run(&["rooms", "--json", "--server", &server.url]).await);
    let ids: Vec<String> = out
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["roomId"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!((code, ids), (Some(0), vec!["coffee".to_owned(), "tea".to_owned()]));
    server.stop().await;
}

#[tokio::test]
async fn a_room_is_proposed_and_created_only_when_it_is_accepted() {
    let place = Place::new();
    let server = place.start().await;
    let generate = ["rooms", "generate", "a tea house", "--user", "ann", "--server", &server.url];
    let rooms = async || {
        let all = pb::ListRoomsRequest::default();
        server.client().await.list_rooms(all).await.unwrap().into_inner().rooms
    };
    // No terminal: nobody is asked, and an answer that lies there is none.
    let (code, out, errors) = text(&place.run_with(&generate, "y\n").await);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("\n  @") && out.contains("proposed by") && out.contains("--accept"), "{out}");
    assert_eq!(rooms().await, []);

    let (code, out, _) = text(&place.run(&[&generate[..], &["--accept"]].concat()).await);
    let [room] = rooms().await.try_into().unwrap();
    let how = format!("salon chat {} --server {} --user ann\n", room.room_id, server.url);
    assert!(code == Some(0) && out.ends_with(&format!("created; talk there with: {how}")), "{out}");
    assert!(out.starts_with(&format!("{}\n", room.name)) && !room.llms.is_empty(), "{out}");
    let mut ann = server.join(&room.room_id, "ann").await;
    assert_eq!(ann.state.you.take().unwrap().role(), pb::Role::Admin);

    let (code, out, _) = text(&place.run(&[&generate[..], &["--accept", "--json"]].concat()).await);
    let made: serde_json::Value = serde_json::from_str(&out).unwrap();
    let ids: Vec<String> = rooms().await.into_iter().map(|room| room.room_id).collect();
    assert!(ids.len() == 2 && ids.contains(&made["draft"]["roomId"].as_str().unwrap().to_owned()), "{out}");
    assert_eq!((code, &made["draft"]["createdBy"]), (Some(0), &"ann".into()));

    let empty = ["rooms", "generate", " ", "--server", &server.url];
    let (code, out, errors) = text(&place.run(&empty).await);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(errors.contains("prompt must not be empty"), "{errors}");
    server.stop().await;
}

#[tokio::test]
async fn at_a_terminal_somebody_is_asked_whether_a_proposed_room_is_wanted() {
    let place = Place::new();
    let server = place.start().await;
    for (answer, is_wanted) in [("y\n", true), ("Yes\n", true), ("\n", false), ("no\n", false), ("", false)] {
        let (mut out, user) = (Vec::new(), format!("ann-{}", answer.trim()));
        let options = GenerateOptions {
            server: server.url.clone().into(),
            user: user.clone(),
            prompt: "a tea house".into(),
            ..Default::default()
        };
        let exit = generate::run(options, Some(answer.as_bytes()), &mut out).await.unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(exit, Exit::Success);
        let (shown, end) = out.split_once("Create this room? [y/N] ").unwrap();
        assert!(shown.contains("proposed by"), "{out}");
        let said = if is_wanted { "created; talk there" } else { "nothing was created\n" };
        assert!(end.trim_start().starts_with(said), "{out}");
        let asked = pb::ListRoomsRequest { user_id: Some(user), ..Default::default() };
        let rooms = server.client().await.list_rooms(asked).await.unwrap().into_inner().rooms;
        assert_eq!(rooms.len(), usize::from(is_wanted), "{answer:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn health_is_an_exit_code() {
    let place = Place::new();
    let server = place.start().await;
    let url = server.url.clone();
    let ask = ["health", "--server", &url];
    assert_eq!(text(&place.run(&ask).await), (Some(0), "serving\n".into(), String::new()));
    server.stop().await;
    let (code, out, errors) = text(&place.run(&ask).await);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(errors.contains(url.strip_prefix("http://").unwrap()), "{errors}");
}

#[tokio::test]
async fn the_configuration_in_force_is_printed_with_its_sources_and_without_secrets() {
    let place = Place::new().env("OPENAI_API_KEY", "sk-do-not-show-me").env("SALON__LIMITS__DRAIN", "7s");
    std::fs::write(place.path("config.yaml"), "rooms:\n  idle_unload: 90s\n").unwrap();
    let (code, out, errors) = text(&place.run(&["config"]).await);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let line = |key: &str| out.lines().find(|line| line.trim_start().starts_with(key)).unwrap_or_default();
    assert!(line("drain").contains("7s") && line("drain").contains("SALON__LIMITS__DRAIN"), "{out}");
    assert!(line("idle_unload").contains("90s") && line("idle_unload").contains("file"), "{out}");
    assert!(!out.contains("sk-do-not-show-me"), "{out}");
    std::fs::write(place.path("config.yaml"), "rooms:\n  idle_unlaod: 90s\n").unwrap();
    let (code, out, errors) = text(&place.run(&["config"]).await);
    assert_eq!((code, out.as_str()), (Some(78), ""));
    assert!(errors.contains("rooms.idle_unlaod"), "{errors}");
}

#[tokio::test]
async fn completions_are_a_script_for_the_shell() {
    let place = Place::new();
    let (code, out, errors) = text(&place.run(&["completions", "bash"]).await);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(out.contains("complete -F _salon") && out.contains("--server"), "{out}");
    std::fs::write(place.path("salon.bash"), out).unwrap();
    let parsed = std::process::Command::new("bash").arg("-n").arg(place.path("salon.bash")).status();
    assert!(parsed.unwrap().success(), "bash does not understand it");
    let (code, _, errors) = text(&place.run(&["completions", "cobol"]).await);
    assert_eq!(code, Some(2), "{errors}");
}

#[tokio::test]
async fn a_script_makes_a_poll_and_votes_in_it() {
    let place = Place::new();
    let server = place.start().await;
    let chat = ["chat", "tea", "--create", "--user", "ann", "--server", &server.url];
    let script = "/who\n/poll Tea or coffee? | tea | coffee\n/vote 1 1\nthat is that\n";
    let (code, out, errors) = text(&place.run_with(&chat, script).await);
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{out}");
    assert!(out.starts_with("* nobody else is here\n"), "{out}");
    assert!(out.contains("Tea or coffee?") && out.contains("that is that"), "{out}");
    let log = text(&place.run(&["log", "tea", "--server", &server.url]).await).1;
    assert_eq!(log.matches("\"pollVoted\"").count(), 1, "{log}");
    server.stop().await;
}
