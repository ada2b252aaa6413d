//! The tables, and how a file of an earlier version becomes one of this version.
//!
//! `user_version` counts the steps a file has had. A step is never changed once it was released: a new one is
//! added. A file with more steps than this build knows is refused and left as it is.
//!
//! Why the tables are as they are: events go into a rowid table in the order they come, so that only the index is
//! written at random places; rooms are small integers in every index; each question of [`crate::store::Store`] has
//! one index that answers it.

use rusqlite::{Connection, TransactionBehavior};

use crate::store::{
    Error, ErrorKind,
    sqlite::failure::{error, failed},
};

/// "SALO": tells a file of this store from another program's database.
const APPLICATION_ID: i64 = 0x5341_4C4F;

/// The steps, oldest first.
const STEPS: [&str; 5] = [FIRST, LEDGER, NODES, NAMESPACES, MEMBERS];

const FIRST: &str = "
CREATE TABLE rooms (
    rid        INTEGER PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,
    head       INTEGER NOT NULL,
    fence      INTEGER NOT NULL,
    visibility INTEGER NOT NULL,
    created_by TEXT
) STRICT;
CREATE INDEX rooms_listed ON rooms (visibility);
CREATE INDEX rooms_created ON rooms (created_by) WHERE created_by IS NOT NULL;

CREATE TABLE events (
    gid      INTEGER PRIMARY KEY,
    room     INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    kind     INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    event_id BLOB    NOT NULL,
    sender   TEXT,
    subject  BLOB,
    public   BLOB    NOT NULL,
    private  BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_place ON events (room, seq);
CREATE INDEX events_messages ON events (room, seq, sender) WHERE kind = 1;
CREATE INDEX events_subject ON events (subject) WHERE subject IS NOT NULL;

CREATE TABLE requests (
    room       INTEGER NOT NULL,
    sender     TEXT    NOT NULL,
    request_id TEXT    NOT NULL,
    first      INTEGER NOT NULL,
    last       INTEGER NOT NULL,
    event_id   BLOB    NOT NULL,
    body_hash  INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (room, sender, request_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_at ON requests (at);

CREATE TABLE members (
    user TEXT    NOT NULL,
    room INTEGER NOT NULL,
    PRIMARY KEY (user, room)
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
    room    INTEGER NOT NULL,
    message BLOB    NOT NULL,
    PRIMARY KEY (room, message)
) STRICT, WITHOUT ROWID;

CREATE TABLE cursors (
    room INTEGER NOT NULL,
    user TEXT    NOT NULL,
    seq  INTEGER NOT NULL,
    PRIMARY KEY (room, user)
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshots (
    room    INTEGER PRIMARY KEY,
    seq     INTEGER NOT NULL,
    version INTEGER NOT NULL,
    state   BLOB    NOT NULL
) STRICT;

CREATE TABLE probe (
    filler BLOB NOT NULL
) STRICT;
";

/// What a reservation holds names its accounts by key and window, not by a number: a number could be used again for
/// another account after this one was forgotten.
const LEDGER: &str = "
CREATE TABLE accounts (
    key        TEXT    NOT NULL,
    begins     INTEGER NOT NULL,
    spent      INTEGER NOT NULL,
    reserved   INTEGER NOT NULL,
    keep_until INTEGER NOT NULL,
    PRIMARY KEY (key, begins)
) STRICT, WITHOUT ROWID;
CREATE INDEX accounts_kept ON accounts (keep_until);

CREATE TABLE reservations (
    id  BLOB    NOT NULL PRIMARY KEY,
    run BLOB    NOT NULL,
    at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE reserved (
    reservation BLOB    NOT NULL,
    line        INTEGER NOT NULL,
    key         TEXT    NOT NULL,
    begins      INTEGER NOT NULL,
    amount      INTEGER NOT NULL,
    PRIMARY KEY (reservation, line)
) STRICT, WITHOUT ROWID;
";

/// Who has begun what. What was open before belongs to nobody: a node whose id is nothing but zeros.
const NODES: &str = "
ALTER TABLE runs ADD COLUMN node BLOB NOT NULL DEFAULT x'00000000000000000000000000000000';
ALTER TABLE reservations ADD COLUMN node BLOB NOT NULL DEFAULT x'00000000000000000000000000000000';

CREATE TABLE leases (
    node BLOB    NOT NULL PRIMARY KEY,
    beat INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Documents, and namespaces: a room's is what its id says, the default one being empty. Lists of rooms are by it, and
/// users stand in them by their keys, which in the default namespace are their ids. What is there has been counted once
/// here.
const NAMESPACES: &str = "
CREATE TABLE documents (
    folder   TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    body     BLOB    NOT NULL,
    PRIMARY KEY (folder, name)
) STRICT;

ALTER TABLE rooms ADD COLUMN namespace TEXT
    GENERATED ALWAYS AS (substr(id, 1, max(instr(id, '/') - 1, 0))) VIRTUAL;
DROP INDEX rooms_listed;
CREATE INDEX rooms_listed ON rooms (namespace, visibility);

CREATE TABLE usage (
    namespace TEXT    NOT NULL PRIMARY KEY,
    rooms     INTEGER NOT NULL,
    bytes     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO usage (namespace, rooms, bytes)
    SELECT namespace, count(*), 0 FROM rooms GROUP BY namespace;
UPDATE usage SET bytes = (
    SELECT coalesce(sum(length(public) + length(private)), 0)
    FROM events JOIN rooms ON rid = room WHERE rooms.namespace = usage.namespace
);
";

/// Memberships, counted by namespace. What is there has been counted once here.
const MEMBERS: &str = "
ALTER TABLE usage ADD COLUMN members INTEGER NOT NULL DEFAULT 0;
UPDATE usage SET members = counted.members
    FROM (SELECT namespace, count(*) AS members FROM members JOIN rooms ON rid = room GROUP BY namespace) AS counted
    WHERE counted.namespace = usage.namespace;
";

/// Refuses a file that this build must not touch. Nothing is written.
pub(super) fn inspect(connection: &Connection) -> Result<(), Error> {
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let read = || -> rusqlite::Result<_> {
        Ok((
            number("PRAGMA application_id")?,
            number("PRAGMA user_version")?,
            number("SELECT count(*) FROM sqlite_schema")?,
        ))
    };
    let (application, version, tables) = read().map_err(|source| failed("read its file", source))?;
    if tables == 0 && application == 0 && version == 0 {
        return Ok(());
    }
    if application != APPLICATION_ID {
        let what = "found a database of another program: set store.path to another file";
        return Err(error(ErrorKind::Unusable, what));
    }
    if version > newest() {
        let what = format!(
            "found a file of schema version {version}, but this build knows versions up to {}: use the newer \
             build that wrote the file, or set store.path to another file",
            newest()
        );
        return Err(error(ErrorKind::Unusable, what));
    }
    Ok(())
}

/// Refuses a file that was not brought to this build's version yet.
pub(super) fn is_newest(connection: &Connection) -> Result<(), Error> {
    let version: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|source| failed("read its file", source))?;
    if version == newest() {
        return Ok(());
    }
    let what = format!(
        "found a file of schema version {version}, and this build writes version {}: use the build that wrote the \
         file, or start this build's server once, which brings the file to its version",
        newest()
    );
    Err(error(ErrorKind::Unusable, what))
}

/// Brings the file to this build's version, one step and one transaction after the other.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Error> {
    let apply = |connection: &mut Connection| -> rusqlite::Result<()> {
        let had: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let missing = (1..).zip(STEPS).filter(|(version, _)| *version > had);
        for (version, step) in missing {
            let step_taken = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            step_taken.execute_batch(step)?;
            step_taken.pragma_update(None, "application_id", APPLICATION_ID)?;
            step_taken.pragma_update(None, "user_version", version)?;
            step_taken.commit()?;
        }
        Ok(())
    };
    apply(connection).map_err(|source| failed("bring its file to this build's version", source))
}

/// Reads the beginning of each table, so that gross damage is found at the start and not by a user.
pub(super) fn touch(connection: &Connection) -> Result<(), Error> {
    let walk = || -> rusqlite::Result<()> {
        let mut names = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
        for name in names.query_map([], |row| row.get::<_, String>(0))? {
            let any = format!("SELECT EXISTS (SELECT 1 FROM \"{}\" NOT INDEXED)", name?);
            connection.query_row(&any, [], |_| Ok(()))?;
        }
        Ok(())
    };
    walk().map_err(|source| failed("read its file", source))
}

fn newest() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_gets_every_step_once() {
        let mut connection = Connection::open_in_memory().unwrap();
        inspect(&connection).unwrap();
        migrate(&mut connection).unwrap();
        migrate(&mut connection).unwrap();
        inspect(&connection).unwrap();
        touch(&connection).unwrap();
    }

    #[test]
    fn a_file_of_the_first_version_keeps_what_it_holds() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(FIRST).unwrap();
        connection.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        connection.execute("INSERT INTO rooms VALUES (1, 'r', 5, 3, 0, NULL)", []).unwrap();
        connection.execute("INSERT INTO rooms VALUES (2, 'acme/r', 5, 3, 0, NULL)", []).unwrap();
        connection.execute("INSERT INTO runs VALUES (1, x'01')", []).unwrap();
        let members = "INSERT INTO members VALUES ('ann', 1), ('bob', 1), ('acme/ann', 2)";
        connection.execute(members, []).unwrap();
        let event = "INSERT INTO events (room, seq, kind, at, event_id, public, private) \
                     VALUES (1, 1, 0, 0, x'', x'010203', x'0405')";
        connection.execute(event, []).unwrap();
        inspect(&connection).unwrap();
        migrate(&mut connection).unwrap();
        let number = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(number("PRAGMA user_version"), newest());
        assert_eq!(number("SELECT head FROM rooms WHERE id = 'r'"), 5);
        assert_eq!(number("SELECT count(*) FROM accounts"), 0);
        // What there was has been counted, for the namespace it is in.
        assert_eq!(number("SELECT rooms * 100 + bytes FROM usage WHERE namespace = ''"), 105);
        assert_eq!(number("SELECT members FROM usage WHERE namespace = ''"), 2);
        assert_eq!(number("SELECT members FROM usage WHERE namespace = 'acme'"), 1);
        // What was open belongs to nobody.
        assert_eq!(number("SELECT count(*) FROM runs WHERE node = zeroblob(16)"), 1);
    }

    #[test]
    fn another_programs_database_is_refused() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
        let refused = inspect(&connection).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Unusable);
        assert!(refused.what.contains("another program"), "{refused}");
    }
}
