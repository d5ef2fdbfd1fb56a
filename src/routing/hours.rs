//! What a clock on a route's wall shows.

use std::fmt;

use jiff::{Timestamp, tz::TimeZone};

use crate::config::Span;

/// A minute of the week in some zone, summer time and all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Monday is 0.
    day: u8,
    /// Of the day; where clocks are set back there are minutes that come twice.
    minute: u16,
}

impl Local {
    pub fn of(zone: &TimeZone, now: Timestamp) -> Local {
        let there = zone.to_datetime(now);
        let part = |value: i8| u16::from(value.unsigned_abs());
        Local {
            day: there.weekday().to_monday_zero_offset().unsigned_abs(),
            minute: 60 * part(there.hour()) + part(there.minute()),
        }
    }

    pub fn is_within(self, spans: &[Span]) -> bool {
        spans
            .iter()
            .any(|span| span.day == self.day && span.from <= self.minute && self.minute < span.to)
    }
}

/// `mon 18:04`
impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let day = DAYS[usize::from(self.day) % DAYS.len()];
        write!(f, "{day} {:02}:{:02}", self.minute / 60, self.minute % 60)
    }
}
