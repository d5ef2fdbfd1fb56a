//! The translation between the Realtime protocol's events and the seam.

use super::Settings;
use crate::agent::{Briefing, Capabilities, Closed, Command, Event, Request};

/// A Realtime server's [`Codec`](crate::agent::Codec).
pub struct Codec {
    settings: Settings,
}

impl Codec {
    /// A codec for one conversation. Segments are numbered from 1.
    pub fn new(settings: Settings) -> Codec {
        Codec { settings }
    }
}

impl crate::agent::Codec for Codec {
    fn capabilities(&self) -> &'static Capabilities {
        self.settings.server.capabilities()
    }

    fn request(&self) -> Request {
        Request {
            url: self.settings.server.config.url.clone(),
            headers: self.settings.server.headers.clone(),
            subprotocols: self.settings.server.config.subprotocols.clone(),
            max_message: 16 << 20,
        }
    }

    fn reconnect(&mut self, _resume: bool) {}

    fn brief(&mut self, _more: Briefing) {}

    fn opened(&mut self, _send: &mut dyn FnMut(String)) {}

    fn command(&mut self, _command: Command<'_>, _send: &mut dyn FnMut(String)) {}

    fn message(
        &mut self,
        _text: &str,
        _event: &mut dyn FnMut(Event<'_>),
        _send: &mut dyn FnMut(String),
    ) {
    }

    fn closed(&mut self, _code: Option<u16>, _reason: &str) -> Closed {
        Closed::Lost
    }
}
