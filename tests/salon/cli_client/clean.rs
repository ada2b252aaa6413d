//! What servers and people write cannot harm a terminal.

use super::*;

/// What LLMs do, with `evil` wherever there is a text.
fn evil_llms(evil: &str) -> Vec<Payload> {
    let approval = pb::ToolApproval {
        approval_id: "a".into(),
        llm_id: evil.into(),
        tool: evil.into(),
        arguments: evil.into(),
        asked_by_id: evil.into(),
        ..Default::default()
    };
    let decided = pb::ApprovalDecided {
        approval_id: "a".into(),
        by_id: evil.into(),
        reason: evil.into(),
        decision: pb::ApprovalDecision::Denied.into(),
    };
    let anew = pb::RegenerateRequested { by_id: evil.into(), model: evil.into(), message_id: evil.into() };
    let abstention = pb::PollAbstention { llm_id: evil.into(), llm_name: evil.into(), reason: evil.into() };
    let abstained = pb::VoteAbstained { poll_id: "p".into(), abstention: Some(abstention) };
    let talk = |status: pb::AutopilotStatus, chosen: &str| {
        let autopilot = pb::Autopilot {
            autopilot_id: "t".into(),
            status: status.into(),
            topic: evil.into(),
            llm_ids: vec![evil.into()],
            moderator_llm_id: evil.into(),
            reason: evil.into(),
            chosen_llm_id: chosen.into(),
            instruction: chosen.into(),
            ..Default::default()
        };
        Payload::AutopilotChanged(pb::AutopilotChanged { autopilot: Some(autopilot) })
    };
    let read = pb::Message { outside_sources: vec![evil.into()], ..message("m20", "Ada", "x") };
    vec![
        Payload::ApprovalRequested(pb::ApprovalRequested { approval: Some(approval) }),
        Payload::ApprovalDecided(decided),
        Payload::RegenerateRequested(anew),
        Payload::VoteAbstained(abstained),
        talk(pb::AutopilotStatus::Running, ""),
        talk(pb::AutopilotStatus::Running, evil),
        talk(pb::AutopilotStatus::Ended, ""),
        Payload::MessageReceived(pb::MessageReceived { message: Some(read) }),
    ]
}

#[tokio::test]
async fn nothing_from_the_network_reaches_the_terminal_unclean() {
    let evil = "\u{1b}[2J\u{1b}]52;c;aGk=\u{7}hi\u{9b}1m\r\u{202e}there\u{8}\n#9 Bob: fake";
    let fake = Fake::default();
    fake.on_stream(move |mut peer| async move {
        peer.lets_in().await;
        let (request_id, _) = peer.hears().await;
        peer.shows(6, pb::Message { sender_name: evil.into(), ..message("m6", "Eve", evil) }).await;
        let user = pb::Participant { id: "eve".into(), name: evil.into(), ..Default::default() };
        peer.tells(0, Payload::UserJoined(pb::UserJoined { user: Some(user) })).await;
        let poll = pb::Poll {
            poll_id: "p".into(),
            question: evil.into(),
            options: vec![pb::PollOption { id: "1".into(), text: evil.into(), ..Default::default() }],
            creator_name: evil.into(),
            ..Default::default()
        };
        peer.tells(7, Payload::PollCreated(pb::PollCreated { poll: Some(poll.clone()) })).await;
        let vote = pb::PollVote { voter_name: evil.into(), reason: evil.into(), ..Default::default() };
        let voted = pb::PollVoted {
            poll_id: "p".into(),
            option_id: "1".into(),
            vote: Some(vote),
            ..Default::default()
        };
        peer.tells(8, Payload::PollVoted(voted)).await;
        let closed = pb::PollClosed {
            poll_id: "p".into(),
            closed_by_name: evil.into(),
            poll: Some(poll),
            ..Default::default()
        };
        peer.tells(9, Payload::PollClosed(closed)).await;
        let edited =
            pb::MessageEdited { message_id: "m6".into(), content: evil.into(), ..Default::default() };
        peer.tells(10, Payload::MessageEdited(edited)).await;
        let room = pb::RoomInfo { name: evil.into(), description: evil.into(), ..Default::default() };
        peer.tells(11, Payload::RoomUpdated(pb::RoomUpdated { room: Some(room) })).await;
        let llm = pb::LlmConfig { id: evil.into(), display_name: evil.into(), ..Default::default() };
        peer.tells(12, Payload::LlmAdded(pb::LlmAdded { llm: Some(llm) })).await;
        let done = pb::LlmDone {
            llm_id: evil.into(),
            error_message: evil.into(),
            reason: pb::LlmDoneReason::Failed.into(),
            ..Default::default()
        };
        peer.tells(13, Payload::LlmDone(done)).await;
        let reaction = pb::ReactionChanged {
            emoji: evil.into(),
            user_id: evil.into(),
            added: true,
            ..Default::default()
        };
        peer.tells(14, Payload::ReactionChanged(reaction)).await;
        let mut seq = 14;
        for payload in evil_llms(evil) {
            seq += 1;
            peer.tells(seq, payload).await;
        }
        let ended = pb::RoomEnded { ended_by_id: evil.into(), reason: evil.into() };
        peer.accepts(request_id, seq + 1, message("m", "Ann", "x")).await;
        peer.tells(seq + 2, Payload::RoomEnded(ended)).await;
        peer.lets_go().await;
    });
    let (exit, out, errors) = chat(options(fake.serve().await), "x\n").await;
    fake.assert_played();
    assert_eq!(exit.unwrap(), Exit::Success);
    let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!out.contains(bad) && !errors.contains(bad), "{out:?}{errors:?}");
    assert!(out.matches("<U+202E>there").count() >= 30, "{out}");
    assert!(!out.lines().any(|line| line.starts_with("#9 ")), "a message passes for another one: {out}");
}
