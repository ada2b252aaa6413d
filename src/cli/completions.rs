//! `salon completions`: the script that teaches a shell the commands.

use std::io::{self, Write};

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::args::Args;

/// Writes the script for `shell` to `out`.
pub fn write(shell: Shell, out: &mut dyn Write) -> io::Result<()> {
    // The generator panics when it cannot write, as into a closed pipe: memory first.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "salon", &mut script);
    out.write_all(&script)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell, Shell::Elvish] {
            let mut script = Vec::new();
            write(shell, &mut script).unwrap();
            let script = String::from_utf8(script).unwrap();
            for command in ["serve", "chat", "rooms", "log", "health", "config", "completions"] {
                assert!(script.contains(command), "{shell}: {command}");
            }
        }
    }

    #[test]
    fn a_closed_pipe_is_an_error_and_no_panic() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert_eq!(write(Shell::Bash, &mut Closed).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
