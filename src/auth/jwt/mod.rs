//! JSON Web Tokens: what is signed by somebody we trust is believed, within what that somebody may say.
//!
//! Never knows of gRPC, of a store, or of the configuration.
