//! Signed tokens, as others make them.

mod cases;
mod key_sets;
