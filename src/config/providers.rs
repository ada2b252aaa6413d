//! Which LLM providers there are, with their secrets.
//!
//! Owns the rule that turns the configured entries and the decided variables into the providers in force. Never
//! contacts one. A secret lives in a [`SecretString`]: it is shown by no `Debug` and is in no error.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::{Config, ProviderKind};

/// The variable with the key of the provider `openai`.
pub(super) const OPENAI_API_KEY: &str = "OPENAI_API_KEY";
/// The variable with the URL of the provider `openai`.
pub(super) const OPENAI_BASE_URL: &str = "OPENAI_BASE_URL";
/// Where OpenAI itself answers.
pub(super) const OPENAI_OWN_URL: &str = "https://api.openai.com/v1";

/// One configured provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderEntry {
    /// Which kind.
    pub kind: ProviderKind,
    /// Where an `openai` answers; none: `OPENAI_BASE_URL`, or else OpenAI itself.
    #[serde(default)]
    pub base_url: Option<String>,
    /// The variable that holds the key; the key itself is never in the file. None: `OPENAI_API_KEY` if there is no
    /// `base_url` either, so that a key is not sent to a server it was not made for.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// The file that holds the key, in place of `api_key_env`; read once, at the start.
    #[serde(default)]
    pub api_key_file: Option<String>,
    /// The model of an LLM that names none.
    #[serde(default)]
    pub default_model: Option<String>,
    /// The organisation that the calls are counted for, where the server asks for one.
    #[serde(default)]
    pub organization: Option<String>,
    /// The project that the calls are counted for, where the server asks for one.
    #[serde(default)]
    pub project: Option<String>,
    /// Further headers of every request; nothing secret.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Further headers whose values are secrets: by the variables that hold them.
    #[serde(default)]
    pub headers_env: BTreeMap<String, String>,
    /// What is added to the body of every request.
    #[serde(default)]
    pub extra_body: Map<String, Value>,
}

impl ProviderEntry {
    /// An entry of this kind with nothing set.
    pub fn new(kind: ProviderKind) -> Self {
        Self {
            kind,
            base_url: None,
            api_key_env: None,
            api_key_file: None,
            default_model: None,
            organization: None,
            project: None,
            headers: BTreeMap::new(),
            headers_env: BTreeMap::new(),
            extra_body: Map::new(),
        }
    }
}

/// A provider as it is in force.
#[derive(Debug, Clone)]
pub enum ProviderSettings {
    /// Built in.
    Offline,
    /// A server that speaks the API of OpenAI.
    OpenAi {
        /// Where it answers, without a slash at the end.
        base_url: String,
        /// Its key; none: it asks for none.
        api_key: Option<SecretString>,
        /// The model of an LLM that names none.
        default_model: Option<String>,
        /// Further headers; any may be a secret.
        headers: BTreeMap<String, SecretString>,
        /// What is added to the body of every request.
        extra_body: Map<String, Value>,
    },
    /// The external chat service.
    ChatService {
        /// `host:port`.
        address: String,
        /// The model of an LLM that names none.
        default_model: Option<String>,
    },
}

/// The providers in force.
#[derive(Debug, Clone)]
pub struct Providers {
    /// The provider of an LLM that names none; always in `by_name`.
    pub default: String,
    /// All of them; there is always one of the kind `offline` unless its name was given to another.
    pub by_name: BTreeMap<String, ProviderSettings>,
}

/// What the environment says about providers, read once by `load`.
#[derive(Debug, Clone, Default)]
pub(super) struct Environment {
    /// `OPENAI_BASE_URL`.
    pub(super) openai_base_url: Option<String>,
    /// The secrets by the variables that hold them: `OPENAI_API_KEY`, every `api_key_env` and every `headers_env`.
    pub(super) secrets: BTreeMap<String, SecretString>,
    /// The keys by the files that hold them: every `api_key_file`.
    pub(super) files: BTreeMap<String, SecretString>,
}

impl Config {
    /// The providers in force: those of `llm.providers`, `openai` if the environment has `OPENAI_API_KEY` or
    /// `OPENAI_BASE_URL`, `chat_service` if it has an address, and `offline`. The default is the one that was
    /// named, else the only one configured, else the first of `chat_service`, `openai`, `offline` that is there.
    pub fn providers(&self) -> Providers {
        let configured = &self.llm.providers;
        let mut by_name: BTreeMap<_, _> =
            configured.iter().map(|(name, entry)| (name.clone(), self.settings(entry))).collect();
        let mut default = ProviderKind::Offline;
        let kinds = [
            (ProviderKind::Offline, true),
            (ProviderKind::OpenAi, self.environment_has_openai()),
            (ProviderKind::ChatService, self.chat_service.address.is_some()),
        ];
        for (kind, _) in kinds.into_iter().filter(|(_, there)| *there) {
            by_name.entry(kind.as_str().into()).or_insert_with(|| self.settings(&ProviderEntry::new(kind)));
            default = kind;
        }
        let only = configured.keys().next().filter(|_| configured.len() == 1);
        let default =
            self.llm.default_provider.as_ref().or(only).cloned().unwrap_or_else(|| default.as_str().into());
        Providers { default, by_name }
    }

    fn environment_has_openai(&self) -> bool {
        self.environment.openai_base_url.is_some() || self.environment.secrets.contains_key(OPENAI_API_KEY)
    }

    /// The entry with what the environment adds to it.
    pub(super) fn settings(&self, entry: &ProviderEntry) -> ProviderSettings {
        let default_model = entry.default_model.clone();
        match entry.kind {
            ProviderKind::Offline => ProviderSettings::Offline,
            ProviderKind::OpenAi => {
                let url = entry.base_url.as_ref().or(self.environment.openai_base_url.as_ref());
                let url = url.map_or(OPENAI_OWN_URL, |url| url.trim_end_matches('/'));
                let variable = |name: &str| self.environment.secrets.get(name);
                let key = match &entry.api_key_file {
                    Some(file) => self.environment.files.get(file),
                    None => key_variable(entry).and_then(variable),
                };
                let account =
                    [("OpenAI-Organization", &entry.organization), ("OpenAI-Project", &entry.project)];
                let account = account.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
                let plain = entry.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                let plain = account.chain(plain).map(|(name, value)| (name, SecretString::from(value)));
                let secret = entry.headers_env.iter();
                let secret = secret.filter_map(|(name, from)| Some((name.as_str(), variable(from)?.clone())));
                ProviderSettings::OpenAi {
                    base_url: url.into(),
                    api_key: key.cloned(),
                    default_model,
                    headers: plain.chain(secret).map(|(name, value)| (name.to_owned(), value)).collect(),
                    extra_body: entry.extra_body.clone(),
                }
            }
            ProviderKind::ChatService => ProviderSettings::ChatService {
                address: self.chat_service.address.clone().unwrap_or_default(),
                default_model,
            },
        }
    }
}

/// The variable that holds the key of an entry, if it has one.
pub(super) fn key_variable(entry: &ProviderEntry) -> Option<&str> {
    match (&entry.api_key_env, &entry.base_url, &entry.api_key_file) {
        (Some(name), _, _) => Some(name),
        (None, None, None) => Some(OPENAI_API_KEY),
        (None, Some(_), _) | (None, None, Some(_)) => None,
    }
}
