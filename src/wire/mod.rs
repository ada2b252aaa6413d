//! Domain to protobuf and back: the only floor that names the generated types.

pub mod pb;
