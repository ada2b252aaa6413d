//! Who a call comes from, and how many connections a peer has, over real sockets.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use axum::{Extension, routing::any};
use http_body_util::BodyExt as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::{io::AsyncReadExt as _, io::AsyncWriteExt as _};
use tonic::{body::Body, client::GrpcService as _, transport::Channel};

use super::*;
use crate::{
    cli::{
        client::{self, connect},
        tls::{TlsOptions, Trust},
    },
    clock::SystemClock,
    server::tls::{
        files::{ClientAuth, TlsFiles},
        reload::Reloader,
    },
};

fn limits() -> ConnectionLimits {
    let second = Duration::from_secs(1);
    ConnectionLimits {
        connections: 100,
        connections_per_peer: 2,
        streams: 10,
        send_buffer: 64 * 1024,
        handshake: 20 * second,
        idle: 300 * second,
        keepalive_interval: 30 * second,
        keepalive_timeout: 20 * second,
        max_age: None,
    }
}

/// Answers every call with who it comes from.
struct Mirror {
    address: SocketAddr,
    connections: TaskTracker,
    stop: CancellationToken,
}

impl Mirror {
    async fn start(at: IpAddr, limits: ConnectionLimits, tls: Option<Tls>) -> Self {
        let listener = TcpListener::bind((at, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let whose = |Extension(peer): Extension<Peer>| async move { format!("{peer:?}") };
        let routes = axum::Router::new().route("/peer", any(whose)).into();
        let (connections, stop) = (TaskTracker::new(), CancellationToken::new());
        let serving = Serving { routes, limits, tls };
        let serve = serve(listener, serving, connections.clone(), stop.clone(), stop.clone());
        connections.spawn(serve);
        Self { address, connections, stop }
    }

    async fn end(self) {
        self.stop.cancel();
        self.connections.close();
        self.connections.wait().await;
    }
}

async fn peer_of(mut channel: Channel) -> String {
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let request = http::Request::post("/peer").body(Body::empty()).unwrap();
    let body = channel.call(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_call_says_where_it_comes_from() {
    let mirror = Mirror::start(Ipv4Addr::LOCALHOST.into(), limits(), None).await;
    let channel = connect(&mirror.address.to_string().into()).await.unwrap();
    assert_eq!(peer_of(channel).await, "Peer { address: Some(127.0.0.1), certificate: None }");
    mirror.end().await;
}

#[tokio::test]
async fn a_call_says_whose_certificate_was_shown() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::from_params(&params, &authority_key);
    let made = |name: &str| {
        let (key, mut params) =
            (KeyPair::generate().unwrap(), CertificateParams::new(["127.0.0.1".into()]).unwrap());
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names.retain(|_| name == "server");
        let certificate = params.signed_by(&key, &issuer).unwrap();
        (file(&format!("{name}.pem"), certificate.pem()), file(&format!("{name}.key"), key.serialize_pem()))
    };
    let (ca, server, ada) = (file("ca.pem", authority.pem()), made("server"), made("ada"));
    let files = TlsFiles {
        certificate: server.0,
        key: server.1,
        client_ca: Some(ca.clone()),
        client_auth: ClientAuth::Optional,
    };
    let (tls, _reloader) = Reloader::start(files, Arc::new(SystemClock)).await.unwrap();
    let mirror = Mirror::start(Ipv4Addr::LOCALHOST.into(), limits(), Some(tls)).await;
    for (identity, expected) in [
        (None, "certificate: None"),
        (Some(ada), "certificate: Some(ClientCertificate { subject: \"ada\", fingerprint: \""),
    ] {
        let tls = TlsOptions { trust: Trust::File(ca.clone()), identity };
        let server = client::Server { url: format!("https://{}", mirror.address), tls, token: None };
        let peer = peer_of(connect(&server).await.unwrap()).await;
        assert!(peer.starts_with("Peer { address: Some(127.0.0.1), ") && peer.contains(expected), "{peer}");
    }
    mirror.end().await;
}

/// An address of this machine that is not of this machine alone; none: it has no network.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Sends nothing: only asks by which way it would go.
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}

/// Whether the server answers on a connection, with its SETTINGS.
async fn is_served(stream: &mut TcpStream) -> bool {
    let mut settings = [0; 9];
    let begun = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    begun.is_ok() && stream.read_exact(&mut settings).await.is_ok()
}

#[tokio::test]
async fn one_more_than_a_peer_may_have_is_closed_until_one_goes() {
    let Some(ip) = own_address() else {
        // The count itself is tested where it is; this is about the loop.
        return;
    };
    let mirror = Mirror::start(ip, limits(), None).await;
    let mut open = Vec::new();
    for _ in 0..limits().connections_per_peer {
        let mut stream = TcpStream::connect(mirror.address).await.unwrap();
        assert!(is_served(&mut stream).await);
        open.push(stream);
    }
    let mut over = TcpStream::connect(mirror.address).await.unwrap();
    assert!(!is_served(&mut over).await, "one more than it may have");
    open.pop();
    // It is noticed soon, but not at once.
    loop {
        let mut again = TcpStream::connect(mirror.address).await.unwrap();
        if is_served(&mut again).await {
            break;
        }
    }
    mirror.end().await;
    let off = ConnectionLimits { connections_per_peer: 0, ..limits() };
    let mirror = Mirror::start(ip, off, None).await;
    let mut open = Vec::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(mirror.address).await.unwrap();
        assert!(is_served(&mut stream).await, "0 is no cap");
        open.push(stream);
    }
    mirror.end().await;
}
