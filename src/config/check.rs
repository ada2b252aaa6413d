//! The bounds of every value, and what values have to do with one another.
//!
//! Finds every problem, not the first. Needs nothing but the configuration itself: whether a path is writable or a
//! server answers shows when the start opens it.

use std::{net::IpAddr, time::Duration};

use crate::config::{
    AuthMode, Budgets, Config, Grpc, Limits, Llm, Money, ProviderEntry, ProviderKind, ProviderSettings,
    Rooms, StoreKind, audit, bus,
    checks::{Checks, HOUR, KIB, MIB, MINUTE, MS, SECOND, is_base_url, is_variable_name},
    error::{Problem, Sources},
    extras, keys, mcp, models,
    providers::{OPENAI_BASE_URL, OPENAI_OWN_URL},
    rates, store, tls, tokens,
};

/// More than any budget needs, and far from what the ledger can count.
const MOST_TOKENS: u64 = 1_000_000_000_000;
const MOST_MONEY: Money = Money { micros: 1_000_000_000_000_000 };
/// What a message may carry besides its content: ids, mentions, a content type.
const AROUND_CONTENT: usize = 64 * KIB;

/// Every problem of `config`.
pub(super) fn check(config: &Config, sources: &Sources) -> Vec<Problem> {
    let mut checks = Checks { sources, problems: Vec::new() };
    checks.grpc(&config.grpc);
    tls::check(&mut checks, &config.tls);
    checks.store(config);
    bus::check(&mut checks, config);
    checks.llm(&config.llm);
    checks.models(&config.llm);
    checks.providers(config);
    mcp::check(&mut checks, &config.mcp);
    checks.auth(config);
    tokens::check(&mut checks, &config.auth.tokens);
    checks.limits(&config.limits);
    checks.rooms(&config.rooms);
    audit::check(&mut checks, &config.audit);
    checks.log(&config.log.level);
    checks.problems
}

impl Checks<'_> {
    fn grpc(&mut self, grpc: &Grpc) {
        self.require(
            is_host(&grpc.host),
            "grpc.host",
            &grpc.host,
            "must be an IP address (IPv6 without brackets) or a host name, without a port",
            "write for example `127.0.0.1` or `::1`",
        );
        self.count("grpc.max_connections", grpc.max_connections, 1..=10_000_000);
        self.count("grpc.max_connections_per_peer", grpc.max_connections_per_peer, 0..=10_000_000);
        self.count("grpc.max_streams_per_connection", grpc.max_streams_per_connection, 1..=100_000);
        self.size("grpc.send_buffer", grpc.send_buffer, 16 * KIB..=4 * MIB);
        self.time("grpc.handshake_timeout", grpc.handshake_timeout, 100 * MS..=5 * MINUTE);
        self.time("grpc.idle_timeout", grpc.idle_timeout, SECOND..=24 * HOUR);
        self.time("grpc.keepalive_interval", grpc.keepalive_interval, SECOND..=HOUR);
        self.time("grpc.keepalive_timeout", grpc.keepalive_timeout, SECOND..=10 * MINUTE);
    }

    fn store(&mut self, config: &Config) {
        let path = config.store.path.to_string_lossy();
        let usable = config.store.kind != StoreKind::Sqlite || !(path.is_empty() || path.contains('\0'));
        self.require(
            usable,
            "store.path",
            &path,
            "must be the path of a file",
            "write for example `./data/salon.db`",
        );
        if let Some(max) = config.store.max_bytes {
            self.size("store.max_bytes", max, MIB..=1024 * 1024 * MIB);
        }
        store::check(self, &config.store);
    }

    fn llm(&mut self, llm: &Llm) {
        self.time("llm.chunk_window", llm.chunk_window, 5 * MS..=500 * MS);
        self.time("llm.total_timeout", llm.total_timeout, SECOND..=HOUR);
        let total = llm.total_timeout.clamp(SECOND, HOUR);
        self.time("llm.first_token_timeout", llm.first_token_timeout, 100 * MS..=total);
        self.time("llm.idle_timeout", llm.idle_timeout, 100 * MS..=total);
        self.count("llm.runs_per_node", llm.runs_per_node, 1..=10_000);
        self.count("llm.runs_per_room", llm.runs_per_room, 1..=llm.runs_per_node.clamp(1, 1000));
        self.count("llm.queue_per_room", llm.queue_per_room, 0..=1000);
        self.count("llm.history_messages", llm.history_messages, 1..=50);
        self.count("llm.context_tokens", llm.context_tokens, 2000..=10_000_000);
        self.count("llm.summary.after", llm.summary.after, 0..=1000);
        self.count("llm.summary.max_tokens", llm.summary.max_tokens, 50..=4000);
        self.count("llm.max_tokens", llm.max_tokens, 1..=1_000_000);
        self.count("llm.chain_depth", llm.chain_depth, 1..=20);
        self.count("llm.tool_rounds", llm.tool_rounds, 1..=100);
        self.count("llm.tool_calls", llm.tool_calls, 1..=1000);
        self.time("llm.approval_timeout", llm.approval_timeout, SECOND..=HOUR);
        self.count("llm.generate_per_minute", llm.generate_per_minute, 1..=1000);
        self.budgets(&llm.budgets);
    }

    fn budgets(&mut self, budgets: &Budgets) {
        let scopes = [
            ("user", &budgets.user),
            ("room", &budgets.room),
            ("namespace", &budgets.namespace),
            ("server", &budgets.server),
        ];
        for (scope, budget) in scopes {
            let tokens = [("minute", budget.tokens_per_minute), ("day", budget.tokens_per_day)].into_iter();
            for (window, tokens) in tokens.filter_map(|(window, tokens)| Some((window, tokens?))) {
                self.count(&format!("llm.budgets.{scope}.tokens_per_{window}"), tokens, 1..=MOST_TOKENS);
            }
            let money = [("minute", budget.money_per_minute), ("day", budget.money_per_day)].into_iter();
            for (window, money) in money.filter_map(|(window, money)| Some((window, money?))) {
                let key = format!("llm.budgets.{scope}.money_per_{window}");
                self.count(&key, money, Money { micros: 1 }..=MOST_MONEY);
            }
        }
    }

    fn models(&mut self, llm: &Llm) {
        self.count("llm.retry.attempts", llm.retry.attempts, 1..=10);
        self.time("llm.retry.base", llm.retry.base, MS..=MINUTE);
        self.time("llm.retry.max", llm.retry.max, llm.retry.base.clamp(MS, MINUTE)..=5 * MINUTE);
        self.count("llm.breaker.failures", llm.breaker.failures, 1..=1000);
        self.time("llm.breaker.open", llm.breaker.open, 100 * MS..=HOUR);
        for (key, value, rule, mend) in models::check(llm) {
            self.refuse(&key, &value, rule, mend);
        }
    }

    fn providers(&mut self, config: &Config) {
        if let Some(url) = &config.environment.openai_base_url {
            self.url(OPENAI_BASE_URL, url);
        }
        if let Some(address) = &config.chat_service.address {
            self.require(
                is_host_and_port(address),
                "chat_service.address",
                address,
                "must be host:port, without a scheme",
                "write for example `chat-service:50051` or `[::1]:50051`",
            );
        }
        for (name, entry) in &config.llm.providers {
            self.provider(config, &format!("llm.providers.{name}"), entry);
        }
        let providers = config.providers();
        if !providers.by_name.contains_key(&providers.default) {
            let names: Vec<&str> = providers.by_name.keys().map(String::as_str).collect();
            let mend = format!("name one of {}, or configure it below llm.providers", names.join(", "));
            self.refuse(
                "llm.default_provider",
                &providers.default,
                "is no provider that is configured",
                mend,
            );
        }
        if config.llm.default_provider.is_none() && config.llm.providers.len() > 1 {
            let names: Vec<&str> = config.llm.providers.keys().map(String::as_str).collect();
            let mend = format!("name one of {}", names.join(", "));
            self.refuse(
                "llm.default_provider",
                "",
                "must be set when several providers are configured",
                mend,
            );
        }
    }

    fn provider(&mut self, config: &Config, key: &str, entry: &ProviderEntry) {
        let (url, env) = (format!("{key}.base_url"), format!("{key}.api_key_env"));
        self.only_openai(key, entry);
        if let (Some(_), Some(file)) = (&entry.api_key_env, &entry.api_key_file) {
            let rule = "and `api_key_env` cannot both be given";
            self.refuse(&format!("{key}.api_key_file"), file, rule, "leave one of them out");
        }
        for extras::Refused { key: below, value, rule, mend } in extras::check(entry) {
            // The names are another server's, so only the section is known by its origin.
            let section = format!("{key}.{}", below.split('.').next().unwrap_or_default());
            self.problems.push(Problem {
                key: format!("{key}.{below}"),
                value: value.map(|value| keys::shown(&section, &value)),
                source: self.sources.of(&section),
                rule: rule.into(),
                mend: mend.into(),
            });
        }
        if let Some(value) = &entry.base_url {
            self.url(&url, value);
        }
        if let Some(value) = &entry.api_key_env {
            let rule = "must be the name of a variable (A-Z, 0-9 and _), never the key itself";
            self.require(is_variable_name(value), &env, value, rule, "write for example `OPENAI_API_KEY`");
        }
        match config.settings(entry) {
            // A variable that is named and not set has been complained about already.
            ProviderSettings::OpenAi { base_url, api_key: None, headers, .. }
                if base_url == OPENAI_OWN_URL
                    && entry.api_key_env.is_none()
                    && entry.api_key_file.is_none()
                    && headers.is_empty() =>
            {
                let mend =
                    "set the variable OPENAI_API_KEY, name another in `api_key_env`, or set `base_url`";
                self.refuse(key, entry.kind.as_str(), "has no key, and OpenAI asks for one", mend);
            }
            ProviderSettings::ChatService { address, .. } if address.is_empty() => {
                let mend = "set chat_service.address (or CHAT_SERVICE_ADDRESS) to host:port";
                self.refuse(key, entry.kind.as_str(), "has no address", mend);
            }
            ProviderSettings::Offline
            | ProviderSettings::OpenAi { .. }
            | ProviderSettings::ChatService { .. } => {}
        }
    }

    /// What only a provider of the kind `openai` has.
    fn only_openai(&mut self, key: &str, entry: &ProviderEntry) {
        if entry.kind == ProviderKind::OpenAi {
            return;
        }
        let texts = [
            ("base_url", &entry.base_url),
            ("api_key_env", &entry.api_key_env),
            ("api_key_file", &entry.api_key_file),
            ("organization", &entry.organization),
            ("project", &entry.project),
        ];
        let texts = texts.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        let sections = [
            ("headers", entry.headers.is_empty()),
            ("headers_env", entry.headers_env.is_empty()),
            ("extra_body", entry.extra_body.is_empty()),
        ];
        let sections = sections.into_iter().filter(|(_, is_empty)| !is_empty).map(|(name, _)| (name, "…"));
        for (name, value) in texts.chain(sections) {
            let rule = format!("means nothing for the kind `{}`", entry.kind.as_str());
            self.refuse(&format!("{key}.{name}"), value, rule, "leave it out, or write `kind: openai`");
        }
    }

    fn url(&mut self, key: &str, url: &str) {
        let rule = "must be an http:// or https:// URL with a host, without user, query or fragment";
        // Keys are shown by their names, and the variable's name does not say that it is a URL.
        let shown =
            if key == OPENAI_BASE_URL { keys::shown("openai_base_url", url) } else { keys::shown(key, url) };
        if !is_base_url(url) {
            self.refuse(key, "", rule, "write for example `https://api.openai.com/v1`");
            if let Some(problem) = self.problems.last_mut() {
                problem.value = Some(shown);
            }
        }
    }

    fn auth(&mut self, config: &Config) {
        if let Some(name) = &config.auth.certificate_namespace {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if name.is_empty() || name.len() > 32 || !name.chars().all(fits) {
                let rule = "must have 1 to 32 of a-z, 0-9 and '-', as the names of namespaces do";
                self.refuse(
                    "auth.certificate_namespace",
                    name,
                    rule,
                    "write `default`, or the name of a namespace",
                );
            }
        }
        if config.auth.mode == AuthMode::Open
            && !config.grpc.is_loopback()
            && !config.auth.allow_open_on_network
        {
            let rule = "must be this machine (127.0.0.1, ::1 or localhost) while auth.mode is `open`, because \
                        whoever reaches the port may speak under any name";
            let mend = "write `127.0.0.1`, or, where only trusted clients can reach the port, \
                        `auth.allow_open_on_network: true` (SALON__AUTH__ALLOW_OPEN_ON_NETWORK=true)";
            self.refuse("grpc.host", &config.grpc.host, rule, mend);
        }
    }

    fn limits(&mut self, limits: &Limits) {
        self.size("limits.grpc_message", limits.grpc_message, 128 * KIB..=64 * MIB);
        let content = limits.grpc_message.clamp(128 * KIB, 64 * MIB) - AROUND_CONTENT;
        self.size("limits.message_bytes", limits.message_bytes, 1..=content.min(MIB));
        self.count("limits.messages_per_second", limits.messages_per_second, 1..=100_000);
        self.count("limits.messages_burst", limits.messages_burst, 1..=1_000_000);
        self.count("limits.transients_per_second", limits.transients_per_second, 1..=100_000);
        self.count("limits.transients_burst", limits.transients_burst, 1..=1_000_000);
        self.count("limits.llms_per_room", limits.llms_per_room, 0..=1000);
        self.count("limits.members_per_room", limits.members_per_room, 2..=1_000_000);
        self.count("limits.queue_events", limits.queue_events, 16..=65_536);
        let event = limits.message_bytes.clamp(1, MIB) + AROUND_CONTENT;
        self.size("limits.queue_bytes", limits.queue_bytes, event..=256 * MIB);
        self.count("limits.sessions_per_user", limits.sessions_per_user, 1..=1000);
        self.time("limits.typing_expiry", limits.typing_expiry, SECOND..=MINUTE);
        self.time("limits.join_timeout", limits.join_timeout, 100 * MS..=5 * MINUTE);
        self.count("limits.participants_shown", limits.participants_shown, 0..=10_000);
        self.count("limits.commands_in_flight", limits.commands_in_flight, 1..=10_000);
        self.time("limits.heartbeat_interval", limits.heartbeat_interval, SECOND..=HOUR);
        self.time("limits.linger", limits.linger, Duration::ZERO..=100 * MS);
        self.count("limits.history_page", limits.history_page, 1..=10_000);
        self.time("limits.drain", limits.drain, SECOND..=10 * MINUTE);
        if let Some(age) = limits.max_session_age {
            self.time("limits.max_session_age", age, MINUTE..=30 * 24 * HOUR);
        }
        self.count("limits.streams_per_user", limits.streams_per_user, 1..=1_000_000);
        if let Some(streams) = limits.streams_per_credential {
            self.count("limits.streams_per_credential", streams, 1..=10_000_000);
        }
        if let Some(streams) = limits.streams_per_peer {
            self.count("limits.streams_per_peer", streams, 1..=10_000_000);
        }
        self.count("limits.streams_waiting_to_join", limits.streams_waiting_to_join, 1..=10_000_000);
        self.count("limits.streams_waiting_per_peer", limits.streams_waiting_per_peer, 1..=10_000_000);
        rates::check(self, &limits.quotas);
    }

    fn rooms(&mut self, rooms: &Rooms) {
        self.count("rooms.snapshot_every", rooms.snapshot_every, 10..=100_000);
        self.time("rooms.idle_unload", rooms.idle_unload, SECOND..=24 * HOUR);
        self.time("rooms.request_ids_kept", rooms.request_ids_kept, MINUTE..=30 * 24 * HOUR);
    }

    fn log(&mut self, level: &str) {
        // The filter reads a bare word as a module: `inof` would silence everything else without a word.
        let words = ["off", "error", "warn", "info", "debug", "trace"];
        let known =
            |part: &str| part.contains(['=', '[']) || words.contains(&part.to_ascii_lowercase().as_str());
        let valid = level.split(',').all(|part| known(part.trim()))
            && tracing_subscriber::EnvFilter::try_new(level).is_ok();
        let rule = "must be off, error, warn, info, debug or trace, and may go on with `,module=level`";
        self.require(valid, "log.level", level, rule, "write for example `info` or `warn,salon=debug`");
    }
}

fn is_host(host: &str) -> bool {
    if host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name that ends in a number is an address with a typo: 127.0.0.256.
    let ends_in_number = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    host.len() <= 253 && host.split('.').all(label) && !ends_in_number
}

fn is_host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.contains(':') && is_host(inner),
        None => !host.contains(':') && is_host(host),
    };
    host && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_addresses() {
        for host in ["127.0.0.1", "::1", "0.0.0.0", "localhost", "chat-service", "a.example.com"] {
            assert!(is_host(host), "{host}");
        }
        for host in ["", "127.0.0.256", "[::1]", "host:1", "a b", "-a", "a..b", "http://a"] {
            assert!(!is_host(host), "{host}");
        }
        for address in ["chat-service:50051", "127.0.0.1:1", "[::1]:65535"] {
            assert!(is_host_and_port(address), "{address}");
        }
        for address in
            ["chat-service", "chat:0", "chat:65536", "chat:+1", ":1", "::1:50", "[a]:1", "http://chat:1"]
        {
            assert!(!is_host_and_port(address), "{address}");
        }
    }

    #[test]
    fn base_urls() {
        for url in ["https://api.openai.com/v1", "http://127.0.0.1:11434/v1", "http://[::1]:8080"] {
            assert!(is_base_url(url), "{url}");
        }
        for url in
            ["", "api.openai.com", "ftp://a/b", "https://", "https://u:p@a", "https://a/?k=v", "https://a/#b"]
        {
            assert!(!is_base_url(url), "{url}");
        }
    }
}
