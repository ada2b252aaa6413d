//! What is connected to what: the one place where settings become parts.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    bus::Bus,
    clock::Clock,
    config::{Config, ProviderSettings},
    dispatch::{DispatchLimits, LlmDispatcher, Providers, SummarySettings},
    domain::limits::Limits,
    grpc::service::ApiLimits,
    llm::{
        Provider,
        open::{OpenError, ProviderConfig, ProviderKind, open},
    },
    registry::{HandlerRegistry, RegistryLimits, outbound::QueueLimits},
    rooms::{Rooms, RoomsLimits},
    server::accept::ConnectionLimits,
    session::{
        Services, SessionLimits,
        rates::{Rate, Rates},
    },
    store::{
        Store,
        config::{Durability, StoreConfig, StoreKind},
    },
};

/// Commands that wait for one room.
const ROOM_QUEUE: usize = 1024;
/// Replies to commands that may wait unread in one session, beyond those that can be in flight.
const SPARE_REPLIES: usize = 960;

/// The parts below the door.
#[derive(Debug)]
pub struct Graph {
    /// Rooms.
    pub rooms: Rooms,
    /// What sessions need.
    pub services: Arc<Services>,
    /// Tasks of rooms and of the registry; they end with the token they were given.
    pub tasks: TaskTracker,
}

/// Builds the parts; `stop` ends the tasks of rooms, `draining` the sessions.
pub fn build(
    config: &Config,
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    providers: Providers,
    clock: Arc<dyn Clock>,
    stop: &CancellationToken,
    draining: CancellationToken,
) -> Graph {
    let tasks = TaskTracker::new();
    let registry =
        HandlerRegistry::start(Arc::clone(&store), bus, registry_limits(config), tasks.clone(), stop.clone());
    let rooms = Rooms::new(store, registry, clock, rooms_limits(config), tasks.clone(), stop.clone());
    let dispatcher = LlmDispatcher::start(&rooms, providers, dispatch_limits(config), TaskTracker::new());
    let rates = Rates::new(
        rate(config.limits.messages_per_second, config.limits.messages_burst),
        rate(config.limits.transients_per_second, config.limits.transients_burst),
    );
    let services =
        Services { rooms: rooms.clone(), dispatcher, rates, limits: session_limits(config), draining };
    Graph { rooms, services: Arc::new(services), tasks }
}

fn count(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Zero is refused by the configuration.
fn rate(per_second: u32, burst: u32) -> Rate {
    Rate {
        per_second: NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN),
        burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN),
    }
}

fn registry_limits(config: &Config) -> RegistryLimits {
    RegistryLimits {
        participants_shown: config.limits.participants_shown,
        sessions_per_user: config.limits.sessions_per_user,
        head_check: config.bus.head_check,
    }
}

fn rooms_limits(config: &Config) -> RoomsLimits {
    RoomsLimits {
        domain: Limits {
            message_bytes: config.limits.message_bytes,
            llms_per_room: config.limits.llms_per_room,
            members_per_room: config.limits.members_per_room,
            chain_depth: config.llm.chain_depth,
            open_runs_per_room: config.llm.runs_per_room + config.llm.queue_per_room,
        },
        queue: ROOM_QUEUE,
        snapshot_every: config.rooms.snapshot_every,
        idle_unload: config.rooms.idle_unload,
        participants_shown: config.limits.participants_shown,
        heartbeat: config.limits.heartbeat_interval,
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
    }
}

fn dispatch_limits(config: &Config) -> DispatchLimits {
    DispatchLimits {
        runs_per_room: config.llm.runs_per_room,
        queue_per_room: config.llm.queue_per_room,
        runs_per_node: config.llm.runs_per_node,
        chunk_window: config.llm.chunk_window,
        first_token: config.llm.first_token_timeout,
        idle: config.llm.idle_timeout,
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
    }
}

/// How connections behave.
pub fn connection_limits(config: &Config) -> ConnectionLimits {
    ConnectionLimits {
        connections: config.grpc.max_connections,
        streams: config.grpc.max_streams_per_connection,
        send_buffer: config.grpc.send_buffer,
        handshake: config.grpc.handshake_timeout,
        keepalive_interval: config.grpc.keepalive_interval,
        keepalive_timeout: config.grpc.keepalive_timeout,
    }
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
        },
        path: config.store.path.clone(),
        durability: match config.store.durability {
            crate::config::Durability::Fsync => Durability::Fsync,
            crate::config::Durability::Os => Durability::Os,
        },
        max_bytes: config.store.max_bytes.map(|bytes| u64::try_from(bytes).unwrap_or(u64::MAX)),
    }
}

/// Opens every configured provider. One that is known but not in this build is left out, loudly; the next one by
/// the configuration's own rule takes its place.
pub fn providers(config: &Config) -> Result<Providers, OpenError> {
    let settings = config.providers();
    let mut by_name: BTreeMap<String, Arc<dyn Provider>> = BTreeMap::new();
    for (name, settings) in &settings.by_name {
        match provider_config(settings) {
            Some(config) => {
                by_name.insert(name.clone(), open(name, &config)?);
            }
            None => {
                tracing::warn!(provider = %name, "this build cannot call a chat service yet; it is left out");
            }
        }
    }
    let wanted = if by_name.contains_key(&settings.default) {
        Some(settings.default.as_str())
    } else {
        settings.default_without_chat_service()
    };
    let default = match wanted.and_then(|name| by_name.get(name)) {
        Some(provider) => Arc::clone(provider),
        None => open("offline", &ProviderConfig::default())?,
    };
    Ok(Providers { by_name, default })
}

fn provider_config(settings: &ProviderSettings) -> Option<ProviderConfig> {
    match settings {
        ProviderSettings::Offline => Some(ProviderConfig::default()),
        ProviderSettings::OpenAi { base_url, api_key, default_model } => Some(ProviderConfig {
            kind: ProviderKind::Openai,
            base_url: Some(base_url.clone()),
            api_key: api_key.clone(),
            default_model: default_model.clone(),
        }),
        ProviderSettings::ChatService { .. } => None,
    }
}
