//! The system's tests, in one program: each part links the whole crate only once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    unreachable_pub,
    reason = "tests"
)]

mod administration;
mod answers;
mod audit;
mod autopilot;
mod bad_input;
mod budgets;
mod buses;
mod cli_bench;
mod cli_client;
mod concurrency;
mod configuration;
mod control;
mod documents;
mod domain_properties;
mod doors;
mod fake_chat_service;
mod fake_openai;
mod faults;
mod fuzzed;
mod generate;
mod groups;
mod harness;
mod injections;
mod limits;
mod mcp;
mod moving;
mod nodes;
mod operations;
mod permissions;
mod process;
mod providers;
mod sessions;
mod simulation;
mod sizes;
mod slow_reader;
mod stalled_client;
mod store_conformance;
#[cfg(all(feature = "postgres", feature = "redis", feature = "nats"))]
mod three_nodes;
mod timing;
mod tls;
mod tokens;
mod wire_commands;
mod wire_properties;
