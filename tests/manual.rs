//! The manual is held against the program, both ways: what there is is described, and what is
//! described is there. humebridgectl(1) and hume-bridge-admin(7) are held by their own modules.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use hume_bridge::{
    agent::{Agents, Saying},
    config::{
        self, AgentKind, Config, Overrides, Problems,
        args::{self, Invocation},
        changes, credentials, known_keys,
    },
};

const CONFIG_PAGE: &str = include_str!("../man/hume-bridge.toml.5");
const AGENTS_PAGE: &str = include_str!("../docs/agents.md");
const DAEMON_PAGE: &str = include_str!("../man/hume-bridge.8");
const EXAMPLE: &str = include_str!("../packaging/hume-bridge.toml");
const CHANGES: &str = include_str!("../src/config/changes.rs");
/// The one key without which there is no config: what the example has is no default.
const REQUIRED: &str = "public_url";
const URL: &str = "public_url = \"https://bridge.example.com\"\n";

// --- hume-bridge.toml(5)

#[test]
fn every_key_is_described_with_the_default_that_the_example_states() {
    let items = items();
    let described: Vec<_> = items.iter().map(|item| item.key.as_str()).collect();
    assert_eq!(described, known_keys(), "also in the order of the table");
    let example = example();
    assert_eq!(example.len(), items.len());
    for (item, (key, default)) in items.iter().zip(&example) {
        assert_eq!((&item.key, &item.default), (key, default));
        assert!(!item.body.is_empty(), "nothing is said of {key}");
    }
}

#[test]
fn the_ranges_are_those_that_the_config_takes() {
    let mut seen = 0;
    for item in items() {
        let default = item.default.as_deref().unwrap_or("");
        let Some((_, unit)) = quantity(default.trim_matches('"')) else {
            let range = range(&item.body);
            assert_eq!(range, None, "{} has a range and no default in it", item.key);
            continue;
        };
        seen += 1;
        let (low, high) = range(&item.body).unwrap_or_else(|| panic!("{}: no range", item.key));
        let (low, high) = (quantity(&low).unwrap(), quantity(&high).unwrap());
        let mut takes = |amount: i64| {
            let value = match unit {
                Unit::None => amount.to_string(),
                Unit::Milliseconds => format!("\"{amount}ms\""),
                Unit::Bytes => format!("\"{amount}B\""),
            };
            one_key(&item.key, &value).is_ok()
        };
        assert_eq!((low.1, high.1), (unit, unit), "{}", item.key);
        let taken = [low.0 - 1, low.0, high.0, high.0 + 1].map(&mut takes);
        assert_eq!(taken, [false, true, true, false], "{}", item.key);
    }
    assert!(seen > 5, "only {seen} keys were found to have a range");
}

#[test]
fn the_keys_that_need_a_restart_are_those_that_a_reload_leaves() {
    // Another value for every key, kept where each new key has to be added to it.
    let (_, others) = CHANGES
        .split_once("const ALL_OTHERS: &str = r#\"")
        .expect("changes.rs has another value for every key");
    let (others, _) = others.split_once("\"#").expect("it ends");
    let mut new = parse(others).unwrap();
    let found = changes::settle(&parse(URL).unwrap(), &mut new);
    let said: Vec<_> = items()
        .into_iter()
        .filter(|item| item.body.contains("needs a restart"))
        .map(|item| item.key)
        .collect();
    assert_eq!(said, found.need_restart);
}

#[test]
fn what_the_page_shows_is_what_happens() {
    let mut blocks = blocks(CONFIG_PAGE).into_iter();
    let told = blocks.next().expect("the example of a problem");
    let wrong = format!("{URL}\n[hume]\nconfg_id = \"x\"\n");
    let problems = config::parse(&wrong, "hume-bridge.toml", &Overrides::default()).unwrap_err();
    assert_eq!(told.trim_end(), problems.to_string());
    let examples: Vec<_> = blocks.collect();
    assert!(!examples.is_empty());
    for example in examples {
        parse(&example).unwrap_or_else(|problems| panic!("{problems}\n{example}"));
    }
}

#[test]
fn the_credentials_are_found_by_the_names_of_the_page() {
    let rows: Vec<(&str, &str)> = CONFIG_PAGE
        .lines()
        .filter_map(|line| line.strip_prefix(".It Li ")?.split_once(" Ta Pa "))
        .map(|(json, rest)| (json, rest.split(' ').next().unwrap()))
        .collect();
    let aliases: Vec<&str> = words(CONFIG_PAGE)
        .filter(|word| word.starts_with("twilio_au_"))
        .collect();
    assert_eq!((rows.len(), aliases.len()), (6, 3));
    let value = |name: &str| match name.replace("-", "_").replace("_au_", "_").as_str() {
        "twilio_account_sid" => "AC0123456789abcdef0123456789abcdef",
        "twilio_phone_number" => "+61255501234",
        _ => "0123456789abcdef",
    };
    let write = |path: PathBuf, text: &str| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let json = |names: &[&str]| {
        let entries: Vec<_> = names
            .iter()
            .map(|name| format!("\"{name}\": \"{}\"", value(name)))
            .collect();
        format!("{{ {} }}", entries.join(", "))
    };
    let config = parse(URL).unwrap();
    let expected: Vec<_> = rows.iter().map(|(json, _)| *json).collect();
    let found = |directory: &Path| {
        let found = credentials::find(None, &config, Some(directory));
        found
            .unwrap_or_else(|problems| panic!("{problems}"))
            .found()
    };

    let one_a_file = tempfile::tempdir().unwrap();
    for (_, file) in &rows {
        write(one_a_file.path().join(file), value(file));
    }
    assert_eq!(found(one_a_file.path()), expected);

    let in_one = tempfile::tempdir().unwrap();
    let file = in_one.path().join("credentials.json");
    write(file.clone(), &json(&expected));
    assert_eq!(found(in_one.path()), expected);

    let aliased =
        |name: &&str| aliases.contains(&name.replacen("twilio_", "twilio_au_", 1).as_str());
    let mut old: Vec<_> = expected
        .iter()
        .filter(|name| !aliased(name))
        .copied()
        .collect();
    old.extend(&aliases);
    assert_eq!(old.len(), expected.len());
    write(file, &json(&old));
    assert_eq!(found(in_one.path()), expected);
}

#[test]
fn the_reader_of_items_reads() {
    let page = ".Sh KEYS\n.Ss [one]\\&\n.Bl -tag -width Ds\n.It Ic a No = Li \\(dq\\(dq\n\
                .It Ic b No = Ar file\nA\n.Ar number\nfrom 1 to\n.Li 2 .\n.Bl -tag\n.It Ic no\n.El\n\
                .El\n.Sh END\n.It Ic c No = Li 1\n";
    let items = items_of(page);
    let [a, b] = &items[..] else {
        panic!("{items:?}");
    };
    assert_eq!(
        (a.key.as_str(), a.default.as_deref()),
        ("one.a", Some("\"\""))
    );
    assert_eq!((b.key.as_str(), b.default.as_deref()), ("one.b", None));
    assert_eq!(
        a.body, b.body,
        "an item without words of its own shares the next one's"
    );
    assert_eq!(range(&b.body), Some(("1".into(), "2".into())));
    assert_eq!(range("from Australia to you"), None);
}

/// A key, as the page has it.
#[derive(Debug)]
struct Item {
    /// With its section.
    key: String,
    /// As the file would have it.
    default: Option<String>,
    /// Without markup, on one line.
    body: String,
}

fn items() -> Vec<Item> {
    items_of(CONFIG_PAGE)
}

fn items_of(page: &str) -> Vec<Item> {
    let (_, keys) = page.split_once(".Sh KEYS\n").unwrap();
    let (keys, _) = keys.split_once("\n.Sh ").unwrap();
    let (mut section, mut depth) = (String::new(), 0);
    let mut items: Vec<Item> = Vec::new();
    for line in keys.lines() {
        if let Some(name) = line.strip_prefix(".Ss ") {
            section = match name.strip_prefix('[') {
                Some(name) => format!("{}.", name.trim_matches(['[', ']', '\\', '&'])),
                None => String::new(),
            };
            continue;
        }
        let opens = line.starts_with(".Bl ");
        depth += i32::from(opens) - i32::from(line == ".El");
        // What stands between a section's name and its list is about no one key.
        if depth == 0 || opens && depth == 1 {
            continue;
        }
        match line.strip_prefix(".It ") {
            Some(head) if depth == 1 => items.push(item(&section, head)),
            _ => {
                let item = items.last_mut().expect("a list begins with an item");
                item.body.push_str(&plain(line));
                item.body.push(' ');
            }
        }
    }
    for n in (1..items.len()).rev() {
        if items[n - 1].body.is_empty() {
            items[n - 1].body = items[n].body.clone();
        }
    }
    items
}

/// `Ic http No = Li \(dq0.0.0.0:3000\(dq`, or with `Ar` and what there is no default of.
fn item(section: &str, head: &str) -> Item {
    let parts = head
        .strip_prefix("Ic ")
        .and_then(|head| head.split_once(" No = "));
    let (key, value) = parts.unwrap_or_else(|| panic!("not a key and a value: {head}"));
    let default = match value.split_once(' ') {
        Some(("Li", default)) => Some(default.replace(r"\(dq", "\"")),
        Some(("Ar", _)) => None,
        _ => panic!("neither a default nor a word for one: {head}"),
    };
    Item {
        key: format!("{section}{key}"),
        default,
        body: String::new(),
    }
}

/// A line without its macros.
fn plain(line: &str) -> String {
    let Some(line) = line.strip_prefix('.') else {
        return line.to_owned();
    };
    let is_macro = |word: &&str| {
        word.len() == 2 && word.starts_with(|c: char| c.is_ascii_uppercase()) && *word != "A"
    };
    line.split(' ')
        .filter(|word| !is_macro(word))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Every key of the shipped example; commented out are those without default, but for what has only
/// a # before it, in sections that are examples as a whole.
fn example() -> Vec<(String, Option<String>)> {
    let mut section = String::new();
    let mut keys: Vec<(String, Option<String>)> = Vec::new();
    for line in EXAMPLE.lines() {
        let shown = line.strip_prefix("# ");
        let live = shown.unwrap_or(line.strip_prefix('#').unwrap_or(line));
        if let Some(name) = live.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = format!("{}.", name.trim_matches(['[', ']']));
        }
        if let Some((key, value)) = live.split_once(" = ")
            && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            let key = format!("{section}{key}");
            // There is a second tool, of the other kind.
            if keys.iter().any(|(known, _)| *known == key) {
                continue;
            }
            let default = (shown.is_none() && key != REQUIRED).then(|| value.to_owned());
            keys.push((key, default));
        }
    }
    keys
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    None,
    Milliseconds,
    Bytes,
}

/// `10`, `10ms`, `2h`, `16KiB`.
fn quantity(text: &str) -> Option<(i64, Unit)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (size, unit) = match unit {
        "" => (1, Unit::None),
        "ms" => (1, Unit::Milliseconds),
        "s" => (1000, Unit::Milliseconds),
        "m" => (60_000, Unit::Milliseconds),
        "h" => (3_600_000, Unit::Milliseconds),
        "KiB" => (1024, Unit::Bytes),
        _ => return None,
    };
    Some((number.parse::<i64>().ok()? * size, unit))
}

/// `from LOW to HIGH`.
fn range(body: &str) -> Option<(String, String)> {
    let words: Vec<_> = body.split_whitespace().collect();
    let bounds = words.windows(4).find_map(|words| match words {
        ["from", low, "to", high] => Some((*low, high.trim_end_matches(['.', ';']))),
        _ => None,
    });
    let (low, high) = bounds?;
    quantity(low).and(quantity(high))?;
    Some((low.to_owned(), high.to_owned()))
}

fn one_key(key: &str, value: &str) -> Result<Config, Problems> {
    let (section, key) = key.split_once('.').expect("in a section");
    let header = match section {
        "tool" => {
            "[[tool]]\nname = 'x'\ndescription = 'x'\nkind = 'http'\nurl = 'https://x.example.com'"
        }
        "route" => "[[route]]",
        section => &format!("[{section}]"),
    };
    parse(&format!("{URL}{header}\n{key} = {value}\n"))
}

fn parse(text: &str) -> Result<Config, Problems> {
    config::parse(text, "t.toml", &Overrides::default())
}

/// What stands between `.Bd` and `.Ed`.
fn blocks(page: &str) -> Vec<String> {
    let blocks = page.split("\n.Bd ").skip(1);
    blocks
        .map(|block| {
            let (_, text) = block.split_once('\n').unwrap();
            text.split_once(".Ed\n").expect("a block ends").0.to_owned()
        })
        .collect()
}

// --- docs/agents.md

/// With the defaults, in the order of the table's columns.
#[test]
fn the_table_of_capabilities_is_what_the_agents_can_do() {
    let config = parse(URL).unwrap();
    let json = r#"{"hume_api_key":"h","twilio_auth_token":"t","twilio_account_sid":"AC0123456789abcdef0123456789abcdef"}"#;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("credentials.json");
    fs::write(&file, json).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let credentials = credentials::find(Some(&file), &config, None).unwrap();
    let agents = Agents::new(&config, &credentials);
    let able = AgentKind::NAMES.map(|(name, kind)| (name, agents.capabilities(kind)));

    let (_, table) = AGENTS_PAGE.split_once("\n## What each can do\n").unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows[0][1..], able.map(|(name, _)| name));
    let yes = |able: bool| if able { "yes" } else { "no" };
    let columns = able.map(|(_, able)| {
        [
            match able.say {
                Saying::Exactly => "word for word",
                Saying::Nearly => "nearly",
                Saying::Not => "no",
            },
            yes(able.mid_context),
            yes(able.pause),
            yes(able.parallel_tools),
            yes(able.hears_speech),
        ]
    });
    assert_eq!(rows.len(), 2 + columns[0].len());
    // And what the first row says of other keys.
    let with = |key: &str| {
        let config = parse(&format!("{URL}[realtime]\n{key}\n")).unwrap();
        Agents::new(&config, &credentials).capabilities(AgentKind::Realtime)
    };
    assert!(rows[2][2].contains("word for word with `say = \"force\"`"));
    assert_eq!(with("say = \"force\"").say, Saying::Exactly);
    assert_eq!(with("preset = \"xai\"").say, Saying::Exactly);
    assert!(rows[2][2].contains("not at all with `say = false`"));
    assert_eq!(with("say = false").say, Saying::Not);
    assert!(rows[4][2].contains("with `{}` or `false`, no"));
    assert!(!with("turn_detection = {}").pause);
    assert!(!with("preset = \"custom\"\nurl = \"wss://x.example/\"\nturn_detection = false").pause);
    for (n, row) in rows[2..].iter().enumerate() {
        for (said, column) in row[1..].iter().zip(&columns) {
            let end = said.strip_prefix(column[n]);
            let fits = end.is_some_and(|end| !end.starts_with(|c: char| c.is_alphabetic()));
            assert!(fits, "{}: {said:?}, and it is {:?}", row[0], column[n]);
        }
    }
}

// --- hume-bridge(8)

/// An option, and whether it takes a value.
type Options = BTreeSet<(String, bool)>;

#[test]
fn the_synopsis_has_the_options_of_every_command() {
    let commands = commands();
    let (_, synopsis) = DAEMON_PAGE.split_once("\n.Sh SYNOPSIS\n").unwrap();
    let (synopsis, _) = synopsis.split_once("\n.Sh ").unwrap();
    let mut shown = Vec::new();
    for form in format!("\n{synopsis}").split("\n.Nm").skip(1) {
        let name = form.lines().find_map(|line| line.strip_prefix(".Cm "));
        shown.push(name.unwrap_or("").to_owned());
        let mut expected = options(&help(name));
        expected.retain(|(option, _)| !["help", "version"].contains(&option.as_str()));
        assert_eq!(marked(form), expected, "{name:?}");
    }
    let mut expected = vec![String::new()];
    expected.extend(commands);
    assert_eq!(shown, expected);
}

#[test]
fn every_option_and_command_is_described_and_no_other() {
    let of_all = options(&help(None));
    let items = list_after("The options are:");
    let described: Options = items.iter().flat_map(|(head, _)| marked(head)).collect();
    assert_eq!(described, of_all);
    let help_text = help(None);
    let shorts: Vec<_> = help_text
        .lines()
        .filter_map(|line| line.strip_prefix("  -")?.split_once(", --"))
        .map(|(short, _)| short)
        .collect();
    assert!(!shorts.is_empty());
    for short in &shorts {
        let item = format!("Fl {short} , ");
        let found = items.iter().any(|(head, _)| head.starts_with(&item));
        assert!(found, "nothing is said of -{short}");
    }
    let with_short = items.iter().filter(|(head, _)| head.contains(" , "));
    assert_eq!(with_short.count(), shorts.len());

    let items = list_after("The commands are:");
    let names: Vec<_> = items
        .iter()
        .map(|(head, _)| head.strip_prefix("Cm ").unwrap())
        .collect();
    assert_eq!(names, commands());
    for (name, (_, body)) in names.iter().zip(&items) {
        let known = options(&help(Some(name)));
        let (said, values) = (named(body), values(name));
        for (option, _) in known.difference(&of_all) {
            // Or of the value, by the word that the synopsis has for it.
            let value = values.iter().find(|(name, _)| name == option);
            let told = said.contains(option)
                || value.is_some_and(|(_, word)| body.contains(&format!("\n.Ar {word}")));
            assert!(told, "{name}: nothing is said of --{option}");
        }
        for option in said {
            let known = known.iter().any(|(name, _)| *name == option);
            assert!(known, "{name} has no --{option}");
        }
    }
}

#[test]
fn no_page_of_the_daemon_names_an_unknown_option() {
    let mut known: BTreeSet<String> = BTreeSet::new();
    for name in [None]
        .into_iter()
        .chain(commands().iter().map(|name| Some(name.as_str())))
    {
        known.extend(options(&help(name)).into_iter().map(|(option, _)| option));
    }
    for page in [DAEMON_PAGE, CONFIG_PAGE] {
        let mut said = named(page);
        for line in page.lines().filter(|line| line.contains(" hume-bridge ")) {
            let words = line.split(' ').filter_map(|word| word.strip_prefix("--"));
            said.extend(words.map(str::to_owned));
        }
        assert!(!said.is_empty());
        for option in said {
            assert!(known.contains(&option), "there is no --{option}");
        }
    }
}

/// What `hume-bridge [COMMAND] --help` prints.
fn help(command: Option<&str>) -> String {
    let arguments = command.into_iter().chain(["--help"]);
    match args::parse(arguments) {
        Ok(Invocation::Help(text)) => text.to_owned(),
        other => panic!("{command:?}: {other:?}"),
    }
}

/// The commands that the help names.
fn commands() -> Vec<String> {
    let help = help(None);
    let usage = help
        .lines()
        .filter_map(|line| line.split_once("hume-bridge "));
    let words = usage.filter_map(|(_, rest)| rest.split(' ').next());
    let names: Vec<String> = words
        .filter(|word| word.bytes().all(|b| b.is_ascii_lowercase()))
        .map(str::to_owned)
        .collect();
    assert!(names.len() > 1, "{names:?}");
    names
}

/// The lines of a help that begin with an option: `  --port N   what`, `  -h, --help   what`.
fn options(help: &str) -> Options {
    let lines = help.lines().filter(|line| line.starts_with("  -"));
    lines
        .map(|line| {
            let (_, option) = line.split_once("--").unwrap();
            let mut words = option.split(' ');
            let name = words.next().unwrap().to_owned();
            let value = words.next().unwrap_or("");
            let upper = !value.is_empty() && value.bytes().all(|b| b.is_ascii_uppercase());
            (name, upper)
        })
        .collect()
}

/// `Fl -config Ar file`, wherever it stands.
fn marked(text: &str) -> Options {
    let words: Vec<_> = words(text).collect();
    let mut found = Options::new();
    for (at, word) in words.iter().enumerate() {
        if *word != "Fl" && *word != ".Fl" {
            continue;
        }
        let name = words.get(at + 1).and_then(|name| name.strip_prefix('-'));
        if let Some(name) = name {
            found.insert((name.to_owned(), words.get(at + 2) == Some(&"Ar")));
        }
    }
    found
}

fn named(text: &str) -> BTreeSet<String> {
    marked(text).into_iter().map(|(option, _)| option).collect()
}

/// The options of a command that take a value, with the synopsis' words for these.
fn values(command: &str) -> Vec<(String, &'static str)> {
    let form = format!("\n.Nm\n.Cm {command}\n");
    let (_, form) = DAEMON_PAGE.split_once(&form).unwrap();
    form.lines()
        .map_while(|line| line.strip_prefix(".Op ").or(line.strip_prefix('.')))
        .map_while(|line| line.strip_prefix("Fl -"))
        .filter_map(|line| line.split_once(" Ar "))
        .map(|(option, word)| (option.to_owned(), word))
        .collect()
}

/// The items of the list behind these words, each with what is said of it.
fn list_after(words: &str) -> Vec<(&'static str, String)> {
    let (_, list) = DAEMON_PAGE.split_once(&format!("\n{words}\n")).unwrap();
    let (mut items, mut depth) = (Vec::<(&str, String)>::new(), 0);
    for line in list.lines() {
        depth += i32::from(line.starts_with(".Bl ")) - i32::from(line == ".El");
        match line.strip_prefix(".It ") {
            _ if depth == 0 => break,
            Some(head) if depth == 1 => items.push((head, String::new())),
            _ => {
                if let Some((_, body)) = items.last_mut() {
                    body.push_str(line);
                    body.push('\n');
                }
            }
        }
    }
    assert!(!items.is_empty());
    items
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

// --- all pages

/// Name, section and text.
fn pages() -> Vec<(String, String, PathBuf)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let mut pages: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            let (name, section) = file.rsplit_once('.').expect("a page has a section");
            (name.to_owned(), section.to_owned(), path.clone())
        })
        .collect();
    pages.sort_by(|a, b| (&a.1, &a.0).cmp(&(&b.1, &b.0)));
    assert_eq!(pages.len(), 4, "{pages:?}");
    pages
}

#[test]
fn the_pages_refer_to_each_other_and_to_none_of_ours_that_is_missing() {
    let pages = pages();
    for (name, section, path) in &pages {
        let text = fs::read_to_string(path).unwrap();
        let title = format!(".Dt {} {section}\n", name.to_uppercase());
        assert!(
            text.contains(&title) && text.contains(&format!("\n.Nm {name}\n")),
            "{path:?}"
        );
        for line in text.lines().filter_map(|line| line.strip_prefix(".Xr ")) {
            let mut words = line.split(' ');
            let (to, of) = (words.next().unwrap(), words.next().unwrap_or(""));
            let ours = to.starts_with("hume");
            let there = pages
                .iter()
                .any(|(name, section, _)| name == to && section == of);
            assert!(there || !ours, "{path:?}: there is no {to}({of})");
        }
        let (_, also) = text
            .split_once("\n.Sh SEE ALSO\n")
            .expect("every page ends so");
        let listed: Vec<_> = also
            .lines()
            .map(|line| line.trim_start_matches(".Xr ").trim_end_matches(" ,"))
            .filter(|line| line.starts_with("hume"))
            .collect();
        let others: Vec<_> = pages
            .iter()
            .filter(|(other, ..)| other != name)
            .map(|(name, section, _)| format!("{name} {section}"))
            .collect();
        assert_eq!(listed, others, "{path:?}: by section, then by name");
    }
}

#[test]
fn mandoc_finds_nothing_to_warn_of() {
    for (name, section, path) in pages() {
        let mut lint = Command::new("mandoc");
        lint.args(["-T", "lint", "-W", "warning"]).arg(&path);
        let output = match lint.output() {
            Ok(output) => output,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Not eprintln: what that says of a test that passes is not shown.
                let words = "SKIPPED: mandoc_finds_nothing_to_warn_of: mandoc is not installed";
                return writeln!(io::stderr(), "{words}").unwrap();
            }
            Err(error) => panic!("mandoc: {error}"),
        };
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.is_empty(),
            "{name}({section}):\n{said}"
        );
    }
}
