//! Every question as SQL. A room that does not exist has no number, and so no rows.

use crate::store::postgres::connections::{Asking, Question};

/// The number of room `$1`.
macro_rules! rid {
    () => {
        "(SELECT rid FROM rooms WHERE id = $1)"
    };
}

/// The namespace of a room, as the indexes of rooms have it.
macro_rules! namespace {
    () => {
        "left(id, greatest(strpos(id, '/') - 1, 0))"
    };
}

/// What [`crate::store::postgres::rows::record`] reads, in its order.
macro_rules! record_columns {
    () => {
        "seq, event_id, at, kind, public, private"
    };
}

const fn read(sql: &'static str) -> Question {
    Question { sql, doing: "read", asking: Asking::ToRead }
}

const fn write(sql: &'static str) -> Question {
    Question { sql, doing: "write", asking: Asking::ToWrite }
}

/// Waits for the appends that the server is carrying out in this room.
pub(super) const AWAIT_APPENDS: Question = read("SELECT head FROM rooms WHERE id = $1 FOR NO KEY UPDATE");
pub(super) const HEAD: Question = read("SELECT head, fence FROM rooms WHERE id = $1");
/// `$3` events, and as many of them as have `$4` bytes: what is beyond is neither read in full nor sent.
pub(super) const READ: Question = read(concat!(
    "SELECT ",
    record_columns!(),
    " FROM (SELECT *, row_number() OVER inorder AS place, sum(octet_length(public)) OVER inorder AS total FROM
        (SELECT ",
    record_columns!(),
    " FROM events WHERE room = ",
    rid!(),
    " AND seq > $2 ORDER BY seq LIMIT $3) AS page
       WINDOW inorder AS (ORDER BY seq ROWS UNBOUNDED PRECEDING)) AS counted
     WHERE place = 1 OR total <= $4 ORDER BY seq"
));
pub(super) const MESSAGES_AFTER: Question = read(concat!(
    "SELECT ",
    record_columns!(),
    " FROM events WHERE room = ",
    rid!(),
    " AND message_seq > $2 ORDER BY message_seq LIMIT $3"
));
pub(super) const MESSAGES_BEFORE: Question = read(concat!(
    "SELECT ",
    record_columns!(),
    " FROM events WHERE room = ",
    rid!(),
    " AND message_seq < $2 ORDER BY message_seq DESC LIMIT $3"
));
pub(super) const ABOUT: Question = read(concat!(
    "SELECT ",
    record_columns!(),
    " FROM events WHERE room = ",
    rid!(),
    " AND subject = ANY ($2) ORDER BY seq"
));
pub(super) const UNREAD: Question = read(concat!(
    "SELECT count(*) FROM (SELECT FROM events WHERE room = ",
    rid!(),
    " AND message_seq > $2 AND sender IS DISTINCT FROM $3 ORDER BY message_seq LIMIT $4) AS others"
));
pub(super) const REQUEST: Question = read(concat!(
    "SELECT first, last, event_id, body_hash FROM requests WHERE room = ",
    rid!(),
    " AND sender = $2 AND request_id = $3"
));
pub(super) const SNAPSHOT: Question =
    read(concat!("SELECT seq, version, state FROM snapshots WHERE room = ", rid!()));
pub(super) const CURSOR: Question =
    read(concat!("SELECT seq FROM cursors WHERE room = ", rid!(), " AND member = $2"));
pub(super) const READ_POSITION: Question = read(
    "SELECT of.seq, (SELECT count(*) FROM (SELECT FROM events WHERE room = of.room
       AND message_seq > of.seq AND sender IS DISTINCT FROM $2 ORDER BY message_seq LIMIT $3) AS others)
     FROM (SELECT rooms.rid AS room, coalesce(cursors.seq, 0) AS seq FROM rooms
       LEFT JOIN cursors ON cursors.room = rooms.rid AND cursors.member = $2 WHERE rooms.id = $1) AS of",
);
pub(super) const PUBLIC_ROOMS: Question = read(concat!(
    "SELECT rid, id FROM rooms WHERE ",
    namespace!(),
    " = $3 AND listed < $1 ORDER BY listed DESC LIMIT $2"
));
/// One row for each of its rooms is read.
pub(super) const USAGE: Question = read(concat!(
    "SELECT count(*), coalesce(sum(bytes), 0)::bigint, coalesce(sum(members), 0)::bigint FROM rooms WHERE ",
    namespace!(),
    " = $1"
));
pub(super) const ROOMS_OF: Question = read(
    "SELECT rid, id FROM
       ((SELECT room FROM members WHERE member = $3 AND room < $1 ORDER BY room DESC LIMIT $2)
        UNION (SELECT created FROM rooms WHERE created_by = $3 AND created < $1 ORDER BY created DESC LIMIT $2)
        ORDER BY 1 DESC LIMIT $2) AS theirs
     JOIN rooms ON rid = room ORDER BY rid DESC",
);
pub(super) const OPEN_RUNS: Question = read("SELECT id, message, node FROM runs JOIN rooms ON rid = room");

pub(super) const SAVE_SNAPSHOT: Question = write(
    "INSERT INTO snapshots AS saved (room, seq, version, state)
     SELECT rid, $2, $3, $4 FROM rooms WHERE id = $1
     ON CONFLICT (room) DO UPDATE SET seq = excluded.seq, version = excluded.version, state = excluded.state
     WHERE excluded.seq >= saved.seq",
);
/// A row only if the cursor was moved.
pub(super) const ADVANCE_CURSOR: Question = write(
    "INSERT INTO cursors AS saved (room, member, seq) SELECT rid, $2, $3 FROM rooms WHERE id = $1
     ON CONFLICT (room, member) DO UPDATE SET seq = excluded.seq WHERE excluded.seq > saved.seq RETURNING seq",
);
/// Passes over what another process is just forgetting.
pub(super) const FORGET_REQUESTS: Question = write(
    "WITH old AS MATERIALIZED
       (SELECT ctid FROM requests WHERE at < $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED),
     gone AS (DELETE FROM requests WHERE ctid = ANY (ARRAY(SELECT ctid FROM old)) RETURNING 1)
     SELECT count(*) FROM gone",
);
/// That the server can be asked and takes writes.
pub(super) const IS_WRITABLE: Question = read("SELECT NOT current_setting('transaction_read_only')::boolean");
/// Takes room on the server's disk, and gives it back.
pub(super) const PROBE: Question =
    Question { asking: Asking::TakesRoom, ..write("INSERT INTO probe (filler) SELECT $1::bytea") };
pub(super) const UNPROBE: Question = write("DELETE FROM probe");
