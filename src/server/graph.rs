//! What is connected to what: the one place where settings become parts.

use std::{collections::BTreeMap, sync::Arc};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    audit::{Audit, AuditSettings},
    auth::gate::Gate,
    budget::{self, Budgets},
    bus::config::{BusConfig, BusKind, BusUrl},
    config::{AuthMode, Config, Integrity, McpSettings, McpWord, ModelEntry, ProviderSettings, ToolApproval},
    dispatch::{
        DispatchLimits, LlmDispatcher, SummarySettings,
        generate::{GenerateSettings, Generator},
    },
    domain::limits::{Limits, PENDING_APPROVALS},
    grpc::service::ApiLimits,
    llm::{
        Provider,
        open::{ProviderConfig, ProviderKind, open},
        openai::OPENAI_DEFAULT_MODEL,
        route::{
            BreakerSettings, ModelSettings, NameError, NameSettings, Prices, RetrySettings, Router,
            RouterSettings,
        },
    },
    mcp::{
        Servers,
        config::{Argument, Endpoint, Pace, Policy, Rule, ServerConfig},
    },
    nodes::{Identity, LeaseSettings},
    registry::{HandlerRegistry, RegistryLimits, outbound::QueueLimits},
    rooms::{Rooms, RoomsLimits},
    server::{
        Error, Parts,
        accept::ConnectionLimits,
        allowances::allowances,
        tls::files::{ClientAuth, TlsFiles},
    },
    session::{Services, SessionLimits, drain::Drain},
    store::config::{Durability, StoreConfig, StoreKind, StoreUrl},
};

/// Commands that wait for one room.
const ROOM_QUEUE: usize = 1024;
/// How often a server says that it lives until its lease would be over: four of them may be lost.
const BEATS_PER_LEASE: u32 = 5;
/// Replies to commands that may wait unread in one session, beyond those that can be in flight.
const SPARE_REPLIES: usize = 960;

/// The parts below the door.
#[derive(Debug)]
pub struct Graph {
    /// Who this server is among those that share the store.
    pub identity: Identity,
    /// Who did what to whom.
    pub audit: Audit,
    /// Rooms.
    pub rooms: Rooms,
    /// What answers may take.
    pub budgets: Budgets,
    /// Proposes rooms.
    pub generator: Generator,
    /// What sessions need.
    pub services: Arc<Services>,
    /// Servers of tools.
    pub mcp: Servers,
    /// Tasks of rooms and of the registry; they end with the token they were given.
    pub tasks: TaskTracker,
}

/// Builds the parts; `stop` ends the tasks of rooms, `drain` the sessions.
pub fn build(config: &Config, parts: &Parts, stop: &CancellationToken, drain: Drain, gate: Gate) -> Graph {
    let Parts { store, bus, router, clock } = parts;
    let (store, bus) = (Arc::clone(store), Arc::clone(bus));
    let (router, clock) = (Arc::clone(router), Arc::clone(clock));
    let tasks = TaskTracker::new();
    let registry = HandlerRegistry::start(
        Arc::clone(&store),
        bus,
        Arc::clone(&clock),
        registry_limits(config),
        tasks.clone(),
        stop.clone(),
    );
    let limits = budget_limits(&config.llm.budgets);
    let identity = Identity::new();
    let budgets = Budgets::start(
        Arc::clone(&store),
        Arc::clone(&clock),
        identity.clone(),
        limits,
        &tasks,
        stop.clone(),
    );
    let audit = Audit::start(
        Arc::clone(&store),
        Arc::clone(&clock),
        identity.now(),
        AuditSettings { enabled: config.audit.enabled, retention: config.audit.retention },
        &tasks,
        stop.clone(),
    );
    let rooms = Rooms::new(
        store,
        registry,
        clock,
        identity.clone(),
        rooms_limits(config),
        tasks.clone(),
        stop.clone(),
    );
    let generator = Generator::new(Arc::clone(&router), budgets.clone(), generate_settings(config));
    let mcp = Servers::start(mcp_servers(config));
    let allowances = allowances(config);
    let dispatcher = LlmDispatcher::start(
        &rooms,
        router,
        mcp.clone(),
        budgets.clone(),
        dispatch_limits(config),
        allowances.clone(),
        TaskTracker::new(),
    );
    let services = Services {
        rooms: rooms.clone(),
        dispatcher,
        gate,
        allowances,
        audit: audit.clone(),
        limits: session_limits(config),
        drain,
    };
    rooms.observe(Arc::new(audit.clone()));
    Graph { identity, audit, rooms, budgets, generator, services: Arc::new(services), mcp, tasks }
}

fn count(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn registry_limits(config: &Config) -> RegistryLimits {
    RegistryLimits {
        participants_shown: config.limits.participants_shown,
        sessions_per_user: config.limits.sessions_per_user,
        head_check: config.bus.head_check,
        chunk_interval: config.llm.chunk_window,
        linger: config.limits.linger,
        gathered_events: config.limits.queue_events / 4,
    }
}

fn rooms_limits(config: &Config) -> RoomsLimits {
    RoomsLimits {
        domain: Limits {
            message_bytes: config.limits.message_bytes,
            llms_per_room: config.limits.llms_per_room,
            members_per_room: config.limits.members_per_room,
            chain_depth: config.llm.chain_depth,
            open_runs_per_room: config.llm.runs_per_room
                + config.llm.queue_per_room
                // Those wait for a person, and take no place of the others.
                + PENDING_APPROVALS,
            private_by_invitation: config.auth.mode == AuthMode::Required,
        },
        queue: ROOM_QUEUE,
        snapshot_every: config.rooms.snapshot_every,
        idle_unload: config.rooms.idle_unload,
        participants_shown: config.limits.participants_shown,
        heartbeat: config.limits.heartbeat_interval,
        chained: config.rooms.integrity == Integrity::Chained,
    }
}

fn session_limits(config: &Config) -> SessionLimits {
    SessionLimits {
        queue: QueueLimits {
            events: config.limits.queue_events,
            bytes: config.limits.queue_bytes,
            replies: config.limits.commands_in_flight + SPARE_REPLIES,
        },
        in_flight: config.limits.commands_in_flight,
        join_timeout: config.limits.join_timeout,
        typing_expiry: config.limits.typing_expiry,
        heartbeat: config.limits.heartbeat_interval,
        max_age: config.limits.max_session_age,
    }
}

fn dispatch_limits(config: &Config) -> DispatchLimits {
    DispatchLimits {
        runs_per_room: config.llm.runs_per_room,
        queue_per_room: config.llm.queue_per_room,
        runs_per_node: config.llm.runs_per_node,
        chunk_window: config.llm.chunk_window,
        first_token: config.llm.first_token_timeout,
        total: config.llm.total_timeout,
        history_messages: config.llm.history_messages,
        context_tokens: config.llm.context_tokens,
        summary: SummarySettings {
            model: config.llm.summary.model.clone().unwrap_or_default(),
            after: config.llm.summary.after,
            max_tokens: config.llm.summary.max_tokens,
        },
        max_tokens: config.llm.max_tokens,
        chain_depth: config.llm.chain_depth,
        tool_rounds: count(config.llm.tool_rounds),
        tool_calls: count(config.llm.tool_calls),
        approval: config.llm.approval_timeout,
    }
}

fn generate_settings(config: &Config) -> GenerateSettings {
    GenerateSettings {
        model: config.llm.generate_model.clone().unwrap_or_default(),
        max_tokens: config.llm.max_tokens,
        first_token: config.llm.first_token_timeout,
        total: config.llm.total_timeout,
        limits: rooms_limits(config).domain,
    }
}

fn budget_limits(budgets: &crate::config::Budgets) -> budget::Limits {
    let scope = |limits: &crate::config::Budget| budget::ScopeLimits {
        tokens_per_minute: limits.tokens_per_minute,
        tokens_per_day: limits.tokens_per_day,
        money_per_minute: limits.money_per_minute.map(|money| money.micros),
        money_per_day: limits.money_per_day.map(|money| money.micros),
    };
    budget::Limits {
        user: scope(&budgets.user),
        room: scope(&budgets.room),
        namespace: scope(&budgets.namespace),
        server: scope(&budgets.server),
    }
}

/// How connections behave.
pub fn connection_limits(config: &Config) -> ConnectionLimits {
    ConnectionLimits {
        connections: config.grpc.max_connections,
        connections_per_peer: config.grpc.max_connections_per_peer,
        streams: config.grpc.max_streams_per_connection,
        send_buffer: config.grpc.send_buffer,
        handshake: config.grpc.handshake_timeout,
        idle: config.grpc.idle_timeout,
        keepalive_interval: config.grpc.keepalive_interval,
        keepalive_timeout: config.grpc.keepalive_timeout,
        max_age: config.limits.max_session_age,
    }
}

/// Which files TLS is made of; none: there is no TLS.
pub fn tls_files(config: &Config) -> Option<TlsFiles> {
    let (certificate, key) = (config.tls.certificate.clone()?, config.tls.key.clone()?);
    Some(TlsFiles {
        certificate,
        key,
        client_ca: config.tls.client_ca.clone(),
        client_auth: match config.tls.client_auth {
            crate::config::ClientAuth::None => ClientAuth::None,
            crate::config::ClientAuth::Optional => ClientAuth::Optional,
            crate::config::ClientAuth::Required => ClientAuth::Required,
        },
    })
}

/// How much unary calls give at most.
pub fn api_limits(config: &Config) -> ApiLimits {
    ApiLimits {
        history_page: count(config.limits.history_page),
        participants_shown: config.limits.participants_shown,
    }
}

/// How the store is opened.
pub fn store_config(config: &Config) -> StoreConfig {
    StoreConfig {
        kind: match config.store.kind {
            crate::config::StoreKind::Sqlite => StoreKind::Sqlite,
            crate::config::StoreKind::Memory => StoreKind::Memory,
            crate::config::StoreKind::Postgres => StoreKind::Postgres,
            crate::config::StoreKind::Dynamodb => StoreKind::Dynamodb,
        },
        path: config.store.path.clone(),
        durability: match config.store.durability {
            crate::config::Durability::Fsync => Durability::Fsync,
            crate::config::Durability::Os => Durability::Os,
        },
        max_bytes: config.store.max_bytes.map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX)),
        url: config.store.server_url().map(|url| StoreUrl::new(url.expose())),
        schema: config.store.schema.clone(),
        pool_size: config.store.pool_size,
        region: config.store.region.clone(),
        table: config.store.table.clone(),
        timeout: config.store.timeout,
    }
}

/// How the bus is opened.
pub fn bus_config(config: &Config) -> BusConfig {
    BusConfig {
        kind: match config.bus.kind {
            crate::config::BusKind::Local => BusKind::Local,
            crate::config::BusKind::Redis => BusKind::Redis,
            crate::config::BusKind::Nats => BusKind::Nats,
        },
        url: config.bus.url.as_ref().map(|url| BusUrl::new(url.expose())),
        prefix: config.bus.prefix.clone(),
        credentials: config.bus.credentials.clone(),
    }
}

/// How leases are kept.
pub fn lease_settings(config: &Config) -> LeaseSettings {
    LeaseSettings { lease: config.store.lease, every: config.store.lease / BEATS_PER_LEASE }
}

/// Opens every configured provider, and knows their models.
pub fn router(config: &Config) -> Result<Router, Error> {
    let settings = config.providers();
    let mut by_name: BTreeMap<String, Arc<dyn Provider>> = BTreeMap::new();
    for (name, settings) in &settings.by_name {
        by_name.insert(name.clone(), open(name, &provider_config(settings)).map_err(Error::Provider)?);
    }
    let default_models =
        settings.by_name.iter().map(|(name, settings)| (name.clone(), default_model(settings))).collect();
    Router::new(by_name, &settings.default, router_settings(config, default_models)).map_err(Error::Models)
}

/// Whether the names of models lead somewhere. Opens nothing, so that a mistake ends the start before it takes a port.
pub fn check_models(config: &Config) -> Result<(), NameError> {
    let providers = config.providers();
    let RouterSettings { names, .. } = router_settings(config, BTreeMap::new());
    let used = [
        ("llm.summary.model", config.llm.summary.model.as_deref()),
        ("llm.generate_model", config.llm.generate_model.as_deref()),
    ];
    let used = used.into_iter().filter_map(|(key, model)| Some((key, model?)));
    Router::check_names(providers.by_name.into_keys(), &providers.default, names, used)
}

/// How the router behaves, given the models of requests that name none.
pub fn router_settings(config: &Config, default_models: BTreeMap<String, String>) -> RouterSettings {
    let llm = &config.llm;
    let names = NameSettings {
        aliases: llm.aliases.clone(),
        models: llm.models.iter().map(|(name, entry)| (name.clone(), model_settings(entry))).collect(),
        fallbacks: llm.fallbacks.clone(),
        default_models,
    };
    let retry = RetrySettings { attempts: llm.retry.attempts, base: llm.retry.base, max: llm.retry.max };
    let breaker = BreakerSettings { failures: llm.breaker.failures, open: llm.breaker.open };
    RouterSettings { names, retry, breaker, idle: llm.idle_timeout, ..RouterSettings::default() }
}

fn model_settings(entry: &ModelEntry) -> ModelSettings {
    ModelSettings {
        tools: entry.tools,
        context_tokens: entry.context_tokens,
        max_output_tokens: entry.max_output_tokens,
        prices: entry.prices.map(|prices| Prices {
            input_micros_per_million: prices.input.0,
            output_micros_per_million: prices.output.0,
        }),
        fallbacks: entry.fallbacks.clone(),
    }
}

fn default_model(settings: &ProviderSettings) -> String {
    let (configured, usual) = match settings {
        ProviderSettings::Offline => return String::new(),
        ProviderSettings::OpenAi { default_model, .. } => (default_model, OPENAI_DEFAULT_MODEL),
        // The service knows it.
        ProviderSettings::ChatService { default_model, .. } => (default_model, ""),
    };
    configured.clone().filter(|model| !model.is_empty()).unwrap_or_else(|| usual.to_owned())
}

fn provider_config(settings: &ProviderSettings) -> ProviderConfig {
    match settings {
        ProviderSettings::Offline => ProviderConfig::default(),
        ProviderSettings::OpenAi { base_url, api_key, default_model, headers, extra_body } => {
            ProviderConfig {
                kind: ProviderKind::Openai,
                base_url: Some(base_url.clone()),
                api_key: api_key.clone(),
                default_model: default_model.clone(),
                headers: headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
                extra_body: extra_body.clone(),
                ..ProviderConfig::default()
            }
        }
        ProviderSettings::ChatService { address, default_model } => ProviderConfig {
            kind: ProviderKind::ChatService,
            address: Some(address.clone()),
            default_model: default_model.clone(),
            ..ProviderConfig::default()
        },
    }
}

/// The servers of tools.
fn mcp_servers(config: &Config) -> Vec<ServerConfig> {
    config.mcp_servers().into_iter().filter_map(|(name, settings)| mcp_server(name, settings)).collect()
}

/// One without a place is refused by the configuration.
fn mcp_server(name: String, settings: McpSettings) -> Option<ServerConfig> {
    let McpSettings { entry, passed_on, env, headers, url, words } = settings;
    let word = |word| match word {
        McpWord::Text(text) => Argument::Shown(text),
        McpWord::Variable(variable) => Argument::Secret(words.get(&variable).cloned().unwrap_or_default()),
    };
    let mut command = entry.command.into_iter();
    let endpoint = match (command.next(), entry.url, url) {
        (Some(McpWord::Text(program)), _, _) => Endpoint::Stdio {
            program,
            args: command.map(word).collect(),
            env: passed_on,
            secret_env: env,
            cwd: entry.cwd,
        },
        (None, Some(url), _) => Endpoint::Http { url: url.into(), is_url_secret: false, headers },
        (None, None, Some(url)) => Endpoint::Http { url, is_url_secret: true, headers },
        (Some(McpWord::Variable(_)), _, _) | (None, None, None) => return None,
    };
    let rule = |tool: crate::config::McpTool| match tool.hidden {
        true => Rule::Hidden,
        false => Rule::Offered(Policy {
            approval: tool.approval == ToolApproval::Required,
            trusted_only: tool.trusted_only,
        }),
    };
    Some(ServerConfig {
        name,
        endpoint,
        connect_timeout: entry.connect_timeout,
        call_timeout: entry.call_timeout,
        max_result: entry.max_result,
        rules: entry.tools.into_iter().map(|(name, tool)| (name, rule(tool))).collect(),
        pace: Pace::default(),
    })
}
