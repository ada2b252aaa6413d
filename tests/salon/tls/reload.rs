//! New files while people talk.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use salon::wire::pb::room::v1 as pb;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tokio_rustls::TlsConnector;

use super::*;

/// The certificate that the server shows now.
async fn shown(server: &TestServer) -> CertificateDer<'static> {
    let url = server.url.strip_prefix("http://").unwrap();
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
    let mut config = config;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(url).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Looks at certificates, and believes them.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// Waits until the server shows this one.
async fn shows(server: &TestServer, wanted: &CertificateDer<'static>) {
    let wait = async { while shown(server).await != *wanted {} };
    timeout(DEADLINE, wait).await.expect("the new certificate is not shown");
}

/// Calls on new connections and talk on an old one, until it is told to stop; how many calls were made.
async fn load(way: client::Server, stop: Arc<AtomicBool>, calls: Arc<AtomicUsize>) {
    let client = RoomServiceClient::new(connect(&way).await.unwrap());
    let request =
        pb::CreateRoomRequest { name: "Tea".into(), created_by: "ada".into(), ..Default::default() };
    let room = client.clone().create_room(request).await.unwrap().into_inner().room_id;
    let mut session = Session::join(client, &room, "ada").await;
    while !stop.load(Ordering::Relaxed) {
        session.say(message("on the old connection")).await;
        session.talk("on the old connection").await;
        let mut fresh = RoomServiceClient::new(connect(&way).await.unwrap());
        fresh.list_rooms(pb::ListRoomsRequest::default()).await.unwrap();
        calls.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_files_are_taken_under_load_without_one_failed_call() {
    const CLIENTS: usize = 4;
    let place = Place::new();
    let server = place.start(ClientAuth::None).await;
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(load(place.way(&server, "ca.pem", None), Arc::clone(&stop), Arc::clone(&calls)));
    }
    for _ in 0..2 {
        let new = place.authority.server(|_| {});
        place.serve(new.clone());
        shows(&server, &der(&new.0)).await;
        let before = calls.load(Ordering::Relaxed);
        timeout(DEADLINE, async {
            while calls.load(Ordering::Relaxed) < before + 2 * CLIENTS {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("nobody calls any more");
    }
    stop.store(true, Ordering::Relaxed);
    // A call that fails ends its task with a panic.
    for done in clients.join_all().await {
        let () = done;
    }
    server.shutdown().await;
}

#[tokio::test]
async fn files_that_cannot_be_used_leave_the_old_ones_in_force() {
    let place = Place::new();
    let server = place.start(ClientAuth::None).await;
    let old = shown(&server).await;
    let broken = place.authority.server(|_| {});
    let other = place.authority.server(|_| {});
    for (certificate, key) in [
        ("no certificate".to_owned(), broken.1.clone()),
        (broken.0.clone(), other.1.clone()),
        (broken.0.clone(), String::new()),
    ] {
        place.serve((certificate, key));
        // Good ones behind them are taken: so the broken ones were looked at, or were never to be.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(shown(&server).await, old);
        talks(connect(&place.way(&server, "ca.pem", None)).await.unwrap(), "ada").await;
    }
    std::fs::remove_file(place.path("server.pem")).unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(shown(&server).await, old);
    place.serve(other.clone());
    shows(&server, &der(&other.0)).await;
    server.shutdown().await;
}
