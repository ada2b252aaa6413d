//! Which servers of tools there are, and what of them is offered.
//!
//! Owns the keys below `mcp` and what the environment adds to them. Never starts or contacts one. Secrets are read
//! from the variables that `env`, `headers`, `url_env` and words of `command` name, never from the file.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::config::{
    Config, HIDDEN, Problem, Source, Sources, ToolApproval,
    checks::{Checks, HOUR, KIB, MIB, MINUTE, MS, is_base_url, is_variable_name},
    mcp_word::{McpWord, has_secret},
    units,
};

/// What every child process is given of our environment, if it is set: without these hardly any program starts.
pub(super) const PASSED_ON: [&str; 3] = ["PATH", "HOME", "LANG"];

/// The longest name of a server: half of what providers take for the name of a tool.
const NAME_CHARS: usize = 32;
/// Headers that the protocol itself sends.
const RESERVED: [&str; 7] = [
    "accept",
    "content-length",
    "content-type",
    "host",
    "last-event-id",
    "mcp-protocol-version",
    "mcp-session-id",
];

/// The servers of tools.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mcp {
    /// The servers by name.
    pub servers: BTreeMap<String, McpServer>,
}

/// One server that speaks the Model Context Protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct McpServer {
    /// The program that is started, and its arguments; no shell reads them. Empty: there is a `url` or a `url_env`.
    pub command: Vec<McpWord>,
    /// The variables of the program besides PATH, HOME and LANG, each with the variable of ours that holds its
    /// value.
    pub env: BTreeMap<String, String>,
    /// The program's directory; none: ours.
    pub cwd: Option<PathBuf>,
    /// Where a server answers that is not started here.
    pub url: Option<String>,
    /// The variable that holds the URL, in place of `url`, when it holds a secret.
    pub url_env: Option<String>,
    /// What is sent to it with every request, each with the variable that holds its value.
    pub headers: BTreeMap<String, String>,
    /// How long connecting and listing its tools may take, each.
    #[serde(with = "units::duration")]
    pub connect_timeout: Duration,
    /// How long a call may take.
    #[serde(with = "units::duration")]
    pub call_timeout: Duration,
    /// Bytes of a result; the rest is cut off.
    #[serde(with = "units::size")]
    pub max_result: usize,
    /// What is offered, by the server's names; `*` stands for what is not named.
    pub tools: BTreeMap<String, McpTool>,
}

impl Default for McpServer {
    fn default() -> Self {
        Self {
            command: Vec::new(),
            env: BTreeMap::new(),
            cwd: None,
            url: None,
            url_env: None,
            headers: BTreeMap::new(),
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            max_result: 64 << 10,
            tools: BTreeMap::new(),
        }
    }
}

/// How one tool is offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct McpTool {
    /// Whether a person has to approve each call.
    pub approval: ToolApproval,
    /// Whether only answers may call it that have read nothing from outside the room.
    #[serde(deserialize_with = "units::flag")]
    pub trusted_only: bool,
    /// Whether it is not offered at all.
    #[serde(deserialize_with = "units::flag")]
    pub hidden: bool,
}

impl Default for McpTool {
    fn default() -> Self {
        Self { approval: ToolApproval::Required, trusted_only: false, hidden: false }
    }
}

/// What the environment says about servers of tools, read once by `load`.
#[derive(Debug, Clone, Default)]
pub(super) struct Environment {
    /// Those of [`PASSED_ON`] that are set.
    pub(super) passed_on: BTreeMap<String, String>,
    /// The values of the variables that `env`, `headers`, `url_env` and `command` name.
    pub(super) secrets: BTreeMap<String, SecretString>,
}

/// A server as it is in force: its entry, with what the environment adds to it.
#[derive(Debug, Clone)]
pub struct McpSettings {
    /// Its entry.
    pub entry: McpServer,
    /// What its program is given of our environment: PATH, HOME and LANG.
    pub passed_on: BTreeMap<String, String>,
    /// `env` with its values.
    pub env: BTreeMap<String, SecretString>,
    /// `headers` with their values.
    pub headers: BTreeMap<String, SecretString>,
    /// What `url_env` names.
    pub url: Option<SecretString>,
    /// What words of `command` name, by the variables.
    pub words: BTreeMap<String, SecretString>,
}

impl Config {
    /// The servers of tools in force, by name.
    pub fn mcp_servers(&self) -> BTreeMap<String, McpSettings> {
        let environment = &self.mcp_environment;
        let values = |of: &BTreeMap<String, String>| {
            of.iter()
                .filter_map(|(name, variable)| {
                    Some((name.clone(), environment.secrets.get(variable)?.clone()))
                })
                .collect()
        };
        let value = |variable: &String| environment.secrets.get(variable).cloned();
        self.mcp
            .servers
            .iter()
            .map(|(name, entry)| {
                let words = variables_of(entry).filter_map(|name| Some((name.clone(), value(name)?)));
                let settings = McpSettings {
                    entry: entry.clone(),
                    passed_on: environment.passed_on.clone(),
                    env: values(&entry.env),
                    headers: values(&entry.headers),
                    url: entry.url_env.as_ref().and_then(value),
                    words: words.collect(),
                };
                (name.clone(), settings)
            })
            .collect()
    }
}

/// The variables that words of its command name.
fn variables_of(entry: &McpServer) -> impl Iterator<Item = &String> {
    entry.command.iter().filter_map(|word| match word {
        McpWord::Variable(variable) => Some(variable),
        McpWord::Text(_) => None,
    })
}

/// What a variable is for: what its value has to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Process,
    Header,
    Url,
}

impl Use {
    /// What is wrong with this value, and what to write.
    fn refuses(self, value: &str) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Process if value.contains('\0') => Some(("must hold no NUL characters", "set it anew")),
            Self::Header if !value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) => Some((
                "must be one line of printable ASCII, as the value of a header is",
                "set it to the whole value of the header, such as `Bearer` and the token",
            )),
            Self::Url if !is_url(value) => Some((
                "must be an http:// or https:// URL with a host, without fragment",
                "set it to the whole URL",
            )),
            Self::Process | Self::Header | Self::Url => None,
        }
    }
}

/// Unlike a URL in the file this one may hold secrets: a user, or a query.
fn is_url(url: &str) -> bool {
    let uri = url.parse::<http::Uri>().ok().filter(|_| !url.contains('#'));
    let is_web = |uri: &http::Uri| matches!(uri.scheme_str(), Some("http" | "https"));
    uri.filter(is_web).is_some_and(|uri| uri.host().is_some_and(|host| !host.is_empty()))
}

/// Every variable that this entry names, with its key and its use.
fn variables_named<'a>(
    name: &'a str,
    entry: &'a McpServer,
) -> impl Iterator<Item = (String, &'a String, Use)> {
    let key = move |end: &str| format!("mcp.servers.{name}.{end}");
    let env = entry.env.iter().map(move |(of, variable)| (key(&format!("env.{of}")), variable, Use::Process));
    let headers = entry
        .headers
        .iter()
        .map(move |(of, variable)| (key(&format!("headers.{of}")), variable, Use::Header));
    let url = entry.url_env.iter().map(move |variable| (key("url_env"), variable, Use::Url));
    let words = variables_of(entry).map(move |variable| (key("command"), variable, Use::Process));
    env.chain(headers).chain(url).chain(words)
}

/// Fetches what the environment has for the servers.
pub(super) fn read(
    config: &mut Config,
    variables: &BTreeMap<String, String>,
    sources: &Sources,
    problems: &mut Vec<Problem>,
) {
    let mut secrets = BTreeMap::new();
    let servers = &config.mcp.servers;
    for (key, variable, of) in servers.iter().flat_map(|(name, entry)| variables_named(name, entry)) {
        let Some(secret) = variables.get(variable).map(|secret| secret.trim()) else {
            // What is no name of a variable may be the secret itself; the bounds complain about it.
            if is_variable_name(variable) {
                problems.push(Problem {
                    value: Some(HIDDEN.into()),
                    source: sources.of(&key),
                    rule: "names a variable of the environment that is not set".into(),
                    mend: "set that variable, or leave this key out".into(),
                    key,
                });
            }
            continue;
        };
        match of.refuses(secret) {
            None => drop(secrets.insert(variable.clone(), SecretString::from(secret))),
            Some((rule, mend)) => problems.push(Problem {
                key: variable.clone(),
                value: Some(HIDDEN.into()),
                source: Source::Variable(variable.clone()),
                rule: rule.into(),
                mend: mend.into(),
            }),
        }
    }
    let passed_on = PASSED_ON
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), variables.get(name)?.clone())))
        .collect();
    config.mcp_environment = Environment { passed_on, secrets };
}

/// The bounds of everything below `mcp`.
pub(super) fn check(checks: &mut Checks<'_>, mcp: &Mcp) {
    for (name, entry) in &mcp.servers {
        let key = |end: &str| format!("mcp.servers.{name}{end}");
        let is_name = name.len() <= NAME_CHARS && !name.contains("__") && !name.ends_with('_');
        let rule = format!("must have at most {NAME_CHARS} characters, no `__`, and no `_` at its end");
        checks.require(
            is_name,
            &key(""),
            name,
            &rule,
            "rename it: models see it as the beginning of tool names",
        );
        check_place(checks, &key, entry);
        check_names(checks, &key, entry);
        checks.time(&key(".connect_timeout"), entry.connect_timeout, 100 * MS..=5 * MINUTE);
        checks.time(&key(".call_timeout"), entry.call_timeout, 100 * MS..=HOUR);
        checks.size(&key(".max_result"), entry.max_result, KIB..=4 * MIB);
    }
}

/// Where the server is.
fn check_place(checks: &mut Checks<'_>, key: &impl Fn(&str) -> String, entry: &McpServer) {
    let mend = "write `command: [program, argument]`, `url: https://…` or `url_env: NOTES_URL`";
    let (has_program, has_url) = (!entry.command.is_empty(), entry.url.is_some() || entry.url_env.is_some());
    let is_one = has_program != has_url && !(entry.url.is_some() && entry.url_env.is_some());
    checks.require(is_one, &key(""), "", "must have either a `command` or a `url` or a `url_env`", mend);
    if let Some(url) = &entry.url {
        let rule = "must be an http:// or https:// URL with a host, without user, query or fragment";
        let mend = "give secrets by `headers`, or the whole URL by `url_env`";
        checks.require(is_base_url(url), &key(".url"), url, rule, mend);
    }
    check_command(checks, key, &entry.command);
    let nothing = "means nothing without a `command`";
    checks.require(entry.cwd.is_none() || has_program, &key(".cwd"), "", nothing, "leave it out");
    checks.require(entry.env.is_empty() || has_program, &key(".env"), "", nothing, "leave it out");
    let nothing = "means nothing without a `url` or a `url_env`";
    checks.require(entry.headers.is_empty() || has_url, &key(".headers"), "", nothing, "leave it out");
}

/// Its words, none of which an error repeats.
fn check_command(checks: &mut Checks<'_>, key: &impl Fn(&str) -> String, command: &[McpWord]) {
    let is_whole = command.iter().all(|word| !matches!(word, McpWord::Text(text) if text.contains('\0')))
        && !matches!(command.first(), Some(McpWord::Text(program)) if program.is_empty())
        && !matches!(command.first(), Some(McpWord::Variable(_)));
    let rule = "must begin with a program, and hold no NUL characters";
    checks.require(is_whole, &key(".command"), "", rule, "write `command: [program, argument]`");
    let are_names = command.iter().all(|word| match word {
        McpWord::Variable(variable) => is_variable_name(variable),
        McpWord::Text(_) => true,
    });
    let rule = "must name a variable (A-Z, 0-9 and _) by `env`, never the value itself";
    checks.require(are_names, &key(".command"), "", rule, "write for example `{ env: NOTES_TOKEN }`");
    let rule = "must not hold a secret: it is shown to everybody who reads the configuration";
    let mend = "give it by `env`, or write `{ env: NOTES_TOKEN }` in its place";
    checks.require(!has_secret(command), &key(".command"), "", rule, mend);
}

/// The names of variables and headers.
fn check_names(checks: &mut Checks<'_>, key: &impl Fn(&str) -> String, entry: &McpServer) {
    if let Some(variable) = &entry.url_env {
        let rule = "must be the name of a variable (A-Z, 0-9 and _), never the URL itself";
        let mend = "write for example `NOTES_URL`";
        checks.require(is_variable_name(variable), &key(".url_env"), variable, rule, mend);
    }
    for (section, names) in [("env", &entry.env), ("headers", &entry.headers)] {
        for (name, variable) in names {
            let rule = "must be the name of a variable (A-Z, 0-9 and _), never the value itself";
            let key = key(&format!(".{section}.{name}"));
            checks.require(
                is_variable_name(variable),
                &key,
                variable,
                rule,
                "write for example `NOTES_TOKEN`",
            );
            let is_name = match section {
                "env" => !name.is_empty() && !name.contains(['=', '\0']),
                _ => http::HeaderName::try_from(name.as_str())
                    .is_ok_and(|name| !RESERVED.contains(&name.as_str())),
            };
            let rule = "is no name that can be used here";
            checks.require(is_name, &key, variable, rule, "write for example `Authorization`");
        }
    }
}
