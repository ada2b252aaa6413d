//! How a server is reached, and what of it is offered.
//!
//! Settings only: nothing here opens anything. Secrets are in [`SecretString`]s, which no `Debug` shows.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};

/// The shortest part of a secret URL's path that is taken for a secret by itself.
const PATH_SECRET_MIN: usize = 16;

/// The tool name of the [`Rule`] for every tool that has none of its own.
pub const ANY_TOOL: &str = "*";

/// One server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Its name: a-z, 0-9, - and single _, at most 32 characters, not ending in _.
    pub name: String,
    /// Where it is.
    pub endpoint: Endpoint,
    /// How long connecting, the handshake and the list of tools may take, each.
    pub connect_timeout: Duration,
    /// How long a call may take.
    pub call_timeout: Duration,
    /// Bytes of a result's text; the rest is cut off.
    pub max_result: usize,
    /// What is offered, by the server's own names for its tools; what has no rule is not offered.
    pub rules: BTreeMap<String, Rule>,
    /// How soon things are tried again.
    pub pace: Pace,
}

/// Where a server is.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// A child process that is spoken to over its standard input and output.
    Stdio {
        /// The program: a path, or a name that is looked up in the `PATH` of `env`.
        program: String,
        /// Its arguments, as they are: no shell reads them.
        args: Vec<Argument>,
        /// All of its environment but the secrets.
        env: BTreeMap<String, String>,
        /// The rest of its environment.
        secret_env: BTreeMap<String, SecretString>,
        /// Its working directory; none: ours.
        cwd: Option<PathBuf>,
    },
    /// A server that is spoken to by streamable HTTP.
    Http {
        /// Where; `http` or `https`, without fragment.
        url: SecretString,
        /// Whether nothing may repeat it: it may hold a user, a query, or a path that nobody should know.
        is_url_secret: bool,
        /// What is sent with every request.
        headers: BTreeMap<String, SecretString>,
    },
}

/// An argument of a program.
#[derive(Debug, Clone)]
pub enum Argument {
    /// One that may be seen.
    Shown(String),
    /// One that holds a secret.
    Secret(SecretString),
}

impl From<&str> for Argument {
    fn from(text: &str) -> Self {
        Self::Shown(text.into())
    }
}

impl Argument {
    /// As the program gets it.
    pub(super) fn expose(&self) -> &str {
        match self {
            Self::Shown(text) => text,
            Self::Secret(secret) => secret.expose_secret(),
        }
    }
}

/// Whether a tool is offered, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// It is not.
    Hidden,
    /// It is.
    Offered(Policy),
}

/// What the operator says about a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Whether a person has to approve each call.
    pub approval: bool,
    /// Whether only runs may call it that have read nothing from outside the room.
    pub trusted_only: bool,
}

/// How soon things are tried again. The defaults are for everything but tests.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// After the first failure in a row; then twice as long each time, with jitter.
    pub first_retry: Duration,
    /// The longest such wait.
    pub last_retry: Duration,
    /// Between two looks whether a silent server is alive.
    pub check: Duration,
    /// Between two lists that a server asks for by saying that its tools have changed.
    pub relist: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first_retry: Duration::from_millis(500),
            last_retry: Duration::from_secs(60),
            check: Duration::from_secs(30),
            relist: Duration::from_secs(1),
        }
    }
}

impl Endpoint {
    /// Every secret of it.
    pub(super) fn secrets(&self) -> Vec<SecretString> {
        match self {
            Self::Stdio { secret_env, args, .. } => {
                let args = args.iter().filter_map(|argument| match argument {
                    Argument::Secret(secret) => Some(secret),
                    Argument::Shown(_) => None,
                });
                secret_env.values().chain(args).cloned().collect()
            }
            Self::Http { headers, url, is_url_secret } => {
                let parts = if *is_url_secret { url_secrets(url.expose_secret()) } else { Vec::new() };
                headers.values().cloned().chain(parts).collect()
            }
        }
    }
}

/// A URL as it is written and as it is sent, and what of it may be a secret by itself.
fn url_secrets(written: &str) -> Vec<SecretString> {
    let mut secrets = vec![written.to_owned()];
    if let Ok(mut url) = reqwest::Url::parse(written) {
        secrets.push(url.to_string());
        secrets.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
        secrets.extend(url.query().map(str::to_owned));
        secrets.extend([url.username(), url.password().unwrap_or_default()].map(str::to_owned));
        // Words such as `search` are no secrets, and hiding them would spoil texts.
        let segments = url.path_segments().into_iter().flatten();
        secrets.extend(segments.filter(|part| part.len() >= PATH_SECRET_MIN).map(str::to_owned));
        // The client takes the user out before it says where it could not go.
        if url.set_username("").is_ok() && url.set_password(None).is_ok() {
            secrets.push(url.to_string());
        }
    }
    secrets.into_iter().map(SecretString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::words::Secrets;

    #[test]
    fn every_secret_of_a_url_is_known() {
        let url =
            "https://user-1:pass-2@tools.example.com/s/0123456789abcdef0123/mcp?key=query%2D3&b=query-4";
        let known = |is_url_secret| {
            let endpoint = Endpoint::Http { url: url.into(), is_url_secret, headers: BTreeMap::new() };
            assert!(!format!("{endpoint:?}").contains("query"), "{endpoint:?}");
            endpoint.secrets()
        };
        assert!(known(false).is_empty());
        let secrets = Secrets::new(known(true));
        let said = format!(
            "{url} https://tools.example.com/s/0123456789abcdef0123/mcp?key=query%2D3&b=query-4 query-3 query-4 \
             user-1 pass-2 0123456789abcdef0123"
        );
        assert_eq!(secrets.hide(&said), "*** *** *** *** *** *** ***");
    }

    #[test]
    fn an_argument_that_is_secret_is_known() {
        let endpoint = Endpoint::Stdio {
            program: "a".into(),
            args: vec!["shown-1".into(), Argument::Secret("hidden-1".into())],
            env: BTreeMap::new(),
            secret_env: BTreeMap::new(),
            cwd: None,
        };
        assert!(!format!("{endpoint:?}").contains("hidden-1"));
        assert_eq!(Secrets::new(endpoint.secrets()).hide("shown-1 hidden-1"), "shown-1 ***");
    }
}
