//! TLS on the way to a server: whom the client trusts, and who it proves to be.
//!
//! Without a file of authorities those of the machine count. Never falls back to a connection that is not encrypted, and
//! never trusts anybody unseen but for one case: the check of the own server's health on this machine, which tells it
//! nothing and believes it nothing but that it serves.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower::{Service, service_fn};

/// TLS, for a server at https://.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct TlsArgs {
    /// The authorities that sign the server's certificate, in PEM; without it those of this machine
    #[arg(long, env = "SALON_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Your own certificate in PEM, for a server that asks for one
    #[arg(long, env = "SALON_CERT", value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// The key of it in PEM
    #[arg(long, env = "SALON_KEY", value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
}

impl From<TlsArgs> for TlsOptions {
    fn from(TlsArgs { ca, cert, key }: TlsArgs) -> Self {
        Self { trust: ca.map_or(Trust::Machine, Trust::File), identity: cert.zip(key) }
    }
}

/// What TLS is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Who signs certificates of servers.
    pub trust: Trust,
    /// What the client shows of itself: certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Which servers are trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those whose certificates the machine's authorities have signed.
    #[default]
    Machine,
    /// Those whose certificates the authorities in this file have signed.
    File(PathBuf),
    /// Any: only for the own server, on this machine, and where nothing is told to it.
    Own,
}

/// Why TLS cannot be spoken.
#[derive(Debug, Error)]
pub enum Error {
    /// A file cannot be used.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the mend.
        problem: String,
    },
    /// The machine has no authorities.
    #[error("this machine knows no certificate authorities; name those of the server with --ca FILE")]
    NoAuthorities,
    /// The parts do not fit.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// Connects and encrypts.
pub(super) fn connector(
    options: &TlsOptions,
) -> Result<
    impl Service<
        http::Uri,
        Response = TokioIo<TlsStream<TcpStream>>,
        Error = io::Error,
        Future = BoxFuture<'static, io::Result<TokioIo<TlsStream<TcpStream>>>>,
    > + Send
    + 'static,
    Error,
> {
    let connector = TlsConnector::from(Arc::new(settings(options)?));
    Ok(service_fn(move |uri: http::Uri| {
        let connector = connector.clone();
        let dialled: BoxFuture<'static, _> = Box::pin(dial(connector, uri));
        dialled
    }))
}

/// The port of https.
const HTTPS: u16 = 443;

async fn dial(connector: TlsConnector, uri: http::Uri) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(HTTPS))).await?;
    stream.set_nodelay(true)?;
    let stream = connector.connect(name, stream).await?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(io::Error::other("the server speaks TLS, but not HTTP/2"));
    }
    Ok(TokioIo::new(stream))
}

fn settings(options: &TlsOptions) -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match &options.trust {
        Trust::Machine => builder.with_root_certificates(authorities_of_machine()?),
        Trust::File(path) => builder.with_root_certificates(authorities_in(path)?),
        Trust::Own => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        }
    };
    let mut config = match &options.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let key_der = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| Error::File {
                path: key.clone(),
                problem: format!("must hold a key in PEM, without a password: {error}"),
            })?;
            builder.with_client_auth_cert(chain, key_der)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn authorities_of_machine() -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(Error::NoAuthorities) } else { Ok(roots) }
}

fn authorities_in(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let refused = |problem| Error::File { path: path.to_owned(), problem };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let found = read.map_err(|error| refused(format!("must hold certificates in PEM: {error}")))?;
    if found.is_empty() {
        return Err(refused("must hold certificates in PEM, and has none".into()));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path)
        .map_err(|error| Error::File { path: path.to_owned(), problem: format!("cannot be read: {error}") })
}

/// Takes any certificate whose key the server has.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser as _, error::ErrorKind};

    use super::*;
    use crate::cli::{
        args::{Args, Command},
        client::Server,
    };

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn tls_takes_whom_to_trust_and_who_one_is() {
        let line = "salon rooms --server https://h --ca a.pem --cert b.pem --key c.pem";
        let Command::Rooms(rooms) = parse(line).unwrap().into_command() else { panic!() };
        let server = Server::from(rooms.server);
        assert_eq!(server.url, "https://h");
        let identity = Some(("b.pem".into(), "c.pem".into()));
        assert_eq!(server.tls, TlsOptions { trust: Trust::File("a.pem".into()), identity });
        for half in ["salon rooms --cert b.pem", "salon rooms --key c.pem"] {
            assert_eq!(parse(half).unwrap_err().kind(), ErrorKind::MissingRequiredArgument, "{half}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let (missing, empty) = (directory.path().join("missing.pem"), directory.path().join("empty.pem"));
        std::fs::write(&empty, "").unwrap();
        let options = |ca: &Path, identity| TlsOptions { trust: Trust::File(ca.to_owned()), identity };
        for (options, named, problem) in [
            (options(&missing, None), &missing, "cannot be read"),
            (options(&empty, None), &empty, "has none"),
            (
                TlsOptions { trust: Trust::Own, identity: Some((empty.clone(), missing.clone())) },
                &empty,
                "has none",
            ),
        ] {
            let said = settings(&options).unwrap_err().to_string();
            assert!(said.contains(&*named.to_string_lossy()) && said.contains(problem), "{said}");
        }
    }
}
