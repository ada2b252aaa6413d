//! `salon rooms`: lists rooms, newest first, as a table or as lines of JSON.

pub mod generate;

use std::io::{BufWriter, Write};

use crate::{
    cli::{
        client::{self, Error, Rooms},
        exit::Exit,
        json::Printer,
        text,
    },
    wire::pb::room::v1::{ListRoomsRequest, RoomInfo, RoomStatus, RoomVisibility},
};

/// The server's own largest page.
const PAGE_MAX: u32 = 100;

/// Longer names are cut in the table; JSON has them whole.
const NAME_CHARS: usize = 40;

/// What `salon rooms` was asked.
#[derive(Debug, Clone, Default)]
pub struct RoomsOptions {
    /// The server.
    pub server: client::Server,
    /// Rooms of this user, private ones included; none: every public room.
    pub user: Option<String>,
    /// Lines of JSON instead of a table.
    pub json: bool,
    /// At most so many rooms; 0: all.
    pub limit: u32,
}

/// Lists the rooms to `out`.
pub async fn run(options: RoomsOptions, out: &mut (impl Write + Send)) -> Result<Exit, Error> {
    let mut client = client::rooms(&options.server).await?;
    let rooms = load(&mut client, &options).await?;
    let mut out = BufWriter::new(out);
    let written = if options.json {
        let printer = Printer::new("room.v1.RoomInfo")?;
        rooms.iter().try_for_each(|room| Ok(writeln!(out, "{}", printer.line(room)?)?))
    } else {
        table(&rooms, &mut out).map_err(Error::from)
    };
    match written.and_then(|()| Ok(out.flush()?)) {
        Err(error) if !error.is_broken_pipe() => Err(error),
        Ok(()) | Err(_) => Ok(Exit::Success),
    }
}

/// Every page until `limit`.
async fn load(client: &mut Rooms, options: &RoomsOptions) -> Result<Vec<RoomInfo>, Error> {
    let wanted =
        if options.limit == 0 { usize::MAX } else { usize::try_from(options.limit).unwrap_or(usize::MAX) };
    let mut rooms = Vec::new();
    let mut cursor = None;
    loop {
        let left = u32::try_from(wanted - rooms.len()).unwrap_or(u32::MAX);
        let request = ListRoomsRequest { user_id: options.user.clone(), limit: left.min(PAGE_MAX), cursor };
        let page = client
            .list_rooms(request)
            .await
            .map_err(|status| Error::from_status(&status, None))?
            .into_inner();
        let empty = page.rooms.is_empty();
        rooms.extend(page.rooms);
        rooms.truncate(wanted);
        cursor = page.next_cursor;
        // An empty page that promises another one would turn this into a loop without end.
        if cursor.is_none() || empty || rooms.len() == wanted {
            return Ok(rooms);
        }
    }
}

fn table(rooms: &[RoomInfo], out: &mut impl Write) -> std::io::Result<()> {
    if rooms.is_empty() {
        return writeln!(out, "no rooms yet; `salon chat ROOM --create` creates one");
    }
    let header = ["ROOM", "NAME", "STATUS", "MEMBERS", "LLMS", "CREATED"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(rooms.iter().map(row)).collect();
    text::columns(&rows, out)
}

fn row(room: &RoomInfo) -> [String; 6] {
    let status = match (room.status(), room.visibility()) {
        (RoomStatus::Ended, _) => "ended",
        (_, RoomVisibility::Private) => "private",
        (RoomStatus::Waiting, _) => "waiting",
        (RoomStatus::Active | RoomStatus::Unspecified, _) => "active",
    };
    let created = room.created_at.map(|at| prost_types::Timestamp { nanos: 0, ..at }.to_string());
    [
        text::line(&room.room_id),
        text::excerpt(&room.name, NAME_CHARS),
        status.to_owned(),
        room.member_count.to_string(),
        room.llms.len().to_string(),
        created.unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lines_up_for_any_script_and_shows_no_escapes() {
        let room = |id: &str, name: &str| RoomInfo {
            room_id: id.into(),
            name: name.into(),
            created_at: Some(prost_types::Timestamp { seconds: 0, nanos: 1 }),
            ..Default::default()
        };
        let mut out = Vec::new();
        table(&[room("tea", "茶室"), room("red", "\u{1b}[31mred")], &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let expected = "ROOM  NAME  STATUS  MEMBERS  LLMS  CREATED\n\
                        tea   茶室  active  0        0     1970-01-01T00:00:00Z\n\
                        red   red   active  0        0     1970-01-01T00:00:00Z\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn without_rooms_it_says_how_to_get_one() {
        let mut out = Vec::new();
        table(&[], &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains("--create"));
    }
}
