//! What every message is made of: times, ids, and what is said of stored bytes that make no sense.

use std::fmt;

use thiserror::Error;

use crate::{
    clock::Timestamp,
    ids::{IdError, Namespace, RoomId},
};

/// Stored bytes are not what this server writes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("stored {what} cannot be read: {problem}")]
pub struct Corrupt {
    what: &'static str,
    problem: String,
}

impl Corrupt {
    /// A part that is missing or makes no sense.
    pub fn new(what: &'static str, problem: impl fmt::Display) -> Self {
        Self { what, problem: format!("{problem}") }
    }
}

/// A moment as the contract says it.
pub fn time(at: Timestamp) -> Option<prost_types::Timestamp> {
    let seconds = at.0.div_euclid(1000);
    let nanos = i32::try_from(at.0.rem_euclid(1000)).unwrap_or(0) * 1_000_000;
    Some(prost_types::Timestamp { seconds, nanos })
}

/// A moment of the contract; the beginning of time where there is none.
pub fn timestamp(time: Option<&prost_types::Timestamp>) -> Timestamp {
    time.map_or(Timestamp::default(), |t| {
        Timestamp(t.seconds.saturating_mul(1000).saturating_add(i64::from(t.nanos / 1_000_000)))
    })
}

/// Parses an id out of stored bytes.
pub(super) fn id<T: std::str::FromStr<Err = IdError>>(what: &'static str, text: &str) -> Result<T, Corrupt> {
    text.parse().map_err(|error| Corrupt::new(what, error))
}

/// A room as stored bytes have it: its name as clients see it, and beside it the namespace.
pub(super) fn room_id(name: &str, namespace: &str) -> Result<RoomId, Corrupt> {
    let room = RoomId::parse(name).map_err(|error| Corrupt::new("room id", error))?;
    Ok(match optional_id::<Namespace>("namespace", namespace)? {
        Some(namespace) => room.within(&namespace),
        None => room,
    })
}

/// The namespace beside a name; empty for the default one.
pub(super) fn namespace_of(room: &RoomId) -> String {
    let namespace = room.namespace();
    if namespace.is_default() { String::new() } else { namespace.to_string() }
}

pub(super) fn optional_id<T: std::str::FromStr<Err = IdError>>(
    what: &'static str,
    text: &str,
) -> Result<Option<T>, Corrupt> {
    if text.is_empty() { Ok(None) } else { id(what, text).map(Some) }
}
