//! Lines that strangers can cause as often as they like, bounded.
//!
//! Of each kind of line (a place in the code) a few are shown in a window of time; the rest is only
//! counted, and when the window is over one line tells how many there were. Whoever floods the
//! bridge fills a counter and not the disk. Time is given, not asked for; nothing here writes.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

use tracing::Level;

/// So many lines of a kind are shown ...
const SHOWN: u32 = 10;
/// ... in so much time, which begins with the first.
const WINDOW: Duration = Duration::from_secs(10);

/// What the lines that were not shown were like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Like {
    pub level: Level,
    pub target: &'static str,
    pub message: String,
}

struct Window {
    began: Instant,
    shown: u32,
    hidden: u64,
    like: Option<Like>,
}

/// Windows by kind of line. There are as many kinds as places in the code that ask.
pub struct Repeats<K> {
    windows: HashMap<K, Window>,
}

impl<K> Default for Repeats<K> {
    fn default() -> Self {
        Repeats {
            windows: HashMap::new(),
        }
    }
}

impl<K: Hash + Eq> Repeats<K> {
    /// Whether one more line of this kind is shown.
    pub fn permits(&mut self, kind: K, now: Instant) -> bool {
        let new = || Window {
            began: now,
            shown: 0,
            hidden: 0,
            like: None,
        };
        let window = self.windows.entry(kind).or_insert_with(new);
        // One that hides something stays until that has been told.
        if window.hidden == 0 && now >= window.began + WINDOW {
            *window = new();
        }
        if window.shown < SHOWN {
            window.shown += 1;
            true
        } else {
            window.hidden += 1;
            false
        }
    }

    /// What a line that is shown looks like: so are those that are not.
    pub fn shown(&mut self, kind: &K, like: impl FnOnce() -> Like) {
        if let Some(window) = self.windows.get_mut(kind) {
            window.like.get_or_insert_with(like);
        }
    }

    /// When the first window that hides something is over.
    pub fn due(&self) -> Option<Instant> {
        let hiding = self.windows.values().filter(|window| window.hidden > 0);
        hiding.map(|window| window.began + WINDOW).min()
    }

    /// Windows that are over, and how much each has hidden.
    pub fn over(&mut self, now: Instant) -> Vec<(Like, u64)> {
        self.end(|window| now >= window.began + WINDOW)
    }

    /// Ends every window.
    pub fn all_over(&mut self) -> Vec<(Like, u64)> {
        self.end(|_| true)
    }

    fn end(&mut self, mut is_over: impl FnMut(&Window) -> bool) -> Vec<(Like, u64)> {
        let ended = self
            .windows
            .extract_if(|_, window| window.hidden > 0 && is_over(window));
        // What is hidden came after something that was shown, so it is known what it is like.
        ended
            .filter_map(|(_, window)| Some((window.like?, window.hidden)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like(message: &str) -> Like {
        Like {
            level: Level::WARN,
            target: "audit",
            message: message.to_owned(),
        }
    }

    #[test]
    fn a_flood_is_ten_lines_and_a_count() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut told = Vec::new();
        let mut shown = 0;
        // 35 seconds with 100 a second, looked at each second.
        for n in 0..3500 {
            if repeats.permits("bad", ms(10 * n)) {
                shown += 1;
                repeats.shown(&"bad", || like("refused"));
            }
            if n % 100 == 99 {
                told.extend(repeats.over(ms(10 * n + 9)));
            }
        }
        assert_eq!(shown, 40);
        assert_eq!(
            told.iter()
                .map(|(like, _)| &like.message)
                .collect::<Vec<_>>(),
            ["refused"; 3]
        );
        told.extend(repeats.all_over());
        let hidden: u64 = told.iter().map(|(_, hidden)| hidden).sum();
        assert_eq!(
            (shown + hidden, told.len()),
            (3500, 4),
            "nothing is left uncounted"
        );
        assert_eq!((repeats.all_over(), repeats.due()), (vec![], None));
    }

    #[test]
    fn few_lines_are_all_shown_and_kinds_do_not_share() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        for n in 0..100 {
            assert!(repeats.permits("rare", start + Duration::from_secs(2 * n)));
        }
        for _ in 0..50 {
            repeats.permits("flood", start);
        }
        assert!(repeats.permits("other", start));
        assert_eq!(repeats.due(), Some(start + WINDOW));
        assert_eq!(repeats.over(start + WINDOW - Duration::from_millis(1)), []);
    }

    #[test]
    fn what_was_hidden_is_told_however_late() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        for _ in 0..11 {
            if repeats.permits(1, start) {
                repeats.shown(&1, || like("x"));
            }
        }
        // Nobody looked for an hour: the count goes on.
        let late = start + Duration::from_secs(3600);
        assert!(!repeats.permits(1, late));
        assert_eq!(repeats.over(late), [(like("x"), 2)]);
        assert!(repeats.permits(1, late));
    }
}
