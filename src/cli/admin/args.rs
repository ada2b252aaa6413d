//! The arguments of `salon admin`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum, builder::NonEmptyStringValueParser};

use crate::{
    cli::args::{Server, timeout},
    config::parse_duration,
};

const BOOTSTRAP_EXAMPLES: &str = "\
Examples:
  salon admin bootstrap > root.key
  salon --config /etc/salon.yaml admin bootstrap --force > root.key

Works on the store that the configuration names, because nobody can call the server for the first key; with an
embedded store the server must not run meanwhile. The key is all that is printed to the standard output. Keep it in a
safe place, and make lesser ones with it:

  salon admin key create --everywhere --label ops --scope admin --expires-in 720h --token-file root.key";

const NAMESPACE_EXAMPLES: &str = "\
Examples:
  salon admin namespace create acme --display-name \"Acme Inc.\"
  salon admin namespace list --json | jq -r .namespace
  salon admin namespace rotate acme --overlap 1h      The old secret is worth something for an hour more
  salon admin namespace archive acme                  Ends what is open, and lets nobody in";

const IDENTITY_EXAMPLES: &str = "\
Examples:
  salon admin identity create --namespace acme --user ann --name Ann
  salon admin identity list --namespace acme
  salon admin identity rotate 3f2a9c11d07be845 --namespace acme --overlap 10m
  salon admin identity revoke 3f2a9c11d07be845 --namespace acme";

const KEY_EXAMPLES: &str = "\
Examples:
  salon admin key create --namespace acme --label web --scope tokens --expires-in 2160h
  salon admin key list --namespace acme
  salon admin key revoke 3f2a9c11d07be845 --namespace acme

A key is replaced by making another, moving the programs over, and revoking the first.";

const TOKEN_EXAMPLES: &str = "\
Examples:
  salon admin token create --namespace acme --user ann --room tea --lifetime 10m
  salon admin token revoke 5c0b… --namespace acme      One token, by its id
  salon admin token revoke --user ann --namespace acme Whatever ann had until now";

/// `salon admin`.
#[expect(clippy::large_enum_variant, reason = "there is one, for as long as the process lives")]
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Admin {
    /// Make the first API key, in the store itself
    #[command(after_help = BOOTSTRAP_EXAMPLES)]
    Bootstrap(Bootstrap),
    /// What a server is asked.
    #[command(flatten)]
    Call(Call),
}

/// What a server is asked.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Call {
    /// Namespaces: tenants with their own rooms, users and keys
    #[command(subcommand, after_help = NAMESPACE_EXAMPLES)]
    Namespace(Namespace),
    /// Identities: users with a secret of their own
    #[command(subcommand, after_help = IDENTITY_EXAMPLES)]
    Identity(Identity),
    /// API keys: what programs show
    #[command(subcommand, after_help = KEY_EXAMPLES)]
    Key(Key),
    /// Tokens: what users show for a short time
    #[command(subcommand, after_help = TOKEN_EXAMPLES)]
    Token(Token),
}

/// `salon admin bootstrap`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Bootstrap {
    /// Make one although there is one: when it is lost
    #[arg(long)]
    pub force: bool,
}

/// Where, and how to answer.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Common {
    /// Which server, and what it is shown.
    #[command(flatten)]
    pub server: Server,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// In which namespace.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Within {
    /// The namespace; without it that of the credential
    #[arg(long, env = "SALON_NAMESPACE", default_value = "", hide_default_value = true, value_name = "NAME")]
    pub namespace: String,
    /// Where, and how to answer.
    #[command(flatten)]
    pub common: Common,
}

/// Of a namespace, or of the server.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Keys {
    /// Keys of the server, for every namespace
    #[arg(long)]
    pub everywhere: bool,
    /// In which namespace.
    #[command(flatten)]
    pub within: Within,
}

/// `salon admin namespace`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Namespace {
    /// Create one; the secret of its owner is printed once
    Create {
        /// Its name: a-z, 0-9 and `-`
        name: String,
        /// What people call it
        #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
        display_name: String,
        /// Where, and how to answer.
        #[command(flatten)]
        common: Common,
    },
    /// List them
    List(Common),
    /// Show one
    Show {
        /// Which; without it that of the credential
        #[arg(default_value = "", hide_default_value = true)]
        name: String,
        /// Where, and how to answer.
        #[command(flatten)]
        common: Common,
    },
    /// End what is open and let nobody in any more
    Archive {
        /// Which
        name: String,
        /// Let people in again instead
        #[arg(long)]
        undo: bool,
        /// Where, and how to answer.
        #[command(flatten)]
        common: Common,
    },
    /// Make a new secret for its owner, which is printed once
    Rotate {
        /// Which; without it that of the credential
        #[arg(default_value = "", hide_default_value = true)]
        name: String,
        /// How much longer the old ones are worth something
        #[arg(long, default_value = "0s", value_name = "DURATION", value_parser = parse_duration)]
        overlap: Duration,
        /// Where, and how to answer.
        #[command(flatten)]
        common: Common,
    },
}

/// `salon admin identity`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Identity {
    /// Create one; its secret is printed once
    Create {
        /// The user it speaks for; without it one whose id is that of the identity
        #[arg(long, default_value = "", hide_default_value = true, value_name = "ID")]
        user: String,
        /// The name others see; without it what each join says
        #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
        name: String,
        /// In which namespace.
        #[command(flatten)]
        within: Within,
    },
    /// List them, also those that were revoked
    List(Within),
    /// Make a new secret, which is printed once
    Rotate {
        /// Its id
        id: String,
        /// How much longer the old ones are worth something
        #[arg(long, default_value = "0s", value_name = "DURATION", value_parser = parse_duration)]
        overlap: Duration,
        /// In which namespace.
        #[command(flatten)]
        within: Within,
    },
    /// End one, and its streams
    Revoke {
        /// Its id
        id: String,
        /// In which namespace.
        #[command(flatten)]
        within: Within,
    },
}

/// `salon admin key`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Key {
    /// Make one, which is printed once
    Create {
        /// What it is for
        #[arg(long, value_parser = NonEmptyStringValueParser::new())]
        label: String,
        /// What it may do: admin, identities, tokens, rooms.read, rooms.write, audit; can be repeated
        #[arg(long = "scope", required = true, value_delimiter = ',', value_name = "SCOPE")]
        scopes: Vec<String>,
        /// When it ends; without it when it is revoked
        #[arg(long, value_name = "DURATION", value_parser = timeout)]
        expires_in: Option<Duration>,
        /// Whose.
        #[command(flatten)]
        keys: Keys,
    },
    /// List them, also those that were revoked
    List(Keys),
    /// End one, and the streams that came with it
    Revoke {
        /// Its id
        id: String,
        /// Whose.
        #[command(flatten)]
        keys: Keys,
    },
}

/// `salon admin token`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Token {
    /// Make one, which is printed once
    Create {
        /// The user it speaks for
        #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
        user: String,
        /// The name others see; without it what each join says
        #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
        name: String,
        /// The one room it is for; without it every room that lets the user in
        #[arg(long, default_value = "", hide_default_value = true, value_name = "ROOM")]
        room: String,
        /// The role a join leads to; without it what the room gives
        #[arg(long, value_name = "ROLE")]
        role: Option<Role>,
        /// Only to read
        #[arg(long)]
        read_only: bool,
        /// How long it is valid
        #[arg(long, default_value = "10m", value_name = "DURATION", value_parser = timeout)]
        lifetime: Duration,
        /// In which namespace.
        #[command(flatten)]
        within: Within,
    },
    /// End one, or whatever a user had until now
    Revoke {
        /// Its id
        #[arg(required_unless_present = "user", conflicts_with = "user")]
        id: Option<String>,
        /// Whatever this user had until now
        #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
        user: Option<String>,
        /// In which namespace.
        #[command(flatten)]
        within: Within,
    },
}

/// What somebody is in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Talks.
    Member,
    /// Decides.
    Admin,
}
