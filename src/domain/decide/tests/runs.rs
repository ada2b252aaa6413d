//! Answers: begun once, ended once.

use super::*;
use crate::domain::summary::Summary;
use crate::domain::{
    command::RunOutcome,
    llm::{Run, RunEnd, RunReport},
};

pub(super) fn start(reply_to: MessageId, llm: &str, n: u128) -> Command {
    Command::StartRun(run(reply_to, llm, n, 0))
}

pub(super) fn run(reply_to: MessageId, llm: &str, n: u128, chain_depth: u32) -> Run {
    Run {
        message_id: run_id(n),
        llm_id: llm_id(llm),
        llm_name: "whatever the caller says".into(),
        reply_to,
        poll_id: None,
        chain_depth,
        asked_by: Some(user_id("bob")),
        started_at: Timestamp(0),
        replaces: None,
        turn: None,
        model: String::new(),
    }
}

fn run_id(n: u128) -> MessageId {
    MessageId(Uuid::from_u128(1_000_000 + n))
}

fn finish(n: u128, end: RunEnd, text: &str) -> Command {
    Command::FinishRun(RunOutcome {
        message_id: run_id(n),
        end,
        text: text.into(),
        mentions: vec![llm_id("bot"), llm_id("ada"), llm_id("ghost"), llm_id("bot")],
        outside: Vec::new(),
        report: RunReport::default(),
    })
}

#[test]
fn an_answer_is_begun_and_ended_exactly_once() {
    let mut table = Table::new();
    let asked = table.say("bob", "@ada");
    let Event::RunStarted(begun) = table.one("server", start(asked, "ada", 1)) else { panic!() };
    assert_eq!(begun.started_at, table.at, "the server's clock says when it began");
    table.refused("server", start(asked, "ada", 1), Code::AlreadyExists, "has begun");

    let events = table.ok("server", finish(1, RunEnd::Completed, "I ask @bot and myself, @ada."));
    let [Event::MessagePosted(answer), Event::RunEnded { run, end: RunEnd::Completed, .. }] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((answer.id, run.message_id), (run_id(1), run_id(1)));
    assert_eq!((answer.reply_to, answer.from_run, answer.partial), (Some(asked), true, false));
    assert_eq!(answer.mentions, [llm_id("bot")], "others, each once, and only those of the room");
    assert_eq!(answer.author_name, "Ada Lovelace");

    table.refused("server", finish(1, RunEnd::Completed, "x"), Code::NotFound, "no running answer");
    table.refused("server", start(asked, "ada", 1), Code::AlreadyExists, "has begun");
}

#[test]
fn an_answer_without_text_says_nothing() {
    let mut table = Table::new();
    let asked = table.say("bob", "@ada");
    for (n, end) in [(1, RunEnd::OptedOut), (2, RunEnd::Failed)] {
        table.ok("server", start(asked, "ada", n));
        let event = table.one("server", finish(n, end, " \n"));
        assert!(matches!(event, Event::RunEnded { end: how, .. } if how == end));
    }
}

#[test]
fn an_answer_that_did_not_end_by_itself_is_partial() {
    let mut table = Table::new();
    let asked = table.say("bob", "@ada");
    for (n, end) in
        [(1, RunEnd::Interrupted), (2, RunEnd::Failed), (3, RunEnd::TimedOut), (4, RunEnd::OverBudget)]
    {
        table.ok("server", start(asked, "ada", n));
        table.ok("server", finish(n, end, "so far"));
        assert!(table.message(run_id(n)).partial, "{end:?}");
    }
}

#[test]
fn only_the_server_runs_answers() {
    let mut table = Table::new();
    let asked = table.say("bob", "@ada");
    for who in ["ann", "bob", "vic", "eve", "ada"] {
        table.refused(who, start(asked, "ada", 1), Code::PermissionDenied, "only the server");
    }
    table.ok("server", start(asked, "ada", 1));
    for who in ["ann", "ada"] {
        table.refused(who, finish(1, RunEnd::Completed, "x"), Code::PermissionDenied, "only the server");
    }
}

#[test]
fn answers_have_limits() {
    let mut table = Table::new();
    let asked = table.say("bob", "@ada");
    table.refused("server", start(asked, "ghost", 1), Code::NotFound, "no LLM ghost");
    let deep = |depth| Command::StartRun(run(asked, "ada", 2, depth));
    table.refused("server", deep(6), Code::ResourceExhausted, "at most 5 times");
    table.ok("server", deep(5));
    table.limits.open_runs_per_room = 2;
    table.ok("server", start(asked, "bot", 3));
    table.refused("server", start(asked, "bot", 4), Code::ResourceExhausted, "at most 2 answers");
    table.ok("server", finish(3, RunEnd::Completed, "x"));
    table.ok("server", start(asked, "bot", 4));
}

#[test]
fn an_answer_outlives_its_llm() {
    let mut table = Table::new();
    let asked = table.say("bob", "@ada");
    table.ok("server", start(asked, "ada", 1));
    table.ok("bob", Command::RemoveLlm(llm_id("ada")));
    table.ok("server", finish(1, RunEnd::Interrupted, "x"));
    assert_eq!(table.message(run_id(1)).author_name, "Ada Lovelace", "the name with which it began");
    assert!(table.room.runs.is_empty());
}

#[test]
fn a_summary_ends_with_the_text_it_was_made_of() {
    for change in [
        |id| Command::EditMessage { message_id: id, content: "not that".into(), regenerate: false },
        |id| Command::DeleteMessage { message_id: id },
    ] {
        let mut table = Table::new();
        let (first, second) = (table.say("bob", "the door code is 1234"), table.say("bob", "thanks"));
        let up_to = table.message(first).seq;
        let summary =
            Summary { text: "The code is 1234.".into(), up_to, model: "m".into(), outside: Vec::new() };
        table.ok("server", Command::RecordSummary(summary.clone()));
        table.ok("bob", change(second));
        assert_eq!(table.room.summary, Some(summary), "it says nothing of this one");
        table.ok("bob", change(first));
        assert_eq!(table.room.summary, None);
    }
}

#[test]
fn a_fragment_does_not_take_the_place_of_a_whole_answer() {
    let mut table = Table::new();
    let asked = table.say("bob", "@ada");
    table.ok("server", start(asked, "ada", 1));
    table.ok("server", finish(1, RunEnd::Interrupted, "frag"));
    let again = |n, old| Command::StartRun(Run { replaces: Some(run_id(old)), ..run(asked, "ada", n, 0) });
    // Of two fragments the newer counts, and so does a whole answer in the place of one.
    for (n, old, end) in [(2, 1, RunEnd::Failed), (3, 2, RunEnd::Completed)] {
        table.ok("server", again(n, old));
        table.ok("server", finish(n, end, "more"));
        assert_eq!(table.message(run_id(old)).superseded_by, Some(run_id(n)));
    }
    for (n, end) in [(4, RunEnd::Interrupted), (5, RunEnd::TimedOut)] {
        table.ok("server", again(n, 3));
        table.ok("server", finish(n, end, "frag"));
        let (whole, fragment) = (table.message(run_id(3)), table.message(run_id(n)));
        assert_eq!((whole.superseded_by, fragment.superseded_by), (None, Some(run_id(3))));
        assert_eq!((fragment.replaces, fragment.partial), (None, true));
    }
    table.ok("server", again(6, 3));
    table.ok("server", finish(6, RunEnd::Completed, "better"));
    assert_eq!((table.message(run_id(6)).version, table.message(run_id(6)).replaces), (4, Some(run_id(3))));
}
