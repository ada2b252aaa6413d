//! No answer and no event is larger than what a gRPC client takes unless told otherwise: 4 MiB.

use std::sync::Arc;

use prost::Message as _;
use salon::{
    clock::Timestamp,
    domain::{
        apply,
        event::{DirectoryChange, Event, Kind, NewRoom, Recorded},
        message::Author,
        poll::{Ballot, Poll, PollOption},
        room::{Profile, Room, Visibility},
    },
    ids::{EventId, MessageId, NodeId, OptionId, PollId, RoomId, Seq, UserId},
    store::{Append, NewRecord, Store, memory::MemoryStore},
    wire::{
        decode, encode,
        pb::room::v1::{
            self as pb, client_message::Payload as Say, room_service_client::RoomServiceClient,
            server_event::Payload,
        },
    },
};
use uuid::Uuid;

use crate::harness::{Session, Setup, TestServer, llm};

/// Where a page ends, with some space for what is around its items.
const PAGE: usize = 2 * 1024 * 1024 + 1024;

/// The longest text of so many characters.
fn long(chars: usize) -> String {
    "\u{1F600}".repeat(chars)
}

async fn append_broken_room(store: &dyn Store, id: &str) {
    let record = NewRecord {
        event_id: EventId(Uuid::now_v7()),
        at: Timestamp(1),
        kind: Kind::Other,
        sender: None,
        subject: None,
        moves_fence: true,
        public: "no event".into(),
        private: "nor this".into(),
    };
    let directory = vec![DirectoryChange::Room { visibility: Visibility::Public, created_by: None }];
    let append = Append {
        records: vec![record],
        fence: Some(Seq::ZERO),
        idempotency: None,
        directory,
        node: NodeId::NOBODY,
    };
    store.append(&RoomId::parse(id).unwrap(), vec![append]).await.unwrap();
}

#[tokio::test]
async fn a_list_of_large_rooms_has_more_pages_and_no_broken_room_ends_it() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let server = Setup::default().store(Arc::clone(&store)).start().await;
    let mut created = Vec::new();
    for n in 0..5 {
        let llms = (0..32)
            .map(|llm_n| pb::LlmConfig { persona: long(8000), ..llm(&format!("bot-{llm_n}")) })
            .collect();
        let request = pb::CreateRoomRequest {
            name: "Large".into(),
            room_id: Some(format!("room-{n}")),
            llms,
            ..Default::default()
        };
        created.push(server.create(request).await);
        if n == 2 {
            append_broken_room(store.as_ref(), "broken").await;
        }
    }
    // A client that was told nothing of sizes.
    let mut client = RoomServiceClient::new(server.channel().await);
    let (mut listed, mut pages) = (Vec::new(), 0);
    let mut request = pb::ListRoomsRequest { limit: 100, ..Default::default() };
    loop {
        let page = client.list_rooms(request.clone()).await.unwrap().into_inner();
        assert!(page.encoded_len() <= PAGE, "{}", page.encoded_len());
        listed.extend(page.rooms.into_iter().map(|room| room.room_id));
        pages += 1;
        match page.next_cursor {
            Some(cursor) => request.cursor = Some(cursor),
            None => break,
        }
    }
    created.reverse();
    assert_eq!((listed, pages), (created, 3));
    server.shutdown().await;
}

fn large_poll() -> pb::CreatePoll {
    let option = |n: usize| pb::PollOptionInput { text: format!("{n}{}", long(198)), description: long(500) };
    pb::CreatePoll { question: long(1000), options: (10..30).map(option).collect(), ..Default::default() }
}

async fn ask(session: &mut Session) -> String {
    let ack = session.command(Say::CreatePoll(large_poll())).await.unwrap();
    match session.find(|event| event.seq == ack.last_seq).await.payload {
        Some(Payload::PollCreated(created)) => created.poll.unwrap().poll_id,
        other => panic!("not a poll: {other:?}"),
    }
}

#[tokio::test]
async fn polls_count_on_a_page_of_history_and_in_a_room_state() {
    let server = TestServer::start().await;
    let room = server.room(&[]).await;
    let mut ann = server.join(&room, "ann").await;
    let mut asked = Vec::new();
    for n in 0..80 {
        let poll_id = ask(&mut ann).await;
        asked.push(poll_id.clone());
        // As many as may be open stay open.
        if n >= 31 {
            ann.command(Say::ClosePoll(pb::ClosePoll { poll_id })).await.unwrap();
        }
    }
    let mut client = RoomServiceClient::new(server.channel().await);
    for after_seq in [None, Some(0)] {
        let mut request =
            pb::LoadHistoryRequest { room_id: room.clone(), limit: 1000, after_seq, ..Default::default() };
        let mut found = Vec::new();
        loop {
            let page = client.load_history(request.clone()).await.unwrap().into_inner();
            assert!(page.encoded_len() <= PAGE, "{}", page.encoded_len());
            let announced: Vec<_> = page.messages.iter().map(|m| m.poll_id.clone().unwrap()).collect();
            assert_eq!(page.polls.iter().map(|poll| poll.poll_id.clone()).collect::<Vec<_>>(), announced);
            found.push(announced);
            match page.next_cursor {
                Some(cursor) => (request.cursor, request.after_seq) = (Some(cursor), None),
                None => break,
            }
        }
        if after_seq.is_none() {
            found.reverse();
        }
        assert_eq!((found.len() > 2, found.concat()), (true, asked.clone()));
    }
    let late = Session::join(client, &room, "late").await;
    assert!(late.state.encoded_len() <= 3 * 1024 * 1024, "{}", late.state.encoded_len());
    let open = late.state.polls.iter().filter(|poll| poll.status() == pb::PollStatus::PollOpen).count();
    assert_eq!(open, 31, "every open poll is there");
    server.shutdown().await;
}

fn room() -> Room {
    let profile = Profile {
        name: "R".into(),
        description: String::new(),
        visibility: Visibility::Public,
        settings: Default::default(),
    };
    let id = RoomId::parse("room").unwrap();
    let event = Event::RoomCreated(NewRoom { id, profile, created_by: None, llms: Vec::new() });
    apply::create(&Recorded { seq: Seq(1), event_id: EventId(Uuid::now_v7()), at: Timestamp(1), event })
        .unwrap()
}

/// A closed poll of 20 options, all of which everybody has chosen.
fn closed(voters: usize, reason: &str) -> Poll {
    let options: Vec<OptionId> = (0..20).map(OptionId::at).collect();
    let option = |id: &OptionId| PollOption { id: id.clone(), text: "t".into(), description: String::new() };
    let ballot = |n: usize| {
        let (voter_name, reason) = (format!("Voter {n}"), reason.to_owned());
        let voter = Author::User(UserId::parse(&format!("user-{n:04}")).unwrap());
        (voter, Ballot { voter_name, options: options.clone(), reason, at: Timestamp(2) })
    };
    Poll {
        id: PollId(Uuid::now_v7()),
        message_id: MessageId(Uuid::now_v7()),
        creator: Author::User(UserId::parse("ann").unwrap()),
        creator_name: "Ann".into(),
        question: "?".into(),
        options: options.iter().map(option).collect(),
        allow_multiple: true,
        anonymous: false,
        mandatory: false,
        hide_results: false,
        created_at: Timestamp(1),
        closes_at: None,
        closed_at: Some(Timestamp(3)),
        ballots: (0..voters).map(ballot).collect(),
        quorum: 0,
        abstentions: Vec::new(),
        asked_by: None,
    }
}

#[test]
fn a_closed_poll_shows_what_fits_and_keeps_every_ballot() {
    let all_shown = |poll: &pb::Poll, voters: usize| poll.options.iter().all(|o| o.votes.len() == voters);
    for (voters, reason, whole) in [
        (3, long(1000), true),
        // Reasons, then the votes themselves are too many; then there are too many voters.
        (60, long(1000), false),
        (199, "because".to_owned(), false),
        (3000, String::new(), false),
    ] {
        let poll = closed(voters, &reason);
        let event = Event::PollClosed { poll: poll.clone(), by: None, by_name: String::new() };
        let recorded = Recorded { seq: Seq(2), event_id: EventId(Uuid::now_v7()), at: Timestamp(3), event };
        let bytes = encode::event(&room(), &recorded);
        assert!(bytes.public.len() <= 80 * 1024, "{voters}: {}", bytes.public.len());
        let read = decode::event(Seq(2), &bytes.public, &bytes.private).unwrap();
        assert_eq!(read, recorded, "no ballot is lost");
        let Some(Payload::PollClosed(shown)) = pb::ServerEvent::decode(&bytes.public[..]).unwrap().payload
        else {
            panic!("not the end of a poll")
        };
        let shown = shown.poll.unwrap();
        assert_eq!((all_shown(&shown, voters), bytes.private.is_empty()), (whole, whole), "{voters}");
        assert!(shown.options.iter().all(|option| option.vote_count as usize == voters));
        let under_first = |n: usize| shown.options[n].votes.iter().all(|vote| vote.reason == reason);
        assert!(under_first(0) && !shown.options[0].votes.is_empty());
        assert!(shown.options[1].votes.iter().all(|vote| vote.reason.is_empty()));
    }
}
