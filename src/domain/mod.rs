//! Rooms as rules: pure, synchronous, without sockets, clocks, stores or tasks.
//!
//! Two functions are the whole of it. [`decide::decide`] looks at a room and a command and answers with events or
//! a [`rejection::Rejection`]; [`apply`] makes the room that an event leaves behind. State is never changed in any
//! other way, so that the fold of a log is the room, on every node and after every restart.

pub mod apply;
pub mod approval;
pub mod autopilot;
pub mod chain;
pub mod command;
pub mod decide;
pub mod event;
pub mod invitation;
pub mod limits;
pub mod llm;
pub mod mention;
pub mod message;
pub mod permissions;
pub mod poll;
pub mod rejection;
pub mod room;
pub mod settings;
mod summaries;
pub mod summary;
