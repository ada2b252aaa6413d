//! The command line: its arguments, and the commands that talk to a server over the public contract.
//!
//! Owns no process: each command takes its options and what it writes to, and answers an [`exit::Exit`] or an
//! error that tells a person what to do. A command that talks to a server does so as any client of the contract
//! would; nothing here reads the server's files.

pub mod admin;
pub mod args;
pub mod bench;
pub mod chat;
pub mod client;
pub mod completions;
pub mod exit;
pub mod health;
pub mod json;
pub mod log;
pub mod rooms;
pub mod text;
pub mod tls;
pub mod token;
pub mod usage;
