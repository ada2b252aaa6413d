//! A server of PostgreSQL that belongs to one test, which may restart it.

use std::{net::TcpListener, path::PathBuf};

use salon::store::config::{StoreConfig, StoreKind, StoreUrl};
use tempfile::TempDir;
use tokio::process::Command;

use super::{REQUIRED, server};

/// Where the programs of PostgreSQL are.
const BIN: &str = "SALON_TEST_POSTGRES_BIN";

/// A cluster in a folder of its own.
pub struct Cluster {
    bin: PathBuf,
    directory: TempDir,
    /// Where it listens, beside its socket.
    port: u16,
}

impl Cluster {
    /// A new one; `None`: there are no programs for it, which is said.
    pub async fn start() -> Option<Self> {
        server()?;
        let Some(bin) = std::env::var_os(BIN) else {
            assert!(std::env::var_os(REQUIRED).is_none(), "{BIN} is not set");
            return None;
        };
        // A socket's path has hardly a hundred characters.
        let directory = tempfile::Builder::new().prefix("salon-pg.").tempdir_in("/tmp").unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Self { bin: bin.into(), directory, port };
        if rustix::process::geteuid().is_root() {
            let owned = Command::new("chown").arg("postgres").arg(cluster.directory.path()).status().await;
            assert!(owned.unwrap().success());
        }
        cluster.run("initdb", &["-U", "salon", "--auth=trust", "-E", "UTF8", "--locale=C"]).await;
        cluster.run("pg_ctl", &["-w", "-l", "log", "-o", &cluster.options(), "start"]).await;
        Some(cluster)
    }

    fn options(&self) -> String {
        format!("-k . -p {} -c listen_addresses=127.0.0.1 -c max_connections=200", self.port)
    }

    /// Ends it by `fast` (in order) or `immediate` (as a crash does), and starts it again.
    pub async fn restart(&self, mode: &str) {
        self.run("pg_ctl", &["-w", "-m", mode, "-l", "log", "-o", &self.options(), "restart"]).await;
    }

    /// Ends it.
    pub async fn stop(&self) {
        self.run("pg_ctl", &["-w", "-m", "immediate", "stop"]).await;
    }

    /// Runs one of its programs; PostgreSQL refuses to do so as root.
    async fn run(&self, program: &str, args: &[&str]) {
        let path = self.bin.join(program);
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        let place = self.directory.path();
        // A pipe would stay open as long as the server that is started.
        let null = std::process::Stdio::null;
        let status = command
            .args(args)
            .env("PGDATA", place.join("data"))
            .current_dir(place)
            .stdin(null())
            .stdout(null())
            .stderr(null())
            .status();
        assert!(status.await.unwrap().success(), "{program} {args:?}");
    }

    /// How to reach it by TCP: `host:port`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How a store reaches it by its socket.
    pub fn config(&self) -> StoreConfig {
        // pg_ctl starts the server in its data.
        let socket = self.directory.path().join("data").to_string_lossy().replace('/', "%2F");
        let port = self.port;
        StoreConfig {
            kind: StoreKind::Postgres,
            url: Some(StoreUrl::new(format!("postgres://salon@{socket}:{port}/postgres"))),
            pool_size: 4,
            ..StoreConfig::default()
        }
    }
}
