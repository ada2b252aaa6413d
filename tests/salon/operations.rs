//! Backup, restore and verify: what an operator relies on when something else has gone wrong.

mod chain;
mod damage;
mod namespaces;
mod round_trip;

use std::{path::Path, sync::Arc};

use salon::{
    clock::Timestamp,
    ops::{
        self,
        verify::{Finding, Report},
    },
    store::{
        self, Store,
        config::{Durability, StoreConfig},
        inventory::{Inventory, Item},
    },
    wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload},
};

use crate::harness::{Setup, TestServer, llm, session::message};

pub fn sqlite(file: &Path) -> StoreConfig {
    // These tests are not about the loss of power.
    StoreConfig { path: file.to_owned(), durability: Durability::Os, ..StoreConfig::default() }
}

/// A server that keeps its logs here.
pub async fn serving(config: &StoreConfig) -> (TestServer, Arc<dyn Store>) {
    let store = store::open::open(config).await.unwrap();
    (Setup::default().store(Arc::clone(&store)).start().await, store)
}

/// Rooms in which all kinds of things have happened: people, answers, polls, edits, reactions, bans, cursors, accounts.
pub async fn live(server: &TestServer) -> Vec<String> {
    let mut rooms = Vec::new();
    for number in 0..3 {
        let room = server
            .create(pb::CreateRoomRequest {
                room_id: Some(format!("room-{number}")),
                name: format!("Room {number}"),
                created_by: "admin".into(),
                visibility: visibility(number == 1).into(),
                llms: vec![llm("ada")],
                ..Default::default()
            })
            .await;
        let mut ann = server.join(&room, "ann").await;
        let mut bob = server.join(&room, "Zoë 🦊").await;
        let mut admin = server.join(&room, "admin").await;
        ann.talk("@ada hello").await;
        ann.find(|event| matches!(event.payload, Some(Payload::LlmDone(_)))).await;
        let said = ann.talk("first").await;
        // More than a restore puts into one call.
        for line in 0..if number == 0 { 600 } else { 20 } {
            bob.talk(&format!("line {line} {}", "x".repeat(line))).await;
        }
        let message_id = said.event_id;
        let edit = Say::EditMessage(pb::EditMessage {
            message_id: message_id.clone(),
            content: "edited".into(),
            ..Default::default()
        });
        ann.command(edit).await.unwrap();
        let react = pb::React { message_id, emoji: "👍".into(), ..Default::default() };
        bob.command(Say::React(react)).await.unwrap();
        let option = |text: &str| pb::PollOptionInput { text: text.into(), ..Default::default() };
        let poll = pb::CreatePoll {
            question: "Tea?".into(),
            options: vec![option("yes"), option("no")],
            ..Default::default()
        };
        ann.command(Say::CreatePoll(poll)).await.unwrap();
        admin.command(Say::MarkRead(pb::MarkRead { seq: 5, ..Default::default() })).await.unwrap();
        bob.command(Say::MarkRead(pb::MarkRead { seq: 9, ..Default::default() })).await.unwrap();
        ann.command(message("last")).await.unwrap();
        rooms.push(room);
    }
    rooms
}

fn visibility(is_private: bool) -> pb::RoomVisibility {
    if is_private { pb::RoomVisibility::Private } else { pb::RoomVisibility::Public }
}

/// All that a store keeps, to be compared with another.
pub async fn contents(store: &dyn Store) -> Vec<String> {
    let mut all = Vec::new();
    let mut rooms = Vec::new();
    for of in [Inventory::Rooms, Inventory::Members, Inventory::Accounts] {
        for item in listed(store, of).await {
            all.push(match item {
                Item::Room(room) => {
                    rooms.push(room.room.clone());
                    format!("{} {:?} {:?}", room.room, room.visibility, room.created_by)
                }
                // What was reserved counts as spent.
                Item::Account(kept) => {
                    format!("{:?} {} {:?}", kept.account, kept.balance.used(), kept.keep_until)
                }
                other => format!("{other:?}"),
            });
        }
    }
    for room in rooms {
        all.push(format!("{:?}", store.head(&room).await.unwrap()));
        for of in [Inventory::Requests(room.clone()), Inventory::Cursors(room.clone())] {
            all.extend(listed(store, of).await.into_iter().map(|item| format!("{room} {item:?}")));
        }
        let everything = salon::store::Page { events: 1_000_000, bytes: usize::MAX };
        let log = store.read(&room, salon::ids::Seq::ZERO, everything).await.unwrap();
        all.extend(log.into_iter().map(|record| format!("{record:?}")));
    }
    let mut runs: Vec<String> = store
        .open_runs()
        .await
        .unwrap()
        .into_iter()
        .map(|open| format!("open {} in {}", open.run, open.room))
        .collect();
    runs.sort();
    all.extend(runs);
    all
}

pub async fn listed(store: &dyn Store, of: Inventory) -> Vec<Item> {
    let mut all: Vec<Item> = Vec::new();
    loop {
        let page = store.inventory(&of, all.last(), 100).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// Everything that is wrong.
pub async fn verify(store: &dyn Store) -> (Report, Vec<String>) {
    let mut findings = Vec::new();
    let mut tell = |finding: Finding| findings.push(finding.to_string());
    let report = ops::verify::run(store, &mut tell).await.unwrap();
    assert_eq!(report.findings, findings.len() as u64);
    (report, findings)
}

pub async fn back_up(store: &dyn Store, file: &Path) -> salon::wire::backup::End {
    ops::backup::run(store, file, Timestamp(1)).await.unwrap()
}
