//! Keeps one server connected: connects, lists its tools, looks whether it is alive, and begins again.
//!
//! One task per server, which ends only with the token. Whatever goes wrong ends the connection: its tools are taken
//! away at once, its child process is ended, and after a growing wait the next try begins. A list that cannot be read
//! counts as a failure too, since tools that nobody can list cannot be called.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use rmcp::{
    ClientHandler, RoleClient, ServiceError,
    model::{
        ClientCapabilities, ClientConfig, ClientRequest, Implementation, PaginatedRequestParams, PingRequest,
        Tool,
    },
    service::{ClientInitializeError, NotificationContext, Peer, serve_client_with_ct},
    transport::{
        IntoTransport, StreamableHttpClientTransport, async_rw::AsyncRwTransport,
        streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use secrecy::ExposeSecret as _;
use thiserror::Error;
use tokio::{
    sync::Notify,
    task::{JoinError, spawn_blocking},
    time::{Instant, MissedTickBehavior, error::Elapsed, interval_at, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::mcp::{
    catalog::{Catalog, TOOLS_MAX, catalog},
    child::Child,
    config::{Endpoint, Pace},
    guard::Guarded,
    server::{CALLS_MAX, Server, reason},
};

/// The largest message of a server; what is larger is dropped before it is in memory.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Tools that are read before the rest is left out: some of them may be hidden.
const LISTED_MAX: usize = 8 * TOOLS_MAX;
/// Pages that are read, so that a server whose list has no end does not keep us for ever.
const PAGES_MAX: usize = 100;
/// How long the end of a session may take to reach the server.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// Between two signs of life that the system asks for before it gives a connection up, and how many there are.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// Why a connection has ended, or did not begin.
#[derive(Debug, Error)]
enum Failure {
    #[error("the process cannot be started")]
    Start(#[source] std::io::Error),
    #[error("the http client cannot be made")]
    HttpClient(#[source] reqwest::Error),
    #[error("a header is none")]
    Header,
    #[error("the server does not begin as the protocol says")]
    Initialize(#[source] Box<ClientInitializeError>),
    #[error("the server did not answer within its connect_timeout: {0}")]
    Timeout(&'static str),
    #[error("the list of tools cannot be read")]
    List(#[source] ServiceError),
    #[error("the tools cannot be read")]
    Read(#[source] JoinError),
    #[error("the server does not answer a ping")]
    Ping(#[source] ServiceError),
    #[error("the connection was closed")]
    Closed,
}

/// Keeps `server` connected until `stop`.
pub(super) async fn keep(server: Arc<Server>, stop: CancellationToken) {
    let pace = server.config.pace;
    let mut retry = pace.first_retry;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let failure = match connect(&server, &stop).await {
            Ok(()) => break,
            Err(failure) => failure,
        };
        // Who was there for a while is not a server that dies at once, again and again.
        if began.elapsed() > pace.last_retry {
            retry = pace.first_retry;
        }
        let wait = jittered(retry);
        let why = reason(&failure, &server.secrets);
        tracing::warn!(server = %server.config.name, reason = why, retry_in = ?wait, "MCP server is not connected");
        stop.run_until_cancelled(sleep(wait)).await;
        retry = (retry * 2).min(pace.last_retry);
    }
}

/// From half of `wait` to all of it, so that nodes do not come back all at once.
fn jittered(wait: Duration) -> Duration {
    let (random, _) = Uuid::new_v4().as_u64_pair();
    let share = u32::try_from(random & 0xFFFF).unwrap_or(0);
    wait / 2 + wait / 2 * share / 0xFFFF
}

/// One connection from its beginning to its end.
async fn connect(server: &Arc<Server>, stop: &CancellationToken) -> Result<(), Failure> {
    match &server.config.endpoint {
        Endpoint::Stdio { .. } => {
            let (child, stdout, stdin) = Child::start(server).map_err(Failure::Start)?;
            let transport = AsyncRwTransport::<RoleClient, _, _>::new(stdout, stdin)
                .with_max_line_length(MESSAGE_BYTES_MAX);
            let outcome = converse(server, transport, stop).await;
            child.end(server).await;
            outcome
        }
        Endpoint::Http { url, headers, .. } => {
            let url = url.expose_secret();
            let mut custom = HashMap::new();
            for (name, value) in headers {
                let name: HeaderName = name.parse().map_err(|_| Failure::Header)?;
                let mut value: HeaderValue = value.expose_secret().parse().map_err(|_| Failure::Header)?;
                value.set_sensitive(true);
                custom.insert(name, value);
            }
            let config = StreamableHttpClientTransportConfig::with_uri(url)
                .custom_headers(custom)
                .max_concurrent_requests(CALLS_MAX + 1)
                .max_sse_event_size(MESSAGE_BYTES_MAX)
                // A server that has forgotten us may have other tools now: we begin anew, too.
                .reinit_on_expired_session(false);
            let http = http_client(server, url).map_err(Failure::HttpClient)?;
            let transport = StreamableHttpClientTransport::with_client(http, config);
            converse(server, transport, stop).await
        }
    }
}

/// Follows no redirect: it could lead anywhere, with our headers.
fn http_client(server: &Server, url: &str) -> Result<reqwest::Client, reqwest::Error> {
    // Fails when one is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .user_agent(concat!("salon/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(server.config.connect_timeout)
        // Ends calls over a connection whose other end is gone without a word, also while it is not asked for pings.
        .tcp_keepalive(server.config.pace.check)
        .tcp_keepalive_interval(KEEPALIVE_INTERVAL)
        .tcp_keepalive_retries(KEEPALIVE_RETRIES)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never());
    let url = reqwest::Url::parse(url).ok();
    let host = url.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    // To this machine leads no proxy.
    let is_local = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    let builder = if is_local { builder.no_proxy() } else { builder };
    if url.as_ref().is_some_and(|url| url.scheme() == "http") {
        if !is_local && !server.secrets.is_empty() {
            let server = &server.config.name;
            tracing::warn!(%server, "the secrets for this MCP server travel unencrypted: its url is not https");
        }
        // No certificate is ever looked at, so none need be there.
        return builder.tls_certs_only([]).build();
    }
    builder.build()
}

async fn converse<T, E, A>(
    server: &Arc<Server>,
    transport: T,
    stop: &CancellationToken,
) -> Result<(), Failure>
where
    T: IntoTransport<RoleClient, E, A>,
    E: std::error::Error + Send + Sync + 'static,
{
    let (end, changed) = (CancellationToken::new(), Arc::new(Notify::new()));
    let handler = Handler { changed: Arc::clone(&changed) };
    let guarded = Guarded::new(transport.into_transport(), Arc::clone(server));
    let connecting =
        timeout(server.config.connect_timeout, Box::pin(serve_client_with_ct(handler, guarded, end.clone())));
    let Some(connected) = stop.run_until_cancelled(connecting).await else { return Ok(()) };
    let service = connected
        .map_err(|Elapsed { .. }| Failure::Timeout("initialize"))?
        .map_err(|error| Failure::Initialize(Box::new(error)))?;
    let peer = service.peer().clone();
    let mut waiting = Box::pin(service.waiting());
    let (outcome, has_ended) = tokio::select! {
        biased;
        () = stop.cancelled() => (Ok(()), false),
        _ = &mut waiting => (Err(Failure::Closed), true),
        failure = attend(server, &peer, &changed) => (Err(failure), false),
    };
    server.disconnect();
    end.cancel();
    if !has_ended && timeout(CLOSE_PATIENCE, waiting).await.is_err() {
        tracing::debug!(server = %server.config.name, "the end of the session was not confirmed");
    }
    outcome
}

/// Lists the tools, again whenever they may have changed, and looks whether the server is alive. Ends only with a
/// failure.
async fn attend(server: &Arc<Server>, peer: &Peer<RoleClient>, changed: &Notify) -> Failure {
    let Pace { check, relist, .. } = server.config.pace;
    let mut tick = interval_at(Instant::now() + check, check);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        match list(server, peer).await {
            Ok(tools) => match read(server, tools).await {
                Ok(catalog) => server.connect(peer.clone(), catalog),
                Err(failure) => return failure,
            },
            Err(failure) => return failure,
        }
        // A server that changes its tools all the time is not listed all the time.
        let earliest = Instant::now() + relist;
        loop {
            let usual = server.config.connect_timeout;
            let (is_suspect, patience) = tokio::select! {
                biased;
                () = changed.notified() => break sleep_until(earliest).await,
                () = server.suspect.notified() => (true, usual),
                // The next calls need not wait as long for a connection that is dead. But whoever does one thing at a
                // time may still be at the call that was given up.
                () = server.silent.notified() => (false, usual.max(server.config.call_timeout)),
                // Whoever works on calls need not answer anything else.
                _ = tick.tick(), if server.is_quiet() => (false, usual),
            };
            if let Err(failure) = ping(peer, patience).await {
                return failure;
            }
            if is_suspect {
                break sleep_until(earliest).await;
            }
        }
    }
}

async fn list(server: &Server, peer: &Peer<RoleClient>) -> Result<Vec<Tool>, Failure> {
    let reading = async {
        let (mut tools, mut cursor) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let params = PaginatedRequestParams::default().with_cursor(cursor.take());
            let page = peer.list_tools(Some(params)).await.map_err(Failure::List)?;
            tools.extend(page.tools);
            cursor = page.next_cursor;
            if cursor.is_none() || tools.len() > LISTED_MAX {
                break;
            }
        }
        if cursor.is_some() {
            tracing::warn!(server = %server.config.name, "the list of tools is too long: its rest is left out");
        }
        tools.truncate(LISTED_MAX);
        Ok(tools)
    };
    timeout(server.config.connect_timeout, reading).await.unwrap_or(Err(Failure::Timeout("tools/list")))
}

/// Makes tools of what is listed, where it may take its time.
async fn read(server: &Arc<Server>, listed: Vec<Tool>) -> Result<Catalog, Failure> {
    let server = Arc::clone(server);
    let reading = spawn_blocking(move || catalog(&server.config, listed, &server.catalog()));
    reading.await.map_err(Failure::Read)
}

/// An error that the server itself answers is a sign of life, too.
async fn ping(peer: &Peer<RoleClient>, patience: Duration) -> Result<(), Failure> {
    let ping = peer.send_request(ClientRequest::PingRequest(PingRequest::default()));
    match timeout(patience, ping).await {
        Ok(Ok(_) | Err(ServiceError::McpError(_) | ServiceError::UnexpectedResponse)) => Ok(()),
        Ok(Err(error)) => Err(Failure::Ping(error)),
        Err(_) => Err(Failure::Timeout("ping")),
    }
}

/// What a server may ask of us, which is nothing: it has no model, no roots and nobody to ask.
struct Handler {
    changed: Arc<Notify>,
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("salon", env!("CARGO_PKG_VERSION")),
        )
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}
