//! A server of Redis or NATS that belongs to one test, which may kill it.

use std::{io::Write as _, net::TcpListener, path::PathBuf, process::Stdio};

use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{Duration, Instant},
};

use crate::harness::DEADLINE;

/// Where leaving a test out is a failure.
const REQUIRED: &str = "SALON_TEST_BUSES_REQUIRED";

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusServer {
    Redis,
    Nats,
}

impl BusServer {
    /// Its program; `None`: it is not there, which is said.
    fn program(self) -> Option<PathBuf> {
        let variable = match self {
            Self::Redis => "SALON_TEST_REDIS_BIN",
            Self::Nats => "SALON_TEST_NATS_BIN",
        };
        let program = std::env::var_os(variable);
        if program.is_none() {
            assert!(std::env::var_os(REQUIRED).is_none(), "{variable} is not set");
            // Past the capturing of the test's output, which is shown of tests that fail.
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            let _ = writeln!(std::io::stderr(), "left out: {test}: {variable} is not set; .ci/buses sets it");
        }
        program.map(PathBuf::from)
    }
}

/// A running one; it is killed when this is dropped.
pub struct BusEngine {
    server: BusServer,
    program: PathBuf,
    port: u16,
    child: Child,
}

impl BusEngine {
    pub async fn start(server: BusServer) -> Option<Self> {
        let program = server.program()?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = run(server, &program, port).await;
        Some(Self { server, program, port, child })
    }

    /// As in `bus.kind`.
    pub fn kind(&self) -> &'static str {
        match self.server {
            BusServer::Redis => "redis",
            BusServer::Nats => "nats",
        }
    }

    /// `host:port`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What a node is told, by way of `address`.
    pub fn url(&self, address: &str) -> String {
        format!("{}://{address}", self.kind())
    }

    /// SIGKILL, and again on the same port.
    pub async fn restart(&mut self) {
        self.child.kill().await.unwrap();
        self.child = run(self.server, &self.program, self.port).await;
    }
}

async fn run(server: BusServer, program: &PathBuf, port: u16) -> Child {
    let port_text = port.to_string();
    let args = match server {
        BusServer::Redis => {
            vec!["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port_text]
        }
        BusServer::Nats => vec!["-a", "127.0.0.1", "-p", &port_text],
    };
    let mut command = Command::new(program);
    let child = command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = child.kill_on_drop(true).spawn().unwrap();
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(begun.elapsed() < DEADLINE, "{server:?} does not start");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    child
}
