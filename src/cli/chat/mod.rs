//! `salon chat ROOM`: one person, or one pipe, in one room.
//!
//! Owns the order of a conversation: join, talk, wait for what was caused, leave. A refused command is told and makes
//! the command fail in the end; a lost connection is mended below, in [`session`].

pub mod answers;
pub mod approvals;
pub mod command;
pub mod console;
pub mod conversation;
pub mod dial;
pub mod direct;
pub mod input;
pub mod io;
pub mod live;
pub mod llms;
pub mod news;
pub mod outbox;
mod people;
pub mod polls;
pub mod screen;
pub mod session;
pub mod style;
pub mod view;
mod words;

use std::{
    io::{IsTerminal, stderr, stdin, stdout},
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tonic::Code;

use crate::{
    cli::{
        chat::{
            conversation::Conversation,
            dial::{DialError, Link, dial},
            io::Io,
            session::Session,
            style::{ColorChoice, Style},
        },
        client::{self, Error, Rooms},
        exit::Exit,
        text,
    },
    wire::pb::room::v1::{CreateRoomRequest, JoinRoom, ServerEvent, server_event::Payload},
};

/// Updates that are not yet on the screen; a slow terminal slows the stream, and the server copes with that.
const UPDATES: usize = 256;

/// Commands on their way to the session: more than a conversation ever has open at once, see [`conversation`].
const COMMANDS: usize = 2 * conversation::OPEN_MAX;

/// How long the terminal has to show the last lines.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What `salon chat` was asked.
#[derive(Debug, Clone)]
pub struct ChatOptions {
    /// The server.
    pub server: client::Server,
    /// The room to join.
    pub room: String,
    /// Who joins; empty: whom the credential speaks for.
    pub user: String,
    /// How others see this user; none: by the user's id, or by the name the room already has.
    pub name: Option<String>,
    /// Create the room when there is none.
    pub create: bool,
    /// The secret of an invitation; empty: none.
    pub invitation: String,
    /// When to use colours.
    pub color: ColorChoice,
    /// Continue behind this position instead of from the room's present state.
    pub resume_after: Option<u64>,
    /// How long a pipe waits, after its end, for answers to what it said.
    pub wait: Duration,
}

/// Talks on the process' own standard streams.
pub async fn run(options: ChatOptions) -> Result<Exit, Error> {
    let opened = open(&options).await?;
    let (input_is_terminal, output_is_terminal) = (stdin().is_terminal(), stdout().is_terminal());
    let color = options.color.resolve(output_is_terminal, |name| std::env::var(name).ok());
    let mut tasks = JoinSet::new();
    let io = if input_is_terminal && output_is_terminal {
        io::terminal(&mut tasks)?
    } else {
        io::pipes(stdin(), stdout(), stderr(), output_is_terminal)?
    };
    let exit = converse(&options, opened, io, Style { color }).await;
    // The terminal's task flushes and leaves raw mode; a terminal that hangs must not keep the process.
    let _ = timeout(LAST_WORDS, tasks.join_next()).await;
    tasks.shutdown().await;
    exit
}

/// Talks through `io`.
pub async fn run_with(options: ChatOptions, io: Io) -> Result<Exit, Error> {
    let opened = open(&options).await?;
    let color = options.color == ColorChoice::Always;
    converse(&options, opened, io, Style { color }).await
}

/// A joined stream.
struct Opened {
    client: Rooms,
    join: JoinRoom,
    link: Link,
    first: ServerEvent,
}

/// Connects and joins, and creates the room before if that is wanted and needed.
async fn open(options: &ChatOptions) -> Result<Opened, Error> {
    let mut client = client::rooms(&options.server).await?;
    let join = JoinRoom {
        room_id: options.room.clone(),
        user_id: options.user.clone(),
        display_name: options.name.clone().unwrap_or_default(),
        after_seq: options.resume_after,
        invitation: options.invitation.clone(),
        ..Default::default()
    };
    let mut joined = dial(&mut client, &join).await;
    if options.create && matches!(&joined, Err(DialError::Refused(error)) if is_no_room(&error.code)) {
        create(&mut client, options).await?;
        joined = dial(&mut client, &join).await;
    }
    match joined {
        Ok((link, first)) => Ok(Opened { client, join, link, first }),
        Err(DialError::Refused(error)) if is_no_room(&error.code) => {
            Err(Error::NoRoom { room: text::line(&options.room) })
        }
        Err(DialError::Refused(error)) if error.code == "unsupported" => Err(Error::Unimplemented),
        Err(DialError::Refused(error)) => {
            Err(Error::Refused { code: text::line(&error.code), message: text::line(&error.message) })
        }
        Err(DialError::Closed(closing)) => Err(Error::Lost(text::line(&closing.message))),
        Err(DialError::Lost(why)) => Err(Error::Lost(why)),
    }
}

fn is_no_room(code: &str) -> bool {
    code.eq_ignore_ascii_case("room_not_found")
}

/// Who this is, as the server knows them: a credential says it where the options do not.
fn you(first: &ServerEvent) -> Option<&str> {
    match first.payload.as_ref()? {
        Payload::RoomState(state) => state.you.as_ref().map(|you| you.id.as_str()),
        _ => None,
    }
}

async fn create(client: &mut Rooms, options: &ChatOptions) -> Result<(), Error> {
    let request = CreateRoomRequest {
        name: options.room.clone(),
        created_by: options.user.clone(),
        room_id: Some(options.room.clone()),
        ..Default::default()
    };
    match client.create_room(request).await {
        Ok(_) => Ok(()),
        // Somebody was faster: the room is there, which is what was wanted.
        Err(status) if status.code() == Code::AlreadyExists => Ok(()),
        Err(status) => Err(Error::from_status(&status, None)),
    }
}

async fn converse(options: &ChatOptions, opened: Opened, io: Io, style: Style) -> Result<Exit, Error> {
    let me = you(&opened.first).unwrap_or(&options.user).to_owned();
    let (commands, queue) = mpsc::channel(COMMANDS);
    let (updates, told) = mpsc::channel(UPDATES);
    // Somebody who sits there decides alone when to give up.
    let give_up_after = (!io.person).then_some(options.wait);
    let session = Session::new(opened.client, opened.join, give_up_after, queue, updates);
    let mut tasks = JoinSet::new();
    tasks.spawn(session.run(opened.link, opened.first));
    let conversation = Conversation::new(&me, io, style, commands, options.wait);
    let exit = conversation.run(told).await;
    tasks.shutdown().await;
    match exit {
        Err(error) if error.is_broken_pipe() => Ok(Exit::Success),
        exit => exit,
    }
}
