//! A Rust file as the floors see it: where it is, and which paths it names.
//!
//! Knows just enough of the syntax to tell code from comments, texts and tests. Macros are read as they stand.

/// One file.
#[derive(Debug)]
pub struct Source {
    /// Relative to the crate, with `/`.
    pub file: String,
    /// The module it is, from the crate's root.
    pub module: Vec<String>,
    /// Whether the first line is the module's documentation.
    pub begins_with_doc: bool,
    /// How many lines it has.
    pub lines: usize,
    /// Every path outside of tests.
    pub used: Vec<UsedPath>,
    /// Lines with `async` or `await` outside of tests.
    pub async_lines: Vec<usize>,
    tests: Vec<String>,
}

/// A path such as `crate::ids::RoomId`; a tree of `use` gives one for each leaf.
#[derive(Debug, Clone)]
pub struct UsedPath {
    /// Its parts.
    pub segments: Vec<String>,
    /// Where its last part stands.
    pub line: usize,
}

#[derive(Debug, Clone)]
struct Token {
    text: String,
    line: usize,
}

impl Source {
    /// Reads a file; `file` is its name from the crate's root.
    pub fn parse(file: &str, text: &str) -> Self {
        let module = module_of(file);
        let (code, tests) = without_tests(&tokens(text));
        let tests = tests.into_iter().map(|name| format!("{}::{name}", module.join("::"))).collect();
        let is_async = |token: &&Token| matches!(token.text.as_str(), "async" | "await");
        Self {
            file: file.to_owned(),
            begins_with_doc: text.starts_with("//!"),
            lines: text.lines().count(),
            used: paths(&code),
            async_lines: code.iter().filter(is_async).map(|token| token.line).collect(),
            module,
            tests,
        }
    }

    /// The modules that this one declares for tests only.
    pub fn test_modules(&self) -> impl Iterator<Item = &str> {
        self.tests.iter().map(String::as_str)
    }

    /// Whether the file is a module, given with `/`, or inside it.
    pub fn is_in(&self, place: &str) -> bool {
        let place: Vec<&str> = place.split('/').collect();
        self.module.len() >= place.len() && self.module.iter().zip(&place).all(|(own, other)| own == other)
    }
}

impl UsedPath {
    /// The path from the crate's root, if it is inside this crate.
    pub fn within_crate(&self, module: &[String]) -> Option<Vec<String>> {
        let first = self.segments.first()?.as_str();
        let mut base = match first {
            // `main.rs` sees the library by its name.
            "crate" | "salon" => Vec::new(),
            "self" | "super" => module.to_vec(),
            _ => return None,
        };
        for segment in &self.segments {
            match segment.as_str() {
                "crate" | "salon" | "self" => {}
                "super" => drop(base.pop()),
                other => base.push(other.to_owned()),
            }
        }
        Some(base)
    }
}

fn module_of(file: &str) -> Vec<String> {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').map(str::to_owned).collect()
}

/// Words, `::` and single signs, without comments and texts.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut found = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < chars.len() {
        let begin = i;
        match chars[i] {
            '/' if at(i + 1) == '/' => i = (i..chars.len()).find(|j| at(*j) == '\n').unwrap_or(chars.len()),
            '/' if at(i + 1) == '*' => i = behind_comment(&chars, i),
            '"' => i = behind_text(&chars, i),
            'r' | 'b' | 'c' if raw_text(&chars, i).is_some() => i = raw_text(&chars, i).unwrap(),
            '\'' if at(i + 1) == '\\' => i = behind_sign(&chars, i),
            '\'' if at(i + 2) == '\'' => i += 3,
            ':' if at(i + 1) == ':' => {
                found.push(Token { text: "::".to_owned(), line });
                i += 2;
            }
            c if c.is_alphanumeric() || c == '_' => {
                let end = (i..chars.len()).find(|j| !(at(*j).is_alphanumeric() || at(*j) == '_'));
                i = end.unwrap_or(chars.len());
                found.push(Token { text: chars[begin..i].iter().collect(), line });
            }
            c => {
                if !c.is_whitespace() {
                    found.push(Token { text: c.to_string(), line });
                }
                i += 1;
            }
        }
        line += chars[begin..i.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    found
}

fn behind_comment(chars: &[char], begin: usize) -> usize {
    let (mut i, mut depth) = (begin, 0);
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

/// Behind a quoted sign with a backslash, such as `'\\''`.
fn behind_sign(chars: &[char], begin: usize) -> usize {
    let close = chars.iter().skip(begin + 3).position(|c| *c == '\'');
    close.map_or(chars.len(), |close| begin + 3 + close + 1)
}

fn behind_text(chars: &[char], begin: usize) -> usize {
    let mut i = begin + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// Where a raw text such as `r#"…"#` or `br"…"` that begins here ends.
fn raw_text(chars: &[char], begin: usize) -> Option<usize> {
    if begin > 0 && (chars[begin - 1].is_alphanumeric() || chars[begin - 1] == '_') {
        return None;
    }
    let prefix = chars[begin..].iter().take_while(|c| c.is_ascii_lowercase()).collect::<String>();
    if !["r", "br", "cr"].contains(&prefix.as_str()) {
        return None;
    }
    let open = begin + prefix.len();
    let hashes = chars[open..].iter().take_while(|c| **c == '#').count();
    if chars.get(open + hashes) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = open + hashes + 1;
    let end = chars[body..].windows(close.len()).position(|window| window == close);
    Some(end.map_or(chars.len(), |end| body + end + close.len()))
}

/// The code without what is behind `#[cfg(test)]`, and the modules declared there.
fn without_tests(code: &[Token]) -> (Vec<Token>, Vec<String>) {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut i = 0;
    while i < code.len() {
        let marked =
            code.len() - i > MARK.len() && code[i..].iter().zip(MARK).all(|(t, mark)| t.text == mark);
        if !marked {
            kept.push(code[i].clone());
            i += 1;
            continue;
        }
        let end = behind_item(code, i + MARK.len());
        let item: Vec<&str> = code[i..end].iter().map(|token| token.text.as_str()).collect();
        if let [.., "mod", name, ";"] = item[..] {
            modules.push(name.to_owned());
        }
        i = end;
    }
    (kept, modules)
}

/// Behind the next item: its `;`, or the end of its block, with further attributes before it.
fn behind_item(code: &[Token], begin: usize) -> usize {
    let (mut i, mut depth) = (begin, 0_i32);
    while i < code.len() {
        match code[i].text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth -= 1,
            "}" => {
                depth -= 1;
                if depth == 0 {
                    return i + 1;
                }
            }
            ";" if depth == 0 => return i + 1,
            _ => {}
        }
        i += 1;
    }
    code.len()
}

/// Every path: the leaves of `use` trees, and whatever has a `::` elsewhere.
fn paths(code: &[Token]) -> Vec<UsedPath> {
    let mut found = Vec::new();
    let mut i = 0;
    while i < code.len() {
        // `use<>` says what a return type captures.
        if code[i].text == "use" && text_at(code, i + 1) != "<" {
            i = use_tree(code, i + 1, &[], &mut found);
            continue;
        }
        let begins = is_word(&code[i]) && text_at(code, i + 1) == "::";
        if !begins || (i > 0 && code[i - 1].text == "::" && i > 1 && is_word(&code[i - 2])) {
            i += 1;
            continue;
        }
        let line = code[i].line;
        let mut segments = vec![code[i].text.clone()];
        i += 1;
        while text_at(code, i) == "::" && code.get(i + 1).is_some_and(is_word) {
            segments.push(code[i + 1].text.clone());
            i += 2;
        }
        found.push(UsedPath { segments, line });
    }
    found
}

/// Reads one branch of a `use` and gives where it ends.
fn use_tree(code: &[Token], begin: usize, prefix: &[String], found: &mut Vec<UsedPath>) -> usize {
    let mut segments = prefix.to_vec();
    let mut i = begin;
    loop {
        match text_at(code, i) {
            "::" => i += 1,
            "{" => {
                i += 1;
                while !["}", ""].contains(&text_at(code, i)) {
                    i = use_tree(code, i, &segments, found);
                    i += usize::from(text_at(code, i) == ",");
                }
                return i + 1;
            }
            "as" => i += 2,
            "*" => {
                segments.push("*".to_owned());
                i += 1;
            }
            _ if code.get(i).is_some_and(is_word) => {
                segments.push(code[i].text.clone());
                i += 1;
            }
            _ => {
                let line = code.get(i.saturating_sub(1)).map_or(0, |token| token.line);
                found.push(UsedPath { segments, line });
                // Behind the whole statement, or before what belongs to the tree above.
                return i + usize::from(text_at(code, i) == ";");
            }
        }
    }
}

fn is_word(token: &Token) -> bool {
    token.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn text_at(code: &[Token], i: usize) -> &str {
    code.get(i).map_or("", |token| token.text.as_str())
}
