//! Where lines go: a stream of bytes, or a terminal on which somebody is typing.
//!
//! On a terminal the line being typed stays below whatever is printed. An open line (tokens as they come) is broken
//! here before the terminal would wrap it: the line editor finds the end of an open line only on its last row.

use std::{
    fmt,
    io::{self, Write},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use futures_util::AsyncWrite;
use rustyline_async::SharedWriter;
use unicode_width::UnicodeWidthChar;

use crate::cli::{chat::live::Print, text};

/// Where lines go.
pub enum Console {
    /// A pipe, a file, or a terminal on which nobody types.
    Plain(Box<dyn Write + Send>),
    /// A terminal with a line editor.
    Terminal {
        /// The line editor's way to print above the line being typed.
        writer: SharedWriter,
        /// Where the open line is.
        flow: Flow,
    },
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Console::Plain",
            Self::Terminal { .. } => "Console::Terminal",
        })
    }
}

impl Console {
    /// Prints, and returns when it is out.
    pub async fn show(&mut self, prints: Vec<Print>) -> io::Result<()> {
        match self {
            Self::Plain(out) => plain(out, &prints),
            Self::Terminal { writer, flow } => {
                for print in prints {
                    for piece in flow.pieces(print, columns()) {
                        put(writer, piece).await?;
                    }
                }
                Ok(())
            }
        }
    }
}

fn plain(out: &mut impl Write, prints: &[Print]) -> io::Result<()> {
    for print in prints {
        match print {
            Print::Line(line) => writeln!(out, "{line}")?,
            Print::LiveStart(text) | Print::Live(text) => write!(out, "{text}")?,
            Print::LiveEnd => writeln!(out)?,
        }
    }
    out.flush()
}

/// How wide the terminal is now: people resize them.
fn columns() -> usize {
    crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns)).max(20)
}

/// Gives one piece to the line editor: a piece without a line end must be the end of what is printed.
async fn put(writer: &mut SharedWriter, piece: String) -> io::Result<()> {
    let complete = piece.ends_with('\n');
    match writer.write(piece.as_bytes()) {
        Ok(_) if complete => return Ok(()),
        Ok(_) => {}
        // The piece is kept in the writer; flushing hands it over.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    loop {
        let flushed = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *writer).poll_flush(cx))).await;
        match flushed {
            Poll::Ready(done) => return done,
            // The writer forgets whom to wake when its queue is full; the editor empties it within moments.
            Poll::Pending => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Breaks an open line where the terminal would.
#[derive(Debug, Default)]
pub struct Flow {
    column: usize,
}

impl Flow {
    /// What to print, in pieces of which only the last may lack its line end.
    fn pieces(&mut self, print: Print, columns: usize) -> Vec<String> {
        match print {
            Print::Line(line) => {
                let open = std::mem::take(&mut self.column) > 0;
                open.then(|| "\n".to_owned()).into_iter().chain([format!("{line}\n")]).collect()
            }
            Print::LiveEnd => {
                self.column = 0;
                vec!["\n".to_owned()]
            }
            Print::LiveStart(head) => {
                let plain = text::line(&head);
                self.column += plain.chars().filter_map(UnicodeWidthChar::width).sum::<usize>();
                vec![head]
            }
            Print::Live(text) => self.wrapped(&text, columns),
        }
    }

    fn wrapped(&mut self, text: &str, columns: usize) -> Vec<String> {
        let mut pieces = Vec::new();
        let mut piece = String::new();
        for word in text.split_inclusive([' ', '\n']) {
            let width = word.trim_end().chars().filter_map(UnicodeWidthChar::width).sum::<usize>();
            // A word that has a row of its own moves there; the part of it that was shown before cannot.
            let moves = self.column > 0 && self.column + width >= columns && width + 1 < columns;
            let row_ends = |column: usize, width: usize| column + width >= columns;
            for (at, c) in word.chars().enumerate() {
                let width = c.width().unwrap_or(0);
                // One column stays free: a full row leaves the cursor where terminals disagree.
                if c == '\n' || (moves && at == 0) || row_ends(self.column, width) {
                    piece.push('\n');
                    pieces.push(std::mem::take(&mut piece));
                    self.column = 0;
                }
                let swallowed = c == '\n' || (c == ' ' && self.column == 0 && at > 0);
                if !swallowed {
                    self.column += width;
                    piece.push(c);
                }
            }
        }
        pieces.extend(Some(piece).filter(|piece| !piece.is_empty()));
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_line_is_broken_before_the_terminal_would() {
        let mut flow = Flow::default();
        let mut pieces = |print| flow.pieces(print, 10);
        assert_eq!(pieces(Print::LiveStart("\u{1b}[1mada\u{1b}[0m: ".into())), ["\u{1b}[1mada\u{1b}[0m: "]);
        assert_eq!(pieces(Print::Live("1234".into())), ["1234"]);
        assert_eq!(pieces(Print::Live("5678".into())), ["\n", "5678"]);
        assert_eq!(pieces(Print::Live("茶茶茶".into())), ["\n", "茶茶茶"]);
        assert_eq!(pieces(Print::Live("0123456789".into())), ["012\n", "3456789"]);
        assert_eq!(pieces(Print::Live("\n  x".into())), ["\n", "  x"]);
        assert_eq!(pieces(Print::LiveEnd), ["\n"]);
        assert_eq!(pieces(Print::Line("whole".into())), ["whole\n"]);
    }

    #[test]
    fn no_row_is_ever_full() {
        let mut flow = Flow::default();
        let text = "tokens that come and 茶 go ".repeat(40);
        let mut shown = String::new();
        for c in text.chars() {
            shown.extend(flow.pieces(Print::Live(c.to_string()), 24));
        }
        let width = |row: &str| row.chars().filter_map(UnicodeWidthChar::width).sum::<usize>();
        assert!(shown.lines().all(|row| width(row) < 24), "{shown}");
        assert_eq!(shown.replace(['\n', ' '], ""), text.replace(' ', ""));
    }

    #[test]
    fn a_pipe_gets_lines() {
        let mut out = Vec::new();
        plain(&mut out, &[Print::Line("a".into()), Print::LiveStart("b".into()), Print::LiveEnd]).unwrap();
        assert_eq!(out, b"a\nb\n");
    }
}
