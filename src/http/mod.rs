//! The listeners.
pub mod listener;
pub mod media;
pub mod ops;
pub mod router;
pub mod voice;
