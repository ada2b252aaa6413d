//! What a conversation reads from and writes to: a terminal with a line editor, or pipes.
//!
//! Owns the terminal's raw mode, which ends with the reading task whatever happens to the conversation.

use std::{
    fmt,
    io::{self, BufRead, Read, Write},
    time::Duration,
};

use rustyline_async::{Readline, ReadlineEvent};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use crate::cli::{
    chat::console::{Console, Flow},
    client::Error,
};

/// The longest line that is read as one; a message may have far less.
const LINE_BYTES_MAX: u64 = 256 * 1024;

/// How often the last lines are shown while nobody types any more.
const FLUSH_INTERVAL: Duration = Duration::from_millis(20);

/// Lines read and not yet understood; the reader waits when there are more.
const ENTRIES: usize = 16;

/// What somebody did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Typed a line.
    Line(String),
    /// Sent a line that is too long to be one.
    TooLong,
    /// Pressed Ctrl-C.
    Interrupt,
}

/// Where a conversation comes from and goes to.
pub struct Io {
    /// What somebody did; closed when there is nothing more.
    pub input: mpsc::Receiver<Entry>,
    /// What the room says.
    pub console: Console,
    /// What went wrong, when it does not belong between the room's lines.
    pub errors: Option<Box<dyn Write + Send>>,
    /// Somebody sits there: who leaves does not wait for answers.
    pub person: bool,
    /// Tokens as they come, and what was said before the join.
    pub lively: bool,
    /// The line before the cursor, when there is one.
    pub prompt: Option<watch::Sender<String>>,
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io")
            .field("console", &self.console)
            .field("person", &self.person)
            .finish_non_exhaustive()
    }
}

/// Pipes: `reader` is read on a thread of its own, because a read from standard input cannot be given up.
pub fn pipes(
    reader: impl Read + Send + 'static,
    out: impl Write + Send + 'static,
    errors: impl Write + Send + 'static,
    lively: bool,
) -> Result<Io, Error> {
    let (entries, input) = mpsc::channel(ENTRIES);
    std::thread::Builder::new()
        .name("input".to_owned())
        .spawn(move || read_lines(io::BufReader::new(reader), &entries))?;
    let (console, errors) = (Console::Plain(Box::new(out)), Some(Box::new(errors) as Box<dyn Write + Send>));
    Ok(Io { input, console, errors, person: false, lively, prompt: None })
}

fn read_lines(mut reader: impl BufRead, entries: &mpsc::Sender<Entry>) {
    loop {
        let mut line = Vec::new();
        match reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let whole = line.ends_with(b"\n") || u64::try_from(line.len()).is_ok_and(|len| len < LINE_BYTES_MAX);
        let entry = if whole {
            Entry::Line(String::from_utf8_lossy(&line).into_owned())
        } else {
            if skip_line(&mut reader).is_err() {
                return;
            }
            Entry::TooLong
        };
        if entries.blocking_send(entry).is_err() {
            return;
        }
    }
}

/// Reads up to the end of the line and keeps nothing of it.
fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let mut rest = Vec::new();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut rest)?;
        if read == 0 || rest.ends_with(b"\n") {
            return Ok(());
        }
    }
}

/// A terminal with somebody before it. The task that reads it lives in `tasks` and ends when the [`Io`] is dropped.
pub fn terminal(tasks: &mut JoinSet<()>) -> Result<Io, Error> {
    let unusable = |error: rustyline_async::ReadlineError| Error::Terminal(error.to_string());
    let (mut editor, writer) = Readline::new(PROMPT.to_owned()).map_err(unusable)?;
    // What was said comes back from the server, with its number.
    editor.should_print_line_on(false, false);
    let (entries, input) = mpsc::channel(ENTRIES);
    let (prompt, prompts) = watch::channel(PROMPT.to_owned());
    tasks.spawn(read_terminal(editor, entries, prompts));
    let console = Console::Terminal { writer, flow: Flow::default() };
    Ok(Io { input, console, errors: None, person: true, lively: true, prompt: Some(prompt) })
}

/// What stands before the line being typed when nobody else does anything.
pub const PROMPT: &str = "> ";

async fn read_terminal(
    mut editor: Readline,
    entries: mpsc::Sender<Entry>,
    mut prompts: watch::Receiver<String>,
) {
    loop {
        tokio::select! {
            event = editor.readline() => {
                let entry = match event {
                    Ok(ReadlineEvent::Line(line)) => {
                        if !line.trim().is_empty() {
                            editor.add_history_entry(line.clone());
                        }
                        Entry::Line(line)
                    }
                    Ok(ReadlineEvent::Interrupted) => Entry::Interrupt,
                    Ok(ReadlineEvent::Eof) | Err(_) => break,
                };
                if entries.send(entry).await.is_err() {
                    break;
                }
            }
            changed = prompts.changed() => {
                let prompt = prompts.borrow_and_update().clone();
                if changed.is_err() || editor.update_prompt(&prompt).is_err() {
                    break;
                }
            }
        }
    }
    drop(entries);
    // The conversation may still have something to say: it ends when it drops the prompt.
    while !matches!(timeout(FLUSH_INTERVAL, prompts.changed()).await, Ok(Err(_))) {
        if editor.flush().is_err() {
            break;
        }
    }
    // A terminal that is gone can show nothing more.
    let _ = editor.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_one_by_one_and_a_giant_one_is_named_and_skipped() {
        let mut text = b"one\nt\xffwo\n".to_vec();
        text.extend(vec![b'x'; 700_000]);
        text.extend(b"\nlast");
        let (entries, mut input) = mpsc::channel(8);
        read_lines(io::Cursor::new(text), &entries);
        drop(entries);
        let mut read = Vec::new();
        while let Ok(entry) = input.try_recv() {
            read.push(entry);
        }
        let line = |text: &str| Entry::Line(text.to_owned());
        assert_eq!(read, [line("one\n"), line("t\u{fffd}wo\n"), Entry::TooLong, line("last")]);
    }
}
