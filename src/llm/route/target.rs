//! Which provider and model a name means, and whom to ask next when that one fails.
//!
//! Owns aliases, fallbacks and what is known of models. Pure: it asks nobody. What makes no sense in the settings is
//! found when they are read, never when somebody asks; what a room writes is taken as well as it can be.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

/// What fits into a model of which nobody has said more: what the smallest ones in use take.
pub const CONTEXT_TOKENS_UNKNOWN: u32 = 8192;

/// The contexts of models that everybody knows, by how their names begin; the first that fits counts.
const KNOWN_CONTEXTS: [(&str, u32); 9] = [
    ("gpt-5", 272_000),
    ("gpt-4.1", 1_047_576),
    ("gpt-4o", 128_000),
    ("gpt-4-turbo", 128_000),
    ("gpt-4-32k", 32_768),
    ("gpt-4", 8192),
    ("gpt-3.5-turbo", 16_385),
    ("o3", 200_000),
    ("o4-mini", 200_000),
];

/// What a model costs, in millionths of the currency for a million tokens: exact, and small enough that a count of
/// tokens times a price never leaves 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prices {
    /// For what it is given.
    pub input_micros_per_million: u64,
    /// For what it makes.
    pub output_micros_per_million: u64,
}

impl Prices {
    /// What an answer costs, in millionths of the currency, rounded up: a budget must not be undercut by rounding.
    pub fn cost_micros(&self, input_tokens: u64, output_tokens: u64) -> u64 {
        let part = |tokens: u64, price: u64| u128::from(tokens) * u128::from(price);
        let sum = part(input_tokens, self.input_micros_per_million)
            .saturating_add(part(output_tokens, self.output_micros_per_million));
        u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// What an operator says about a model; whatever is left out is found elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSettings {
    /// Whether it can call tools.
    pub tools: bool,
    /// What fits into it, its answer included.
    pub context_tokens: Option<u32>,
    /// The longest answer it can give.
    pub max_output_tokens: Option<u32>,
    /// What it costs.
    pub prices: Option<Prices>,
    /// Who is asked when it fails; `None`: the default chain. An empty list: nobody.
    pub fallbacks: Option<Vec<String>>,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self { tools: true, context_tokens: None, max_output_tokens: None, prices: None, fallbacks: None }
    }
}

/// What is known of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelInfo {
    /// Whether it can call tools.
    pub tools: bool,
    /// What fits into it, its answer included.
    pub context_tokens: u32,
    /// The longest answer it can give; `None`: nobody has said.
    pub max_output_tokens: Option<u32>,
    /// What it costs; `None`: nobody has said.
    pub prices: Option<Prices>,
}

/// Somebody who can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The provider, by its name in the configuration.
    pub provider: String,
    /// The model as the provider knows it; empty: the provider's default, which only it knows.
    pub model: String,
    /// What is known of the model.
    pub info: ModelInfo,
}

/// Whom to ask, in this order. Never empty; nobody is in it twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan(Vec<Target>);

impl Plan {
    /// The targets, the wanted one first.
    pub fn targets(&self) -> &[Target] {
        &self.0
    }

    /// Asks whoever has answered first from now on: one conversation is not handed to and fro, and does not wait for
    /// the same failure in each of its rounds.
    pub fn prefer(&mut self, provider: &str, model: &str) {
        let answered = |target: &Target| target.provider == provider && target.model == model;
        if let Some(at) = self.0.iter().position(answered) {
            let target = self.0.remove(at);
            self.0.insert(0, target);
        }
    }
}

/// How names become targets.
#[derive(Debug, Clone, Default)]
pub struct NameSettings {
    /// Other names for models: `provider:model`, a model of the default provider, or another alias.
    pub aliases: BTreeMap<String, String>,
    /// What is known of models, by `provider:model`, or by the model at whichever provider.
    pub models: BTreeMap<String, ModelSettings>,
    /// Who is asked when a model fails that has no fallbacks of its own.
    pub fallbacks: Vec<String>,
    /// The models of requests that name none, by provider, as far as anybody knows them.
    pub default_models: BTreeMap<String, String>,
}

/// Why names cannot be resolved. Names the key of the configuration that is to be mended.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// The default provider is not there.
    #[error("llm.default_provider: there is no provider `{0}`")]
    NoDefault(String),
    /// An alias leads back to itself.
    #[error("llm.aliases.{key}: leads back to itself: {path}")]
    Loop {
        /// The alias.
        key: String,
        /// The way it takes.
        path: String,
    },
    /// Something is called nothing.
    #[error("{key}: must name a model")]
    Empty {
        /// Where.
        key: String,
    },
    /// The part before the colon is no provider.
    #[error(
        "{key}: `{model}` names the provider `{prefix}`, which is not configured; for a model of that name write \
         `{default}:{model}`"
    )]
    UnknownProvider {
        /// Where.
        key: String,
        /// What is written there.
        model: String,
        /// What would be the provider.
        prefix: String,
        /// The default provider.
        default: String,
    },
}

/// Names, resolved against the providers that are there.
#[derive(Debug)]
pub(super) struct Names {
    providers: BTreeSet<String>,
    default: String,
    settings: NameSettings,
}

impl Names {
    pub(super) fn new(
        providers: BTreeSet<String>,
        default: &str,
        settings: NameSettings,
    ) -> Result<Self, NameError> {
        if !providers.contains(default) {
            return Err(NameError::NoDefault(default.to_owned()));
        }
        let names = Self { providers, default: default.to_owned(), settings };
        for (name, target) in &names.settings.aliases {
            names.check_loop(name)?;
            let key = format!("llm.aliases.{name}");
            if name.is_empty() {
                return Err(NameError::Empty { key });
            }
            names.check_model(key, target)?;
        }
        for (position, model) in names.settings.fallbacks.iter().enumerate() {
            names.check_model(format!("llm.fallbacks[{position}]"), model)?;
        }
        for (name, model) in &names.settings.models {
            let key = format!("llm.models.{name}");
            for (position, fallback) in model.fallbacks.iter().flatten().enumerate() {
                names.check_model(format!("{key}.fallbacks[{position}]"), fallback)?;
            }
            names.check_model(key, name)?;
        }
        Ok(names)
    }

    pub(super) fn default_provider(&self) -> &str {
        &self.default
    }

    /// The wanted model, then those the caller asks for, then the model's own fallbacks or else the default chain.
    /// Fallbacks of fallbacks are not followed: a plan is as long as somebody has written it.
    pub(super) fn plan(&self, model: &str, extra_fallbacks: &[String]) -> Plan {
        let wanted = self.target(model);
        let own = self.settings_of(&wanted).and_then(|settings| settings.fallbacks.as_ref());
        let chain = own.unwrap_or(&self.settings.fallbacks);
        let mut targets = vec![wanted];
        for name in extra_fallbacks.iter().chain(chain) {
            let next = self.target(name);
            if !targets.iter().any(|known| known.provider == next.provider && known.model == next.model) {
                targets.push(next);
            }
        }
        Plan(targets)
    }

    fn target(&self, name: &str) -> Target {
        let (provider, model) = self.split(self.unalias(name));
        let default = || self.settings.default_models.get(provider).cloned().unwrap_or_default();
        let model = if model.is_empty() { default() } else { model.to_owned() };
        let mut target =
            Target { provider: provider.to_owned(), info: info(&model, &ModelSettings::default()), model };
        if let Some(settings) = self.settings_of(&target) {
            target.info = info(&target.model, settings);
        }
        target
    }

    fn unalias<'a>(&'a self, name: &'a str) -> &'a str {
        let mut name = name;
        // There are no loops: that was checked.
        while let Some(next) = self.settings.aliases.get(name) {
            name = next;
        }
        name
    }

    /// What stands before the first colon is a provider only if there is one of that name: models have colons too.
    fn split<'a>(&'a self, name: &'a str) -> (&'a str, &'a str) {
        match name.split_once(':') {
            Some((provider, model)) if self.providers.contains(provider) => (provider, model),
            Some(_) | None => (&self.default, name),
        }
    }

    fn settings_of(&self, target: &Target) -> Option<&ModelSettings> {
        let full = format!("{}:{}", target.provider, target.model);
        self.settings.models.get(&full).or_else(|| self.settings.models.get(&target.model))
    }

    fn check_loop(&self, start: &str) -> Result<(), NameError> {
        let mut path = vec![start];
        while let Some(next) = path.last().and_then(|last| self.settings.aliases.get(*last)) {
            let again = path.contains(&next.as_str());
            path.push(next);
            if again {
                return Err(NameError::Loop { key: start.to_owned(), path: path.join(" -> ") });
            }
        }
        Ok(())
    }

    /// An operator who writes `openrouter:x` means a provider. A prefix that could not be the name of one belongs to
    /// the model.
    pub(super) fn check_model(&self, key: String, model: &str) -> Result<(), NameError> {
        if model.is_empty() {
            return Err(NameError::Empty { key });
        }
        let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        match model.split_once(':') {
            Some((prefix, _))
                if !self.settings.aliases.contains_key(model)
                    && !self.providers.contains(prefix)
                    && prefix.chars().all(named) =>
            {
                Err(NameError::UnknownProvider {
                    key,
                    model: model.to_owned(),
                    prefix: prefix.to_owned(),
                    default: self.default.clone(),
                })
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn info(model: &str, settings: &ModelSettings) -> ModelInfo {
    // Routers of many providers put the maker's name before the model's.
    let bare = model.rsplit('/').next().unwrap_or(model);
    let known = KNOWN_CONTEXTS.iter().find(|(begin, _)| bare.starts_with(begin)).map(|(_, tokens)| *tokens);
    ModelInfo {
        tools: settings.tools,
        context_tokens: settings.context_tokens.or(known).unwrap_or(CONTEXT_TOKENS_UNKNOWN),
        max_output_tokens: settings.max_output_tokens,
        prices: settings.prices,
    }
}
