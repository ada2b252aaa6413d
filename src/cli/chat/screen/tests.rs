//! What a person sees of each event.

use super::*;
use crate::wire::pb::room::v1::{
    ApprovalDecided, ApprovalDecision, ApprovalRequested, AutopilotChanged, AutopilotMode, ContextSummarised,
    ContextSummary, LlmChunk, LlmDone, LlmDoneReason, LlmReceipt, LlmThinking, LlmToolCall, MessageReceived,
    MessageSuperseded, OptionTally, Participant, ParticipantType, Poll, PollAbstention, PollClosed,
    PollCreated, PollOption, PollStatus, PollVote, PollVoted, Reaction, ReceiptState, RegenerateRequested,
    ToolApproval, UserJoined, UserTyping, VoteAbstained,
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
    let by_bob = done(LlmDoneReason::Interrupted, "interrupted by bob", "");
    assert_eq!(by_bob, line("14:03 * Ada was interrupted by Bob"));
    let newer = done(LlmDoneReason::Interrupted, "a newer question came", "");
    assert_eq!(newer, line("14:03 * Ada was interrupted: a newer question came"));
    assert_eq!(done(LlmDoneReason::Failed, "", "no key"), line("14:03 * Ada could not answer: no key"));
    assert_eq!(done(LlmDoneReason::OptedOut, "", ""), line("14:03 * Ada says nothing"));
    let over = line("14:03 * Ada may not answer: the budget is used up");
    assert_eq!(done(LlmDoneReason::OverBudget, "", "the budget is used up"), over);
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

fn call(id: &str, arguments: &str) -> ToolApproval {
    ToolApproval {
        approval_id: id.into(),
        llm_id: "ada".into(),
        tool: "notes__delete".into(),
        arguments: arguments.into(),
        asked_by_id: "bob".into(),
        expires_at: Some(prost_types::Timestamp { seconds: 14 * 3600 + 8 * 60, nanos: 0 }),
        ..Default::default()
    }
}

const ASKS: &str = "* Ada wants to call notes__delete with {\"id\":4} for Bob, call 1, until 14:08\n  let it with: \
                    /approve 1 - or not: /deny 1 [reason]";

#[test]
fn a_call_that_waits_says_what_would_be_called_and_what_came_of_it() {
    let mut tell = room(PLAIN, false);
    let asks = |id: &str| {
        let approval = Some(call(id, "{\"id\":4}"));
        Payload::ApprovalRequested(ApprovalRequested { approval })
    };
    assert_eq!(tell(2, asks("a")), line(&format!("14:03 {ASKS}")));
    let mut decided = |id: &str, decision: ApprovalDecision, reason: &str| {
        tell(3, asks(id));
        let (approval_id, by_id, reason) = (id.into(), "bob".into(), reason.into());
        tell(
            4,
            Payload::ApprovalDecided(ApprovalDecided {
                approval_id,
                by_id,
                reason,
                decision: decision.into(),
            }),
        )
    };
    use ApprovalDecision::*;
    assert_eq!(decided("a", Approved, ""), line("14:03 * Bob has allowed call 1, notes__delete"));
    let denied = "14:03 * Bob has not allowed call 2, notes__delete: not mine";
    assert_eq!(decided("b", Denied, "not mine"), line(denied));
    assert_eq!(decided("c", Expired, ""), line("14:03 * nobody has decided call 3, notes__delete in time"));
    assert_eq!(decided("d", Cancelled, ""), line("14:03 * call 4, notes__delete does not wait any more"));
}

#[test]
fn whoever_comes_is_shown_the_calls_that_wait_once() {
    let event = |approvals: &[&str]| {
        let approvals = approvals.iter().map(|id| call(id, "{\"id\":4}")).collect();
        let participants = ["ada", "bob"].map(|id| Participant {
            id: id.into(),
            name: if id == "ada" { "Ada".into() } else { "Bob".into() },
            ..Default::default()
        });
        let state = RoomState { approvals, participants: participants.into(), ..Default::default() };
        ServerEvent { payload: Some(Payload::RoomState(state)), ..Default::default() }
    };
    for lively in [true, false] {
        let (mut view, mut screen) = (View::new("ann"), Screen::new(PLAIN, lively));
        view.apply(&event(&["a"]));
        let shown = screen.event(&view, &event(&["a"]));
        assert_eq!(shown.contains(&Print::Line(ASKS.into())), lively, "{shown:?}");
        view.apply(&event(&["a", "b"]));
        let again = screen.event(&view, &event(&["a", "b"]));
        let [Print::Line(only)] = again.as_slice() else { panic!("{again:?}") };
        assert!(only.contains("call 2"), "{only}");
    }
}

#[test]
fn an_answer_that_was_made_anew_stands_beside_the_old_one() {
    let mut tell = room(PLAIN, false);
    tell(2, said(Message { sender_type: ParticipantType::Llm.into(), ..message("old", "ada", "Tea.") }));
    let wants = RegenerateRequested { message_id: "old".into(), by_id: "bob".into(), model: "big".into() };
    let wanted = line("14:03 * Bob wants another answer than #2 by big");
    assert_eq!(tell(3, Payload::RegenerateRequested(wants)), wanted);
    let new = Message {
        version: 2,
        replaces: "old".into(),
        outside_sources: vec!["web__find".into()],
        ..message("new", "ada", "Coffee.")
    };
    assert_eq!(tell(4, said(new)), line("#4 Ada: Coffee. (version 2) (from outside: web__find)"));
    let superseded = MessageSuperseded { message_id: "old".into(), by_message_id: "new".into() };
    assert_eq!(tell(5, Payload::MessageSuperseded(superseded)), line("14:03 * #4 takes the place of #2"));
}

#[test]
fn what_is_under_way_is_told_to_people_and_not_to_pipes() {
    let waits = |waiting| LlmReceipt {
        llm_id: "ada".into(),
        state: ReceiptState::Delivered.into(),
        waiting,
        ..Default::default()
    };
    let calls = |ended, failed| {
        let (llm_id, tool, message_id) = ("ada".into(), "web__find".into(), String::new());
        Payload::LlmToolCall(LlmToolCall { message_id, llm_id, tool, ended, failed })
    };
    for lively in [true, false] {
        let mut tell = room(PLAIN, lively);
        let told = |text: &str| if lively { line(text) } else { Vec::new() };
        assert_eq!(tell(0, calls(false, false)), told("14:03 * Ada calls web__find"));
        assert_eq!(tell(0, calls(true, false)), []);
        assert_eq!(tell(0, calls(true, true)), told("14:03 * web__find has failed for Ada"));
        assert_eq!(tell(0, Payload::LlmReceipt(waits(0))), []);
        let before = told("14:03 * Ada has 2 answers to give before yours");
        assert_eq!(tell(0, Payload::LlmReceipt(waits(2))), before);
        let abstention =
            PollAbstention { llm_id: "bot".into(), llm_name: "Bot".into(), reason: "no idea".into() };
        let abstained = VoteAbstained { poll_id: "p".into(), abstention: Some(abstention) };
        let expected = line("14:03 * Bot did not vote in a poll: no idea");
        assert_eq!(tell(2, Payload::VoteAbstained(abstained)), expected);
        let summary = Some(ContextSummary { up_to_seq: 40, text: "secret".into(), ..Default::default() });
        let summarised = Payload::ContextSummarised(ContextSummarised { summary });
        assert_eq!(tell(3, summarised), line("14:03 * what was said up to #40 is summarised for the LLMs"));
    }
}

#[test]
fn llms_that_talk_among_themselves_are_told_from_beginning_to_end() {
    let mut tell = room(PLAIN, false);
    let begun = Autopilot {
        autopilot_id: "p".into(),
        mode: AutopilotMode::Moderator.into(),
        status: AutopilotStatus::Running.into(),
        topic: "tea".into(),
        llm_ids: vec!["ada".into()],
        moderator_llm_id: "bot".into(),
        max_turns: 20,
        ..Default::default()
    };
    let mut now = |autopilot: &Autopilot| {
        tell(2, Payload::AutopilotChanged(AutopilotChanged { autopilot: Some(autopilot.clone()) }))
    };
    let expected = "14:03 * the LLMs talk about \"tea\" (moderator: Ada, Bot chooses who speaks; 0 of 20 turns); \
                    /autopilot stop ends it";
    assert_eq!(now(&begun), line(expected));
    assert_eq!(now(&begun), [], "nothing has changed");
    let chosen = Autopilot { chosen_llm_id: "ada".into(), instruction: "be brief".into(), turns: 1, ..begun };
    assert_eq!(now(&chosen), line("14:03 * Bot asks Ada: be brief"));
    let proposed = Autopilot { agreed_llm_ids: vec!["bot".into()], ..chosen };
    assert_eq!(now(&proposed), [], "whoever proposes something need not be told to agree");
    let agreed = Autopilot { agreed_llm_ids: vec!["bot".into(), "ada".into()], ..proposed.clone() };
    assert_eq!(now(&agreed), line("14:03 * agreed: Ada"));
    assert_eq!(now(&Autopilot { agreed_llm_ids: vec!["ada".into()], ..proposed }), []);
    now(&agreed);
    let paused =
        Autopilot { status: AutopilotStatus::Paused.into(), reason: "Bob spoke".into(), ..agreed.clone() };
    let expected = "14:03 * the LLMs wait: Bob spoke; /autopilot resume lets them talk on";
    assert_eq!(now(&paused), line(expected));
    assert_eq!(now(&Autopilot { turns: 2, ..paused }), [], "the turn that was being taken has ended");
    assert_eq!(now(&agreed), line("14:03 * the LLMs talk on"));
    let ended = Autopilot { status: AutopilotStatus::Ended.into(), reason: "done".into(), ..agreed };
    assert_eq!(now(&ended), line("14:03 * the LLMs are done after 1 turn: done"));
}
