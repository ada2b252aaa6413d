//! The names of models, which come from elsewhere, with dots, colons and slashes.

use salon::server::graph::check_models;

use super::*;

#[test]
fn models_are_called_as_their_makers_call_them() {
    let file = "llm:\n  aliases: { fast: gpt-4.1, home: 'openai:llama3.2:3b' }\n  \
                fallbacks: [fast, meta/llama-3:free]\n  models:\n    \
                gpt-4.1: { prices: { input: 0.15, output: 2 }, fallbacks: [] }\n    \
                meta/llama-3:free: { tools: false, context_tokens: 4096 }\n";
    let environment = [("OPENAI_API_KEY", SECRET)];
    let config = good(file, &environment);
    assert_eq!(config.llm.aliases["home"], "openai:llama3.2:3b");
    assert_eq!(config.llm.fallbacks, ["fast", "meta/llama-3:free"]);
    let prices = config.llm.models["gpt-4.1"].prices.unwrap();
    assert_eq!((prices.input.0, prices.output.0), (150_000, 2_000_000));
    assert_eq!(config.llm.models["gpt-4.1"].fallbacks, Some(Vec::new()));
    assert!(config.llm.models["gpt-4.1"].tools && !config.llm.models["meta/llama-3:free"].tools);
    check_models(&config).unwrap();
    // What `salon config` prints is read back as it was.
    let shown = show(&read(file, &environment).unwrap());
    assert_eq!(tree(&good(&shown, &environment)), tree(&config), "{shown}");
    let listed = good("", &[("SALON__LLM__FALLBACKS", "a, b"), ("SALON__LLM__RETRY__ATTEMPTS", "5")]);
    assert_eq!((listed.llm.fallbacks, listed.llm.retry.attempts), (vec!["a".into(), "b".into()], 5));
}

#[test]
fn what_is_wrong_about_models_is_named() {
    let models = |rest: &str| format!("llm: {{ models: {{ gpt-4.1: {{ {rest} }} }} }}");
    for (file, parts) in [
        (models("tols: true"), ["llm.models.gpt-4.1", "tols"]),
        (models("tools: 5"), ["llm.models.gpt-4.1.tools", "must be `true` or `false`"]),
        (models("context_tokens: 0"), ["llm.models.gpt-4.1.context_tokens", "from 1 to"]),
        (models("prices: { input: 0.15 }"), ["llm.models.gpt-4.1.prices", "both `input` and `output`"]),
        (models("prices: { input: -1, output: 1 }"), ["llm.models.gpt-4.1", "an amount such as"]),
        (models("fallbacks: [a, b, c, d, e, f, g, h, i]"), ["llm.models.gpt-4.1.fallbacks", "at most 8"]),
        ("llm: { aliases: { a: 'b c' } }".into(), ["llm.aliases.a", "without spaces"]),
        ("llm: { fallbacks: [''] }".into(), ["llm.fallbacks", "the name of a model"]),
        ("llm: { fallbacks: { a: b } }".into(), ["llm.fallbacks", "a list of models"]),
        ("llm: { retry: { attempts: 11 } }".into(), ["llm.retry.attempts", "from 1 to 10"]),
        ("llm: { retry: { base: 2m } }".into(), ["llm.retry.base", "from 1ms to 1m"]),
        ("llm: { retry: { base: 20s } }".into(), ["llm.retry.max", "from 20s to 5m"]),
        ("llm: { breaker: { failures: 0 } }".into(), ["llm.breaker.failures", "from 1 to 1000"]),
        ("llm: { breaker: { open: 2h } }".into(), ["llm.breaker.open", "from 100ms to 1h"]),
    ] {
        let found = problems(&file, &[]);
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(
            texts.iter().any(|text| parts.iter().all(|part| text.contains(part))),
            "{parts:?}: {texts:#?}"
        );
    }
    for (file, error) in [
        ("llm: { aliases: { a: b, b: a } }", "llm.aliases.a: leads back to itself: a -> b -> a"),
        ("llm: { fallbacks: ['groq:x'] }", "llm.fallbacks[0]: `groq:x` names the provider `groq`"),
        ("llm: { summary: { model: 'groq:x' } }", "llm.summary.model: `groq:x` names the provider `groq`"),
        ("llm: { generate_model: 'groq:x' }", "llm.generate_model: `groq:x` names the provider `groq`"),
    ] {
        let found = check_models(&good(file, &[])).unwrap_err().to_string();
        assert!(found.starts_with(error), "{found}");
    }
}
