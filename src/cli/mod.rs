//! The command line's clients: every command here talks to a server over the public contract and nothing else.
//!
//! Owns no process: each command takes its options and what it writes to, and answers an [`exit::Exit`] or an
//! error that tells a person what to do. Nothing here reads the server's files or configuration.

pub mod chat;
pub mod client;
pub mod exit;
pub mod health;
pub mod json;
pub mod log;
pub mod rooms;
pub mod text;
