//! "Did you mean": the known name that a wrong one is nearest to.

/// The nearest of `known`, when it is near enough that a slip of the fingers explains it.
pub(super) fn nearest<'k>(
    wrong: &str,
    known: impl IntoIterator<Item = &'k str>,
) -> Option<&'k str> {
    // A name longer than any of ours by far is no slip, and the distance costs its length.
    if wrong.len() > 40 {
        return None;
    }
    let wrong = wrong.to_ascii_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|name| (distance(&wrong, &name.replace('-', "_")), name))
        .filter(|(distance, name)| *distance <= (name.len().max(wrong.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substituted = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substituted.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_does_not() {
        let known = ["http", "ops", "ping_interval", "pong_timeout"];
        assert_eq!(nearest("htpt", known), Some("http"));
        assert_eq!(nearest("ping-interval", known), Some("ping_interval"));
        assert_eq!(nearest("pong_timout", known), Some("pong_timeout"));
        assert_eq!(nearest("opps", known), Some("ops"));
        assert_eq!(nearest("tls_cert", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn neighbours_swapped_are_one_slip() {
        assert_eq!(distance("prot", "port"), 1);
        assert_eq!(distance("", "port"), 4);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
