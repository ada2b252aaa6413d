//! Which servers of tools there are, and what of them is offered.
//!
//! Owns the keys below `mcp` and what the environment adds to them. Never starts or contacts one. Secrets are read
//! from the variables that `env` and `headers` name, never from the file.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::config::{
    Config, HIDDEN, Problem, Source, Sources, ToolApproval,
    check::{Checks, HOUR, KIB, MIB, MINUTE, MS, is_base_url, is_variable_name},
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
    /// The program that is started, and its arguments; no shell reads them. Empty: there is a `url`.
    pub command: Vec<String>,
    /// The variables of the program besides PATH, HOME and LANG, each with the variable of ours that holds its
    /// value.
    pub env: BTreeMap<String, String>,
    /// The program's directory; none: ours.
    pub cwd: Option<PathBuf>,
    /// Where a server answers that is not started here.
    pub url: Option<String>,
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
    /// The values of the variables that `env` and `headers` name.
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
        self.mcp
            .servers
            .iter()
            .map(|(name, entry)| {
                let settings = McpSettings {
                    entry: entry.clone(),
                    passed_on: environment.passed_on.clone(),
                    env: values(&entry.env),
                    headers: values(&entry.headers),
                };
                (name.clone(), settings)
            })
            .collect()
    }
}

/// Fetches what the environment has for the servers.
pub(super) fn read(
    config: &mut Config,
    variables: &BTreeMap<String, String>,
    sources: &Sources,
    problems: &mut Vec<Problem>,
) {
    let mut secrets = BTreeMap::new();
    for (name, entry) in &config.mcp.servers {
        for (section, names) in [("env", &entry.env), ("headers", &entry.headers)] {
            for (of, variable) in names {
                let key = format!("mcp.servers.{name}.{section}.{of}");
                match variables.get(variable).map(|secret| secret.trim()) {
                    // What is no name of a variable may be the secret itself; the bounds complain about it.
                    None if !is_variable_name(variable) => {}
                    None => problems.push(Problem {
                        value: Some(HIDDEN.into()),
                        source: sources.of(&key),
                        rule: "names a variable of the environment that is not set".into(),
                        mend: "set that variable, or leave this key out".into(),
                        key,
                    }),
                    Some(secret)
                        if section == "env" || secret.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) =>
                    {
                        secrets.insert(variable.clone(), SecretString::from(secret));
                    }
                    Some(_) => problems.push(Problem {
                        key: variable.clone(),
                        value: Some(HIDDEN.into()),
                        source: Source::Variable(variable.clone()),
                        rule: "must be one line of printable ASCII, as the value of a header is".into(),
                        mend: "set it to the whole value of the header, such as `Bearer` and the token"
                            .into(),
                    }),
                }
            }
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
    let mend = "write `command: [program, argument]` or `url: https://…`";
    let is_one = entry.command.is_empty() == entry.url.is_some();
    checks.require(is_one, &key(""), "", "must have either a `command` or a `url`", mend);
    if let Some(url) = &entry.url {
        let rule = "must be an http:// or https:// URL with a host, without user, query or fragment";
        checks.require(is_base_url(url), &key(".url"), url, rule, "give secrets by `headers`");
    }
    let is_whole = entry.command.iter().all(|part| !part.contains('\0'))
        && entry.command.first().is_none_or(|program| !program.is_empty());
    let rule = "must begin with a program, and hold no NUL characters";
    checks.require(is_whole, &key(".command"), "", rule, mend);
    let has_program = !entry.command.is_empty();
    let has_cwd = entry.cwd.is_none() || has_program;
    checks.require(has_cwd, &key(".cwd"), "", "means nothing without a `command`", "leave it out");
    let has_env = entry.env.is_empty() || has_program;
    checks.require(has_env, &key(".env"), "", "means nothing without a `command`", "leave it out");
    let has_headers = entry.headers.is_empty() || entry.url.is_some();
    checks.require(has_headers, &key(".headers"), "", "means nothing without a `url`", "leave it out");
}

/// The names of variables and headers.
fn check_names(checks: &mut Checks<'_>, key: &impl Fn(&str) -> String, entry: &McpServer) {
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
