//! The terms on which a call began: what its caller meets when the stream is over, or a transfer, stays as
//! it was when they called, whatever config the daemon works from by then.

use std::sync::Arc;

use crate::config::{Config, Fallback};

/// Kept with a live call, and for as long as its end is remembered.
pub struct Terms {
    pub config: Arc<Config>,
    /// By the call's route.
    pub fallback: Fallback,
}
