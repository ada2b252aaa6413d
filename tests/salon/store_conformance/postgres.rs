//! What only a store that is shared, and behind a network, can do or suffer.
//!
//! Runs where `SALON_TEST_POSTGRES_URL` names a server; `.ci/stores` starts one. Without it the tests that need one say
//! on standard error that they were left out; with `SALON_TEST_POSTGRES_REQUIRED` that is a failure.

mod cluster;
mod cuts;
pub mod engine;
mod proxy;
mod refusals;
mod servers;
mod shared;

use std::{
    io::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use salon::store::config::{StoreConfig, StoreKind, StoreUrl};
use tokio_postgres::NoTls;

const URL: &str = "SALON_TEST_POSTGRES_URL";
const REQUIRED: &str = "SALON_TEST_POSTGRES_REQUIRED";

/// The server to test with; `None`: there is none, which is said.
pub fn server() -> Option<String> {
    let url = std::env::var(URL).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        assert!(std::env::var_os(REQUIRED).is_none(), "{URL} is not set");
        // Past the capturing of the test's output, which is shown of tests that fail.
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let _ = writeln!(std::io::stderr(), "left out: {test}: {URL} is not set; .ci/stores sets it");
    }
    url
}

/// Runs SQL beside the store.
pub async fn sql(url: &str, sql: &str) -> Vec<tokio_postgres::SimpleQueryMessage> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let answer = client.simple_query(sql).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
    answer
}

/// The first column of the first row.
pub async fn value(url: &str, query: &str) -> Option<String> {
    let answer = sql(url, query).await;
    answer.into_iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

/// What a URL consists of, to make another of it.
#[derive(Debug)]
pub struct Parts {
    pub user: String,
    pub password: String,
    pub host: String,
    pub port: u16,
    pub database: String,
    pub sslmode: String,
}

impl Parts {
    /// Of a server that is reached by TCP, as `.ci/stores` starts it.
    pub fn of(url: &str) -> Self {
        let config: tokio_postgres::Config = url.parse().unwrap();
        let Some(tokio_postgres::config::Host::Tcp(host)) = config.get_hosts().first() else {
            panic!("{URL} names no host");
        };
        Self {
            user: config.get_user().unwrap_or_default().to_owned(),
            password: String::from_utf8(config.get_password().unwrap_or_default().to_vec()).unwrap(),
            host: host.clone(),
            port: config.get_ports().first().copied().unwrap_or(5432),
            database: config.get_dbname().unwrap_or_default().to_owned(),
            sslmode: "disable".to_owned(),
        }
    }

    pub fn url(&self) -> String {
        let Self { user, password, host, port, database, sslmode } = self;
        let password = if password.is_empty() { String::new() } else { format!(":{password}") };
        format!("postgres://{user}{password}@{host}:{port}/{database}?sslmode={sslmode}")
    }
}

/// A schema of its own on the server.
#[derive(Debug)]
pub struct Schema {
    pub url: String,
    pub name: String,
}

impl Schema {
    pub async fn new() -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let url = server()?;
        let name = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // Of a process that had the same number and did not end well.
        sql(&url, &format!("DROP SCHEMA IF EXISTS {name} CASCADE")).await;
        Some(Self { url, name })
    }

    pub fn config(&self) -> StoreConfig {
        StoreConfig {
            kind: StoreKind::Postgres,
            url: Some(StoreUrl::new(&self.url)),
            schema: self.name.clone(),
            pool_size: 8,
            ..StoreConfig::default()
        }
    }

    pub async fn drop(self) {
        sql(
            &self.url,
            &format!("SET client_min_messages = warning; DROP SCHEMA IF EXISTS {} CASCADE", self.name),
        )
        .await;
    }
}
