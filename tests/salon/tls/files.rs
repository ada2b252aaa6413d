//! What a server says that cannot start with its files.

use std::fmt::Write as _;

use salon::server::{Parts, Server, bind};

use super::*;

/// Why it does not start, with all the causes.
async fn refused(place: &Place, change: impl FnOnce(&mut Config)) -> String {
    let mut config = Config::default();
    config.store.kind = salon::config::StoreKind::Memory;
    config.grpc.port = 0;
    place.configure(&mut config);
    change(&mut config);
    let _bound = bind(&config).await.unwrap();
    let parts = Parts::open(&config).await.unwrap();
    let error = Server::start(&config, parts, None).await.expect_err("it has started");
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        let _ = write!(said, ": {error}");
        cause = error.source();
    }
    said
}

#[tokio::test]
async fn a_start_with_files_that_do_not_fit_names_the_file_and_the_mend() {
    let place = Place::new();
    place.write("empty.pem", "");
    place.write("broken.pem", "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n");
    place.write("other.key", &place.authority.server(|_| {}).1);
    place.write("large.pem", &"x".repeat((4 << 20) + 1));
    type Change<'a> = Box<dyn FnOnce(&mut Config) + 'a>;
    let certificate =
        |name| Box::new(move |config: &mut Config| config.tls.certificate = Some(name)) as Change<'_>;
    let key = |name| Box::new(move |config: &mut Config| config.tls.key = Some(name)) as Change<'_>;
    let authorities = |name| {
        Box::new(move |config: &mut Config| {
            config.tls.client_ca = Some(name);
            config.tls.client_auth = ClientAuth::Required;
        }) as Change<'_>
    };
    for (change, parts) in [
        (certificate(place.path("missing.pem")), ["tls.certificate", "missing.pem", "cannot be read"]),
        (certificate(place.path("empty.pem")), ["tls.certificate", "empty.pem", "has no certificate"]),
        (certificate(place.path("broken.pem")), ["tls.certificate", "broken.pem", "no PEM"]),
        (certificate(place.path("large.pem")), ["tls.certificate", "large.pem", "larger than 4 MiB"]),
        (key(place.path("missing.key")), ["tls.key", "missing.key", "cannot be read"]),
        (key(place.path("server.pem")), ["tls.key", "server.pem", "has no key"]),
        (key(place.path("other.key")), ["tls.key", "other.key", "is not the one of the certificate"]),
        (authorities(place.path("missing.pem")), ["tls.client_ca", "missing.pem", "cannot be read"]),
        (authorities(place.path("empty.pem")), ["tls.client_ca", "empty.pem", "has no certificate"]),
    ] {
        let said = refused(&place, change).await;
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("PRIVATE KEY-"), "{said}");
    }
}
