//! The servers of buses that are tested with.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use salon::bus::{
    self, Bus,
    config::{BusConfig, BusKind, BusUrl},
};

use crate::harness::network::Network;

const REQUIRED: &str = "SALON_TEST_BUSES_REQUIRED";

/// A kind of bus that has servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Redis,
    RedisCluster,
    Nats,
}

/// Where one is, and channels that nobody else uses.
#[derive(Debug, Clone)]
pub struct Place {
    pub backend: Backend,
    pub url: String,
    pub prefix: String,
}

impl Backend {
    /// The server to test with; `None`: there is none, which is said.
    pub fn place(self) -> Option<Place> {
        let variable = match self {
            Self::Redis => "SALON_TEST_REDIS_URL",
            Self::RedisCluster => "SALON_TEST_REDIS_CLUSTER_URL",
            Self::Nats => "SALON_TEST_NATS_URL",
        };
        let url = std::env::var(variable).ok().filter(|url| !url.is_empty());
        if url.is_none() {
            assert!(std::env::var_os(REQUIRED).is_none(), "{variable} is not set");
            // Past the capturing of the test's output, which is shown of tests that fail.
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            let _ = writeln!(std::io::stderr(), "left out: {test}: {variable} is not set; .ci/buses sets it");
        }
        static PLACES: AtomicU64 = AtomicU64::new(0);
        let number = PLACES.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("test-{}-{number}", std::process::id());
        url.map(|url| Place { backend: self, url, prefix })
    }
}

impl Place {
    fn kind(&self) -> BusKind {
        match self.backend {
            Backend::Redis | Backend::RedisCluster => BusKind::Redis,
            Backend::Nats => BusKind::Nats,
        }
    }

    /// A node.
    pub async fn try_open(&self) -> Result<Arc<dyn Bus>, bus::Error> {
        let url = Some(BusUrl::new(self.url.clone()));
        let config =
            BusConfig { kind: self.kind(), url, prefix: self.prefix.clone(), ..BusConfig::default() };
        bus::open(&config).await
    }

    /// A node.
    pub async fn open(&self) -> Arc<dyn Bus> {
        self.try_open().await.unwrap()
    }

    /// The same channels behind a network that can be cut.
    pub async fn behind_a_network(&self) -> (Self, Network) {
        let network = Network::to(&self.host()).await;
        let url = self.url.replace(&self.host(), &network.address);
        (Self { url, ..self.clone() }, network)
    }

    /// `host:port`.
    fn host(&self) -> String {
        let rest = self.url.split_once("://").unwrap().1;
        let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        rest.split('/').next().unwrap().to_owned()
    }

    /// Publishes any bytes, as any other program could.
    pub async fn publish_raw(&self, room: &str, all: &[Bytes]) {
        let channel = format!("{}.room.{room}", self.prefix);
        match self.backend {
            Backend::Nats => {
                let login = self.url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).unwrap().0;
                let (user, password) = login.split_once(':').unwrap();
                let options =
                    async_nats::ConnectOptions::with_user_and_password(user.into(), password.into());
                let client = options.connect(self.host()).await.unwrap();
                for bytes in all {
                    client.publish(channel.clone(), bytes.clone()).await.unwrap();
                }
                client.flush().await.unwrap();
            }
            Backend::Redis => {
                let client = redis::Client::open(self.url.as_str()).unwrap();
                let mut connection = client.get_multiplexed_async_connection().await.unwrap();
                for bytes in all {
                    let publish = redis::cmd("PUBLISH").arg(&channel).arg(&bytes[..]).take();
                    publish.query_async::<()>(&mut connection).await.unwrap();
                }
            }
            Backend::RedisCluster => {
                let client = redis::cluster::ClusterClient::new([self.url.as_str()]).unwrap();
                let mut connection = client.get_async_connection().await.unwrap();
                for bytes in all {
                    let publish = redis::cmd("SPUBLISH").arg(&channel).arg(&bytes[..]).take();
                    publish.query_async::<()>(&mut connection).await.unwrap();
                }
            }
        }
    }
}
