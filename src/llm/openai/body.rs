//! The body of an answer on its way to async-openai: bounded, line by line, and with an end that can be asked for.
//!
//! async-openai's parser copies what it has not read with every line and reads an unfinished line anew with every
//! read, its queue has no limit, it does not tell an end mark from an end, and it logs the text of an event that it
//! cannot read. All that is mended here.

use std::{io, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream, stream::BoxStream};

use crate::llm::{
    ErrorKind,
    fault::Problem,
    openai::{
        chunk::Chunk,
        classify::Classifier,
        fate::{Ended, Fate},
    },
};

/// Some 300 bytes a token make 50,000 tokens.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Two lines a token, five times what the bytes allow for real ones.
const ANSWER_LINES_MAX: usize = 500_000;
/// A server that sends a whole answer in one event is fine; one that never ends a line is not.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The lines of `body`, each as a piece of its own; how it ended is left in `fate`.
pub(super) fn by_lines(
    body: BoxStream<'static, Result<Bytes, reqwest::Error>>,
    classifier: Arc<Classifier>,
    fate: Fate,
) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + 'static {
    let state = Some((body, Lines::default()));
    stream::unfold(state, move |state| {
        let (fate, classifier) = (fate.clone(), Arc::clone(&classifier));
        async move {
            let (mut body, mut lines) = state?;
            // Many lines in one read must not keep other tasks waiting.
            tokio::task::coop::consume_budget().await;
            let error = loop {
                if let Some(line) = lines.next() {
                    match lines.check(&line) {
                        Ok(()) => return Some((Ok(line), Some((body, lines)))),
                        Err(problem) => break classifier.error(&problem),
                    }
                }
                match body.next().await {
                    // What is left is no whole line, so no event either.
                    None => {
                        fate.set(Ended::Cut);
                        return None;
                    }
                    Some(Ok(bytes)) if lines.admits(&bytes) => {}
                    Some(Ok(_)) => {
                        let message = "the answer is larger than any answer";
                        break classifier.error(&Problem::new(ErrorKind::Garbled, message));
                    }
                    Some(Err(error)) => break classifier.exchange(error),
                }
            };
            fate.set(Ended::Failed(error.clone()));
            Some((Err(io::Error::other(error)), None))
        }
    })
}

/// Cuts bytes into lines, counts them and looks whether the events that they make can be read.
#[derive(Debug, Default)]
struct Lines {
    buffer: BytesMut,
    /// How much of `buffer` holds no line end, as far as was looked.
    searched: usize,
    bytes: usize,
    lines: usize,
    /// The data of the event that is not over, its lines as the standard joins them.
    data: Vec<u8>,
    /// Whether this event is read by nobody.
    is_keepalive: bool,
}

impl Lines {
    /// Takes more, unless it is too much. To be called only when `next` has no more.
    fn admits(&mut self, bytes: &[u8]) -> bool {
        self.bytes = self.bytes.saturating_add(bytes.len());
        self.lines = self.lines.saturating_add(bytes.iter().filter(|byte| **byte == b'\n').count());
        let first = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let admitted = self.bytes <= ANSWER_BYTES_MAX
            && self.lines <= ANSWER_LINES_MAX
            && self.buffer.len().saturating_add(first) <= LINE_BYTES_MAX;
        if admitted {
            self.buffer.extend_from_slice(bytes);
        }
        admitted
    }

    fn next(&mut self) -> Option<Bytes> {
        let unsearched = self.buffer.get(self.searched..)?;
        if let Some(at) = unsearched.iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(self.searched + at + 1);
            self.searched = 0;
            Some(line.freeze())
        } else {
            self.searched = self.buffer.len();
            None
        }
    }

    /// Whether async-openai can read what ends with this line: without the empty line behind it, it reads no event.
    /// Never repeats it: it is somebody's text.
    fn check(&mut self, line: &[u8]) -> Result<(), Problem> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            let readable = self.check_event();
            self.data.clear();
            self.is_keepalive = false;
            return readable;
        }
        if let Some(name) = line.strip_prefix(b"event:") {
            self.is_keepalive = name.trim_ascii() == b"keepalive";
        } else if let Some(more) = line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(more);
        }
        Ok(())
    }

    fn check_event(&self) -> Result<(), Problem> {
        let data = self.data.trim_ascii();
        if self.is_keepalive || data.is_empty() || data == b"[DONE]" {
            return Ok(());
        }
        serde_json::from_slice::<Chunk>(data).map(drop).map_err(|error| {
            let (what, line, at) = (error.classify(), error.line(), error.column());
            Problem::new(
                ErrorKind::Garbled,
                format!("an event cannot be read: {what:?} error in line {line}, column {at}"),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_wherever_the_reads_fall() {
        let text = b"data: a\r\n\n\ndata: \xc3\xa4\nrest";
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for piece in text.chunks(size) {
                assert!(lines.admits(piece));
                seen.extend(std::iter::from_fn(|| lines.next()));
            }
            assert_eq!(seen, [&b"data: a\r\n"[..], b"\n", b"\n", b"data: \xc3\xa4\n"], "{size}");
        }
    }

    #[test]
    fn only_what_nobody_reads_may_be_unreadable() {
        let mut lines = Lines::default();
        let mut check = |event: &str| {
            let event = format!("{event}\n\n");
            event.split_inclusive('\n').try_for_each(|line| lines.check(line.as_bytes()))
        };
        let readable = [
            "data: {}",
            "data:[DONE]",
            "data:",
            ": {",
            "id: {",
            "event: keepalive\ndata: ping",
            "data: ping\nevent: keepalive",
            "data: {\ndata: \"usage\":\r\n: between\ndata:1}",
        ];
        for event in readable {
            assert!(check(event).is_ok(), "{event}");
        }
        let unreadable = [
            "data: ping",
            r#"data: {"choices":"secret"}"#,
            r#"data: {"secret""#,
            "data: {}\ndata: {}",
            "data: {\"sec\ndata: ret\":1}",
        ];
        for event in unreadable {
            let problem = check(event).unwrap_err();
            assert_eq!(problem.kind, ErrorKind::Garbled, "{event}");
            assert!(!problem.message.contains("secret"), "{}", problem.message);
        }
    }

    #[test]
    fn a_line_may_be_as_long_as_its_limit() {
        let mut lines = Lines::default();
        assert!(lines.admits(&vec![b'x'; LINE_BYTES_MAX]));
        assert!(lines.next().is_none());
        assert!(lines.admits(b"\nabc"));
        assert_eq!(lines.next().unwrap().len(), LINE_BYTES_MAX + 1);
        assert!(lines.next().is_none());
        assert!(!lines.admits(&vec![b'x'; LINE_BYTES_MAX]));
    }

    #[test]
    fn an_answer_may_have_as_many_lines_and_bytes_as_its_limits() {
        let mut lines = Lines::default();
        assert!(lines.admits(&vec![b'\n'; ANSWER_LINES_MAX]));
        assert!(!lines.admits(b"\n"));
        let mut lines = Lines::default();
        let mut megabyte = vec![b'x'; 1024 * 1024];
        megabyte[0] = b'\n';
        for _ in 0..ANSWER_BYTES_MAX / megabyte.len() {
            assert!(lines.admits(&megabyte));
            while lines.next().is_some() {}
        }
        assert!(!lines.admits(b"x"));
    }
}
