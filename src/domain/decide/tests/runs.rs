//! Answers: begun once, ended once.

use super::*;
use crate::{
    domain::{
        command::RunOutcome,
        limits::{CHANGED_MESSAGES, EARLIER_SUMMARIES, RECENT_MESSAGES},
        llm::{Run, RunEnd, RunReport},
        summary::Summary,
    },
    ids::EventId,
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

pub(super) fn finish(n: u128, end: RunEnd, text: &str) -> Command {
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

fn summary(up_to: Seq) -> Summary {
    Summary { text: format!("What was said up to {up_to}."), up_to, model: "m".into(), outside: Vec::new() }
}

fn record(up_to: Seq, read_at: Seq) -> Command {
    Command::RecordSummary { summary: summary(up_to), read_at }
}

fn edit(message_id: MessageId) -> Command {
    Command::EditMessage { message_id, content: "not that".into(), regenerate: false }
}

fn delete(message_id: MessageId) -> Command {
    Command::DeleteMessage { message_id }
}

/// Where the summary ends that LLMs are told.
fn told(table: &Table) -> Option<Seq> {
    table.room.summary.as_ref().map(|summary| summary.up_to)
}

#[test]
fn a_message_that_changes_takes_away_only_the_summaries_that_stand_for_it() {
    for change in [edit, delete] {
        let mut table = Table::new();
        let said: Vec<MessageId> = (0..4).map(|n| table.say("bob", &format!("code {n}"))).collect();
        let at: Vec<Seq> = said.iter().map(|id| table.message(*id).seq).collect();
        for up_to in &at[..3] {
            table.ok("server", record(*up_to, table.room.seq));
        }
        table.ok("bob", change(said[3]));
        assert_eq!(told(&table), Some(at[2]), "it says nothing of this one");
        table.ok("bob", change(said[1]));
        assert_eq!(told(&table), Some(at[0]), "made before that was said");
        table.ok("server", record(at[2], table.room.seq));
        table.ok("bob", change(said[0]));
        assert_eq!((told(&table), table.room.earlier_summaries.len()), (None, 0));
    }
}

#[test]
fn an_old_message_that_changes_is_known_by_its_place() {
    let mut table = Table::new();
    let (first, second) = (table.say("bob", "one"), table.say("bob", "two"));
    let (one, two) = (table.message(first).seq, table.message(second).clone());
    table.ok("server", record(one, table.room.seq));
    table.ok("server", record(two.seq, table.room.seq));
    for n in 0..RECENT_MESSAGES {
        table.say("ann", &n.to_string());
    }
    assert!(table.room.recent_message(second).is_none());
    table.facts.message = Some(two);
    table.ok("bob", delete(second));
    assert_eq!(told(&table), Some(one));
}

#[test]
fn an_answer_with_another_in_its_place_is_in_no_summary() {
    let mut table = Table::new();
    let asked = table.say("bob", "@ada");
    let before = table.room.seq;
    table.ok("server", record(before, before));
    table.ok("server", start(asked, "ada", 1));
    table.ok("server", finish(1, RunEnd::Completed, "wrong"));
    table.ok("server", record(table.room.seq, table.room.seq));
    let again = Run { replaces: Some(run_id(1)), ..run(asked, "ada", 2, 0) };
    table.ok("server", Command::StartRun(again));
    table.ok("server", finish(2, RunEnd::Completed, "right"));
    assert_eq!(table.message(run_id(1)).superseded_by, Some(run_id(2)));
    assert_eq!(told(&table), Some(before));
}

#[test]
fn what_was_read_before_a_change_is_no_summary_of_what_comes_behind_it() {
    let mut table = Table::new();
    let (first, second) = (table.say("bob", "one"), table.say("bob", "two"));
    let (one, two) = (table.message(first).seq, table.message(second).seq);
    let read_at = table.room.seq;
    table.ok("bob", edit(second));
    table.refused("server", record(two, read_at), Code::NotFound, "has changed");
    table.ok("server", record(one, read_at));
    table.ok("server", record(two, table.room.seq));
    // So many that the room does not know all of them any more.
    let read_at = table.room.seq;
    table.say("bob", "three");
    let three = table.room.seq;
    for _ in 0..CHANGED_MESSAGES {
        let message = table.say("bob", "four");
        table.ok("bob", delete(message));
    }
    table.refused("server", record(three, read_at), Code::NotFound, "has changed");
    table.ok("server", record(three, table.room.seq));
}

#[test]
fn earlier_summaries_are_few_and_the_farther_apart_the_older_they_are() {
    let mut table = Table::new();
    table.room.seq = Seq(10_000);
    for up_to in 1..=1000 {
        apply_summary(&mut table, Seq(up_to));
    }
    let kept: Vec<u64> = table.room.earlier_summaries.iter().map(|summary| summary.up_to.0).collect();
    assert_eq!((kept.len(), kept[0]), (EARLIER_SUMMARIES, 1), "{kept:?}");
    assert!(kept[7] >= 995, "{kept:?}");
    // Behind the first, whatever changes makes anew no more than a few times what came after it.
    for pair in kept[1..].windows(2) {
        assert!(1000 - pair[0] <= 6 * (1000 - pair[1]).max(1), "{kept:?}");
    }
    assert!(kept[1] < 700, "{kept:?}");
}

#[test]
fn of_logs_that_began_anew_behind_a_change_no_summary_is_out_of_order() {
    let mut table = Table::new();
    table.room.seq = Seq(1000);
    for up_to in [100, 200, 80, 160] {
        apply_summary(&mut table, Seq(up_to));
    }
    let earlier: Vec<u64> = table.room.earlier_summaries.iter().map(|summary| summary.up_to.0).collect();
    assert_eq!((told(&table), earlier), (Some(Seq(160)), vec![80]));
}

fn apply_summary(table: &mut Table, up_to: Seq) {
    let event = Event::ContextSummarised(summary(up_to));
    let (seq, event_id) = (table.room.seq.next(), EventId(Uuid::from_u128(u128::from(up_to.0))));
    apply::apply(&mut table.room, &Recorded { seq, event_id, at: table.at, event });
    assert_eq!(table.room.broken_invariant(), None);
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
        assert_eq!(table.room.changed.back().map(|changed| changed.of), Some(fragment.seq));
    }
    table.ok("server", again(6, 3));
    table.ok("server", finish(6, RunEnd::Completed, "better"));
    assert_eq!((table.message(run_id(6)).version, table.message(run_id(6)).replaces), (4, Some(run_id(3))));
}
