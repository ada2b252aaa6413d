//! What was acknowledged on one server is seen on the other, although nothing has come there over the bus.

use super::*;
use crate::harness::session::{is_lasting, join, message};

/// Two servers that hear nothing of one another, with a room in the memory of both.
async fn deaf() -> (Pair, String, Session, Session) {
    let pair = Pair::start(nobody(), nobody()).await;
    let room = pair.room(&["ada"]).await;
    let (admin, there) = (pair.a.join(&room, "admin").await, pair.b.join(&room, "admin").await);
    pair.cut();
    (pair, room, admin, there)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_sees_what_was_acknowledged_elsewhere() {
    let (pair, room, mut admin, _there) = Box::pin(deaf()).await;
    let mut calls = pair.b.client().await;
    for round in 0..10 {
        let name = format!("Name {round}");
        let rename = pb::UpdateRoom { name: Some(name.clone()), ..Default::default() };
        let seq = admin.command(Say::UpdateRoom(rename)).await.unwrap().seq;
        let request = pb::GetRoomRequest { room_id: room.clone() };
        let found = calls.get_room(request).await.unwrap().into_inner();
        assert_eq!((found.room.unwrap().name, found.seq), (name.clone(), seq));

        let rename = pb::UpdateRoom { name: Some(format!("{name}!")), ..Default::default() };
        admin.command(Say::UpdateRoom(rename)).await.unwrap();
        let request = pb::ListRoomsRequest { user_id: Some("admin".into()), ..Default::default() };
        let listed = calls.list_rooms(request).await.unwrap().into_inner().rooms;
        assert_eq!(listed[0].name, format!("{name}!"));

        let user = format!("user-{round}");
        pair.a.join(&room, &user).await;
        let request = pb::ListMembersRequest { room_id: room.clone(), ..Default::default() };
        let members = calls.list_members(request).await.unwrap().into_inner().members;
        assert!(members.iter().any(|member| member.id == user), "{members:?}");

        let user = format!("reader-{round}");
        pair.a.join(&room, &user).await;
        let said = admin.talk(&format!("said {round}")).await;
        let request = pb::LoadHistoryRequest {
            room_id: room.clone(),
            user_id: Some(user.clone()),
            ..Default::default()
        };
        let page = calls.load_history(request).await.unwrap().into_inner();
        assert_eq!(page.messages.last().unwrap().message_id, said.event_id);

        let user = format!("follower-{round}");
        pair.a.join(&room, &user).await;
        let request =
            pb::ReadLogRequest { room_id: room.clone(), user_id: Some(user.clone()), ..Default::default() };
        let mut log = calls.read_log(request).await.unwrap().into_inner();
        let mut last = 0;
        while let Some(response) = log.message().await.unwrap() {
            last = response.event.unwrap().seq;
        }
        assert!(last > said.seq);
    }
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_poll_is_shown_with_the_votes_of_the_other_server() {
    let (pair, room, mut admin, _there) = Box::pin(deaf()).await;
    let options = ["red", "green"].map(|t| pb::PollOptionInput { text: t.into(), ..Default::default() });
    let poll = pb::CreatePoll { question: "Which?".into(), options: options.into(), ..Default::default() };
    // Nobody is there who would vote as well.
    admin.command(Say::RemoveLlm(pb::RemoveLlm { llm_id: "ada".into() })).await.unwrap();
    admin.command(Say::CreatePoll(poll)).await.unwrap();
    let created = |p: &Payload| if let Payload::PollCreated(c) = p { c.poll.clone() } else { None };
    let poll = admin.pick(created).await;
    let vote = pb::CastVote { poll_id: poll.poll_id, option_ids: vec!["1".into()], ..Default::default() };
    admin.command(Say::CastVote(vote)).await.unwrap();
    let request = pb::LoadHistoryRequest { room_id: room.clone(), ..Default::default() };
    let page = pair.b.client().await.load_history(request).await.unwrap().into_inner();
    assert_eq!(page.polls[0].options[0].vote_count, 1, "{:?}", page.polls);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_and_a_resume_begin_with_what_was_acknowledged_elsewhere() {
    let (pair, room, mut admin, _there) = Box::pin(deaf()).await;
    for round in 0..10 {
        let said = admin.talk(&format!("before the join {round}")).await;
        let state = pair.b.join(&room, "bob").await;
        assert!(state.seq >= said.seq);
        assert!(state.state.messages.iter().any(|message| message.message_id == said.event_id));

        let from = admin.talk("before the resume").await.seq;
        let said = admin.talk("missed").await;
        let mut resumed = Session::resume(pair.b.client().await, &room, "bob", from).await;
        let event = resumed.find(|event| event.seq == said.seq && is_lasting(event)).await;
        assert_eq!(event.event_id, said.event_id);
        // And by a position that this server has not heard of.
        let last = admin.talk("the last").await.seq;
        let mut resumed = Session::resume(pair.b.client().await, &room, "bob", last).await;
        let resumed = resumed.next().await;
        assert!(matches!(resumed.payload, Some(Payload::Resumed(_))), "{resumed:?}");
    }
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_refused_that_was_allowed_elsewhere_before() {
    let (pair, room, mut admin, mut there) = Box::pin(deaf()).await;
    for round in 0..10 {
        let id = format!("llm-{round}");
        let add = pb::AddLlm { llm: Some(crate::harness::llm(&id)) };
        admin.command(Say::AddLlm(add)).await.unwrap();
        there.command(Say::RemoveLlm(pb::RemoveLlm { llm_id: id })).await.unwrap();
        let said = admin.talk("hello").await;
        let edit = pb::EditMessage { message_id: said.event_id, content: "hi".into(), regenerate: false };
        there.command(Say::EditMessage(edit)).await.unwrap();
        let said = admin.talk("read this").await;
        let read = pb::MarkRead { seq: said.seq, message_id: String::new() };
        there.command(Say::MarkRead(read)).await.unwrap();
        let user = format!("user-{round}");
        pair.a.join(&room, &user).await;
        there
            .command(Say::RemoveMember(pb::RemoveMember { user_id: user, ..Default::default() }))
            .await
            .unwrap();
    }
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_calls_an_llm_that_was_added_elsewhere() {
    let answering = ScriptedProvider::with("scripted", |_| Step::answer("Here I am."));
    let pair = Pair::start(nobody(), answering).await;
    let room = pair.room(&[]).await;
    let (mut admin, mut there) = (pair.a.join(&room, "admin").await, pair.b.join(&room, "admin").await);
    pair.cut();
    let add = pb::AddLlm { llm: Some(crate::harness::llm("ada")) };
    admin.command(Say::AddLlm(add)).await.unwrap();
    there.talk("@ada are you here?").await;
    assert_eq!(thinking(&mut there).await.llm_id, "ada");
    assert_eq!(done(&mut there).await.reason(), pb::LlmDoneReason::Completed);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_through_the_other_server_has_the_first_result() {
    let (pair, _, mut here, mut there) = Box::pin(deaf()).await;
    for round in 0..20 {
        let id = format!("once-{round}");
        let (first, second) = if round % 2 == 0 { (&mut here, &mut there) } else { (&mut there, &mut here) };
        let ack = first.command_as(&id, message("hello")).await.unwrap();
        let again = second.command_as(&id, message("hello")).await.unwrap();
        assert_eq!(again, pb::Ack { duplicate: true, ..ack });
        let reused = second.command_as(&id, message("something else")).await.unwrap_err();
        assert_eq!(reused.code, "request_id_reused");
    }
    // At the same time.
    let (one, other) = tokio::join!(
        here.command_as("both", message("at once")),
        there.command_as("both", message("at once"))
    );
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!((one.seq, &one.event_id), (other.seq, &other.event_id));
    assert!(one.duplicate ^ other.duplicate);
    // What has changed nothing has changed nothing again.
    let rename = Say::UpdateRoom(pb::UpdateRoom { name: Some("Test".into()), ..Default::default() });
    let ack = here.command_as("same", rename.clone()).await.unwrap();
    let again = there.command_as("same", rename).await.unwrap();
    assert_eq!((ack.seq, again.seq, again.event_id.as_str()), (0, 0, ""));
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_on_one_server_is_read_on_the_other() {
    let pair = Pair::start(nobody(), nobody()).await;
    let room = pair.room(&[]).await;
    let (mut ann, mut bob) = (pair.a.join(&room, "ann").await, pair.b.join(&room, "bob").await);
    let mut device = pair.b.join(&room, "ann").await;
    let mut last = 0;
    for n in 0..5 {
        last = bob.talk(&format!("message {n}")).await.seq;
    }
    ann.find(|event| event.seq == last).await;
    let read = pb::MarkRead { seq: last, message_id: String::new() };
    ann.command(Say::MarkRead(read)).await.unwrap();
    let receipt = |p: &Payload| if let Payload::ReadReceipt(r) = p { Some(r.clone()) } else { None };
    let told = bob.pick(receipt).await;
    assert_eq!((told.user_id.as_str(), told.seq), ("ann", last));
    // Also one's own other devices, wherever they are.
    let told = device.pick(receipt).await;
    assert_eq!((told.user_id.as_str(), told.seq), ("ann", last));
    pair.cut();
    let last = bob.talk("one more").await.seq;
    let read = pb::MarkRead { seq: last, message_id: String::new() };
    ann.command(Say::MarkRead(read)).await.unwrap();
    let state = pair.b.join(&room, "ann").await.state;
    assert_eq!((state.read_seq, state.unread_count), (last, 0));
    let mut resumed = Session::open(pair.b.client().await).await;
    resumed.say(Say::Join(pb::JoinRoom { after_seq: Some(last), ..join(&room, "ann") })).await;
    let resumed = resumed.pick(|p| if let Payload::Resumed(r) = p { Some(r.clone()) } else { None }).await;
    assert_eq!(resumed.read_seq, last);
    pair.end().await;
}
