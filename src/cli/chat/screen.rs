//! From events to lines. Pure: an event and what is known of the room in, what to print out.
//!
//! Everything from the network is cleaned here before it becomes part of a line. The lines behind the first one of a
//! message are indented, so that no message can pass for another one.

use std::collections::BTreeMap;

use crate::{
    cli::{
        chat::{
            live::{Live, Print, Shown},
            llms, news, polls,
            style::Style,
            view::View,
        },
        text,
    },
    wire::pb::room::v1::{
        ActiveAnswer, Autopilot, AutopilotStatus, Message, Role, RoomState, ServerEvent,
        server_event::Payload,
    },
};

/// How much of what was said before is shown on joining.
const HISTORY_LINES: usize = 20;

/// What a terminal or a pipe is to be shown.
#[derive(Debug)]
pub struct Screen {
    style: Style,
    /// On a terminal: tokens as they come, and what was said before.
    lively: bool,
    live: Live,
    joined: bool,
    /// The last message shown.
    shown_seq: u64,
    /// LLMs that write now, by the message they write.
    writing: BTreeMap<String, String>,
    /// The last call shown that waits for somebody's word.
    shown_approval: usize,
    /// The room's autopilot, as it was last told.
    autopilot: Option<Autopilot>,
    /// Users that type now.
    typing: BTreeMap<String, String>,
}

impl Screen {
    /// `lively` shows tokens as they come and what was said before the join: for people, not for pipes.
    pub fn new(style: Style, lively: bool) -> Self {
        Self {
            style,
            lively,
            live: Live::default(),
            joined: false,
            shown_seq: 0,
            shown_approval: 0,
            autopilot: None,
            writing: BTreeMap::new(),
            typing: BTreeMap::new(),
        }
    }

    /// What to print for an event that `view` has taken in already.
    pub fn event(&mut self, view: &View, event: &ServerEvent) -> Vec<Print> {
        let Some(payload) = &event.payload else { return Vec::new() };
        self.note(view, payload);
        let stamp = self.stamp(event.at.as_ref());
        match payload {
            Payload::RoomState(state) => self.state(view, state),
            Payload::Resumed(resumed) => self.active(view, &resumed.active_answers),
            Payload::LlmChunk(chunk) if self.lively => {
                self.text(view, &chunk.llm_id, &chunk.message_id, chunk.offset, &chunk.content)
            }
            Payload::MessageReceived(received) => match &received.message {
                Some(message) if message.poll_id.is_none() => self.received(view, message, event.seq),
                Some(_) | None => Vec::new(),
            },
            Payload::LlmDone(done) => {
                self.live.ended(&done.message_id);
                let line = news::done(view, done).map(|news| self.news(&stamp, &news));
                self.lines(line)
            }
            Payload::AutopilotChanged(changed) => {
                let told = changed.autopilot.as_ref().and_then(|now| self.talk(view, now));
                let line = told.map(|told| self.news(&stamp, &told));
                self.lines(line)
            }
            payload => {
                self.shown_approval = view.approvals.newest();
                let told = news::told(view, payload)
                    .or_else(|| polls::told(self.style, view, payload))
                    .or_else(|| llms::told(view, payload, self.lively));
                let line = told.map(|told| self.news(&stamp, &told));
                self.lines(line)
            }
        }
    }

    /// A line of the client's own.
    pub fn notice(&mut self, notice: &str) -> Vec<Print> {
        self.lines([self.style.dim(&format!("* {notice}"))])
    }

    /// A line about something that went wrong.
    pub fn wrong(&mut self, what: &str) -> Vec<Print> {
        self.lines([self.style.wrong(&format!("! {what}"))])
    }

    /// Who writes now, for the prompt; empty when nobody does.
    pub fn status(&self, view: &View) -> String {
        let writing = self.writing.values().map(|id| format!("{} is writing", text::line(view.name(id))));
        let typing = self.typing.values().map(|name| format!("{} is typing", text::line(name)));
        // Two fit on any line; a prompt that wraps is worse than a number.
        let all: Vec<String> = writing.chain(typing).collect();
        match all.as_slice() {
            [one, two, rest @ ..] if !rest.is_empty() => format!("{one}, {two} and {} more", rest.len()),
            all => all.join(", "),
        }
    }

    /// Who is here, for `/who`.
    pub fn who(&mut self, view: &View) -> Vec<Print> {
        let describe = |id: &str, name: &str, role: Role| {
            let known_as = if name == id { String::new() } else { format!(" ({})", text::line(id)) };
            let role = match role {
                Role::Member | Role::Unspecified => "",
                role => news::role_name(role),
            };
            format!("{}{known_as} {role}", self.style.name(id, &text::line(name))).trim_end().to_owned()
        };
        let of = |llm: bool| -> Vec<String> {
            view.people()
                .filter(|(_, person)| person.llm == llm && person.online)
                .map(|(id, person)| describe(id, view.name(id), person.role))
                .collect()
        };
        let (humans, llms) = (of(false), of(true));
        let shown = u32::try_from(humans.len()).unwrap_or(u32::MAX);
        let more = view.online_count.saturating_sub(shown.max(1));
        let more = if more > 0 && shown >= 200 { format!(" and {more} more") } else { String::new() };
        let alone = view.people().all(|(id, person)| person.llm || !person.online || id == view.me);
        let mut lines = vec![match alone && more.is_empty() {
            true => "* nobody else is here".to_owned(),
            false => format!("* here: {}{more}", humans.join(", ")),
        }];
        if !llms.is_empty() {
            lines.push(format!("* LLMs: {}", llms.join(", ")));
        }
        self.lines(lines)
    }

    /// Everything ends: an open line too.
    pub fn finish(&mut self) -> Vec<Print> {
        self.live.make_room().into_iter().collect()
    }

    /// Keeps who writes and who types.
    fn note(&mut self, view: &View, payload: &Payload) {
        match payload {
            Payload::LlmThinking(thinking) => {
                self.writing.insert(thinking.message_id.clone(), thinking.llm_id.clone());
            }
            Payload::LlmDone(done) => {
                self.writing.remove(&done.message_id);
            }
            Payload::UserTyping(typing) if typing.is_typing && typing.user_id != view.me => {
                self.typing.insert(typing.user_id.clone(), typing.user_name.clone());
            }
            Payload::UserTyping(typing) => {
                self.typing.remove(&typing.user_id);
            }
            Payload::UserLeft(left) => {
                self.typing.remove(&left.user_id);
            }
            Payload::MessageReceived(received) => {
                if let Some(message) = &received.message {
                    self.typing.remove(&message.sender_id);
                }
            }
            Payload::RoomState(state) => self.writing_now(&state.active_answers),
            Payload::Resumed(resumed) => self.writing_now(&resumed.active_answers),
            _ => {}
        }
    }

    fn writing_now(&mut self, answers: &[ActiveAnswer]) {
        self.typing.clear();
        self.writing = answers.iter().map(|a| (a.message_id.clone(), a.llm_id.clone())).collect();
    }

    fn news(&self, stamp: &str, news: &str) -> String {
        format!("{stamp}{}", self.style.dim(&format!("* {news}")))
    }

    fn lines(&mut self, lines: impl IntoIterator<Item = String>) -> Vec<Print> {
        let lines: Vec<Print> = lines.into_iter().map(Print::Line).collect();
        let room = if lines.is_empty() { None } else { self.live.make_room() };
        room.into_iter().chain(lines).collect()
    }

    fn state(&mut self, view: &View, state: &RoomState) -> Vec<Print> {
        let mut lines = Vec::new();
        if self.lively && !self.joined {
            lines.push(self.header(view, state));
        }
        let first = !std::mem::replace(&mut self.joined, true);
        let skip = state.messages.len().saturating_sub(HISTORY_LINES);
        let known = self.shown_seq;
        for message in state.messages.iter().skip(if first { skip } else { 0 }) {
            // After a reconnect: what was missed. On the first join: what was said before, for people.
            if message.seq > known && (self.lively || !first) {
                let poll = message.poll_id.as_deref().and_then(|id| view.poll_number(id));
                lines.push(match poll {
                    Some(number) => polls::summary(self.style, view, number),
                    None => self.message_line(view, message, message.seq),
                });
            }
            self.shown_seq = self.shown_seq.max(message.seq);
        }
        if first && self.lively && state.unread_count > 0 {
            lines.push(self.style.dim(&format!("* {} unread", state.unread_count)));
        }
        lines.extend(self.waiting(view, state, first));
        let mut prints = self.lines(lines);
        prints.extend(self.active(view, &state.active_answers));
        prints
    }

    /// What goes on in the room that wants attention: calls that wait, LLMs that talk. A pipe is told only what is new.
    fn waiting(&mut self, view: &View, state: &RoomState, first: bool) -> Vec<String> {
        let shown = std::mem::replace(&mut self.shown_approval, view.approvals.newest());
        let told = state.autopilot.as_ref().and_then(|now| self.talk(view, now));
        if first && !self.lively {
            return Vec::new();
        }
        let over = state.autopilot.as_ref().is_none_or(|now| now.status() == AutopilotStatus::Ended);
        let told = told.filter(|_| !(first && over));
        let calls = view.approvals.open().filter(|(number, _)| *number > shown);
        let calls = calls.filter_map(|(_, approval)| llms::waiting(view, approval));
        told.into_iter().chain(calls).map(|told| self.news("", &told)).collect()
    }

    /// What to tell of the room's autopilot.
    fn talk(&mut self, view: &View, now: &Autopilot) -> Option<String> {
        let last = self.autopilot.replace(now.clone());
        if last.as_ref() == Some(now) { None } else { llms::autopilot(view, last.as_ref(), now) }
    }

    fn header(&self, view: &View, state: &RoomState) -> String {
        let llms: Vec<String> = view.llm_ids().map(|id| format!("@{}", text::line(view.name(id)))).collect();
        let mut parts: Vec<String> =
            Some(text::line(&view.room_name)).filter(|name| !name.is_empty()).into_iter().collect();
        if !view.topic.is_empty() {
            parts.push(text::excerpt(&view.topic, 80));
        }
        parts.push(format!("{} here", state.online_count.max(1)));
        if !llms.is_empty() {
            parts.push(llms.join(" "));
        }
        parts.push("/help".to_owned());
        self.style.dim(&format!("* {}", parts.join(" · ")))
    }

    fn active(&mut self, view: &View, answers: &[ActiveAnswer]) -> Vec<Print> {
        let running: Vec<&str> = answers.iter().map(|answer| answer.message_id.as_str()).collect();
        self.live.keep_only(&running);
        if !self.lively {
            return Vec::new();
        }
        answers.iter().flat_map(|a| self.text(view, &a.llm_id, &a.message_id, 0, &a.content)).collect()
    }

    fn text(
        &mut self,
        view: &View,
        llm_id: &str,
        message_id: &str,
        offset: u64,
        content: &str,
    ) -> Vec<Print> {
        let name = self.style.name(llm_id, &text::line(view.name(llm_id)));
        self.live.text(message_id, offset, content, |continued| {
            if continued { format!("… {name}: ") } else { format!("{name}: ") }
        })
    }

    fn received(&mut self, view: &View, message: &Message, seq: u64) -> Vec<Print> {
        self.shown_seq = self.shown_seq.max(seq);
        let end = format!("  #{seq}{}", marks(message));
        match self.live.message(message) {
            Shown::AllOnOpenLine => {
                self.live.make_room();
                vec![Print::Live(end), Print::LiveEnd]
            }
            Shown::All => {
                let name = text::line(view.name(&message.sender_id));
                let verb = if message.partial { "ends here" } else { "is complete" };
                self.lines([self.style.dim(&format!("* {name}'s answer {verb}: {}", end.trim_start()))])
            }
            Shown::No => self.lines([self.message_line(view, message, seq)]),
        }
    }

    fn message_line(&self, view: &View, message: &Message, seq: u64) -> String {
        let name = if message.sender_name.is_empty() {
            view.name(&message.sender_id)
        } else {
            message.sender_name.as_str()
        };
        let head =
            format!("{}{} ", self.stamp(message.timestamp.as_ref()), self.style.dim(&format!("#{seq}")));
        let to = match message.reply_to.as_deref().map(|id| view.message_by_id(id)) {
            Some(Some(known)) => format!(" (to #{})", known.seq),
            Some(None) => " (reply)".to_owned(),
            None => String::new(),
        };
        let name = self.style.name(&message.sender_id, &text::line(name));
        if message.deleted {
            return format!("{head}{name}: {}", self.style.dim("(deleted)"));
        }
        let content = text::lines(&message.content).trim_end().replace('\n', "\n  ");
        let mut tail = marks(message);
        for reaction in &message.reactions {
            tail.push_str(&format!(" {}{}", text::line(&reaction.emoji), reaction.user_ids.len()));
        }
        format!("{head}{name}{}: {content}{}", self.style.dim(&to), self.style.dim(&tail))
    }

    /// Hours and minutes, in UTC.
    fn stamp(&self, at: Option<&prost_types::Timestamp>) -> String {
        let Some(at) = at else { return String::new() };
        format!("{} ", self.style.dim(&llms::clock(at.seconds)))
    }
}

/// What is to be known of a message besides its text.
fn marks(message: &Message) -> String {
    let mut marks = String::new();
    if message.partial {
        marks.push_str(" (cut off)");
    }
    if message.edited_at.is_some() {
        marks.push_str(" (edited)");
    }
    if message.version > 1 {
        marks.push_str(&format!(" (version {})", message.version));
    }
    if !message.superseded_by.is_empty() {
        marks.push_str(" (replaced)");
    }
    if !message.outside_sources.is_empty() {
        let sources: Vec<String> = message.outside_sources.iter().map(|tool| text::line(tool)).collect();
        marks.push_str(&format!(" (from outside: {})", sources.join(", ")));
    }
    marks
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
