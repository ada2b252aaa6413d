//! The bus between nodes: where its servers are, and what of that may be shown.
//!
//! A URL may carry a password, so that nothing shows it but what asks for it by name. Whether a server answers there
//! shows when the start connects to it.

use std::{fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize, Serializer};

use crate::config::{
    BusKind, Config, HIDDEN, StoreKind,
    checks::{Checks, MINUTE, MS},
    units,
};

/// The longest beginning of the names of channels.
const PREFIX_CHARS: usize = 32;

/// How nodes tell one another of new events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bus {
    /// Which bus.
    pub kind: BusKind,
    /// The servers of `redis` and `nats`, with user and password, and with commas between them.
    pub url: Option<BusUrl>,
    /// The file with the credentials of `nats`.
    pub credentials: Option<PathBuf>,
    /// What the names of all channels begin with.
    pub prefix: String,
    /// How often the store is asked whether a bus that may lose messages has lost the last one.
    #[serde(with = "units::duration")]
    pub head_check: Duration,
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            kind: BusKind::Local,
            url: None,
            credentials: None,
            prefix: "salon".into(),
            head_check: Duration::from_secs(2),
        }
    }
}

/// The URLs of servers. What is printed of them has neither user nor password.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct BusUrl(String);

impl BusUrl {
    /// All of it: not to be shown.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn servers(&self) -> impl Iterator<Item = &str> {
        self.0.split(',').map(str::trim)
    }

    fn shown(&self) -> String {
        // A password that was not encoded may have any of these characters: then nothing is known to be no secret.
        let only = self.servers().all(|url| {
            url.split_once("://").is_some_and(|(_, rest)| {
                rest.matches('@').count() <= 1 && !rest.to_lowercase().contains("pass")
            })
        });
        if !only {
            return HIDDEN.into();
        }
        let servers = self.servers().map(|url| match url.split_once("://") {
            Some((scheme, rest)) => match rest.split_once('@') {
                Some((_, place)) => format!("{scheme}://***@{place}"),
                None => url.to_owned(),
            },
            None => HIDDEN.to_owned(),
        });
        servers.collect::<Vec<_>>().join(",")
    }
}

impl fmt::Debug for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Serialize for BusUrl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.shown())
    }
}

/// The bounds of the section, and whether the store goes with it.
pub(super) fn check(checks: &mut Checks<'_>, config: &Config) {
    let bus = &config.bus;
    checks.time("bus.head_check", bus.head_check, 100 * MS..=MINUTE);
    let is_name = (1..=PREFIX_CHARS).contains(&bus.prefix.len())
        && bus.prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b));
    let rule = "must be 1 to 32 of the characters a-z, 0-9, - and _";
    checks.require(is_name, "bus.prefix", &bus.prefix, rule, "write for example `salon`");
    let (schemes, mend): (&[&str], _) = match bus.kind {
        BusKind::Local => return,
        BusKind::Redis => (
            &["redis://", "rediss://"],
            "write redis://user:password@host:6379 (rediss:// with TLS), or set the variable BUS_URL to it",
        ),
        BusKind::Nats => (
            &["nats://", "tls://"],
            "write nats://user:password@host:4222 (tls:// with TLS), or set the variable BUS_URL to it",
        ),
    };
    let kind = bus.kind.as_str();
    match &bus.url {
        None => checks.refuse("bus.url", "", format!("must be set for the kind `{kind}`"), mend),
        Some(url) => {
            let is_url = |url: &str| {
                schemes.iter().any(|scheme| url.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
            };
            if !url.servers().all(is_url) {
                let rule = format!("must be {} URLs with commas between them", schemes.join(" or "));
                checks.refuse("bus.url", "", rule, mend);
            }
        }
    }
    if bus.kind != BusKind::Nats && bus.credentials.is_some() {
        let rule = format!("means nothing for the kind `{kind}`");
        checks.refuse("bus.credentials", "", rule, "leave it out, or write `kind: nats`");
    }
    if matches!(config.store.kind, StoreKind::Sqlite | StoreKind::Memory) {
        let store = config.store.kind.as_str();
        let rule = format!(
            "joins several servers, but the store `{store}` belongs to this one alone: each would have rooms, members \
             and messages of its own, and show the others' events in them"
        );
        let mend = "write `kind: local` for a single server, or set store.kind to a store that several servers share";
        checks.refuse("bus.kind", kind, rule, mend);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_url_has_no_secret() {
        for (url, shown) in [
            ("redis://cache:6379", "redis://cache:6379"),
            ("rediss://me:s3cret@cache:6379/0", "rediss://***@cache:6379/0"),
            ("nats://t0ken@a:4222,nats://t0ken@b:4222", "nats://***@a:4222,nats://***@b:4222"),
            ("redis://me:p@s3cret@cache", "***"),
            ("redis://me:s3c,ret@cache", "***"),
            ("redis://cache?password=s3cret", "***"),
            ("s3cret", "***"),
        ] {
            assert_eq!(format!("{:?}", BusUrl(url.into())), shown);
            assert_eq!(serde_json::to_value(BusUrl(url.into())).unwrap(), shown);
        }
    }
}
