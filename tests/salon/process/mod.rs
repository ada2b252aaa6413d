//! The real binary as a process: killed, drained, refused and filled up.
//!
//! Each test has a directory of its own, where the process finds nothing but what the test has put there.

mod answers;
mod commands;
mod crash;
mod drain;
mod full_disk;
mod secrets;
mod start;

use std::{
    fs::File,
    path::PathBuf,
    process::{ExitStatus, Output, Stdio},
};

use salon::wire::pb::room::v1::{self as pb, room_service_client::RoomServiceClient};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStdout, Command},
    time::timeout,
};
use tonic::transport::{Channel, Endpoint};

use crate::harness::{DEADLINE, Session};

/// A directory, and the environment of the processes that are started in it.
pub struct Place {
    directory: TempDir,
    env: Vec<(String, String)>,
}

impl Place {
    /// An empty directory; the server takes a free port, and does not slow its clients down.
    pub fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap(), env: Vec::new() };
        place
            .env("GRPC_PORT", "0")
            .env("SALON__STORE__PATH", "data/salon.db")
            .env("SALON__LIMITS__MESSAGES_PER_SECOND", "100000")
            .env("SALON__LIMITS__MESSAGES_BURST", "1000000")
    }

    /// Sets a variable for what is started from now on.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(set, _)| set != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file of this directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.path("data/salon.db")
    }

    /// What servers have logged here so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log.txt")).unwrap_or_default()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_salon"));
        command.args(args).env_clear().envs(self.env.iter().cloned()).current_dir(self.directory.path());
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    pub async fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, "").await
    }

    /// Runs a command to its end, with this on its standard input.
    pub async fn run_with(&self, args: &[&str], input: &str) -> Output {
        let file = self.path("input.txt");
        std::fs::write(&file, input).unwrap();
        let output = self.command(args).stdin(File::open(&file).unwrap()).output();
        timeout(DEADLINE, output).await.expect("the command does not end").unwrap()
    }

    /// Starts a server and waits until it listens.
    pub async fn start(&self) -> Salon {
        let Salon { child, _stdout: stdout, .. } = self.start_without_listening();
        let mut lines = stdout.lines();
        let line = timeout(DEADLINE, lines.next_line()).await.expect("the server does not listen").unwrap();
        let url = line.as_deref().and_then(|line| line.strip_prefix("listening on "));
        let url = url.unwrap_or_else(|| panic!("it did not start: {line:?}\n{}", self.log())).to_owned();
        Salon { child, url, _stdout: lines.into_inner() }
    }

    /// Starts a server and waits for nothing.
    pub fn start_without_listening(&self) -> Salon {
        let log = File::options().create(true).append(true).open(self.path("log.txt")).unwrap();
        let mut child = self.command(&[]).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Salon { child, url: String::new(), _stdout: stdout }
    }
}

/// A running server; it is killed when this is dropped.
pub struct Salon {
    child: Child,
    pub url: String,
    /// Held, so that whatever is still printed has a reader.
    _stdout: BufReader<ChildStdout>,
}

impl Salon {
    /// SIGKILL: nothing is tidied up.
    pub async fn kill(mut self) {
        self.child.start_kill().unwrap();
        self.child.wait().await.unwrap();
    }

    /// SIGTERM.
    pub async fn terminate(&self) {
        self.signal("TERM").await;
    }

    /// Any signal, by its name without SIG.
    pub async fn signal(&self, name: &str) {
        let id = self.child.id().expect("it has ended already").to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().await.unwrap().success());
    }

    /// Waits for the end.
    pub async fn ended(mut self) -> ExitStatus {
        timeout(DEADLINE, self.child.wait()).await.expect("the server does not end").unwrap()
    }

    /// Drains and ends.
    pub async fn stop(self) {
        self.terminate().await;
        assert_eq!(self.ended().await.code(), Some(0));
    }

    /// A connection of its own.
    pub async fn client(&self) -> RoomServiceClient<Channel> {
        let channel = Endpoint::from_shared(self.url.clone()).unwrap().connect().await.unwrap();
        RoomServiceClient::new(channel)
    }

    /// Creates a room whose creator is `admin`.
    pub async fn room(&self, id: &str, llms: &[&str]) {
        let request = pb::CreateRoomRequest {
            name: id.to_uppercase(),
            room_id: Some(id.into()),
            created_by: "admin".into(),
            llms: llms.iter().map(|id| crate::harness::llm(id)).collect(),
            ..Default::default()
        };
        self.client().await.create_room(request).await.unwrap();
    }

    /// Joins and takes the `room_state`.
    pub async fn join(&self, room: &str, user: &str) -> Session {
        Session::join(self.client().await, room, user).await
    }

    /// The whole log of a room.
    pub async fn log_of(&self, room: &str) -> Vec<pb::ServerEvent> {
        let request = pb::ReadLogRequest { room_id: room.into(), ..Default::default() };
        let mut stream = self.client().await.read_log(request).await.unwrap().into_inner();
        let mut events = Vec::new();
        while let Some(response) = stream.message().await.unwrap() {
            events.push(response.event.unwrap());
        }
        assert!(events.iter().map(|event| event.seq).eq(1..=events.len() as u64), "holes in the log");
        events
    }
}
