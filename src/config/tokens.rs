//! Whose tokens are believed, and with which keys the server signs its own.
//!
//! Owns the keys below `auth.tokens` and what variables and files add to them. Keys themselves are never part of the
//! file: it names the variables or the files that hold them. Whether a key is a good one, and whether a URL answers,
//! shows when the start makes something of it.

use std::{collections::BTreeMap, fs, io::Read as _, path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::config::{
    Config, HIDDEN, Problem, Sources,
    checks::{Checks, HOUR, MINUTE, SECOND, is_variable_name},
    units,
};

/// More than any key in the PEM format has.
const KEY_BYTES_MAX: u16 = 16 * 1024;
/// Keys of one issuer in variables and files: the old one, the new one, and some patience.
const MOST_KEYS: usize = 8;
/// The longest name of an issuer or an audience, in bytes.
const NAME_BYTES: usize = 512;
/// The algorithms there are; only the first has secrets.
const ALGORITHMS: [&str; 4] = ["HS256", "RS256", "ES256", "EdDSA"];
/// The roles there are.
const ROLES: [&str; 3] = ["viewer", "member", "admin"];

/// Whose tokens are believed, and with which keys the server signs its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tokens {
    /// Who is trusted, by names of the operator's.
    pub issuers: BTreeMap<String, TokenIssuer>,
    /// The variables with the keys that the server signs join tokens with: the first signs, all are believed.
    #[serde(deserialize_with = "names")]
    pub signing_key_env: Vec<String>,
    /// The files with such keys, behind those of the variables.
    #[serde(deserialize_with = "names")]
    pub signing_key_file: Vec<String>,
    /// The `iss` of join tokens, and their `aud`.
    pub signing_name: String,
    /// How long a join token may be valid.
    #[serde(with = "units::duration")]
    pub signing_max_lifetime: Duration,
    /// What the variables and files hold.
    #[serde(skip)]
    found: Found,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            issuers: BTreeMap::new(),
            signing_key_env: Vec::new(),
            signing_key_file: Vec::new(),
            signing_name: "salon".into(),
            signing_max_lifetime: 24 * HOUR,
            found: Found::default(),
        }
    }
}

/// Equal when the file says the same.
impl PartialEq for Tokens {
    fn eq(&self, other: &Self) -> bool {
        self.issuers == other.issuers
            && self.signing_key_env == other.signing_key_env
            && self.signing_key_file == other.signing_key_file
            && self.signing_name == other.signing_name
            && self.signing_max_lifetime == other.signing_max_lifetime
    }
}

impl Eq for Tokens {}

/// Somebody whose tokens are believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenIssuer {
    /// The `iss` of the tokens; none: they have none.
    pub issuer: Option<String>,
    /// What the server is called in `aud`, of which one must be there; none: there is no `aud`.
    #[serde(deserialize_with = "names")]
    pub audiences: Vec<String>,
    /// What the tokens are signed with.
    #[serde(deserialize_with = "names")]
    pub algorithms: Vec<String>,
    /// The variables with keys: a secret for HS256, else a public key in the PEM format.
    #[serde(deserialize_with = "names")]
    pub key_env: Vec<String>,
    /// The files with such keys.
    #[serde(deserialize_with = "names")]
    pub key_file: Vec<String>,
    /// A file with a JSON Web Key Set, read again when it is old or lacks a key.
    pub jwks_file: Option<PathBuf>,
    /// The URL of a JSON Web Key Set, read again when it is old or lacks a key.
    pub jwks_url: Option<String>,
    /// The namespace that the issuer speaks for.
    pub namespace: String,
    /// How the claims are called: `salon`, or `coaching` for the coaching application's.
    pub claims: String,
    /// Other names for single claims.
    pub claim_names: TokenClaims,
    /// What the issuer's words for roles mean.
    pub roles: BTreeMap<String, String>,
    /// How far the issuer's clock may be from ours.
    #[serde(with = "units::duration")]
    pub leeway: Duration,
    /// How long the tokens may be valid.
    #[serde(with = "units::duration")]
    pub max_lifetime: Duration,
}

impl Default for TokenIssuer {
    fn default() -> Self {
        Self {
            issuer: None,
            audiences: Vec::new(),
            algorithms: Vec::new(),
            key_env: Vec::new(),
            key_file: Vec::new(),
            jwks_file: None,
            jwks_url: None,
            namespace: "default".into(),
            claims: "salon".into(),
            claim_names: TokenClaims::default(),
            roles: BTreeMap::new(),
            leeway: 30 * SECOND,
            max_lifetime: 24 * HOUR,
        }
    }
}

/// Names for single claims; none: as `claims` says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenClaims {
    /// Who the holder is.
    pub user: Option<String>,
    /// How the holder is called.
    pub name: Option<String>,
    /// The one room it is for.
    pub room: Option<String>,
    /// The role in it.
    pub role: Option<String>,
    /// What the holder may do.
    pub grants: Option<String>,
    /// Which media may be sent.
    pub media: Option<String>,
}

impl TokenClaims {
    /// Each with its key.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("user", &self.user),
            ("name", &self.name),
            ("room", &self.room),
            ("role", &self.role),
            ("grants", &self.grants),
            ("media", &self.media),
        ];
        all.into_iter().filter_map(|(key, name)| Some((key, name.as_deref()?)))
    }
}

/// The keys themselves, read once by `load`.
#[derive(Debug, Clone, Default)]
struct Found {
    /// Those of each issuer.
    issuers: BTreeMap<String, Vec<SecretString>>,
    /// Those that the server signs with.
    signing: Vec<SecretString>,
}

impl Tokens {
    /// The keys that variables and files hold for this issuer.
    pub fn keys_of(&self, issuer: &str) -> &[SecretString] {
        self.found.issuers.get(issuer).map_or(&[], Vec::as_slice)
    }

    /// The keys that the server signs with, the first of which signs.
    pub fn signing_keys(&self) -> &[SecretString] {
        &self.found.signing
    }
}

/// A list of names, or a text of names between commas, as a variable of the environment gives it.
fn names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        List(Vec<String>),
        Text(String),
    }
    match Written::deserialize(from) {
        Ok(Written::List(names)) => Ok(names),
        Ok(Written::Text(text)) if ["", "[]"].contains(&text.trim()) => Ok(Vec::new()),
        Ok(Written::Text(text)) => Ok(text.split(',').map(|name| name.trim().to_owned()).collect()),
        Err(_) => Err(D::Error::custom("must be a list of names: [first, second]")),
    }
}

/// Fetches the keys from the variables and files that hold them.
pub(super) fn read(
    config: &mut Config,
    variables: &BTreeMap<String, String>,
    sources: &Sources,
    problems: &mut Vec<Problem>,
) {
    let tokens = &config.auth.tokens;
    let mut reader = Reader { variables, sources, problems };
    let mut issuers = BTreeMap::new();
    for (name, issuer) in &tokens.issuers {
        let key = format!("auth.tokens.issuers.{name}.key");
        issuers.insert(name.clone(), reader.keys(&key, &issuer.key_env, &issuer.key_file));
    }
    let signing = reader.keys("auth.tokens.signing_key", &tokens.signing_key_env, &tokens.signing_key_file);
    config.auth.tokens.found = Found { issuers, signing };
}

struct Reader<'a> {
    variables: &'a BTreeMap<String, String>,
    sources: &'a Sources,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    /// What these variables and files hold; what is wrong is said without a word of it.
    fn keys(&mut self, key: &str, env: &[String], files: &[String]) -> Vec<SecretString> {
        let mut found = Vec::new();
        for variable in env {
            match self.variables.get(variable) {
                Some(value) => found.push(SecretString::from(value.trim())),
                // What is no name of a variable may be the key itself; the bounds complain about it.
                None if !is_variable_name(variable) => {}
                None => {
                    self.refuse(
                        &format!("{key}_env"),
                        "names a variable of the environment that is not set".into(),
                        "set that variable to the key, or take it out of the list",
                    );
                }
            }
        }
        for file in files {
            match text_in(file) {
                Ok(text) => found.push(text),
                Err(rule) => {
                    self.refuse(&format!("{key}_file"), rule, "name readable files that hold one key each");
                }
            }
        }
        found
    }

    fn refuse(&mut self, key: &str, rule: String, mend: &str) {
        self.problems.push(Problem {
            key: key.into(),
            value: Some(HIDDEN.into()),
            source: self.sources.of(key),
            rule,
            mend: mend.into(),
        });
    }
}

/// A key that may have several lines.
fn text_in(path: &str) -> Result<SecretString, String> {
    let mut text = String::new();
    let read = fs::File::open(path)
        .and_then(|file| file.take(u64::from(KEY_BYTES_MAX) + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(format!("names a file that cannot be read as a text ({})", error.kind())),
        Ok(_) if text.trim().is_empty() => Err("names a file that is empty".into()),
        Ok(size) if size > usize::from(KEY_BYTES_MAX) => {
            Err("names a file that is too large for a key".into())
        }
        Ok(_) => Ok(SecretString::from(text.trim())),
    }
}

/// The bounds of everything below `auth.tokens`.
pub(super) fn check(checks: &mut Checks<'_>, tokens: &Tokens) {
    for (name, issuer) in &tokens.issuers {
        let key = |end: &str| format!("auth.tokens.issuers.{name}{end}");
        check_keys(checks, &key, issuer);
        check_meaning(checks, &key, issuer);
        checks.time(&key(".leeway"), issuer.leeway, Duration::ZERO..=5 * MINUTE);
        checks.time(&key(".max_lifetime"), issuer.max_lifetime, MINUTE..=366 * 24 * HOUR);
    }
    check_variables(checks, "auth.tokens.signing_key_env", &tokens.signing_key_env);
    let signing = tokens.signing_key_env.len() + tokens.signing_key_file.len();
    let rule = format!("must be at most {MOST_KEYS} together with those of the files");
    checks.require(signing <= MOST_KEYS, "auth.tokens.signing_key_env", "", &rule, "take the old ones out");
    let is_name = (1..=NAME_BYTES).contains(&tokens.signing_name.len());
    let rule = "must have 1 to 512 bytes";
    checks.require(
        is_name,
        "auth.tokens.signing_name",
        &tokens.signing_name,
        rule,
        "write for example `salon`",
    );
    let longest = 30 * 24 * HOUR;
    checks.time("auth.tokens.signing_max_lifetime", tokens.signing_max_lifetime, MINUTE..=longest);
}

/// What its tokens are signed with.
fn check_keys(checks: &mut Checks<'_>, key: &impl Fn(&str) -> String, issuer: &TokenIssuer) {
    let unknown = issuer.algorithms.iter().find(|name| !ALGORITHMS.contains(&name.as_str()));
    let rule = format!("must name one or more of {}", ALGORITHMS.join(", "));
    let is_list = unknown.is_none() && !issuer.algorithms.is_empty();
    let shown = unknown.map_or("", String::as_str);
    checks.require(
        is_list,
        &key(".algorithms"),
        shown,
        &rule,
        "write what the issuer signs with, and no more",
    );
    let has_secrets = issuer.algorithms.iter().any(|name| name == "HS256");
    checks.require(
        !has_secrets || issuer.algorithms.len() == 1,
        &key(".algorithms"),
        &issuer.algorithms.join(", "),
        "must not have HS256 beside others: whoever can check a secret can sign with it",
        "make two issuers of it",
    );
    checks.require(
        !has_secrets || issuer.jwks_url.is_none(),
        &key(".jwks_url"),
        "",
        "cannot be given for HS256: what is published is no secret",
        "give the secret by `key_env` or `key_file`",
    );
    let texts = issuer.key_env.len() + issuer.key_file.len();
    let has_key = texts > 0 || issuer.jwks_file.is_some() || issuer.jwks_url.is_some();
    let mend = "write `key_env: [NAME]`, `key_file: [path]`, `jwks_file: path` or `jwks_url: https://…`";
    checks.require(has_key, &key(""), "", "has no key", mend);
    let rule = format!("must be at most {MOST_KEYS} together with those of the files");
    checks.require(texts <= MOST_KEYS, &key(".key_env"), "", &rule, "take the old ones out");
    check_variables(checks, &key(".key_env"), &issuer.key_env);
    if let Some(url) = &issuer.jwks_url {
        let rule =
            "must be an https:// URL with a host, without user or fragment; http:// for this machine only";
        let mend = "write for example `https://id.example.com/.well-known/jwks.json`";
        checks.require(is_safe_url(url), &key(".jwks_url"), url, rule, mend);
    }
}

fn check_variables(checks: &mut Checks<'_>, key: &str, names: &[String]) {
    for name in names {
        let rule = "must name variables (A-Z, 0-9 and _), never the key itself";
        checks.require(is_variable_name(name), key, name, rule, "write for example `[TOKEN_KEY]`");
    }
}

/// What its tokens mean.
fn check_meaning(checks: &mut Checks<'_>, key: &impl Fn(&str) -> String, issuer: &TokenIssuer) {
    let is_name = |name: &str| (1..=NAME_BYTES).contains(&name.len());
    let rule = "must have 1 to 512 bytes";
    if let Some(name) = &issuer.issuer {
        checks.require(is_name(name), &key(".issuer"), name, rule, "write the `iss` of the tokens");
    }
    for name in &issuer.audiences {
        checks.require(is_name(name), &key(".audiences"), name, rule, "write the `aud` of the tokens");
    }
    for (claim, name) in issuer.claim_names.iter() {
        let key = key(&format!(".claim_names.{claim}"));
        checks.require(is_name(name), &key, name, rule, "write the name of a claim");
    }
    let namespace = &issuer.namespace;
    let is_namespace = (1..=32).contains(&namespace.len())
        && namespace.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let rule = "must have 1 to 32 of a-z, 0-9 and -";
    checks.require(is_namespace, &key(".namespace"), namespace, rule, "write for example `default`");
    let is_preset = ["salon", "coaching"].contains(&issuer.claims.as_str());
    let rule = "must be `salon` or `coaching`";
    checks.require(is_preset, &key(".claims"), &issuer.claims, rule, "name other claims below `claim_names`");
    for (word, role) in &issuer.roles {
        let rule = format!("must be one of {}", ROLES.join(", "));
        let is_role = ROLES.contains(&role.as_str());
        checks.require(is_role, &key(&format!(".roles.{word}")), role, &rule, "write for example `member`");
    }
}

/// Whether nobody can change on its way what comes from there.
fn is_safe_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return false };
    let Some(host) = uri.host().filter(|host| !host.is_empty() && !url.contains(['@', '#'])) else {
        return false;
    };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let is_local = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => true,
        Some("http") => is_local,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_can_change_on_its_way_is_a_url_for_keys() {
        for url in
            ["https://id.example.com/keys", "https://a/k?p=1", "http://127.0.0.1:1/k", "http://[::1]/k"]
        {
            assert!(is_safe_url(url), "{url}");
        }
        for url in ["http://id.example.com/k", "https://me:pw@a/k", "https://a/#k", "file:///k", "a/k", ""] {
            assert!(!is_safe_url(url), "{url}");
        }
    }
}
