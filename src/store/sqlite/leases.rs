//! Leases in the file. One server has it, so nobody looks; they are kept so that every store is asked in one way.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::{
    ids::NodeId,
    store::{Lease, rules, sqlite::rows},
};

/// [`crate::store::Store::beat`].
pub(super) fn beat(transaction: &Transaction<'_>, Lease { node, beat }: Lease) -> rusqlite::Result<bool> {
    let mut find = transaction.prepare_cached("SELECT beat FROM leases WHERE node = ?1")?;
    let kept = find.query_row([node.0.as_bytes()], |row| rows::number(row, 0)).optional()?;
    if !kept.map_or(beat == rules::FIRST_BEAT, |kept| rules::renews(kept, beat)) {
        return Ok(false);
    }
    let mut put = transaction.prepare_cached(
        "INSERT INTO leases (node, beat) VALUES (?1, ?2) ON CONFLICT (node) DO UPDATE SET beat = excluded.beat",
    )?;
    put.execute(params![node.0.as_bytes(), rows::integer(beat)])?;
    Ok(true)
}

/// [`crate::store::Store::retire`].
pub(super) fn retire(transaction: &Transaction<'_>, Lease { node, beat }: Lease) -> rusqlite::Result<bool> {
    let mut delete = transaction.prepare_cached("DELETE FROM leases WHERE node = ?1 AND beat = ?2")?;
    Ok(delete.execute(params![node.0.as_bytes(), rows::integer(beat)])? > 0)
}

/// [`crate::store::Store::leases`].
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Lease>> {
    let mut select = connection.prepare_cached("SELECT node, beat FROM leases")?;
    let lease = |row: &Row<'_>| Ok(Lease { node: NodeId(rows::uuid(row, 0)?), beat: rows::number(row, 1)? });
    select.query_map([], lease)?.collect()
}
