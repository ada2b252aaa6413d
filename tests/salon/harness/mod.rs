//! A whole server in this process, and clients that talk to it over real gRPC.
//!
//! Nothing here sleeps until something works: every wait is for an event, with a deadline that only a fault reaches.
#![allow(dead_code, reason = "not every test uses every helper")]

pub mod gate;
pub mod held;
pub mod network;
pub mod raw;
pub mod session;
pub mod tenants;

use std::{sync::Arc, time::Duration};

use salon::{
    bus::{Bus, local::LocalBus},
    clock::{Clock, SystemClock, Timestamp},
    config::{Config, RateWord, UserRates},
    llm::{Provider, offline::OfflineProvider, route::Router},
    server::{Parts, Server, graph},
    store::{Store, memory::MemoryStore},
    wire::pb::room::v1::{
        self as pb, admin_service_client::AdminServiceClient, room_service_client::RoomServiceClient,
    },
};
use tokio::{net::TcpListener, time::Instant};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

pub use session::Session;
pub use tenants::{Shown, Tenants};

/// What only a fault reaches.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How a test's server is built; the defaults are the shipped ones with a store in memory.
pub struct Setup {
    pub config: Box<Config>,
    pub store: Arc<dyn Store>,
    pub bus: Arc<dyn Bus>,
    pub provider: Arc<dyn Provider>,
    pub others: Vec<Arc<dyn Provider>>,
    pub clock: Arc<dyn Clock>,
}

impl Default for Setup {
    fn default() -> Self {
        let mut config = Box::<Config>::default();
        // Tests talk faster than people; what is limited is tested where the limit is.
        config.limits.messages_per_second = 1_000_000;
        config.limits.messages_burst = 1_000_000;
        config.limits.transients_per_second = 1_000_000;
        config.limits.transients_burst = 1_000_000;
        config.limits.rates.user = UserRates {
            joins: RateWord::NONE,
            rooms: RateWord::NONE,
            llm_calls: RateWord::NONE,
            history: RateWord::NONE,
        };
        config.limits.drain = Duration::from_secs(5);
        // A failure is told at once; trying again is tested where it is done.
        config.llm.retry.attempts = 1;
        // A script would be asked for summaries that its test knows nothing of.
        config.llm.summary.after = 0;
        Self {
            config,
            store: Arc::new(MemoryStore::new()),
            bus: Arc::new(LocalBus::default()),
            provider: Arc::new(OfflineProvider::with_pause("offline", Duration::ZERO)),
            others: Vec::new(),
            clock: Arc::new(SystemClock),
        }
    }
}

impl Setup {
    /// Changes the configuration.
    pub fn config(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(&mut self.config);
        self
    }

    /// Answers come from here.
    pub fn provider(mut self, provider: impl Provider) -> Self {
        self.provider = Arc::new(provider);
        self
    }

    /// Answers come from here as well, by the provider's name.
    pub fn also(mut self, provider: impl Provider) -> Self {
        self.others.push(Arc::new(provider));
        self
    }

    /// Time is what the runtime says: both stand still or move together.
    pub fn virtual_time(mut self) -> Self {
        self.clock = Arc::new(RuntimeClock::default());
        self
    }

    /// Logs are kept here.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = store;
        self
    }

    /// Nodes hint to one another like this.
    pub fn bus(mut self, bus: impl Bus) -> Self {
        self.bus = Arc::new(bus);
        self
    }

    /// Nodes hint to one another over this.
    pub fn shared_bus(mut self, bus: Arc<dyn Bus>) -> Self {
        self.bus = bus;
        self
    }

    fn parts(&self) -> Parts {
        let all = std::iter::once(&self.provider).chain(&self.others);
        let by_name = all.map(|one| (one.name().to_owned(), Arc::clone(one))).collect();
        let settings = graph::router_settings(&self.config, [].into());
        Parts {
            store: Arc::clone(&self.store),
            bus: Arc::clone(&self.bus),
            router: Arc::new(Router::new(by_name, self.provider.name(), settings).unwrap()),
            clock: Arc::clone(&self.clock),
        }
    }

    /// Starts on a free port.
    pub async fn start(self) -> TestServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Box::pin(Server::start(&self.config, self.parts(), listener)).await.unwrap();
        let url = format!("http://{}", server.address().unwrap());
        TestServer { server: Box::new(server), url, config: self.config }
    }

    /// Starts without a port: for paused time, which lies over real sockets. See [`TestServer::duplex`].
    pub async fn start_without_port(self) -> TestServer {
        let server = Box::pin(Server::start(&self.config, self.parts(), None)).await.unwrap();
        TestServer { server: Box::new(server), url: String::new(), config: self.config }
    }
}

/// A clock that goes as the runtime's timer goes.
#[derive(Debug)]
pub struct RuntimeClock(Instant);

impl Default for RuntimeClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_000_000).plus(self.0.elapsed())
    }
}

/// A running server.
pub struct TestServer {
    pub server: Box<Server>,
    pub url: String,
    pub config: Box<Config>,
}

impl TestServer {
    /// The default server.
    pub async fn start() -> Self {
        Setup::default().start().await
    }

    /// A connection of its own, before it is known what is called on it.
    pub async fn channel(&self) -> Channel {
        if self.url.is_empty() {
            return self.duplex_channel().await;
        }
        Endpoint::from_shared(self.url.clone()).unwrap().connect().await.unwrap()
    }

    /// A connection whose streams take no more than `window` bytes that nobody has read: by default these are two
    /// mebibytes, behind which no server is felt to be held back.
    pub async fn narrow_channel(&self, window: u32) -> Channel {
        let endpoint = Endpoint::from_shared(self.url.clone()).unwrap();
        endpoint.initial_stream_window_size(window).connect().await.unwrap()
    }

    /// A connection of its own: through memory, if there is no port.
    pub async fn client(&self) -> RoomServiceClient<Channel> {
        RoomServiceClient::new(self.channel().await).max_decoding_message_size(64 << 20)
    }

    /// A connection through memory.
    pub async fn duplex(&self) -> RoomServiceClient<Channel> {
        RoomServiceClient::new(self.duplex_channel().await).max_decoding_message_size(64 << 20)
    }

    async fn duplex_channel(&self) -> Channel {
        self.windowed(None).await
    }

    /// A connection through memory with this window for each and for all of its streams; none: those of hyper. It is
    /// made once: a client whose connection is lost gets no other.
    pub async fn windowed(&self, window: Option<u32>) -> Channel {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        self.server.serve_connection(theirs);
        let mut ours = Some(hyper_util::rt::TokioIo::new(ours));
        let connector = tower::service_fn(move |_: http::Uri| {
            let io = ours.take().ok_or_else(|| std::io::Error::other("connected once"));
            async move { io }
        });
        let endpoint = Endpoint::from_static("http://duplex")
            .initial_connection_window_size(window)
            .initial_stream_window_size(window);
        endpoint.connect_with_connector(connector).await.unwrap()
    }

    /// The administration, on a connection of its own.
    pub async fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel().await)
    }

    /// Opens a stream with a credential, and says nothing.
    pub async fn open_as(&self, shown: &Shown) -> Result<Session, Status> {
        Session::open_with(self.client().await, shown).await
    }

    /// Joins with a credential, on a connection of its own, and takes the `room_state`.
    pub async fn join_as(&self, shown: &Shown, room: &str, user: &str) -> Session {
        let mut session = self.open_as(shown).await.unwrap();
        session.enter(room, user).await;
        session
    }

    /// How many answers are running or waiting.
    pub fn run_count(&self) -> usize {
        self.server.graph().services.dispatcher.run_count()
    }

    /// Creates a room whose creator is `admin`, with these LLMs; returns its id.
    pub async fn room(&self, llms: &[&str]) -> String {
        self.create(pb::CreateRoomRequest {
            name: "Test".into(),
            created_by: "admin".into(),
            llms: llms.iter().map(|id| llm(id)).collect(),
            ..Default::default()
        })
        .await
    }

    /// Creates a room.
    pub async fn create(&self, request: pb::CreateRoomRequest) -> String {
        self.client().await.create_room(request).await.unwrap().into_inner().room_id
    }

    /// Joins on a connection of its own, and takes the `room_state`.
    pub async fn join(&self, room: &str, user: &str) -> Session {
        Session::join(self.client().await, room, user).await
    }

    /// The whole log of a room.
    pub async fn log(&self, room: &str) -> Vec<pb::ServerEvent> {
        let request = pb::ReadLogRequest { room_id: room.into(), ..Default::default() };
        let mut stream = self.client().await.read_log(request).await.unwrap().into_inner();
        let mut events = Vec::new();
        while let Some(response) = stream.message().await.unwrap() {
            events.push(response.event.unwrap());
        }
        events
    }

    /// Drains and ends.
    pub async fn shutdown(self) {
        let grace = self.config.limits.drain;
        self.server.shutdown(grace).await;
    }
}

/// An LLM whose name is its id.
pub fn llm(id: &str) -> pb::LlmConfig {
    pb::LlmConfig { id: id.into(), display_name: id.into(), ..Default::default() }
}

/// Waits until something holds that no event tells of.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
