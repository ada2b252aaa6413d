//! Lists of rooms and of answers that have not ended.

use std::{collections::BTreeSet, sync::Arc};

use salon::{
    domain::{event::DirectoryChange, room::Visibility},
    ids::{MessageId, Namespace, NodeId, RoomId},
    store::{Append, OpenRun, RoomFilter, Store},
};

use super::support::{appended, creation, fact, next_id, plain, room, user};

async fn begin(store: &Arc<dyn Store>, name: &str, visibility: Visibility, creator: Option<&str>) -> RoomId {
    let room = room(name);
    appended(store, &room, creation(visibility, creator)).await;
    room
}

async fn change(store: &Arc<dyn Store>, room: &RoomId, change: DirectoryChange) {
    let append = Append { directory: vec![change], ..plain(vec![fact("changed")]) };
    appended(store, room, append).await;
}

/// The names in a list, all on one page.
async fn listed(store: &Arc<dyn Store>, filter: RoomFilter) -> Vec<String> {
    let listed = store.list_rooms(filter, u64::MAX, 1_000).await.unwrap();
    assert!(listed.is_sorted_by(|a, b| a.position > b.position), "newest first, each once");
    listed.into_iter().map(|listed| listed.room.to_string()).collect()
}

fn of(name: &str) -> RoomFilter {
    RoomFilter::Of(Namespace::default(), user(name))
}

pub async fn public_rooms_are_listed_newest_first(store: Arc<dyn Store>) {
    assert!(listed(&store, RoomFilter::Public(Namespace::default())).await.is_empty());
    for name in ["c", "a", "b"] {
        begin(&store, name, Visibility::Public, Some("ann")).await;
    }
    begin(&store, "hidden", Visibility::Private, Some("ann")).await;
    // Its own log going on does not make a room newer.
    appended(&store, &room("c"), plain(vec![fact("x")])).await;
    assert_eq!(listed(&store, RoomFilter::Public(Namespace::default())).await, ["b", "a", "c"]);
}

pub async fn private_rooms_are_listed_to_members_and_creators(store: Arc<dyn Store>) {
    let joined = begin(&store, "joined", Visibility::Private, None).await;
    change(&store, &joined, DirectoryChange::Joined(user("ann"))).await;
    change(&store, &joined, DirectoryChange::Joined(user("bob"))).await;
    begin(&store, "created", Visibility::Private, Some("ann")).await;
    let both = begin(&store, "both", Visibility::Private, Some("ann")).await;
    change(&store, &both, DirectoryChange::Joined(user("ann"))).await;
    change(&store, &both, DirectoryChange::Joined(user("ann"))).await;
    begin(&store, "public", Visibility::Public, None).await;

    assert_eq!(listed(&store, of("ann")).await, ["both", "created", "joined"]);
    assert_eq!(listed(&store, of("bob")).await, ["joined"]);
    assert!(listed(&store, of("zoe")).await.is_empty());
    assert_eq!(listed(&store, RoomFilter::Public(Namespace::default())).await, ["public"]);
}

pub async fn a_member_who_left_is_not_listed_the_room(store: Arc<dyn Store>) {
    let room = begin(&store, "r", Visibility::Private, Some("ann")).await;
    change(&store, &room, DirectoryChange::Joined(user("ann"))).await;
    change(&store, &room, DirectoryChange::Joined(user("bob"))).await;
    change(&store, &room, DirectoryChange::Left(user("bob"))).await;
    change(&store, &room, DirectoryChange::Left(user("bob"))).await;
    assert!(listed(&store, of("bob")).await.is_empty());
    change(&store, &room, DirectoryChange::Left(user("ann"))).await;
    assert_eq!(listed(&store, of("ann")).await, ["r"], "its creator is listed it all the same");
    change(&store, &room, DirectoryChange::Joined(user("bob"))).await;
    assert_eq!(listed(&store, of("bob")).await, ["r"]);
}

pub async fn a_room_changes_its_list_with_its_visibility(store: Arc<dyn Store>) {
    let room = begin(&store, "r", Visibility::Public, Some("ann")).await;
    let visible = |visibility| DirectoryChange::Room { visibility, created_by: None };
    change(&store, &room, visible(Visibility::Private)).await;
    assert!(listed(&store, RoomFilter::Public(Namespace::default())).await.is_empty());
    assert_eq!(listed(&store, of("ann")).await, ["r"], "who created it is not forgotten");
    change(&store, &room, visible(Visibility::Public)).await;
    assert_eq!(listed(&store, RoomFilter::Public(Namespace::default())).await, ["r"]);
}

pub async fn lists_are_paged_without_a_page_too_many(store: Arc<dyn Store>) {
    for n in 0..10 {
        let room = begin(&store, &format!("r{n}"), Visibility::Public, (n % 2 == 0).then_some("ann")).await;
        change(&store, &room, DirectoryChange::Joined(user("ann"))).await;
        begin(&store, &format!("hidden{n}"), Visibility::Private, None).await;
    }
    for filter in [RoomFilter::Public(Namespace::default()), of("ann")] {
        let mut names = Vec::new();
        let mut before = u64::MAX;
        // One more than a page holds is asked for: that is how a caller knows whether there is a next page.
        loop {
            let page = store.list_rooms(filter.clone(), before, 6).await.unwrap();
            names.extend(page.iter().take(5).map(|listed| listed.room.to_string()));
            if page.len() < 6 {
                break;
            }
            before = page[4].position;
        }
        let want: Vec<_> = (0..10).rev().map(|n| format!("r{n}")).collect();
        assert_eq!(names, want, "{filter:?}");
        assert_eq!(store.list_rooms(filter.clone(), before, 99).await.unwrap().len(), 5);
        let last = store.list_rooms(filter.clone(), u64::MAX, 99).await.unwrap()[9].position;
        assert_eq!(store.list_rooms(filter.clone(), last, 99).await.unwrap(), []);
        assert_eq!(store.list_rooms(filter, u64::MAX, 0).await.unwrap(), []);
    }
}

pub async fn runs_are_open_from_start_to_end(store: Arc<dyn Store>) {
    let (here, there) = (
        begin(&store, "here", Visibility::Private, None).await,
        begin(&store, "there", Visibility::Public, None).await,
    );
    let runs = [next_id(), next_id(), next_id()].map(MessageId);
    change(&store, &here, DirectoryChange::RunStarted(runs[0])).await;
    change(&store, &here, DirectoryChange::RunStarted(runs[1])).await;
    change(&store, &there, DirectoryChange::RunStarted(runs[2])).await;
    let open = async || store.open_runs().await.unwrap().into_iter().collect::<BTreeSet<_>>();
    let of = |room: &RoomId, run| OpenRun { room: room.clone(), run, node: NodeId::NOBODY };
    let (a, b, c) = (of(&here, runs[0]), of(&here, runs[1]), of(&there, runs[2]));
    assert_eq!(open().await, BTreeSet::from([a.clone(), b, c.clone()]));
    change(&store, &here, DirectoryChange::RunEnded(runs[1])).await;
    change(&store, &here, DirectoryChange::RunEnded(runs[1])).await;
    assert_eq!(open().await, BTreeSet::from([a, c.clone()]));
    change(&store, &here, DirectoryChange::RunEnded(runs[0])).await;
    assert_eq!(open().await, BTreeSet::from([c]));
}
