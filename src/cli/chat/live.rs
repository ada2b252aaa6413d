//! The one answer that is shown while it is written.
//!
//! Several LLMs may answer at once; their tokens on one screen could not be read. The first one is shown live, the
//! others when their message is there. What was shown is compared with the message at the end: the message is
//! what counts, and whatever was left out on the way is shown by then.

use crate::{cli::text::Cleaner, wire::pb::room::v1::Message};

/// What is put on the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Print {
    /// A whole line, or several.
    Line(String),
    /// The beginning of a line that stays open; already painted.
    LiveStart(String),
    /// More of the open line; clean and not painted. Line feeds are line ends.
    Live(String),
    /// The open line ends.
    LiveEnd,
}

/// More than any answer has: a text beyond it is shown when it is complete.
const LIVE_BYTES_MAX: usize = 1024 * 1024;

/// The state of the live answer.
#[derive(Debug, Default)]
pub struct Live {
    answer: Option<Answer>,
    line_open: bool,
}

#[derive(Debug)]
struct Answer {
    message_id: String,
    /// What came so far, as it came.
    text: String,
    cleaner: Cleaner,
    /// Something is missing in between: the rest waits for the message.
    broken: bool,
}

/// How the message at the end relates to what was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// All of it; the line it ends on is still open.
    AllOnOpenLine,
    /// All of it; other lines have come in between.
    All,
    /// Not, or not all, or something else.
    No,
}

impl Live {
    /// Takes the text of an answer from `offset` on. `head` is the painted beginning of the line, given whether the
    /// answer is continued after other lines.
    pub fn text(
        &mut self,
        message_id: &str,
        offset: u64,
        content: &str,
        head: impl FnOnce(bool) -> String,
    ) -> Vec<Print> {
        if self.answer.is_none() && offset == 0 {
            let (text, cleaner) = (String::new(), Cleaner::default());
            self.answer = Some(Answer { message_id: message_id.to_owned(), text, cleaner, broken: false });
        }
        let Some(answer) = self.answer.as_mut().filter(|answer| answer.message_id == message_id) else {
            return Vec::new();
        };
        let Some(new) = answer.take(offset, content) else {
            return Vec::new();
        };
        let continued = answer.text.len() > new.len();
        let clean = answer.cleaner.push(&new).replace('\n', "\n  ");
        if clean.is_empty() {
            return Vec::new();
        }
        let start = (!self.line_open).then(|| Print::LiveStart(head(continued)));
        self.line_open = true;
        start.into_iter().chain([Print::Live(clean)]).collect()
    }

    /// Other lines must be shown now: the open line ends.
    pub fn make_room(&mut self) -> Option<Print> {
        std::mem::take(&mut self.line_open).then_some(Print::LiveEnd)
    }

    /// The message of an answer is there.
    pub fn message(&mut self, message: &Message) -> Shown {
        let Some(answer) = self.answer.take_if(|answer| answer.message_id == message.message_id) else {
            return Shown::No;
        };
        match answer.text.trim_end() == message.content.trim_end() && !answer.broken {
            true if self.line_open => Shown::AllOnOpenLine,
            true => Shown::All,
            false => Shown::No,
        }
    }

    /// An answer has ended, with or without a message.
    pub fn ended(&mut self, message_id: &str) {
        self.answer.take_if(|answer| answer.message_id == message_id);
    }

    /// These answers are running now; a live one that is not among them has ended unseen.
    pub fn keep_only(&mut self, running: &[&str]) {
        self.answer.take_if(|answer| !running.contains(&answer.message_id.as_str()));
    }
}

impl Answer {
    /// The part of `content` that was not there yet; `None` when there is none or something is missing before it.
    fn take(&mut self, offset: u64, content: &str) -> Option<String> {
        let have = self.text.len();
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.broken |= offset > have || have.saturating_add(content.len()) > LIVE_BYTES_MAX;
        if self.broken {
            return None;
        }
        // A repeated piece, or the whole text so far after a reconnect: only its end is new.
        let new = content.get(have - offset..).filter(|new| !new.is_empty())?;
        self.text.push_str(new);
        Some(new.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(continued: bool) -> String {
        if continued { "… ada: ".into() } else { "ada: ".into() }
    }

    fn message(id: &str, content: &str) -> Message {
        Message { message_id: id.into(), content: content.into(), ..Default::default() }
    }

    #[test]
    fn tokens_are_shown_as_they_come_and_only_those_of_the_first() {
        let mut live = Live::default();
        let start = vec![Print::LiveStart("ada: ".into()), Print::Live("Hel".into())];
        assert_eq!(live.text("a", 0, "Hel", head), start);
        assert_eq!(live.text("b", 0, "other", head), []);
        assert_eq!(live.text("a", 3, "lo\nyou", head), [Print::Live("lo\n  you".into())]);
        assert_eq!(live.message(&message("b", "other")), Shown::No);
        assert_eq!(live.message(&message("a", "Hello\nyou")), Shown::AllOnOpenLine);
    }

    #[test]
    fn a_line_in_between_ends_the_open_line_and_the_answer_goes_on_behind_it() {
        let mut live = Live::default();
        live.text("a", 0, "one", head);
        assert_eq!(live.make_room(), Some(Print::LiveEnd));
        assert_eq!(live.make_room(), None);
        let start = vec![Print::LiveStart("… ada: ".into()), Print::Live(" two".into())];
        assert_eq!(live.text("a", 3, " two", head), start);
        live.make_room();
        assert_eq!(live.message(&message("a", "one two")), Shown::All);
    }

    #[test]
    fn a_missing_piece_stops_it_and_a_repeated_one_is_cut() {
        let mut live = Live::default();
        live.text("a", 0, "one", head);
        assert_eq!(live.text("a", 0, "one two", head), [Print::Live(" two".into())]);
        assert_eq!(live.text("a", 9, "four", head), []);
        assert_eq!(live.text("a", 7, " three", head), []);
        assert_eq!(live.message(&message("a", "one two three four")), Shown::No);
    }

    #[test]
    fn an_escape_cut_in_two_never_reaches_the_screen() {
        let mut live = Live::default();
        live.text("a", 0, "x\u{1b}", head);
        assert_eq!(live.text("a", 2, "[2J", head), []);
        assert_eq!(live.text("a", 5, "y", head), [Print::Live("y".into())]);
    }

    #[test]
    fn an_answer_that_ended_unseen_makes_room_for_the_next() {
        let mut live = Live::default();
        live.text("a", 0, "one", head);
        live.keep_only(&["b"]);
        live.make_room();
        assert_eq!(live.text("b", 0, "two", head).len(), 2);
        live.ended("b");
        live.make_room();
        assert_eq!(live.text("c", 5, "late", head), [], "the beginning is missing");
    }
}
