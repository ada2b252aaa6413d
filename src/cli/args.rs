//! The arguments, typed, with the help that people read.
//!
//! Owns names, defaults and examples; what a command does is elsewhere. An argument that cannot be understood ends the
//! process with what was expected, before anything is opened.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, builder::NonEmptyStringValueParser};
use clap_complete::Shell;

use crate::{
    cli::{
        admin::args::Admin,
        bench::args::{self as bench, Bench},
        client,
        tls::TlsArgs,
        token::TokenArgs,
    },
    config::parse_duration,
};

/// Where a server listens unless it is told otherwise.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:50052";

const EXAMPLES: &str = "\
Examples:
  salon                          Serve on 127.0.0.1:50052, with the data in ./data
  salon chat lobby --create      Talk in the room `lobby`; the first to come creates it
  salon rooms                    List the rooms
  GRPC_PORT=0 salon serve        Serve on any free port
  salon config                   Print the configuration in force, and where each value comes from";

const CHAT_EXAMPLES: &str = "\
Examples:
  salon chat lobby --create
  salon chat lobby --user ada --name \"Ada Lovelace\"
  echo \"the build is green\" | salon chat lobby --user ci
  salon chat lobby --server http://10.0.0.7:50052
  salon chat lobby --server https://rooms.example:50052 --ca authority.pem

In the room:
  /poll, /vote, /who, /interrupt and /quit; /help lists the rest. Everything else is said.";

const LOG_EXAMPLES: &str = "\
Examples:
  salon log lobby                          The whole log
  salon log lobby --after 120 --limit 50   Fifty events, from 121 on
  salon log lobby | jq .seq";

const ROOMS_EXAMPLES: &str = "\
Examples:
  salon rooms
  salon rooms --user ada --json | jq -r .roomId
  salon rooms generate \"where we plan a journey\"   Let a model propose a room";

const GENERATE_EXAMPLES: &str = "\
Examples:
  salon rooms generate \"a tea house with a master who knows everything\"
  salon rooms generate \"a reading circle\" --accept
  salon rooms generate \"a reading circle\" --accept --json | jq -r .draft.roomId

At a terminal you are asked before the room is created; elsewhere it is created only with --accept.";

const USAGE_EXAMPLES: &str = "\
Examples:
  salon usage                          Of all rooms together
  salon usage --room lobby --user ada  Of the room, and of the user
  salon usage --json | jq -r .spent";

const HEALTH_EXAMPLES: &str = "\
Examples:
  salon health
  salon health --service room.v1.RoomService --timeout 500ms
  salon health --server https://rooms.example:50052 --ca authority.pem

Without --server the server of this configuration is asked, on this machine; its certificate is not looked at. If it
lets nobody in without a certificate (tls.client_auth: required), its own is shown, or the one of --cert.

The exit status is 0 if the server answers that it serves, else 1.";

const CONFIG_EXAMPLES: &str = "\
Examples:
  salon config
  salon --config /etc/salon.yaml config
  SALON__LIMITS__MESSAGE_BYTES=32KiB salon config

What it prints can be used as a config file. Secrets are never printed.
The exit status is 78 if the configuration is refused.";

const BACKUP_EXAMPLES: &str = "\
Examples:
  salon backup salon-2026-09-01.backup
  salon --config /etc/salon.yaml backup /srv/backups/today.backup

Reads the store that the configuration names, also while servers use it.
The exit status is 0 when the file is whole and on the disk, else 1.";

const RESTORE_EXAMPLES: &str = "\
Examples:
  salon restore today.backup --check                     Read the whole file, and change nothing
  salon --config new.yaml restore today.backup           Into the empty store that the configuration names
  STORE_URL=postgres://db/salon SALON__STORE__KIND=postgres salon restore today.backup

No server may use the store meanwhile. The exit status is 0 when all of it is there, else 1.";

const VERIFY_EXAMPLES: &str = "\
Examples:
  salon verify
  salon --config /etc/salon.yaml verify
  salon verify --write-heads heads-2026-09-01   Also write down what each room's log comes to
  salon verify --heads heads-2026-09-01         Also compare the logs with what was written down

A file of heads finds what somebody has done who could write to the store: events that were changed, removed, put in
another order or cut off. So keep it where they cannot reach it; sign it, if others should believe it. Several files may
be put into one.

Prints each thing that is wrong on a line of its own, and changes nothing.
The exit status is 0 if nothing is wrong, 3 if something is, and 1 if the store could not be looked at.";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  salon completions bash > ~/.local/share/bash-completion/completions/salon
  salon completions zsh > ~/.zfunc/_salon
  salon completions fish > ~/.config/fish/completions/salon.fish";

/// A room server: people and LLMs talk in rooms.
///
/// Without a command it serves.
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(name = "salon", version, after_help = EXAMPLES)]
pub struct Args {
    /// The config file; without it ./config.yaml if there is one, else the defaults
    #[arg(long, global = true, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// What to do; nothing: serve.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Command {
    /// Run the server (what happens without a command, too)
    Serve,
    /// Make what the store needs before servers can use it: the table of dynamodb, the schema of postgres
    Setup,
    /// Talk in a room
    #[command(after_help = CHAT_EXAMPLES)]
    Chat(Chat),
    /// List the rooms, or let a model propose one
    #[command(after_help = ROOMS_EXAMPLES, args_conflicts_with_subcommands = true)]
    Rooms(Rooms),
    /// Print what the answers of LLMs have used up, beside what is allowed
    #[command(after_help = USAGE_EXAMPLES)]
    Usage(Usage),
    /// Print a room's log, one JSON object a line
    #[command(after_help = LOG_EXAMPLES)]
    Log(Log),
    /// Ask a server whether it serves
    #[command(after_help = HEALTH_EXAMPLES)]
    Health(Health),
    /// Print the configuration in force, and where each value comes from
    #[command(after_help = CONFIG_EXAMPLES)]
    Config,
    /// Write all that the store keeps to a file
    #[command(after_help = BACKUP_EXAMPLES)]
    Backup {
        /// The file, which must not be there yet
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Put a backup into an empty store
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(Restore),
    /// Look for what is wrong with the store
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Verify),
    /// Manage namespaces, identities, API keys and tokens
    #[command(subcommand)]
    Admin(Admin),
    /// Measure what a load costs a server
    #[command(after_help = bench::EXAMPLES)]
    Bench(Box<Bench>),
    /// Print the script that completes these commands in a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
}

/// `salon restore`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Restore {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Go on with a restore of the same file that was stopped
    #[arg(long)]
    pub resume: bool,
    /// Only read the file to its end
    #[arg(long, conflicts_with = "resume")]
    pub check: bool,
}

/// `salon verify`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Verify {
    /// Compare each room's log with what it came to when this file was written
    #[arg(long, value_name = "FILE")]
    pub heads: Option<PathBuf>,
    /// If nothing is wrong, write what each room's log comes to to this file, which must not be there yet
    #[arg(long, value_name = "FILE")]
    pub write_heads: Option<PathBuf>,
}

/// Which server.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Server {
    /// The server
    #[arg(long = "server", env = "SALON_SERVER", default_value = DEFAULT_SERVER, value_name = "URL", value_parser = server_url)]
    pub url: String,
    /// How it is trusted.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// What it is shown.
    #[command(flatten)]
    pub token: TokenArgs,
}

impl From<Server> for client::Server {
    fn from(Server { url, tls, token }: Server) -> Self {
        Self { url, tls: tls.into(), token: token.into() }
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct User {
    /// Who you are to the server; without it whom your credential speaks for, or your name on this machine
    #[arg(long = "user", env = "SALON_USER", value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub id: Option<String>,
}

/// `salon chat`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Chat {
    /// The room's id or name
    #[arg(value_name = "ROOM", value_parser = NonEmptyStringValueParser::new())]
    pub room: String,
    /// Which server.
    #[command(flatten)]
    pub server: Server,
    /// Who talks.
    #[command(flatten)]
    pub user: User,
    /// The name that others see; without it the user id
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub name: Option<String>,
    /// Create the room if there is none
    #[arg(long)]
    pub create: bool,
    /// What an invitation to the room says
    #[arg(long, value_name = "SECRET", env = "SALON_INVITATION", hide_env_values = true)]
    pub invitation: Option<String>,
}

/// `salon rooms`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Rooms {
    /// What to do; nothing: list them.
    #[command(subcommand)]
    pub command: Option<RoomsCommand>,
    /// Which server.
    #[command(flatten)]
    pub server: Server,
    /// Who asks.
    #[command(flatten)]
    pub user: User,
    /// Print one JSON object a line instead of a table
    #[arg(long)]
    pub json: bool,
}

/// What to do with rooms.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum RoomsCommand {
    /// Let a model propose a room from a sentence
    #[command(after_help = GENERATE_EXAMPLES)]
    Generate(Generate),
}

/// `salon rooms generate`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Generate {
    /// What the room shall be about
    #[arg(value_name = "SENTENCE", value_parser = NonEmptyStringValueParser::new())]
    pub prompt: String,
    /// Which server.
    #[command(flatten)]
    pub server: Server,
    /// Who asks, and becomes ADMIN of the room.
    #[command(flatten)]
    pub user: User,
    /// Create the room without a question
    #[arg(long)]
    pub accept: bool,
    /// Print one JSON object instead of text, and ask nothing
    #[arg(long)]
    pub json: bool,
}

/// `salon usage`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Usage {
    /// Which server.
    #[command(flatten)]
    pub server: Server,
    /// Of this user
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    pub user: Option<String>,
    /// Of this room; with neither, of the whole server
    #[arg(long, value_name = "ROOM", value_parser = NonEmptyStringValueParser::new())]
    pub room: Option<String>,
    /// Print one JSON object a line instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `salon log`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Log {
    /// The room's id or name
    #[arg(value_name = "ROOM", value_parser = NonEmptyStringValueParser::new())]
    pub room: String,
    /// Which server.
    #[command(flatten)]
    pub server: Server,
    /// Who asks.
    #[command(flatten)]
    pub user: User,
    /// Begin behind this event
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub after: u64,
    /// Stop after so many events; without it at the end of the log
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

/// `salon health`.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Health {
    /// The server; without it the one of this configuration, on this machine
    #[arg(long, env = "SALON_SERVER", value_name = "URL", value_parser = server_url)]
    pub server: Option<String>,
    /// How it is trusted.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// The service to ask for; empty: the server as a whole
    #[arg(long, value_name = "NAME", default_value = "")]
    pub service: String,
    /// How long the answer may take
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = timeout)]
    pub timeout: Duration,
}

impl Args {
    /// The command, with the one that is meant by none.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve)
    }
}

/// A duration that is more than nothing.
pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be more than nothing".into()),
        timeout => Ok(timeout),
    }
}

fn server_url(text: &str) -> Result<String, String> {
    let uri: http::Uri =
        text.parse().map_err(|_| format!("is no URL: write for example {DEFAULT_SERVER}"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(text.to_owned()),
        _ => {
            Err(format!("must begin with http:// or https:// and a host: write for example {DEFAULT_SERVER}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn nothing_means_serve() {
        assert_eq!(parse("salon").unwrap().into_command(), Command::Serve);
        assert_eq!(parse("salon serve").unwrap().into_command(), Command::Serve);
        let args = parse("salon --config a.yaml").unwrap();
        assert_eq!(args.config.as_deref(), Some("a.yaml".as_ref()));
        assert_eq!(args.into_command(), Command::Serve);
    }

    #[test]
    fn the_config_file_may_stand_behind_the_command() {
        assert_eq!(parse("salon serve --config a.yaml").unwrap().config, Some("a.yaml".into()));
        assert_eq!(parse("salon setup --config a.yaml").unwrap().into_command(), Command::Setup);
        assert_eq!(parse("salon config --config a.yaml").unwrap().config, Some("a.yaml".into()));
    }

    #[test]
    fn chat_takes_who_and_where() {
        let args = parse("salon chat lobby --server http://h:1 --user ada --name Ada --create").unwrap();
        let expected = Chat {
            room: "lobby".into(),
            server: Server { url: "http://h:1".into(), tls: TlsArgs::default(), token: TokenArgs::default() },
            user: User { id: Some("ada".into()) },
            name: Some("Ada".into()),
            create: true,
            invitation: None,
        };
        assert_eq!(args.into_command(), Command::Chat(expected));
    }

    #[test]
    fn rooms_are_listed_or_one_is_proposed() {
        let Command::Rooms(rooms) = parse("salon rooms --user ada --json").unwrap().into_command() else {
            panic!()
        };
        assert_eq!((rooms.command, rooms.user.id.as_deref(), rooms.json), (None, Some("ada"), true));
        let line = "salon rooms generate tea --user ada --accept";
        let Command::Rooms(Rooms { command: Some(RoomsCommand::Generate(generate)), .. }) =
            parse(line).unwrap().into_command()
        else {
            panic!()
        };
        assert_eq!((generate.prompt.as_str(), generate.user.id.as_deref()), ("tea", Some("ada")));
        assert!(generate.accept && !generate.json);
        assert!(parse("salon rooms --json generate tea").is_err(), "it would have no effect");
    }

    #[test]
    fn log_and_health_read_their_numbers() {
        let Command::Log(log) = parse("salon log lobby --after 7 --limit 3").unwrap().into_command() else {
            panic!()
        };
        assert_eq!((log.after, log.limit), (7, Some(3)));
        let Command::Health(health) = parse("salon health --timeout 250ms").unwrap().into_command() else {
            panic!()
        };
        assert_eq!((health.timeout, health.service.as_str()), (Duration::from_millis(250), ""));
        assert_eq!(health.server, None);
    }

    #[test]
    fn what_cannot_be_understood_is_refused_with_the_mend() {
        for (line, mend) in [
            ("salon chat", "<ROOM>"),
            ("salon chat lobby --server localhost:50052", DEFAULT_SERVER),
            ("salon health --timeout 3", "write `3s`"),
            ("salon health --timeout 0s", "more than nothing"),
            ("salon log lobby --limit 0", "1.."),
            ("salon rom", "rooms"),
            ("salon rooms generate", "<SENTENCE>"),
            ("salon completions sh", "bash"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(mend), "{line}: {error}");
        }
    }

    #[test]
    fn every_command_has_help_and_those_with_arguments_have_examples() {
        let command = Args::command();
        assert_eq!(parse("salon --help").unwrap_err().kind(), ErrorKind::DisplayHelp);
        for sub in command.get_subcommands() {
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
            let arguments = sub.get_arguments().any(|arg| arg.get_id() != "help" && arg.get_id() != "config");
            assert!(!arguments || sub.get_after_help().is_some(), "{}", sub.get_name());
        }
    }
}
