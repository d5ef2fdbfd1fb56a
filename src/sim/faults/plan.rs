//! What befalls a connection, when, and in which direction; as data.

use std::{sync::Arc, time::Duration};

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From who dialled to the far end.
    Out = 0,
    /// From the far end to who dialled.
    Back = 1,
}

/// When a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// As soon as so many bytes have come this way: those are spared, the next is not.
    Byte(u64),
    /// So long after the connection was made.
    After(Duration),
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// From here on bytes arrive later by `constant` and up to `jitter` more; their order is kept.
    Delay {
        constant: Duration,
        jitter: Duration,
    },
    /// From here on bytes are written in pieces of 1 to `most`. A reader that lags gets them joined
    /// again, by the kernel.
    Split { most: usize },
    /// The next so many bytes come with these bits changed.
    Corrupt { bytes: u64, flip: u8 },
    /// Nothing is read any more: the writer gets stuck once the kernel's buffers are full. `None`: not
    /// until the other direction is over.
    Stall { lasts: Option<Duration> },
    /// This direction ends in good order; what still comes is thrown away. The other one goes on.
    HalfClose,
    /// Both directions end in good order, behind what was read before.
    Close,
    /// Both ends get a reset; what was under way is lost.
    Reset,
}

/// The word for a [`What`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Delay,
    Split,
    Corrupt,
    Stall,
    HalfClose,
    Close,
    Reset,
}

/// Something that befalls a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub way: Way,
    pub when: When,
    pub what: What,
}

/// The faults of each connection, by its number. Asked once, when the connection is made.
pub type Plan = Arc<dyn Fn(u32) -> Vec<Fault> + Send + Sync>;

/// Nothing befalls anybody.
pub fn transparent() -> Plan {
    Arc::new(|_| Vec::new())
}

impl Fault {
    /// The same for every connection.
    pub fn always(self) -> Plan {
        Arc::new(move |_| vec![self])
    }
}

impl What {
    pub fn kind(&self) -> Kind {
        match self {
            What::Delay { .. } => Kind::Delay,
            What::Split { .. } => Kind::Split,
            What::Corrupt { .. } => Kind::Corrupt,
            What::Stall { .. } => Kind::Stall,
            What::HalfClose => Kind::HalfClose,
            What::Close => Kind::Close,
            What::Reset => Kind::Reset,
        }
    }
}

impl Kind {
    pub const ALL: [Kind; 7] = [
        Kind::Delay,
        Kind::Split,
        Kind::Corrupt,
        Kind::Stall,
        Kind::HalfClose,
        Kind::Close,
        Kind::Reset,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Delay => "delay",
            Kind::Split => "split",
            Kind::Corrupt => "corrupt",
            Kind::Stall => "stall",
            Kind::HalfClose => "half-close",
            Kind::Close => "close",
            Kind::Reset => "reset",
        }
    }
}
