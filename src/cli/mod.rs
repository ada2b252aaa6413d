//! The command line: what can be asked of the binary.
//!
//! Owns arguments and their help; a command that talks to a server does so as any client of the contract would.

pub mod args;
pub mod completions;
