//! A tool that is built in, and one call of it: by whom, with which arguments, and where it leaves what it has done.
//!
//! Owns the form of built-in tools, not which there are: that is in `registry`. Nothing is carried out here. Arguments
//! in a wrong form, or an asker without the right, become the answer that the model is told.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{answered::Answered, effects::Effects};
use crate::{
    dispatch::{context::Scene, inner::Inner, job::Job},
    domain::{
        permissions::{self, Action},
        poll::Poll,
    },
};

/// The run that calls.
#[derive(Clone, Copy)]
pub(in crate::dispatch) struct Caller<'a> {
    pub(in crate::dispatch) inner: &'a Arc<Inner>,
    pub(in crate::dispatch) job: &'a Job,
    pub(in crate::dispatch) scene: &'a Scene,
}

impl Caller<'_> {
    /// Whether whoever asked may do this in the room as it is now; if not, what the model is told.
    pub(super) async fn asker_may(self, action: Action) -> Result<(), Answered> {
        let Some(asked_by) = self.job.asked_by.clone() else {
            return Err(Answered::failed("nobody asked for this whose rights it could be done with"));
        };
        let at = self.inner.rooms.clock().now();
        let look = self.inner.rooms.read(&self.job.room, move |room, _| {
            permissions::require(room, &asked_by, action, at).map(|_| ())
        });
        let checked = look.await.and_then(|checked| checked);
        checked.map_err(|rejection| Answered::failed(&rejection.message))
    }
}

/// A tool that is built in.
pub(super) struct BuiltIn {
    /// What models call it.
    pub(super) name: &'static str,
    /// Its description and the schema of its arguments; `None`: this run is not offered it.
    pub(super) offer: fn(&Situation<'_>) -> Option<(String, Value)>,
    /// What it does.
    pub(super) carry_out: CarryOut,
}

/// What a built-in tool does.
pub(super) type CarryOut = for<'a> fn(Call<'a>) -> BoxFuture<'a, Answered>;

/// What decides whether a tool is offered.
pub(super) struct Situation<'a> {
    pub(super) scene: &'a Scene,
    /// The poll that the run is asked about, and nothing else.
    pub(super) poll: Option<&'a Poll>,
    /// Somebody asked, with whose rights the run can act.
    pub(super) has_asker: bool,
}

/// One call of a built-in tool.
pub(super) struct Call<'a> {
    pub(super) by: Caller<'a>,
    pub(super) arguments: Value,
    pub(super) effects: &'a mut Effects,
}

impl Call<'_> {
    /// The arguments in the form that the tool works with.
    pub(super) fn read<T: DeserializeOwned>(&mut self) -> Result<T, Answered> {
        serde_json::from_value(self.arguments.take()).map_err(|error| Answered::failed(&error.to_string()))
    }
}
