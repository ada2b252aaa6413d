//! Leases of nodes: an item for each, all of them in one partition, since there are few and all are read at once.

use uuid::Uuid;

use crate::{
    ids::NodeId,
    store::{
        Error, ErrorKind, Lease,
        dynamodb::{
            client::{Failure, Table},
            failure::{error, strange},
            items::{Item, Key, get_number, get_text, item, number},
            query::{Query, query_all},
        },
        rules,
    },
};

const NODES: &str = "nodes";

fn key(node: NodeId) -> Key {
    Key::new(NODES, node.0.as_hyphenated().to_string())
}

/// [`crate::store::Store::beat`]. A repeat whose first attempt was carried out finds its own beat.
pub(super) async fn beat(table: &Table, Lease { node, beat }: Lease) -> Result<bool, Error> {
    let mut values = item([(":b", number(beat))]);
    let condition = if beat == rules::FIRST_BEAT {
        "attribute_not_exists(pk) OR b = :b"
    } else {
        values.extend(item([(":before", number(beat.saturating_sub(1)))]));
        "b = :b OR b = :before"
    };
    let sent = table.send("renew a lease", || {
        table
            .client()
            .put_item()
            .table_name(table.name())
            .set_item(Some(key(node).with([("b", number(beat))])))
            .condition_expression(condition)
            .set_expression_attribute_values(Some(values.clone()))
            .send()
    });
    match sent.await {
        Ok(_) => Ok(true),
        Err(Failure::Condition { .. }) => Ok(false),
        Err(failure) => Err(failure.into_error()),
    }
}

/// [`crate::store::Store::leases`].
pub(super) async fn all(table: &Table) -> Result<Vec<Lease>, Error> {
    let lease = |found: &Item| {
        let node = Uuid::try_parse(get_text(found, "sk")?).map_err(|_| strange("a node without an id"))?;
        Ok(Lease { node: NodeId(node), beat: get_number(found, "b")? })
    };
    query_all(table, "list nodes", Query::all(NODES)).await?.iter().map(lease).collect()
}

/// [`crate::store::Store::retire`].
pub(super) async fn retire(table: &Table, Lease { node, beat }: Lease) -> Result<bool, Error> {
    let sent = table.send("take a lease away", || {
        table
            .client()
            .delete_item()
            .table_name(table.name())
            .set_key(Some(key(node).item()))
            .condition_expression("b = :b")
            .expression_attribute_values(":b", number(beat))
            .return_values_on_condition_check_failure(
                aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure::AllOld,
            )
            .send()
    });
    match sent.await {
        Ok(_) => Ok(true),
        Err(Failure::Condition { found: None, doubted: true }) => {
            let what =
                "does not know whether this node or another has taken a lease away: an answer was lost";
            Err(error(ErrorKind::Unavailable, what))
        }
        Err(Failure::Condition { .. }) => Ok(false),
        Err(failure) => Err(failure.into_error()),
    }
}
