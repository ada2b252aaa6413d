//! The processes: servers, each on its own processor, and the generator on another.
//!
//! A child inherits the processors of the thread that starts it, so none of its threads ever runs elsewhere. It is killed
//! when what stands for it is dropped. What a server writes is kept in a file and shown when it does not come up.

use std::{
    env,
    fs::File,
    net::{Ipv4Addr, TcpListener as Probe},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::{
    process::{Pid, Signal, kill_process_group},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, timeout},
};

/// What a port may be: above are those that the system gives to clients, and one of them may have it first.
const PORTS: std::ops::Range<u16> = 21_000..32_000;
/// What stands for the port in the command of `--original`.
const PORT: &str = "{port}";
/// How long a server may take to listen.
const READY: Duration = Duration::from_secs(20);
/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(5);
/// What Salon is told besides its port. Its limits are for people; the load is none. A member's queue holds as many bytes
/// as with the servers it is compared with, and as many messages as it can.
const SALON: &[(&str, &str)] = &[
    ("SALON__STORE__KIND", "memory"),
    ("SALON__LIMITS__MESSAGES_PER_SECOND", "100000"),
    ("SALON__LIMITS__MESSAGES_BURST", "1000000"),
    ("SALON__LIMITS__COMMANDS_IN_FLIGHT", "10000"),
    ("SALON__LIMITS__QUEUE_EVENTS", "65536"),
    ("SALON__LIMITS__QUEUE_BYTES", "8MiB"),
    ("SALON__LIMITS__JOIN_TIMEOUT", "1m"),
    ("SALON__LIMITS__STREAMS_WAITING_TO_JOIN", "1000000"),
    ("SALON__LIMITS__STREAMS_WAITING_PER_PEER", "1000000"),
    ("SALON__LIMITS__STREAMS_PER_USER", "1000000"),
    ("SALON__LIMITS__RATES__USER__JOINS", "none"),
    ("SALON__LIMITS__RATES__USER__ROOMS", "none"),
];
/// What other variables begin with that would change what is measured.
const READ_BY_SALON: &[&str] =
    &["GRPC_", "SALON_", "STORE_URL", "BUS_URL", "CHAT_SERVICE_ADDRESS", "OPENAI_"];

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Salon itself.
    Salon,
    /// Plain TCP.
    Tcp,
    /// tonic with ready-made bytes.
    Bare,
    /// tonic with a channel of messages for each member.
    Naive,
    /// The `nats-server` on the path.
    Nats,
    /// Salon, spoken to as clients of the original do.
    SalonOriginal,
    /// Another server of that contract: what `--original` starts.
    Original,
}

impl Kind {
    /// All, in the order in which they take turns.
    pub(super) const ALL: [Self; 7] =
        [Self::Salon, Self::Tcp, Self::Bare, Self::Naive, Self::Nats, Self::SalonOriginal, Self::Original];

    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Salon => "salon",
            Self::Tcp => "tcp",
            Self::Bare => "bare",
            Self::Naive => "naive",
            Self::Nats => "nats",
            Self::SalonOriginal => "salon-original",
            Self::Original => "original",
        }
    }

    /// Why it cannot be started here; none: it can. `original` is the command that was given for it.
    pub(super) fn why_missing(self, original: Option<&str>) -> Option<&'static str> {
        let paths = env::var_os("PATH").unwrap_or_default();
        match self {
            Self::Nats if !env::split_paths(&paths).any(|path| path.join("nats-server").is_file()) => {
                Some("nats-server is not on the path")
            }
            Self::Original if original.is_none() => Some("--original says how it is started"),
            Self::Nats
            | Self::Original
            | Self::Salon
            | Self::Tcp
            | Self::Bare
            | Self::Naive
            | Self::SalonOriginal => None,
        }
    }

    /// Whether it is spoken to by the contract of the original.
    pub(super) fn speaks_original(self) -> bool {
        matches!(self, Self::SalonOriginal | Self::Original)
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::Salon | Self::Bare | Self::Naive | Self::SalonOriginal | Self::Original => "http",
            Self::Tcp => "tcp",
            Self::Nats => "nats",
        }
    }

    fn command(self, port: u16, original: Option<&str>) -> anyhow::Result<Command> {
        let number = port.to_string();
        Ok(match self {
            Self::Salon | Self::SalonOriginal => {
                let mut command = clean(env!("CARGO_BIN_EXE_salon"));
                command.arg("serve").env("GRPC_PORT", number).envs(SALON.iter().copied());
                command
            }
            Self::Tcp | Self::Bare | Self::Naive => {
                let mut command = clean(env::current_exe()?);
                command.args(["--serve", self.name(), "--port", &number]);
                command
            }
            Self::Nats => {
                let mut command = clean("nats-server");
                command.args(["-a", "127.0.0.1", "-p", &number]);
                command
            }
            Self::Original => {
                let mut command = clean("sh");
                command.args(["-c", &original.unwrap_or_default().replace(PORT, &number)]);
                command.env("GRPC_PORT", number);
                command
            }
        })
    }
}

/// A command that sees none of the variables that Salon reads.
fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    let ours = |name: &str| READ_BY_SALON.iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(ours) {
            command.env_remove(name);
        }
    }
    command.kill_on_drop(true).stdin(Stdio::null());
    command
}

/// Which processor the servers have, and which the generator has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pins {
    /// The server's; none: there is only one.
    pub(super) server: Option<usize>,
    /// The generator's.
    pub(super) generator: Option<usize>,
}

impl Pins {
    /// The first two that this process may use.
    pub(super) fn find() -> Self {
        let allowed = sched_getaffinity(None).unwrap_or_default();
        let mut processors = (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor));
        match (processors.next(), processors.next()) {
            (Some(server), Some(generator)) => Self { server: Some(server), generator: Some(generator) },
            _ => Self { server: None, generator: None },
        }
    }
}

/// Starts a process that may run on this processor only.
fn start_on(processor: Option<usize>, command: &mut Command) -> anyhow::Result<Child> {
    let program = PathBuf::from(command.as_std().get_program());
    let start = |command: &mut Command| {
        command.spawn().with_context(|| format!("cannot start {}", program.display()))
    };
    let Some(processor) = processor else { return start(command) };
    let before = sched_getaffinity(None)?;
    let mut only = CpuSet::new();
    only.set(processor);
    sched_setaffinity(None, &only)?;
    let started = start(command);
    sched_setaffinity(None, &before)?;
    started
}

/// A server that listens.
#[derive(Debug)]
pub(super) struct Server {
    kind: Kind,
    child: Child,
    /// What a shell has started.
    group: Option<Pid>,
    url: String,
}

impl Server {
    /// Starts one, in a directory that has no settings, and waits until it takes connections.
    pub(super) async fn start(
        kind: Kind,
        original: Option<&str>,
        processor: Option<usize>,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let (port, log) = (free_port()?, dir.join("server.log"));
        let mut command = kind.command(port, original)?;
        let file = File::create(&log)?;
        command.current_dir(dir).stdout(file.try_clone()?).stderr(file);
        if kind == Kind::Original {
            // A group of its own: what a shell has started ends with it.
            command.process_group(0);
        }
        let child = start_on(processor, &mut command)?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let group = pid.filter(|_| kind == Kind::Original);
        let mut server = Self { kind, child, group, url: format!("{}://127.0.0.1:{port}", kind.scheme()) };
        let until = Instant::now() + READY;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            if server.child.try_wait()?.is_some() || Instant::now() > until {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                bail!("{} does not listen: {said}", kind.name());
            }
            tokio::time::sleep(AGAIN).await;
        }
        Ok(server)
    }

    /// Has the generator load it; what it writes.
    pub(super) async fn load(
        &mut self,
        arguments: &[String],
        processor: Option<usize>,
        limit: Duration,
        dir: &Path,
    ) -> anyhow::Result<Output> {
        let mut command = clean(env!("CARGO_BIN_EXE_salon"));
        command.current_dir(dir).arg("bench").args(arguments).args(["--json", "--server", &self.url]);
        if self.kind.speaks_original() {
            command.args(["--contract", "original"]);
        }
        // A shell is not what it has started: the generator finds who listens by itself.
        if let Some(pid) = self.child.id().filter(|_| self.kind != Kind::Original) {
            command.args(["--pid", &pid.to_string()]);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let generator = start_on(processor, &mut command)?;
        let output = timeout(limit, generator.wait_with_output()).await;
        if let Some(status) = self.child.try_wait()? {
            bail!("the server has ended: {status}");
        }
        output.with_context(|| format!("took longer than {limit:?}"))?.context("cannot run the generator")
    }

    /// Ends it.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot end the server")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// A port that nobody has, another one each time: what is left of connections to the last one is in nobody's way.
fn free_port() -> anyhow::Result<u16> {
    let (_, random) = uuid::Uuid::new_v4().as_u64_pair();
    let count = u64::from(PORTS.end - PORTS.start);
    let begin = PORTS.start + u16::try_from(random % count).unwrap_or_default();
    let mut ports = (begin..PORTS.end).chain(PORTS.start..begin);
    ports.find(|port| Probe::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).context("every port is taken")
}
