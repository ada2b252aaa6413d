//! How a server is reached, and what of it is offered.
//!
//! Settings only: nothing here opens anything. Secrets are in [`SecretString`]s, which no `Debug` shows.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use secrecy::SecretString;

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
        args: Vec<String>,
        /// All of its environment but the secrets.
        env: BTreeMap<String, String>,
        /// The rest of its environment.
        secret_env: BTreeMap<String, SecretString>,
        /// Its working directory; none: ours.
        cwd: Option<PathBuf>,
    },
    /// A server that is spoken to by streamable HTTP.
    Http {
        /// Where; `http` or `https`, without user, query and fragment.
        url: String,
        /// What is sent with every request.
        headers: BTreeMap<String, SecretString>,
    },
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
            Self::Stdio { secret_env, .. } => secret_env.values().cloned().collect(),
            Self::Http { headers, .. } => headers.values().cloned().collect(),
        }
    }
}
