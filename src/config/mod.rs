//! What an operator can change: one typed [`Config`], read once at the start.
//!
//! Owns the keys, their defaults and their bounds, and is the only reader of the server's environment. Never opens
//! what it names: the composition root turns sections into the settings of the store, the bus and the providers. A
//! typo or a value out of bounds ends the start with every problem and its mend, before a port is bound.

mod audit;
mod budgets;
mod bus;
mod check;
mod checks;
mod error;
mod extras;
mod key_file;
mod keys;
mod limits;
mod load;
mod mcp;
mod mcp_word;
mod models;
mod providers;
mod rates;
mod show;
mod store;
mod summary;
mod tls;
mod tokens;
mod units;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

pub use audit::Audit;
pub use budgets::{Budget, Budgets, Money};
pub use bus::{Bus, BusUrl};
pub use error::{EXIT_CODE, Error, HIDDEN, Problem, Source, Sources};
pub use limits::{Limits, Rooms};
pub use load::{Loaded, from_text, load};
pub use mcp::{Mcp, McpServer, McpSettings, McpTool};
pub use mcp_word::McpWord;
pub use models::{Breaker, ModelEntry, Models, Price, PriceEntry, Retry};
pub use providers::{ProviderEntry, ProviderSettings, Providers};
pub use rates::{CallerRates, NamespaceRates, Quota, Quotas, RateWord, Rates, UserRates};
pub use show::show;
pub use store::StoreUrl;
pub use summary::Summary;
pub use tls::Tls;
pub use tokens::{TokenClaims, TokenIssuer, Tokens};
pub use units::{format_duration, format_size, parse_duration, parse_size};

/// Everything an operator can change. Built by [`load()`]; the default is what the shipped `config.yaml` says.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The gRPC door.
    pub grpc: Grpc,
    /// Its encryption.
    pub tls: Tls,
    /// Where the rooms' logs are kept.
    pub store: Store,
    /// How nodes tell one another of new events.
    pub bus: Bus,
    /// The LLMs and how much they may do.
    pub llm: Llm,
    /// The servers of tools.
    pub mcp: Mcp,
    /// The external chat service.
    pub chat_service: ChatService,
    /// Who may connect.
    pub auth: Auth,
    /// What is kept of who did what.
    pub audit: Audit,
    /// How much a client may ask for.
    pub limits: Limits,
    /// The life of a room in memory.
    pub rooms: Rooms,
    /// What is logged, and how.
    pub log: Log,
    /// What the environment says about providers.
    #[serde(skip)]
    environment: providers::Environment,
    /// What the environment says about servers of tools.
    #[serde(skip)]
    mcp_environment: mcp::Environment,
}

/// The gRPC door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grpc {
    /// The address or the host name to listen on.
    pub host: String,
    /// The port to listen on; 0 takes any free one.
    #[serde(deserialize_with = "units::whole")]
    pub port: u16,
    /// Connections open at the same time; more wait in the system's backlog.
    #[serde(deserialize_with = "units::whole")]
    pub max_connections: usize,
    /// Connections of one address open at the same time; 0: as many as it likes.
    #[serde(deserialize_with = "units::whole")]
    pub max_connections_per_peer: usize,
    /// Streams and calls open at the same time on one connection.
    #[serde(deserialize_with = "units::whole")]
    pub max_streams_per_connection: u32,
    /// Bytes that wait in one stream for the network before the session is held back.
    #[serde(with = "units::size")]
    pub send_buffer: usize,
    /// How long a new connection may take to agree on TLS and to say that it speaks HTTP/2.
    #[serde(with = "units::duration")]
    pub handshake_timeout: Duration,
    /// How long a connection may be open without a stream or a call.
    #[serde(with = "units::duration")]
    pub idle_timeout: Duration,
    /// How often a connection is asked whether it is alive.
    #[serde(with = "units::duration")]
    pub keepalive_interval: Duration,
    /// How long the answer to that may take.
    #[serde(with = "units::duration")]
    pub keepalive_timeout: Duration,
}

impl Default for Grpc {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 50052,
            max_connections: 65_536,
            max_connections_per_peer: 1024,
            max_streams_per_connection: 200,
            send_buffer: 64 << 10,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
        }
    }
}

impl Grpc {
    /// Whether only this machine can connect. A name other than `localhost` may resolve to anything: it counts as
    /// the network.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }
}

/// Makes an enum of words: the names are what the file says.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident: $($(#[$word_doc:meta])* $variant:ident = $word:literal,)+) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        pub enum $name {
            $($(#[$word_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The word in the file.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                match String::deserialize(from)?.as_str() {
                    $($word => Ok(Self::$variant),)+
                    _ => {
                        let allowed = [$(concat!("`", $word, "`")),+].join(" or ");
                        Err(serde::de::Error::custom(format_args!("must be {allowed}")))
                    }
                }
            }
        }
    };
}

words! {
    /// Which store.
    StoreKind:
    /// One SQLite file.
    Sqlite = "sqlite",
    /// Nothing outlives the process: for tests and trials.
    Memory = "memory",
    /// A PostgreSQL database, which several servers may share.
    Postgres = "postgres",
    /// A table of Amazon DynamoDB, which several servers may share.
    Dynamodb = "dynamodb",
}

words! {
    /// What an acknowledged event survives.
    Durability:
    /// The loss of power: the disk has confirmed it.
    Fsync = "fsync",
    /// The death of the process, but not of the machine.
    Os = "os",
}

words! {
    /// Which bus.
    BusKind:
    /// Within this process.
    Local = "local",
    /// Redis, between several servers.
    Redis = "redis",
    /// NATS, between several servers.
    Nats = "nats",
}

words! {
    /// Which kind of provider.
    ProviderKind:
    /// Built in: answers without a network, and says that it is no model.
    Offline = "offline",
    /// Any server that speaks the API of OpenAI.
    OpenAi = "openai",
    /// The external chat service at `chat_service.address`.
    ChatService = "chat_service",
}

words! {
    /// Whether a person has to approve each call of a tool.
    ToolApproval:
    /// Yes.
    Required = "required",
    /// No.
    None = "none",
}

words! {
    /// Who may connect.
    AuthMode:
    /// Everybody who reaches the port, under the name they give.
    Open = "open",
    /// Only who shows a credential.
    Required = "required",
}

words! {
    /// Whether clients are asked for a certificate.
    ClientAuth:
    /// No.
    None = "none",
    /// Yes; one that is shown must be good, and none need be.
    Optional = "optional",
    /// Yes, and who shows none is refused.
    Required = "required",
}

words! {
    /// Whether a room's log can be told from one that was changed.
    Integrity:
    /// Not by the server.
    Off = "off",
    /// By the link of its last event.
    Chained = "chained",
}

words! {
    /// How a log line is written.
    LogFormat:
    /// For people.
    Text = "text",
    /// One JSON object a line, for machines.
    Json = "json",
}

/// Where the rooms' logs are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Which store.
    pub kind: StoreKind,
    /// The database file of `sqlite`.
    pub path: PathBuf,
    /// What an acknowledged event survives.
    pub durability: Durability,
    /// The largest the database may grow; then appends are refused. None: as large as the disk.
    #[serde(with = "units::optional_size")]
    pub max_bytes: Option<usize>,
    /// The server of `postgres`, with user and password.
    pub url: Option<StoreUrl>,
    /// The file that holds `url` alone.
    pub url_file: Option<String>,
    /// What it says.
    #[serde(skip)]
    url_in_file: Option<StoreUrl>,
    /// The schema of `postgres` that the tables are in.
    pub schema: String,
    /// Connections to the server at the same time.
    #[serde(deserialize_with = "units::whole")]
    pub pool_size: usize,
    /// The region of `dynamodb`; none: that of the environment.
    pub region: Option<String>,
    /// The table of `dynamodb`.
    pub table: String,
    /// How long a call of the server may take.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// How long a server may be silent that shares the store, until others close what it has left open.
    #[serde(with = "units::duration")]
    pub lease: Duration,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            kind: StoreKind::Sqlite,
            path: "./data/salon.db".into(),
            durability: Durability::Fsync,
            max_bytes: None,
            url: None,
            url_file: None,
            url_in_file: None,
            schema: "salon".into(),
            pool_size: 16,
            region: None,
            table: "salon".into(),
            timeout: Duration::from_secs(10),
            lease: Duration::from_secs(15),
        }
    }
}

/// The LLMs and how much they may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Llm {
    /// The provider of an LLM that names none; see [`Config::providers`] for the rule when this is none.
    pub default_provider: Option<String>,
    /// The configured providers by name.
    pub providers: BTreeMap<String, ProviderEntry>,
    /// Other names for models.
    pub aliases: BTreeMap<String, String>,
    /// What is known of models.
    pub models: Models,
    /// Who is asked when a model fails that has no fallbacks of its own.
    #[serde(deserialize_with = "models::list")]
    pub fallbacks: Vec<String>,
    /// How often and how soon a model is asked again.
    pub retry: Retry,
    /// When a model is left alone.
    pub breaker: Breaker,
    /// Tokens that arrive within this time are sent as one chunk.
    #[serde(with = "units::duration")]
    pub chunk_window: Duration,
    /// How long the first token may take.
    #[serde(with = "units::duration")]
    pub first_token_timeout: Duration,
    /// How long the next token may take.
    #[serde(with = "units::duration")]
    pub idle_timeout: Duration,
    /// How long a whole answer may take.
    #[serde(with = "units::duration")]
    pub total_timeout: Duration,
    /// Answers that run at the same time in one room.
    #[serde(deserialize_with = "units::whole")]
    pub runs_per_room: usize,
    /// Answers that run at the same time in this process.
    #[serde(deserialize_with = "units::whole")]
    pub runs_per_node: usize,
    /// Answers that wait for their turn in one room.
    #[serde(deserialize_with = "units::whole")]
    pub queue_per_room: usize,
    /// Messages of the room that a model is given.
    #[serde(deserialize_with = "units::whole")]
    pub history_messages: usize,
    /// Tokens a model is given at most, its answer included.
    #[serde(deserialize_with = "units::whole")]
    pub context_tokens: u64,
    /// How messages that models are not given any more are summarised.
    pub summary: Summary,
    /// The longest answer of an LLM in tokens.
    #[serde(deserialize_with = "units::whole")]
    pub max_tokens: u32,
    /// How many LLMs may ask one another in a chain that a human began.
    #[serde(deserialize_with = "units::whole")]
    pub chain_depth: u32,
    /// How often a model may call tools and go on, within one answer.
    #[serde(deserialize_with = "units::whole")]
    pub tool_rounds: u32,
    /// Tool calls within one answer.
    #[serde(deserialize_with = "units::whole")]
    pub tool_calls: u32,
    /// How long a call of a tool waits for a person to approve it.
    #[serde(with = "units::duration")]
    pub approval_timeout: Duration,
    /// Who proposes rooms; none: the default.
    pub generate_model: Option<String>,
    /// Rooms that are proposed to one user in a minute.
    #[serde(deserialize_with = "units::whole")]
    pub generate_per_minute: u32,
    /// What answers may take.
    pub budgets: Budgets,
}

impl Default for Llm {
    fn default() -> Self {
        Self {
            default_provider: None,
            providers: BTreeMap::new(),
            aliases: BTreeMap::new(),
            models: Models::new(),
            fallbacks: Vec::new(),
            retry: Retry::default(),
            breaker: Breaker::default(),
            chunk_window: Duration::from_millis(40),
            first_token_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(20),
            total_timeout: Duration::from_secs(300),
            runs_per_room: 8,
            runs_per_node: 256,
            queue_per_room: 32,
            history_messages: 50,
            context_tokens: 32_000,
            summary: Summary::default(),
            max_tokens: 1500,
            chain_depth: 5,
            tool_rounds: 8,
            tool_calls: 32,
            approval_timeout: Duration::from_secs(300),
            generate_model: None,
            generate_per_minute: 5,
            budgets: Budgets::default(),
        }
    }
}

/// The external chat service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChatService {
    /// `host:port`; none: there is none.
    pub address: Option<String>,
}

/// Who may connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Who may connect.
    pub mode: AuthMode,
    /// Whether the mode `open` may listen on more than this machine.
    #[serde(deserialize_with = "units::flag")]
    pub allow_open_on_network: bool,
    /// The namespace that the certificates of clients speak for; none: a certificate is no credential.
    pub certificate_namespace: Option<String>,
    /// Whose tokens are believed.
    pub tokens: Tokens,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            mode: AuthMode::Open,
            allow_open_on_network: false,
            certificate_namespace: None,
            tokens: Tokens::default(),
        }
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// How a line is written.
    pub format: LogFormat,
    /// A level, or levels by module: `info`, `warn,salon=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}
