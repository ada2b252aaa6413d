//! The URL of a store's server: where it comes from, and what of it may be shown.
//!
//! It may carry a password, so that nothing shows it but what asks for it by name. Whether a server answers there shows
//! when the start connects to it.

use std::{fmt, path::Path};

use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::config::{
    Config, HIDDEN, Problem, Sources, Store, StoreKind,
    checks::{Checks, MINUTE, MS, SECOND},
    key_file::key_in,
};

/// Connections of one process: a usual server takes 100 of all of them.
const MOST_CONNECTIONS: usize = 200;
/// The longest name that PostgreSQL has.
const NAME_BYTES: usize = 63;

/// The URL of a server. What is printed of it has neither user nor password.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct StoreUrl(String);

impl StoreUrl {
    /// All of it: not to be shown.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn shown(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else { return HIDDEN.into() };
        // The last of them: a password that was not encoded may have one, too.
        let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("***@", rest));
        match rest.split_once('?') {
            Some((place, settings)) if settings.to_lowercase().contains("pass") => {
                format!("{scheme}://{user}{place}?{HIDDEN}")
            }
            _ => format!("{scheme}://{user}{rest}"),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl Serialize for StoreUrl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.shown())
    }
}

impl Store {
    /// The URL of its server: as it was given, or from the file that was named.
    pub fn server_url(&self) -> Option<&StoreUrl> {
        self.url.as_ref().or(self.url_in_file.as_ref())
    }
}

/// Fetches the URL from its file.
pub(super) fn read(config: &mut Config, sources: &Sources, problems: &mut Vec<Problem>) {
    let store = &mut config.store;
    // Both is a problem of its own.
    if let (StoreKind::Postgres, None, Some(file)) = (store.kind, &store.url, &store.url_file) {
        match key_in(Path::new(file)) {
            Ok(url) => store.url_in_file = Some(StoreUrl(url.expose_secret().to_owned())),
            Err(rule) => problems.push(Problem {
                key: "store.url_file".into(),
                value: Some(HIDDEN.into()),
                source: sources.of("store.url_file"),
                rule,
                mend: "name a readable file that holds the URL alone".into(),
            }),
        }
    }
}

/// The bounds of everything that only a store with a server has.
pub(super) fn check(checks: &mut Checks<'_>, store: &Store) {
    checks.count("store.pool_size", store.pool_size, 1..=MOST_CONNECTIONS);
    checks.time("store.timeout", store.timeout, 100 * MS..=10 * MINUTE);
    checks.time("store.lease", store.lease, 5 * SECOND..=10 * MINUTE);
    let is_name = store.schema.len() <= NAME_BYTES
        && !store.schema.starts_with("pg_")
        && store.schema.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && store.schema.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let rule =
        "must be a name of a-z, 0-9 and _, at most 63 of them, that begins with no digit and not with pg_";
    checks.require(is_name, "store.schema", &store.schema, rule, "write for example `salon`");
    if store.kind != StoreKind::Postgres {
        return;
    }
    let mend = "write postgres://user:password@host:5432/database, or set the variable STORE_URL to it";
    let both = store.url.is_some() && store.url_file.is_some();
    checks.require(
        !both,
        "store.url_file",
        "",
        "and `store.url` cannot both be given",
        "leave one of them out",
    );
    match store.server_url() {
        // What is wrong with the file has been said already.
        None if store.url_file.is_some() => {}
        None => checks.require(false, "store.url", "", "must be set for the kind `postgres`", mend),
        Some(StoreUrl(url)) => {
            let is_url = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
            checks.require(is_url, "store.url", "", "must be a postgres:// URL", mend);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_url_has_no_secret() {
        for (url, shown) in [
            ("postgres://db:5432/salon", "postgres://db:5432/salon"),
            ("postgres://me:s3cret@db/salon?sslmode=require", "postgres://***@db/salon?sslmode=require"),
            ("postgres://me:p@s3cret@db/salon", "postgres://***@db/salon"),
            ("postgres://me:p?s3cret@db/salon", "postgres://***@db/salon"),
            ("postgres://db/salon?password=s3cret", "postgres://db/salon?***"),
            ("s3cret", "***"),
        ] {
            assert_eq!(format!("{:?}", StoreUrl(url.into())), shown);
            assert_eq!(serde_json::to_value(StoreUrl(url.into())).unwrap(), shown);
        }
    }
}
