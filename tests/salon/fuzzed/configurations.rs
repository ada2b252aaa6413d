//! The text of a configuration file.

use salon::config::from_text;

/// What must never be repeated.
const SECRET: &str = "planted-secret-7f3a";

/// The text is the input.
pub fn configuration(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let environment = [("OPENAI_API_KEY", SECRET), ("SALON_TEST_TOKEN", SECRET)];
    let said = match from_text(&text, environment) {
        Ok(loaded) => format!("{:?}", loaded.config),
        Err(error) => format!("{error} {error:?}"),
    };
    assert!(!said.contains(SECRET) || text.contains(SECRET), "a secret is repeated");
}
