//! The HTTP under async-openai: where to, with which key, and what is accepted as the beginning of an answer.
//!
//! Sits below async-openai's own executor, which would repeat calls by itself and hide headers. Errors of opening an
//! exchange go up as [`struct@crate::llm::Error`]; those of its body are left in its [`Fate`].

use std::{error::Error as StdError, fmt, net::IpAddr, sync::Arc, time::Duration};

use async_openai::{Client, config::Config, middleware::HttpRequestFactory};
use futures_util::StreamExt as _;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING},
};
use reqwest::{Response, Url};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::timeout;

use crate::llm::{
    Error, ErrorKind,
    fault::Problem,
    openai::{
        NewError,
        body::by_lines,
        classify::Classifier,
        fate::{Ended, Fate},
    },
};

/// Long enough for a far server and a lost packet, short enough that a room is told soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The words that explain a refusal are worth waiting for, but not for long: the status is known.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(3);
/// How a refusal names the wish for usage.
const USAGE_FIELD: &str = "stream_options";
/// More than any server says about an error.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Where calls go, and the key. Unlike async-openai's own, it reads no environment and cannot panic on a bad key.
#[derive(Clone)]
pub(super) struct Endpoint {
    base_url: Arc<str>,
    host: Arc<str>,
    is_plain: bool,
    headers: HeaderMap,
    api_key: SecretString,
}

impl Endpoint {
    pub(super) fn new(
        base_url: &str,
        api_key: SecretString,
        further: &[(String, SecretString)],
    ) -> Result<Self, NewError> {
        let url = Url::parse(base_url).map_err(|_| NewError::BaseUrl("is not a url"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(NewError::BaseUrl("must begin with http:// or https://"));
        }
        let host = url.host_str().ok_or(NewError::BaseUrl("has no host"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(NewError::BaseUrl("must not hold a user or password; use the api key"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(NewError::BaseUrl("must end with its path"));
        }
        let mut headers = HeaderMap::new();
        for (name, value) in further {
            let (name, value) =
                header(name, value.expose_secret()).ok_or_else(|| NewError::Header(name.clone()))?;
            headers.insert(name, value);
        }
        if !api_key.expose_secret().is_empty() {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", api_key.expose_secret()))
                .map_err(|_| NewError::ApiKey)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(Self {
            base_url: url.as_str().trim_end_matches('/').into(),
            host: host.into(),
            is_plain: url.scheme() == "http",
            headers,
            api_key,
        })
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Whether the server is this machine, to which no proxy leads.
    fn is_local(&self) -> bool {
        let address = self.host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        &*self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

/// A header of the operator's. None of those that carry the exchange itself: a wrong one would break every request.
fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let carries = [ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING].contains(&name);
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    (!carries).then_some((name, value))
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

impl Config for Endpoint {
    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    fn query(&self) -> Vec<(&str, &str)> {
        Vec::new()
    }

    fn api_base(&self) -> &str {
        &self.base_url
    }

    fn api_key(&self) -> &SecretString {
        &self.api_key
    }
}

/// Makes exchanges. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub(super) struct Transport {
    endpoint: Endpoint,
    http: reqwest::Client,
    classifier: Arc<Classifier>,
}

impl Transport {
    pub(super) fn new(endpoint: Endpoint, classifier: Arc<Classifier>) -> Result<Self, NewError> {
        // Fails when one is installed already, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        if endpoint.is_plain && !endpoint.is_local() && !endpoint.headers.is_empty() {
            tracing::warn!(host = %endpoint.host, "the provider's key travels unencrypted: base_url is not https");
        }
        let http = http_client(&endpoint)?;
        Ok(Self { endpoint, http, classifier })
    }

    /// A client for one exchange, and what will become of that.
    pub(super) fn client(&self) -> (Client<Endpoint>, Fate) {
        let fate = Fate::default();
        let service = {
            let (transport, fate) = (self.clone(), fate.clone());
            tower::service_fn(move |factory: HttpRequestFactory| {
                let (transport, fate) = (transport.clone(), fate.clone());
                async move { transport.exchange(&factory, fate).await }
            })
        };
        let client = Client::build(self.http.clone(), self.endpoint.clone()).with_http_service(service);
        (client, fate)
    }

    async fn exchange(
        &self,
        factory: &HttpRequestFactory,
        fate: Fate,
    ) -> Result<Response, Box<dyn StdError + Send + Sync>> {
        let request = factory.build().await?;
        let response = self.http.execute(request).await.map_err(|error| self.classifier.exchange(error))?;
        if !response.status().is_success() {
            return Err(self.refused(response, &fate).await.into());
        }
        // Without the header the server may well stream.
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if let Some(other) = content_type.filter(|value| !value.starts_with("text/event-stream")) {
            let message = format!("answered with {other}, not with a stream of events");
            return Err(self.classifier.error(&Problem::new(ErrorKind::Garbled, message)).into());
        }
        let status = response.status();
        let body = by_lines(response.bytes_stream().boxed(), Arc::clone(&self.classifier), fate);
        let watched = http::Response::builder().status(status).body(reqwest::Body::wrap_stream(body))?;
        Ok(watched.into())
    }

    async fn refused(&self, mut response: Response, fate: &Fate) -> Error {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut words = Vec::new();
        let read = async {
            while let Ok(Some(bytes)) = response.chunk().await {
                words.extend_from_slice(&bytes);
                if words.len() >= REFUSAL_BYTES_MAX {
                    break;
                }
            }
        };
        // Whatever came until then is used.
        let _ = timeout(REFUSAL_TIMEOUT, read).await;
        let words = String::from_utf8_lossy(&words);
        let error = self.classifier.status(status, &headers, &words);
        // The words themselves end here.
        if error.kind == ErrorKind::BadRequest && words.contains(USAGE_FIELD) {
            fate.set(Ended::OverUsage);
        }
        error
    }
}

fn http_client(endpoint: &Endpoint) -> Result<reqwest::Client, NewError> {
    let builder = || {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("salon/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirect would carry the conversation to a server that nobody configured.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never());
        if endpoint.is_local() { builder.no_proxy() } else { builder }
    };
    if endpoint.is_plain {
        // No certificate is ever looked at, so none need be there.
        return builder().tls_certs_only([]).build().map_err(NewError::HttpClient);
    }
    builder().build().or_else(|error| {
        // A small container may have no certificates. The rest of the server works without a model, and each call
        // will fail as a network error.
        let client = builder().tls_certs_only([]).build().map_err(NewError::HttpClient)?;
        tracing::error!(
            %error,
            host = %endpoint.host,
            "no root certificates, so every call of the provider will fail: install ca-certificates or set SSL_CERT_FILE"
        );
        Ok(client)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str, key: &str) -> Result<Endpoint, NewError> {
        Endpoint::new(url, SecretString::from(key), &[])
    }

    #[test]
    fn a_base_url_is_used_with_and_without_a_slash_at_its_end() {
        for url in ["http://localhost:11434/v1", "http://localhost:11434/v1/"] {
            let endpoint = endpoint(url, "").unwrap();
            assert_eq!(endpoint.url("/chat/completions"), "http://localhost:11434/v1/chat/completions");
            assert!(endpoint.headers().is_empty());
            assert!(endpoint.is_local());
        }
        assert!(endpoint("http://[::1]:1/v1", "").unwrap().is_local());
        assert!(!endpoint("https://example.com", "").unwrap().is_local());
    }

    #[test]
    fn what_cannot_be_called_is_refused_without_being_repeated() {
        let bad =
            ["", "example.com", "ftp://example.com", "http://u:hunter2@example.com", "http://e.com/?a=b"];
        for url in bad {
            let error = endpoint(url, "").unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert!(matches!(error, NewError::BaseUrl(_)), "{url}");
        }
        assert!(matches!(endpoint("http://e.com", "a\nb"), Err(NewError::ApiKey)));
    }

    #[test]
    fn headers_are_sent_and_those_of_the_exchange_are_refused() {
        let with = |name: &str, value: &str| {
            let headers = [(name.to_owned(), SecretString::from(value))];
            Endpoint::new("http://e.com", SecretString::from(""), &headers)
        };
        assert_eq!(with("X-Title", "Salon").unwrap().headers()["x-title"], "Salon");
        for (name, value) in
            [("x title", "a"), ("", "a"), ("x", "a\nb"), ("Content-Length", "1"), ("host", "x")]
        {
            let error = with(name, value).unwrap_err();
            assert!(matches!(&error, NewError::Header(refused) if refused == name), "{name}: {error}");
        }
    }

    #[test]
    fn the_key_is_sent_and_never_printed() {
        let endpoint = endpoint("http://e.com", "sk-secret").unwrap();
        assert_eq!(endpoint.headers()[AUTHORIZATION], "Bearer sk-secret");
        assert!(!format!("{endpoint:?} {:?}", endpoint.headers()).contains("sk-secret"));
    }
}
