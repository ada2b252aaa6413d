//! Salon: a room server in which people and LLMs talk, each over one gRPC bidirectional stream.
//!
//! `ARCHITECTURE.md` is the map. Imports point down its floors, which `tests/architecture.rs` checks.

pub mod cli;
pub mod clock;
pub mod domain;
pub mod ids;
pub mod llm;
pub mod store;
pub mod wire;
