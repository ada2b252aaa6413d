//! From events to lines. Pure: an event and what is known of the room in, what to print out.
//!
//! Everything from the network is cleaned here before it becomes part of a line. The lines behind the first one of a
//! message are indented, so that no message can pass for another one.

use std::collections::BTreeMap;

use crate::{
    cli::{
        chat::{
            live::{Live, Print, Shown},
            news, polls,
            style::Style,
            view::View,
        },
        text,
    },
    wire::pb::room::v1::{ActiveAnswer, Message, Role, RoomState, ServerEvent, server_event::Payload},
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
            payload => {
                let told = news::told(view, payload).or_else(|| polls::told(self.style, view, payload));
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
        let mut prints = self.lines(lines);
        prints.extend(self.active(view, &state.active_answers));
        prints
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
        let end = format!("  #{seq}{}", if message.partial { " (cut off)" } else { "" });
        match self.live.message(message) {
            Shown::AllOnOpenLine => {
                self.live.make_room();
                vec![Print::Live(end), Print::LiveEnd]
            }
            Shown::All => {
                let name = text::line(view.name(&message.sender_id));
                self.lines([self.style.dim(&format!("* {name}'s answer is complete:{end}"))])
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
        let mut tail = String::new();
        if message.partial {
            tail.push_str(" (cut off)");
        }
        if message.edited_at.is_some() {
            tail.push_str(" (edited)");
        }
        for reaction in &message.reactions {
            tail.push_str(&format!(" {}{}", text::line(&reaction.emoji), reaction.user_ids.len()));
        }
        format!("{head}{name}{}: {content}{}", self.style.dim(&to), self.style.dim(&tail))
    }

    /// Hours and minutes, in UTC.
    fn stamp(&self, at: Option<&prost_types::Timestamp>) -> String {
        let Some(at) = at else { return String::new() };
        let minutes = at.seconds.div_euclid(60).rem_euclid(24 * 60);
        format!("{} ", self.style.dim(&format!("{:02}:{:02}", minutes / 60, minutes % 60)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::room::v1::{
        LlmChunk, LlmDone, LlmDoneReason, LlmThinking, MessageReceived, OptionTally, Participant,
        ParticipantType, Poll, PollClosed, PollCreated, PollOption, PollStatus, PollVote, PollVoted,
        Reaction, UserJoined, UserTyping,
    };

    /// A room with ann (this user), bob, and the LLMs ada and bot.
    fn room(style: Style, lively: bool) -> impl FnMut(u64, Payload) -> Vec<Print> {
        let (mut view, mut screen) = (View::new("ann"), Screen::new(style, lively));
        let person = |id: &str, name: &str, kind: ParticipantType| Participant {
            id: id.into(),
            name: name.into(),
            r#type: kind.into(),
            is_online: true,
            ..Default::default()
        };
        let state = RoomState {
            participants: vec![
                person("ann", "Ann", ParticipantType::Human),
                person("bob", "Bob", ParticipantType::Human),
                person("ada", "Ada", ParticipantType::Llm),
                person("bot", "Bot", ParticipantType::Llm),
            ],
            ..Default::default()
        };
        let mut tell = move |seq, payload| {
            let at = Some(prost_types::Timestamp { seconds: 14 * 3600 + 3 * 60, nanos: 0 });
            let event = ServerEvent { seq, payload: Some(payload), at, ..Default::default() };
            view.apply(&event);
            screen.event(&view, &event)
        };
        tell(1, Payload::RoomState(state));
        tell
    }

    const PLAIN: Style = Style { color: false };

    fn message(id: &str, sender: &str, content: &str) -> Message {
        let (message_id, sender_id, content) = (id.into(), sender.into(), content.into());
        Message { message_id, sender_id, content, ..Default::default() }
    }

    fn said(message: Message) -> Payload {
        Payload::MessageReceived(MessageReceived { message: Some(message) })
    }

    fn chunk(llm: &str, offset: u64, content: &str) -> Payload {
        let (message_id, llm_id, content) = (format!("of-{llm}"), llm.into(), content.into());
        Payload::LlmChunk(LlmChunk { message_id, llm_id, content, offset, ..Default::default() })
    }

    fn line(text: &str) -> Vec<Print> {
        vec![Print::Line(text.to_owned())]
    }

    #[test]
    fn a_message_has_its_number_its_sender_and_what_it_answers() {
        let mut tell = room(PLAIN, false);
        assert_eq!(tell(2, said(message("m2", "bob", "one\ntwo "))), line("#2 Bob: one\n  two"));
        let reply = Message { reply_to: Some("m2".into()), partial: true, ..message("m3", "ada", "well") };
        assert_eq!(tell(3, said(reply)), line("#3 Ada (to #2): well (cut off)"));
        let at = Some(prost_types::Timestamp { seconds: 86_399, nanos: 0 });
        let late = Message { timestamp: at, reply_to: Some("gone".into()), ..message("m4", "eve", "late") };
        assert_eq!(tell(4, said(late)), line("23:59 #4 eve (reply): late"));
    }

    #[test]
    fn of_several_answers_one_is_live_and_the_others_come_whole() {
        let mut tell = room(PLAIN, true);
        let start = vec![Print::LiveStart("Ada: ".into()), Print::Live("Hel".into())];
        assert_eq!(tell(0, chunk("ada", 0, "Hel")), start);
        assert_eq!(tell(0, chunk("bot", 0, "Me too")), []);
        assert_eq!(tell(0, chunk("ada", 3, "lo")), [Print::Live("lo".into())]);
        let whole = [Print::LiveEnd, Print::Line("#5 Bot: Me too".into())];
        assert_eq!(tell(5, said(message("of-bot", "bot", "Me too"))), whole);
        let on = vec![Print::LiveStart("… Ada: ".into()), Print::Live("!".into())];
        assert_eq!(tell(0, chunk("ada", 5, "!")), on);
        let end = [Print::Live("  #6".into()), Print::LiveEnd];
        assert_eq!(tell(6, said(message("of-ada", "ada", "Hello!"))), end);
    }

    #[test]
    fn an_answer_that_lost_a_piece_is_shown_whole_at_its_end() {
        let mut tell = room(PLAIN, true);
        tell(0, chunk("ada", 0, "One "));
        assert_eq!(tell(0, chunk("ada", 9, "three")), []);
        let whole = [Print::LiveEnd, Print::Line("#5 Ada: One two three".into())];
        assert_eq!(tell(5, said(message("of-ada", "ada", "One two three"))), whole);
    }

    #[test]
    fn a_pipe_gets_answers_whole_and_nothing_from_before() {
        let mut tell = room(PLAIN, false);
        assert_eq!(tell(0, chunk("ada", 0, "Hel")), []);
        assert_eq!(tell(5, said(message("of-ada", "ada", "Hello"))), line("#5 Ada: Hello"));
        let typing = UserTyping { user_id: "bob".into(), user_name: "Bob".into(), is_typing: true };
        assert_eq!(tell(0, Payload::UserTyping(typing)), []);
    }

    #[test]
    fn history_is_shown_to_people_and_what_was_missed_to_everybody() {
        let old = |seq, content: &str| Message { seq, ..message(&format!("m{seq}"), "bob", content) };
        let reaction = Reaction { emoji: "👍".into(), user_ids: vec!["ann".into(), "ada".into()] };
        let first = RoomState {
            messages: vec![Message { reactions: vec![reaction], ..old(2, "old") }],
            unread_count: 1,
            online_count: 3,
            ..Default::default()
        };
        let event =
            |seq, state| ServerEvent { seq, payload: Some(Payload::RoomState(state)), ..Default::default() };
        for (lively, expected) in [(true, 3), (false, 0)] {
            let (mut view, mut screen) = (View::new("ann"), Screen::new(PLAIN, lively));
            let joined = event(3, first.clone());
            view.apply(&joined);
            let prints = screen.event(&view, &joined);
            assert_eq!(prints.len(), expected, "{prints:?}");
            assert_eq!(prints.contains(&Print::Line("#2 bob: old 👍2".into())), lively);
            let again = RoomState { messages: vec![old(2, "old"), old(9, "new")], ..Default::default() };
            let again = event(9, again);
            view.apply(&again);
            assert_eq!(screen.event(&view, &again), line("#9 bob: new"));
        }
    }

    #[test]
    fn who_is_here_is_told_and_being_alone_too() {
        let (mut view, mut screen) = (View::new("ann"), Screen::new(PLAIN, false));
        let person = |id: &str, is_online| Participant {
            id: id.into(),
            name: id.to_uppercase(),
            is_online,
            ..Default::default()
        };
        let alone = Print::Line("* nobody else is here".into());
        assert_eq!(screen.who(&view), std::slice::from_ref(&alone), "before anything is known");
        let participants = vec![person("ann", true), person("bob", false)];
        let state =
            RoomState { participants, you: Some(person("ann", true)), online_count: 1, ..Default::default() };
        let event = |payload| ServerEvent { payload: Some(payload), ..Default::default() };
        view.apply(&event(Payload::RoomState(state)));
        assert_eq!(screen.who(&view), [alone]);
        view.apply(&event(Payload::UserJoined(UserJoined { user: Some(person("bob", true)) })));
        assert_eq!(screen.who(&view), line("* here: ANN (ann), BOB (bob)"));
    }

    #[test]
    fn a_poll_is_told_from_its_question_to_its_result() {
        let mut tell = room(PLAIN, false);
        let option = |id: &str, text: &str, vote_count| PollOption {
            id: id.into(),
            text: text.into(),
            vote_count,
            ..Default::default()
        };
        let poll = Poll {
            poll_id: "p".into(),
            creator_id: "bob".into(),
            question: "Tea?".into(),
            options: vec![option("1", "yes", 0), option("2", "no", 0)],
            anonymous: true,
            ..Default::default()
        };
        let asked = said(Message { poll_id: Some("p".into()), ..message("m2", "bob", "Tea?") });
        assert_eq!(tell(2, asked), [], "the poll itself follows");
        let created = Payload::PollCreated(PollCreated { poll: Some(poll.clone()) });
        let expected =
            "14:03 * Bob asks, poll 1: Tea? (anonymous)\n  1. yes\n  2. no\n  vote with: /vote 1 OPTION";
        assert_eq!(tell(3, created), line(expected));
        let voted = PollVoted {
            poll_id: "p".into(),
            option_id: "2".into(),
            vote: Some(PollVote { reason: "coffee".into(), ..Default::default() }),
            tallies: vec![OptionTally { option_id: "2".into(), vote_count: 1 }],
            ..Default::default()
        };
        let expected = "14:03 * somebody voted in poll 1 for no (coffee) · no 1";
        assert_eq!(tell(4, Payload::PollVoted(voted)), line(expected));
        let closed = Poll {
            options: vec![option("1", "yes", 0), option("2", "no", 2)],
            status: PollStatus::PollClosed.into(),
            ..poll
        };
        let closed = PollClosed { poll_id: "p".into(), poll: Some(closed), ..Default::default() };
        let expected = "14:03 * poll 1 was closed at its deadline\n  1. yes\n  2. no · 2 votes";
        assert_eq!(tell(5, Payload::PollClosed(closed)), line(expected));
    }

    #[test]
    fn an_answer_that_did_not_end_by_itself_says_why() {
        let mut tell = room(PLAIN, false);
        let mut done = |reason: LlmDoneReason, detail: &str, error: &str| {
            let done = LlmDone { llm_id: "ada".into(), reason: reason.into(), ..Default::default() };
            tell(0, Payload::LlmDone(LlmDone { detail: detail.into(), error_message: error.into(), ..done }))
        };
        assert_eq!(done(LlmDoneReason::Completed, "", ""), []);
        assert_eq!(done(LlmDoneReason::Interrupted, "bob", ""), line("14:03 * Ada was interrupted by Bob"));
        assert_eq!(done(LlmDoneReason::Failed, "", "no key"), line("14:03 * Ada could not answer: no key"));
        assert_eq!(done(LlmDoneReason::OptedOut, "", ""), line("14:03 * Ada says nothing"));
    }

    #[test]
    fn the_prompt_tells_who_writes_and_types() {
        let view = View::new("ann");
        let mut screen = Screen::new(PLAIN, true);
        let mut tell = |payload| {
            screen.event(&view, &ServerEvent { payload: Some(payload), ..Default::default() });
            screen.status(&view)
        };
        let typing = |id: &str, is_typing| {
            Payload::UserTyping(UserTyping { user_id: id.into(), user_name: id.to_uppercase(), is_typing })
        };
        assert_eq!(tell(typing("ann", true)), "", "one knows what oneself does");
        assert_eq!(tell(typing("bob", true)), "BOB is typing");
        let thinking = LlmThinking { llm_id: "ada".into(), message_id: "a".into(), ..Default::default() };
        assert_eq!(tell(Payload::LlmThinking(thinking)), "ada is writing, BOB is typing");
        assert_eq!(tell(typing("cat", true)), "ada is writing, BOB is typing and 1 more");
        tell(typing("cat", false));
        let done = LlmDone { llm_id: "ada".into(), message_id: "a".into(), ..Default::default() };
        assert_eq!(tell(Payload::LlmDone(done)), "BOB is typing");
        assert_eq!(tell(said(message("m", "bob", "there"))), "");
    }

    #[test]
    fn colours_are_in_the_line_only_when_wanted() {
        let joined = || {
            let user = Participant { id: "cat".into(), name: "Cat".into(), ..Default::default() };
            Payload::UserJoined(UserJoined { user: Some(user) })
        };
        assert_eq!(room(PLAIN, true)(0, joined()), line("14:03 * Cat joined"));
        let painted = room(Style { color: true }, true)(0, joined());
        let Some(Print::Line(painted)) = painted.first() else { panic!("{painted:?}") };
        assert_eq!(text::line(painted), "14:03 * Cat joined");
        assert!(painted.contains("\u{1b}[2m"), "{painted:?}");
    }
}
