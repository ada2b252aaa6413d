//! The client commands against a server that plays scripts.

mod clean;
mod fake;
mod reading;

use std::{io::Cursor, net::SocketAddr, time::Duration};

pub use fake::Written;
use fake::{Fake, LONG, message};
use salon::{
    cli::{
        chat::{self, ChatOptions, style::ColorChoice},
        client::Error,
        exit::Exit,
        health::{self, HealthOptions},
        log::{self, LogOptions},
        rooms::{self, RoomsOptions},
    },
    wire::pb::room::v1::{self as pb, ServerEvent, client_message::Payload as Said, server_event::Payload},
};

fn options(server: SocketAddr) -> ChatOptions {
    ChatOptions {
        server: server.to_string().into(),
        room: "tea".into(),
        user: "ann".into(),
        name: Some("Ann".into()),
        create: false,
        invitation: String::new(),
        color: ColorChoice::Never,
        resume_after: None,
        wait: LONG,
    }
}

/// How a piped chat ended, and what it wrote to its outputs.
async fn chat(options: ChatOptions, input: &str) -> (Result<Exit, Error>, String, String) {
    let (out, errors) = (Written::default(), Written::default());
    let input = Cursor::new(input.to_owned().into_bytes());
    let io = chat::io::pipes(input, out.clone(), errors.clone(), false).unwrap();
    let exit =
        tokio::time::timeout(LONG * 2, chat::run_with(options, io)).await.expect("the chat does not end");
    (exit, out.text(), errors.text())
}

#[tokio::test]
async fn a_pipe_ends_when_its_lines_are_acked_and_the_answers_they_caused_have_ended() {
    let fake = Fake::default();
    fake.on_stream(|mut peer| async move {
        let join = peer.lets_in().await;
        assert_eq!((join.room_id.as_str(), join.display_name.as_str()), ("tea", "Ann"));
        let (first, Said::Message(said)) = peer.hears().await else { panic!("no message") };
        assert_eq!(said.content, "hello @ada");
        peer.hears_nothing().await;
        let asks = pb::Message { mentions: vec!["ada".into()], ..message("m6", "Ann", "hello @ada") };
        peer.accepts(first.clone(), 6, asks).await;
        let (second, Said::Message(said)) = peer.hears().await else { panic!("no message") };
        assert_eq!(said.content, "and goodbye");
        assert_ne!(first, second);
        let thinking = pb::LlmThinking {
            llm_id: "ada".into(),
            reply_to: "m6".into(),
            message_id: "m8".into(),
            ..Default::default()
        };
        peer.tells(7, Payload::LlmThinking(thinking)).await;
        peer.shows(8, message("m8", "Ada", "hi,\nAnn")).await;
        peer.accepts(second, 9, message("m9", "Ann", "and goodbye")).await;
        // The answer has not ended, so nobody leaves.
        peer.hears_nothing().await;
        let done = pb::LlmDone {
            message_id: "m8".into(),
            llm_id: "ada".into(),
            reply_to: "m6".into(),
            reason: pb::LlmDoneReason::Completed.into(),
            ..Default::default()
        };
        peer.tells(10, Payload::LlmDone(done)).await;
        peer.lets_go().await;
    });
    let (exit, out, errors) = chat(options(fake.serve().await), "hello @ada\n\nand goodbye\n").await;
    fake.assert_played();
    assert_eq!((exit.unwrap(), errors.as_str()), (Exit::Success, ""));
    assert_eq!(out, "#6 Ann: hello @ada\n#8 Ada: hi,\n  Ann\n#9 Ann: and goodbye\n");
}

#[tokio::test]
async fn a_refused_command_is_told_and_fails_the_pipe_and_the_rest_is_still_said() {
    let fake = Fake::default();
    fake.on_stream(|mut peer| async move {
        peer.lets_in().await;
        let (first, Said::UpdateRoomDescription(_)) = peer.hears().await else { panic!("no topic") };
        let refusal = pb::Error {
            code: "permission_denied".into(),
            message: "a VIEWER\u{1b}[31m reads".into(),
            ..Default::default()
        };
        peer.answers(first, Payload::Error(refusal)).await;
        // Too fast: the same command comes again, before the next one.
        let (second, Said::Message(_)) = peer.hears().await else { panic!("no message") };
        let slower = pb::Error {
            code: "rate_limited".into(),
            message: "slower".into(),
            retryable: true,
            retry_after_ms: 30,
            ..Default::default()
        };
        peer.answers(second.clone(), Payload::Error(slower)).await;
        let (again, Said::Message(said)) = peer.hears().await else { panic!("no message") };
        assert_eq!((again, said.content.as_str()), (second.clone(), "still here"));
        peer.accepts(second, 6, message("m6", "Ann", "still here")).await;
        peer.lets_go().await;
    });
    let (exit, out, errors) = chat(options(fake.serve().await), "/topic cats\nstill here\n").await;
    fake.assert_played();
    assert_eq!(exit.unwrap(), Exit::Failure);
    assert_eq!(out, "#6 Ann: still here\n");
    assert_eq!(errors, "! refused: a VIEWER reads (/topic cats)\n");
}

#[tokio::test]
async fn a_line_of_a_pipe_is_understood_on_what_the_line_before_has_made() {
    let fake = Fake::default();
    fake.on_stream(|mut peer| async move {
        peer.lets_in().await;
        let (request_id, Said::CreatePoll(asked)) = peer.hears().await else { panic!("no poll") };
        let ack = pb::Ack { seq: 6, last_seq: 7, event_id: "m6".into(), duplicate: false };
        peer.answers(request_id, Payload::Ack(ack)).await;
        let asks = pb::Message { poll_id: Some("p".into()), ..message("m6", "Ann", &asked.question) };
        peer.shows(6, asks).await;
        // Half of what the line has made is there: the poll is not.
        peer.hears_nothing().await;
        let option = |id: &str| pb::PollOption { id: id.into(), text: id.into(), ..Default::default() };
        let poll = pb::Poll {
            poll_id: "p".into(),
            question: asked.question,
            options: vec![option("yes"), option("no")],
            ..Default::default()
        };
        peer.tells(7, Payload::PollCreated(pb::PollCreated { poll: Some(poll) })).await;
        let (request_id, Said::CastVote(vote)) = peer.hears().await else { panic!("no vote") };
        assert_eq!((vote.poll_id.as_str(), vote.option_ids), ("p", vec!["yes".to_owned()]));
        peer.answers(request_id, Payload::Ack(pb::Ack::default())).await;
        peer.lets_go().await;
    });
    let (exit, _, errors) = chat(options(fake.serve().await), "/poll Tea? | yes | no\n/vote 1 1\n").await;
    fake.assert_played();
    assert_eq!((exit.unwrap(), errors.as_str()), (Exit::Success, ""));
}

#[tokio::test]
async fn a_script_allows_a_call_and_waits_for_an_answer_that_is_made_anew() {
    let fake = Fake::default();
    fake.on_stream(|mut peer| async move {
        peer.lets_in().await;
        let (request_id, Said::Message(_)) = peer.hears().await else { panic!("no message") };
        let llm = pb::ParticipantType::Llm.into();
        peer.shows(6, pb::Message { sender_type: llm, ..message("m6", "Ada", "old") }).await;
        let approval = pb::ToolApproval {
            approval_id: "a1".into(),
            llm_id: "ada".into(),
            tool: "notes__find".into(),
            arguments: "{}".into(),
            ..Default::default()
        };
        let requested = pb::ApprovalRequested { approval: Some(approval) };
        peer.tells(7, Payload::ApprovalRequested(requested)).await;
        peer.accepts(request_id, 8, message("m8", "Ann", "hello")).await;
        let (request_id, Said::DecideApproval(decided)) = peer.hears().await else { panic!("no decision") };
        assert_eq!((decided.approval_id.as_str(), decided.approve), ("a1", true));
        let by_ann = pb::ApprovalDecided {
            approval_id: decided.approval_id,
            decision: pb::ApprovalDecision::Approved.into(),
            by_id: "ann".into(),
            ..Default::default()
        };
        let ack = |seq| pb::Ack { seq, last_seq: seq, event_id: format!("e{seq}"), duplicate: false };
        peer.answers(request_id, Payload::Ack(ack(9))).await;
        peer.tells(9, Payload::ApprovalDecided(by_ann)).await;
        let (request_id, Said::Regenerate(asked)) = peer.hears().await else { panic!("not asked") };
        assert_eq!((asked.message_id.as_str(), asked.model.as_str()), ("m6", "big"));
        peer.answers(request_id, Payload::Ack(ack(10))).await;
        let wanted =
            pb::RegenerateRequested { message_id: "m6".into(), by_id: "ann".into(), model: "big".into() };
        peer.tells_as("e10", 10, Payload::RegenerateRequested(wanted)).await;
        let thinking = pb::LlmThinking {
            llm_id: "ada".into(),
            reply_to: "m1".into(),
            message_id: "m12".into(),
            replaces: "m6".into(),
            ..Default::default()
        };
        peer.tells(11, Payload::LlmThinking(thinking)).await;
        peer.hears_nothing().await;
        peer.shows(12, pb::Message { version: 2, ..message("m12", "Ada", "new") }).await;
        let by_message_id = "m12".into();
        let superseded = pb::MessageSuperseded { message_id: "m6".into(), by_message_id };
        peer.tells(13, Payload::MessageSuperseded(superseded)).await;
        let done = pb::LlmDone { llm_id: "ada".into(), reply_to: "m1".into(), ..Default::default() };
        peer.tells(14, Payload::LlmDone(done)).await;
        peer.lets_go().await;
    });
    let (exit, out, errors) = chat(options(fake.serve().await), "hello\n/approve\n/regenerate big\n").await;
    fake.assert_played();
    assert_eq!((exit.unwrap(), errors.as_str()), (Exit::Success, ""));
    let expected = [
        "#6 Ada: old",
        "* Ada wants to call notes__find with {}, call 1",
        "  let it with: /approve 1 - or not: /deny 1 [reason]",
        "#8 Ann: hello",
        "* Ann has allowed call 1, notes__find",
        "* Ann wants another answer than #6 by big",
        "#12 Ada: new (version 2)",
        "* #12 takes the place of #6",
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_line_of_a_pipe_waits_for_the_room() {
    let fake = Fake::default();
    fake.on_stream(|mut peer| async move {
        peer.lets_in().await;
        peer.lets_go().await;
    });
    let (exit, out, errors) = chat(options(fake.serve().await), "/who\n").await;
    fake.assert_played();
    assert_eq!((exit.unwrap(), errors.as_str()), (Exit::Success, ""));
    assert_eq!(out, "* nobody else is here\n* LLMs: Ada (ada)\n");
}

#[tokio::test]
async fn a_line_that_is_no_command_fails_the_pipe_and_is_not_sent() {
    let fake = Fake::default();
    fake.on_stream(|mut peer| async move {
        peer.lets_in().await;
        peer.lets_go().await;
    });
    let (exit, out, errors) = chat(options(fake.serve().await), "/pol Tea? | yes | no\n").await;
    fake.assert_played();
    assert_eq!((exit.unwrap(), out.as_str()), (Exit::Failure, ""));
    assert!(errors.contains("did you mean /poll?"), "{errors}");
}

#[tokio::test]
async fn a_lost_stream_is_resumed_behind_the_last_event_and_nothing_is_said_or_shown_twice() {
    let fake = Fake::default();
    let (tell_id, id) = tokio::sync::oneshot::channel();
    fake.on_stream(|mut peer| async move {
        assert_eq!(peer.lets_in().await.after_seq, None);
        peer.shows(6, message("m6", "Bob", "before")).await;
        let (request_id, Said::Message(_)) = peer.hears().await else { panic!("no message") };
        tell_id.send(request_id).unwrap();
        // The answer is lost with the stream.
    });
    fake.on_stream(|mut peer| async move {
        let (_, Said::Join(join)) = peer.hears().await else { panic!("no join") };
        assert_eq!(join.after_seq, Some(6));
        let resumed = pb::Resumed { after_seq: 6, ..Default::default() };
        peer.tells(8, Payload::Resumed(resumed)).await;
        peer.shows(6, message("m6", "Bob", "before")).await;
        peer.shows(7, message("m7", "Bob", "meanwhile")).await;
        peer.shows(8, message("m8", "Ann", "mine")).await;
        let (request_id, Said::Message(said)) = peer.hears().await else { panic!("no message") };
        assert_eq!((request_id.clone(), said.content.as_str()), (id.await.unwrap(), "mine"));
        let ack = pb::Ack { seq: 8, last_seq: 8, event_id: "m8".into(), duplicate: true };
        peer.answers(request_id, Payload::Ack(ack)).await;
        peer.lets_go().await;
    });
    let (exit, out, errors) = chat(options(fake.serve().await), "mine\n").await;
    fake.assert_played();
    assert_eq!(exit.unwrap(), Exit::Success);
    assert_eq!(out, "#6 Bob: before\n#7 Bob: meanwhile\n#8 Ann: mine\n");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.contains("coming back behind #6"), "{errors}");
}

#[tokio::test]
async fn a_closing_says_why_and_whether_to_come_back() {
    let fake = Fake::default();
    let closing = |reason: pb::ClosingReason, reconnect| {
        let closing = pb::Closing { reason: reason.into(), reconnect, resume_seq: 5, ..Default::default() };
        Payload::Closing(pb::Closing { reconnect_after_ms: 20, message: "bye\u{7}".into(), ..closing })
    };
    fake.on_stream(move |mut peer| async move {
        peer.lets_in().await;
        peer.hears().await;
        peer.tells(0, closing(pb::ClosingReason::Draining, true)).await;
    });
    fake.on_stream(move |mut peer| async move {
        assert_eq!(peer.lets_in().await.after_seq, Some(5));
        peer.hears().await;
        peer.tells(0, closing(pb::ClosingReason::Banned, false)).await;
    });
    let (exit, _, errors) = chat(options(fake.serve().await), "hello\n").await;
    fake.assert_played();
    assert_eq!(exit.unwrap(), Exit::Failure);
    let told: Vec<&str> = errors.lines().collect();
    assert_eq!(told.len(), 2, "{errors}");
    assert!(told[0].contains("going away (bye)") && told[0].contains("coming back"), "{errors}");
    assert!(told[1].contains("you were banned (bye)"), "{errors}");
}

#[tokio::test]
async fn a_silent_server_is_pinged_and_then_given_up_for_another_stream() {
    let fake = Fake::default();
    fake.on_stream(|mut peer| async move {
        let (_, Said::Join(_)) = peer.hears().await else { panic!("no join") };
        let state = pb::RoomState { heartbeat_interval_ms: 200, ..Default::default() };
        peer.tells(5, Payload::RoomState(state)).await;
        let (_, Said::Message(_)) = peer.hears().await else { panic!("no message") };
        let (_, Said::Ping(_)) = peer.hears().await else { panic!("no ping") };
        // A pong is enough to stay.
        peer.answers(String::new(), Payload::Pong(pb::Pong {})).await;
        let (_, Said::Ping(_)) = peer.hears().await else { panic!("no second ping") };
        // Silence: the client comes back on another stream and this one is never read again.
        peer.is_left().await;
    });
    fake.on_stream(|mut peer| async move {
        assert_eq!(peer.lets_in().await.after_seq, Some(5));
        let (request_id, Said::Message(_)) = peer.hears().await else { panic!("no message") };
        peer.accepts(request_id, 6, message("m6", "Ann", "hello")).await;
        peer.lets_go().await;
    });
    let (exit, out, errors) = chat(options(fake.serve().await), "hello\n").await;
    fake.assert_played();
    assert_eq!((exit.unwrap(), out.as_str()), (Exit::Success, "#6 Ann: hello\n"));
    assert!(errors.contains("silent"), "{errors}");
}

#[tokio::test]
async fn a_pipe_does_not_wait_for_ever() {
    let fake = Fake::default();
    fake.on_stream(|mut peer| async move {
        peer.lets_in().await;
        let (request_id, _) = peer.hears().await;
        let asks = pb::Message { mentions: vec!["ada".into()], ..message("m6", "Ann", "@ada") };
        peer.accepts(request_id, 6, asks).await;
        peer.lets_go().await;
    });
    let wait = Duration::from_millis(200);
    let (exit, _, errors) = chat(ChatOptions { wait, ..options(fake.serve().await) }, "@ada\n").await;
    fake.assert_played();
    assert_eq!(exit.unwrap(), Exit::Failure);
    assert!(errors.contains("no answer") && errors.contains("Ada"), "{errors}");
}

#[tokio::test]
async fn a_room_that_is_not_there_is_an_error_with_the_way_out_or_is_created() {
    let no_room = |mut peer: fake::Peer| async move {
        let (request_id, Said::Join(_)) = peer.hears().await else { panic!("no join") };
        let error = pb::Error { code: "room_not_found".into(), ..Default::default() };
        peer.answers(request_id, Payload::Error(error)).await;
    };
    let fake = Fake::default();
    fake.on_stream(no_room);
    let server = fake.serve().await;
    let (exit, ..) = chat(options(server), "").await;
    let error = exit.unwrap_err().to_string();
    assert!(error.contains("salon chat tea --create"), "{error}");
    assert!(fake.created.lock().unwrap().is_empty());

    fake.on_stream(no_room);
    fake.on_stream(|mut peer| async move {
        peer.lets_in().await;
        peer.lets_go().await;
    });
    let (exit, ..) = chat(ChatOptions { create: true, ..options(server) }, "").await;
    fake.assert_played();
    assert_eq!(exit.unwrap(), Exit::Success);
    let created = fake.created.lock().unwrap().clone();
    assert_eq!(created.len(), 1);
    assert_eq!((created[0].room_id.as_deref(), created[0].created_by.as_str()), (Some("tea"), "ann"));
}
