//! `salon bench`, on a whole server over real connections, and on servers that do not serve as they should.
//!
//! Of its figures only those are looked at that must fit together whatever the machine does.

mod fake;
mod secured;

use std::{num::NonZeroU32, time::Duration};

use clap::Parser as _;
use salon::{
    cli::{
        args::{Args, Command},
        bench::{self, Error},
        exit::Exit,
    },
    config::RateWord,
};
use serde_json::Value;

use crate::harness::{Setup, TestServer};
use fake::{Fake, Fault};

/// Runs `salon bench` with these arguments on the server at `url`.
async fn bench(url: &str, line: &str) -> Result<(Exit, String), Error> {
    let words = ["salon", "bench"].into_iter().chain(line.split_whitespace()).chain(["--server", url]);
    let Command::Bench(args) = Args::try_parse_from(words).unwrap().into_command() else { panic!() };
    let mut out = Vec::new();
    let exit = bench::run(&args, &mut out).await?;
    Ok((exit, String::from_utf8(out).unwrap()))
}

/// The same, for the figures.
async fn figures(url: &str, line: &str) -> (Exit, Value) {
    let (exit, out) = bench(url, &format!("{line} --json")).await.unwrap();
    (exit, serde_json::from_str(&out).unwrap())
}

fn number(figures: &Value, name: &str) -> u64 {
    let found = name.split('.').try_fold(figures, |value, key| value.get(key));
    found.and_then(Value::as_u64).unwrap_or_else(|| panic!("{name} in {figures}"))
}

/// All that was sent came to everybody once, in order, and was acknowledged if it should be.
fn assert_whole(exit: Exit, figures: &Value) {
    assert_eq!(exit, Exit::Success, "{figures}");
    for fault in ["lost", "duplicated", "inversions", "astray", "refused", "ended"] {
        assert_eq!(number(figures, fault), 0, "{fault} in {figures}");
    }
    let sent = number(figures, "sent");
    assert!(sent > 0, "{figures}");
    assert_eq!(number(figures, "deliveries"), sent * number(figures, "members"), "{figures}");
    if !figures["acknowledged"].is_null() {
        assert_eq!(number(figures, "acknowledged"), sent, "{figures}");
    }
    assert_ordered(&figures["latency_us"]);
    assert_eq!(figures["problems"], Value::Array(Vec::new()));
}

fn assert_ordered(times: &Value) {
    let times = ["p50", "p99", "p999", "max"].map(|name| number(times, name));
    assert!(times[0] > 0 && times.is_sorted(), "{times:?}");
}

#[tokio::test]
async fn a_paced_load_sends_what_is_due_and_all_of_it_arrives() {
    let server = TestServer::start().await;
    let line = "--rooms 3 --members 4 --rate 200 --warm-up 0.2 --duration 1";
    let (exit, figures) = figures(&server.url, line).await;
    assert_whole(exit, &figures);
    assert_eq!(number(&figures, "sent"), 200, "as the rate says, whatever the machine did");
    assert_eq!((&figures["rate"], &figures["in_flight"]), (&200.0.into(), &Value::Null));
    assert_ordered(&figures["ack_us"]);
    assert_ordered(&figures["behind_us"]);
    #[cfg(target_os = "linux")]
    {
        let process = &figures["server_process"];
        assert_eq!(number(process, "pid"), u64::from(std::process::id()));
        assert!(process["cpu_us_per_delivery"].as_f64().unwrap() > 0.0, "{process}");
        assert!(number(process, "rss_kib") > 1000, "{process}");
    }
    server.shutdown().await;
}

#[tokio::test]
async fn a_closed_loop_keeps_its_window_full_and_all_of_it_arrives() {
    let server = TestServer::start().await;
    let line = "--rooms 2 --members 3 --in-flight 8 --payload 33 --warm-up 0 --duration 0.5";
    let (exit, figures) = figures(&server.url, line).await;
    assert_whole(exit, &figures);
    assert!(number(&figures, "sent") > 8, "{figures}");
    assert_eq!((&figures["rate"], &figures["behind_us"]), (&Value::Null, &Value::Null));
    server.shutdown().await;
}

#[tokio::test]
async fn many_streams_share_a_connection() {
    let server = TestServer::start().await;
    // The last connection has fewer, and connections hold sessions of several rooms.
    let line = "--rooms 7 --members 3 --streams-per-connection 5 --in-flight 7 --payload 16384 --warm-up 0 --duration 0.5";
    let (exit, figures) = figures(&server.url, line).await;
    assert_whole(exit, &figures);
    server.shutdown().await;
}

#[tokio::test]
async fn more_streams_than_a_connection_may_have_are_refused_with_the_key() {
    let server = Setup::default().config(|config| config.grpc.max_streams_per_connection = 3).start().await;
    let error = bench(&server.url, "--members 4 --streams-per-connection 4").await.unwrap_err();
    assert!(error.to_string().contains("grpc.max_streams_per_connection"), "{error}");
    let (exit, figures) = figures(&server.url, "--members 3 --streams-per-connection 3 --duration 0.2").await;
    assert_whole(exit, &figures);
    server.shutdown().await;
}

#[tokio::test]
async fn the_original_contract_is_measured_by_what_is_received_alone() {
    let server = TestServer::start().await;
    for pace in ["--rate 100", "--in-flight 4"] {
        let line = format!("--contract original --members 3 {pace} --warm-up 0 --duration 0.5");
        let (exit, figures) = figures(&server.url, &line).await;
        assert_whole(exit, &figures);
        assert_eq!((&figures["acknowledged"], &figures["ack_us"]), (&Value::Null, &Value::Null));
    }
    server.shutdown().await;
}

#[tokio::test]
async fn answers_are_counted_part_by_part() {
    let server = TestServer::start().await;
    let line = "answers --rooms 3 --members 3 --in-flight 3 --warm-up 0 --duration 1";
    let (exit, figures) = figures(&server.url, line).await;
    assert_whole(exit, &figures);
    assert_eq!(number(&figures, "answers.answers"), number(&figures, "sent"), "{figures}");
    assert_eq!(number(&figures, "answers.unanswered"), 0);
    // Everybody has at least one part of each answer that began in time.
    assert!(number(&figures, "answers.chunks") >= 3, "{figures}");
    assert_ordered(&figures["answers"]["first_chunk_us"]);
    assert_ordered(&figures["answers"]["answer_us"]);
    server.shutdown().await;
}

#[tokio::test]
async fn who_is_cut_while_messages_flow_misses_none_and_hears_none_twice() {
    let server = TestServer::start().await;
    let line = "resumes --rooms 2 --members 4 --rate 300 --warm-up 0 --duration 1";
    let (exit, figures) = figures(&server.url, line).await;
    assert_whole(exit, &figures);
    assert!(number(&figures, "resumes.resumed") > 1, "{figures}");
    assert_ordered(&figures["resumes"]["resumed_us"]);
    server.shutdown().await;
}

#[tokio::test]
async fn after_a_storm_all_are_back() {
    let server = TestServer::start().await;
    for more in ["", "--spread 0.2", "--streams-per-connection 7"] {
        let (exit, figures) = figures(&server.url, &format!("storm --rooms 5 --members 8 {more}")).await;
        assert_eq!(exit, Exit::Success, "{figures}");
        assert_eq!((number(&figures, "storm.served"), number(&figures, "storm.refused")), (40, 0));
        assert_ordered(&figures["storm"]["returned_us"]);
    }
    server.shutdown().await;
}

#[tokio::test]
async fn who_is_refused_in_a_storm_comes_again_until_it_is_let_in() {
    // The first join of each takes what there is for four seconds.
    let server = Setup::default()
        .config(|config| {
            config.limits.rates.user.joins = RateWord(Some((NonZeroU32::MIN, Duration::from_secs(4))));
        })
        .start()
        .await;
    let (exit, figures) = figures(&server.url, "storm --rooms 1 --members 3").await;
    assert_eq!((exit, number(&figures, "storm.served")), (Exit::Success, 3), "{figures}");
    assert!(number(&figures, "storm.refused") >= 3, "{figures}");
    server.shutdown().await;
}

#[tokio::test]
async fn joins_and_idle_sessions_are_counted() {
    let server = TestServer::start().await;
    let (exit, joins) =
        figures(&server.url, "joins --rooms 2 --members 3 --in-flight 2 --duration 0.5").await;
    assert_eq!(exit, Exit::Success, "{joins}");
    assert!(number(&joins, "joins.joined") > 2, "{joins}");
    assert_ordered(&joins["joins"]["joined_us"]);
    let (exit, paced) = figures(&server.url, "joins --rooms 2 --members 3 --rate 40 --duration 0.5").await;
    assert_eq!((exit, number(&paced, "joins.joined")), (Exit::Success, 20), "{paced}");
    let (exit, idle) = figures(&server.url, "idle --rooms 2 --members 5 --duration 0.2").await;
    assert_eq!((exit, number(&idle, "idle.sessions")), (Exit::Success, 10), "{idle}");
    assert_eq!((&idle["rate"], &idle["in_flight"]), (&Value::Null, &Value::Null));
    let (_, table) = bench(&server.url, "idle --duration 0.2").await.unwrap();
    assert!(!table.contains("messages/s") && !table.contains("bytes"), "{table}");
    server.shutdown().await;
}

#[tokio::test]
async fn a_person_reads_a_table_and_what_to_configure() {
    let server = Setup::default()
        .config(|config| (config.limits.messages_per_second, config.limits.messages_burst) = (1, 3))
        .start()
        .await;
    let (exit, out) = bench(&server.url, "--rate 50 --warm-up 0 --duration 0.5").await.unwrap();
    for part in ["messages on http://", "p99.9", "delivered", "acknowledged", "limits.messages_per_second"] {
        assert!(out.contains(part), "{part} in {out}");
    }
    assert_eq!(exit, Exit::Failure, "most were refused: {out}");
    let (exit, figures) = figures(&server.url, "--rate 50 --warm-up 0 --duration 0.5").await;
    assert_eq!(exit, Exit::Failure, "{figures}");
    let answered = number(&figures, "acknowledged") + number(&figures, "refused");
    assert_eq!((answered, number(&figures, "lost")), (number(&figures, "sent"), 0), "{figures}");
    server.shutdown().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_anything_is_opened() {
    for (line, named) in [
        ("--rooms 0", "--rooms"),
        ("--members 0", "--members"),
        ("--payload 32", "33"),
        ("--rate 0", "--rate"),
        ("--in-flight 0", "--in-flight"),
        ("--duration 0", "--duration"),
        ("--rooms 100000 --members 100000", "sessions"),
        ("answers --contract original", "answers"),
        ("--spread 3", "storm"),
        ("idle --rate 5", "--rate"),
    ] {
        let error = bench("http://127.0.0.1:1", line).await.unwrap_err().to_string();
        assert!(error.contains(named), "{line}: {error}");
    }
    for (url, line, named) in [
        ("tcp://127.0.0.1:1", "--streams-per-connection 2", "--streams-per-connection"),
        ("tcp://127.0.0.1:1", "--contract original", "http"),
        ("nats://127.0.0.1:1", "storm", "messages"),
        ("ftp://127.0.0.1:1", "", "tcp://"),
        ("http://ada:secret@127.0.0.1:1", "", "nats://"),
        ("tcp://127.0.0.1:1", "", "127.0.0.1:1"),
        ("http://127.0.0.1:1", "--duration 1", "salon serve"),
    ] {
        let error = bench(url, line).await.unwrap_err().to_string();
        assert!(error.contains(named), "{url} {line}: {error}");
    }
    let both = Args::try_parse_from(["salon", "bench", "--rate", "1", "--in-flight", "1"]);
    assert!(both.unwrap_err().to_string().contains("--in-flight"));
}

#[tokio::test]
async fn a_server_that_serves_as_it_should_over_plain_tcp_is_found_sound() {
    for pace in ["--rate 200", "--in-flight 5"] {
        let server = Fake::start(Fault::None).await;
        let (exit, figures) =
            figures(&server.url, &format!("--rooms 2 --members 3 {pace} --warm-up 0 --duration 0.5")).await;
        assert_whole(exit, &figures);
    }
}

#[tokio::test]
async fn a_server_that_loses_repeats_reorders_or_mixes_up_is_found_out() {
    for (fault, named) in [
        (Fault::Loses, "lost"),
        (Fault::Repeats, "duplicated"),
        (Fault::Reorders, "inversions"),
        (Fault::Mixes, "astray"),
        (Fault::HangsUp, "ended"),
    ] {
        let server = Fake::start(fault).await;
        let line = "--rooms 2 --members 3 --rate 200 --warm-up 0 --duration 0.5";
        let (exit, figures) = figures(&server.url, line).await;
        assert_eq!(exit, Exit::Failure, "{fault:?}: {figures}");
        let found = ["lost", "duplicated", "inversions", "astray"].map(|name| number(&figures, name) > 0);
        if fault == Fault::HangsUp {
            assert!(number(&figures, "ended") > 0, "{figures}");
            continue;
        }
        let expected = ["lost", "duplicated", "inversions", "astray"].map(|name| name == named);
        assert_eq!(found, expected, "{fault:?}: {figures}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_acknowledge_or_acknowledges_other_things_is_found_out() {
    for (fault, named) in [(Fault::Forgets, "acknowledged"), (Fault::Invents, "astray")] {
        let server = Fake::start(fault).await;
        let line = "--rooms 2 --members 3 --rate 100 --warm-up 0 --duration 0.5";
        let (exit, figures) = figures(&server.url, line).await;
        assert_eq!(exit, Exit::Failure, "{fault:?}: {figures}");
        assert_eq!((number(&figures, "sent"), number(&figures, "acknowledged")), (50, 45), "{figures}");
        assert_eq!(number(&figures, "astray"), if named == "astray" { 5 } else { 0 }, "{figures}");
        assert!(figures["problems"].to_string().contains("50 messages were sent, and 45"), "{figures}");
        assert_eq!((number(&figures, "lost"), number(&figures, "deliveries")), (0, 150), "{figures}");
    }
}

#[tokio::test]
async fn what_is_due_last_is_sent_before_the_end() {
    let server = Fake::start(Fault::None).await;
    // The second is due 17 ms before the end, in the middle of nothing else.
    let (exit, figures) = figures(&server.url, "--rate 3 --warm-up 0 --duration 0.35").await;
    assert_whole(exit, &figures);
    assert_eq!(number(&figures, "sent"), 2, "{figures}");
}

#[tokio::test]
async fn a_load_in_which_nothing_is_due_says_so() {
    let server = Fake::start(Fault::None).await;
    let (exit, figures) = figures(&server.url, "--rate 0.5 --warm-up 0.1 --duration 0.2").await;
    assert_eq!((exit, number(&figures, "sent")), (Exit::Failure, 0), "{figures}");
    assert!(figures["problems"].to_string().contains("--duration"), "{figures}");
}

#[tokio::test]
async fn connections_that_are_still_joining_are_left_alone() {
    let server = Fake::start(Fault::HoldsOneJoin).await;
    let (exit, figures) =
        figures(&server.url, "joins --rooms 1 --members 3 --in-flight 2 --duration 0.5").await;
    assert_eq!((exit, number(&figures, "joins.refused")), (Exit::Success, 0), "{figures}");
    assert!(number(&figures, "joins.joined") >= 5, "{figures}");
}

#[tokio::test]
async fn joins_that_could_not_be_begun_in_time_are_told() {
    let server = Fake::start(Fault::JoinsSlowly(Duration::from_millis(600))).await;
    let (exit, figures) = figures(&server.url, "joins --rooms 1 --members 1 --rate 40 --duration 0.5").await;
    assert_eq!(exit, Exit::Failure, "{figures}");
    assert_eq!((number(&figures, "joins.joined"), number(&figures, "joins.not_begun")), (1, 19), "{figures}");
    assert!(figures["problems"].to_string().contains("not begun"), "{figures}");
}

#[tokio::test]
async fn who_is_sent_away_right_after_it_has_joined_is_counted() {
    for line in ["storm", "joins --rate 5 --duration 0.3", "idle --duration 0.2"] {
        let server = Fake::start(Fault::Leaves).await;
        let (exit, figures) = figures(&server.url, &format!("{line} --rooms 1 --members 2")).await;
        assert_eq!(exit, Exit::Failure, "{line}: {figures}");
        assert!(number(&figures, "ended") >= 2, "{line}: {figures}");
        assert!(figures["problems"].to_string().contains("sessions ended"), "{line}: {figures}");
    }
}

#[tokio::test]
async fn a_return_that_is_refused_is_counted_and_the_report_is_written() {
    // The first join of each takes what there is for four seconds.
    let server = Setup::default()
        .config(|config| {
            config.limits.rates.user.joins = RateWord(Some((NonZeroU32::MIN, Duration::from_secs(4))));
        })
        .start()
        .await;
    let (exit, figures) =
        figures(&server.url, "resumes --members 4 --rate 50 --warm-up 0 --duration 0.3").await;
    assert_eq!(exit, Exit::Failure, "{figures}");
    assert!(number(&figures, "resumes.refused") >= 1 && number(&figures, "lost") > 0, "{figures}");
    assert!(figures["problems"].to_string().contains("a return was refused"), "{figures}");
    server.shutdown().await;
}

#[test]
fn a_password_in_the_environment_is_not_in_the_help() {
    use clap::CommandFactory as _;
    let mut command = Args::command();
    let bench = command.find_subcommand_mut("bench").unwrap();
    let server = bench.get_arguments().find(|argument| argument.get_id() == "url").unwrap();
    assert!(server.is_hide_env_values_set());
    // Nor where it cannot be read.
    let words = ["salon", "bench", "--server", "nats://ada:s3cr3t@:x:y"];
    let read = Args::try_parse_from(words).map_err(|error| error.to_string());
    assert!(!read.err().unwrap_or_default().contains("s3cr3t"));
}
