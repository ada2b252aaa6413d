//! From PEM files to what handshakes are made with.
//!
//! Every error names the key of the configuration, the file and the mend. The private key is never shown, and nothing is
//! kept of files that were refused.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::WebPkiClientVerifier,
};
use thiserror::Error;
use tokio::io::AsyncReadExt as _;

use crate::server::tls::{
    ALPN,
    identity::{self, Validity},
};

/// The largest file that is read: more than all the authorities of the web together.
const FILE_BYTES: u64 = 4 << 20;

/// Whether clients are asked for certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not.
    None,
    /// They may show one, which must then be good.
    Optional,
    /// They must.
    Required,
}

/// Which files TLS is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate and those between it and its authority.
    pub certificate: PathBuf,
    /// The key of it.
    pub key: PathBuf,
    /// The authorities of clients; none: `client_auth` is none.
    pub client_ca: Option<PathBuf>,
    /// Whether clients are asked.
    pub client_auth: ClientAuth,
}

/// Why files cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// It cannot be read.
    #[error(
        "{key}: the file {path} cannot be read; it must be there, and this user must be allowed to read it"
    )]
    Unreadable {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{key}: the file {path} {problem}")]
    Content {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong, and the mend.
        problem: &'static str,
        /// What the parser says.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Certificate and key do not belong together.
    #[error(
        "tls.key: the key in {key} is not the one of the certificate in {certificate}; \
         name the key that the certificate was made for, and put the server's own certificate first"
    )]
    Mismatch {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
    },
    /// rustls refuses it for another reason.
    #[error("the certificate in {certificate} and the key in {key} cannot be used")]
    Refused {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// What the files say.
#[derive(PartialEq, Eq)]
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Contents(***)")
    }
}

/// What was made of them.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) config: Arc<ServerConfig>,
    /// Of the server's own certificate; none: it cannot be told.
    pub(super) validity: Option<Validity>,
}

impl TlsFiles {
    /// Reads all of them.
    pub(super) async fn read(&self) -> Result<Contents, Error> {
        Ok(Contents {
            certificate: read("tls.certificate", &self.certificate).await?,
            key: read("tls.key", &self.key).await?,
            client_ca: match &self.client_ca {
                Some(path) => Some(read("tls.client_ca", path).await?),
                None => None,
            },
        })
    }

    /// What handshakes are made with.
    pub(super) fn make(&self, contents: &Contents) -> Result<Made, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = certificates("tls.certificate", &self.certificate, &contents.certificate)?;
        let validity = chain.first().and_then(identity::validity);
        let key = self.key_of(contents)?;
        let refused = |source| match source {
            rustls::Error::InconsistentKeys(_) => {
                Error::Mismatch { key: self.key.clone(), certificate: self.certificate.clone() }
            }
            source => Error::Refused { key: self.key.clone(), certificate: self.certificate.clone(), source },
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(refused)?;
        let builder = match (&self.client_ca, &contents.client_ca) {
            (Some(path), Some(pem)) if self.client_auth != ClientAuth::None => {
                let roots = Arc::new(roots(path, pem)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = match self.client_auth {
                    ClientAuth::Required => verifier,
                    ClientAuth::Optional | ClientAuth::None => verifier.allow_unauthenticated(),
                };
                let problem = "has no certificate that can sign others; put the authorities there";
                builder.with_client_cert_verifier(
                    verifier.build().map_err(|error| content("tls.client_ca", path, problem, error))?,
                )
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(refused)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Made { config: Arc::new(config), validity })
    }

    fn key_of(&self, contents: &Contents) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_slice(&contents.key).map_err(|error| {
            let problem = match error {
                pem::Error::NoItemsFound => {
                    "has no key in PEM (PRIVATE KEY, without a password); write it there"
                }
                _ => "is no PEM that can be read; write the key anew",
            };
            content("tls.key", &self.key, problem, error)
        })
    }
}

async fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |source| Error::Unreadable { key, path: path.to_owned(), source };
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).await.map_err(unreadable)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES {
        let problem = "is larger than 4 MiB, which no file of certificates is; name the right one";
        return Err(Error::Content { key, path: path.to_owned(), problem, source: None });
    }
    Ok(bytes)
}

fn certificates(key: &'static str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = read.map_err(|error| {
        content(key, path, "is no PEM that can be read; write the certificates anew", error)
    })?;
    if found.is_empty() {
        let problem = "has no certificate in PEM (BEGIN CERTIFICATE); write it there";
        return Err(Error::Content { key, path: path.to_owned(), problem, source: None });
    }
    Ok(found)
}

fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls.client_ca", path, pem)? {
        let problem = "has a certificate that cannot be read; write the authorities anew";
        roots.add(certificate).map_err(|error| content("tls.client_ca", path, problem, error))?;
    }
    Ok(roots)
}

fn content(
    key: &'static str,
    path: &Path,
    problem: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::Content { key, path: path.to_owned(), problem, source: Some(Box::new(source)) }
}
