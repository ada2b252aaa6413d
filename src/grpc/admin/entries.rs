//! Pages of the audit.
//!
//! Read as they are written down, oldest first; the audit says what they mean. What an operator is told when they cannot
//! be read names nothing of the store.

use crate::{
    audit::{Audit, Entry, Origin},
    clock::Timestamp,
    domain::rejection::{Code, Rejection},
    grpc::admin::{after, next, page},
    ids::Namespace,
    wire::{
        basic::{time, timestamp},
        pb::room::v1 as pb,
    },
};

/// The page that is asked for.
pub(super) async fn read(
    audit: &Audit,
    namespace: &Namespace,
    asked: &pb::ReadAuditRequest,
) -> Result<pb::ReadAuditResponse, Rejection> {
    let (list, limit) = (format!("audit of {namespace}"), page(asked.limit));
    let begin = match (after(&list, asked.cursor.as_deref())?, &asked.since) {
        (Some(_), Some(_)) => {
            return Err(Rejection::field("cursor", "must not be given together with since"));
        }
        (None, Some(since)) => Some(Audit::position(timestamp(Some(since)))),
        (after, None) => after,
    };
    let entries = audit.read(namespace, begin.as_deref(), limit).await.map_err(|error| {
        tracing::warn!(%namespace, %error, "the audit cannot be read");
        Rejection::new(Code::Unavailable, "the audit cannot be read now; try again")
    })?;
    let next_cursor = next(&list, entries.last().map(|entry| entry.id.as_str()), entries.len(), limit);
    Ok(pb::ReadAuditResponse { entries: entries.into_iter().map(entry_to_pb).collect(), next_cursor })
}

fn entry_to_pb(entry: Entry) -> pb::AuditEntry {
    let Entry { id, at_ms, act, outcome, actor, room, subject, detail, origins, count, node } = entry;
    pb::AuditEntry {
        entry_id: id,
        at: time(Timestamp(at_ms)),
        act,
        outcome,
        actor,
        room_id: room,
        subject,
        detail,
        origins: origins.into_iter().map(origin_to_pb).collect(),
        count,
        node,
    }
}

fn origin_to_pb(Origin { credential, peer }: Origin) -> pb::AuditOrigin {
    pb::AuditOrigin { credential, peer: peer.map(|peer| peer.to_string()).unwrap_or_default() }
}
