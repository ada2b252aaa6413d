//! Documents as rows. Each write is one statement, which says by a row whether what it found was expected: of many that
//! expect the same, all but one wait for that one's row and find another revision then.

use tokio_postgres::Row;

use crate::store::{
    Error,
    documents::{Document, Expect, Folder},
    inventory::Item,
    postgres::{
        connections::{Asking, Connections, Question},
        rows,
    },
};

const fn read(sql: &'static str) -> Question {
    Question { sql, doing: "read a document", asking: Asking::ToRead }
}

const fn write(sql: &'static str, asking: Asking) -> Question {
    Question { sql, doing: "write a document", asking }
}

pub(super) const ONE: Question =
    read("SELECT name, revision, body FROM documents WHERE folder = $1 AND name = $2");
pub(super) const PAGE: Question =
    read("SELECT name, revision, body FROM documents WHERE folder = $1 AND name > $2 ORDER BY name LIMIT $3");
const WRITE: Question = write(
    "INSERT INTO documents AS kept (folder, name, revision, body) VALUES ($1, $2, 1, $3)
     ON CONFLICT (folder, name) DO UPDATE SET revision = kept.revision + 1, body = excluded.body RETURNING 1",
    Asking::TakesRoom,
);
const WRITE_NEW: Question = write(
    "INSERT INTO documents (folder, name, revision, body) VALUES ($1, $2, 1, $3)
     ON CONFLICT (folder, name) DO NOTHING RETURNING 1",
    Asking::TakesRoom,
);
const REPLACE: Question = write(
    "UPDATE documents SET revision = revision + 1, body = $3 WHERE folder = $1 AND name = $2 AND revision = $4
     RETURNING 1",
    Asking::TakesRoom,
);
const REMOVE: Question =
    write("WITH gone AS (DELETE FROM documents WHERE folder = $1 AND name = $2) SELECT 1", Asking::ToWrite);
const REMOVE_REVISION: Question = write(
    "DELETE FROM documents WHERE folder = $1 AND name = $2 AND revision = $3 RETURNING 1",
    Asking::ToWrite,
);
const IS_GONE: Question =
    read("SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM documents WHERE folder = $1 AND name = $2)");

/// [`crate::store::Store::document`].
pub(super) async fn one(
    connections: &Connections,
    folder: &Folder,
    name: &str,
) -> Result<Option<Document>, Error> {
    let answer = connections.ask(ONE, &[&folder.as_str(), &name.as_bytes()]).await?;
    answer.first().map(document).transpose()
}

/// [`crate::store::Store::documents`]. No name is empty, so that one stands for the beginning.
pub(super) async fn page(
    connections: &Connections,
    folder: &Folder,
    after: &str,
    limit: usize,
) -> Result<Vec<Document>, Error> {
    let limit = rows::count(limit);
    let answer = connections.ask(PAGE, &[&folder.as_str(), &after.as_bytes(), &limit]).await?;
    answer.iter().map(document).collect()
}

/// [`crate::store::Store::put_document`].
pub(super) async fn put(
    connections: &Connections,
    folder: &Folder,
    name: &str,
    expect: Expect,
    body: &[u8],
) -> Result<bool, Error> {
    let (folder, name) = (folder.as_str(), name.as_bytes());
    let answer = match (expect, body.is_empty()) {
        (Expect::Anything, false) => connections.ask(WRITE, &[&folder, &name, &body]).await?,
        (Expect::Nothing, false) => connections.ask(WRITE_NEW, &[&folder, &name, &body]).await?,
        (Expect::Revision(revision), false) => {
            connections.ask(REPLACE, &[&folder, &name, &body, &rows::integer(revision)]).await?
        }
        (Expect::Anything, true) => connections.ask(REMOVE, &[&folder, &name]).await?,
        (Expect::Nothing, true) => connections.ask(IS_GONE, &[&folder, &name]).await?,
        (Expect::Revision(revision), true) => {
            connections.ask(REMOVE_REVISION, &[&folder, &name, &rows::integer(revision)]).await?
        }
    };
    Ok(!answer.is_empty())
}

/// A row of `name, revision, body, folder`, for [`crate::store::Store::inventory`].
pub(super) fn item(row: &Row) -> Result<Item, Error> {
    let folder = Folder::parse(rows::get(row, 3)?).ok_or_else(|| rows::strange("a folder of no path"))?;
    Ok(Item::Document { folder, document: document(row)? })
}

/// A row of `name, revision, body`.
fn document(row: &Row) -> Result<Document, Error> {
    let name = String::from_utf8(rows::get(row, 0)?);
    let name = name.map_err(|_| rows::strange("a document whose name is no text"))?;
    Ok(Document { name, revision: rows::number(row, 1)?, body: rows::bytes(row, 2)? })
}
