//! Room to decode one message in.
//!
//! It belongs to the thread, not to the call: with thousands of calls a per-call buffer would be most of
//! their memory. What a huge message needed is given back.

use std::cell::Cell;

/// Empty at the start of each use.
#[derive(Default)]
pub(super) struct Scratch {
    /// As it came, or little-endian samples.
    pub bytes: Vec<u8>,
    /// Samples at the agent's rate.
    pub wide: Vec<i16>,
    /// Samples at 8 kHz.
    pub narrow: Vec<i16>,
    pub mulaw: Vec<u8>,
}

impl Scratch {
    /// What a thread keeps of each buffer, in elements: some seconds of 48 kHz audio, which is what
    /// a burst brings.
    const KEEP: usize = 512 << 10;

    fn clear(&mut self) {
        fn clear<T>(buffer: &mut Vec<T>) {
            buffer.clear();
            buffer.shrink_to(Scratch::KEEP);
        }
        clear(&mut self.bytes);
        clear(&mut self.wide);
        clear(&mut self.narrow);
        clear(&mut self.mulaw);
    }
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// Lends this thread's scratch. It is taken, not borrowed: an event handler that calls back into
/// a codec gets a fresh one instead of a panic.
pub(super) fn with_scratch<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    let mut scratch = SCRATCH.take().unwrap_or_default();
    let result = work(&mut scratch);
    scratch.clear();
    SCRATCH.set(Some(scratch));
    result
}

#[cfg(test)]
pub(super) fn scratch_kept() -> usize {
    let scratch = SCRATCH.take().unwrap_or_default();
    let kept = scratch.bytes.capacity()
        + 2 * (scratch.wide.capacity() + scratch.narrow.capacity())
        + scratch.mulaw.capacity();
    SCRATCH.set(Some(scratch));
    kept
}
