//! Who is let in to the Realtime server, and into which chat.

use std::sync::Arc;

use tokio_tungstenite::tungstenite::{
    handshake::server::Request,
    http::{HeaderMap, Uri},
};

use super::{Dialect, chat::Chat, world::World};
use crate::sim::evi::{
    Handshake, What,
    server::{Admitted, Host},
};

/// The path of a Realtime WebSocket (SDK types).
pub(super) const PATH: &str = "/v1/realtime";
/// The same at Azure.
const AZURE_PATH: &str = "/openai/v1/realtime";
/// The only rate of linear audio that OpenAI has, in Hz.
pub(super) const LINEAR_RATE: u32 = 24_000;

/// The server's side of the handshake.
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
        let (world, headers) = (self.world.clone(), request.headers());
        let log = &world.shared.log;
        let refuse = |status: u16, why: String| {
            log.violation(number, why.clone());
            Err((status, why))
        };
        let path = request.uri().path();
        let azure = path == AZURE_PATH && world.dialect == Dialect::Ga;
        if path != PATH && !azure {
            return refuse(404, format!("path {path} is not {PATH}"));
        }
        let (model, faults) = query(world.dialect, request.uri());
        for fault in faults {
            log.violation(number, fault);
        }
        let Some(model) = model.or_else(|| Some("pipeline".into()).filter(|_| open(&world))) else {
            return refuse(400, "query: no model".into());
        };
        if headers.contains_key("sec-websocket-protocol") {
            log.violation(number, "handshake: a subprotocol is for browsers");
        }
        if let Handshake::Status(status) = plan {
            return Err((status, "as the script says".into()));
        }
        if !open(&world) {
            let (name, wanted) = match azure {
                true => ("api-key", self.api_key.clone()),
                false => ("authorization", format!("Bearer {}", self.api_key)),
            };
            match one(headers, name) {
                Ok(Some(key)) if key == wanted.as_bytes() => {}
                Ok(Some(_)) => return Err((401, format!("wrong {name}"))),
                Ok(None) => return Err((401, format!("no {name}"))),
                Err(()) => return refuse(401, format!("more than one {name}")),
            }
        }
        let beta = headers.contains_key("openai-beta");
        if beta && world.dialect != Dialect::Beta {
            log.violation(number, "handshake: OpenAI-Beta was switched off");
        }
        let connected = What::Connected {
            config_id: Some(model.clone()),
            resumed: false,
        };
        let world = self.world.clone();
        Ok(Admitted {
            connected,
            chat: Box::new(move |now| Box::new(Chat::new(world, number, model, beta, now))),
        })
    }
}

/// Whether anybody is let in, with or without a model.
fn open(world: &World) -> bool {
    world.dialect == Dialect::Plain
}

/// The only value of a header, if there is one.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a [u8]>, ()> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (_, Some(_)) => Err(()),
        (value, None) => Ok(value.map(|value| value.as_bytes())),
    }
}

/// The model, and what else does not belong into the query.
fn query(dialect: Dialect, uri: &Uri) -> (Option<String>, Vec<String>) {
    let (mut model, mut faults) = (None, Vec::new());
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        match &*name {
            "model" if model.is_some() => faults.push("query: model is there twice".into()),
            "model" if value.is_empty() => faults.push("query: model is empty".into()),
            "model" => model = Some(value.into_owned()),
            "conversation_id" if dialect == Dialect::Xai => {}
            "api_key" | "api-key" => {
                faults.push("query: the key belongs in the header, where no log sees it".into());
            }
            name => faults.push(format!("query: {name} is no parameter of the protocol")),
        }
    }
    (model, faults)
}
