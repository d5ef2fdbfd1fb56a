//! The public listener's paths.

use std::sync::Arc;

use hyper::{Request, Response, body::Incoming};

use super::{
    Front,
    listener::{Body, not_found},
    media, ops, voice,
};

/// The webhooks' paths, told to Twilio in TwiML and matched here.
pub const INCOMING: &str = "/voice/incoming";
pub const AFTER: &str = "/voice/after";
pub const STATUS: &str = "/voice/status";
pub const STREAM: &str = "/voice/stream";
pub const MEDIA: &str = "/media-stream";

/// Answers one request of the public listener.
pub async fn route(front: Arc<Front>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path();
    // A proxy may or may not have taken the prefix off.
    let stripped = path.strip_prefix(front.config.public_url.prefix.as_str());
    let path = if is_ours(path) {
        path
    } else {
        stripped.unwrap_or(path)
    };
    match path {
        INCOMING => voice::incoming(&front, request).await,
        AFTER => voice::after(&front, request).await,
        STATUS => voice::status(&front, request).await,
        STREAM => voice::stream(&front, request).await,
        // Twilio's troubleshooting notes speak of a trailing slash on the upgrade.
        MEDIA | "/media-stream/" => media::upgrade(front, request),
        "/health" => ops::public_health(&front.registry, request.method()),
        _ => not_found(),
    }
}

fn is_ours(path: &str) -> bool {
    [INCOMING, AFTER, STATUS, STREAM, MEDIA].contains(&path)
}
