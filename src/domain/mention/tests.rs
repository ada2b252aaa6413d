//! Mentions, one table for each rule. The room's LLMs are written as `id=Display Name`.

use std::time::Duration;

use super::*;

const ROOM: [&str; 6] =
    ["claude=Claude", "gpt-4=GPT-4", "gpt41=GPT-4.1", "ada=Ada", "lace=Ada Lovelace", "xm=小明"];

fn llm(text: &str) -> LlmConfig {
    let (id, name) = text.split_once('=').unwrap();
    LlmConfig {
        id: LlmId::parse(id).unwrap(),
        model: String::new(),
        persona: String::new(),
        display_name: name.into(),
        title: String::new(),
        chat_style: Default::default(),
        avatar: String::new(),
        allowed_tools: Vec::new(),
        fallback_models: Vec::new(),
    }
}

fn check_with(room: &[&str], text: &str, names: &[&str], expected: &[&str]) {
    let llms: Vec<LlmConfig> = room.iter().map(|text| llm(text)).collect();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let called = resolve(&llms, text, &names);
    let called: Vec<&str> = called.iter().map(LlmId::as_str).collect();
    assert_eq!(called, expected, "{text:?} {names:?} in {room:?}");
}

fn check(room: &[&str], text: &str, expected: &[&str]) {
    check_with(room, text, &[], expected);
}

#[test]
fn ids_and_display_names_call() {
    for (text, expected) in [
        ("@claude hi", vec!["claude"]),
        ("@CLAUDE", vec!["claude"]),
        ("hi @Claude!", vec!["claude"]),
        ("@gpt41", vec!["gpt41"]),
        ("@lace", vec!["lace"]),
        ("@Ada Lovelace, hi", vec!["lace"]),
        ("@ada_lovelace", vec!["lace"]),
        ("@ADA  LOVELACE", vec!["lace"]),
        ("@Ada\u{A0}Lovelace", vec!["lace"]),
        ("＠claude", vec!["claude"]),
        ("＠ｃｌａｕｄｅ", vec!["claude"]),
        ("claude", vec![]),
        ("@", vec![]),
        ("@ claude", vec![]),
        ("@nobody", vec![]),
        ("", vec![]),
    ] {
        check(&ROOM, text, &expected);
    }
    check(&["a_b=Ada B"], "@a b and @Ada_B", &["a_b"]);
    check(&[], "@all @claude", &[]);
}

#[test]
fn all_and_everyone_call_every_llm_in_the_order_of_the_room() {
    let everyone = ["claude", "gpt-4", "gpt41", "ada", "lace", "xm"];
    check(&ROOM, "@all", &everyone);
    check(&ROOM, "well, @EVERYONE?", &everyone);
    check(&ROOM, "@lace then @all", &["lace", "claude", "gpt-4", "gpt41", "ada", "xm"]);
    for text in ["x@all", "@all-hands", "@allison", "@all_", "@all.hands", "@@all", "@everyones"] {
        check(&ROOM, text, &[]);
    }
    assert!(is_everyone("All") && is_everyone(" EVERYONE ") && is_everyone("_all_") && is_everyone("ａｌｌ"));
    assert!(!is_everyone("allison") && !is_everyone("") && !is_everyone("al l"));
}

#[test]
fn an_address_is_no_mention() {
    for text in [
        "bob@claude.com",
        "bob@claude",
        "b.@claude",
        "b-@claude",
        "b+@claude",
        "b_@claude",
        "7@claude",
        "é@claude",
        "e\u{301}@claude",
        "@@claude",
        "@＠claude",
        "@claude@example",
    ] {
        check(&ROOM, text, if text == "@claude@example" { &["claude"] } else { &[] });
    }
    for text in
        ["(@claude)", "\"@claude\"", "**@claude**", "/@claude", "hi,@claude", "🎉@claude", "\n@claude"]
    {
        check(&ROOM, text, &["claude"]);
    }
}

#[test]
fn a_name_ends_where_the_word_ends() {
    for text in [
        "@claudette",
        "@claude2",
        "@claude_",
        "@claude.com",
        "@claude-x",
        "@claude²",
        "@claudé",
        "@claude\u{301}",
        "@claudeи",
        "@claude\u{200D}x",
    ] {
        check(&ROOM, text, &[]);
    }
    for text in [
        "@claude.",
        "@claude, hi",
        "@claude...",
        "@claude-",
        "@claude - hi",
        "@claude's",
        "@claude!",
        "@claude🎉",
        "@claude\u{200D}",
        "@claude\u{2069}",
        "@claude:",
        "@claude/x",
        "@claude…",
    ] {
        check(&ROOM, text, &["claude"]);
    }
}

#[test]
fn the_longest_name_is_meant() {
    for (text, expected) in [
        ("@GPT-4", vec!["gpt-4"]),
        ("@GPT-4.", vec!["gpt-4"]),
        ("@GPT-4.1", vec!["gpt41"]),
        ("@gpt-4.1.", vec!["gpt41"]),
        ("@GPT-4.2", vec![]),
        ("@gpt", vec![]),
        ("@Ada", vec!["ada"]),
        ("@Ada Love", vec!["ada"]),
        ("@Ada Lovelaces", vec!["ada"]),
        ("@Ada\nLovelace", vec!["ada"]),
        ("@AdaLovelace", vec![]),
    ] {
        check(&ROOM, text, &expected);
    }
    check(&["a=A", "b=A B", "c=A B C"], "@a b c d, @a b d, @a d", &["c", "b", "a"]);
    check(&["one=C++", "two=C"], "@C++ and @C", &["one", "two"]);
    check(&["mr=Mr."], "@Mr. Smith", &["mr"]);
}

#[test]
fn mentions_come_in_the_order_of_the_text_and_once() {
    check(&ROOM, "@ada @claude @ADA @Ada @gpt-4", &["ada", "claude", "gpt-4"]);
    check(&ROOM, "@xm,@claude;@小明", &["xm", "claude"]);
}

#[test]
fn names_beside_the_text_come_after_it() {
    check_with(&ROOM, "@ada", &["claude", "Ada", "ada"], &["ada", "claude"]);
    check_with(
        &ROOM,
        "",
        &[" @Claude! ", "ada lovelace", "GPT-4.1.", "xm:;"],
        &["claude", "lace", "gpt41", "xm"],
    );
    check_with(&ROOM, "", &["nobody", "", "@", "...", "_", "@@claude"], &[]);
    check_with(&["a=A", "b=B"], "", &["b", "Everyone"], &["b", "a"]);
    check_with(&["mr=Mr.", "m=Mr"], "", &["Mr.", "mr,"], &["mr"]);
    check_with(&["x=Mr.", "y=Mr"], "", &["@mr.", "@mr!"], &["x", "y"]);
}

#[test]
fn scripts_without_spaces_need_none() {
    for (text, expected) in [
        ("@小明你好", vec!["xm"]),
        ("你好@小明你好", vec!["xm"]),
        ("＠小明，你好", vec!["xm"]),
        ("@小明hello", vec!["xm"]),
        ("@小明2", vec![]),
        ("@小明_", vec![]),
        ("@claude你好", vec!["claude"]),
        ("@claudeさん、@Ada様", vec!["claude", "ada"]),
        ("@Claude가 말해", vec!["claude"]),
        ("안녕@claude야", vec!["claude"]),
    ] {
        check(&ROOM, text, &expected);
    }
    check(&["a=小明", "b=小明明"], "@小明明你好", &["b"]);
    check(&["k=クロード"], "@クロードさん", &["k"]);
    check(&["k=カイ"], "@カイゼン", &[]);
    check(&["k=클로드"], "@클로드에게 물어봐", &["k"]);
    check(&["t=คลอด"], "สวัสดี@คลอดครับ", &["t"]);
    // A vowel sign changes the letter before it.
    check(&["t=คลอ"], "@คลอ\u{0E31}", &[]);
}

#[test]
fn scripts_written_from_right_to_left_call() {
    for text in
        ["@كلود", "مرحبا @كلود!", "\u{200F}@كلود\u{200F} مرحبا", "\u{2068}@كلود\u{2069}", "@كلود، مرحبا"]
    {
        check(&["k=كلود"], text, &["k"]);
    }
    check(&["k=كلود"], "@كلودي", &[]);
    check(&["k=كلود"], "@كلود\u{64B}", &[]);
    check(&["d=דוד לוי"], "שלום @דוד לוי, מה שלומך", &["d"]);
}

#[test]
fn letters_with_unusual_cases_call() {
    check(&["i=İnci"], "@İNCİ", &["i"]);
    check(&["i=İnci"], "@i\u{307}nci", &["i"]);
    check(&["i=İnci"], "@inci", &["i"]);
    check(&["a=Ali"], "@ALİ", &["a"]);
    check(&["s=Straße"], "@STRAẞE", &["s"]);
    check(&["s=Straße"], "@STRASSE", &[]);
    check(&["o=Οδυσσέας"], "@ΟΔΥΣΣΈΑΣ", &["o"]);
    check(&["o=ΟΔΟΣ"], "@οδος και @οδοσ", &["o"]);
    check(&["k=Kelvin"], "@\u{212A}elvin", &["k"]);
    check(&["z=Zoë 🦊"], "@zoë_🦊", &["z"]);
    check(&["z=❤"], "@❤\u{FE0F} hi", &["z"]);
    check(&["t=👍"], "@👍🏽", &[]);
    check(&["w=👩"], "@👩\u{200D}💻", &[]);
}

#[test]
fn combining_characters_are_compared_as_typed() {
    check(&["j=Jose\u{301}"], "@JOSE\u{301}!", &["j"]);
    check(&["j=Jos\u{E9}"], "@JOS\u{C9}!", &["j"]);
    check(&["j=Jose"], "@Jose\u{301}", &[]);
    check(&["j=Jose\u{301}"], "@Jose", &[]);
    check(&["j=Jos\u{E9}"], "@Jose\u{301}", &[]);
}

#[test]
fn code_and_quotations_do_not_call() {
    for (text, expected) in [
        ("`@claude`", vec![]),
        ("`@claude` @ada", vec!["ada"]),
        ("``a ` @claude`` @ada", vec!["ada"]),
        ("` @claude", vec!["claude"]),
        ("` @claude\n` @ada", vec!["claude", "ada"]),
        ("```\n@claude\n```\n@ada", vec!["ada"]),
        ("```@claude``` @ada", vec!["ada"]),
        ("@ada ```\n@claude\n@all", vec!["ada"]),
        ("> @claude\n@ada", vec!["ada"]),
        ("  >@claude", vec![]),
        ("1 > 0, @claude", vec!["claude"]),
        ("`x`@claude", vec!["claude"]),
        ("@claude`x`", vec!["claude"]),
        ("@clau`de`", vec![]),
    ] {
        check(&ROOM, text, &expected);
    }
}

#[test]
fn equal_names_mean_whoever_came_first() {
    check(&["b=X", "a=X", "x=Y"], "@x", &["b"]);
    check(&["all=All", "b=B"], "@all", &["all", "b"]);
}

/// In linear time each takes less than a second even without optimization; in quadratic time the cheapest
/// imaginable scan, which only looks for the end of the line from each backtick, took more than ten.
#[test]
fn hostile_texts_take_linear_time() {
    const BYTES: usize = 2 * 1024 * 1024;
    let long = "a".repeat(97);
    let llms: Vec<LlmConfig> = (10..42).map(|n| llm(&format!("id{n}={long}{n}"))).collect();
    let parts = [
        "@",
        "`",
        "@`",
        "` `` ",
        "``` ",
        "````\n",
        ">",
        "> ",
        " ",
        "@ ",
        "@a",
        "＠",
        "\n",
        "`\n",
        "_",
        "@all-x",
        "@\u{FE0F}",
        &format!("@{long} "),
        "`@``",
        "``@` ",
    ];
    let repeated = parts.iter().map(|part| part.repeat(BYTES / part.len()));
    let growing = (1..1000).map(|count| format!("{} ", "`".repeat(count))).collect();
    let shrinking = (1..1000).rev().map(|count| format!("{} ", "`".repeat(count))).collect();
    let spaces = format!("@{}", " ".repeat(BYTES));
    let letters = format!("@{}", "a".repeat(BYTES));
    for text in repeated.chain([growing, shrinking, spaces, letters]) {
        let started = std::time::Instant::now();
        let called = resolve(&llms, &text, &[]);
        let begins: String = text.chars().take(12).collect();
        assert!(called.is_empty(), "{begins:?} calls {called:?}");
        let took = started.elapsed();
        assert!(took < Duration::from_secs(10), "{begins:?} took {took:?}");
    }
}
