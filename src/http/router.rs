//! The public listener's paths.

use std::sync::Arc;

use hyper::{Request, Response, body::Incoming};

use super::{
    Front, errand,
    listener::{Body, Peer, not_found},
    media, ops, paths, voice,
};

/// Answers one request of the public listener.
pub async fn route(front: Arc<Front>, request: Request<Incoming>, peer: Peer) -> Response<Body> {
    let path = request.uri().path();
    // A proxy may or may not have taken the prefix off.
    let stripped = path.strip_prefix(front.config.public_url.prefix.as_str());
    let path = if paths::is_ours(path) {
        path
    } else {
        stripped.unwrap_or(path)
    };
    match path {
        paths::INCOMING => voice::incoming(&front, request, peer).await,
        paths::AFTER => voice::after(&front, request, peer).await,
        paths::STATUS => voice::status(&front, request, peer).await,
        paths::STREAM => voice::stream(&front, request, peer).await,
        paths::TRANSFERRED => errand::transferred(&front, request, peer).await,
        paths::ANNOUNCE => errand::announce(&front, request, peer).await,
        paths::ACCEPT => errand::accept(&front, request, peer).await,
        // Twilio's troubleshooting notes speak of a trailing slash on the upgrade.
        paths::MEDIA | "/media-stream/" => media::upgrade(front, request, peer),
        "/health" => ops::public_health(&front.registry, request.method()),
        _ => not_found(),
    }
}
