//! Documents as rows. One writer has the file, so that what is looked at before a write is still so at the write.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::store::{
    documents::{Document, Expect, Folder},
    inventory::Item,
    sqlite::rows,
};

pub(super) const ONE: &str = "SELECT name, revision, body FROM documents WHERE folder = ?1 AND name = ?2";
pub(super) const PAGE: &str = "
    SELECT name, revision, body FROM documents WHERE folder = ?1 AND name > ?2 ORDER BY name LIMIT ?3";
pub(super) const ALL: &str = "
    SELECT name, revision, body, folder FROM documents
    WHERE (folder, name) > (?1, ?2) ORDER BY folder, name LIMIT ?3";

/// One write of a document.
#[derive(Debug)]
pub(super) struct Put {
    /// Where.
    pub(super) folder: Folder,
    /// Which.
    pub(super) name: String,
    /// What must be there.
    pub(super) expect: Expect,
    /// What is there then; empty: nothing.
    pub(super) body: Bytes,
}

/// [`crate::store::Store::document`].
pub(super) fn one(
    connection: &Connection,
    folder: &Folder,
    name: &str,
) -> rusqlite::Result<Option<Document>> {
    connection.prepare_cached(ONE)?.query_row(params![folder.as_str(), name], document).optional()
}

/// [`crate::store::Store::documents`]. No name is empty, so that one stands for the beginning.
pub(super) fn page(
    connection: &Connection,
    folder: &Folder,
    after: &str,
    limit: usize,
) -> rusqlite::Result<Vec<Document>> {
    let columns = params![folder.as_str(), after, rows::count(limit)];
    connection.prepare_cached(PAGE)?.query_map(columns, document)?.collect()
}

/// Documents of all folders, for [`crate::store::Store::inventory`].
pub(super) fn all(
    connection: &Connection,
    (folder, name): (&str, &str),
    limit: i64,
) -> rusqlite::Result<Vec<Item>> {
    let mut select = connection.prepare_cached(ALL)?;
    let item = |row: &Row<'_>| {
        let folder = Folder::parse(row.get_ref(3)?.as_str()?);
        let folder = folder.ok_or_else(|| {
            rusqlite::Error::InvalidColumnType(3, "folder".to_owned(), rusqlite::types::Type::Text)
        })?;
        Ok(Item::Document { folder, document: document(row)? })
    };
    select.query_map(params![folder, name, limit], item)?.collect()
}

/// Writes or removes a document; whether it was as expected.
pub(super) fn put(connection: &Connection, put: &Put) -> rusqlite::Result<bool> {
    let Put { folder, name, expect, body } = put;
    let sql = "SELECT revision FROM documents WHERE folder = ?1 AND name = ?2";
    let mut select = connection.prepare_cached(sql)?;
    let found = select.query_row(params![folder.as_str(), name], |row| rows::number(row, 0)).optional()?;
    if !expect.fits(found) {
        return Ok(false);
    }
    if body.is_empty() {
        let sql = "DELETE FROM documents WHERE folder = ?1 AND name = ?2";
        connection.prepare_cached(sql)?.execute(params![folder.as_str(), name])?;
        return Ok(true);
    }
    let mut upsert = connection.prepare_cached(
        "INSERT INTO documents (folder, name, revision, body) VALUES (?1, ?2, 1, ?3)
         ON CONFLICT (folder, name) DO UPDATE SET revision = revision + 1, body = excluded.body",
    )?;
    upsert.execute(params![folder.as_str(), name, &**body])?;
    Ok(true)
}

/// A row of `name, revision, body`.
fn document(row: &Row<'_>) -> rusqlite::Result<Document> {
    Ok(Document { name: row.get(0)?, revision: rows::number(row, 1)?, body: rows::bytes(row, 2)? })
}
