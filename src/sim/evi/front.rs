//! Who is let in to EVI, and into which chat.

use std::sync::Arc;

use tokio_tungstenite::tungstenite::handshake::server::Request;

use super::{
    chat::{Chat, Next, World},
    log::What,
    script::Handshake,
    server::{self, Admitted, Host},
    wire,
};

/// The path of EVI's chat (EVI docs).
pub(super) const PATH: &str = "/v0/evi/chat";

/// EVI's side of the handshake.
pub(super) struct Front {
    pub world: Arc<World>,
    pub api_key: String,
}

impl Host for Front {
    fn admit(
        &self,
        request: &Request,
        plan: Handshake,
        number: u32,
    ) -> Result<Admitted, (u16, String)> {
        let query = self.query(request, plan, number)?;
        let connected = What::Connected {
            config_id: query.config_id.clone(),
            resumed: query.resumed_chat_group_id.is_some(),
        };
        let world = self.world.clone();
        Ok(Admitted {
            connected,
            chat: Box::new(move |now| Box::new(Chat::new(world, number, query, now))),
        })
    }
}

impl Front {
    fn query(
        &self,
        request: &Request,
        plan: Handshake,
        number: u32,
    ) -> Result<wire::Query, (u16, String)> {
        let log = &self.world.log;
        let refuse = |status: u16, why: String| {
            log.violation(number, why.clone());
            Err((status, why))
        };
        let uri = request.uri();
        if uri.path() != PATH {
            return refuse(404, format!("path {} is not {PATH}", uri.path()));
        }
        let query = match wire::query(uri.query().unwrap_or_default()) {
            Ok(query) => query,
            Err(faults) => return refuse(400, faults.join("; ")),
        };
        if query.secret {
            log.violation(
                number,
                "query: the key belongs in the header, where no log sees it",
            );
        }
        if request.headers().contains_key("sec-websocket-protocol") {
            log.violation(number, "handshake: EVI has no subprotocols");
        }
        if let Handshake::Status(status) = plan {
            return Err((status, "as the script says".into()));
        }
        let mut keys = request.headers().get_all("x-hume-api-key").iter();
        match (keys.next(), keys.next()) {
            (Some(key), None) if key.as_bytes() == self.api_key.as_bytes() => Ok(query),
            (Some(_), Some(_)) => refuse(401, "more than one X-Hume-Api-Key".into()),
            (None, _) => Err((401, "no X-Hume-Api-Key".into())),
            _ => Err((401, "wrong X-Hume-Api-Key".into())),
        }
    }
}

impl server::Chat for Chat {
    fn frame(&mut self, text: &str, now: f64) {
        Chat::frame(self, text, now);
    }

    fn binary(&mut self, length: usize) {
        Chat::binary(self, length);
    }

    fn next(&mut self, now: f64) -> Next {
        Chat::next(self, now)
    }

    fn reads(&self) -> bool {
        Chat::reads(self)
    }

    fn over(&mut self) {
        Chat::over(self);
    }
}
