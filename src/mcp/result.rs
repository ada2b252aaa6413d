//! What a tool answered, as a text that a model can be given.
//!
//! Text stays text; pictures, sounds and files are only described, since no provider here is sent them. The whole is
//! bounded, and says so where it was cut.

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};

use crate::mcp::{
    CallResult,
    words::{self, Secrets},
};

/// The longest name or address in a description, in characters.
const LABEL_CHARS: usize = 200;

/// The result as text of at most `max` bytes, and the mark of the cut.
pub(super) fn render(result: &CallToolResult, max: usize, secrets: &Secrets) -> CallResult {
    let mut parts: Vec<String> = result.content.iter().map(part).collect();
    let has_text = result.content.iter().any(|block| matches!(block, ContentBlock::Text(_)));
    // A server that gives both says the same in both.
    if let (Some(value), false) = (&result.structured_content, has_text) {
        parts.push(value.to_string());
    }
    let whole = words::text(&secrets.hide(&parts.join("\n")));
    CallResult { text: cut(whole, max), is_error: result.is_error.unwrap_or(false) }
}

fn part(block: &ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => described("image", &image.mime_type, &image.data),
        ContentBlock::Audio(audio) => described("audio", &audio.mime_type, &audio.data),
        ContentBlock::Resource(embedded) => match &embedded.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => {
                format!("[resource {}]\n{text}", words::line(uri, LABEL_CHARS))
            }
            ResourceContents::BlobResourceContents { uri, blob, .. } => described("resource", uri, blob),
            _ => "[resource]".into(),
        },
        ContentBlock::ResourceLink(link) => format!("[link to {}]", words::line(&link.uri, LABEL_CHARS)),
        _ => "[content of an unknown kind]".into(),
    }
}

fn described(kind: &str, label: &str, base64: &str) -> String {
    let padding = base64.bytes().rev().take_while(|b| *b == b'=').count();
    let bytes = (base64.len() / 4 * 3).saturating_sub(padding);
    format!("[{kind} {}, {bytes} bytes]", words::line(label, LABEL_CHARS))
}

fn cut(text: String, max: usize) -> String {
    if text.len() <= max {
        return text;
    }
    let mut text = text;
    let whole = text.len();
    text.truncate((0..=max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0));
    let kept = text.len();
    text.push_str(&format!("\n[cut: these are the first {kept} of {whole} bytes]"));
    text
}
