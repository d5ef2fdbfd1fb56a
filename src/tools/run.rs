//! Carries tool calls out.

use std::{future::Future, pin::Pin, sync::Arc};

use super::{Facts, Offer, Outcome};
use crate::session::order::Words;

/// Everything that tools need to work, under one config. A reload makes a new one.
pub struct Runner {}

impl Runner {
    /// Carries out one call of a tool. Ends within the offer's time; dropped, the tool is stopped.
    pub fn run(
        &self,
        _offer: &Offer,
        _call_id: &str,
        _arguments: &str,
        _facts: Arc<Facts>,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        Box::pin(std::future::ready(Outcome::Failed {
            error: "not-available",
            content: Words("This tool is not available on this call.".to_owned()),
        }))
    }
}
