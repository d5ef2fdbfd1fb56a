//! Who comes without Twilio's signature, and how often.
//!
//! One budget an address, spent by requests that turn out not to be Twilio's and by nothing else.
//! Pure but for a short lock: time comes from the caller. Bounded: [`MOST_SOURCES`] addresses are
//! remembered, the rest share one budget.
//!
//! # What a spent budget means, and what it must not mean
//!
//! All of Twilio's requests may come from the one address of a proxy, and a stranger's through the
//! same proxy. Whatever an address is refused for a stranger's doing, Twilio may be refused too:
//! that would let anybody on the internet close the telephone line. `X-Forwarded-For` does not help
//! to tell them apart, since strangers write it as they like. So a spent budget refuses, without
//! reading on, only what cannot be Twilio's: a request with nothing in it that could be a signature.
//! What could be one is always looked at. That is cheap (a form is bounded at 64 KiB, its HMAC takes
//! less time than its way through the network), and when it is wrong the stranger has gained
//! nothing but 429 in place of 403. What the budget saves is the rest: reading bodies for nobody,
//! and a line in the audit log for each of thousands of tries.
//!
//! The signed requests of a proxy are never charged, so 500 calls at once through it cost nothing.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// Addresses remembered at a time; each is some 50 bytes.
const MOST_SOURCES: usize = 4096;
/// How much may come at once, as a time of the permitted rate.
const BURST: Duration = Duration::from_secs(10);
/// Between two looks for what can be forgotten, when there is no room.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// Whom a budget belongs to: an IPv4 address or an IPv6 network, which is what one customer gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl Source {
    pub fn of(address: IpAddr) -> Source {
        // A listener on [::] sees IPv4 peers as ::ffff:a.b.c.d: one /64 for all of them.
        Source(match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => {
                let network = v6.to_bits() >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
        })
    }
}

/// Every budget.
#[derive(Default)]
pub struct Unsigned(Mutex<Budgets>);

#[derive(Default)]
struct Budgets {
    /// An address that owes nothing need not be remembered.
    debts: HashMap<Source, Debt>,
    /// Of all for whom there was no room.
    others: Option<Debt>,
    swept: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Debt {
    /// When all of it is paid off.
    paid: Instant,
    /// The budget has been spent since the last time that nothing was owed.
    known: bool,
}

/// What has become of a budget by one request more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charged {
    /// There is something left, as there has always been.
    Within,
    /// That was the last of it, for the first time.
    Exhausted,
    /// It has been exhausted and has not rested since; this request was within the rate.
    Known,
    /// There is nothing in it for so long.
    Spent(Duration),
}

impl Unsigned {
    fn lock(&self) -> MutexGuard<'_, Budgets> {
        // Every change is one assignment: a panic leaves nothing half done.
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// How long an address has to wait that has spent its budget of `rate` a second; 0 has no end.
    pub fn spent(&self, source: Source, rate: usize, now: Instant) -> Option<Duration> {
        let price = price(rate)?;
        let debt = self.lock().debt(source)?;
        wait(debt.paid, price, now)
    }

    /// A request of this address was not Twilio's.
    pub fn charge(&self, source: Source, rate: usize, now: Instant) -> Charged {
        let Some(price) = price(rate) else {
            return Charged::Within;
        };
        let mut budgets = self.lock();
        let debt = budgets.place(source, now);
        if let Some(wait) = wait(debt.paid, price, now) {
            return Charged::Spent(wait);
        }
        let known = debt.known && debt.paid > now;
        let paid = debt.paid.max(now) + price;
        let exhausted = wait(paid, price, now).is_some();
        *debt = Debt {
            paid,
            known: known || exhausted,
        };
        match (known, exhausted) {
            (true, _) => Charged::Known,
            (false, true) => Charged::Exhausted,
            (false, false) => Charged::Within,
        }
    }
}

/// What a request costs, in time.
fn price(rate: usize) -> Option<Duration> {
    let rate = u32::try_from(rate).unwrap_or(u32::MAX);
    (rate > 0).then(|| Duration::from_secs(1) / rate)
}

/// How long until a budget has a whole request in it, if it has none.
fn wait(paid: Instant, price: Duration, now: Instant) -> Option<Duration> {
    let owed = paid.saturating_duration_since(now) + price;
    owed.checked_sub(BURST.max(price))
        .filter(|wait| !wait.is_zero())
}

impl Budgets {
    fn debt(&self, source: Source) -> Option<Debt> {
        self.debts.get(&source).copied().or(self.others)
    }

    /// Where an address's debt is written down.
    fn place(&mut self, source: Source, now: Instant) -> &mut Debt {
        let none = Debt {
            paid: now,
            known: false,
        };
        if !self.debts.contains_key(&source) && self.debts.len() >= MOST_SOURCES {
            let due = |swept: Instant| now.saturating_duration_since(swept) >= SWEEP_PAUSE;
            if self.swept.is_none_or(due) {
                self.debts.retain(|_, debt| debt.paid > now);
                self.swept = Some(now);
            }
            if self.debts.len() >= MOST_SOURCES {
                // Many strangers at once. That they share a budget costs nobody who has signed.
                return self.others.get_or_insert(none);
            }
        }
        self.debts.entry(source).or_insert(none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(n: u32) -> Source {
        Source::of(IpAddr::V4(n.into()))
    }

    fn many(strangers: &Unsigned, source: Source, rate: usize, now: Instant, n: usize) -> usize {
        (0..n)
            .filter(|_| !matches!(strangers.charge(source, rate, now), Charged::Spent(_)))
            .count()
    }

    #[test]
    fn ten_seconds_worth_at_once_and_then_the_rate() {
        let (strangers, start) = (Unsigned::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(strangers.spent(v4(1), 5, start), None);
        assert_eq!(many(&strangers, v4(1), 5, start, 100), 50);
        assert_eq!(strangers.spent(v4(1), 5, start), Some(second / 5));
        // Asking while it is spent costs nothing more.
        assert_eq!(many(&strangers, v4(1), 5, start + second, 100), 5);
        assert_eq!(many(&strangers, v4(1), 5, start + second, 100), 0);
        // Nobody else's affair.
        assert_eq!(strangers.spent(v4(2), 5, start), None);
        // Rested, it has all of it again and no more.
        assert_eq!(many(&strangers, v4(1), 5, start + 60 * second, 100), 50);
    }

    #[test]
    fn a_flood_is_told_of_once_until_it_has_rested() {
        let (strangers, start) = (Unsigned::default(), Instant::now());
        let second = Duration::from_secs(1);
        let charge = |seconds: u32| strangers.charge(v4(1), 1, start + seconds * second);
        for _ in 0..9 {
            assert_eq!(charge(0), Charged::Within);
        }
        assert_eq!(charge(0), Charged::Exhausted);
        assert_eq!(charge(0), Charged::Spent(second));
        // It goes on for an hour, below and above the rate.
        for n in 1..3600 {
            assert_eq!(charge(n), Charged::Known);
            assert_eq!(charge(n), Charged::Spent(second));
        }
        for _ in 0..9 {
            assert_eq!(charge(4000), Charged::Within);
        }
        assert_eq!(charge(4000), Charged::Exhausted);
    }

    #[test]
    fn zero_is_no_limit() {
        let (strangers, now) = (Unsigned::default(), Instant::now());
        for _ in 0..10_000 {
            assert_eq!(strangers.charge(v4(1), 0, now), Charged::Within);
        }
        assert_eq!(strangers.spent(v4(1), 0, now), None);
    }

    #[test]
    fn another_rate_holds_from_the_next_request_on() {
        let (strangers, now) = (Unsigned::default(), Instant::now());
        many(&strangers, v4(1), 1, now, 100);
        assert!(strangers.spent(v4(1), 1, now).is_some());
        assert_eq!(strangers.spent(v4(1), 0, now), None);
        // A high rate is not below one request at once, nor does it count wrong.
        assert_eq!(many(&strangers, v4(2), 100_000, now, 1_000_100), 1_000_000);
    }

    #[test]
    fn a_customers_network_is_one_source() {
        let of = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("::ffff:192.0.2.1"), of("::ffff:192.0.2.2"));
    }

    #[test]
    fn memory_has_an_end_however_many_come() {
        let (strangers, start) = (Unsigned::default(), Instant::now());
        for n in 0..3 * MOST_SOURCES as u32 {
            strangers.charge(v4(n), 1, start);
        }
        assert_eq!(strangers.lock().debts.len(), MOST_SOURCES);
        // Those without room of their own have spent the common budget.
        assert!(strangers.spent(v4(99_999), 1, start).is_some());
        // Whoever was there first still has their own.
        assert_eq!(strangers.spent(v4(0), 1, start), None);
        let later = start + Duration::from_secs(3600);
        strangers.charge(v4(99_999), 1, later);
        assert_eq!(strangers.lock().debts.len(), 1);
        assert_eq!(strangers.spent(v4(99_999), 1, later), None);
    }
}
