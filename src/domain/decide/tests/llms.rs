//! Adding, changing and removing LLMs.

use super::*;
use crate::domain::llm::LlmPatch;

fn add(id: &str, name: &str) -> Command {
    Command::AddLlm(llm(id, name))
}

fn update(id: &str, patch: LlmPatch) -> Command {
    Command::UpdateLlm { llm_id: llm_id(id), patch }
}

fn rename(id: &str, name: &str) -> Command {
    update(id, LlmPatch { display_name: Some(name.into()), ..LlmPatch::default() })
}

#[test]
fn members_direct_llms() {
    let mut table = Table::new();
    for command in [add("new", "New"), rename("ada", "New"), Command::RemoveLlm(llm_id("ada"))] {
        table.refused("vic", command.clone(), Code::PermissionDenied, "adding and changing LLMs");
        table.refused("bot", command.clone(), Code::PermissionDenied, "only people");
        table.ok("bob", command);
        table.ok(
            "ann",
            Command::RemoveLlm(llm_id(if table.room.llm(&llm_id("new")).is_some() { "new" } else { "bot" })),
        );
        table.room.llms = new_room().llms;
    }
    table.refused("bob", Command::RemoveLlm(llm_id("ghost")), Code::NotFound, "no LLM ghost");
    table.refused("bob", rename("ghost", "X"), Code::NotFound, "no LLM ghost");
}

#[test]
fn a_patch_changes_only_what_it_names() {
    let mut table = Table::new();
    let patch = LlmPatch {
        model: Some("m".into()),
        persona: Some("p".into()),
        title: Some("t".into()),
        chat_style: Some(ChatStyle::Bullet),
        avatar: Some("a".into()),
        display_name: None,
        allowed_tools: Some(vec!["files__*".into()]),
        fallback_models: Some(vec!["local:small".into()]),
    };
    table.ok("bob", update("ada", patch.clone()));
    table.nothing("bob", update("ada", patch));
    table.nothing("bob", update("ada", LlmPatch::default()));
    // Its own name in other letters is not taken by another.
    table.ok("bob", rename("ada", "ADA"));
    let now = LlmConfig {
        model: "m".into(),
        persona: "p".into(),
        title: "t".into(),
        chat_style: ChatStyle::Bullet,
        avatar: "a".into(),
        allowed_tools: vec!["files__*".into()],
        fallback_models: vec!["local:small".into()],
        ..llm("ada", "ADA")
    };
    assert_eq!(table.room.llms, [now, llm("bot", "Bot 1")]);
}

#[test]
fn a_name_means_one_llm() {
    let mut table = Table::new();
    for (id, name) in [
        ("ada", "New"),
        ("ADA", "New"),
        ("new", "Ada"),
        ("new", "ada lovelace"),
        ("new", "Ada_Lovelace"),
        ("new", "Ada  Lovelace"),
        ("ada_lovelace", "New"),
        ("new", "BOT_1"),
        ("new", "ｂｏｔ"),
        ("bot_1", "New"),
    ] {
        table.refused("bob", add(id, name), Code::AlreadyExists, "already the name of the LLM");
    }
    table.refused("bob", rename("bot", "ada"), Code::AlreadyExists, "of the LLM ada");
    let field = |error: Rejection| error.field;
    assert_eq!(table.decide("bob", add("ada", "New")).map_err(field), Err(Some("llm.id")));
    assert_eq!(table.decide("bob", add("new", "ada")).map_err(field), Err(Some("llm.display_name")));
    // A sigma at the end of a word is a sigma.
    table.ok("bob", add("one", "ΟΔΟΣ"));
    table.refused("bob", add("two", "οδος"), Code::AlreadyExists, "of the LLM one");
    table.ok("bob", add("same", "same"));
}

#[test]
fn some_names_no_llm_may_have() {
    let mut table = Table::new();
    for (id, name, words) in [
        ("new", "All", "llm.display_name must not be \"All\", which calls every LLM"),
        ("new", " everyone ", "which calls every LLM"),
        ("ALL", "New", "llm.id must not be"),
        ("new", "a@b", "must not contain '@'"),
        ("new", "a＠b", "must not contain '@'"),
        ("new", "", "llm.display_name must not be empty"),
        ("new", "  ", "llm.display_name must not be empty"),
        ("new", "a\u{200B}b", "must not contain"),
    ] {
        table.refused("bob", add(id, name), Code::InvalidArgument, words);
    }
}

#[test]
fn the_parts_of_an_llm_have_limits() {
    let mut table = Table::new();
    let sized = |id: &str, name: usize, model: usize, title: usize, avatar: usize, persona: usize| {
        Command::AddLlm(LlmConfig {
            model: "é".repeat(model),
            persona: "é".repeat(persona),
            title: "é".repeat(title),
            avatar: "é".repeat(avatar),
            ..llm(id, &"é".repeat(name))
        })
    };
    table.ok("bob", sized("most", 100, 200, 200, 500, 8000));
    for (command, words) in [
        (sized("x", 101, 0, 0, 0, 0), "llm.display_name must have at most 100"),
        (sized("x", 1, 201, 0, 0, 0), "llm.model must have at most 200"),
        (sized("x", 1, 0, 201, 0, 0), "llm.title must have at most 200"),
        (sized("x", 1, 0, 0, 501, 0), "llm.avatar must have at most 500"),
        (sized("x", 1, 0, 0, 0, 8001), "llm.persona must have at most 8000 characters, has 8001"),
    ] {
        table.refused("bob", command, Code::InvalidArgument, words);
    }
}

#[test]
fn a_room_has_a_limit_of_llms() {
    let mut table = Table::new();
    for n in 2..32 {
        table.ok("bob", add(&format!("n{n}"), &format!("N {n}")));
    }
    table.refused("bob", add("more", "More"), Code::ResourceExhausted, "at most 32 LLMs");
    table.ok("bob", rename("ada", "Another"));

    let many = |count: usize| NewRoom {
        llms: (0..count).map(|n| llm(&format!("n{n}"), &format!("N {n}"))).collect(),
        ..new_room()
    };
    let limits = Limits::default();
    assert!(create_with(many(32), &limits, &mut 0).is_ok());
    let refusal = create_with(many(33), &limits, &mut 0).unwrap_err();
    check_refusal(&refusal, Code::ResourceExhausted, "at most 32 LLMs", "create");
    let twins = NewRoom { llms: vec![llm("a", "X"), llm("b", "x")], ..new_room() };
    let refusal = create_with(twins, &limits, &mut 0).unwrap_err();
    check_refusal(&refusal, Code::AlreadyExists, "of the LLM a", "create");
}
