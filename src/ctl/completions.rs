//! Completions for bash, zsh and fish, made from the parser's own table.
//!
//! Commands, options and files are completed from the script alone; a CALL by asking the daemon
//! that the command line names, and with nothing when it is away.

use super::args::{COMMANDS, Flag, OPTIONS, Shell, Spec, Takes};

/// The script for a shell.
pub fn script(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash(),
        Shell::Zsh => zsh(),
        Shell::Fish => fish(),
    }
}

/// The live calls, a line each, with the rest of the command in front of `sessions`.
const CALLS: &str = "--json --timeout 1s sessions 2>/dev/null \
     | grep -o '\"callSid\":\"CA[0-9a-f]*\"' | cut -d'\"' -f4";

fn takes_call(spec: &Spec) -> bool {
    matches!(
        spec.takes,
        Takes::Call | Takes::MaybeCall | Takes::Calls | Takes::CallAndText | Takes::CallAndNumber
    )
}

fn is_file(flag: &Flag) -> bool {
    matches!(flag.value, Some("PATH" | "FILE"))
}

fn names<'a>(specs: impl Iterator<Item = &'a Spec>, between: &str) -> String {
    specs
        .map(|spec| spec.name)
        .collect::<Vec<_>>()
        .join(between)
}

fn options<'a>(flags: impl Iterator<Item = &'a Flag>, between: &str) -> String {
    let written: Vec<_> = flags.map(|flag| format!("--{}", flag.name)).collect();
    written.join(between)
}

fn every_flag() -> impl Iterator<Item = &'static Flag> {
    OPTIONS
        .iter()
        .chain(COMMANDS.iter().flat_map(|spec| spec.flags))
}

fn shells() -> String {
    Shell::ALL.map(|(name, _)| name).join(" ")
}

fn bash() -> String {
    let valued = options(every_flag().filter(|flag| flag.value.is_some()), "|");
    let files = options(every_flag().filter(|flag| is_file(flag)), "|");
    let common = options(OPTIONS.iter(), " ");
    let mut own = String::new();
    for spec in COMMANDS.iter().filter(|spec| !spec.flags.is_empty()) {
        let flags = options(spec.flags.iter(), " ");
        own += &format!("            {}) flags+=' {flags}' ;;\n", spec.name);
    }
    let all = names(COMMANDS.iter(), " ");
    let many = |spec: &&Spec| spec.takes == Takes::Calls;
    let with_calls = names(COMMANDS.iter().filter(many), "|");
    let with_call = names(
        COMMANDS
            .iter()
            .filter(|spec| takes_call(spec) && !many(spec)),
        "|",
    );
    let with_file = names(
        COMMANDS.iter().filter(|spec| spec.takes == Takes::File),
        "|",
    );
    let with_shell = names(
        COMMANDS.iter().filter(|spec| spec.takes == Takes::Shell),
        "|",
    );
    format!(
        r#"# bash completion for humebridgectl, made by `humebridgectl completions bash`

_humebridgectl_calls() {{
    humebridgectl "$@" {CALLS}
}}

_humebridgectl() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} word command='' option='' flags i arguments=0
    local -a socket=()
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        # `--socket=PATH` comes in three words.
        [[ $word == = ]] && continue
        if [[ $option ]]; then
            [[ $option == --socket ]] && socket=(--socket "$word")
            option=''
            continue
        fi
        case $word in
            {valued}) option=$word ;;
            -?*) ;;
            *) if [[ $command ]]; then ((arguments++)); else command=$word; fi ;;
        esac
    done
    [[ $cur == = ]] && cur=''
    case $option in
        {files}) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        ?*) return ;;
    esac
    if [[ $cur == -* ]]; then
        flags='{common}'
        case $command in
{own}        esac
        mapfile -t COMPREPLY < <(compgen -W "$flags" -- "$cur")
        return
    fi
    case $command in
        '') mapfile -t COMPREPLY < <(compgen -W '{all}' -- "$cur"); return ;;
        {with_calls}) arguments=0 ;;
    esac
    ((arguments > 0)) && return
    case $command in
        {with_call}|{with_calls})
            mapfile -t COMPREPLY < <(compgen -W "$(_humebridgectl_calls "${{socket[@]}}")" -- "$cur") ;;
        {with_file}) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        {with_shell}) mapfile -t COMPREPLY < <(compgen -W '{shells}' -- "$cur") ;;
    esac
}}

complete -F _humebridgectl humebridgectl
"#,
        shells = shells()
    )
}

/// In single quotes, for zsh and fish.
fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''")
}

fn zsh() -> String {
    let argument = |flag: &Flag| {
        // A description must not end early.
        let about = quoted(flag.about).replace([':', '[', ']'], "");
        let value = match flag.value {
            Some(value) if is_file(flag) => format!(":{value}:_files"),
            Some(value) => format!(":{value}: "),
            None => String::new(),
        };
        format!("'--{}[{about}]{value}'", flag.name)
    };
    let mut commands = String::new();
    let mut own = String::new();
    for spec in COMMANDS {
        let about = quoted(spec.about).replace(':', "\\:");
        commands += &format!("                '{}:{about}'\n", spec.name);
        let mut arguments: Vec<_> = spec.flags.iter().map(argument).collect();
        arguments.extend(match spec.takes {
            Takes::Nothing => None,
            Takes::Call => Some("'1:call:_humebridgectl_calls'".to_owned()),
            Takes::MaybeCall => Some("'::call:_humebridgectl_calls'".to_owned()),
            Takes::Calls => Some("'*:call:_humebridgectl_calls'".to_owned()),
            Takes::CallAndText => Some("'1:call:_humebridgectl_calls' '2:text: '".to_owned()),
            Takes::CallAndNumber => Some("'1:call:_humebridgectl_calls' '2:number: '".to_owned()),
            Takes::File => Some("'1:file:_files'".to_owned()),
            Takes::Shell => Some(format!("'1:shell:({})'", shells())),
        });
        if !arguments.is_empty() {
            let arguments = arguments.join(" ");
            own += &format!("                {}) _arguments {arguments} ;;\n", spec.name);
        }
    }
    let common: Vec<_> = OPTIONS.iter().map(argument).collect();
    let common = common.join(" \\\n        ");
    format!(
        r#"#compdef humebridgectl
# zsh completion for humebridgectl, made by `humebridgectl completions zsh`

_humebridgectl_calls() {{
    local -a calls at
    [[ -n $socket ]] && at=(--socket $socket)
    calls=(${{(f)"$(humebridgectl $at {CALLS})"}})
    compadd -a calls
}}

_humebridgectl() {{
    local context state state_descr line socket
    typeset -A opt_args
    _arguments -C \
        {common} \
        '1:command:->command' \
        '*::argument:->argument'
    # The arguments of a command are read by another _arguments, which forgets this one's.
    socket=${{opt_args[--socket]}}
    case $state in
        command)
            local -a commands
            commands=(
{commands}            )
            _describe -t commands command commands
            ;;
        argument)
            case $words[1] in
{own}            esac
            ;;
    esac
}}

if [[ $funcstack[1] == _humebridgectl ]]; then
    _humebridgectl "$@"
else
    compdef _humebridgectl humebridgectl
fi
"#
    )
}

fn fish() -> String {
    let mut text = format!(
        r#"# fish completion for humebridgectl, made by `humebridgectl completions fish`

function __humebridgectl_calls
    set -l words (commandline -opc)
    set -l at
    if set -l i (contains -i -- --socket $words)
        set at --socket $words[(math $i + 1)]
    end
    humebridgectl $at {CALLS}
end

complete -c humebridgectl -f
"#
    );
    let option = |flag: &Flag| {
        let value = match flag.value {
            Some(_) if is_file(flag) => " -r -F",
            Some(_) => " -x",
            None => "",
        };
        format!("-l {}{value} -d '{}'", flag.name, quoted(flag.about))
    };
    for flag in OPTIONS {
        text += &format!("complete -c humebridgectl {}\n", option(flag));
    }
    for spec in COMMANDS {
        text += &format!(
            "complete -c humebridgectl -n __fish_use_subcommand -a {} -d '{}'\n",
            spec.name,
            quoted(spec.about)
        );
        let here = format!(
            "complete -c humebridgectl -n '__fish_seen_subcommand_from {}'",
            spec.name
        );
        for flag in spec.flags {
            text += &format!("{here} {}\n", option(flag));
        }
        if takes_call(spec) {
            text += &format!("{here} -a '(__humebridgectl_calls)'\n");
        }
        match spec.takes {
            Takes::File => text += &format!("{here} -F\n"),
            Takes::Shell => text += &format!("{here} -a '{}'\n", shells()),
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn everything_that_is_understood_is_offered() {
        for (name, shell) in Shell::ALL {
            let text = script(shell);
            let word = |word: &str| {
                text.split(|c: char| !c.is_alphanumeric() && c != '-')
                    .any(|found| found == word)
            };
            for spec in COMMANDS {
                assert!(word(spec.name), "{name} does not know {}", spec.name);
            }
            for flag in every_flag() {
                let written = match shell {
                    Shell::Fish => text.contains(&format!(" -l {} ", flag.name)),
                    _ => word(&format!("--{}", flag.name)),
                };
                assert!(written, "{name} does not know --{}", flag.name);
            }
        }
    }

    /// Runs a shell on what it is given; `None` where there is no such shell.
    fn shell(program: &str, arguments: &[&str], input: &str) -> Option<(bool, String)> {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                eprintln!("SKIPPED: no {program} here ({error})");
                return None;
            }
        };
        child.stdin.take()?.write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&output.stdout) + &text(&output.stderr);
        Some((output.status.success(), said))
    }

    #[test]
    fn the_shells_understand_their_scripts() {
        for (program, of) in [
            ("bash", Shell::Bash),
            ("zsh", Shell::Zsh),
            ("fish", Shell::Fish),
        ] {
            if let Some((well, said)) = shell(program, &["-n"], &script(of)) {
                assert!(well && said.is_empty(), "{program}: {said}");
            }
        }
    }

    #[test]
    fn bash_completes() {
        // In place of the daemon.
        let daemon = r#"humebridgectl() {
            [[ $1 == --socket && $2 == /tmp/s ]] || exit 69
            echo '{"sessions":[{"callSid":"CA12"},{"callSid":"CA13"}]}'
        }
        complete_words() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
            _humebridgectl
            echo "${COMPREPLY[*]}"
        }
        "#;
        let cases = [
            ("sess", "sessions"),
            ("hangup --r", "--reason"),
            ("status --al", ""),
            ("--socket /tmp/s hangup CA12 CA", "CA12 CA13"),
            ("--socket = /tmp/s show CA13", "CA13"),
            ("--socket /tmp/s say CA12 ''", ""),
            ("--socket /tmp/s transfer CA", "CA12 CA13"),
            ("transfer CA12 +1 --a", "--announce"),
            // The daemon is away.
            ("show ''", ""),
            ("completions z", "zsh"),
            ("hangup --reason CA", ""),
        ];
        let mut input = script(Shell::Bash) + daemon;
        for (words, _) in cases {
            input += &format!("complete_words humebridgectl {words}\n");
        }
        let Some((well, said)) = shell("bash", &["--norc"], &input) else {
            return;
        };
        let expected: String = cases.map(|(_, expected)| format!("{expected}\n")).concat();
        assert!(well && said == expected, "{said}");
    }
}
