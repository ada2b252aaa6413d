//! Providers of LLMs: which there are, what they are given, and what is refused of them.

use super::*;

#[test]
fn the_default_provider_follows_what_there_is() {
    let key = ("OPENAI_API_KEY", SECRET);
    let url = ("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1/");
    let chat = ("CHAT_SERVICE_ADDRESS", "chat:1");
    let one = "llm: { providers: { mine: { kind: openai, base_url: 'http://a/v1' } } }";
    for (file, environment, default) in [
        ("", vec![], "offline"),
        ("", vec![key], "openai"),
        ("", vec![url], "openai"),
        ("", vec![key, url, chat], "chat_service"),
        (one, vec![key, chat], "mine"),
        ("llm: { default_provider: offline }", vec![key, chat], "offline"),
    ] {
        let providers = good(file, &environment).providers();
        assert_eq!(providers.default, default);
        assert!(providers.by_name.contains_key(default) && providers.by_name.contains_key("offline"));
    }
}

#[test]
fn providers_get_their_own_keys_and_no_others() {
    let file = "llm:\n  default_provider: a\n  providers:\n    a: { kind: openai, base_url: 'http://a/v1' }\n    \
                b: { kind: openai, base_url: 'http://b/v1/', api_key_env: B_KEY, default_model: m }\n    c: { kind: openai }\n";
    let environment =
        [("OPENAI_API_KEY", SECRET), ("B_KEY", " other-key\n"), ("OPENAI_BASE_URL", "http://o/v1")];
    let providers = good(file, &environment).providers();
    let settings = |name: &str| match &providers.by_name[name] {
        ProviderSettings::OpenAi { base_url, api_key, default_model, .. } => {
            let key = api_key.as_ref().map(|key| key.expose_secret().to_owned());
            (base_url.clone(), key, default_model.clone())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(settings("a"), ("http://a/v1".into(), None, None));
    assert_eq!(settings("b"), ("http://b/v1".into(), Some("other-key".into()), Some("m".into())));
    assert_eq!(settings("c"), ("http://o/v1".into(), Some(SECRET.into()), None));
    assert_eq!(settings("openai"), settings("c"));
}

#[test]
fn a_provider_may_add_headers_and_a_body() {
    let directory = TempDir::new().unwrap();
    let key_file = directory.path().join("key");
    fs::write(&key_file, format!("  {SECRET}\n")).unwrap();
    let file = format!(
        "llm:\n  providers:\n    mine:\n      kind: openai\n      base_url: http://a/v1\n      api_key_file: {}\n      \
         organization: org-1\n      project: proj-1\n      headers: {{ X-Title: Salon, 'HTTP-Referer': 'http://s' }}\n      \
         headers_env: {{ X-Account: ACCOUNT }}\n      extra_body: {{ top_k: 5, temperature: 0.5, provider: {{ Order: [a, b] }} }}\n",
        key_file.display()
    );
    let loaded = read(&file, &[("ACCOUNT", "Bearer other-secret")]).unwrap();
    let ProviderSettings::OpenAi { api_key, headers, extra_body, .. } =
        loaded.config.providers().by_name.remove("mine").unwrap()
    else {
        panic!()
    };
    assert_eq!(api_key.unwrap().expose_secret(), SECRET);
    let sent: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
    assert_eq!(
        sent,
        [
            ("HTTP-Referer", "http://s"),
            ("OpenAI-Organization", "org-1"),
            ("OpenAI-Project", "proj-1"),
            ("X-Account", "Bearer other-secret"),
            ("X-Title", "Salon"),
        ]
    );
    let added = serde_json::json!({"top_k": 5, "temperature": 0.5, "provider": {"Order": ["a", "b"]}});
    assert_eq!(serde_json::Value::Object(extra_body), added);

    let shown = show(&loaded);
    assert!(shown.contains(&format!("key *** from {}", key_file.display())), "{shown}");
    for secret in [SECRET, "other-secret"] {
        assert!(!format!("{shown} {loaded:?}").contains(secret), "{shown}");
    }
    let again = read(&shown, &[("ACCOUNT", "x")]).unwrap();
    assert_eq!(tree(&again.config), tree(&loaded.config), "{shown}");
}

#[test]
fn what_a_provider_may_not_add_is_refused() {
    let provider = |rest: &str| {
        format!("llm: {{ providers: {{ mine: {{ kind: openai, base_url: 'http://a/v1', {rest} }} }} }}")
    };
    for (rest, parts) in [
        ("extra_body: { messages: [] }", ["mine.extra_body.messages", "set by the server itself"]),
        ("extra_body: { stream: false }", ["mine.extra_body.stream", "set by the server itself"]),
        ("extra_body: { tools: [] }", ["mine.extra_body.tools", "leave it out"]),
        ("extra_body: { a: [{ api_key: x }] }", ["mine.extra_body.a.api_key", "looks like a secret"]),
        ("headers: { Authorization: x }", ["mine.headers.Authorization", "set by the server itself"]),
        ("headers: { X-Api-Key: x }", ["mine.headers.X-Api-Key", "headers_env"]),
        ("headers: { 'X Title': x }", ["mine.headers.X Title", "name of a header"]),
        ("headers: { X-Title: \"a\\nb\" }", ["mine.headers.X-Title", "printable ASCII"]),
        ("headers: [a]", ["mine.headers", "section with keys"]),
        ("headers_env: { X-Account: 'se cret' }", ["mine.headers_env.X-Account", "name of a variable"]),
        ("headers_env: { X-Account: MISSING }", ["mine.headers_env", "not set"]),
        ("headers_env: { Host: HOME_HOST }", ["mine.headers_env.Host", "set by the server"]),
        ("organization: 'aé'", ["mine.organization", "printable ASCII"]),
        ("api_key_file: /nonexistent/key", ["mine.api_key_file", "cannot be read"]),
        ("api_key_file: /", ["mine.api_key_file", "cannot be read"]),
        ("api_key_file: /dev/null", ["mine.api_key_file", "is empty"]),
        ("api_key_file: /dev/zero", ["mine.api_key_file", "one line"]),
        ("extra_bdy: {}", ["mine.extra_bdy", "extra_body"]),
    ] {
        problem(&provider(rest), &[("HOME_HOST", "x")], &parts);
    }
    problem(
        &provider("api_key_file: /dev/null, api_key_env: MY_KEY"),
        &[("MY_KEY", SECRET)],
        &["mine.api_key_file", "cannot both be given"],
    );
    let twice = provider("headers: { X-Team: a }, headers_env: { x-team: TEAM }");
    problem(&twice, &[("TEAM", "b")], &["mine.headers_env.x-team", "given twice"]);
    for rest in ["headers: { X-A: b }", "extra_body: { a: 1 }", "organization: o", "api_key_file: /dev/null"]
    {
        let offline = format!("llm: {{ providers: {{ mine: {{ kind: offline, {rest} }} }} }}");
        problem(&offline, &[], &["means nothing", "`offline`"]);
    }
    // Nothing of a secret in the wrong place is repeated.
    for rest in [
        format!("headers: {{ X-Api-Key: {SECRET} }}"),
        format!("headers: {{ Authorization: Bearer {SECRET} }}"),
        format!("headers_env: {{ X-Account: {SECRET} }}"),
        format!("extra_body: {{ provider: {{ api_key: {SECRET} }} }}"),
        format!("api_key_file: {SECRET}"),
    ] {
        let error = read(&provider(&rest), &[]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(SECRET), "{error}");
    }
}

#[test]
fn providers_that_cannot_work_are_refused() {
    let provider = |rest: &str| format!("llm: {{ providers: {{ mine: {{ {rest} }} }} }}");
    problem(
        &provider("base_url: 'http://a'"),
        &[],
        &["llm.providers.mine.kind", "is missing", "`kind: openai`"],
    );
    problem(
        &provider("kind: llama"),
        &[],
        &["mine.kind` = \"llama\"", "`offline` or `openai` or `chat_service`"],
    );
    problem(&provider("kind: openai"), &[], &["`llm.providers.mine`", "has no key", "OPENAI_API_KEY"]);
    problem(&provider("kind: chat_service"), &[], &["has no address", "CHAT_SERVICE_ADDRESS"]);
    problem(
        &provider("kind: offline, base_url: 'http://a'"),
        &[],
        &["mine.base_url", "means nothing", "`offline`"],
    );
    problem(&provider("kind: openai, base_url: a"), &[], &["mine.base_url` = \"a\"", "must be an http"]);
    problem(
        &provider("kind: openai, api_key_env: MISSING_KEY"),
        &[],
        &["mine.api_key_env", "not set", "set that variable"],
    );
    problem(
        "llm: { providers: { 'My LLM': { kind: offline } } }",
        &[],
        &["My LLM", "no name of a provider", "a-z"],
    );
    problem("llm: { default_provider: nobody }", &[], &["\"nobody\"", "no provider", "name one of offline"]);
    let two = "llm: { providers: { a: { kind: offline }, b: { kind: offline } } }";
    problem(two, &[], &["llm.default_provider", "must be set", "name one of a, b"]);
    let by_variable = [
        ("SALON__LLM__PROVIDERS__MINE__KIND", "openai"),
        ("SALON__LLM__PROVIDERS__MINE__BASE_URL", "http://a/v1"),
    ];
    assert_eq!(good("", &by_variable).providers().default, "mine");
}
