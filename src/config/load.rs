//! From the file and the environment to a checked [`Config`].
//!
//! A variable beats the file, the file beats the default; `SALON__SECTION__KEY` beats the short names. An empty
//! variable counts as not set, because that is what deployment tools make of a missing one. The environment is handed
//! in: nothing here asks the process for it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use ::config::{ConfigError, File, FileFormat, Map, Source as Layer, Value, ValueKind};
use secrecy::SecretString;

use crate::config::{
    Config, HIDDEN, ProviderEntry, ProviderKind, check, checks,
    error::{Error, Problem, Source, Sources},
    key_file::key_in,
    keys, mcp, providers, store, tokens,
};

/// The file that is read if none is named.
const FILE: &str = "config.yaml";
/// What begins the name of a variable that sets a key.
const PREFIX: &str = "SALON__";
/// Short names for keys that other servers of this kind have too.
const SHORT_NAMES: [(&str, [&str; 2]); 5] = [
    ("GRPC_HOST", ["grpc", "host"]),
    ("GRPC_PORT", ["grpc", "port"]),
    ("CHAT_SERVICE_ADDRESS", ["chat_service", "address"]),
    ("STORE_URL", ["store", "url"]),
    ("BUS_URL", ["bus", "url"]),
];

/// A configuration that was checked, and where its values came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What is in force.
    pub config: Config,
    /// Where it came from.
    pub sources: Sources,
}

/// Reads `file`, or `config.yaml` in `directory` if that is there and no file is named, then the variables of
/// `environment`, and checks everything.
pub fn load<K, V>(
    file: Option<&Path>,
    directory: &Path,
    environment: impl IntoIterator<Item = (K, V)>,
) -> Result<Loaded, Error>
where
    K: Into<OsString>,
    V: Into<OsString>,
{
    let (path, text) = read(file, directory)?;
    let mut problems = Vec::new();
    let variables = variables(environment, &mut problems);
    let mut sources = Sources::new(path.clone());

    let layers = ::config::Config::builder()
        .add_source(File::from_str(&text, FileFormat::Yaml))
        .add_source(Variables(nest(&variables)))
        .build();
    let syntax = |error: &ConfigError| Error::Syntax {
        path: path.clone().unwrap_or_else(|| directory.join(FILE)),
        reason: reason(error),
    };
    let mut tree = layers.and_then(|layers| layers.collect()).map_err(|error| syntax(&error))?;

    problems.extend(keys::prune(&mut tree, &keys::tree(), "", &mut sources));
    let mut config = deserialize(tree, &sources, &mut problems);
    read_secrets(&mut config, &variables, &mut sources, &mut problems);
    problems.extend(check::check(&config, &sources));
    if problems.is_empty() { Ok(Loaded { config, sources }) } else { Err(Error::Refused(problems)) }
}

/// What the parser said. It repeats a file that is one text, and that may be a key given in place of a config file.
fn reason(error: &ConfigError) -> String {
    match error {
        ConfigError::FileParse { cause, .. } if cause.is::<Box<ConfigError>>() => {
            "it must consist of sections".into()
        }
        other => other.to_string(),
    }
}

fn read(file: Option<&Path>, directory: &Path) -> Result<(Option<PathBuf>, String), Error> {
    let path = file.map_or_else(|| directory.join(FILE), Path::to_owned);
    match fs::read_to_string(&path) {
        Ok(text) => Ok((Some(path), text)),
        Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => Ok((None, String::new())),
        Err(source) => Err(Error::Unreadable { path, source }),
    }
}

/// The variables that are set, and are text. One that sets a key and is no text is a problem.
fn variables<K: Into<OsString>, V: Into<OsString>>(
    environment: impl IntoIterator<Item = (K, V)>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for (name, value) in environment {
        let (name, value): (OsString, OsString) = (name.into(), value.into());
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) if value.trim().is_empty() => {}
            Ok(value) => {
                variables.insert(name, value);
            }
            Err(_) if name.starts_with(PREFIX) || is_decided(&name) => problems.push(Problem {
                key: name.clone(),
                value: None,
                source: Source::Variable(name),
                rule: "is not valid UTF-8".into(),
                mend: "set it to a text or unset it".into(),
            }),
            Err(_) => {}
        }
    }
    variables
}

fn is_decided(name: &str) -> bool {
    [providers::OPENAI_API_KEY, providers::OPENAI_BASE_URL].contains(&name)
        || SHORT_NAMES.iter().any(|(short, _)| *short == name)
}

/// The variables that set keys, as a tree whose leaves know their variable.
fn nest(variables: &BTreeMap<String, String>) -> Map<String, Value> {
    let mut tree = Map::new();
    for (name, path) in SHORT_NAMES {
        if let Some(value) = variables.get(name) {
            put(&mut tree, &path, name, value);
        }
    }
    for (name, value) in variables {
        if let Some(path) = name.strip_prefix(PREFIX) {
            let path = path.to_lowercase();
            put(&mut tree, &path.split("__").collect::<Vec<_>>(), name, value);
        }
    }
    tree
}

fn put(table: &mut Map<String, Value>, path: &[&str], variable: &str, value: &str) {
    let Some((first, rest)) = path.split_first() else { return };
    let leaf = || Value::new(Some(&variable.to_owned()), ValueKind::String(value.into()));
    if rest.is_empty() {
        table.insert((*first).into(), leaf());
        return;
    }
    let section =
        table.entry((*first).into()).or_insert_with(|| Value::new(None, ValueKind::Table(Map::new())));
    // A section that was given a value stays one: that is the problem to report.
    if let ValueKind::Table(inner) = &mut section.kind {
        put(inner, rest, variable, value);
    }
}

/// The environment as a layer over the file.
#[derive(Debug, Clone)]
struct Variables(Map<String, Value>);

impl Layer for Variables {
    fn clone_into_box(&self) -> Box<dyn Layer + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// Reads the typed configuration; every value of the wrong type is noted, taken out and the rest read again, so that
/// all of them are found at once.
fn deserialize(mut tree: Map<String, Value>, sources: &Sources, problems: &mut Vec<Problem>) -> Config {
    loop {
        let error = match Value::new(None, tree.clone()).try_deserialize::<Config>() {
            Ok(config) => return config,
            Err(error) => error,
        };
        let (key, rule) = explain(&error);
        // A missing key cannot be taken out: its entry is.
        let missing = matches!(error, ConfigError::NotFound(_));
        let culprit = if missing { key.rsplit_once('.').map_or("", |(entry, _)| entry) } else { &key };
        let value = take(&mut tree, culprit);
        let found = value.is_some();
        // A key that is missing because its value was refused is one problem, not two.
        if !problems.iter().any(|problem| problem.key == key) {
            problems.push(Problem {
                value: value.filter(|_| !missing).map(|value| keys::shown(&key, &value.kind.to_string())),
                source: sources.of(if missing { culprit } else { &key }),
                mend: keys::mend(&key),
                rule,
                key: key.clone(),
            });
        }
        if !found {
            return Config::default();
        }
    }
}

fn explain(error: &ConfigError) -> (String, String) {
    match error {
        ConfigError::At { error, key: Some(key), .. } => (key.clone(), error.to_string()),
        ConfigError::Type { expected, key: Some(key), .. } => (key.clone(), format!("must be {expected}")),
        ConfigError::NotFound(key) => (key.clone(), "is missing".into()),
        other => (String::new(), other.to_string()),
    }
}

fn take(table: &mut Map<String, Value>, key: &str) -> Option<Value> {
    match key.split_once('.') {
        None => table.remove(key),
        Some((section, rest)) => match &mut table.get_mut(section)?.kind {
            ValueKind::Table(inner) => take(inner, rest),
            _ => None,
        },
    }
}

/// Fetches the keys of the providers from the variables that hold them.
fn read_secrets(
    config: &mut Config,
    variables: &BTreeMap<String, String>,
    sources: &mut Sources,
    problems: &mut Vec<Problem>,
) {
    config.environment.openai_base_url = variables.get(providers::OPENAI_BASE_URL).cloned();
    let mut wanted = BTreeMap::from([(providers::OPENAI_API_KEY, None)]);
    let mut files = BTreeMap::new();
    let openai = |entry: &ProviderEntry| entry.kind == ProviderKind::OpenAi;
    for (name, entry) in config.llm.providers.iter().filter(|(_, entry)| openai(entry)) {
        let key = format!("llm.providers.{name}");
        if let Some(variable) = &entry.api_key_env {
            wanted.insert(variable, Some(format!("{key}.api_key_env")));
        }
        for variable in entry.headers_env.values() {
            wanted.insert(variable, Some(format!("{key}.headers_env")));
        }
        // Both is a problem of its own.
        if let (Some(file), None) = (&entry.api_key_file, &entry.api_key_env) {
            match key_in(Path::new(file)) {
                Ok(secret) => {
                    files.insert(file.clone(), secret);
                }
                Err(rule) => problems.push(Problem {
                    key: format!("{key}.api_key_file"),
                    value: Some(HIDDEN.into()),
                    source: sources.of(&format!("{key}.api_key_file")),
                    rule,
                    mend: "name a readable file that holds the key alone".into(),
                }),
            }
        }
    }
    let mut secrets = BTreeMap::new();
    for (variable, key) in wanted {
        let problem = match (variables.get(variable).map(|secret| secret.trim()), key) {
            // The value may be a secret that was written in place of its variable: not repeated.
            (None, Some(key)) if checks::is_variable_name(variable) => Problem {
                value: Some(HIDDEN.into()),
                source: sources.of(&key),
                rule: "names a variable of the environment that is not set".into(),
                mend: "set that variable to the secret, or leave it out for a server that asks for none"
                    .into(),
                key,
            },
            (None, _) => continue,
            (Some(secret), key)
                if is_secret(secret, key.as_ref().is_some_and(|key| key.ends_with(".headers_env"))) =>
            {
                secrets.insert(variable.to_owned(), SecretString::from(secret));
                continue;
            }
            (Some(_), _) => Problem {
                key: variable.to_owned(),
                value: Some(HIDDEN.into()),
                source: Source::Variable(variable.to_owned()),
                rule: "must be one line of printable ASCII without spaces".into(),
                mend: "set it to the key alone".into(),
            },
        };
        problems.push(problem);
    }
    config.environment.secrets = secrets;
    config.environment.files = files;
    mcp::read(config, variables, sources, problems);
    store::read(config, sources, problems);
    tokens::read(config, variables, sources, problems);
    for variable in [providers::OPENAI_API_KEY, providers::OPENAI_BASE_URL] {
        if variables.contains_key(variable) {
            sources.insert(variable.into(), Source::Variable(variable.into()));
        }
    }
}

/// Whether it is one word; a header may have several.
fn is_secret(text: &str, may_have_spaces: bool) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic() || (may_have_spaces && b == b' '))
}
