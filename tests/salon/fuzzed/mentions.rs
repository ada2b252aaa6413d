//! Names of LLMs and a text: whom it calls.

use salon::domain::mention::{is_everyone, key, resolve};

use super::opening::llm;

/// Pieces: the text, names given beside it (the second piece, line by line), then up to four display names.
pub fn mention(data: &[u8]) {
    let pieces: Vec<_> = super::pieces(data).into_iter().map(String::from_utf8_lossy).collect();
    let (text, rest) = pieces.split_first().unwrap();
    let (beside, names) = rest.split_first().map_or(("", rest), |(beside, names)| (&**beside, names));
    let beside: Vec<String> = beside.lines().map(str::to_owned).collect();
    let llms: Vec<_> = ["bot", "gpt-4", "小明", "a_b"]
        .into_iter()
        .enumerate()
        .map(|(at, id)| llm(id, names.get(at).map_or(id, |name| name.as_ref())))
        .collect();
    let called = resolve(&llms, text, &beside);
    assert_eq!(called, resolve(&llms, text, &beside), "the same text calls the same");
    let all = says(text, "all") || says(text, "everyone") || beside.iter().any(|name| is_everyone_of(name));
    for (at, id) in called.iter().enumerate() {
        assert!(!called[..at].contains(id), "{id} is called twice");
        let llm = llms.iter().find(|llm| &llm.id == id).expect("only LLMs of the room are called");
        let named = [llm.id.as_str(), llm.display_name.as_str()]
            .into_iter()
            .any(|name| says(text, name) || beside.iter().any(|word| says(word, name)));
        assert!(named || all, "{id} is called, and nobody says so");
    }
    if !text.contains(['@', '＠']) && beside.is_empty() {
        assert!(called.is_empty(), "nothing calls without an @");
    }
}

/// Whether a text has these letters in it, as mentions compare them.
fn says(text: &str, name: &str) -> bool {
    let (text, name) = (key(text), key(name));
    !name.is_empty() && text.windows(name.len()).any(|part| part == name)
}

fn is_everyone_of(name: &str) -> bool {
    is_everyone(name) || says(name, "all") || says(name, "everyone")
}
