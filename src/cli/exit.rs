//! How a command ended, for the shell that started it.

use std::process::ExitCode;

/// The end of a command that did run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for was done: code 0.
    Success,
    /// It ran, and something was refused or is not well: code 1.
    Failure,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Success => Self::SUCCESS,
            Exit::Failure => Self::FAILURE,
        }
    }
}
