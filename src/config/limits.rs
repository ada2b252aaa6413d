//! The sections about amounts: what a client may ask for, and how long a room stays in memory.
//!
//! Owns names and defaults; the bounds are in `check`, the reasons in `config.yaml`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{Integrity, Quotas, Rates, units};

/// How much a client may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of one message's content.
    #[serde(with = "units::size")]
    pub message_bytes: usize,
    /// Lasting commands a user may send in a second, on average.
    #[serde(deserialize_with = "units::whole")]
    pub messages_per_second: u32,
    /// Lasting commands a user may send at once.
    #[serde(deserialize_with = "units::whole")]
    pub messages_burst: u32,
    /// Typing indicators and signals a user may send in a second, on average.
    #[serde(deserialize_with = "units::whole")]
    pub transients_per_second: u32,
    /// Typing indicators and signals a user may send at once.
    #[serde(deserialize_with = "units::whole")]
    pub transients_burst: u32,
    /// LLMs in one room.
    #[serde(deserialize_with = "units::whole")]
    pub llms_per_room: usize,
    /// Members of one room.
    #[serde(deserialize_with = "units::whole")]
    pub members_per_room: usize,
    /// Bytes of one gRPC message from a client.
    #[serde(with = "units::size")]
    pub grpc_message: usize,
    /// Events that wait for one session.
    #[serde(deserialize_with = "units::whole")]
    pub queue_events: usize,
    /// Bytes that wait for one session.
    #[serde(with = "units::size")]
    pub queue_bytes: usize,
    /// Sessions of one user in one room.
    #[serde(deserialize_with = "units::whole")]
    pub sessions_per_user: usize,
    /// How long somebody is shown as typing.
    #[serde(with = "units::duration")]
    pub typing_expiry: Duration,
    /// How long a new stream may take to join.
    #[serde(with = "units::duration")]
    pub join_timeout: Duration,
    /// Participants listed one by one; above it a room gives counts.
    #[serde(deserialize_with = "units::whole")]
    pub participants_shown: usize,
    /// Commands of one session that are being worked on.
    #[serde(deserialize_with = "units::whole")]
    pub commands_in_flight: usize,
    /// How often a silent session is sent a sign of life.
    #[serde(with = "units::duration")]
    pub heartbeat_interval: Duration,
    /// How long events of a large and busy room may wait to be told together; 0: not at all.
    #[serde(with = "units::duration")]
    pub linger: Duration,
    /// The most events or messages in one page of history.
    #[serde(deserialize_with = "units::whole")]
    pub history_page: u32,
    /// How long a shutdown may take.
    #[serde(with = "units::duration")]
    pub drain: Duration,
    /// How long a stream may be joined, a tenth more or less, before it is moved.
    #[serde(with = "units::optional_duration")]
    pub max_session_age: Option<Duration>,
    /// Streams of one user that have joined, in all rooms.
    #[serde(deserialize_with = "units::whole")]
    pub streams_per_user: usize,
    /// Streams that have joined with one credential.
    #[serde(deserialize_with = "units::some_whole")]
    pub streams_per_credential: Option<usize>,
    /// Streams that have joined from one address.
    #[serde(deserialize_with = "units::some_whole")]
    pub streams_per_peer: Option<usize>,
    /// Streams that have not joined.
    #[serde(deserialize_with = "units::whole")]
    pub streams_waiting_to_join: usize,
    /// Streams from one address that have not joined.
    #[serde(deserialize_with = "units::whole")]
    pub streams_waiting_per_peer: usize,
    /// How often something may be done.
    pub rates: Rates,
    /// How much a namespace may have.
    pub quotas: Quotas,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 16 << 10,
            messages_per_second: 10,
            messages_burst: 20,
            transients_per_second: 20,
            transients_burst: 40,
            llms_per_room: 32,
            members_per_room: 100_000,
            grpc_message: 1 << 20,
            queue_events: 256,
            queue_bytes: 1 << 20,
            sessions_per_user: 16,
            typing_expiry: Duration::from_secs(6),
            join_timeout: Duration::from_secs(10),
            participants_shown: 200,
            commands_in_flight: 64,
            heartbeat_interval: Duration::from_secs(30),
            linger: Duration::from_millis(5),
            history_page: 1000,
            drain: Duration::from_secs(25),
            max_session_age: None,
            streams_per_user: 10_000,
            streams_per_credential: None,
            streams_per_peer: None,
            streams_waiting_to_join: 20_000,
            streams_waiting_per_peer: 5000,
            rates: Rates::default(),
            quotas: Quotas::default(),
        }
    }
}

/// The life of a room in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rooms {
    /// Events between two snapshots of a room.
    #[serde(deserialize_with = "units::whole")]
    pub snapshot_every: u64,
    /// How long a room that nobody uses stays in memory.
    #[serde(with = "units::duration")]
    pub idle_unload: Duration,
    /// How long a repeated `request_id` is known.
    #[serde(with = "units::duration")]
    pub request_ids_kept: Duration,
    /// Whether the chains of logs are kept.
    pub integrity: Integrity,
}

impl Default for Rooms {
    fn default() -> Self {
        Self {
            snapshot_every: 250,
            idle_unload: Duration::from_secs(60),
            request_ids_kept: Duration::from_secs(24 * 60 * 60),
            integrity: Integrity::Off,
        }
    }
}
