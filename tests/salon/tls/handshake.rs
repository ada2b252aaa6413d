//! Who gets in: servers and clients with certificates that fit, that do not, and none.

use rustls::{ClientConfig, RootCertStore, pki_types::pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use super::*;

#[tokio::test]
async fn people_talk_over_tls() {
    let place = Place::new();
    let server = place.start(ClientAuth::None).await;
    talks(connect(&place.way(&server, "ca.pem", None)).await.unwrap(), "ada").await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_server_of_another_authority_or_another_name_is_not_trusted() {
    let place = Place::new();
    let server = place.start(ClientAuth::None).await;
    place.write("other.pem", &Authority::new("other").certificate.pem());
    let said = refusal(&place.way(&server, "other.pem", None)).await;
    assert!(said.contains("UnknownIssuer"), "{said}");
    let elsewhere = place.authority.server(|params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("elsewhere.example".try_into().unwrap())];
    });
    place.serve(elsewhere);
    let elsewhere = place.start(ClientAuth::None).await;
    let said = refusal(&place.way(&elsewhere, "ca.pem", None)).await;
    assert!(said.contains("not valid for name"), "{said}");
    talks(connect(&place.way(&server, "ca.pem", None)).await.unwrap(), "ada").await;
    server.shutdown().await;
    elsewhere.shutdown().await;
}

/// A handshake by hand that offers these protocols of these versions; what it agrees on, and what comes first on it.
async fn handshake(
    place: &Place,
    server: &TestServer,
    alpn: &[&[u8]],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<(Option<Vec<u8>>, rustls::ProtocolVersion, usize)> {
    let mut roots = RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(place.path("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(server.server.address().unwrap()).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let session = stream.get_ref().1;
    let agreed = (session.alpn_protocol().map(<[u8]>::to_vec), session.protocol_version().unwrap());
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
    let mut first = [0; 9];
    let read = timeout(DEADLINE, stream.read(&mut first)).await.expect("neither served nor closed")?;
    Ok((agreed.0, agreed.1, read))
}

#[tokio::test]
async fn http2_is_the_only_protocol_and_the_old_versions_are_gone() {
    let place = Place::new();
    let server = place.start(ClientAuth::None).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (alpn, agreed, read) =
            handshake(&place, &server, &[b"http/1.1", b"h2"], &[version]).await.unwrap();
        assert_eq!((alpn.as_deref(), agreed), (Some(&b"h2"[..]), version.version));
        assert!(read > 0, "{version:?}: not served");
        // Something else, and nothing said.
        assert!(handshake(&place, &server, &[b"http/1.1"], &[version]).await.is_err());
        let silent = handshake(&place, &server, &[], &[version]).await;
        assert!(
            silent.as_ref().is_err() || silent.as_ref().is_ok_and(|(_, _, read)| *read == 0),
            "{silent:?}"
        );
    }
    // A ClientHello of TLS 1.1: the answer is an alert (21), that the version is not spoken (70).
    let mut old = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    old.extend([7; 32]);
    old.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let mut stream = TcpStream::connect(server.server.address().unwrap()).await.unwrap();
    stream.write_all(&old).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("not closed");
    assert_eq!((answer.first(), answer.last()), (Some(&21), Some(&70)), "{answer:?}");
    server.shutdown().await;
}

#[tokio::test]
async fn who_does_not_encrypt_is_told_to() {
    let place = Place::new();
    let server = place.start(ClientAuth::None).await;
    let address = server.server.address().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut answer = vec![0; 9 + 9 + 42];
    timeout(DEADLINE, stream.read_exact(&mut answer)).await.expect("nothing is said").unwrap();
    // SETTINGS, then GOAWAY with INADEQUATE_SECURITY and the reason.
    assert_eq!((answer[3], answer[12], answer[25]), (4, 7, 0xc));
    assert!(String::from_utf8_lossy(&answer).ends_with("this port speaks TLS: use https://"), "{answer:?}");
    let said = refusal(&address.to_string().into()).await;
    assert!(said.contains("INADEQUATE_SECURITY") || said.contains("inadequate"), "{said}");
    // What is neither is closed without a word.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("not closed");
    assert_eq!(rest, b"");
    talks(connect(&place.way(&server, "ca.pem", None)).await.unwrap(), "ada").await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_handshake_that_stands_still_is_closed_in_time() {
    let place = Place::new();
    let limit = Duration::from_millis(400);
    let setup = Setup::default().config(|config| {
        place.configure(config);
        config.grpc.handshake_timeout = limit;
    });
    let server = setup.start().await;
    for begun in [&b""[..], &[0x16], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]] {
        let mut stream = TcpStream::connect(server.server.address().unwrap()).await.unwrap();
        let at = Instant::now();
        stream.write_all(begun).await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("not closed");
        assert!(at.elapsed() >= limit.mul_f32(0.9), "{:?}", at.elapsed());
    }
    talks(connect(&place.way(&server, "ca.pem", None)).await.unwrap(), "ada").await;
    server.shutdown().await;
}

#[tokio::test]
async fn clients_show_a_certificate_where_they_must_and_a_good_one_where_they_may() {
    let place = Place::new();
    let (known, unknown) = (Authority::new("clients"), Authority::new("strangers"));
    place.write("client-ca.pem", &known.certificate.pem());
    let (ada, mallory) = (place.client(&known, "ada"), place.client(&unknown, "mallory"));
    for (client_auth, may_be_nobody) in [(ClientAuth::Optional, true), (ClientAuth::Required, false)] {
        let server = place.start(client_auth).await;
        let way = |identity| place.way(&server, "ca.pem", identity);
        talks(connect(&way(Some(ada.clone()))).await.unwrap(), "ada").await;
        if may_be_nobody {
            talks(connect(&way(None)).await.unwrap(), "nobody").await;
        } else {
            let said = refusal(&way(None)).await;
            assert!(said.contains("CertificateRequired"), "{said}");
        }
        let said = refusal(&way(Some(mallory.clone()))).await;
        assert!(said.contains("UnknownCA") || said.contains("UnknownCa"), "{said}");
        server.shutdown().await;
    }
}
