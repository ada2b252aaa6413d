//! The gRPC door: the only floor that names tonic, besides the server that listens and the command line that calls.
//!
//! Unary calls go through the generated service. The session stream does not: its answers are bytes that are ready
//! to be sent, so it has a body of its own.

pub mod admin;
pub mod body;
pub mod bounded;
pub mod codec;
mod credentials;
pub mod cursor;
pub mod door;
pub mod guard;
mod payer;
pub mod peer;
pub mod service;
pub mod status;
mod usage;
