//! The arguments of `salon admin`.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum, builder::NonEmptyStringValueParser};

use crate::{
    cli::args::{Server, timeout},
    clock::Timestamp,
    config::{parse_duration, parse_size},
    wire::basic::timestamp,
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
  salon admin namespace update acme --rooms 500 --stored-bytes 10GiB --streams default
  salon admin namespace rotate acme --overlap 1h      The old secret is worth something for an hour more
  salon admin namespace archive acme                  Ends what is open, and lets nobody in";

const IDENTITY_EXAMPLES: &str = "\
Examples:
  salon admin identity create --namespace acme --user ann --name Ann
  salon admin identity list --namespace acme
  salon admin identity update 3f2a9c11d07be845 --namespace acme --name \"Ann Lee\"
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
  salon admin token revoke --user ann --namespace acme  Whatever ann had until now
  salon admin token revoke --certificate 5A:9C:… --namespace acme  A client's certificate";

const AUDIT_EXAMPLES: &str = "\
Examples:
  salon admin audit --namespace acme --since 1h
  salon admin audit --since 2027-01-31T08:00:00Z --limit 100 --json | jq -r .act

Oldest first. In the default namespace is also what nobody in particular has done: credentials that were none.";

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
    /// The audit: who did what, by which credential, from where
    #[command(after_help = AUDIT_EXAMPLES)]
    Audit(ReadAudit),
}

/// `salon admin audit`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ReadAudit {
    /// From when on: how long ago (90s, 2h), or a time like 2027-01-31T08:00:00Z
    #[arg(long, default_value = "24h", value_name = "WHEN", value_parser = since)]
    pub since: Since,
    /// The most entries
    #[arg(long, default_value_t = 1000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// In which namespace.
    #[command(flatten)]
    pub within: Within,
}

/// From when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// So long before now.
    Ago(Duration),
    /// This moment.
    At(Timestamp),
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(ago) = parse_duration(text) {
        return Ok(Since::Ago(ago));
    }
    let moment = text.parse::<prost_types::Timestamp>();
    moment
        .map(|at| Since::At(timestamp(Some(&at))))
        .map_err(|_| "must be how long ago, like 90s or 2h, or a time like 2027-01-31T08:00:00Z".to_owned())
}

/// How much a namespace is given; what is left out stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct QuotaChange {
    /// Rooms, those that have ended included; or `default`, what the server gives to everybody
    #[arg(long, value_name = "COUNT", value_parser = count)]
    pub rooms: Option<Quota>,
    /// Memberships, where a member of three rooms counts three; or `default`
    #[arg(long, value_name = "COUNT", value_parser = count)]
    pub members: Option<Quota>,
    /// Bytes of its rooms' logs, like 10GiB; or `default`
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub stored_bytes: Option<Quota>,
    /// Answers of LLMs that are written or wait, on one server; or `default`
    #[arg(long, value_name = "COUNT", value_parser = count)]
    pub runs: Option<Quota>,
    /// Streams that have joined, on one server; or `default`
    #[arg(long, value_name = "COUNT", value_parser = count)]
    pub streams: Option<Quota>,
}

/// One quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// What the server gives to everybody.
    Default,
    /// So much.
    Most(u64),
}

impl Quota {
    /// As the contract says it.
    pub(super) fn most(self) -> Option<u64> {
        match self {
            Self::Default => None,
            Self::Most(most) => Some(most),
        }
    }
}

fn count(text: &str) -> Result<Quota, String> {
    match text {
        "default" => Ok(Quota::Default),
        text => text.parse().map(Quota::Most).map_err(|_| "must be a whole number, or `default`".to_owned()),
    }
}

fn size(text: &str) -> Result<Quota, String> {
    match text {
        "default" => Ok(Quota::Default),
        text => parse_size(text).map(|bytes| Quota::Most(u64::try_from(bytes).unwrap_or(u64::MAX))),
    }
}

fn entry(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
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
    /// Change what it is called, and how much it may have
    #[command(group(ArgGroup::new("change").required(true).multiple(true)
        .args(["display_name", "rooms", "members", "stored_bytes", "runs", "streams"])))]
    Update {
        /// Which
        name: String,
        /// What people call it
        #[arg(long, value_name = "TEXT")]
        display_name: Option<String>,
        /// How much it may have.
        #[command(flatten)]
        quotas: QuotaChange,
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
    /// Show one
    Show {
        /// Its id
        id: String,
        /// In which namespace.
        #[command(flatten)]
        within: Within,
    },
    /// Change the name others see, or what is remembered of it
    #[command(group(ArgGroup::new("change").required(true).multiple(true).args(["name", "metadata"])))]
    Update {
        /// Its id
        id: String,
        /// The name others see; empty: what each join says
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// What the application remembers of it, in place of all that was; can be repeated
        #[arg(long, value_name = "KEY=VALUE", value_parser = entry)]
        metadata: Vec<(String, String)>,
        /// In which namespace.
        #[command(flatten)]
        within: Within,
    },
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
    /// End one, or whatever a user had until now, or a client's certificate
    Revoke {
        /// Its id
        #[arg(required_unless_present_any = ["user", "certificate"], conflicts_with_all = ["user", "certificate"])]
        id: Option<String>,
        /// The client's certificate of this SHA-256
        #[arg(long, value_name = "FINGERPRINT", conflicts_with = "user")]
        certificate: Option<String>,
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::args;

    /// The words of a line of help, as a shell would take them apart; what stands behind two spaces is a remark.
    fn words(line: &str) -> Vec<String> {
        let command = [" | ", " > ", "  "].iter().fold(line, |line, end| line.split(end).next().unwrap());
        let parts = command.split('"').enumerate();
        let words = |(at, part): (usize, &str)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        };
        parts.flat_map(words).collect()
    }

    #[test]
    fn every_example_of_the_help_can_be_called() {
        let texts = [
            BOOTSTRAP_EXAMPLES,
            NAMESPACE_EXAMPLES,
            IDENTITY_EXAMPLES,
            KEY_EXAMPLES,
            TOKEN_EXAMPLES,
            AUDIT_EXAMPLES,
        ];
        let lines = texts.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix("  "));
        let examples: Vec<&str> = lines.filter(|line| line.starts_with("salon ")).collect();
        assert!(examples.len() > 15, "{examples:?}");
        for example in examples {
            // The file is read as soon as it is named, and is not here.
            let callable = example.replace(" --token-file root.key", "");
            if let Err(error) = args::Args::try_parse_from(words(&callable)) {
                panic!("{example}: {error}");
            }
        }
    }
}
