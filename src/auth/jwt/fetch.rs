//! Where a key set is read that changes while the server runs: at a URL, or in a file.
//!
//! Follows no redirect and no header of a token. What comes is limited in size; the time it takes is limited by who
//! asks. A failure is told by its kind: neither the URL nor the answer is repeated.

use std::{fmt, net::IpAddr, path::PathBuf};

use async_trait::async_trait;
use reqwest::{Client, Url};
use thiserror::Error;
use tokio::io::AsyncReadExt as _;

use crate::auth::jwt::error::KeyError;

/// The largest key set, in bytes: 64 RSA keys with their certificates.
pub(super) const SET_BYTES: usize = 256 << 10;

/// Why there is no key set.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    /// The server cannot be reached, or breaks off.
    #[error("the server cannot be reached: {0}")]
    Network(String),
    /// The server answers something else.
    #[error("the server answers with status {0}")]
    Status(u16),
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    File(std::io::ErrorKind),
    /// More than a key set has.
    #[error("the key set has more than {SET_BYTES} bytes")]
    TooLarge,
    /// No text.
    #[error("the key set is no text")]
    NoText,
    /// It took too long.
    #[error("no key set came in time")]
    Timeout,
    /// It is no key set.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// Something that a key set can be read from again and again.
///
/// # Contract
/// A call may take any time and may be dropped at any time. It returns at most [`SET_BYTES`].
#[async_trait]
pub(super) trait Source: fmt::Debug + Send + Sync {
    /// The text as it is now.
    async fn fetch(&self) -> Result<String, FetchError>;

    /// Whether nobody else can read it, so that it may hold secrets.
    fn is_private(&self) -> bool;
}

/// A key set behind a URL.
pub(super) struct Remote {
    url: Url,
    http: Client,
}

impl Remote {
    /// Whoever can change it on its way could sign, so that it has to be `https` but for this machine.
    pub(super) fn new(url: &str) -> Result<Self, KeyError> {
        let url = Url::parse(url).map_err(|_| KeyError::Url)?;
        let host = url.host_str().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let is_local = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        let is_plain = url.scheme() == "http";
        if url.scheme() != "https" && !(is_plain && is_local) {
            return Err(KeyError::Url);
        }
        // Fails when one is installed already, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let builder = Client::builder()
            .user_agent(concat!("salon/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never());
        let builder = if is_local { builder.no_proxy() } else { builder };
        // No certificate is ever looked at, so none need be there.
        let builder = if is_plain { builder.tls_certs_only([]) } else { builder };
        let http = builder.build().map_err(|error| KeyError::HttpClient(error.to_string()))?;
        Ok(Self { url, http })
    }
}

/// Its path and query may hold a secret.
impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Remote").field(&self.url.host_str()).finish()
    }
}

#[async_trait]
impl Source for Remote {
    async fn fetch(&self) -> Result<String, FetchError> {
        let network = |error: reqwest::Error| FetchError::Network(error.without_url().to_string());
        let request =
            self.http.get(self.url.clone()).header("accept", "application/jwk-set+json, application/json");
        let mut response = request.send().await.map_err(network)?;
        if response.status().as_u16() != 200 {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(network)? {
            if bytes.len() + chunk.len() > SET_BYTES {
                return Err(FetchError::TooLarge);
            }
            bytes.extend_from_slice(&chunk);
        }
        String::from_utf8(bytes).map_err(|_| FetchError::NoText)
    }

    fn is_private(&self) -> bool {
        false
    }
}

/// A key set in a file of this machine.
#[derive(Debug)]
pub(super) struct InFile(pub(super) PathBuf);

#[async_trait]
impl Source for InFile {
    async fn fetch(&self) -> Result<String, FetchError> {
        let failed = |error: std::io::Error| FetchError::File(error.kind());
        let file = tokio::fs::File::open(&self.0).await.map_err(failed)?;
        let mut bytes = Vec::new();
        let most = u64::try_from(SET_BYTES).unwrap_or(u64::MAX);
        file.take(most.saturating_add(1)).read_to_end(&mut bytes).await.map_err(failed)?;
        if bytes.len() > SET_BYTES {
            return Err(FetchError::TooLarge);
        }
        String::from_utf8(bytes).map_err(|_| FetchError::NoText)
    }

    fn is_private(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_can_change_on_its_way_is_fetched() {
        for url in [
            "https://id.example.com/keys",
            "https://id.example.com/keys?tenant=1",
            "http://127.0.0.1:8080/keys",
            "http://[::1]/keys",
            "http://localhost/keys",
        ] {
            assert!(Remote::new(url).is_ok(), "{url}");
        }
        for url in [
            "http://id.example.com/keys",
            "http://127.0.0.1.example.com/keys",
            "http://localhost.example.com/keys",
            "http://10.0.0.1/keys",
            "ftp://127.0.0.1/keys",
            "file:///etc/keys",
            "id.example.com",
            "",
        ] {
            assert_eq!(Remote::new(url).err(), Some(KeyError::Url), "{url}");
        }
    }

    #[test]
    fn what_is_printed_of_a_url_is_its_host() {
        let remote = Remote::new("https://me:s3cret@id.example.com/s3cret?s3cret").unwrap();
        assert_eq!(format!("{remote:?}"), "Remote(Some(\"id.example.com\"))");
    }
}
