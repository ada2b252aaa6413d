//! A network to a server that can be cut, and made slow.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Duration, sleep},
};
use tokio_util::sync::CancellationToken;

/// Passes connections on, until it is cut.
pub struct Network {
    /// Where it takes connections: `host:port`.
    pub address: String,
    cut: Arc<AtomicBool>,
    /// What every piece that comes back waits, in milliseconds.
    delay: Arc<AtomicU64>,
    connections: Arc<Mutex<CancellationToken>>,
    task: JoinHandle<()>,
}

impl Network {
    /// To `host:port`.
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (cut, delay, connections) = (Arc::<AtomicBool>::default(), Arc::default(), Arc::default());
        let (c, d, all) = (Arc::clone(&cut), Arc::clone(&delay), Arc::clone(&connections));
        let task = tokio::spawn(pass(listener, server.to_owned(), c, d, all));
        Self { address, cut, delay, connections, task }
    }

    /// Lets every piece that the server sends wait so long from now on.
    pub fn delay(&self, delay: Duration) {
        self.delay.store(u64::try_from(delay.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Ends all connections, and takes no more.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        std::mem::take(&mut *self.connections.lock().unwrap()).cancel();
    }

    /// Takes connections again.
    pub fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(
    listener: TcpListener,
    server: String,
    cut: Arc<AtomicBool>,
    delay: Arc<AtomicU64>,
    connections: Arc<Mutex<CancellationToken>>,
) {
    loop {
        let (from, _) = listener.accept().await.unwrap();
        let stop = connections.lock().unwrap().clone();
        if cut.load(Ordering::SeqCst) {
            continue;
        }
        let (server, delay) = (server.clone(), Arc::clone(&delay));
        tokio::spawn(async move {
            let both = async {
                let Ok(to) = TcpStream::connect(server).await else { return };
                let quick = AtomicU64::new(0);
                let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
                // Whichever ends first takes the other with it.
                tokio::select! {
                    () = copy(from_read, to_write, &quick) => {}
                    () = copy(to_read, from_write, &delay) => {}
                }
            };
            stop.run_until_cancelled(both).await;
        });
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, delay: &AtomicU64) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        sleep(Duration::from_millis(delay.load(Ordering::SeqCst))).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
