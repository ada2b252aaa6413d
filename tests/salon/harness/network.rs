//! A network to a server that can be cut.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Passes connections on, until it is cut.
pub struct Network {
    /// Where it takes connections: `host:port`.
    pub address: String,
    cut: Arc<AtomicBool>,
    connections: Arc<Mutex<CancellationToken>>,
    task: JoinHandle<()>,
}

impl Network {
    /// To `host:port`.
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (cut, connections) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let task =
            tokio::spawn(pass(listener, server.to_owned(), Arc::clone(&cut), Arc::clone(&connections)));
        Self { address, cut, connections, task }
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
    connections: Arc<Mutex<CancellationToken>>,
) {
    loop {
        let (mut from, _) = listener.accept().await.unwrap();
        let stop = connections.lock().unwrap().clone();
        if cut.load(Ordering::SeqCst) {
            continue;
        }
        let server = server.clone();
        tokio::spawn(async move {
            let both = async {
                if let Ok(mut to) = TcpStream::connect(server).await {
                    let _ = copy_bidirectional(&mut from, &mut to).await;
                }
            };
            stop.run_until_cancelled(both).await;
        });
    }
}
