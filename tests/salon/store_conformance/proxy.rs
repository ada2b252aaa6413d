//! A network between the store and its server that can be cut at a byte, or fall silent.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
    task::{AbortHandle, JoinSet},
};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToStore,
}

/// What the network has done, and is to do.
#[derive(Debug, Default)]
struct State {
    to_server: usize,
    to_store: usize,
    /// Answers that the server has ended: one for each round trip.
    ready: usize,
    /// Let so many bytes pass this way, then cut the connection that they are on.
    cut: Option<(Way, usize)>,
    silent: bool,
    /// How often everything was cut.
    cuts: usize,
}

/// Passes on what comes, until it is told otherwise.
#[derive(Debug)]
pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<(Mutex<State>, Notify)>,
    accepting: AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<(Mutex<State>, Notify)>::default();
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((store, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(server).await else { continue };
                connections.spawn(pass(store, server, Arc::clone(&shared)));
            }
        });
        Self { address, state, accepting: accepting.abort_handle() }
    }

    /// Cuts the connection on which so many more bytes have gone this way; others come through.
    pub fn cut_after(&self, way: Way, bytes: usize) {
        self.state().cut = Some((way, bytes));
    }

    /// Whether a cut that was ordered has not come yet; it is taken back.
    pub fn take_back(&self) -> bool {
        self.state().cut.take().is_some()
    }

    /// Cuts every connection; others come through.
    pub fn cut_all(&self) {
        self.state().cuts += 1;
        self.state.1.notify_waiters();
    }

    /// Holds back everything, or lets it pass.
    pub fn silent(&self, silent: bool) {
        self.state().silent = silent;
        self.state.1.notify_waiters();
    }

    /// Bytes to the server and back so far.
    pub fn bytes(&self) -> (usize, usize) {
        let state = self.state();
        (state.to_server, state.to_store)
    }

    /// How often the server has said that it is ready for the next statement.
    pub fn round_trips(&self) -> usize {
        self.state().ready
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }
}

async fn pass(store: TcpStream, server: TcpStream, state: Arc<(Mutex<State>, Notify)>) {
    let (from_store, to_store) = store.into_split();
    let (from_server, to_server) = server.into_split();
    // Whichever ends first takes the other with it.
    tokio::select! {
        () = cut(&state) => {}
        () = pass_one_way(from_store, to_server, Way::ToServer, &state) => {}
        () = pass_one_way(from_server, to_store, Way::ToStore, &state) => {}
    }
}

async fn cut(state: &(Mutex<State>, Notify)) {
    let before = state.0.lock().unwrap().cuts;
    loop {
        let next = state.1.notified();
        if state.0.lock().unwrap().cuts > before {
            return;
        }
        next.await;
    }
}

async fn pass_one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: Way,
    state: &(Mutex<State>, Notify),
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut messages = Messages::default();
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        while state.0.lock().unwrap().silent {
            state.1.notified().await;
        }
        let (passes, cut) = {
            let mut state = state.0.lock().unwrap();
            let (passes, cut) = match state.cut {
                Some((cut, left)) if cut == way && left < read => (left, true),
                Some((cut, left)) if cut == way => {
                    state.cut = Some((cut, left - read));
                    (read, false)
                }
                _ => (read, false),
            };
            if cut {
                state.cut = None;
            }
            match way {
                Way::ToServer => state.to_server += passes,
                Way::ToStore => {
                    state.to_store += passes;
                    state.ready += messages.ready_in(&buffer[..passes]);
                }
            }
            (passes, cut)
        };
        if to.write_all(&buffer[..passes]).await.is_err() || cut {
            return;
        }
    }
}

/// Finds the messages of the server in its bytes: a letter, and a length that counts itself.
#[derive(Debug, Default)]
struct Messages {
    head: Vec<u8>,
    skip: usize,
}

impl Messages {
    fn ready_in(&mut self, bytes: &[u8]) -> usize {
        let mut ready = 0;
        for byte in bytes {
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            self.head.push(*byte);
            if let [letter, a, b, c, d] = self.head[..] {
                ready += usize::from(letter == b'Z');
                self.skip = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap() - 4;
                self.head.clear();
            }
        }
        ready
    }
}
