//! Who calls, and what their credential lets them do.
//!
//! Owns credentials: what is checked of them, and what they say of whoever shows them. Never decides what a role may
//! do in a room: that is the room's own rule, which a credential can only narrow. What cannot be verified is refused.

pub mod audit;
pub mod directory;
pub mod gate;
pub mod grants;
pub mod jwt;
pub mod mint;
pub mod principal;
pub mod quotas;
pub mod revoked;
pub mod scope;
pub mod secret;
