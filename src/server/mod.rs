//! The composition root: opens the backends, builds the graph, serves, and drains in order.
//!
//! A drain: not ready, accept no more, start no more answers and let those that run have half of the grace, end
//! every session with its closing event, wait for the streams to be read, then leave. A client that has stopped
//! reading cannot hold it up beyond the deadline.

pub mod accept;
mod allowances;
mod closing;
mod frames;
mod gates;
pub mod graph;
mod greeting;
mod http2;
mod peers;
pub mod sweep;
pub mod tls;
pub mod tokens;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, lookup_host},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

use crate::{
    allowance::{
        FORGET_INTERVAL,
        usage::{FRESH, Usages},
    },
    auth::directory::Directory,
    bus::{self, Bus},
    clock::{Clock, SystemClock},
    config::Config,
    grpc::{
        admin::AdminApi,
        bounded::Bounded,
        door::{Door, OriginalDoor},
        guard::Guard,
        peer::Peer,
        service::RoomApi,
    },
    llm::{
        open::OpenError,
        route::{NameError, Router},
    },
    server::{
        accept::{Serving, serve},
        gates::Gates,
        graph::{
            Graph, api_limits, bus_config, connection_limits, lease_settings, router, store_config, tls_files,
        },
        http2::serve_io,
        sweep::{Life, Sweeper},
        tls::{files, reload::Reloader},
    },
    session::{Services, drain::Drain},
    store::{self, Store},
    unless::unless,
    wire::pb::{self, room::v1::admin_service_server::AdminServiceServer},
};

/// Why the server could not start.
#[derive(Debug, Error)]
pub enum Error {
    /// The store cannot be opened.
    #[error("cannot open the store")]
    Store(#[source] store::Error),
    /// The bus cannot be used.
    #[error("cannot use the bus")]
    Bus(#[source] bus::Error),
    /// A provider cannot be opened.
    #[error("cannot open a provider of answers")]
    Provider(#[source] OpenError),
    /// The names of models make no sense.
    #[error("the names of models make no sense")]
    Models(#[source] NameError),
    /// Keys of tokens cannot be used.
    #[error("cannot use the keys of tokens")]
    Tokens(#[source] tokens::TokensError),
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address}; is another server running there? grpc.port (GRPC_PORT) chooses another port"
    )]
    Listen {
        /// What was asked for.
        address: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The files of TLS cannot be used.
    #[error("cannot use TLS")]
    Tls(#[source] files::Error),
    /// Reflection cannot be served: the build is broken.
    #[error("cannot serve reflection")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// It cannot be found out what a crash has left open, or what was revoked.
    #[error("cannot read what was open and reserved when a server ended, and what was revoked")]
    Recovery(#[source] store::Error),
}

/// The names health is reported for.
const HEALTH_SERVICES: [&str; 4] = ["", "room.v1.RoomService", "room.v1.AdminService", "api.room.Room"];
/// How often the store is asked whether it can be written to.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
/// How long calls in flight may take when every session has ended.
const CALLS_PATIENCE: Duration = Duration::from_secs(1);
/// How often old idempotency keys are forgotten.
const FORGET_REQUESTS_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// The parts that tests put in place of the configured ones.
#[derive(Debug)]
pub struct Parts {
    /// Where logs are kept.
    pub store: Arc<dyn Store>,
    /// How nodes hint to one another.
    pub bus: Arc<dyn Bus>,
    /// Where answers come from.
    pub router: Arc<Router>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Parts {
    /// The parts that the configuration asks for.
    pub async fn open(config: &Config) -> Result<Self, Error> {
        Ok(Self {
            store: store::open::open(&store_config(config)).await.map_err(Error::Store)?,
            bus: bus::open(&bus_config(config)).await.map_err(Error::Bus)?,
            router: Arc::new(router(config)?),
            clock: Arc::new(SystemClock),
        })
    }
}

/// Connections that wait to be accepted; the kernel may allow fewer.
const BACKLOG: u32 = 1024;

/// An address that is taken, and where connections are refused: a balancer sends nothing to a server that is starting.
#[derive(Debug)]
pub struct Bound {
    socket: TcpSocket,
    /// As it was asked for.
    address: String,
}

impl Bound {
    /// From now on the kernel takes connections.
    fn listen(self) -> Result<TcpListener, Error> {
        let Self { socket, address } = self;
        socket.listen(BACKLOG).map_err(|source| Error::Listen { address, source })
    }
}

/// Binds the configured address: the first of those that it stands for which can be bound.
pub async fn bind(config: &Config) -> Result<Bound, Error> {
    let address = format!("{}:{}", config.grpc.host, config.grpc.port);
    let found = lookup_host((config.grpc.host.as_str(), config.grpc.port)).await;
    let bound = found.and_then(|mut found| {
        let mut bound = Err(std::io::ErrorKind::AddrNotAvailable.into());
        while bound.is_err()
            && let Some(address) = found.next()
        {
            bound = bind_to(address);
        }
        bound
    });
    match bound {
        Ok(socket) => Ok(Bound { socket, address }),
        Err(source) => Err(Error::Listen { address, source }),
    }
}

fn bind_to(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of a server that has just ended must not hold up the next one.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    graph: Graph,
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    health: HealthReporter,
    /// Tasks of sessions.
    sessions: TaskTracker,
    /// Tasks of connections.
    connections: TaskTracker,
    /// The server's own few tasks.
    tasks: TaskTracker,
    stop_accepting: CancellationToken,
    drain: Drain,
    stop: CancellationToken,
    abort: CancellationToken,
    address: Option<SocketAddr>,
    serving: Serving,
    /// `None`: nobody shares the store.
    life: Option<Life>,
}

impl Server {
    /// Recovers what a crash has left, then serves on `listener`; without one, only what
    /// [`Server::serve_connection`] is given.
    pub async fn start(
        config: &Config,
        parts: Parts,
        listener: impl Into<Option<TcpListener>>,
    ) -> Result<Self, Error> {
        let listener: Option<TcpListener> = listener.into();
        let (stop, drain) = (CancellationToken::new(), Drain::default());
        let tls = match tls_files(config) {
            Some(files) => Some(Reloader::start(files, Arc::clone(&parts.clock)).await.map_err(Error::Tls)?),
            None => None,
        };
        let (tls, reloader) = tls.unzip();
        let gates = Gates::open(config, &parts.store, &parts.clock).map_err(Error::Tokens)?;
        let graph = graph::build(config, &parts, &stop, drain.clone(), gates.gate.clone());
        let Parts { store, bus, router: _, clock } = parts;
        gates.start(&graph.tasks, stop.clone()).await.map_err(Error::Recovery)?;
        let (life, sweeper) = tidy_up(config, &store, &graph).await.map_err(Error::Recovery)?;
        let sessions = TaskTracker::new();
        let api = RoomApi::new(
            graph.rooms.clone(),
            graph.budgets.clone(),
            graph.generator.clone(),
            api_limits(config),
            graph.services.allowances.clone(),
            gates.gate.clone(),
        );
        let door = Door::new(api, Arc::clone(&graph.services), sessions.clone(), config.limits.grpc_message);
        let (health, routes) = routes(&graph.services, door, gates.admin(&graph))?;
        let server = Self {
            address: listener.as_ref().and_then(|listener| listener.local_addr().ok()),
            graph,
            store,
            bus,
            health,
            sessions,
            connections: TaskTracker::new(),
            tasks: TaskTracker::new(),
            stop_accepting: CancellationToken::new(),
            drain,
            stop,
            abort: CancellationToken::new(),
            serving: Serving { routes, limits: connection_limits(config), tls },
            life,
        };
        if let Some(listener) = listener {
            server.serve(listener);
        }
        if let Some(sweeper) = sweeper {
            server.tasks.spawn(sweeper.run(server.stop_accepting.clone()));
        }
        if let Some(reloader) = reloader {
            server.tasks.spawn(reloader.run(server.stop_accepting.clone()));
        }
        server.start_tasks(config, gates.directory, clock).await;
        Ok(server)
    }

    /// Serves at an address that was taken before the start. It may still be another's: of two that start at the same
    /// time, the second one hears of it here.
    pub fn listen_on(&mut self, bound: Bound) -> Result<(), Error> {
        let listener = bound.listen()?;
        self.address = listener.local_addr().ok();
        self.serve(listener);
        Ok(())
    }

    fn serve(&self, listener: TcpListener) {
        let (stop, abort) = (self.stop_accepting.clone(), self.abort.clone());
        let serving = serve(listener, self.serving.clone(), self.connections.clone(), stop, abort);
        self.tasks.spawn(serving);
    }

    /// Serves one connection that somebody else has accepted.
    pub fn serve_connection(&self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let (routes, limits) = (self.serving.routes.clone().prepare(), self.serving.limits);
        let (stop, abort) = (self.stop_accepting.clone(), self.abort.clone());
        self.connections.spawn(async move {
            unless(serve_io(io, Peer::default(), routes, limits, stop), abort.cancelled()).await;
        });
    }

    async fn start_tasks(&self, config: &Config, directory: Directory, clock: Arc<dyn Clock>) {
        report_health(&self.health, self.store.check().await.is_ok()).await;
        let (store, health, stop) =
            (Arc::clone(&self.store), self.health.clone(), self.stop_accepting.clone());
        self.tasks.spawn(async move {
            stop.run_until_cancelled(watch_health(store.as_ref(), &health)).await;
        });
        let (services, stop) = (Arc::clone(&self.graph.services), self.stop.clone());
        self.tasks.spawn(async move {
            let mut tick = tokio::time::interval(FORGET_INTERVAL);
            while stop.run_until_cancelled(tick.tick()).await.is_some() {
                services.allowances.forget_quiet();
            }
        });
        let allowances = self.graph.services.allowances.clone();
        let usages = Usages::new(Arc::clone(&self.store), allowances).with_quotas_of(directory);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let mut tick = tokio::time::interval(FRESH);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while stop.run_until_cancelled(tick.tick()).await.is_some() {
                // A store that hangs holds up nobody but this look.
                stop.run_until_cancelled(usages.refresh()).await;
            }
        });
        let kept = config.rooms.request_ids_kept;
        let (store, stop) = (Arc::clone(&self.store), self.stop.clone());
        self.tasks.spawn(async move {
            let mut tick = tokio::time::interval(FORGET_REQUESTS_INTERVAL);
            while stop.run_until_cancelled(tick.tick()).await.is_some() {
                forget_requests(store.as_ref(), clock.as_ref(), kept).await;
            }
        });
    }

    /// Where it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The rooms, for tests and for what runs in the same process.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Drains and ends, within about `grace`.
    pub async fn shutdown(self, grace: Duration) {
        let deadline = Instant::now() + grace;
        tracing::info!(sessions = self.sessions.len(), ?grace, "draining");
        // The watcher first, so that nobody reports anything else afterwards.
        self.stop_accepting.cancel();
        report_health(&self.health, false).await;
        // A stream on a connection that is open already is refused with a code that has its client try elsewhere.
        self.drain.refuse();
        let answers = self.graph.services.dispatcher.drain(grace / 2);
        // An end that cannot be written down (a full disk) is left to the next start: sessions need the rest of the
        // grace.
        if tokio::time::timeout_at(deadline - grace / 4, answers).await.is_err() {
            tracing::warn!(
                "the ends of answers could not be recorded; another server or the next start will do it"
            );
        }
        // Nobody calls tools any more; their servers end while the streams do.
        self.graph.mcp.start_shutdown();
        // A stream is counted twice: its task, and its answer that is being read.
        self.drain.close(deadline, self.sessions.len() / 2);
        self.sessions.close();
        self.connections.close();
        // Streams end when their last bytes are read; whoever does not read is cut off at the deadline.
        if tokio::time::timeout_at(deadline, self.sessions.wait()).await.is_err() {
            tracing::warn!(streams = self.sessions.len(), "streams were cut: their clients did not read");
        }
        // What else is open gets a moment: a call in flight. A watcher of our health would stay for ever.
        let calls = deadline.min(Instant::now() + CALLS_PATIENCE);
        if tokio::time::timeout_at(calls, self.connections.wait()).await.is_err() {
            tracing::debug!(connections = self.connections.len(), "connections were cut");
        }
        self.abort.cancel();
        self.connections.wait().await;
        self.graph.mcp.shutdown().await;
        self.stop.cancel();
        for tracker in [&self.graph.tasks, &self.tasks] {
            tracker.close();
            tracker.wait().await;
        }
        // The others need not wait until it is over, if anything was left open after all.
        if let Some(life) = self.life {
            life.end().await;
        }
        self.bus.close().await;
        if let Err(error) = self.store.close().await {
            tracing::error!(error = &error as &(dyn std::error::Error + 'static), "the store did not close");
        }
        tracing::info!("ended");
    }
}

/// Closes what servers that are gone have left open. What is left to do for a [`Sweeper`]: nothing, if nobody shares
/// the store and all is closed.
async fn tidy_up(
    config: &Config,
    store: &Arc<dyn Store>,
    graph: &Graph,
) -> Result<(Option<Life>, Option<Sweeper>), store::Error> {
    let settings = lease_settings(config);
    let (life, pulse) = match store.is_shared() {
        true => Some(Life::begin(store, graph, settings).await?).unzip(),
        false => (None, None),
    };
    let mut sweeper = Sweeper::new(Arc::clone(store), graph, settings, pulse);
    let left = sweeper.sweep().await?;
    Ok((life, (store.is_shared() || left > 0).then_some(sweeper)))
}

fn routes(services: &Services, door: Door, admin: AdminApi) -> Result<(HealthReporter, Routes), Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let v1 = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(Error::Reflection)?;
    let v1alpha = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1alpha()
        .map_err(Error::Reflection)?;
    let routes = Routes::new(Guard::new(services, door.clone()))
        .add_service(Guard::new(services, OriginalDoor(door)))
        .add_service(Guard::new(services, AdminServiceServer::new(admin)))
        .add_service(Bounded::new(health_service))
        .add_service(Bounded::new(v1))
        .add_service(Bounded::new(v1alpha));
    Ok((health, routes))
}

async fn report_health(health: &HealthReporter, serving: bool) {
    use tonic_health::ServingStatus;
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in HEALTH_SERVICES {
        health.set_service_status(service, status).await;
    }
}

async fn watch_health(store: &dyn Store, health: &HealthReporter) {
    let mut tick = tokio::time::interval(HEALTH_INTERVAL);
    let mut was_ready = true;
    loop {
        tick.tick().await;
        let ready = match store.check().await {
            Ok(()) => true,
            Err(error) => {
                if was_ready {
                    tracing::error!(
                        error = &error as &(dyn std::error::Error + 'static),
                        "not ready: the store cannot be written to"
                    );
                }
                false
            }
        };
        if ready && !was_ready {
            tracing::info!("ready again: the store can be written to");
        }
        was_ready = ready;
        report_health(health, ready).await;
    }
}

async fn forget_requests(store: &dyn Store, clock: &dyn Clock, kept: Duration) {
    let kept_ms = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
    let before = crate::clock::Timestamp(clock.now().0.saturating_sub(kept_ms));
    match store.forget_requests(before).await {
        Ok(0) => {}
        Ok(forgotten) => tracing::debug!(forgotten, "old request ids forgotten"),
        Err(error) => tracing::warn!(%error, "cannot forget old request ids"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn an_address_that_is_taken_refuses_until_it_is_served() {
        let mut config = Config::default();
        (config.grpc.host, config.grpc.port) = ("127.0.0.1".to_owned(), 0);
        let bound = bind(&config).await.unwrap();
        let address = bound.socket.local_addr().unwrap();
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        // Nobody listens yet, so that another one may think that it has the port.
        config.grpc.port = address.port();
        let second = bind(&config).await.unwrap();
        let listener = bound.listen().unwrap();
        TcpStream::connect(address).await.unwrap();
        for late in [second.listen().unwrap_err(), bind(&config).await.unwrap_err()] {
            let said = late.to_string();
            assert!(said.contains(&address.to_string()) && said.contains("another server"), "{said}");
        }
        drop(listener);
    }
}
