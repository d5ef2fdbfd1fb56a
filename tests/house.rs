//! The house's order, read off the sources: who may know whom, and why.
//!
//! Every path that a file outside the tests names (`use` trees and paths in the code, `super` and
//! `self` resolved) is an edge from that file's module. Comments count for nothing; strings only
//! where a rule is about words. An edge that a rule lets through in spite of itself stands beside
//! the rule, and has to be in use.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// In these modules (but not in `except`), none of `never` is named (but for `allowed`).
struct Rule {
    why: &'static str,
    rooms: &'static [&'static str],
    except: &'static [&'static str],
    never: &'static [&'static str],
    /// Module and path.
    allowed: &'static [(&'static str, &'static str)],
}

const RULES: &[Rule] = &[
    Rule {
        why: "what is hard about a call is tested as a function of its input: \
              no runtime, no log, no counters, no clock, no I/O",
        rooms: &[
            "audio",
            "twilio",
            "agent",
            "http::unsigned",
            "routing",
            "session::machine",
            "session::budget",
            "session::goodbye",
            "session::hold",
            "session::outage",
            "session::caller",
            "session::cause",
            "session::order",
            "session::playback",
            "session::turn",
            "session::uplink",
            // What an agent may use, and whether its arguments fit; what is carried out has to wait.
            "tools",
            "admin::protocol",
            "admin::event",
            "admin::routed",
            "admin::framing",
        ],
        except: &[
            "twilio::rest",
            "agent::link",
            "routing::lookup",
            "tools::run",
            "tools::builtin",
            "tools::http",
            "tools::exec",
            "tools::ledger",
        ],
        never: &[
            "tokio",
            "tokio_util",
            "tokio_rustls",
            "tokio_tungstenite",
            "futures_util",
            "hyper",
            "reqwest",
            "tracing",
            "std::fs",
            "std::thread",
            "std::net::TcpStream",
            "std::time::Instant::now",
            "std::time::SystemTime::now",
            "Instant::now",
            "SystemTime::now",
            "crate::twilio::rest",
            "crate::agent::link",
            "crate::routing::lookup",
            "crate::session::driver",
            "crate::session::registry",
            "crate::metrics",
        ],
        allowed: &[],
    },
    Rule {
        why: "which route a call takes is decided before there is a call, and asked about where there is none",
        rooms: &["routing"],
        except: &[],
        never: &[
            "crate::audio",
            "crate::http",
            "crate::admin",
            "crate::ctl",
            "crate::sim",
            "crate::session::driver",
            "crate::session::machine",
            "crate::session::registry",
        ],
        allowed: &[],
    },
    Rule {
        why: "samples know nothing of telephones and agents",
        rooms: &["audio"],
        except: &[],
        never: &[
            "crate::config",
            "crate::twilio",
            "crate::agent",
            "crate::session",
            "crate::http",
            "crate::admin",
            "crate::ctl",
            "crate::sim",
        ],
        allowed: &[],
    },
    Rule {
        why: "the two wires do not know each other, nor who sits between them: \
              either can be changed or doubled alone",
        rooms: &["twilio"],
        except: &[],
        never: &[
            "crate::agent",
            "crate::session",
            "crate::http",
            "crate::admin",
            "crate::ctl",
            "crate::sim",
        ],
        allowed: &[],
    },
    Rule {
        why: "the two wires do not know each other, nor who sits between them: \
              either can be changed or doubled alone",
        rooms: &["agent"],
        except: &[],
        never: &[
            "crate::twilio",
            "crate::session",
            "crate::http",
            "crate::admin",
            "crate::ctl",
            "crate::sim",
        ],
        allowed: &[],
    },
    Rule {
        why: "a config is read and judged before anything else exists",
        rooms: &["config"],
        except: &[],
        never: &[
            "crate::tools",
            "crate::routing",
            "crate::metrics",
            "crate::audio",
            "crate::twilio",
            "crate::agent",
            "crate::session",
            "crate::http",
            "crate::admin",
            "crate::ctl",
            "crate::sim",
        ],
        // It judges a WAV file.
        allowed: &[
            ("config::hold_sound", "crate::audio::g711"),
            ("config::hold_sound", "crate::audio::resample::Downsampler"),
            ("config::hold_sound", "crate::audio::wav"),
        ],
    },
    Rule {
        why: "a call does not know who let it in, nor who watches it",
        rooms: &["session"],
        except: &[],
        never: &[
            "crate::routing",
            "crate::http",
            "crate::admin",
            "crate::ctl",
            "crate::sim",
        ],
        allowed: &[],
    },
    Rule {
        why: "a tool is told what it may know of its call, and decides nothing for it: \
              of the session it has the words, never the call itself",
        rooms: &["tools"],
        except: &[],
        never: &[
            "crate::audio",
            "crate::session",
            "crate::http",
            "crate::admin",
            "crate::ctl",
            "crate::sim",
        ],
        allowed: &[
            ("tools", "crate::session::order::Words"),
            // A withheld number is spelt in many ways, and which they are is known in one place.
            ("tools", "crate::session::caller::Caller"),
            ("tools::builtin", "crate::session::order::Words"),
            ("tools::catalogue", "crate::session::order::Words"),
            ("tools::run", "crate::session::order::Words"),
        ],
    },
    Rule {
        why: "what all who accept and open have in common knows none of them",
        rooms: &["accepting", "files"],
        except: &[],
        never: &[
            "tokio",
            "crate::config",
            "crate::audio",
            "crate::twilio",
            "crate::agent",
            "crate::session",
            "crate::http",
            "crate::admin",
            "crate::ctl",
            "crate::sim",
        ],
        allowed: &[],
    },
    Rule {
        why: "Twilio's door and the operator's door open without each other",
        rooms: &["http"],
        except: &[],
        never: &["crate::admin", "crate::ctl", "crate::sim"],
        allowed: &[],
    },
    Rule {
        why: "Twilio's door and the operator's door open without each other",
        rooms: &["admin"],
        except: &[],
        never: &["crate::http", "crate::ctl", "crate::sim"],
        allowed: &[],
    },
    Rule {
        why: "humebridgectl may be of another version than the daemon: it knows the wire and no more",
        rooms: &[
            "ctl",
            "admin::protocol",
            "admin::event",
            "admin::routed",
            "admin::framing",
            "admin::client",
        ],
        except: &[],
        never: &[
            "crate::config",
            "crate::audio",
            "crate::twilio",
            "crate::agent",
            "crate::session",
            "crate::http",
            "crate::metrics",
            "crate::sim",
            "crate::admin::server",
            "crate::admin::desk",
            "crate::admin::follow",
        ],
        // A test call is placed by the telephone that the bridge is tested with, and that knows
        // Twilio's wire and nothing of the bridge.
        allowed: &[
            ("ctl::dial", "crate::sim::phone"),
            ("ctl::dial", "crate::sim::speech"),
            ("ctl::dial", "crate::sim::tape"),
        ],
    },
    Rule {
        why: "the simulators hold the bridge to account: what they shared with it they could not judge",
        rooms: &["sim"],
        except: &["sim::chance"],
        never: &[
            "crate::twilio",
            "crate::agent",
            "crate::session",
            "crate::http",
            "crate::admin",
            "crate::metrics",
            "crate::ctl",
        ],
        allowed: &[],
    },
    Rule {
        why: "the far ends have codecs of their own; only who listens to recordings shares the bridge's",
        rooms: &[
            "sim::phone",
            "sim::evi",
            "sim::realtime",
            "sim::rest",
            "sim::speech",
            "sim::web",
        ],
        except: &[],
        never: &["crate::audio"],
        allowed: &[],
    },
    Rule {
        why: "calls by chance are played around a call's state machine and its agent's codec, and \
              around nothing that has a socket, a clock or a task: whatever else they knew would \
              have to be played too, and a call could not be played again",
        rooms: &["sim::chance"],
        except: &[],
        never: &[
            "tokio",
            "tokio_util",
            "tokio_tungstenite",
            "futures_util",
            "hyper",
            "tracing",
            "std::fs",
            "std::env",
            "std::thread",
            "Instant::now",
            "SystemTime::now",
            "crate::agent::link",
            "crate::session::driver",
            "crate::session::leg",
            "crate::session::registry",
            "crate::session::news",
            "crate::twilio",
            "crate::http",
            "crate::admin",
            "crate::metrics",
            "crate::ctl",
            "crate::sim::bridge",
            "crate::sim::phone",
            "crate::sim::evi",
            "crate::sim::realtime",
            "crate::sim::rest",
            "crate::sim::web",
        ],
        allowed: &[],
    },
    Rule {
        why: "a wire that fails does so for whatever it carries: it cannot spare what it does not know",
        rooms: &["sim::faults"],
        except: &[],
        never: &[
            "crate::audio",
            "crate::config",
            "crate::sim::bridge",
            "crate::sim::evi",
            "crate::sim::realtime",
            "crate::sim::phone",
            "crate::sim::rest",
            "crate::sim::scenario",
            "tokio_tungstenite",
            "hyper",
        ],
        allowed: &[],
    },
    Rule {
        why: "what is to befall whom is drawn from a seed and from nothing else, so it can be had again",
        rooms: &["sim::faults::dice", "sim::faults::plan", "sim::soak::fate"],
        except: &[],
        never: &[
            "tokio",
            "ring",
            "Instant::now",
            "std::time::Instant::now",
            "SystemTime::now",
            "std::time::SystemTime::now",
        ],
        allowed: &[],
    },
    Rule {
        why: "a check looks at what the daemon would use, and at nothing that carries a call",
        rooms: &["check"],
        except: &[],
        never: &[
            "crate::audio",
            "crate::session",
            "crate::metrics",
            "crate::ctl",
            "crate::sim",
            "crate::http::voice",
            "crate::http::media",
            "crate::admin::desk",
            "crate::admin::server::serve",
            "tracing",
        ],
        allowed: &[],
    },
    Rule {
        why: "a check is a program of its own beside the daemon: nothing is built on it",
        rooms: &[
            "", "audio", "twilio", "agent", "routing", "session", "tools", "http", "metrics",
            "admin", "config", "ctl", "sim",
        ],
        except: &["bin", "daemon", "check"],
        never: &["crate::check"],
        allowed: &[],
    },
    Rule {
        why: "whoever counts something names the counter; the counters name nobody, \
              but for the words that are labels",
        rooms: &["metrics"],
        except: &[],
        never: &[
            "crate::audio",
            "crate::twilio",
            "crate::agent",
            "crate::session",
            "crate::tools",
            "crate::http",
            "crate::admin",
            "crate::config",
            "crate::ctl",
            "crate::sim",
        ],
        allowed: &[
            ("metrics", "crate::session::cause"),
            ("metrics::labels", "crate::session::cause"),
            ("metrics::labels", "crate::admin::protocol"),
        ],
    },
    Rule {
        why: "counting is done in passing by those who carry calls: it waits for nothing, \
              and only a look at the process reads files",
        rooms: &["metrics"],
        except: &["metrics::process"],
        never: &[
            "tokio",
            "hyper",
            "tracing",
            "std::fs",
            "std::sync::Mutex",
            "std::sync::RwLock",
            "Instant::now",
        ],
        allowed: &[],
    },
    Rule {
        why: "the log takes lines from everybody: it knows nobody, and needs no runtime, which may be \
              what there is to tell of",
        rooms: &["daemon::logging"],
        except: &[],
        never: &[
            "tokio",
            "tokio_util",
            "futures_util",
            "hyper",
            "crate::audio",
            "crate::twilio",
            "crate::agent",
            "crate::session",
            "crate::http",
            "crate::admin",
            "crate::ctl",
            "crate::sim",
            "crate::daemon::office",
            "crate::daemon::lifecycle",
        ],
        allowed: &[],
    },
    Rule {
        why: "daemon puts everything together; whoever needed it would be in a circle",
        rooms: &[
            "", "audio", "twilio", "agent", "routing", "session", "tools", "http", "metrics",
            "admin", "config", "ctl", "sim", "check",
        ],
        except: &["bin", "daemon"],
        never: &["crate::daemon"],
        allowed: &[],
    },
];

/// Above the seam nobody says a vendor's name: what is written there holds for the next agent too.
const NEUTRAL: &[&str] = &[
    "routing", "session", "http", "metrics", "daemon", "admin", "check",
];
const VENDOR: &[&str] = &["hume", "evi"];
/// Module and word: names that monitoring has known since before there was a second agent.
const KNOWN_NAMES: &[(&str, &str)] = &[
    ("http::ops", "hume_config_id"),
    ("http::ops", "hume_connected"),
    ("http::ops", "hume"),
    // Hands the config's value to the above.
    ("daemon::office", "hume_config_id"),
    ("daemon::office", "hume"),
];

/// Promises that a call must not depend on, and what the compiler cannot check.
const NOWHERE: &[&str] = &["todo!(", "unimplemented!(", "unsafe"];

#[test]
fn nobody_knows_whom_they_should_not() {
    let files = sources();
    assert!(files.len() > 50, "only {} files were found", files.len());
    let mut wrong = Vec::new();
    for rule in RULES {
        let mut unused: Vec<_> = rule.allowed.to_vec();
        for room in rule.rooms.iter().filter(|room| !room.is_empty()) {
            assert!(
                files.iter().any(|file| within(&file.module, room)),
                "a rule is about {room}, which is not there"
            );
        }
        for file in files.iter().filter(|file| rule.is_about(&file.module)) {
            for path in &file.paths {
                if !rule.never.iter().any(|never| within(path, never)) {
                    continue;
                }
                let allowed = |(room, to): &(&str, &str)| file.module == *room && within(path, to);
                if rule.allowed.iter().any(allowed) {
                    unused.retain(|one| !allowed(one));
                } else {
                    wrong.push(format!("{} names {path}: {}", file.name, rule.why));
                }
            }
        }
        for (room, path) in unused {
            wrong.push(format!("{room} no longer names {path}: forbid it"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn above_the_seam_no_vendor_is_named() {
    let mut wrong = Vec::new();
    let mut unused = KNOWN_NAMES.to_vec();
    for file in sources() {
        if !NEUTRAL.iter().any(|room| within(&file.module, room)) {
            continue;
        }
        for word in file.words() {
            if !vendors(word) {
                continue;
            }
            if KNOWN_NAMES.contains(&(&*file.module, word)) {
                unused.retain(|known| *known != (&*file.module, word));
            } else {
                wrong.push(format!("{} says {word}", file.name));
            }
        }
    }
    for (room, word) in unused {
        wrong.push(format!("{room} no longer says {word}: forbid it"));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A line that a stranger can cause has the field `limited`, or is a `refuse!`, which adds it: who
/// knocks a thousand times a second fills a counter and not the disk.
#[test]
fn what_strangers_can_have_logged_is_limited() {
    let (mut found, mut wrong) = (0, Vec::new());
    for file in sources() {
        if !within(&file.module, "http") {
            continue;
        }
        for line in file.macros(&["error", "warn", "info"]) {
            found += 1;
            if !line.iter().any(|token| token.is_word("limited")) {
                wrong.push(format!("{}: {line:?}", file.name));
            }
        }
    }
    assert!(found > 5, "only {found} were found");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_undone_and_nothing_is_unsafe() {
    let mut wrong = Vec::new();
    for file in sources() {
        for word in NOWHERE {
            // Tests too, and comments: whoever looks for the word should find nothing.
            if file.text.contains(word) {
                wrong.push(format!("{} says {word}", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_sources_reads() {
    let text = r##"
        //! use crate::a::comment;
        use crate::{b::{self, c as d}, e::*};
        use super::{super::f, g}; /* use crate::h; /* nested */ */
        #[cfg(test)]
        #[path = "x.rs"]
        mod tests;
        fn x<'a>(y: [u8; 2]) { let z = '"'; tracing::info!("crate::i {}", y.j::<k>()); }
        #[cfg(test)]
        mod more { use crate::l; fn m(n: [u8; 2]) {} }
        const O: &str = r#"crate::p " "#; self::q::r(crate::s());
    "##;
    let file = Source::read("session/deep.rs", text.to_owned());
    let expected = [
        "crate::b",
        "crate::b::c",
        "crate::e",
        "crate::f",
        "crate::session::g",
        "tracing::info",
        "crate::session::deep::q::r",
        "crate::s",
    ];
    assert_eq!(file.paths, expected);
    let text = |token: &Token| matches!(token, Token::Text(_));
    assert_eq!(file.tokens.iter().filter(|token| text(token)).count(), 2);
    assert!(file.words().any(|word| word == "i") && !file.words().any(|word| word == "comment"));
    assert_eq!(file.module, "session::deep");
    assert!(within("crate::b::c", "crate::b") && !within("crate::bc", "crate::b"));
}

impl Rule {
    fn is_about(&self, module: &str) -> bool {
        let any = |rooms: &[&str]| rooms.iter().any(|room| within(module, room));
        any(self.rooms) && !any(self.except)
    }
}

/// Whether a path is `room` or below it. Everything is below "".
fn within(path: &str, room: &str) -> bool {
    match path.strip_prefix(room) {
        Some(rest) => room.is_empty() || rest.is_empty() || rest.starts_with("::"),
        None => false,
    }
}

/// `HumeConfig`, `evi_chat`, `humeConnected`; not `device`.
fn vendors(word: &str) -> bool {
    let mut parts = vec![String::new()];
    for c in word.chars() {
        if c == '_' || c.is_uppercase() {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut() {
            part.extend(c.to_lowercase().filter(|c| *c != '_'));
        }
    }
    let whole = word.to_lowercase();
    VENDOR
        .iter()
        .any(|vendor| whole == *vendor || parts.iter().any(|part| part == vendor))
}

struct Source {
    /// Below `src`.
    name: String,
    /// Without `crate`: "session::machine", "" for lib.rs.
    module: String,
    text: String,
    /// Without comments and tests.
    tokens: Vec<Token>,
    /// Whatever is named with a `::`, from `crate` or from another crate.
    paths: Vec<String>,
}

/// Every file under `src`; of files of tests only the text.
fn sources() -> Vec<Source> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&src, &mut found);
    found.sort();
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(&src).unwrap().to_str().unwrap();
        Source::read(name, fs::read_to_string(path).unwrap())
    };
    found.iter().map(read).collect()
}

impl Source {
    fn read(name: &str, text: String) -> Source {
        let module: Vec<&str> = name
            .trim_end_matches(".rs")
            .split('/')
            .filter(|part| !["mod", "lib"].contains(part))
            .collect();
        let is_test = name.ends_with("tests.rs") || name.contains("/tests/");
        let tokens = if is_test {
            Vec::new()
        } else {
            without_tests(tokens(&text))
        };
        Source {
            name: name.to_owned(),
            module: module.join("::"),
            paths: paths(&tokens, &module),
            text,
            tokens,
        }
    }

    /// What stands between the parentheses of every call of these macros.
    fn macros(&self, names: &[&str]) -> Vec<&[Token]> {
        let mut found = Vec::new();
        for (at, call) in self.tokens.windows(3).enumerate() {
            let named = names.iter().any(|name| call[0].is_word(name));
            if !named || !call[1].is_sign('!') || !call[2].is_sign('(') {
                continue;
            }
            let mut depth = 1;
            let inside = &self.tokens[at + 3..];
            let end = inside.iter().position(|token| {
                depth += i32::from(token.is_sign('(')) - i32::from(token.is_sign(')'));
                depth == 0
            });
            found.push(&inside[..end.unwrap_or(inside.len())]);
        }
        found
    }

    /// Of code and of strings, but for our own name, which holds a vendor's.
    fn words(&self) -> impl Iterator<Item = &str> {
        self.tokens.iter().flat_map(|token| {
            let text = match token {
                Token::Word(text) | Token::Text(text) => text.as_str(),
                Token::Sign(_) => "",
            };
            text.split("hume-bridge")
                .flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_'))
                // The name of a metric begins with it.
                .map(|word| word.strip_prefix("hume_bridge_").unwrap_or(word))
                .filter(|word| !["", "hume_bridge", "humebridgectl"].contains(word))
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// A name, a number, a lifetime.
    Word(String),
    /// What a string literal holds, as it is written.
    Text(String),
    /// Of `::`, only one.
    Sign(char),
}

impl Token {
    fn is_word(&self, wanted: &str) -> bool {
        matches!(self, Token::Word(word) if word == wanted)
    }

    fn is_sign(&self, wanted: char) -> bool {
        matches!(self, Token::Sign(sign) if *sign == wanted)
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let word = |c: char| c.is_alphanumeric() || c == '_';
    while let Some(first) = rest.chars().next() {
        let taken = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if let Some((whole, inner)) = literal(rest) {
            tokens.push(Token::Text(inner.to_owned()));
            whole
        } else if word(first) {
            let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            end
        } else if first == '\'' {
            character(rest)
        } else if rest.starts_with("::") {
            tokens.push(Token::Sign(':'));
            2
        } else {
            // A lone colon is no sign of a path.
            if !first.is_whitespace() && first != ':' {
                tokens.push(Token::Sign(first));
            }
            first.len_utf8()
        };
        rest = &rest[taken..];
    }
    tokens
}

/// How long a block comment is; they nest.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        let rest = &text.as_bytes()[at..];
        match rest {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            [] => return at,
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
}

/// How long a string literal is, and what it holds.
fn literal(text: &str) -> Option<(usize, &str)> {
    let prefix = text.len() - text.trim_start_matches(['b', 'c']).len();
    let raw = text[prefix..].strip_prefix('r');
    let quoted = raw.unwrap_or(&text[prefix..]).trim_start_matches('#');
    let begin = text.len() - quoted.strip_prefix('"')?.len();
    let hashes = text[..begin].matches('#').count();
    if prefix > 1 || (hashes > 0 && raw.is_none()) {
        return None;
    }
    let inner = &text[begin..];
    let (held, end) = if raw.is_some() {
        let end = format!("\"{}", "#".repeat(hashes));
        (inner.find(&end)?, end.len())
    } else {
        let mut escaped = false;
        let held = inner.find(|c| {
            let found = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            found
        });
        (held?, 1)
    };
    Some((begin + held + end, &inner[..held]))
}

/// How long a character literal is; of a lifetime, the mark.
fn character(text: &str) -> usize {
    let mut chars = text[1..].char_indices();
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let after = 1 + at + escaped.len_utf8();
            text[after..]
                .find('\'')
                .map_or(text.len(), |end| after + end + 1)
        }
        (Some(_), Some((at, '\''))) => 1 + at + 1,
        _ => 1,
    }
}

/// Leaves out every item under `#[cfg(test)]`.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let mark = self::tokens("#[cfg(test)]");
    let mut left = Vec::new();
    let mut rest = tokens.as_slice();
    while let Some((first, after)) = rest.split_first() {
        if !rest.starts_with(&mark) {
            left.push(first.clone());
            rest = after;
            continue;
        }
        rest = &rest[mark.len()..];
        let mut depth = 0;
        let end = rest.iter().position(|token| {
            match token {
                Token::Sign('(' | '[' | '{') => depth += 1,
                Token::Sign(')' | ']' | '}') => depth -= 1,
                _ => {}
            }
            depth == 0 && matches!(token, Token::Sign(';' | '}'))
        });
        rest = &rest[end.map_or(rest.len(), |end| end + 1)..];
    }
    left
}

/// Everything that is named with a `::`, resolved from `module`.
fn paths(tokens: &[Token], module: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = tokens;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            Token::Word(word) if word == "use" => rest = tree(rest, Vec::new(), &mut found),
            Token::Word(word) => {
                let mut path = vec![word.clone()];
                while let [Token::Sign(':'), Token::Word(next), more @ ..] = rest {
                    path.push(next.clone());
                    rest = more;
                }
                if path.len() > 1 {
                    found.push(path);
                }
            }
            _ => {}
        }
    }
    found.iter().map(|path| resolved(path, module)).collect()
}

/// Reads one tree of a `use`; returns what follows it.
fn tree<'a>(
    mut rest: &'a [Token],
    mut path: Vec<String>,
    found: &mut Vec<Vec<String>>,
) -> &'a [Token] {
    loop {
        match rest {
            [Token::Sign('{'), more @ ..] => {
                rest = more;
                while !matches!(rest, [Token::Sign('}'), ..] | []) {
                    rest = tree(rest, path.clone(), found);
                    if let [Token::Sign(','), more @ ..] = rest {
                        rest = more;
                    }
                }
                return rest.get(1..).unwrap_or(&[]);
            }
            [Token::Word(word), more @ ..] if word == "as" => rest = more.get(1..).unwrap_or(&[]),
            [Token::Word(word), more @ ..] => {
                // `a::{self}` names a.
                if word != "self" || path.is_empty() {
                    path.push(word.clone());
                }
                rest = more;
            }
            [Token::Sign(':' | '*'), more @ ..] => rest = more,
            _ => {
                found.push(path);
                return rest;
            }
        }
    }
}

fn resolved(path: &[String], module: &[&str]) -> String {
    let mut from: Vec<&str> = module.to_vec();
    let mut rest = path;
    let mut ours = false;
    while let [first, after @ ..] = rest {
        match first.as_str() {
            "crate" | "hume_bridge" => from.clear(),
            "super" => _ = from.pop(),
            "self" => {}
            _ => break,
        }
        ours = true;
        rest = after;
    }
    let rest = rest.iter().map(String::as_str);
    if ours {
        let whole: Vec<&str> = ["crate"].into_iter().chain(from).chain(rest).collect();
        whole.join("::")
    } else {
        rest.collect::<Vec<_>>().join("::")
    }
}
