//! The parts of a text in which somebody speaks: neither code nor a quotation of others.
//!
//! - Three or more backticks open code, anywhere in a line, up to as many or more; without these up to the end.
//! - One or two backticks open code up to the same number in the same line; without these they are text.
//! - A line that begins with `>` is a quotation: who quotes a call does not repeat it.
//!
//! A piece never goes over the end of a line, so that no name is put together from two of them.

/// The pieces of a text that are prose, in order.
#[derive(Debug, Clone)]
pub(super) struct Prose<'a> {
    rest: &'a str,
    at_line_start: bool,
    /// For one and for two backticks: whether the line is known to have no more that could close them. Without
    /// this memory, a line of backticks that never match would be searched again from each of them.
    unclosed: [bool; 2],
}

impl<'a> Prose<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text, at_line_start: true, unclosed: [false; 2] }
    }

    /// Takes the text before `end` and goes on behind `next`.
    fn take(&mut self, end: usize, next: usize) -> &'a str {
        let piece = self.rest.get(..end).unwrap_or_default();
        self.rest = self.rest.get(next..).unwrap_or_default();
        piece
    }

    fn take_line(&mut self, end: usize) -> &'a str {
        self.at_line_start = true;
        self.unclosed = [false; 2];
        self.take(end, end + 1)
    }

    /// Where the code ends that `count` backticks open just before `from`; `None`: they are text.
    fn end_of_code(&mut self, from: usize, count: usize) -> Option<usize> {
        let behind = self.rest.get(from..).unwrap_or_default();
        let Some(unclosed) = count.checked_sub(1).and_then(|index| self.unclosed.get_mut(index)) else {
            self.unclosed = [false; 2];
            let end = closing(behind, &['`'], |run| run >= count);
            return Some(end.map_or(self.rest.len(), |end| from + end));
        };
        if *unclosed {
            return None;
        }
        let end = closing(behind, &['`', '\n'], |run| run == count).map(|end| from + end);
        *unclosed = end.is_none();
        end
    }
}

impl<'a> Iterator for Prose<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        while std::mem::take(&mut self.at_line_start) && is_quotation(self.rest) {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.take_line(end);
        }
        if self.rest.is_empty() {
            return None;
        }
        let mut from = 0;
        loop {
            let found = self.rest.get(from..).and_then(|text| text.find(['`', '\n']));
            let Some(at) = found.map(|offset| from + offset) else {
                return Some(self.take(self.rest.len(), self.rest.len()));
            };
            let count = backticks(self.rest.get(at..).unwrap_or_default());
            if count == 0 {
                return Some(self.take_line(at));
            }
            if let Some(end) = self.end_of_code(at + count, count) {
                return Some(self.take(at, end));
            }
            from = at + count;
        }
    }
}

fn is_quotation(line: &str) -> bool {
    line.trim_start_matches([' ', '\t']).starts_with('>')
}

/// How many backticks a text begins with.
fn backticks(text: &str) -> usize {
    text.len() - text.trim_start_matches('`').len()
}

/// The end of the first run of backticks whose length `closes`, unless another of the characters in `stops` comes
/// first. The search goes no further than it must: finding the end of the line beforehand would cost a whole line
/// for each of its backticks.
fn closing(text: &str, stops: &[char], closes: impl Fn(usize) -> bool) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| rest.find(stops)).map(|offset| from + offset) {
        let count = backticks(text.get(at..).unwrap_or_default());
        if count == 0 {
            return None;
        }
        from = at + count;
        if closes(count) {
            return Some(from);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_quotations_are_left_out() {
        for (text, prose) in [
            ("", vec![]),
            ("a", vec!["a"]),
            ("a\nb\n", vec!["a", "b"]),
            ("a `b` c", vec!["a ", " c"]),
            ("a ``b ` c`` d", vec!["a ", " d"]),
            ("a ` b", vec!["a ` b"]),
            ("a ` b\nc ` d", vec!["a ` b", "c ` d"]),
            ("a `` b ` c", vec!["a `` b ` c"]),
            ("a ` b `` c ` d", vec!["a ", " d"]),
            ("a\n```rust\nb\n```\nc", vec!["a", "", "", "c"]),
            ("a ```b``` c", vec!["a ", " c"]),
            ("````\na\n```\nb\n````\nc", vec!["", "", "c"]),
            ("a\n```\nb `c", vec!["a", ""]),
            ("> a\nb", vec!["b"]),
            ("b\n  > a\n>\nc", vec!["b", "c"]),
            ("> ```\na", vec!["a"]),
            ("```\n> a\n``` b", vec!["", " b"]),
            ("a > b", vec!["a > b"]),
        ] {
            assert_eq!(Prose::new(text).collect::<Vec<_>>(), prose, "{text:?}");
        }
    }
}
