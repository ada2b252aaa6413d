//! What names mean, and what of the settings is refused.

use super::*;

fn names(change: impl FnOnce(&mut NameSettings)) -> Result<Names, NameError> {
    let mut settings = NameSettings::default();
    change(&mut settings);
    Names::new(["openai", "local"].map(String::from).into(), "openai", settings)
}

fn alias(settings: &mut NameSettings, name: &str, target: &str) {
    settings.aliases.insert(name.into(), target.into());
}

/// The plan as `provider:model`.
fn plan(names: &Names, model: &str, extra: &[&str]) -> Vec<String> {
    let extra: Vec<String> = extra.iter().map(|name| (*name).to_owned()).collect();
    let plan = names.plan(model, &extra);
    plan.targets().iter().map(|target| format!("{}:{}", target.provider, target.model)).collect()
}

#[test]
fn only_a_configured_provider_is_a_prefix() {
    let names = names(|settings| {
        alias(settings, "fast", "local:llama3:8b");
        alias(settings, "best", "gpt-4.1");
        alias(settings, "default", "best");
        alias(settings, "openai:gpt-3.5-turbo", "openai:gpt-4o-mini");
        settings.default_models = [("openai".into(), "gpt-4o-mini".into())].into();
    })
    .unwrap();
    for (model, target) in [
        ("gpt-4.1", "openai:gpt-4.1"),
        ("local:llama3", "local:llama3"),
        ("local:llama3:8b", "local:llama3:8b"),
        ("meta/llama-3:free", "openai:meta/llama-3:free"),
        ("llama3:8b", "openai:llama3:8b"),
        ("openai:meta/llama-3:free", "openai:meta/llama-3:free"),
        (":x", "openai::x"),
        ("", "openai:gpt-4o-mini"),
        ("openai:", "openai:gpt-4o-mini"),
        ("local:", "local:"),
        ("fast", "local:llama3:8b"),
        ("default", "openai:gpt-4.1"),
        ("openai:gpt-3.5-turbo", "openai:gpt-4o-mini"),
        ("Fast", "openai:Fast"),
    ] {
        assert_eq!(plan(&names, model, &[]), [target], "{model}");
    }
}

#[test]
fn a_plan_has_everybody_once_in_order() {
    let names = names(|settings| {
        alias(settings, "fast", "local:llama3");
        settings.fallbacks = vec!["gpt-4o".into(), "fast".into()];
        let own =
            ModelSettings { fallbacks: Some(vec!["o3".into(), "local:llama3".into()]), ..Default::default() };
        settings.models.insert("openai:gpt-4.1".into(), own);
        let alone = ModelSettings { fallbacks: Some(Vec::new()), ..Default::default() };
        settings.models.insert("alone".into(), alone);
    })
    .unwrap();
    assert_eq!(plan(&names, "x", &[]), ["openai:x", "openai:gpt-4o", "local:llama3"]);
    assert_eq!(plan(&names, "gpt-4o", &[]), ["openai:gpt-4o", "local:llama3"]);
    assert_eq!(plan(&names, "fast", &["openai:gpt-4o", "y"]), ["local:llama3", "openai:gpt-4o", "openai:y"]);
    assert_eq!(plan(&names, "gpt-4.1", &["fast"]), ["openai:gpt-4.1", "local:llama3", "openai:o3"]);
    assert_eq!(plan(&names, "alone", &[]), ["openai:alone"]);
    assert_eq!(plan(&names, "local:alone", &["local:alone"]), ["local:alone"]);
}

#[test]
fn what_is_known_of_a_model() {
    let prices = Prices { input_micros_per_million: 150_000, output_micros_per_million: 600_000 };
    let names = names(|settings| {
        let anywhere = ModelSettings { tools: false, context_tokens: Some(4096), ..Default::default() };
        settings.models.insert("llama3".into(), anywhere);
        let here = ModelSettings { prices: Some(prices), max_output_tokens: Some(99), ..Default::default() };
        settings.models.insert("local:llama3".into(), here);
        settings.default_models = [("local".into(), "llama3".into())].into();
    })
    .unwrap();
    let info = |model: &str| names.plan(model, &[]).targets()[0].info;
    let unknown = ModelInfo {
        tools: true,
        context_tokens: CONTEXT_TOKENS_UNKNOWN,
        max_output_tokens: None,
        prices: None,
    };
    assert_eq!(info("nobody-knows-it"), unknown);
    assert_eq!(info("llama3"), ModelInfo { tools: false, context_tokens: 4096, ..unknown });
    let here = ModelInfo { max_output_tokens: Some(99), prices: Some(prices), ..unknown };
    assert_eq!([info("local:llama3"), info("local:")], [here, here], "the nearer entry counts, whole");
    assert_eq!(info("gpt-4o-2024-08-06").context_tokens, 128_000);
    assert_eq!(info("openai/gpt-4.1-mini").context_tokens, 1_047_576);
    assert_eq!(info("gpt-4").context_tokens, 8192);
}

#[test]
fn prices_are_exact_and_round_up() {
    let prices = Prices { input_micros_per_million: 150_000, output_micros_per_million: 600_000 };
    assert_eq!(prices.cost_micros(1_000_000, 0), 150_000);
    assert_eq!(prices.cost_micros(1_000_000, 1_000_000), 750_000);
    assert_eq!((prices.cost_micros(1, 0), prices.cost_micros(0, 0)), (1, 0));
    assert_eq!(prices.cost_micros(10, 10), 8, "7.5 is 8");
    let dear = Prices { input_micros_per_million: u64::MAX, output_micros_per_million: u64::MAX };
    assert_eq!(dear.cost_micros(u64::MAX, u64::MAX), u64::MAX);
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let error = |change: fn(&mut NameSettings)| names(change).unwrap_err().to_string();
    let looped = error(|settings| {
        alias(settings, "a", "b");
        alias(settings, "b", "c");
        alias(settings, "c", "b");
    });
    assert_eq!(looped, "llm.aliases.a: leads back to itself: a -> b -> c -> b");
    assert_eq!(error(|s| alias(s, "a", "a")), "llm.aliases.a: leads back to itself: a -> a");
    let unknown = "llm.aliases.a: `groq:llama` names the provider `groq`, which is not configured; for a model of \
                   that name write `openai:groq:llama`";
    assert_eq!(error(|s| alias(s, "a", "groq:llama")), unknown);
    assert_eq!(error(|s| alias(s, "a", "")), "llm.aliases.a: must name a model");
    assert_eq!(error(|s| alias(s, "", "a")), "llm.aliases.: must name a model");
    let fallback = error(|s| s.fallbacks = vec!["gpt-4o".into(), "groq:x".into()]);
    assert!(fallback.starts_with("llm.fallbacks[1]: `groq:x`"), "{fallback}");
    let own = error(|s| {
        let own = ModelSettings { fallbacks: Some(vec!["groq:x".into()]), ..Default::default() };
        s.models.insert("gpt-4o".into(), own);
    });
    assert!(own.starts_with("llm.models.gpt-4o.fallbacks[0]: `groq:x`"), "{own}");
    let model = error(|s| drop(s.models.insert("groq:x".into(), ModelSettings::default())));
    assert!(model.starts_with("llm.models.groq:x: `groq:x`"), "{model}");
    let none = Names::new(["a".to_owned()].into(), "b", NameSettings::default()).unwrap_err();
    assert_eq!(none.to_string(), "llm.default_provider: there is no provider `b`");
    // What a model may be called is no mistake.
    assert!(names(|s| alias(s, "free", "meta/llama-3:free")).is_ok());
}

#[test]
fn whoever_has_answered_comes_first() {
    let names = names(|settings| settings.fallbacks = ["a", "b"].map(String::from).into()).unwrap();
    let mut plan = names.plan("x", &[]);
    let models = |plan: &Plan| plan.targets().iter().map(|target| target.model.clone()).collect::<Vec<_>>();
    plan.prefer("openai", "a");
    assert_eq!(models(&plan), ["a", "x", "b"]);
    plan.prefer("local", "b");
    assert_eq!(models(&plan), ["a", "x", "b"], "there is no such target");
}
