//! The public listener's paths: told to Twilio in TwiML, matched by the router.

pub const INCOMING: &str = "/voice/incoming";
pub const AFTER: &str = "/voice/after";
pub const STATUS: &str = "/voice/status";
pub const STREAM: &str = "/voice/stream";
pub const TRANSFERRED: &str = "/voice/transferred";
pub const ANNOUNCE: &str = "/voice/announce";
pub const ACCEPT: &str = "/voice/accept";
pub const MEDIA: &str = "/media-stream";

/// One of them, as it stands?
pub fn is_ours(path: &str) -> bool {
    [
        INCOMING,
        AFTER,
        STATUS,
        STREAM,
        TRANSFERRED,
        ANNOUNCE,
        ACCEPT,
        MEDIA,
    ]
    .contains(&path)
}
