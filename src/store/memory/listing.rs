//! [`crate::store::Store::inventory`] in memory. Each page looks at all of it: nobody backs up what is gone at the end.

use crate::{
    ids::RoomId,
    store::{
        inventory::{Inventory, Item, KeptRequest, ListedRoom},
        memory::{Room, State},
    },
};

/// Up to `limit` of what is behind `after`.
pub(super) fn list(state: &State, of: &Inventory, after: Option<&Item>, limit: usize) -> Vec<Item> {
    let mut items = all(state, of);
    items.sort_by_key(place);
    let after = after.map(place);
    items
        .into_iter()
        .filter(|item| after.as_ref().is_none_or(|after| place(item) > *after))
        .take(limit)
        .collect()
}

fn all(state: &State, of: &Inventory) -> Vec<Item> {
    match of {
        Inventory::Rooms => state
            .order
            .iter()
            .filter_map(|(position, id)| Some(listed(*position, id, state.rooms.get(id)?)))
            .collect(),
        Inventory::Requests(room) => state.rooms.get(room).map(requests).unwrap_or_default(),
        Inventory::Cursors(room) => state.rooms.get(room).map(cursors).unwrap_or_default(),
        Inventory::Members => state.rooms.iter().flat_map(|(id, room)| members(id, room)).collect(),
        Inventory::Accounts => state.accounts.all().map(Item::Account).collect(),
        Inventory::Documents => {
            let all = state.documents.all();
            all.map(|(folder, document)| Item::Document { folder: folder.clone(), document }).collect()
        }
        // All of a room is in its entry.
        Inventory::Strays => Vec::new(),
    }
}

/// What items of one kind are in the order of.
fn place(item: &Item) -> (u64, i64, String, String) {
    match item {
        Item::Room(room) => (room.position, 0, String::new(), String::new()),
        Item::Request(request) => (0, 0, request.sender.to_string(), request.request_id.to_string()),
        Item::Cursor { user, .. } => (0, 0, user.to_string(), String::new()),
        Item::Member { user, room } => (0, 0, user.to_string(), room.to_string()),
        Item::Stray { number } => (*number, 0, String::new(), String::new()),
        Item::Document { folder, document } => (0, 0, folder.to_string(), document.name.clone()),
        Item::Account(kept) => (0, kept.account.begins.0, kept.account.key.clone(), String::new()),
    }
}

fn listed(position: u64, id: &RoomId, room: &Room) -> Item {
    Item::Room(ListedRoom {
        room: id.clone(),
        position,
        visibility: room.visibility,
        created_by: room.created_by.clone(),
    })
}

fn requests(room: &Room) -> Vec<Item> {
    let kept = room.requests.iter().map(|((sender, request_id), request)| {
        Item::Request(KeptRequest {
            sender: sender.clone(),
            request_id: request_id.clone(),
            receipt: request.receipt,
            body_hash: request.body_hash,
        })
    });
    kept.collect()
}

fn cursors(room: &Room) -> Vec<Item> {
    room.cursors.iter().map(|(user, seq)| Item::Cursor { user: user.clone(), seq: *seq }).collect()
}

fn members<'a>(id: &'a RoomId, room: &'a Room) -> impl Iterator<Item = Item> + 'a {
    room.members.iter().map(|user| Item::Member { user: user.clone(), room: id.clone() })
}
