//! `[[tool]]`, and the lists that say which tools an agent has.
//!
//! A tool is read with all that is wrong with it, at once; keys of the other kind are told as that.
//! A tool with mistakes has its name all the same, so no list is told that it is not there.

use std::{path::Path, time::Duration};

use rustix::fs::{Access, access};
use toml::de::DeValue;

use super::{
    BUILTIN_TOOLS, Config, HttpTool, Method, Tool, ToolKind,
    check::{self, Checked, Complaint, complain},
    headers,
    problem::harmless,
    reader::Section,
    schema,
    secret::{has_a_scheme, names_a_secret},
    suggest,
};

/// More than any agent can choose from; all of them are sent to it for every call.
const MOST_TOOLS: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Exec,
}

const KINDS: [(&str, Kind); 2] = [("http", Kind::Http), ("exec", Kind::Exec)];
const ONLY_HTTP: [&str; 5] = ["method", "url", "headers", "sign_with", "idempotent"];
const ONLY_EXEC: [&str; 1] = ["command"];

/// Reads every tool; the names are those of all, in order, `None` for one that has no good one.
pub(super) fn tools(top: &mut Section<'_, '_>) -> (Vec<Tool>, Vec<Option<String>>) {
    let (mut tools, mut names) = (Vec::new(), Vec::<Option<String>>::new());
    top.list("tool", |n, mut s| {
        if n == MOST_TOOLS + 1 {
            let what = format!("is one too many: there are {MOST_TOOLS} at most");
            let mend = "remove some".into();
            s.complain("", Complaint { what, mend });
        }
        let name = s.need("name", "write name = \"...\"", |v| {
            let name = name(check::text(v)?)?;
            match names.iter().position(|one| one.as_ref() == Some(&name)) {
                Some(other) => complain(
                    format!("is the name of tool {}, too", other + 1),
                    "give each a name of its own",
                ),
                None => Ok(name),
            }
        });
        names.push(name.clone());
        tools.extend(tool(&mut s, name));
        s.close();
    });
    (tools, names)
}

fn tool(s: &mut Section<'_, '_>, name: Option<String>) -> Option<Tool> {
    const SAY_WHAT: &str =
        "write description = \"...\": what it does and when to use it, for the agent";
    let description = s.need("description", SAY_WHAT, |v| {
        let text = check::spoken(check::text(v)?)?;
        match text.trim().is_empty() {
            true => complain("is empty", SAY_WHAT),
            false => Ok(text),
        }
    });
    let has_parameters = s.has("parameters");
    let parameters = s.read_as_it_is("parameters", schema::parameters);
    let parameters = match has_parameters {
        true => parameters,
        false => Some(schema::none()),
    };
    let mend = match (s.has("command"), ONLY_HTTP.iter().any(|key| s.has(key))) {
        (true, false) => "write kind = \"exec\"",
        (false, true) => "write kind = \"http\"",
        _ => "write kind = \"http\" or kind = \"exec\"",
    };
    let kind = s.need("kind", mend, |v| check::choice(check::text(v)?, &KINDS));
    let strangers: (&[&str], &str) = match kind {
        Some(Kind::Http) => (&ONLY_EXEC, "exec"),
        Some(Kind::Exec) => (&ONLY_HTTP, "http"),
        None => (&[], ""),
    };
    for key in strangers.0 {
        let what = format!("is for tools of kind \"{}\"", strangers.1);
        let mend = "remove it, or change kind".into();
        s.refuse(key, Complaint { what, mend });
    }
    // Of a tool whose kind is not known, too: what is wrong there is told at once.
    let http = match kind {
        Some(Kind::Exec) => None,
        _ => http(s, kind, parameters.as_ref()),
    };
    let command = match kind {
        Some(Kind::Http) => None,
        Some(Kind::Exec) => s.need(
            "command",
            "write command = [\"/full/path\", \"argument\"]",
            command,
        ),
        None => s.read("command", command),
    };

    let mut timeout = Duration::from_secs(5);
    s.set(&mut timeout, "timeout", |v| {
        check::duration(v, 100..=30_000)
    });
    let mut fallback = String::new();
    s.set(&mut fallback, "fallback", |v| {
        check::spoken(check::text(v)?)
    });
    let mut filler = String::new();
    s.set(&mut filler, "filler", |v| check::spoken(check::text(v)?));
    let mut filler_after = Duration::from_millis(1500);
    s.set(&mut filler_after, "filler_after", |v| {
        check::duration(v, 100..=30_000)
    });
    if !filler.is_empty() && filler_after >= timeout {
        let what = "is never said: filler_after is not below timeout".to_owned();
        let mend = "write a shorter filler_after, or remove filler".to_owned();
        s.complain("filler", Complaint { what, mend });
    }
    let mut max_output = 16 << 10;
    s.set(&mut max_output, "max_output", |v| {
        check::size(v, 1 << 10..=256 << 10)
    });
    let mut max_concurrent = if kind == Some(Kind::Exec) { 4 } else { 16 };
    s.set(&mut max_concurrent, "max_concurrent", |v| {
        check::count(v, 1..=1000)
    });

    let kind = match kind? {
        Kind::Http => ToolKind::Http(http?),
        Kind::Exec => ToolKind::Exec { command: command? },
    };
    Some(Tool {
        name: name?,
        description: description?,
        parameters: parameters?,
        kind,
        timeout,
        fallback,
        filler,
        filler_after,
        max_output,
        max_concurrent,
    })
}

fn http(
    s: &mut Section<'_, '_>,
    kind: Option<Kind>,
    parameters: Option<&serde_json::Value>,
) -> Option<HttpTool> {
    let mut method = Method::Post;
    s.set(&mut method, "method", |v| {
        let method = check::choice(check::text(v)?, &Method::NAMES)?;
        match method == Method::Get && parameters.is_some_and(schema::takes_arguments) {
            true => complain(
                "is GET, and the tool has parameters: arguments never stand in a URL",
                "write method = \"POST\"",
            ),
            false => Ok(method),
        }
    });
    let url_of = |v: &DeValue<'_>| check::service_url(check::text(v)?);
    let url = match kind {
        Some(Kind::Http) => s.need("url", "write url = \"https://HOST/PATH\"", url_of),
        _ => s.read("url", url_of),
    };
    let headers = headers::headers(s);
    let sign_with = headers::sign_with(s);
    let mut idempotent = method != Method::Post;
    s.set(&mut idempotent, "idempotent", check::boolean);
    Some(HttpTool {
        method,
        url: url?,
        headers,
        sign_with,
        idempotent,
    })
}

fn name(text: &str) -> Checked<String> {
    const MOST: usize = 64;
    let fits = (1..=MOST).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if !fits {
        return complain(
            "is not the name of a tool",
            format!("write 1 to {MOST} letters, digits, _ and -, as in \"find_order\""),
        );
    }
    match BUILTIN_TOOLS.contains(&text) {
        true => complain(
            format!("is {text}, a tool that is built in"),
            "give yours another name",
        ),
        false => Ok(text.to_owned()),
    }
}

/// A program by its full path, and its arguments.
fn command(value: &DeValue<'_>) -> Checked<Vec<String>> {
    const FORM: &str =
        "write the program's full path and each argument by itself, as in [\"/usr/bin/x\", \"-v\"]";
    const MOST: usize = 64;
    let Some(list) = value.as_array() else {
        let what = format!("is {}, not a list: there is no shell", check::kind(value));
        return complain(what, FORM);
    };
    if list.is_empty() || list.len() > MOST {
        let what = format!("is empty, or has more than {MOST} entries");
        return complain(what, FORM);
    }
    let mut words = Vec::new();
    for (n, value) in list.iter().enumerate() {
        let word = check::text(value.get_ref())
            .and_then(|text| match n {
                0 => program(text),
                _ => argument(
                    text,
                    list.get(n - 1).and_then(|before| before.get_ref().as_str()),
                ),
            })
            .map_err(|mut complaint| {
                complaint.what = format!("entry {} {}", n + 1, complaint.what);
                complaint
            })?;
        words.push(word);
    }
    Ok(words)
}

fn program(text: &str) -> Checked<String> {
    check::absolute(text)?;
    if text.split('/').any(|part| part == "..") {
        return complain("has .. in its path", "write where it really is");
    }
    let told = "it has to be a program that the user of hume-bridge may run";
    match Path::new(text).metadata() {
        Err(error) => complain(format!("cannot be run: {error}"), told),
        Ok(file) if !file.is_file() => complain("is not a file", told),
        // By this user, and from where it lies: a file system may be mounted noexec.
        Ok(_) if access(text, Access::EXEC_OK).is_err() => {
            complain("is not executable", format!("chmod +x it; {told}"))
        }
        Ok(_) => Ok(text.to_owned()),
    }
}

/// `before` is the word that it follows.
fn argument(text: &str, before: Option<&str>) -> Checked<String> {
    if text.len() > 4096 || text.contains('\0') {
        return complain(
            "is longer than 4096 bytes, or has a NUL in it",
            "hand it over in a file",
        );
    }
    // Every user of the machine sees a program's arguments.
    match holds_a_secret(text) || is_told_a_secret(before, text) {
        true => complain(
            "looks like a secret, and secrets stand neither in this file nor on a command line",
            "remove it; let the program read it from a file of its own",
        ),
        false => Ok(text.to_owned()),
    }
}

/// `--api-key=...`, `api_key=...`, `X-Api-Key: ...`, `Authorization: Bearer ...`, and the last two after
/// `--header=`; `https://user:password@...` and `--user=name:password`. A path is where a secret is kept,
/// and none.
fn holds_a_secret(text: &str) -> bool {
    let named = |text: &str, sign: char| {
        text.split_once(sign).is_some_and(|(name, value)| {
            let value = value.trim();
            let is_value = !value.is_empty() && !value.starts_with('/');
            let bare = name.trim_start_matches('-');
            let named = names_a_secret(name) || bare.eq_ignore_ascii_case("authorization");
            // With a space in it, it is a sentence.
            named && is_value && !name.contains(' ') || has_a_scheme(value)
        })
    };
    let inner = text.split_once('=').map_or("", |(_, value)| value);
    named(text, '=')
        || named(text, ':')
        || named(inner, ':')
        || has_a_scheme(text)
        || is_in_a_url(text)
        || text.strip_prefix("--user=").is_some_and(is_a_pair)
}

/// `://user:password@`
fn is_in_a_url(text: &str) -> bool {
    let mut urls = text.split("://").skip(1);
    urls.any(|rest| {
        let host = rest.split(['/', '?', '#', ' ']).next().unwrap_or_default();
        let user = host.rsplit_once('@');
        user.is_some_and(|(user, _)| is_a_pair(user))
    })
}

/// `name:password`; two numbers are a user and a group.
fn is_a_pair(text: &str) -> bool {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    match text.split_once(':') {
        None | Some((_, "")) => false,
        Some((name, password)) => !number(name) || !number(password),
    }
}

/// `--password ...`, `-u name:password`
fn is_told_a_secret(before: Option<&str>, text: &str) -> bool {
    if matches!(before, Some("-u" | "--user")) && is_a_pair(text) {
        return true;
    }
    let asks =
        |before: &str| before.starts_with('-') && !before.contains('=') && names_a_secret(before);
    before.is_some_and(asks) && !text.is_empty() && !text.starts_with(['/', '-'])
}

/// What a list of tools may name.
pub(super) struct Shelf {
    /// Those of the file that have a name.
    named: Vec<String>,
    /// Some could not be read: what is not known may be one of them.
    torn: bool,
    transfer: bool,
    sms: bool,
    record: bool,
}

impl Shelf {
    /// `config` has been read as far as these depend on it.
    pub fn of(config: &Config, names: Vec<Option<String>>, torn: bool) -> Self {
        Shelf {
            torn: torn || names.contains(&None),
            named: names.into_iter().flatten().collect(),
            transfer: torn || !config.transfer.numbers.is_empty(),
            sms: torn || config.sms.to_caller || !config.sms.numbers.is_empty(),
            record: torn || config.calls.record.is_some(),
        }
    }

    /// Reads `tools`, where it stands.
    pub fn read(&self, section: &mut Section<'_, '_>) -> Option<Vec<String>> {
        section.read("tools", |value| self.list(value))
    }

    fn list(&self, value: &DeValue<'_>) -> Checked<Vec<String>> {
        let Some(list) = value.as_array() else {
            let what = format!("is {}, not a list", check::kind(value));
            return complain(what, "write the names in brackets, as in [\"hang_up\"]");
        };
        let mut names: Vec<String> = Vec::new();
        for (n, value) in list.iter().enumerate() {
            let n = n + 1;
            let entry = check::text(value.get_ref()).and_then(|text| self.entry(text));
            let name = entry.map_err(|mut complaint| {
                complaint.what = format!("entry {n} {}", complaint.what);
                complaint
            })?;
            if let Some(first) = names.iter().position(|known| *known == name) {
                let what = format!("entry {n} is entry {} again", first + 1);
                return complain(what, "remove one of them");
            }
            names.push(name);
        }
        Ok(names)
    }

    fn entry(&self, name: &str) -> Checked<String> {
        let idle = match name {
            "transfer_call" if !self.transfer => "numbers = [\"+...\"] in [transfer]",
            "send_sms" if !self.sms => "to_caller = true or numbers = [\"+...\"] in [sms]",
            "leave_note" if !self.record => {
                "record = \"/var/lib/hume-bridge/calls.jsonl\" in [calls]"
            }
            _ => "",
        };
        if !idle.is_empty() {
            return complain(
                format!("is {name}, which has nothing to work with"),
                format!("write {idle}, or remove it here"),
            );
        }
        let known = || self.named.iter().map(String::as_str).chain(BUILTIN_TOOLS);
        if known().any(|one| one == name) || self.torn {
            return Ok(name.to_owned());
        }
        let mend = match suggest::nearest(name, known()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => {
                let all: Vec<_> = known().collect();
                format!(
                    "write a [[tool]] of that name; there are {}",
                    all.join(", ")
                )
            }
        };
        match harmless(name) {
            true => complain(format!("is \"{name}\", and there is no such tool"), mend),
            false => complain("names no tool", mend),
        }
    }
}
