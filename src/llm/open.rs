//! Makes providers from configuration: the only place that names backends.
//!
//! Everything comes in resolved; no environment is read here.

use std::sync::Arc;

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::llm::{
    Provider,
    chat_service::{self, ChatServiceProvider},
    offline::OfflineProvider,
    openai::{NewError, OPENAI_BASE_URL, OPENAI_DEFAULT_MODEL, OpenAiConfig, OpenAiProvider},
};

/// The backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// Built in; says that it is offline.
    #[default]
    Offline,
    /// Any server that speaks OpenAI's chat completions.
    Openai,
    /// A chat service behind gRPC.
    ChatService,
}

impl ProviderKind {
    /// The name in `llm.providers.<name>.kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Openai => "openai",
            Self::ChatService => "chat_service",
        }
    }
}

/// What `llm.providers.<name>` says, with its variables resolved.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderConfig {
    /// Which backend.
    pub kind: ProviderKind,
    /// Where an `openai` is; `None`: the backend's usual place.
    pub base_url: Option<String>,
    /// Where a `chat_service` is, as `host:port`.
    pub address: Option<String>,
    /// The key that `api_key_env` or `api_key_file` leads to; never in the configuration itself.
    #[serde(skip)]
    pub api_key: Option<SecretString>,
    /// Further headers of every request to an `openai`, resolved like the key.
    #[serde(skip)]
    pub headers: Vec<(String, SecretString)>,
    /// What is added to the body of every request to an `openai`.
    pub extra_body: Map<String, Value>,
    /// The model of requests that name none; `None`: the backend's usual model.
    pub default_model: Option<String>,
}

/// Why a provider cannot be opened. Names the key of the configuration that is to be mended.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The configuration of an `openai` provider is wrong.
    #[error("llm.providers.{name}")]
    Openai {
        /// Which provider.
        name: String,
        /// What is wrong.
        #[source]
        source: NewError,
    },
    /// The configuration of a `chat_service` provider is wrong.
    #[error("llm.providers.{name}")]
    ChatService {
        /// Which provider.
        name: String,
        /// What is wrong.
        #[source]
        source: chat_service::NewError,
    },
}

/// Makes the provider `name`. Opens no connection, so a server that is down now is no error.
pub fn open(name: &str, config: &ProviderConfig) -> Result<Arc<dyn Provider>, OpenError> {
    match config.kind {
        ProviderKind::Offline => Ok(Arc::new(OfflineProvider::new(name))),
        ProviderKind::Openai => {
            let text = |given: &Option<String>, usual: &str| {
                given.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| usual.to_owned())
            };
            let config = OpenAiConfig {
                base_url: text(&config.base_url, OPENAI_BASE_URL),
                api_key: config.api_key.clone().unwrap_or_default(),
                default_model: text(&config.default_model, OPENAI_DEFAULT_MODEL),
                headers: config.headers.clone(),
                extra_body: config.extra_body.clone(),
            };
            let provider = OpenAiProvider::new(name, config)
                .map_err(|source| OpenError::Openai { name: name.to_owned(), source })?;
            Ok(Arc::new(provider))
        }
        ProviderKind::ChatService => {
            let address = config.address.as_deref().unwrap_or_default();
            let model = config.default_model.as_deref().unwrap_or_default();
            let provider = ChatServiceProvider::new(name, address, model)
                .map_err(|source| OpenError::ChatService { name: name.to_owned(), source })?;
            Ok(Arc::new(provider))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_opens_by_the_name_it_has_in_the_configuration() {
        for kind in [ProviderKind::Offline, ProviderKind::Openai, ProviderKind::ChatService] {
            let config = json!({"kind": kind.as_str(), "address": "chat:50051"});
            let config: ProviderConfig = serde_json::from_value(config).unwrap();
            assert_eq!(config.kind, kind);
            assert_eq!(open("mine", &config).unwrap().name(), "mine");
        }
    }

    #[test]
    fn a_bad_configuration_names_its_key_and_reason() {
        let config = ProviderConfig {
            kind: ProviderKind::Openai,
            base_url: Some("localhost:1234".into()),
            ..ProviderConfig::default()
        };
        let error = open("local", &config).unwrap_err();
        assert_eq!(error.to_string(), "llm.providers.local");
        assert_eq!(error.source().unwrap().to_string(), "base_url must begin with http:// or https://");
        assert!(serde_json::from_value::<ProviderConfig>(json!({"knd": "offline"})).is_err());
        for address in ["", "chat", "http://chat:1", "chat:1/path", "chat:notaport"] {
            let kind = ProviderKind::ChatService;
            let config = ProviderConfig { kind, address: Some(address.into()), ..ProviderConfig::default() };
            let error = open("chat", &config).unwrap_err();
            assert_eq!(error.source().unwrap().to_string(), "the address must be host:port", "{address}");
        }
    }

    #[test]
    fn no_key_is_ever_printed() {
        let config = ProviderConfig {
            kind: ProviderKind::Openai,
            api_key: Some(SecretString::from("sk-secret")),
            headers: vec![("x-account".into(), SecretString::from("sk-secret"))],
            ..ProviderConfig::default()
        };
        let provider = open("openai", &config).unwrap();
        assert!(!format!("{config:?} {provider:?}").contains("sk-secret"));
    }
}
