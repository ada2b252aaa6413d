//! Texts that attack, against a whole server.

pub mod corpus;
mod obeys;
mod prompts;
