//! The commands of this program over TLS, and the server as a process.

use crate::process::Place as Process;

use super::*;

/// A server as a process with the files of `place`.
fn process(place: &Place) -> Process {
    let path = |name: &str| place.path(name).to_string_lossy().into_owned();
    Process::new()
        .env("SALON__TLS__CERTIFICATE", &path("server.pem"))
        .env("SALON__TLS__KEY", &path("server.key"))
}

#[tokio::test]
async fn commands_speak_tls_to_whom_they_are_told_to_trust() {
    let place = Place::new();
    let process = process(&place);
    let server = process.start().await;
    assert!(server.url.starts_with("https://"), "{}", server.url);
    let ca = place.path("ca.pem").to_string_lossy().into_owned();
    let created = process
        .run_with(
            &["chat", "tea", "--create", "--server", &server.url, "--ca", &ca, "--user", "ada"],
            "hello\n",
        )
        .await;
    assert!(created.status.success(), "{created:?}");
    let rooms = process.run(&["rooms", "--server", &server.url, "--ca", &ca]).await;
    assert!(String::from_utf8_lossy(&rooms.stdout).contains("tea"), "{rooms:?}");
    let health = process.run(&["health", "--server", &server.url, "--ca", &ca]).await;
    assert_eq!(String::from_utf8_lossy(&health.stdout), "serving\n");
    // Nobody is trusted unasked.
    place.write("other.pem", &Authority::new("other").certificate.pem());
    let other = place.path("other.pem").to_string_lossy().into_owned();
    let refused = process.run(&["rooms", "--server", &server.url, "--ca", &other]).await;
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("UnknownIssuer"), "{refused:?}");
    server.stop().await;
    assert!(process.log().contains("tls=\"on\"") || process.log().contains("tls=on"), "{}", process.log());
}

#[tokio::test]
async fn health_finds_the_server_of_its_configuration() {
    let place = Place::new();
    let path = |name: &str| place.path(name).to_string_lossy().into_owned();
    place.write("client-ca.pem", &place.authority.certificate.pem());
    // A port that was just free: the command has to know it from the configuration.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for client_auth in ["none", "required"] {
        let mut process =
            process(&place).env("GRPC_PORT", &port.to_string()).env("SALON__TLS__CLIENT_AUTH", client_auth);
        if client_auth == "required" {
            process = process.env("SALON__TLS__CLIENT_CA", &path("client-ca.pem"));
        }
        let server = process.start().await;
        let health = process.run(&["health"]).await;
        assert_eq!(String::from_utf8_lossy(&health.stdout), "serving\n", "{client_auth}: {health:?}");
        server.stop().await;
        assert!(!process.run(&["health"]).await.status.success(), "it has ended");
    }
}

#[tokio::test]
async fn a_hangup_has_the_files_read_and_an_ended_certificate_is_warned_of() {
    let place = Place::new();
    place.serve(place.authority.server(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)));
    let process = process(&place);
    let server = process.start().await;
    assert!(process.log().contains("the certificate has ended"), "{}", process.log());
    server.signal("HUP").await;
    let read_again = || process.log().contains("the files of TLS were read again");
    crate::harness::until("SIGHUP is heard", read_again).await;
    place.write("server.key", "nothing");
    server.signal("HUP").await;
    let refused = || process.log().contains("tls.key: the file") && process.log().contains("stays");
    crate::harness::until("the refusal is told", refused).await;
    server.stop().await;
}
