//! Amounts: their types, units and bounds, and what must fit together.

use super::*;

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_mend() {
    problem("grpc: { port: many }", &[], &["`grpc.port` = \"many\"", "whole number", "default is `50052`"]);
    problem("grpc: { port: 70000 }", &[], &["`grpc.port` = \"70000\"", "from 0 to 65535"]);
    for port in ["-1", "1.5", "true"] {
        problem(&format!("grpc: {{ port: {port} }}"), &[], &["`grpc.port`", "whole number"]);
    }
    problem(
        "store: { kind: oracle }",
        &[],
        &["\"oracle\"", "must be `sqlite` or `memory`", "default is `sqlite`"],
    );
    problem("auth: { allow_open_on_network: yes }", &[], &["\"yes\"", "must be `true` or `false`"]);
    problem("grpc: 5", &[], &["`grpc`", "must be a section", "host, "]);
    problem("grpc: [1]", &[], &["`grpc`", "must be a section"]);
    problem("grpc: { port: [1, 2] }", &[], &["`grpc.port`", "single value", "`50052`"]);
    problem("grpc: { port: { a: 1 } }", &[], &["`grpc.port`", "single value"]);
    problem(
        "",
        &[("SALON__GRPC", "x"), ("SALON__GRPC__PORT", "1")],
        &["`grpc`", "must be a section", "SALON__GRPC)"],
    );
}

#[test]
fn durations_and_sizes_need_their_unit() {
    problem(
        "limits: { drain: 25 }",
        &[],
        &["`limits.drain` = \"25\"", "no unit", "write `25s`", "default is `25s`"],
    );
    problem("limits: { drain: 25sec }", &[], &["\"25sec\"", "unknown unit", "ms, s, m, h"]);
    problem("limits: { drain: soon }", &[], &["\"soon\"", "must be a duration"]);
    problem("limits: { grpc_message: 1048576 }", &[], &["no unit", "B, KiB, MiB, GiB", "default is `1MiB`"]);
    problem("limits: { grpc_message: 1MB }", &[], &["\"1MB\"", "unknown unit"]);
    problem("store: { max_bytes: 5 }", &[], &["`store.max_bytes`", "no unit"]);
    let config = good(
        "limits: { drain: 1500ms }\nstore: { max_bytes: 2GiB }\n",
        &[("SALON__LIMITS__GRPC_MESSAGE", "2MiB")],
    );
    assert_eq!(format_duration(config.limits.drain), "1500ms");
    assert_eq!((config.store.max_bytes, config.limits.grpc_message), (Some(2 << 30), 2 << 20));
}

/// Keys that are no amounts.
const WORDS: &[&str] = &[
    "auth.allow_open_on_network",
    "auth.certificate_namespace",
    "auth.mode",
    "auth.tokens.issuers",
    "auth.tokens.signing_key_env",
    "auth.tokens.signing_key_file",
    "auth.tokens.signing_name",
    "bus.credentials",
    "bus.kind",
    "bus.prefix",
    "bus.url",
    "chat_service.address",
    "grpc.host",
    "llm.aliases",
    "llm.default_provider",
    "llm.generate_model",
    "llm.fallbacks",
    "llm.models",
    "llm.providers",
    "llm.summary.model",
    "mcp.servers",
    "log.format",
    "log.level",
    "audit.enabled",
    "rooms.integrity",
    "store.durability",
    "store.kind",
    "store.path",
    "store.region",
    "store.schema",
    "store.table",
    "store.url",
    "store.url_file",
    "tls.certificate",
    "tls.client_auth",
    "tls.client_ca",
    "tls.key",
];

#[test]
fn no_amount_is_without_bounds() {
    // Zero means something for these: no cap, any port, no waiting, no LLMs, counts only.
    let may_be_zero = [
        "grpc.max_connections_per_peer",
        "grpc.port",
        "llm.queue_per_room",
        "llm.summary.after",
        "limits.linger",
        "limits.llms_per_room",
        "limits.participants_shown",
    ];
    for (key, default) in keys() {
        let (zero, huge) = match default.as_str() {
            Some(_) if key.starts_with("limits.rates.") => ("0/s", "4000000000/s"),
            _ if key.starts_with("limits.quotas.") && key.ends_with("_bytes") => ("0B", "1000000000GiB"),
            _ if key.starts_with("limits.quotas.") => ("0", "4000000000000"),
            None if default.is_number() => ("0", "4000000000"),
            _ if key.starts_with("limits.streams_per_") => ("0", "4000000000"),
            Some(text) if text.ends_with("iB") => ("0B", "1000000000GiB"),
            Some(text)
                if text.ends_with(['s', 'm', 'h']) && text.starts_with(|c: char| c.is_ascii_digit()) =>
            {
                ("0s", "1000000h")
            }
            _ if key == "store.max_bytes" => ("0B", "1000000000GiB"),
            _ if key == "limits.max_session_age" => ("0s", "1000000h"),
            _ if key.starts_with("llm.budgets.") => ("0", "4000000000000"),
            _ => {
                assert!(WORDS.contains(&key.as_str()), "{key} is neither an amount nor known as a word");
                continue;
            }
        };
        let name = variable(&key);
        let refused = |value: &str| {
            let error = read("", &[(&name, value)]).err();
            error.is_some_and(|error| error.problems().iter().any(|problem| problem.key == key))
        };
        assert!(refused(huge), "{key} = {huge}");
        if may_be_zero.contains(&key.as_str()) {
            good("", &[(&name, zero)]);
        } else {
            assert!(refused(zero), "{key} = {zero}");
        }
    }
}

#[test]
fn bounds_are_exact() {
    for (key, least, below, most, above) in [
        ("llm.history_messages", "1", "0", "50", "51"),
        ("llm.chain_depth", "1", "0", "20", "21"),
        ("limits.queue_events", "16", "15", "65536", "65537"),
        ("limits.drain", "1s", "999ms", "10m", "601s"),
        ("llm.chunk_window", "5ms", "4ms", "500ms", "501ms"),
        ("llm.budgets.user.tokens_per_day", "1", "0", "1000000000000", "1000000000001"),
        ("llm.budgets.room.money_per_day", "0.000001", "0", "1000000000", "1000000000.000001"),
        ("bus.head_check", "100ms", "99ms", "1m", "60001ms"),
        ("store.pool_size", "1", "0", "200", "201"),
        ("store.timeout", "100ms", "99ms", "10m", "601s"),
        ("limits.quotas.namespace.rooms", "1", "0", "1000000000000", "1000000000001"),
        ("limits.quotas.namespace.members", "1", "0", "1000000000000", "1000000000001"),
        ("limits.quotas.namespace.stored_bytes", "64KiB", "65535B", "1024GiB", "1025GiB"),
        ("limits.rates.user.joins", "1/s", "0/s", "1000000/s", "1000001/s"),
        ("limits.streams_per_user", "1", "0", "1000000", "1000001"),
        ("grpc.send_buffer", "16KiB", "16383B", "4MiB", "4097KiB"),
    ] {
        let name = variable(key);
        good("", &[(&name, least)]);
        good("", &[(&name, most)]);
        problem("", &[(&name, below)], &[key, below, "must be from", least]);
        problem("", &[(&name, above)], &[key, "must be from", most]);
    }
}

#[test]
fn budgets_of_money_are_taken_exactly_as_they_are_written() {
    for (written, micros) in
        [("0.1", 100_000), ("\"0.1\"", 100_000), ("20", 20_000_000), ("1.000001", 1_000_001)]
    {
        let file = format!("llm: {{ budgets: {{ room: {{ money_per_day: {written} }} }} }}");
        assert_eq!(good(&file, &[]).llm.budgets.room.money_per_day.unwrap().micros, micros, "{written}");
    }
    let key = "llm.budgets.room.money_per_day";
    for wrong in ["0.0000001", "free", "-1", "true"] {
        let file = format!("llm: {{ budgets: {{ room: {{ money_per_day: {wrong} }} }} }}");
        assert!(problems(&file, &[]).iter().any(|problem| problem.key == key), "{wrong}");
    }
    problem("llm: { budgets: { rooms: {} } }", &[], &["llm.budgets.rooms", "did you mean"]);
}

#[test]
fn amounts_must_fit_one_another() {
    let file = "limits: { message_bytes: 512KiB, grpc_message: 512KiB }\n";
    let found = problems(file, &[]);
    assert!(found.iter().any(|problem| problem.key == "limits.message_bytes"), "{found:?}");
    problem("limits: { queue_bytes: 64KiB }", &[], &["limits.queue_bytes", "from 80KiB"]);
    problem("llm: { runs_per_node: 4 }", &[], &["llm.runs_per_room", "from 1 to 4"]);
    problem("llm: { idle_timeout: 301s }", &[], &["llm.idle_timeout", "301s", "to 5m"]);
}
