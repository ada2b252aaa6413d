//! Salon: a room server in which people and LLMs talk, each over one gRPC bidirectional stream.
//!
//! `ARCHITECTURE.md` is the map. Imports point down its floors, which `tests/architecture.rs` checks.

pub mod address;
pub mod allowance;
pub mod audit;
pub mod auth;
pub mod budget;
pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
pub mod digest;
pub mod dispatch;
pub mod domain;
pub mod grpc;
pub mod ids;
pub mod json_schema;
pub mod llm;
pub mod mcp;
pub mod nodes;
pub mod ops;
pub mod registry;
pub mod rooms;
pub mod server;
pub mod session;
pub mod store;
pub mod telemetry;
mod unless;
pub mod wire;
