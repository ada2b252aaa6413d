//! Domain to protobuf and back: the only floor that names the generated types.
//!
//! An event is encoded once, when it is committed; what is stored, carried and sent are those bytes. Nothing here
//! decides: a field that makes no sense becomes a rejection on the way in, and cannot occur on the way out.

pub mod backup;
pub mod basic;
pub mod command;
mod conduct;
pub mod decode;
pub mod encode;
pub mod frame;
pub mod hint;
pub mod join;
pub mod model;
pub mod pb;
pub mod polls;
pub mod reply;
pub mod retry;
pub mod rights;
mod shrink;
pub mod snapshot;
pub mod transient;
