//! Who is calling, and who may: the lists `calls.allow` and `calls.deny`.
//!
//! Pure. A caller is what Twilio's `From` says: a telephone number, an address of a SIP phone or an
//! app, or that the number is withheld (Twilio docs, "TwiML Voice"). Whoever withholds it is one
//! of many people, not one person: such callers match the entry `"anonymous"` and no other, and no
//! limit of one caller is theirs.

use crate::config::CallerPrefix;

/// A caller, written in one way only: two calls from the same one compare equal.
#[derive(Clone, PartialEq, Eq)]
pub enum Caller {
    Withheld,
    /// `+61...`, or an address in lower case without its parameters.
    Known(Box<str>),
}

/// What carriers and Twilio write instead of a number that is withheld.
const WORDS: [&str; 8] = [
    "",
    "anonymous",
    "restricted",
    "blocked",
    "private",
    "unavailable",
    "unknown",
    "withheld",
];

/// The same words spelt on a telephone's keys, which is how they come where only digits may stand:
/// ANONYMOUS, RESTRICTED, BLOCKED, UNKNOWN (twice: once as it is often misspelt), UNAVAILABLE.
const SPELT: [&str; 6] = [
    "+266696687",
    "+7378742833",
    "+2562533",
    "+8656696",
    "+8566696",
    "+86282452253",
];

impl Caller {
    /// From a webhook's `From`.
    pub fn of(from: &str) -> Caller {
        let plain = canonical(from);
        let user = ["sip:", "sips:"]
            .iter()
            .find_map(|scheme| plain.strip_prefix(scheme))
            .map_or(&*plain, |address| address.split('@').next().unwrap_or(""));
        if WORDS.contains(&user) || SPELT.contains(&user) {
            return Caller::Withheld;
        }
        Caller::Known(plain)
    }

    /// Whether they are one of those that a list's entry is about.
    pub fn fits(&self, entry: &CallerPrefix) -> bool {
        match (entry, self) {
            (CallerPrefix::Withheld, Caller::Withheld) => true,
            (CallerPrefix::Begins(with), Caller::Known(who)) => who.starts_with(&**with),
            _ => false,
        }
    }
}

/// A number or an address without what may differ from call to call: case, and parameters such as
/// `;transport=tls`.
pub fn canonical(address: &str) -> Box<str> {
    let address = address.trim();
    let bare = address
        .split_once(';')
        .map_or(address, |(address, _)| address);
    bare.to_ascii_lowercase().into()
}

/// Why a caller may not call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screened {
    Denied,
    NotAllowed,
}

/// The two lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Screen {
    pub allow: Vec<CallerPrefix>,
    pub deny: Vec<CallerPrefix>,
}

impl Screen {
    /// An entry of `deny` holds whatever `allow` says: whoever blocks a range must not have to
    /// look for an entry elsewhere that opens it again. (The config refuses an entry of `allow`
    /// that could never let anybody in.)
    pub fn judge(&self, caller: &Caller) -> Result<(), Screened> {
        let listed = |list: &[CallerPrefix]| list.iter().any(|entry| caller.fits(entry));
        if listed(&self.deny) {
            Err(Screened::Denied)
        } else if !self.allow.is_empty() && !listed(&self.allow) {
            Err(Screened::NotAllowed)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Vec<CallerPrefix> {
        let entry = |text: &&str| match *text {
            "anonymous" => CallerPrefix::Withheld,
            text => CallerPrefix::Begins(text.to_owned()),
        };
        entries.iter().map(entry).collect()
    }

    fn judged(allow: &[&str], deny: &[&str], from: &str) -> Result<(), Screened> {
        let screen = Screen {
            allow: list(allow),
            deny: list(deny),
        };
        screen.judge(&Caller::of(from))
    }

    #[test]
    fn whoever_withholds_the_number_is_nobody_in_particular() {
        for from in [
            "",
            "anonymous",
            "Anonymous",
            "RESTRICTED",
            " private ",
            "+266696687",
            "+7378742833",
            "sip:anonymous@anonymous.invalid",
            "sips:Anonymous@example.com;transport=tls",
            "sip:+266696687@example.com",
        ] {
            assert!(Caller::of(from) == Caller::Withheld, "{from}");
        }
        for from in [
            "+15551234567",
            "+2666966871",
            "client:anonymous",
            "sip:alice@anonymous.invalid",
        ] {
            assert!(Caller::of(from) != Caller::Withheld, "{from}");
        }
    }

    #[test]
    fn a_caller_is_the_same_one_however_it_is_written() {
        assert!(
            Caller::of("sip:Alice@Example.com;transport=tls")
                == Caller::of("sip:alice@example.com")
        );
        assert!(Caller::of("client:bob") == Caller::of("client:Bob"));
        assert!(Caller::of("+15551234567") != Caller::of("+15551234568"));
    }

    #[test]
    fn the_spelt_words_are_what_the_keys_say() {
        let key = |c: char| match c {
            'a'..='c' => '2',
            'd'..='f' => '3',
            'g'..='i' => '4',
            'j'..='l' => '5',
            'm'..='o' => '6',
            'p'..='s' => '7',
            't'..='v' => '8',
            _ => '9',
        };
        for word in [
            "anonymous",
            "restricted",
            "blocked",
            "unknown",
            "unavailable",
        ] {
            let spelt: String = word.chars().map(key).collect();
            assert!(SPELT.contains(&&*format!("+{spelt}")), "{word}");
        }
    }

    #[test]
    fn empty_lists_let_everybody_in() {
        for from in ["+15551234567", "anonymous", "", "client:bob"] {
            assert_eq!(judged(&[], &[], from), Ok(()));
        }
    }

    #[test]
    fn with_an_allow_list_nobody_else_comes_in() {
        for (from, expected) in [
            ("+61255501234", Ok(())),
            ("+6", Err(Screened::NotAllowed)),
            ("+15551234567", Err(Screened::NotAllowed)),
            ("anonymous", Err(Screened::NotAllowed)),
            ("client:bob", Err(Screened::NotAllowed)),
            // The number is the SIP server's to say, and so it is no number.
            ("sip:+61255501234@example.com", Err(Screened::NotAllowed)),
        ] {
            assert_eq!(judged(&["+61"], &[], from), expected, "{from}");
        }
        let allow = &["client:", "sip:alice@", "anonymous"];
        assert_eq!(judged(allow, &[], "client:bob"), Ok(()));
        assert_eq!(judged(allow, &[], "sip:Alice@example.com"), Ok(()));
        assert_eq!(judged(allow, &[], "+266696687"), Ok(()));
        assert!(judged(allow, &[], "sip:mallory@example.com").is_err());
    }

    #[test]
    fn deny_holds_whatever_allow_says() {
        let judged = |from| judged(&["+61", "anonymous"], &["+61190", "+882"], from);
        assert_eq!(judged("+61255501234"), Ok(()));
        assert_eq!(judged("anonymous"), Ok(()));
        assert_eq!(judged("+61190000000"), Err(Screened::Denied));
        assert_eq!(judged("+88212345678"), Err(Screened::Denied));
        assert_eq!(judged("+15551234567"), Err(Screened::NotAllowed));
        let withheld = super::tests::judged(&[], &["anonymous"], "Restricted");
        assert_eq!(withheld, Err(Screened::Denied));
    }
}
