//! The configuration as an operator meets it: files, variables, and what is said about their mistakes.

mod models;
mod providers;
mod tls;
mod tokens;
mod values;

use std::{fs, path::Path};

use salon::config::{
    Config, Error, Loaded, Problem, ProviderSettings, Source, StoreKind, format_duration, load, show,
};
use secrecy::ExposeSecret as _;
use tempfile::TempDir;

const SECRET: &str = "sk-very-secret-4711";

/// Reads `file` with the variables `environment`; a directory of its own stands for the working directory.
fn read(file: &str, environment: &[(&str, &str)]) -> Result<Loaded, Error> {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("config.yaml"), file).unwrap();
    load(None, directory.path(), environment.iter().copied())
}

fn good(file: &str, environment: &[(&str, &str)]) -> Config {
    read(file, environment).unwrap_or_else(|error| panic!("{error}")).config
}

fn problems(file: &str, environment: &[(&str, &str)]) -> Vec<Problem> {
    let error = read(file, environment).unwrap_err();
    assert!(!error.problems().is_empty(), "{error}");
    error.problems().to_vec()
}

/// The only problem, which must say all of `parts`.
fn problem(file: &str, environment: &[(&str, &str)], parts: &[&str]) -> Problem {
    let all = problems(file, environment);
    assert_eq!(all.len(), 1, "{all:#?}");
    let text = all[0].to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
    all[0].clone()
}

fn tree(config: &Config) -> serde_json::Value {
    serde_json::to_value(config).unwrap()
}

/// The leaves of a tree as `section.key`.
fn leaves(prefix: &str, tree: &serde_json::Value, into: &mut Vec<(String, serde_json::Value)>) {
    match tree.as_object() {
        Some(section) if !section.is_empty() => {
            for (name, value) in section {
                leaves(&format!("{prefix}{}{name}", if prefix.is_empty() { "" } else { "." }), value, into);
            }
        }
        _ => into.push((prefix.to_owned(), tree.clone())),
    }
}

fn keys() -> Vec<(String, serde_json::Value)> {
    let mut keys = Vec::new();
    leaves("", &tree(&Config::default()), &mut keys);
    keys
}

fn variable(key: &str) -> String {
    format!("SALON__{}", key.replace('.', "__").to_uppercase())
}

fn shipped() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config.yaml")).unwrap()
}

#[test]
fn without_a_file_the_defaults_are_in_force() {
    let empty = TempDir::new().unwrap();
    let loaded = load(None, empty.path(), [("PATH", "/bin"), ("SALON_SERVER", "x")]).unwrap();
    assert_eq!(tree(&loaded.config), tree(&Config::default()));
    assert_eq!(loaded.sources.file(), None);
    assert_eq!(loaded.sources.of("grpc.port"), Source::Default);
    assert_eq!((loaded.config.grpc.host.as_str(), loaded.config.grpc.port), ("127.0.0.1", 50052));
}

#[test]
fn the_shipped_file_says_the_defaults_and_every_key() {
    let shipped = shipped();
    assert_eq!(tree(&good(&shipped, &[])), tree(&Config::default()));
    let written: Vec<String> = written_keys(&shipped);
    let known: Vec<String> = keys().into_iter().map(|(key, _)| key).collect();
    for key in &known {
        assert!(written.contains(key), "{key} is not in config.yaml");
    }
    assert_eq!(written.len(), known.len(), "{written:?}");
    for key in ["kind:", "base_url:", "api_key_env:", "default_model:"] {
        assert!(shipped.lines().any(|line| line.trim_start_matches(['#', ' ']).starts_with(key)), "{key}");
    }
}

/// The keys that stand in a file; each must have a comment above it, above the key it follows, or above a section
/// below the first level that it is in.
fn written_keys(text: &str) -> Vec<String> {
    let mut sections: Vec<&str> = Vec::new();
    let mut keys: Vec<String> = Vec::new();
    let mut explained = false;
    for line in text.lines() {
        let Some((name, _)) = line.split_once(':').filter(|_| !line.trim_start().starts_with('#')) else {
            explained = explained || line.trim_start().starts_with('#');
            continue;
        };
        let depth = (name.len() - name.trim_start().len()) / 2;
        sections.truncate(depth);
        sections.push(name.trim_start());
        if depth == 0 {
            explained = false;
            continue;
        }
        let key = sections.join(".");
        assert!(explained, "{key} has no comment");
        // What has keys of its own is a section and no key.
        keys.retain(|known| !key.starts_with(&format!("{known}.")));
        keys.push(key);
    }
    keys
}

#[test]
fn a_key_left_out_or_empty_keeps_its_default() {
    let config = good("grpc:\nstore:\n  kind: memory\n  path:\nlog: {}\n", &[]);
    assert_eq!(config.store.kind, StoreKind::Memory);
    assert_eq!(config.store.path, Config::default().store.path);
    assert_eq!(config.grpc, Config::default().grpc);
    for empty in ["", "# nothing but a comment\n"] {
        assert_eq!(tree(&good(empty, &[])), tree(&Config::default()));
    }
}

#[test]
fn a_named_file_is_read_and_must_be_there() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("other.yaml");
    fs::write(directory.path().join("config.yaml"), "grpc: { port: 1 }").unwrap();
    let missing = load(Some(&path), directory.path(), [("A", "b")]).unwrap_err();
    assert!(matches!(missing, Error::Unreadable { .. }));
    assert!(
        missing.to_string().contains("other.yaml") && missing.to_string().contains("--config"),
        "{missing}"
    );
    fs::write(&path, "grpc: { port: 2 }").unwrap();
    let loaded = load(Some(&path), directory.path(), [("A", "b")]).unwrap();
    assert_eq!(loaded.config.grpc.port, 2);
    assert_eq!(loaded.sources.of("grpc.port"), Source::File(path));
}

#[test]
fn typos_are_refused_with_what_was_meant() {
    problem("grcp:\n  port: 1\n", &[], &["`grcp`", "is no key", "config.yaml", "did you mean `grpc`?"]);
    problem("grpc:\n  prot: 1\n", &[], &["`grpc.prot`", "did you mean `grpc.port`?"]);
    problem("message_bytes: 1KiB\n", &[], &["`message_bytes`", "did you mean `limits.message_bytes`?"]);
    problem("grpc:\n  colour: red\n", &[], &["`grpc.colour`", "use one of: ", "keepalive_interval"]);
    let provider = "llm:\n  providers:\n    local:\n      kind: offline\n      defualt_model: x\n";
    problem(provider, &[], &["llm.providers.local.defualt_model", "did you mean", "default_model"]);
    problem("", &[("SALON__GRPC__PROT", "1")], &["`grpc.prot`", "(from SALON__GRPC__PROT)", "`grpc.port`"]);
    problem("", &[("SALON__PORT", "1")], &["`port`", "did you mean `grpc.port`?"]);
    problem("", &[("SALON__", "1")], &["is no key"]);
}

#[test]
fn every_problem_is_found_at_once() {
    let file =
        "grpc: { port: many, hots: a }\nlimits: { drain: 25, message_bytes: 0B }\nstore: { kind: oracle }\n";
    let found = problems(file, &[("SALON__LLM__CHAIN_DEPTH", "0"), ("SALON__NOPE", "1")]);
    let mut keys: Vec<&str> = found.iter().map(|problem| problem.key.as_str()).collect();
    keys.sort_unstable();
    let expected = [
        "grpc.hots",
        "grpc.port",
        "limits.drain",
        "limits.message_bytes",
        "llm.chain_depth",
        "nope",
        "store.kind",
    ];
    assert_eq!(keys, expected);
    let text = read(file, &[]).unwrap_err().to_string();
    assert!(text.starts_with("the configuration has 5 problems:\n  - `"), "{text}");
}

#[test]
fn a_bus_between_servers_needs_a_url_and_a_store_that_they_share() {
    let told = problems("bus: { kind: nats }", &[]);
    assert_eq!(told.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), ["bus.url", "bus.kind"]);
    let text = told[0].to_string();
    assert!(text.contains("must be set for the kind `nats`") && text.contains("BUS_URL"), "{text}");
    let redis = "bus: { kind: redis }";
    let alone = ["bus.kind", "the store `sqlite` belongs to this one alone", "kind: local"];
    problem(redis, &[("BUS_URL", "redis://:s3cret@cache:6379")], &alone);
    for url in ["cache:6379", "http://s3cret@cache", "redis://", "redis://a:1,nats://b:2", "redis://a,"] {
        let told = problems(redis, &[("BUS_URL", url)]);
        let told = told.iter().find(|problem| problem.key == "bus.url").unwrap().to_string();
        assert!(told.contains("redis:// or rediss://") && !told.contains("s3cret"), "{told}");
    }
    let file = "bus: { kind: redis, url: 'redis://a', credentials: nats.creds }";
    assert!(problems(file, &[]).iter().any(|problem| problem.key == "bus.credentials"));
    for prefix in ["", "a.b", "a b", "*", &"x".repeat(33)] {
        problem(&format!("bus: {{ prefix: '{prefix}' }}"), &[], &["bus.prefix", "1 to 32"]);
    }
    good("bus: { prefix: a-b_2, url: 'redis://me:s3cret@cache' }", &[]);
}

#[test]
fn a_variable_beats_the_file_and_the_long_name_the_short() {
    let file = "grpc: { port: 1, host: localhost }\n";
    let config = good(file, &[("GRPC_PORT", "2"), ("SALON__GRPC__HOST", "::1")]);
    assert_eq!((config.grpc.port, config.grpc.host.as_str()), (2, "::1"));
    let loaded = read(file, &[("GRPC_PORT", "2"), ("SALON__GRPC__PORT", "3")]).unwrap();
    assert_eq!(loaded.config.grpc.port, 3);
    assert_eq!(loaded.sources.of("grpc.port"), Source::Variable("SALON__GRPC__PORT".into()));
    assert!(matches!(loaded.sources.of("grpc.host"), Source::File(_)));
    assert_eq!(good(file, &[("GRPC_PORT", ""), ("SALON__GRPC__HOST", " ")]).grpc.port, 1);
}

#[test]
fn every_key_has_a_variable() {
    for (key, default) in keys() {
        let value = match (&default, key.as_str()) {
            (
                _,
                "llm.aliases"
                | "llm.fallbacks"
                | "llm.models"
                | "llm.providers"
                | "mcp.servers"
                | "auth.tokens.issuers",
            ) => continue,
            (serde_json::Value::Null, "store.max_bytes") => "1GiB".to_owned(),
            (serde_json::Value::Null, "limits.max_session_age") => "30m".to_owned(),
            (serde_json::Value::Null, "store.url") => "postgres://db/salon".to_owned(),
            (serde_json::Value::Null, "bus.url") => "redis://cache:1".to_owned(),
            (serde_json::Value::Null, "chat_service.address") => "chat:1".to_owned(),
            (serde_json::Value::Null, key) if key.contains(".tokens_per_") => "5000".to_owned(),
            (serde_json::Value::Null, key) if key.contains(".money_per_") => "2.5".to_owned(),
            (serde_json::Value::Null, key) if key.ends_with(".stored_bytes") => "1GiB".to_owned(),
            (serde_json::Value::Null, key) if key.starts_with("limits.") => "7".to_owned(),
            (serde_json::Value::Null, _) => "offline".to_owned(),
            (serde_json::Value::String(text), _) => text.clone(),
            (other, _) => other.to_string(),
        };
        // Some are only there together.
        let (certificate, file) = (("SALON__TLS__CERTIFICATE", "a.pem"), ("SALON__TLS__KEY", "a.key"));
        let others: &[_] = match key.as_str() {
            "tls.certificate" => &[file],
            "tls.key" => &[certificate],
            "tls.client_ca" => &[certificate, file, ("SALON__TLS__CLIENT_AUTH", "required")],
            _ => &[],
        };
        let name = variable(&key);
        let loaded = read("", &[&[(name.as_str(), value.as_str())][..], others].concat()).unwrap();
        assert_eq!(loaded.sources.of(&key), Source::Variable(variable(&key)));
        let mut now = Vec::new();
        leaves("", &tree(&loaded.config), &mut now);
        let now = now.into_iter().find(|(name, _)| *name == key).unwrap().1;
        assert_eq!(now.as_str().map_or(now.to_string(), str::to_owned), value, "{key}");
    }
}

#[test]
fn the_short_names_are_checked_like_keys() {
    let config = good("", &[("GRPC_HOST", "localhost"), ("CHAT_SERVICE_ADDRESS", "chat-service:50051")]);
    assert_eq!(config.grpc.host, "localhost");
    assert_eq!(config.chat_service.address.as_deref(), Some("chat-service:50051"));
    problem("", &[("GRPC_PORT", "x")], &["`grpc.port` = \"x\" (from GRPC_PORT)"]);
    for address in ["chat-service", "http://chat-service:50051", "chat-service:0"] {
        let parts = [address, "(from CHAT_SERVICE_ADDRESS)", "must be host:port", "chat-service:50051"];
        problem("", &[("CHAT_SERVICE_ADDRESS", address)], &parts);
    }
    problem(
        "",
        &[("OPENAI_BASE_URL", "api.example.com")],
        &["`OPENAI_BASE_URL` = \"api.example.com\"", "https://"],
    );
}

#[test]
fn an_open_server_stays_on_this_machine_unless_told_otherwise() {
    for host in ["0.0.0.0", "::", "192.168.1.5", "example.com", "::ffff:10.0.0.1"] {
        let parts = ["grpc.host", host, "127.0.0.1", "auth.allow_open_on_network: true"];
        problem("", &[("GRPC_HOST", host)], &parts);
        good("auth: { allow_open_on_network: true }", &[("GRPC_HOST", host)]);
    }
    for host in ["127.0.0.1", "127.8.8.8", "::1", "localhost", "::ffff:127.0.0.1"] {
        good("", &[("GRPC_HOST", host)]);
    }
    good("auth: { mode: required }", &[("GRPC_HOST", "0.0.0.0")]);
    let named = "auth: { certificate_namespace: Acme }";
    problem(named, &[], &["auth.certificate_namespace", "Acme", "a-z, 0-9", "write `default`"]);
}

#[test]
fn a_file_that_is_no_yaml_is_named_with_its_line() {
    for file in
        ["grpc:\n  port: 1\n bad: [", "grpc: 1\n---\ngrpc: 2\n", "grpc: { port: 1, port: 2 }", "just words"]
    {
        let error = read(file, &[]).unwrap_err();
        assert!(matches!(error, Error::Syntax { .. }), "{file:?}: {error}");
        assert!(error.to_string().contains("config.yaml"), "{error}");
        assert!(!error.to_string().contains("just words"), "a key file that was given by mistake: {error}");
    }
    assert!(read("a: 1\nb: [", &[]).unwrap_err().to_string().contains("line"));
}

#[test]
fn a_secret_is_shown_nowhere() {
    let file = "llm: { providers: { mine: { kind: openai, api_key_env: MY_KEY } } }";
    let loaded = read(file, &[("MY_KEY", SECRET), ("OPENAI_API_KEY", SECRET)]).unwrap();
    let shown = show(&loaded);
    assert!(shown.contains("mine: https://api.openai.com/v1, key *** from MY_KEY"), "{shown}");
    for text in [
        shown,
        format!("{loaded:?}"),
        format!("{:?}", loaded.config.providers()),
        tree(&loaded.config).to_string(),
    ] {
        assert!(!text.contains(SECRET), "{text}");
    }

    let provider = |rest: &str| format!("llm: {{ providers: {{ mine: {{ kind: openai, {rest} }} }} }}");
    let with_password = format!("https://me:{SECRET}@host/v1");
    let spaced = format!("{SECRET} x");
    for (file, environment) in [
        // The key itself where its variable is asked for, under a wrong name, in a URL, and with a typo.
        (provider(&format!("api_key_env: {SECRET}")), vec![]),
        (provider(&format!("api_key: {SECRET}")), vec![]),
        (provider(&format!("base_url: '{with_password}'")), vec![]),
        (provider(&format!("api_key_env: [{SECRET}]")), vec![]),
        (String::new(), vec![("OPENAI_API_KEY", spaced.as_str())]),
        (String::new(), vec![("OPENAI_BASE_URL", with_password.as_str())]),
        (String::new(), vec![("SALON__OPENAI_API_KEY", SECRET)]),
    ] {
        let error = read(&file, &environment).unwrap_err();
        assert!(!error.problems().is_empty());
        assert!(!format!("{error} {error:?}").contains(SECRET), "{error}");
    }
}

#[test]
fn what_is_shown_names_its_origin_and_can_be_read_again() {
    let file = "store: { kind: memory, path: '/tmp/a b: #c' }\nlog: { level: 'off' }\n\
                llm: { providers: { mine: { kind: openai, base_url: 'http://a/v1' } } }\n";
    let loaded =
        read(file, &[("GRPC_PORT", "7"), ("SALON__LIMITS__DRAIN", "90s"), ("GRPC_HOST", "::1")]).unwrap();
    let shown = show(&loaded);
    let line =
        |start: &str| shown.lines().find(|line| line.trim_start().starts_with(start)).unwrap().to_owned();
    assert!(line("port: 7").ends_with("# GRPC_PORT"));
    assert!(line("drain: 90s").ends_with("# SALON__LIMITS__DRAIN"));
    assert!(line("kind: memory").ends_with("# file"));
    assert!(line("queue_events: 256").ends_with("# default"));
    assert!(line("# What is in force").contains("config.yaml"));
    assert_eq!(tree(&good(&shown, &[])), tree(&loaded.config), "{shown}");
}

#[test]
fn a_level_that_would_silence_everything_is_refused() {
    for level in ["inof", "info,", "salon=loud", "info,debgu"] {
        problem(&format!("log: {{ level: '{level}' }}"), &[], &["log.level", level, "must be off, error"]);
    }
    for level in ["off", "INFO", "warn,salon=debug", "salon::session=trace"] {
        assert_eq!(good("", &[("SALON__LOG__LEVEL", level)]).log.level, level);
    }
}

#[test]
fn a_variable_that_is_no_text_is_refused_only_where_it_matters() {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};
    let bytes = || OsString::from_vec(vec![0xff, 0xfe]);
    let empty = TempDir::new().unwrap();
    load(None, empty.path(), [(OsString::from("EDITOR"), bytes())]).unwrap();
    for name in ["SALON__GRPC__HOST", "OPENAI_API_KEY", "GRPC_PORT"] {
        let error = load(None, empty.path(), [(OsString::from(name), bytes())]).unwrap_err();
        assert!(error.to_string().contains(name) && error.to_string().contains("UTF-8"), "{error}");
    }
}

#[test]
fn the_url_of_a_store_is_needed_read_and_never_shown() {
    let kind = ("SALON__STORE__KIND", "postgres");
    problem("", &[kind], &["store.url", "must be set", "STORE_URL"]);
    let url = format!("postgres://me:{SECRET}@db:5433/salon");
    let loaded = read("", &[kind, ("STORE_URL", &url)]).unwrap();
    assert_eq!(loaded.config.store.server_url().unwrap().expose(), url);
    let shown = show(&loaded);
    assert!(shown.contains("postgres://***@db:5433/salon"), "{shown}");
    assert!(!format!("{shown} {loaded:?}").contains(SECRET), "{shown}");

    let directory = TempDir::new().unwrap();
    let path = directory.path().join("url");
    std::fs::write(&path, format!("{url}\n")).unwrap();
    let file = ("SALON__STORE__URL_FILE", path.to_str().unwrap());
    let loaded = read("", &[kind, file]).unwrap();
    assert_eq!(loaded.config.store.server_url().unwrap().expose(), url);
    assert!(!format!("{} {loaded:?}", show(&loaded)).contains(SECRET));
    problem("", &[kind, file, ("STORE_URL", &url)], &["store.url_file", "cannot both"]);
    problem("", &[kind, ("SALON__STORE__URL_FILE", "/gone")], &["store.url_file", "cannot be read"]);

    for wrong in [SECRET, &format!("https://{SECRET}@db"), &format!("postgres:/me:{SECRET}@db")] {
        let refused = problem("", &[kind, ("STORE_URL", wrong)], &["store.url", "must be a postgres:// URL"]);
        assert!(!format!("{refused} {refused:?}").contains(SECRET), "{refused}");
    }
    for wrong in ["", "Salon", "1a", "pg_mine", "a-b", "a.b", "a\"b", &"a".repeat(64)] {
        let file = format!("store: {{ schema: '{wrong}' }}");
        problem(&file, &[], &["store.schema", "must be a name"]);
    }
}

#[test]
fn a_table_needs_a_name_and_neither_a_url_nor_a_region() {
    let config = good("store: { kind: dynamodb }", &[]);
    assert_eq!((config.store.table.as_str(), config.store.region, config.store.url), ("salon", None, None));
    let at = [("STORE_URL", "http://127.0.0.1:8000")];
    let config = good("store: { kind: dynamodb, table: My.rooms-1, region: eu-west-1 }", &at);
    assert_eq!(config.store.server_url().unwrap().expose(), "http://127.0.0.1:8000");
    for (file, key) in [
        ("store: { kind: dynamodb, table: ab }", "store.table"),
        ("store: { kind: dynamodb, table: a b c }", "store.table"),
        ("store: { kind: dynamodb, region: 'eu west' }", "store.region"),
        ("store: { kind: dynamodb, url: 'postgres://db/salon' }", "store.url"),
    ] {
        problem(file, &[], &[key, "must be"]);
    }
}
