//! Who is let in, as the configuration says.

use std::sync::Arc;

use crate::{
    auth::gate::{Gate, Sources},
    clock::Clock,
    config::{AuthMode, Config},
};

/// The gate that all doors ask.
pub(super) fn gate(config: &Config, clock: &Arc<dyn Clock>) -> Gate {
    match config.auth.mode {
        AuthMode::Open => Gate::open(Arc::clone(clock)),
        AuthMode::Required => Gate::required(Arc::clone(clock), Sources::default()),
    }
}
