//! A server that is a child process: begun with nothing of ours but what it was given, and ended with all it began.
//!
//! It is the leader of a process group of its own, which is killed as a whole: `npx` and its like leave the real
//! server behind. What it says on its standard error goes to the log at debug, bounded. If a [`Child`] is dropped
//! instead of ended, the group is killed all the same and the runtime reaps it.
//!
//! If we are killed ourselves, its input closes and that is all: to have the system kill it (`PR_SET_PDEATHSIG`) code
//! would have to run between fork and exec, which is unsafe. `config.yaml` tells operators what to do.

use std::{io, process::Stdio, sync::Arc, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::ExposeSecret as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{ChildStdin, ChildStdout, Command},
    task::JoinSet,
    time::timeout,
};

use crate::mcp::{
    config::{Argument, Endpoint},
    server::Server,
};

/// How long it may take to end by itself when its input has ended, and again when it is asked to.
const END_PATIENCE: Duration = Duration::from_secs(1);
/// The longest line of it that is logged, in characters.
const LINE_CHARS: usize = 500;
/// The longest line that is kept until its end comes.
const LINE_BYTES: usize = 4 << 10;
/// Lines of one process that are logged; the rest is read and left out.
const LINES_MAX: usize = 1000;

/// A running process.
#[derive(Debug)]
pub(super) struct Child {
    process: tokio::process::Child,
    /// None when it has been reaped: the number may be somebody else's then.
    group: Option<Pid>,
    /// Reads its standard error, and ends with it: when nobody of the group holds it any more.
    stderr: JoinSet<()>,
}

impl Child {
    /// Starts it; gives what it writes and reads.
    pub(super) fn start(server: &Arc<Server>) -> io::Result<(Self, ChildStdout, ChildStdin)> {
        let Endpoint::Stdio { program, args, env, secret_env, cwd } = &server.config.endpoint else {
            return Err(io::Error::other("it is no process"));
        };
        let mut command = Command::new(program);
        command.args(args.iter().map(Argument::expose)).env_clear().envs(env);
        command.envs(secret_env.iter().map(|(name, value)| (name, value.expose_secret())));
        if let Some(cwd) = cwd {
            command.current_dir(cwd);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let mut process = command.spawn()?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (process.stdin.take(), process.stdout.take(), process.stderr.take())
        else {
            return Err(io::Error::other("it has no pipes"));
        };
        let group = process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let mut reader = JoinSet::new();
        reader.spawn(log_lines(Arc::clone(server), stderr));
        Ok((Self { process, group, stderr: reader }, stdout, stdin))
    }

    /// Ends it: its input must be closed. Waits until it is reaped.
    pub(super) async fn end(mut self, server: &Server) {
        // The end of its standard error stands for its end: it is not reaped before the group is killed, so that the
        // group's number cannot have become another's.
        if timeout(END_PATIENCE, self.stderr.join_next()).await.is_err() {
            self.signal(Signal::TERM);
            let _ = timeout(END_PATIENCE, self.stderr.join_next()).await;
        }
        self.signal(Signal::KILL);
        self.group = None;
        match self.process.wait().await {
            Ok(status) => tracing::debug!(server = %server.config.name, %status, "the process has ended"),
            Err(error) => tracing::warn!(server = %server.config.name, %error, "the process was not reaped"),
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // Fails when nobody is left, which is what is wanted.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

async fn log_lines(server: Arc<Server>, mut from: impl AsyncRead + Unpin) {
    let (mut line, mut lines) = (Vec::new(), 0_usize);
    let mut buffer = [0; 1024];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        for byte in buffer.iter().take(read) {
            if *byte == b'\n' {
                log_line(&server, &line, &mut lines);
                line.clear();
            } else if line.len() < LINE_BYTES {
                line.push(*byte);
            }
        }
    }
    if !line.is_empty() {
        log_line(&server, &line, &mut lines);
    }
}

fn log_line(server: &Server, line: &[u8], lines: &mut usize) {
    *lines = lines.saturating_add(1);
    if *lines <= LINES_MAX {
        let line = server.secrets.line(&String::from_utf8_lossy(line), LINE_CHARS);
        tracing::debug!(server = %server.config.name, line, "the process says");
    } else if *lines == LINES_MAX + 1 {
        tracing::debug!(server = %server.config.name, "the process says more, which is left out");
    }
}
