//! The system's tests, in one program: each part links the whole crate only once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "tests"
)]

mod bad_input;
mod buses;
mod cli_client;
mod concurrency;
mod configuration;
mod domain_properties;
mod fake_openai;
mod harness;
mod providers;
mod sessions;
mod slow_reader;
mod store_conformance;
mod wire_commands;
mod wire_properties;
