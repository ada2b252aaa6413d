//! The pool: every call of the store is one statement on a connection of it.
//!
//! A call waits for a connection while all are in use, and never longer than `store.timeout`. The server ends a
//! statement that takes longer than that; if the server itself is silent the call ends a little later, and its
//! connection is not used again. A lost connection fails the calls that wait for it, and the next call opens another:
//! the server may be restarted under a running store. A question that only reads is asked once more then; whether a
//! write was carried out is not known, and nobody guesses.
//!
//! Leases have a pool of their own, with little patience: a node that cannot say in time that it lives is dead to the
//! others, so what it says must not wait behind requests, nor long for a connection that is lost in silence.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio::time::timeout;
use tokio_postgres::{
    Config, Row,
    config::{SslMode, TargetSessionAttrs},
    types::ToSql,
};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::TaskTracker;

use crate::store::{
    Error, ErrorKind,
    config::{Durability, StoreConfig},
    postgres::failure::{caused, closed, error, failed, not_connected, was_cut, was_undone},
};

/// How long connecting may take, for each address; longer than a packet that is sent twice.
const CONNECT: Duration = Duration::from_secs(5);
/// How much longer than the server we wait: for its answer that it took too long.
const SILENCE: Duration = Duration::from_secs(1);
/// What one beat, or one look at the leases, may take on the server; with what connecting and its silence may take,
/// a lost connection costs one beat, and a lease is over after five.
const LEASE_PATIENCE: Duration = Duration::from_secs(1);
/// One for who says that this node lives, one for who looks at the others: neither waits for the other.
const LEASE_CONNECTIONS: usize = 2;
/// A connection of which nobody has heard for so long is asked whether it is alive: a firewall may have dropped it.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How often a statement is sent that was undone, or a question whose connection was lost.
const TRIES: usize = 5;

/// A statement, and what is known of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    /// The statement.
    pub(super) sql: &'static str,
    /// What it does, for errors.
    pub(super) doing: &'static str,
    /// What may be done when its answer is lost.
    pub(super) asking: Asking,
}

/// What may be done when an answer is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    /// Ask again: nothing has changed.
    ToRead,
    /// Nothing: it may have been carried out.
    ToWrite,
    /// As [`Asking::ToWrite`]; it takes room on the disk, so an answer tells that there is some.
    TakesRoom,
}

/// The pool, and who uses it.
pub(super) struct Connections {
    pool: Pool,
    patience: Duration,
    /// The calls that have begun.
    calls: TaskTracker,
    /// Whether a write failed and none that takes room has worked since, so that a check must try for itself.
    failing: AtomicBool,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("status", &self.pool.status()).finish_non_exhaustive()
    }
}

impl Connections {
    /// A pool without a connection, for requests.
    pub(super) fn new(config: &StoreConfig) -> Result<Self, Error> {
        let connecting = config.timeout.max(CONNECT);
        Self::pool(config, server(config)?, connecting)
    }

    /// A pool without a connection, for leases alone: nothing is long in vain.
    pub(super) fn for_leases(config: &StoreConfig) -> Result<Self, Error> {
        let timeout = config.timeout.min(LEASE_PATIENCE);
        let config = StoreConfig { pool_size: LEASE_CONNECTIONS, timeout, ..config.clone() };
        let mut server = server(&config)?;
        let each = server.get_connect_timeout().map_or(LEASE_PATIENCE, |set| LEASE_PATIENCE.min(*set));
        server.connect_timeout(each);
        // Of several addresses all but the last may be silent.
        let addresses = server.get_hosts().len().max(server.get_hostaddrs().len());
        let connecting = each.saturating_mul(u32::try_from(addresses).unwrap_or(u32::MAX));
        Self::pool(&config, server, connecting.saturating_add(SILENCE))
    }

    fn pool(config: &StoreConfig, server: Config, connecting: Duration) -> Result<Self, Error> {
        let tls = MakeRustlsConnect::new(tls(server.get_ssl_mode())?);
        let how = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let session = session(config);
        let prepare = Hook::async_fn(move |client, _| {
            let session = session.clone();
            Box::pin(async move { client.batch_execute(&session).await.map_err(HookError::Backend) })
        });
        let pool = Pool::builder(Manager::from_config(server, tls, how))
            .max_size(config.pool_size)
            .wait_timeout(Some(config.timeout))
            .create_timeout(Some(connecting))
            .recycle_timeout(Some(config.timeout))
            .runtime(Runtime::Tokio1)
            .post_create(prepare)
            .build()
            .map_err(|source| caused(ErrorKind::Unusable, "cannot make its pool", source))?;
        let failing = AtomicBool::new(false);
        Ok(Self { pool, patience: config.timeout + SILENCE, calls: TaskTracker::new(), failing })
    }

    /// A connection, for what needs more than one statement: bringing the schema up to date.
    pub(super) async fn take(&self) -> Result<Object, Error> {
        self.pool.get().await.map_err(|source| not_connected("connect", source))
    }

    /// The rows that answer a question.
    pub(super) async fn ask(
        &self,
        question: Question,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Error> {
        self.try_ask(question, parameters).await.map_err(|failed| failed.error)
    }

    /// As [`Connections::ask`], for who must know whether it may have been carried out.
    pub(super) async fn try_ask(
        &self,
        question: Question,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failed> {
        if self.calls.is_closed() {
            return Err(Failed::plain(closed()));
        }
        let _call = self.calls.token();
        let mut tries = 1;
        loop {
            let answer = self.ask_once(question, parameters).await;
            match (question.asking, &answer) {
                (Asking::ToWrite | Asking::TakesRoom, Err(_)) => self.failing.store(true, Ordering::SeqCst),
                // A row that is changed in its place says nothing of a disk that is full.
                (Asking::TakesRoom, Ok(_)) => self.failing.store(false, Ordering::SeqCst),
                (Asking::ToRead, _) | (Asking::ToWrite, Ok(_)) => {}
            }
            match answer {
                Err(Failed { again: true, .. }) if tries < TRIES => tries += 1,
                Err(failed) => return Err(failed),
                Ok(rows) => return Ok(rows),
            }
        }
    }

    /// Whether a write failed, and none that takes room on the disk has worked since.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::SeqCst)
    }

    /// Waits for the calls that have begun, lets nobody else in, and closes the connections.
    pub(super) async fn close(&self) {
        self.calls.close();
        self.calls.wait().await;
        self.pool.close();
    }

    async fn ask_once(
        &self,
        question: Question,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Failed> {
        let Question { sql, doing, asking } = question;
        let client = self.pool.get().await;
        let client = client.map_err(|source| Failed::plain(not_connected(doing, source)))?;
        let asked = async {
            let statement = client.prepare_cached(sql).await?;
            client.query(&statement, parameters).await
        };
        match timeout(self.patience, asked).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(source)) => {
                let in_doubt = was_cut(&source);
                let again = was_undone(&source) || (asking == Asking::ToRead && in_doubt);
                Err(Failed { error: failed(doing, source), again, in_doubt })
            }
            Err(_) => {
                // What it still waits for must not be waited for by the next.
                drop(Object::take(client));
                let what = format!("could not {doing}: its server is silent for longer than store.timeout");
                Err(Failed { error: error(ErrorKind::Unavailable, what), again: false, in_doubt: true })
            }
        }
    }
}

/// Why there is no answer.
pub(super) struct Failed {
    /// What to tell.
    pub(super) error: Error,
    /// Whether it may have been carried out, or may still be.
    pub(super) in_doubt: bool,
    /// Whether to ask again.
    again: bool,
}

impl Failed {
    /// The server was not asked.
    fn plain(error: Error) -> Self {
        Self { error, in_doubt: false, again: false }
    }
}

/// What `store.url` says. It is never repeated: nobody can know which part of a text that is no URL is the password.
fn server(config: &StoreConfig) -> Result<Config, Error> {
    let unusable = |what: &str| error(ErrorKind::Unusable, what);
    let Some(url) = &config.url else {
        return Err(unusable("needs the URL of its server: set store.url"));
    };
    let mut server: Config = url.expose().parse().map_err(|_| {
        unusable(
            "does not understand store.url: write postgres://user:password@host:5432/database, with %XX for what \
             is special in the password",
        )
    })?;
    if server.get_hosts().is_empty() && server.get_hostaddrs().is_empty() {
        return Err(unusable(
            "finds no host in store.url: write postgres://user:password@host:5432/database",
        ));
    }
    if server.get_application_name().is_none() {
        server.application_name("salon");
    }
    if server.get_connect_timeout().is_none() {
        server.connect_timeout(CONNECT);
    }
    // A standby cannot be written to: of several hosts the one is taken that can.
    server.target_session_attrs(TargetSessionAttrs::ReadWrite);
    server.keepalives_idle(KEEPALIVE);
    Ok(server)
}

/// Certificates are always verified, by the authorities of this machine or of `SSL_CERT_FILE`.
fn tls(mode: SslMode) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    if mode != SslMode::Disable {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(|source| caused(ErrorKind::Unusable, "cannot speak TLS", source))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// What every connection is told first.
fn session(config: &StoreConfig) -> String {
    let synchronous = match config.durability {
        // Never less than the server is set to: `remote_apply` and `remote_write` are an operator's own choice.
        Durability::Fsync => {
            "SELECT set_config('synchronous_commit', 'on', false)
             WHERE current_setting('synchronous_commit') IN ('off', 'local');"
        }
        Durability::Os => "SET synchronous_commit = off;",
    };
    // Every question has an index that gives its rows in their order: the planner must not think otherwise of a table
    // that is still young.
    format!(
        "SET search_path TO {schema};
         SET statement_timeout = {timeout};
         SET idle_in_transaction_session_timeout = '60s';
         SET default_transaction_isolation = 'read committed';
         SET enable_seqscan = off;
         SET enable_bitmapscan = off;
         SET jit = off;
         SET client_min_messages = warning;
         {synchronous}",
        schema = quoted(&config.schema),
        timeout = config.timeout.as_millis(),
    )
}

/// A name as SQL has it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::config::{StoreKind, StoreUrl};

    fn config(url: &str) -> StoreConfig {
        StoreConfig { kind: StoreKind::Postgres, url: Some(StoreUrl::new(url)), ..StoreConfig::default() }
    }

    #[test]
    fn a_url_that_is_none_is_refused_without_a_word_of_it() {
        for url in [
            "s3cret",
            "http://s3cret@host/db",
            "postgres://me:s3cret@:x/db",
            "postgres://me:s3cret@host/db?s3cret=1",
        ] {
            let refused = server(&config(url)).unwrap_err();
            assert_eq!(refused.kind, ErrorKind::Unusable);
            assert!(refused.what.contains("store.url"), "{refused}");
            assert!(!format!("{refused:?}").contains("s3cret"), "{refused:?}");
        }
        assert!(server(&StoreConfig::default()).unwrap_err().what.contains("set store.url"));
        assert!(server(&config("postgres:///db")).unwrap_err().what.contains("no host"));
        server(&config("postgres://me:s3cret@a:1,b:2/db?sslmode=require")).unwrap();
    }

    #[test]
    fn a_connection_waits_for_the_disk_unless_it_is_told_not_to() {
        let fsync = config("postgres://h/d");
        assert!(session(&fsync).contains("'on'"));
        let os = StoreConfig { durability: Durability::Os, ..fsync };
        assert!(session(&os).contains("SET synchronous_commit = off"));
    }
}
