//! Servers of Redis and NATS that belong to one test: alone, and as clusters of which parts are killed.

use std::{
    io::Write as _,
    net::TcpListener,
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
};

use redis::FromRedisValue;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::{Duration, Instant, sleep},
};

use super::super::servers::{Backend, Place, told};
use crate::harness::DEADLINE;

/// One server; it is killed when this is dropped.
pub struct Engine {
    child: Child,
    pub port: u16,
    _directory: TempDir,
}

impl Engine {
    /// Runs a program that listens on `port`, in a folder of its own.
    async fn run(program: &str, args: &[&str], port: u16) -> Self {
        let directory = TempDir::new().unwrap();
        let mut command = Command::new(program);
        command.args(args).current_dir(directory.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = child.kill_on_drop(true).spawn().unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(begun.elapsed() < DEADLINE, "{program} does not start");
            sleep(Duration::from_millis(10)).await;
        }
        Self { child, port, _directory: directory }
    }

    /// `host:port`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// SIGKILL.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().expect("it runs")).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Asks a server of Redis.
    pub async fn ask<T: FromRedisValue>(&self, command: &str) -> T {
        let client = redis::Client::open(format!("redis://{}", self.host())).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut words = command.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        command.query_async(&mut connection).await.unwrap()
    }

    /// Asks a server of Redis until its answer holds all of these.
    pub async fn says(&self, command: &str, all: &[&str]) {
        let begun = Instant::now();
        loop {
            let answer: String = self.ask(command).await;
            if all.iter().all(|text| answer.contains(text)) {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "{command}: {answer}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Ports that nobody has, and nobody is given for a connection of theirs.
pub fn free_ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    [(); N].map(|()| {
        loop {
            let next = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let port = 20_000 + u16::try_from(next % 10_000).unwrap();
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        }
    })
}

/// A server of Redis alone, with more settings; `None`: there is no program, which is said.
pub async fn redis(settings: &[&str]) -> Option<Engine> {
    let program = told("SALON_TEST_REDIS_BIN")?;
    let [port] = free_ports();
    let number = port.to_string();
    let mut args = vec!["--bind", "127.0.0.1", "--port", &number, "--save", "", "--appendonly", "no"];
    args.extend(["--repl-diskless-sync-delay", "0"]);
    args.extend(settings);
    Some(Engine::run(&program, &args, port).await)
}

/// Three masters of Redis, and behind them, in the same order, a replica of each.
pub struct RedisCluster {
    pub servers: Vec<Engine>,
}

impl RedisCluster {
    const SLOTS: [&str; 3] = ["0 5460", "5461 10922", "10923 16383"];

    /// `None`: there is no program, which is said.
    pub async fn start() -> Option<Self> {
        let program = told("SALON_TEST_REDIS_BIN")?;
        let (ports, buses) = (free_ports::<6>(), free_ports::<6>());
        let mut servers = Vec::new();
        for (port, bus) in ports.iter().zip(buses) {
            let (number, bus) = (port.to_string(), bus.to_string());
            let mut args = vec!["--bind", "127.0.0.1", "--port", &number, "--save", "", "--appendonly", "no"];
            args.extend(["--cluster-enabled", "yes", "--cluster-port", &bus]);
            // A master that is not heard of for so long is replaced.
            args.extend(["--cluster-node-timeout", "500", "--repl-diskless-sync-delay", "0"]);
            servers.push(Engine::run(&program, &args, *port).await);
        }
        for (n, (server, slots)) in servers.iter().zip(Self::SLOTS).enumerate() {
            let () = server.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1)).await;
            let () = server.ask(&format!("CLUSTER ADDSLOTSRANGE {slots}")).await;
        }
        let begun = Instant::now();
        while !all_know(&servers, &["cluster_known_nodes:6", "cluster_slots_assigned:16384"]).await {
            assert!(begun.elapsed() < DEADLINE, "the servers do not find one another");
            // A meeting that takes too long is forgotten.
            for (server, bus) in servers.iter().zip(buses).skip(1) {
                let () = servers[0].ask(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", server.port)).await;
            }
            sleep(Duration::from_millis(200)).await;
        }
        for (master, replica) in servers[..3].iter().zip(&servers[3..]) {
            let id: String = master.ask("CLUSTER MYID").await;
            replica.says("CLUSTER NODES", &[&id]).await;
            let () = replica.ask(&format!("CLUSTER REPLICATE {id}")).await;
        }
        for (n, server) in servers.iter().enumerate() {
            server.says("CLUSTER INFO", &["cluster_state:ok"]).await;
            if n >= 3 {
                server.says("INFO replication", &["master_link_status:up"]).await;
            }
        }
        let cluster = Self { servers };
        for n in 0..6 {
            cluster.knows_replicas(n).await;
        }
        Some(cluster)
    }

    /// Waits until a server knows who stands behind each master.
    async fn knows_replicas(&self, n: usize) {
        let begun = Instant::now();
        loop {
            let slots: Vec<Vec<redis::Value>> = self.servers[n].ask("CLUSTER SLOTS").await;
            if slots.len() == 3 && slots.iter().all(|range| range.len() == 4) {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "{slots:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Channels of its own, by way of these servers.
    pub fn place(&self, servers: &[usize]) -> Place {
        Place::at(Backend::RedisCluster, self.url(servers))
    }

    pub fn url(&self, servers: &[usize]) -> String {
        let urls: Vec<String> =
            servers.iter().map(|n| format!("redis://{}", self.servers[*n].host())).collect();
        urls.join(",")
    }

    /// The slot of a room's channel, as the server `by` computes it.
    pub async fn slot(&self, place: &Place, room: &str, by: usize) -> u16 {
        self.servers[by].ask(&format!("CLUSTER KEYSLOT {}.room.{room}", place.prefix)).await
    }

    /// A room of which the first master has the slot at the beginning: one of these.
    pub async fn room_of_the_first(&self, place: &Place, rooms: impl IntoIterator<Item = String>) -> String {
        for room in rooms {
            if self.slot(place, &room, 0).await <= 5460 {
                return room;
            }
        }
        panic!("none of the rooms is in a slot of the first master");
    }

    /// Gives a slot to another master, live, as an operator's tool does.
    pub async fn move_slot(&self, slot: u16, from: usize, to: usize) {
        let source: String = self.servers[from].ask("CLUSTER MYID").await;
        let target: String = self.servers[to].ask("CLUSTER MYID").await;
        let () = self.servers[to].ask(&format!("CLUSTER SETSLOT {slot} IMPORTING {source}")).await;
        let () = self.servers[from].ask(&format!("CLUSTER SETSLOT {slot} MIGRATING {target}")).await;
        let () = self.servers[to].ask(&format!("CLUSTER SETSLOT {slot} NODE {target}")).await;
        let () = self.servers[from].ask(&format!("CLUSTER SETSLOT {slot} NODE {target}")).await;
    }

    /// Waits until the replica of a master that is gone has taken its place.
    pub async fn taken_over(&self, master: usize) {
        self.servers[master + 3].says("INFO replication", &["role:master"]).await;
        self.servers[master + 3].says("CLUSTER INFO", &["cluster_state:ok"]).await;
    }
}

async fn all_know(servers: &[Engine], all: &[&str]) -> bool {
    for server in servers {
        let answer: String = server.ask("CLUSTER INFO").await;
        if !all.iter().all(|text| answer.contains(text)) {
            return false;
        }
    }
    true
}

/// A server of NATS alone, with this configuration; `None`: there is no program, which is said.
pub async fn nats(settings: &str) -> Option<Engine> {
    let program = told("SALON_TEST_NATS_BIN")?;
    let [port] = free_ports();
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(settings.as_bytes()).unwrap();
    let args = ["-a", "127.0.0.1", "-p", &port.to_string(), "-c", file.path().to_str().unwrap()];
    Some(Engine::run(&program, &args, port).await)
}

/// What a server of NATS says of itself where it is monitored.
pub async fn monitored(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"GET /varz HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Three servers of NATS that know one another.
pub struct NatsCluster {
    pub servers: Vec<Engine>,
}

impl NatsCluster {
    /// `None`: there is no program, which is said.
    pub async fn start() -> Option<Self> {
        let program = told("SALON_TEST_NATS_BIN")?;
        let (ports, routes) = (free_ports::<3>(), free_ports::<3>());
        let all = routes.map(|port| format!("nats://127.0.0.1:{port}"));
        let mut servers = Vec::new();
        for (port, route) in ports.iter().zip(&all) {
            let (number, others) = (port.to_string(), all.join(","));
            let mut args = vec!["-a", "127.0.0.1", "-p", &number, "--cluster", route];
            args.extend(["--cluster_name", "test", "--routes", &others]);
            servers.push(Engine::run(&program, &args, *port).await);
        }
        let cluster = Self { servers };
        let begun = Instant::now();
        for server in &cluster.servers {
            while !cluster.is_known_to(server).await {
                assert!(begun.elapsed() < DEADLINE, "the servers do not find one another");
                sleep(Duration::from_millis(20)).await;
            }
        }
        Some(cluster)
    }

    /// Whether a server tells its clients of all.
    async fn is_known_to(&self, server: &Engine) -> bool {
        let stream = TcpStream::connect(server.host()).await.unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await.unwrap();
        let info: Value = serde_json::from_str(line.strip_prefix("INFO ").unwrap()).unwrap();
        let known = info["connect_urls"].as_array().map_or(&[][..], Vec::as_slice);
        self.servers.iter().all(|server| known.contains(&Value::String(server.host())))
    }

    /// Channels of its own, by way of these servers.
    pub fn place(&self, servers: &[usize]) -> Place {
        Place::at(Backend::Nats, self.url(servers))
    }

    pub fn url(&self, servers: &[usize]) -> String {
        let urls: Vec<String> =
            servers.iter().map(|n| format!("nats://{}", self.servers[*n].host())).collect();
        urls.join(",")
    }
}
