//! Which part may follow which: a backup whose parts are whole but not all there, or not in their order, is none.

use crate::{
    ids::Seq,
    wire::backup::{End, OLDEST, Part, RoomEnd, RoomHead, VERSION},
};

/// What has been seen so far.
#[derive(Debug, Default)]
pub(super) struct Order {
    at: At,
    seen: End,
}

#[derive(Debug, Default)]
enum At {
    /// Before the header.
    #[default]
    Begin,
    /// Between rooms.
    Between,
    /// Inside of a room.
    Room(RoomHead, RoomEnd),
    /// Behind the rooms.
    Accounts,
    /// Behind the accounts.
    Documents,
    /// Behind the end.
    End,
}

impl Order {
    /// Whether the end has come.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.at, At::End)
    }

    /// Takes the next part, or says why it cannot be the next.
    pub(super) fn take(&mut self, part: &Part) -> Result<(), String> {
        let at = std::mem::take(&mut self.at);
        self.at = match (at, part) {
            (At::Begin, Part::Header(header)) if (OLDEST..=VERSION).contains(&header.version) => At::Between,
            (At::Begin, Part::Header(header)) => {
                return Err(format!(
                    "it has the format {}, and this build reads the formats {OLDEST} to {VERSION}: use the build that wrote it ({})",
                    header.version, header.program
                ));
            }
            (At::Between, Part::Room(head)) => At::Room(head.clone(), RoomEnd::default()),
            (At::Room(head, seen), part) => self.in_room(head, seen, part)?,
            (At::Between | At::Accounts, Part::Account(_)) => {
                self.seen.accounts += 1;
                At::Accounts
            }
            (At::Between | At::Accounts | At::Documents, Part::Document(_)) => {
                self.seen.documents += 1;
                At::Documents
            }
            (At::Between | At::Accounts | At::Documents, Part::End(end)) if *end == self.seen => At::End,
            (At::Between | At::Accounts | At::Documents, Part::End(end)) => {
                return Err(format!("its end speaks of {end:?}, but there were {:?}", self.seen));
            }
            (at, part) => return Err(format!("a part is not in its place: {} {}", name(part), place(&at))),
        };
        Ok(())
    }

    fn in_room(&mut self, head: RoomHead, mut seen: RoomEnd, part: &Part) -> Result<At, String> {
        let room = &head.room;
        match part {
            Part::Request(request) if seen.events == 0 => {
                if request.first < Seq(1) || request.first > request.last || request.last > head.head {
                    return Err(format!("a key of room {room} points at events that are not there"));
                }
                seen.requests += 1;
            }
            Part::Event(event) if seen.cursors == 0 => {
                seen.events += 1;
                if event.seq != Seq(seen.events) {
                    return Err(format!(
                        "room {room} has event {} in the place of {}",
                        event.seq, seen.events
                    ));
                }
            }
            Part::Cursor { .. } if Seq(seen.events) == head.head => seen.cursors += 1,
            Part::RoomEnd(end) if *end == seen && Seq(seen.events) == head.head => {
                self.seen.rooms += 1;
                self.seen.events += seen.events;
                return Ok(At::Between);
            }
            part => {
                return Err(format!(
                    "room {room} ends at event {}, and behind {} of them comes {}",
                    head.head,
                    seen.events,
                    name(part)
                ));
            }
        }
        Ok(At::Room(head, seen))
    }
}

fn name(part: &Part) -> &'static str {
    match part {
        Part::Header(_) => "the header",
        Part::Room(_) => "a room",
        Part::Request(_) => "a key",
        Part::Event(_) => "an event",
        Part::Cursor { .. } => "a cursor",
        Part::RoomEnd(_) => "the end of a room",
        Part::Account(_) => "an account",
        Part::Document(_) => "a document",
        Part::End(_) => "the end",
    }
}

fn place(at: &At) -> &'static str {
    match at {
        At::Begin => "at the beginning",
        At::Between => "between rooms",
        At::Room(..) => "inside of a room",
        At::Accounts => "behind the rooms",
        At::Documents => "behind the accounts",
        At::End => "behind the end",
    }
}
