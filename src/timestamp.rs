//! Points in time, as everybody who reads us gets them.

use std::time::SystemTime;

/// RFC 3339: UTC with milliseconds.
pub fn rfc3339(time: SystemTime) -> String {
    // A clock outside the years that RFC 3339 can write is shown as its beginning.
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_utc_with_milliseconds() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_007);
        assert_eq!(rfc3339(time), "2023-11-14T22:13:20.007Z");
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }
}
