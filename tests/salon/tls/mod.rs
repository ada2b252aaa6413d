//! The door with TLS: certificates that fit and that do not, new files under load, and who may come in.

mod clients;
mod files;
mod handshake;
mod reload;

use std::{path::PathBuf, sync::Arc, time::Duration};

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use salon::{
    cli::{
        client::{self, connect},
        tls::{TlsOptions, Trust},
    },
    config::{ClientAuth, Config},
    wire::pb::room::v1::room_service_client::RoomServiceClient,
};
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::harness::{DEADLINE, Session, Setup, TestServer, session::message};

/// An authority that signs certificates.
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate of the server on this machine, changed, and its key.
    pub fn server(&self, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["127.0.0.1".into(), "localhost".into()]).unwrap();
        change(&mut params);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A directory with the files of a server and its clients.
pub struct Place {
    directory: TempDir,
    pub authority: Authority,
}

impl Place {
    /// The server has a certificate of its own authority, which clients know.
    pub fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap(), authority: Authority::new("authority") };
        place.write("ca.pem", &place.authority.certificate.pem());
        place.serve(place.authority.server(|_| {}));
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        // Renamed into place, as tools do: nobody reads half of it.
        std::fs::write(self.path("new"), text).unwrap();
        std::fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    /// The server's files from now on.
    pub fn serve(&self, (certificate, key): (String, String)) {
        self.write("server.key", &key);
        self.write("server.pem", &certificate);
    }

    /// A client's certificate and key, signed by `authority`.
    pub fn client(&self, authority: &Authority, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = authority.server(|params| {
            params.subject_alt_names.clear();
            params.distinguished_name.push(DnType::CommonName, name);
        });
        let files = (format!("{name}.pem"), format!("{name}.key"));
        self.write(&files.0, &certificate);
        self.write(&files.1, &key);
        (self.path(&files.0), self.path(&files.1))
    }

    pub fn configure(&self, config: &mut Config) {
        config.tls.certificate = Some(self.path("server.pem"));
        config.tls.key = Some(self.path("server.key"));
    }

    /// A server that asks clients for certificates of `client-ca.pem`, or not.
    pub async fn start(&self, client_auth: ClientAuth) -> TestServer {
        let setup = Setup::default().config(|config| {
            self.configure(config);
            config.tls.client_auth = client_auth;
            config.tls.client_ca = (client_auth != ClientAuth::None).then(|| self.path("client-ca.pem"));
        });
        setup.start().await
    }

    /// The way to `server` for a client that knows the authority in `ca`.
    pub fn way(&self, server: &TestServer, ca: &str, identity: Option<(PathBuf, PathBuf)>) -> client::Server {
        let url = server.url.replace("http://", "https://");
        let tls = TlsOptions { trust: Trust::File(self.path(ca)), identity };
        client::Server { url, tls, token: None }
    }
}

/// Creates a room and talks in it.
pub async fn talks(channel: Channel, user: &str) {
    let mut client = RoomServiceClient::new(channel);
    let request = salon::wire::pb::room::v1::CreateRoomRequest {
        name: "Tea".into(),
        created_by: user.into(),
        ..Default::default()
    };
    let room = client.create_room(request).await.unwrap().into_inner().room_id;
    let mut session = Session::join(client, &room, user).await;
    session.talk("hello").await;
}

/// What a client is told that is not let in: with the connection, or with its first call.
pub async fn refusal(way: &client::Server) -> String {
    let channel = match connect(way).await {
        Ok(channel) => channel,
        Err(error) => return error.to_string(),
    };
    let mut client = RoomServiceClient::new(channel);
    let request = salon::wire::pb::room::v1::ListRoomsRequest::default();
    let status = client.list_rooms(request).await.expect_err("it was let in");
    let mut said = status.to_string();
    let mut cause = std::error::Error::source(&status);
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    said
}
