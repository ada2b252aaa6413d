//! Leases in the schema: a row for each node that lives, changed by itself and taken away by others.
//!
//! What is asked here has connections of its own: see [`Connections::for_leases`].

use tokio_postgres::Row;

use crate::{
    ids::NodeId,
    store::{
        Error, Lease,
        postgres::{
            connections::{Asking, Connections, Question},
            rows,
        },
        rules::FIRST_BEAT,
    },
};

const fn write(sql: &'static str) -> Question {
    Question { sql, doing: "write to its leases", asking: Asking::ToWrite }
}

/// A row if there was none, or only this one.
const BEGIN: Question = write(
    "INSERT INTO leases AS kept (node, beat) VALUES ($1, $2)
     ON CONFLICT (node) DO UPDATE SET beat = excluded.beat WHERE kept.beat = excluded.beat RETURNING 1",
);
/// A row if it was there, with this beat or the one before: the rule of [`crate::store::rules::renews`].
const RENEW: Question =
    write("UPDATE leases SET beat = $2 WHERE node = $1 AND beat IN ($2::bigint, $2::bigint - 1) RETURNING 1");
const RETIRE: Question = write("DELETE FROM leases WHERE node = $1 AND beat = $2 RETURNING 1");
const ALL: Question =
    Question { sql: "SELECT node, beat FROM leases", doing: "read its leases", asking: Asking::ToRead };

/// [`crate::store::Store::beat`].
pub(super) async fn beat(connections: &Connections, lease: Lease) -> Result<bool, Error> {
    did(connections, if lease.beat == FIRST_BEAT { BEGIN } else { RENEW }, lease).await
}

/// [`crate::store::Store::retire`].
pub(super) async fn retire(connections: &Connections, lease: Lease) -> Result<bool, Error> {
    did(connections, RETIRE, lease).await
}

/// [`crate::store::Store::leases`].
pub(super) async fn all(connections: &Connections) -> Result<Vec<Lease>, Error> {
    let lease = |row: &Row| Ok(Lease { node: NodeId(rows::get(row, 0)?), beat: rows::number(row, 1)? });
    connections.ask(ALL, &[]).await?.iter().map(lease).collect()
}

async fn did(connections: &Connections, question: Question, lease: Lease) -> Result<bool, Error> {
    let answer = connections.ask(question, &[&lease.node.0, &rows::integer(lease.beat)]).await?;
    Ok(!answer.is_empty())
}
