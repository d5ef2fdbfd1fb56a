//! One call.
pub mod driver;
pub mod machine;
pub mod playback;
pub mod registry;
