//! Answers from the original's Chat Service, over gRPC.
//!
//! Owns the one channel that all calls share. It is connected when the first call needs it and again after it broke, so
//! a service that is down fails calls and never the start. Never retries a call; dropping an answer resets its stream,
//! which cancels the call there. The connection is not encrypted: the service belongs into the same private network.

use std::{collections::VecDeque, fmt, sync::OnceLock, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use thiserror::Error as ThisError;
use tokio::time::{Instant, timeout_at};
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use crate::{
    llm::{
        Delta, Deltas, Error, ErrorKind, Provider, Request,
        assemble::{Assembler, Piece, ToolPiece},
        fault::{Fault, IN_STREAM, Problem, Reporter},
    },
    wire::pb::{
        api::{ChatResponse, chat_client::ChatClient},
        shared::ToolCall,
    },
};

mod marker;
mod request;
mod status;

use marker::{Heard, Marker};

/// A private network answers at once or not at all; short enough that a room is told soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a connection is asked whether it lives while calls are open. Servers end connections that ask more than
/// twice without having been sent anything; a run is over before.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
/// How long the answer to that may take.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// The same below HTTP, where no server minds: a connection that a router forgot is found before the next call is.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// What may wait unread in one answer, and in all of them: a reader who is slow must not hold up the others, who share
/// the connection.
const STREAM_WINDOW: u32 = 64 * 1024;
/// Enough for 512 answers that nobody reads.
const CONNECTION_WINDOW: u32 = 512 * STREAM_WINDOW;
/// A service that sends a whole answer in one message is fine.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// More than any answer.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long the rest of the stream is waited for once the model has stopped.
const AFTER_FINISH: Duration = Duration::from_secs(1);
/// What `opted_out` is to the rest of the program.
const OPT_OUT: &str = "opt_out";

/// Why a provider cannot be made.
#[derive(Debug, ThisError)]
pub enum NewError {
    /// The address is unusable.
    #[error("the address must be host:port")]
    Address,
}

/// See the module.
pub struct ChatServiceProvider {
    name: String,
    default_model: String,
    endpoint: Endpoint,
    channel: OnceLock<Channel>,
    reporter: Reporter,
}

impl ChatServiceProvider {
    /// A provider that calls the service at `address`, a `host:port`. A request that names no model gets
    /// `default_model`, or if that is empty the service's own choice. Opens no connection.
    pub fn new(name: &str, address: &str, default_model: &str) -> Result<Self, NewError> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .and_then(|endpoint| endpoint.user_agent(concat!("salon/", env!("CARGO_PKG_VERSION"))))
            .map_err(|_| NewError::Address)?;
        if endpoint.uri().port_u16().is_none() || !matches!(endpoint.uri().path(), "" | "/") {
            return Err(NewError::Address);
        }
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(Some(TCP_KEEPALIVE))
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        Ok(Self {
            name: name.to_owned(),
            default_model: default_model.to_owned(),
            endpoint,
            channel: OnceLock::new(),
            reporter: Reporter::new(name, Vec::new()),
        })
    }

    /// The channel starts a task of its own, so it is made by the first call: making a provider needs no runtime.
    fn channel(&self) -> Channel {
        self.channel.get_or_init(|| self.endpoint.connect_lazy()).clone()
    }
}

impl fmt::Debug for ChatServiceProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatServiceProvider")
            .field("name", &self.name)
            .field("address", self.endpoint.uri())
            .field("default_model", &self.default_model)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Provider for ChatServiceProvider {
    fn name(&self) -> &str {
        &self.name
    }

    async fn answer(&self, request: Request) -> Result<Deltas, Error> {
        let wanted = request::wanted(&request, &self.default_model);
        // With several models each answers in the same stream, and a service may choose several by itself.
        let any_model = !wanted.models.is_empty();
        let mut client = ChatClient::new(self.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let opened = client.chat(wanted).await;
        let upstream = opened.map_err(|status| self.reporter.error(&status::problem(&status)))?.into_inner();
        let answer = Answer {
            upstream: Some(upstream),
            any_model,
            model: None,
            bytes: 0,
            marker: Marker::default(),
            assembler: Assembler::default(),
            ready: VecDeque::new(),
            finish_by: None,
            reporter: self.reporter.clone(),
        };
        let deltas = stream::unfold(answer, |mut answer| async move {
            let item = answer.next().await?;
            Some((item, answer))
        });
        Ok(deltas.boxed())
    }
}

/// An answer on its way. Dropping it drops `upstream`, which resets the stream.
struct Answer {
    /// `None` once ended.
    upstream: Option<Streaming<ChatResponse>>,
    /// Whether every part counts, whatever model it says it is of.
    any_model: bool,
    /// The model that spoke first by its name.
    model: Option<String>,
    bytes: usize,
    marker: Marker,
    assembler: Assembler,
    /// What is known and not yet handed on.
    ready: VecDeque<Delta>,
    /// Set when the model has stopped.
    finish_by: Option<Instant>,
    reporter: Reporter,
}

impl Answer {
    async fn next(&mut self) -> Option<Result<Delta, Error>> {
        loop {
            if let Some(delta) = self.ready.pop_front() {
                return Some(Ok(delta));
            }
            let upstream = self.upstream.as_mut()?;
            let arrived = match self.finish_by {
                None => upstream.message().await,
                Some(deadline) => timeout_at(deadline, upstream.message()).await.unwrap_or(Ok(None)),
            };
            let result = match arrived {
                Ok(Some(response)) => self.take(response),
                // The model had stopped: the answer is whole, whatever became of the connection.
                Err(_) if self.assembler.has_finished() => self.end(),
                // Without a word of the model about its end, the status is that word.
                Ok(None) => self.end(),
                Err(status) => Err(status::problem(&status)),
            };
            if let Err(problem) = result {
                self.upstream = None;
                self.ready.clear();
                return Some(Err(self.reporter.error(&problem)));
            }
        }
    }

    fn take(&mut self, response: ChatResponse) -> Result<(), Problem> {
        if let Some(usage) = response.usage {
            self.assembler.set_usage(usage.prompt_tokens, usage.completion_tokens);
        }
        let delta = response.delta.unwrap_or_default();
        let size = |call: &ToolCall| call.id.len() + call.name.len() + call.arguments.len();
        self.bytes += delta.content.len() + delta.tool_calls.iter().map(size).sum::<usize>();
        if self.bytes > ANSWER_BYTES_MAX {
            return Err(Problem::new(ErrorKind::Garbled, "the answer is larger than any answer"));
        }
        // A part without a name is everybody's, and says nothing of who speaks in the others.
        if !self.any_model
            && !response.model.is_empty()
            && response.model != *self.model.get_or_insert_with(|| response.model.clone())
        {
            return Ok(());
        }
        let is_last = delta.opted_out || !response.finish_reason.is_empty();
        let has_calls = delta.opted_out || !delta.tool_calls.is_empty();
        let mut text = match self.marker.hear(delta.content) {
            Heard::Text(text) => text,
            Heard::Failure(told) => return Err(failure(&told)),
        };
        if is_last || has_calls {
            text.push_str(&self.marker.rest());
        }
        let mut tools: Vec<_> = delta.tool_calls.into_iter().enumerate().map(tool).collect();
        if delta.opted_out {
            tools.push(ToolPiece { id: OPT_OUT.into(), name: OPT_OUT.into(), ..ToolPiece::default() });
        }
        // With `opted_out` the service stops as well, and says nothing of why.
        let finish = match (response.finish_reason, delta.opted_out) {
            (reason, _) if !reason.is_empty() => Some(reason),
            (_, true) => Some("stop".to_owned()),
            (_, false) => None,
        };
        self.assembler.take(Piece { text, tools, finish, ..Piece::default() }, &mut self.ready)?;
        if self.finish_by.is_none() && self.assembler.has_finished() {
            self.finish_by = Some(Instant::now() + AFTER_FINISH);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        self.upstream = None;
        let text = self.marker.rest();
        if !text.is_empty() {
            self.assembler.take(Piece { text, ..Piece::default() }, &mut self.ready)?;
        }
        self.assembler.end(&mut self.ready)
    }
}

/// A call, whole or a piece of one. One without an id is told from the others of its message by its place.
fn tool((place, call): (usize, ToolCall)) -> ToolPiece {
    let index = if call.id.is_empty() { u32::try_from(place).ok() } else { None };
    ToolPiece { index, id: call.id, name: call.name, arguments: call.arguments }
}

/// What a service says in place of an answer when its own provider failed.
fn failure(told: &str) -> Problem {
    let fault = Fault::from_exception(told.trim());
    Problem::told(fault.kind_of_exception(), IN_STREAM, fault)
}
