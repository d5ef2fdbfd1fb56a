//! Hume's Empathic Voice Interface.
mod codec;
mod messages;
