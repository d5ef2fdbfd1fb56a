//! The secrets, found and checked.
//!
//! They come from exactly one place, the first that is named: `--credentials FILE`, `[credentials]
//! file`, systemd's `$CREDENTIALS_DIRECTORY`. A file is JSON with the keys of [`OWN`] or the names
//! they had in the Node.js predecessor, and those that tools and the lookup name; a directory has one secret a file, or `credentials.json`,
//! each also by the name that systemd gives it when the unit loads a whole directory.
//! A file that other users of the machine may read or write is refused. All that is missing or
//! wrong is reported at once. No value is ever repeated in a message, and no type here prints one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, File},
    io::{ErrorKind, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use serde::de::{self, Deserialize, Deserializer, MapAccess};
use serde_json::error::Category;

use super::{
    AgentKind, Config, Problem, Problems, Secret, ToolKind, check, problem::shell_word,
    realtime::Auth,
};

/// What the configured agent and Twilio need.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// There if Hume answers any calls.
    pub hume_api_key: Option<Secret>,
    /// There if a Realtime server answers any calls, and wants a key.
    pub realtime_api_key: Option<Secret>,
    /// From the credentials or from `[twilio]`.
    pub twilio_account_sid: String,
    pub twilio_auth_token: Secret,
    /// The same; nothing needs it to take calls.
    pub twilio_phone_number: Option<String>,
    /// For webhooks that Twilio signs with SHA-256; most accounts have none.
    pub twilio_shared_key: Option<Secret>,
    /// Those that tools, the lookup and the headers of a Realtime server that is in use name, all of them.
    pub named: BTreeMap<String, Secret>,
}

impl Credentials {
    /// The names of what there is, never the values.
    pub fn found(&self) -> Vec<String> {
        let own = [
            (HUME_API_KEY, self.hume_api_key.is_some()),
            (REALTIME_API_KEY, self.realtime_api_key.is_some()),
            (ACCOUNT_SID, true),
            (AUTH_TOKEN, true),
            (PHONE_NUMBER, self.twilio_phone_number.is_some()),
            (SHARED_KEY, self.twilio_shared_key.is_some()),
        ];
        own.into_iter()
            .filter(|(_, there)| *there)
            .map(|(key, _)| OWN[key].json.to_owned())
            .chain(self.named.keys().map(|name| in_json(name)))
            .collect()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("hume_api_key", &self.hume_api_key)
            .field("realtime_api_key", &self.realtime_api_key)
            .field("twilio_account_sid", &self.twilio_account_sid)
            .field("twilio_auth_token", &self.twilio_auth_token)
            .field(
                "twilio_phone_number",
                &self.twilio_phone_number.as_ref().map(|_| ".."),
            )
            .field("twilio_shared_key", &self.twilio_shared_key)
            .field("named", &self.named)
            .finish()
    }
}

/// One of the bridge's own credentials by all its names.
struct Own {
    json: &'static str,
    /// What the predecessor called it.
    alias: Option<&'static str>,
    /// In a directory.
    file: &'static str,
}

const HUME_API_KEY: usize = 0;
const REALTIME_API_KEY: usize = 1;
const ACCOUNT_SID: usize = 2;
const AUTH_TOKEN: usize = 3;
const PHONE_NUMBER: usize = 4;
const SHARED_KEY: usize = 5;

const OWN: [Own; 6] = [
    Own {
        json: "hume_api_key",
        alias: None,
        file: "hume-api-key",
    },
    Own {
        json: "realtime_api_key",
        alias: None,
        file: "realtime-api-key",
    },
    Own {
        json: "twilio_account_sid",
        alias: Some("twilio_au_account_sid"),
        file: "twilio-account-sid",
    },
    Own {
        json: "twilio_auth_token",
        alias: Some("twilio_au_auth_token"),
        file: "twilio-auth-token",
    },
    Own {
        json: "twilio_phone_number",
        alias: Some("twilio_au_phone_number"),
        file: "twilio-phone-number",
    },
    Own {
        json: "twilio_shared_key",
        alias: None,
        file: "twilio-shared-key",
    },
];

/// What a credential that the operator has named goes by in JSON; as it is, too.
fn in_json(name: &str) -> String {
    name.replace('-', "_")
}

/// Whether a name, as a file has it, is that of one of the bridge's own.
pub(super) fn is_own(name: &str) -> bool {
    let json = in_json(name);
    OWN.iter()
        .any(|own| own.json == json || own.alias == Some(&json))
}

/// The names of all that the tools, the lookup and the agent need, each once.
fn needed(config: &Config) -> BTreeSet<&str> {
    let tools = config.tools.iter().filter_map(|tool| match &tool.kind {
        ToolKind::Http(http) => Some((&http.headers, &http.sign_with)),
        ToolKind::Exec { .. } => None,
    });
    let lookup = config.lookup.iter();
    let lookup = lookup.map(|lookup| (&lookup.headers, &lookup.sign_with));
    let realtime = config.uses(AgentKind::Realtime);
    let realtime = realtime.then_some((&config.realtime.headers, &None));
    tools
        .chain(lookup)
        .chain(realtime)
        .flat_map(|(headers, sign_with)| {
            let in_headers = headers.values().flat_map(|value| value.credentials());
            in_headers.chain(sign_with.as_deref())
        })
        .collect()
}

/// What is looked for.
struct Key {
    json: String,
    alias: Option<String>,
    file: String,
}

/// The bridge's own first, in their order.
fn keys(config: &Config) -> Vec<Key> {
    let own = OWN.iter().map(|own| Key {
        json: own.json.to_owned(),
        alias: own.alias.map(str::to_owned),
        file: own.file.to_owned(),
    });
    let named = needed(config).into_iter().map(|name| Key {
        json: in_json(name),
        alias: Some(name.to_owned()),
        file: name.to_owned(),
    });
    own.chain(named).collect()
}

/// In a directory: all of them in one.
const JSON_FILE: &str = "credentials.json";

/// `LoadCredential=credentials:/etc/hume-bridge/credentials` passes every file in that directory
/// under this name and its own (systemd.exec(5)).
const LOADED_AS: &str = "credentials_";
/// Where the package's unit takes them from.
const PACKAGED: &str = "/etc/hume-bridge/credentials";

const MOST_BYTES: u64 = 64 * 1024;

/// The one place that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// JSON.
    File(&'a Path),
    /// One secret a file, or JSON in it.
    Directory(&'a Path),
}

/// Where the credentials are looked for: the first that is named. `None`: nothing is.
pub fn place<'a>(
    cli: Option<&'a Path>,
    config: &'a Config,
    directory: Option<&'a Path>,
) -> Option<Place<'a>> {
    let directory = directory.filter(|path| !path.as_os_str().is_empty());
    match cli.or(config.credentials_file.as_deref()) {
        Some(file) => Some(Place::File(file)),
        None => directory.map(Place::Directory),
    }
}

/// Finds what `config` needs. `cli` is `--credentials`, `directory` is `$CREDENTIALS_DIRECTORY`.
pub fn find(
    cli: Option<&Path>,
    config: &Config,
    directory: Option<&Path>,
) -> Result<Credentials, Problems> {
    let mut search = Search::new(config);
    let place = match place(cli, config, directory) {
        Some(Place::File(file)) => {
            search.json(file);
            file
        }
        Some(Place::Directory(directory)) => {
            search.directory(directory);
            directory
        }
        None => return Err(nowhere(config).into()),
    };
    search.beside_config(
        ACCOUNT_SID,
        "account_sid",
        config.twilio.account_sid.as_deref(),
    );
    search.beside_config(
        PHONE_NUMBER,
        "phone_number",
        config.twilio.phone_number.as_deref(),
    );
    search.finish(
        config,
        place,
        cli.is_none() && config.credentials_file.is_none(),
    )
}

/// Of `all` keys.
fn required(config: &Config, all: usize) -> impl Iterator<Item = usize> {
    let agents = config.agents().into_iter().filter_map(|kind| match kind {
        AgentKind::Hume => Some(HUME_API_KEY),
        AgentKind::Realtime => (config.realtime.auth != Auth::None).then_some(REALTIME_API_KEY),
    });
    agents
        .chain([AUTH_TOKEN, ACCOUNT_SID])
        .chain(OWN.len()..all)
}

fn nowhere(config: &Config) -> Problem {
    let keys = keys(config);
    let missing = required(config, keys.len())
        .filter(|key| *key != ACCOUNT_SID || config.twilio.account_sid.is_none())
        .map(|key| keys[key].json.as_str());
    Problem {
        file: "credentials".into(),
        line: None,
        key: missing.collect::<Vec<_>>().join(", "),
        what: "missing; looked at --credentials (not given), file in [credentials] (not set) and \
               $CREDENTIALS_DIRECTORY (not set)"
            .into(),
        mend: format!(
            "write a JSON file of mode 600 with these keys and name it with --credentials; the \
             package's unit takes them from {PACKAGED}/, one a file"
        ),
    }
}

/// A value and who gave it: the file, and the name within it.
struct Given {
    file: String,
    name: String,
    value: String,
}

struct Search {
    keys: Vec<Key>,
    /// Of each key.
    given: Vec<Vec<Given>>,
    /// Stands somewhere, or may stand in what could not be read: a problem, but not missing.
    withheld: Vec<bool>,
    /// An old file may have it left open, and calls come in without it.
    may_be_empty: Vec<bool>,
    problems: Vec<Problem>,
}

impl Search {
    fn new(config: &Config) -> Self {
        let keys = keys(config);
        let mut may_be_empty = vec![false; keys.len()];
        for key in [HUME_API_KEY, REALTIME_API_KEY, PHONE_NUMBER] {
            may_be_empty[key] = !required(config, keys.len()).any(|one| one == key);
        }
        Search {
            may_be_empty,
            given: keys.iter().map(|_| Vec::new()).collect(),
            withheld: vec![false; keys.len()],
            problems: Vec::new(),
            keys,
        }
    }

    fn problem(
        &mut self,
        file: &Path,
        key: &str,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) {
        self.problems.push(Problem {
            file: file.display().to_string(),
            line: None,
            key: key.into(),
            what: what.into(),
            mend: mend.into(),
        });
    }

    fn directory(&mut self, directory: &Path) {
        let under = |name: &str| {
            let names = [name.to_owned(), format!("{LOADED_AS}{name}")];
            let files = names.map(|name| directory.join(name));
            files.into_iter().filter(|file| file.exists())
        };
        let ours = self.keys.iter().enumerate();
        let files: Vec<_> = ours
            .flat_map(|(n, key)| under(&key.file).map(move |file| (n, file)))
            .collect();
        for (n, file) in files {
            let Some(bytes) = self.bytes(&file) else {
                self.withheld[n] = true;
                continue;
            };
            match String::from_utf8(bytes) {
                Ok(text) => {
                    // What `echo` and editors leave behind; one, so that a second is noticed.
                    let value = text.strip_suffix('\n').unwrap_or(&text);
                    let value = value.strip_suffix('\r').unwrap_or(value);
                    self.give(n, &file, "", value);
                }
                Err(_) => {
                    self.withheld[n] = true;
                    self.problem(&file, "", "is not text", "write the value alone into it");
                }
            }
        }
        for file in under(JSON_FILE) {
            self.json(&file);
        }
    }

    fn json(&mut self, file: &Path) {
        let Some(bytes) = self.bytes(file) else {
            self.withheld.fill(true);
            return;
        };
        // Editors on Windows put a byte order mark before it.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let entries = match serde_json::from_slice::<Entries>(bytes) {
            Ok(Entries(entries)) => entries,
            Err(error) => {
                self.withheld.fill(true);
                // Place and kind only: the error's own words may quote the file.
                let what = match error.classify() {
                    Category::Data => "is not a JSON object",
                    Category::Eof => "is not whole JSON: it ends too early",
                    Category::Syntax | Category::Io => "is not JSON",
                };
                self.problem(
                    file,
                    "",
                    format!("{what} (column {})", error.column()),
                    "write { \"hume_api_key\": \"...\", ... }",
                );
                if let Some(problem) = self.problems.last_mut() {
                    problem.line = Some(error.line()).filter(|line| *line > 0);
                }
                return;
            }
        };
        for (name, value) in entries {
            let known = self
                .keys
                .iter()
                .position(|key| key.json == name || key.alias.as_ref() == Some(&name));
            let Some(key) = known else { continue };
            match value {
                serde_json::Value::String(value) => self.give(key, file, &name, &value),
                serde_json::Value::Null => {}
                _ => {
                    self.withheld[key] = true;
                    self.problem(file, &name, "is not a string", "put the value in quotes");
                }
            }
        }
    }

    /// Reads a file that nobody else may touch.
    fn bytes(&mut self, file: &Path) -> Option<Vec<u8>> {
        // Before it is opened: opening a pipe waits for a writer.
        match fs::metadata(file) {
            Ok(metadata) if metadata.is_dir() => {
                self.problem(file, "", "is a directory", "name the JSON file in it");
                return None;
            }
            Ok(metadata) if !metadata.is_file() => {
                self.problem(
                    file,
                    "",
                    "is not a regular file",
                    "write the secrets to a file",
                );
                return None;
            }
            Ok(_) => {}
            Err(error) => return self.unreadable(file, &error),
        }
        let opened = File::open(file).and_then(|opened| Ok((opened.metadata()?, opened)));
        let (metadata, opened) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.unreadable(file, &error),
        };
        let others = metadata.permissions().mode() & 0o006;
        if others != 0 {
            let may = match others {
                0o004 => "read",
                0o002 => "write",
                _ => "read and write",
            };
            self.problem(
                file,
                "",
                format!("every user of this machine may {may} it"),
                format!("chmod 600 {}", shell_word(file)),
            );
            return None;
        }
        let mut bytes = Vec::new();
        if let Err(error) = opened.take(MOST_BYTES + 1).read_to_end(&mut bytes) {
            return self.unreadable(file, &error);
        }
        if bytes.len() as u64 > MOST_BYTES {
            let what = format!("is larger than {} KiB", MOST_BYTES / 1024);
            self.problem(file, "", what, "leave only the credentials in it");
            return None;
        }
        Some(bytes)
    }

    fn unreadable(&mut self, file: &Path, error: &std::io::Error) -> Option<Vec<u8>> {
        let mend = match error.kind() {
            ErrorKind::NotFound => "create it with mode 600, or name another with --credentials",
            _ => "let the user that runs hume-bridge read it",
        };
        self.problem(file, "", format!("cannot be read: {error}"), mend);
        None
    }

    fn give(&mut self, key: usize, file: &Path, name: &str, value: &str) {
        if value.is_empty() && self.may_be_empty[key] {
            return;
        }
        let complaint = match key {
            ACCOUNT_SID => check::account_sid(value).err(),
            PHONE_NUMBER => check::phone_number(value).err(),
            _ => check::secret(value).err(),
        };
        if let Some(complaint) = complaint {
            self.withheld[key] = true;
            return self.problem(file, name, complaint.what, complaint.mend);
        }
        self.given[key].push(Given {
            file: file.display().to_string(),
            name: name.to_owned(),
            value: value.to_owned(),
        });
    }

    fn beside_config(&mut self, key: usize, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.given[key].push(Given {
                file: "the config".into(),
                name: format!("twilio.{name}"),
                value: value.to_owned(),
            });
        }
    }

    fn finish(
        mut self,
        config: &Config,
        place: &Path,
        is_directory: bool,
    ) -> Result<Credentials, Problems> {
        for given in &self.given {
            let Some((first, more)) = given.split_first() else {
                continue;
            };
            if let Some(other) = more.iter().find(|other| other.value != first.value) {
                let other = match (other.file == first.file, other.name.is_empty()) {
                    (true, _) => other.name.clone(),
                    (false, true) => other.file.clone(),
                    (false, false) => format!("{} in {}", other.name, other.file),
                };
                self.problems.push(Problem {
                    file: first.file.clone(),
                    line: None,
                    key: first.name.clone(),
                    what: if other == first.name {
                        "stands there twice, with different values".into()
                    } else {
                        format!("is not the same as {other}")
                    },
                    mend: "keep the right one, remove the other".into(),
                });
            }
        }
        let missing: Vec<_> = required(config, self.keys.len())
            .filter(|key| self.given[*key].is_empty() && !self.withheld[*key])
            .collect();
        if !missing.is_empty() {
            let names: Vec<_> = missing
                .iter()
                .map(|key| self.keys[*key].json.as_str())
                .collect();
            let files: Vec<_> = missing
                .iter()
                .map(|key| self.keys[*key].file.as_str())
                .collect();
            let sid = match missing.contains(&ACCOUNT_SID) {
                true => " (account_sid may stand in [twilio] of the config, too)",
                false => "",
            };
            let what = match sid {
                "" => "missing; looked here",
                _ => "missing; looked here, and at [twilio] of the config",
            };
            let mend = match is_directory {
                true => format!(
                    "put {} where the unit's LoadCredential= takes them from (the package's: \
                     {PACKAGED}/) and systemctl restart hume-bridge: systemd passes credentials at \
                     the start only, a reload sees none that are new{sid}",
                    files.join(", ")
                ),
                false => format!("add them{sid}"),
            };
            let names = names.join(", ");
            self.problem(place, &names, what, mend);
        }
        if let Some(problems) = Problems::collect(self.problems) {
            return Err(problems);
        }
        let given = &mut self.given;
        let mut take = |key: usize| given[key].pop().map(|given| given.value);
        let required = "what is missing or withheld has been a problem";
        let named = self.keys[OWN.len()..].iter().zip(OWN.len()..);
        let named = named
            .map(|(key, n)| (key.file.clone(), Secret::new(take(n).expect(required))))
            .collect();
        Ok(Credentials {
            hume_api_key: take(HUME_API_KEY).map(Secret::new),
            realtime_api_key: take(REALTIME_API_KEY).map(Secret::new),
            twilio_account_sid: take(ACCOUNT_SID).expect(required),
            twilio_auth_token: Secret::new(take(AUTH_TOKEN).expect(required)),
            twilio_phone_number: take(PHONE_NUMBER),
            twilio_shared_key: take(SHARED_KEY).map(Secret::new),
            named,
        })
    }
}

/// A JSON object as it stands, duplicate keys and all: a map would keep one of them in silence.
struct Entries(Vec<(String, serde_json::Value)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}
