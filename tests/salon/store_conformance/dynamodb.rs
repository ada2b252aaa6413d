//! What only a store behind a service can do or suffer, and in one table.
//!
//! Runs where `SALON_TEST_DYNAMODB_URL` names a server; `.ci/stores` starts one. Without it the tests that need one say
//! on standard error that they were left out; with `SALON_TEST_DYNAMODB_REQUIRED` that is a failure.
//!
//! The server is moto, in the form of `.ci/dynamodb.py`. It differs from the service in what matters here:
//!
//! * It carries out one request after the other: transactions never meet, and nobody is told `TransactionConflict`.
//! * It does not know a repeated transaction by its token: what the token is for shows only where the store does not
//!   need it. A settlement whose answer was lost is `false` here and `true` there.
//! * Its index is never behind, every read is consistent, and it never takes away what has expired.
//! * It does not throttle and asks nobody who they are: for that, tests answer in its place (`refusals`).
//! * It takes more than 4 MiB in a transaction.

mod cuts;
mod front;
mod refusals;
mod requests;
mod setup;
mod shared;

use std::{
    io::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
};
use salon::store::{
    self,
    config::{StoreConfig, StoreKind, StoreUrl},
};

const URL: &str = "SALON_TEST_DYNAMODB_URL";
const REQUIRED: &str = "SALON_TEST_DYNAMODB_REQUIRED";
const REGION: &str = "eu-west-1";

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

/// A table of its own on the server.
#[derive(Debug)]
pub struct Table {
    pub url: String,
    pub name: String,
}

impl Table {
    /// One that is set up.
    pub async fn new() -> Option<Self> {
        let table = Self::absent()?;
        store::open::set_up(&table.config()).await.unwrap();
        Some(table)
    }

    /// A name that no table has.
    pub fn absent() -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let url = server()?;
        let name = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Some(Self { url, name })
    }

    pub fn config(&self) -> StoreConfig {
        StoreConfig {
            kind: StoreKind::Dynamodb,
            url: Some(StoreUrl::new(&self.url)),
            region: Some(REGION.to_owned()),
            table: self.name.clone(),
            ..StoreConfig::default()
        }
    }

    /// To look at it beside the store.
    pub fn client(&self) -> Client {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(REGION))
            .endpoint_url(&self.url)
            .credentials_provider(Credentials::new("test", "test", None, None, "test"));
        Client::from_conf(config.build())
    }

    pub async fn drop(self) {
        self.client().delete_table().table_name(&self.name).send().await.unwrap();
    }
}
