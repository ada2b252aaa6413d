//! Answers from any server that speaks OpenAI's chat completions, by async-openai.
//!
//! Owns the HTTP client and the key. Never retries a call on its own and never reads the environment. Whatever goes
//! wrong, from a refused connection to broken JSON in the middle of an answer, becomes one classified error.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_openai::{Client, error::OpenAIError, types::stream::StreamResponse};
use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use thiserror::Error as ThisError;
use tokio::time::{Instant, timeout_at};

use crate::llm::{
    Delta, Deltas, Error, ErrorKind, Provider, Request,
    assemble::Assembler,
    fault::{Fault, Problem, Reporter},
};

mod body;
mod chunk;
mod classify;
mod fate;
mod request;
mod transport;

use chunk::Chunk;
use classify::Classifier;
use fate::Fate;
use request::{Dialect, OWN_NAMES, Wanted};
use transport::{Endpoint, Transport};

/// The server of a key that names no other.
pub const OPENAI_BASE_URL: &str = "https://api.openai.com/v1";
/// The model of a configuration that names no other: cheap, and able to call tools.
pub const OPENAI_DEFAULT_MODEL: &str = "gpt-4o-mini";

/// How long the usage and the end mark are waited for once the model has stopped: a server that never closes the
/// stream must not turn a whole answer into a timeout.
const AFTER_FINISH: Duration = Duration::from_secs(1);

/// A header's value below this is a word rather than a key.
const SECRET_CHARS_MIN: usize = 8;

/// What a provider is made from.
#[derive(Debug, Clone)]
pub struct OpenAiConfig {
    /// Up to and with `/v1`, or wherever `/chat/completions` goes behind.
    pub base_url: String,
    /// Empty for servers that want none.
    pub api_key: SecretString,
    /// For requests that name no model.
    pub default_model: String,
    /// Further headers of every request; any may be a secret.
    pub headers: Vec<(String, SecretString)>,
    /// What is added to the body of every request.
    pub extra_body: Map<String, Value>,
}

/// Why a provider cannot be made.
#[derive(Debug, ThisError)]
pub enum NewError {
    /// The base URL is unusable. The URL itself is left out, since it may hold a password.
    #[error("base_url {0}")]
    BaseUrl(&'static str),
    /// The key holds characters that no header may have.
    #[error("the api key holds characters that cannot be sent, such as a line break")]
    ApiKey,
    /// A header has a name or a value that cannot be sent, or is one that the client writes itself.
    #[error(
        "the header {0} cannot be sent: it is no header, holds a line break, or is not the operator's to set"
    )]
    Header(String),
    /// The extra body would change what the server itself says.
    #[error("extra_body must not hold {0}, which the server sets itself")]
    ExtraBody(String),
    /// The HTTP client did not start.
    #[error("the http client cannot be made")]
    HttpClient(#[source] reqwest::Error),
}

/// See the module.
pub struct OpenAiProvider {
    name: String,
    default_model: String,
    dialect: Dialect,
    extra_body: Map<String, Value>,
    transport: Transport,
    classifier: Arc<Classifier>,
    /// Set once the server has refused to be asked for usage.
    refuses_usage: AtomicBool,
}

impl OpenAiProvider {
    /// A provider that calls `config.base_url`. Opens no connection.
    pub fn new(name: &str, config: OpenAiConfig) -> Result<Self, NewError> {
        if let Some(name) = OWN_NAMES.iter().find(|name| config.extra_body.contains_key(**name)) {
            return Err(NewError::ExtraBody((*name).to_owned()));
        }
        let endpoint = Endpoint::new(&config.base_url, config.api_key.clone(), &config.headers)?;
        let mut secrets: Vec<_> = config.headers.into_iter().map(|(_, value)| value).collect();
        // What is short is no secret, and taking it out would make a message unreadable.
        secrets.retain(|secret| secret.expose_secret().len() >= SECRET_CHARS_MIN);
        secrets.push(config.api_key);
        let classifier = Arc::new(Classifier::new(Reporter::new(name, secrets)));
        let dialect = Dialect::of(endpoint.host());
        let transport = Transport::new(endpoint, Arc::clone(&classifier))?;
        Ok(Self {
            name: name.to_owned(),
            default_model: config.default_model,
            dialect,
            extra_body: config.extra_body,
            transport,
            classifier,
            refuses_usage: AtomicBool::new(false),
        })
    }

    /// Asks once. A failure comes with whether it may be because of the wish for usage.
    async fn open(&self, request: &Request, want_usage: bool) -> Result<Answer, (Error, bool)> {
        let model = if request.model.is_empty() { &self.default_model } else { &request.model };
        let wanted = Wanted::new(request, model, self.dialect, want_usage, &self.extra_body);
        let (client, fate) = self.transport.client();
        let opened = open_stream(&client, &wanted).await;
        let upstream = opened.map_err(|error| (self.opening(error, &fate), fate.is_over_usage()))?;
        Ok(Answer {
            upstream: Some(upstream),
            fate,
            assembler: Assembler::default(),
            ready: VecDeque::new(),
            finish_by: None,
            classifier: Arc::clone(&self.classifier),
        })
    }

    fn opening(&self, error: OpenAIError, fate: &Fate) -> Error {
        match error {
            // What the transport refused comes back as it was classified there.
            OpenAIError::Boxed(inner) => match inner.downcast::<Error>() {
                Ok(classified) => *classified,
                Err(other) => self.classifier.error(&Problem::new(ErrorKind::Network, other.to_string())),
            },
            other => self.classifier.streamed(other, fate),
        }
    }
}

impl fmt::Debug for OpenAiProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiProvider")
            .field("name", &self.name)
            .field("default_model", &self.default_model)
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Provider for OpenAiProvider {
    fn name(&self) -> &str {
        &self.name
    }

    async fn answer(&self, request: Request) -> Result<Deltas, Error> {
        let want_usage = !self.refuses_usage.load(Ordering::Relaxed);
        let answer = match self.open(&request, want_usage).await {
            // Some servers refuse a field that they do not know. Usage is worth less than an answer, so it is given
            // up; nothing of an answer exists yet. For good and aloud only once that helped: the words of a refusal
            // may repeat what was asked, whatever was wrong with it.
            Err((_, true)) if want_usage => {
                let answer = self.open(&request, false).await.map_err(|(error, _)| error)?;
                self.refuses_usage.store(true, Ordering::Relaxed);
                tracing::warn!(provider = %self.name, "the server reports no usage; asking without from now on");
                answer
            }
            other => other.map_err(|(error, _)| error)?,
        };
        let deltas = stream::unfold(answer, |mut answer| async move {
            let item = answer.next().await?;
            Some((item, answer))
        });
        Ok(deltas.boxed())
    }
}

async fn open_stream(
    client: &Client<Endpoint>,
    wanted: &Wanted<'_>,
) -> Result<StreamResponse<Chunk>, OpenAIError> {
    client.chat().create_stream_byot(wanted).await
}

/// An answer on its way. Dropping it drops `upstream`, on which async-openai gives up the connection.
struct Answer {
    /// `None` once ended.
    upstream: Option<StreamResponse<Chunk>>,
    fate: Fate,
    assembler: Assembler,
    /// What is known and not yet handed on.
    ready: VecDeque<Delta>,
    /// Set when the model has stopped.
    finish_by: Option<Instant>,
    classifier: Arc<Classifier>,
}

impl Answer {
    async fn next(&mut self) -> Option<Result<Delta, Error>> {
        loop {
            if let Some(delta) = self.ready.pop_front() {
                return Some(Ok(delta));
            }
            let upstream = self.upstream.as_mut()?;
            let arrived = match self.finish_by {
                None => upstream.next().await,
                Some(deadline) => timeout_at(deadline, upstream.next()).await.unwrap_or(None),
            };
            let problem = match arrived {
                Some(Ok(chunk)) => self.take(chunk).err(),
                // The model had stopped: the answer is whole, whatever became of the connection.
                Some(Err(_)) | None if self.assembler.has_finished() => self.end().err(),
                Some(Err(error)) => Some(self.classifier.streamed(error, &self.fate)),
                None if self.fate.is_cut() => Some(self.classifier.error(&Problem::new(
                    ErrorKind::Network,
                    "the stream ended in the middle of the answer",
                ))),
                None => self.end().err(),
            };
            if let Some(error) = problem {
                self.upstream = None;
                self.ready.clear();
                return Some(Err(error));
            }
        }
    }

    fn take(&mut self, chunk: Chunk) -> Result<(), Error> {
        let taken = take(&mut self.assembler, chunk, &mut self.ready);
        taken.map_err(|problem| self.classifier.error(&problem))?;
        if self.finish_by.is_none() && self.assembler.has_finished() {
            self.finish_by = Some(Instant::now() + AFTER_FINISH);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        self.upstream = None;
        self.assembler.end(&mut self.ready).map_err(|problem| self.classifier.error(&problem))
    }
}

/// Puts a chunk into an answer, unless it reports a failure.
fn take(assembler: &mut Assembler, chunk: Chunk, out: &mut VecDeque<Delta>) -> Result<(), Problem> {
    if let Some(error) = &chunk.error {
        return Err(Fault::from_value(error).in_stream());
    }
    if let Some((prompt_tokens, completion_tokens)) = chunk.tokens() {
        assembler.set_usage(prompt_tokens, completion_tokens);
    }
    chunk.into_pieces().try_for_each(|piece| assembler.take(piece, out))
}
