//! `hume-bridge check`: could a call be taken, and if not, what is to be done?
//!
//! It looks at what the daemon would use, in the daemon's own words and with its own means: config
//! and credentials, this machine ([`local`]), Twilio's account and number ([`account`]), the public
//! address from outside ([`public`]), each agent in use ([`agent`]). It changes nothing, takes no call and
//! sends no secret anywhere but to its owner; a daemon may be running meanwhile, or not yet. Every
//! wait has a deadline, and what needs something that failed is skipped with that reason. The lines
//! come in the order of [`CHECKS`], whoever answered first. No secret and no whole telephone number
//! is ever printed.
//!
//! Exit codes: 0 all is well, 1 something fails, 78 the config or the credentials are wrong.

mod account;
mod agent;
mod local;
mod public;
mod report;
mod web;

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;

use self::report::{Finding, Report, Verdict};
use crate::{
    agent::{Agents, link::Tls},
    config::{
        self, AgentKind, Config, Credentials, DEFAULT_PATH, Problem, Problems,
        args::CheckArgs,
        certificate::Certificate,
        credentials::{self, Place},
        realtime::Auth,
    },
    routing::Router,
};

const EX_CONFIG: u8 = 78;

/// Everything that is looked at, in the order of the lines.
const CHECKS: [&str; 15] = [
    "config",
    "credentials",
    "tls",
    "listen.http",
    "listen.ops",
    "admin",
    "files",
    "record",
    "twilio",
    "clock",
    "number",
    "public_url",
    "webhook",
    "media",
    "agent",
];
/// So many routes' agents are called, one after another.
const MOST_PLANS: usize = 20;
/// Those that ask somebody elsewhere begin here.
const NETWORK: usize = 8;

/// The whole command.
pub fn main(args: &CheckArgs) -> ExitCode {
    let mut report = Report::new(args.json);
    let path = args.run.config.as_deref();
    let path = path.unwrap_or(Path::new(DEFAULT_PATH));
    let config = match config::load(path, &args.run.overrides) {
        Ok(config) => config,
        Err(problems) => {
            report.add(wrong("config", &problems));
            report.add(
                CHECKS[1..]
                    .iter()
                    .map(|check| Finding::skip(check, "needs a config without errors")),
            );
            return ExitCode::from(EX_CONFIG);
        }
    };
    report.add([Finding::ok("config", read(path))]);

    let directory = std::env::var_os("CREDENTIALS_DIRECTORY");
    let directory = directory.as_deref().map(Path::new);
    let cli = args.run.credentials.as_deref();
    let credentials = match credentials::find(cli, &config, directory) {
        Ok(credentials) => {
            let place = credentials::place(cli, &config, directory);
            report.add([Finding::ok("credentials", found(&credentials, place))]);
            Some(credentials)
        }
        Err(problems) => {
            report.add(wrong("credentials", &problems));
            None
        }
    };

    let certificate = config::certificate::load(&config, directory, SystemTime::now());
    report.add(tls(&certificate));
    let usable = credentials.is_some() && certificate.is_ok();

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("hume-bridge: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let certificate = certificate.ok().flatten();
    runtime.block_on(look(
        &mut report,
        args,
        &config,
        credentials.as_ref(),
        certificate.as_ref(),
    ));
    // A name that is still being resolved must not hold the exit.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match (usable, report.failed()) {
        (false, _) => ExitCode::from(EX_CONFIG),
        (true, true) => ExitCode::FAILURE,
        (true, false) => ExitCode::SUCCESS,
    }
}

/// A line for each agent that some call is answered by, and for each route that has it otherwise than
/// others: another config or voice, other instructions or tools may be refused.
async fn agents(config: &Config, credentials: &Credentials, tls: &Tls) -> Vec<Finding> {
    let (agents, router) = (Agents::new(config, credentials), Router::new(config));
    let looks = config.agents().into_iter().map(async |kind| {
        let no_key = kind == AgentKind::Realtime && config.realtime.auth == Auth::None;
        let different = router.different(kind);
        let mut findings = Vec::new();
        // One after another: a vendor counts the chats at once. Where the first cannot be had, nor can
        // the others.
        for plan in different.iter().take(MOST_PLANS) {
            let finding = agent::look(&agents, plan, no_key, tls).await;
            let failed = finding.result == Verdict::Fail;
            findings.push(finding);
            if failed && findings.len() == 1 {
                break;
            }
        }
        let left = different.len() - findings.len();
        if left > 0 {
            let name = kind.as_str();
            let why = format!("{left} more routes have {name} otherwise, and were not tried");
            findings.push(Finding::skip("agent", why));
        }
        findings
    });
    join_all(looks).await.into_iter().flatten().collect()
}

async fn look(
    report: &mut Report,
    args: &CheckArgs,
    config: &Config,
    credentials: Option<&Credentials>,
    certificate: Option<&Certificate>,
) {
    let tls = Tls::new();
    let (findings, running) = local::look(config, certificate, &tls).await;
    report.add(findings);
    if args.offline {
        let skip = |check: &&'static str| Finding::skip(check, "--offline");
        return report.add(CHECKS[NETWORK..].iter().map(skip));
    }
    let twilio = async {
        match credentials {
            Some(credentials) => account::look(config, credentials, &tls).await,
            None => unaccredited(&["twilio", "clock", "number"]),
        }
    };
    let agent = async {
        match credentials {
            Some(credentials) => agents(config, credentials, &tls).await,
            None => unaccredited(&["agent"]),
        }
    };
    let (twilio, public, agent) = tokio::join!(twilio, public::look(config, running, &tls), agent);
    report.add(twilio);
    report.add(public);
    report.add(agent);
}

/// What the public listener shows, if it speaks TLS.
fn tls(certificate: &Result<Option<Certificate>, Problems>) -> Vec<Finding> {
    const CHECK: &str = "tls";
    match certificate {
        Ok(None) => vec![Finding::ok(CHECK, "off: left to a proxy")],
        Ok(Some(certificate)) if certificate.warnings.is_empty() => {
            let expires = jiff::Timestamp::from_second(certificate.expires);
            vec![Finding::ok(
                CHECK,
                match expires {
                    Ok(expires) => format!("certificate and key, good until {expires}"),
                    Err(_) => "certificate and key".to_owned(),
                },
            )]
        }
        Ok(Some(certificate)) => certificate
            .warnings
            .iter()
            .map(|warning| {
                let otherwise = (
                    warning.as_str(),
                    "get one that fits, then humebridgectl reload",
                );
                let (what, mend) = warning.rsplit_once("; ").unwrap_or(otherwise);
                Finding::fail(CHECK, what, mend)
            })
            .collect(),
        Err(problems) => wrong(CHECK, problems),
    }
}

fn unaccredited(checks: &[&'static str]) -> Vec<Finding> {
    let skip = |check: &&'static str| Finding::skip(check, "needs the credentials");
    checks.iter().map(skip).collect()
}

/// All problems at once, a line each.
fn wrong(check: &'static str, problems: &Problems) -> Vec<Finding> {
    let finding = |problem: &Problem| {
        let mend = problem.mend.clone();
        let what = Problem {
            mend: String::new(),
            ..problem.clone()
        };
        Finding::fail(check, what.to_string(), mend)
    };
    problems.iter().map(finding).collect()
}

/// `/etc/hume-bridge/hume-bridge.toml (3 keys)`
fn read(path: &Path) -> String {
    fn keys(table: &toml::Table) -> usize {
        let count = |value: &toml::Value| match value {
            toml::Value::Table(table) => keys(table),
            _ => 1,
        };
        table.values().map(count).sum()
    }
    // It has been read whole a moment ago; if it has gone since, its name is enough.
    let table = std::fs::read_to_string(path)
        .ok()
        .and_then(|text| text.parse::<toml::Table>().ok());
    match table.map(|table| keys(&table)) {
        Some(1) => format!("{} (1 key)", path.display()),
        Some(keys) => format!("{} ({keys} keys)", path.display()),
        None => path.display().to_string(),
    }
}

fn found(credentials: &Credentials, place: Option<Place<'_>>) -> String {
    let names = credentials.found().join(", ");
    let (Some(Place::File(path)) | Some(Place::Directory(path))) = place else {
        return names;
    };
    match path.metadata() {
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            format!("{names} from {} (mode {mode:03o})", path.display())
        }
        Err(_) => format!("{names} from {}", path.display()),
    }
}
