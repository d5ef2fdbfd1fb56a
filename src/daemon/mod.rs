//! The program: from a command line to an exit code.
//!
//! Everything is parsed, checked and bound before READY is said; then [`lifecycle`] keeps the house
//! until a signal ends it. Nobody imports this module: it composes the others.
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 78 the config or the credentials are wrong.

mod lifecycle;
mod logging;
mod notify;
mod office;
mod sockets;

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hyper::{Request, body::Incoming};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use self::{
    logging::{Log, SetLevel},
    office::{Door, Office},
};
use crate::{
    accepting::Accepting,
    admin::{self, desk::Desk},
    agent::link::Tls,
    check,
    config::{
        Certificate, Config, Credentials,
        args::{self, Invocation, RunArgs},
    },
    files,
    http::{
        self, Shared,
        listener::{self, Limits},
        ops::OpsState,
        tls::ServerTls,
    },
    metrics::{Metrics, labels},
    session::registry::Registry,
    sim,
};

/// Connections that are no calls, on the public listener and on the private one.
const MAX_CONNECTIONS: usize = 1024;
const MAX_PRIVATE_CONNECTIONS: usize = 128;

/// For what is left of the call records to be written.
const RECORDS_LIMIT: Duration = Duration::from_secs(2);

const EX_USAGE: u8 = 2;
const EX_CONFIG: u8 = 78;

/// `hume-bridge`
pub fn main() -> ExitCode {
    match args::parse(std::env::args_os().skip(1)) {
        Ok(Invocation::Run(run)) => serve(run),
        Ok(Invocation::Check(args)) => check::main(&args),
        Ok(Invocation::Demo(demo)) => sim::demo::main(&demo),
        Ok(Invocation::Load(load)) => sim::load::main(&load),
        Ok(Invocation::Soak(soak)) => sim::soak::main(&soak),
        Ok(Invocation::Help(text)) => print(text),
        Ok(Invocation::Version) => print(concat!("hume-bridge ", env!("CARGO_PKG_VERSION"), "\n")),
        Err(error) => {
            complain(format_args!("hume-bridge: {error}"));
            ExitCode::from(EX_USAGE)
        }
    }
}

fn print(text: &str) -> ExitCode {
    use std::io::Write as _;
    // A reader that has gone away has seen enough.
    _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// To standard error, which may be on a full disk: the exit status says it all the same.
fn complain(words: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    _ = writeln!(std::io::stderr(), "{words}");
}

fn serve(run: RunArgs) -> ExitCode {
    let read = office::read(&run).and_then(|(config, credentials)| {
        let certificate = office::certificate(&config)?;
        Ok((config, credentials, certificate))
    });
    let (config, credentials, certificate) = match read {
        Ok(all) => all,
        Err(problems) => {
            complain(format_args!("{problems}"));
            return ExitCode::from(EX_CONFIG);
        }
    };
    let metrics = Arc::new(Metrics::default());
    let log = match Log::open(&config.log, metrics.clone()) {
        Ok(log) => log,
        Err(error) => {
            complain(format_args!("hume-bridge: {error:#}"));
            return ExitCode::FAILURE;
        }
    };
    let result = runtime().and_then(|runtime| {
        let set_level = log.set_level();
        let daemon = daemon(run, config, credentials, certificate, metrics, set_level);
        let result = runtime.block_on(Box::pin(daemon));
        // A name that is still being resolved must not hold the exit.
        runtime.shutdown_timeout(Duration::from_secs(1));
        result
    });
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    // In the log, where the rest of the story is, and for whoever started us.
    error!("ends with a failure: {error:#}");
    log.close();
    if !log.is_stderr() {
        complain(format_args!("hume-bridge: {error:#}"));
    }
    ExitCode::FAILURE
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("hume-bridge")
        .build()
        .context("cannot start the runtime")
}

async fn daemon(
    run: RunArgs,
    config: Config,
    credentials: Credentials,
    certificate: Option<Certificate>,
    metrics: Arc<Metrics>,
    set_level: SetLevel,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let (files, calls_at_once) = (files::limit(), config.calls.max_concurrent);
    let signals = lifecycle::signals()?;
    let sockets = sockets::open(&config).await?;
    let control = config
        .admin
        .socket
        .as_ref()
        .map(|path| path.display().to_string());
    let (agent, unsigned) = (
        config.agent.default.as_str(),
        !config.twilio.validate_signatures,
    );
    let registry = Registry::new(office::limits(&config));
    let shared = Shared::new(registry.clone(), Arc::new(Tls::new()), metrics.clone());
    let (calls, recorder) = (shared.calls.clone(), shared.recorder.clone());
    let tls = certificate
        .as_ref()
        .map(|certificate| Arc::new(ServerTls::new(certificate, metrics.clone())));
    let door = certificate
        .zip(tls.clone())
        .map(|(certificate, tls)| Door { tls, certificate });
    let office = Arc::new(Office::open(
        run,
        config,
        credentials,
        door,
        shared,
        sockets.addresses.http,
        set_level,
    )?);

    let hard = CancellationToken::new();
    let tasks = TaskTracker::new();
    let mut servers = tokio::task::JoinSet::new();
    let desks = office.desks();
    servers.spawn(listener::serve(
        sockets.public,
        tls,
        Limits::within(MAX_CONNECTIONS, files),
        Accepting::new(labels::Door::Http, metrics.clone()),
        move |request, peer| http::router::route(desks.borrow().front.clone(), request, peer),
        tasks.clone(),
        hard.clone(),
    ));
    if let Some(private) = sockets.private {
        let (desks, registry, metrics) = (office.desks(), registry.clone(), metrics.clone());
        let counted = metrics.clone();
        let answer = move |request: Request<Incoming>, _peer| {
            let (config, certificate_expires) = {
                let desk = desks.borrow();
                (desk.facts.clone(), desk.certificate_expires)
            };
            let state = OpsState {
                registry: registry.clone(),
                metrics: metrics.clone(),
                config,
                certificate_expires,
                started,
            };
            std::future::ready(http::ops::respond_to(&state, &request))
        };
        servers.spawn(listener::serve(
            private,
            None,
            Limits::within(MAX_PRIVATE_CONNECTIONS, files),
            Accepting::new(labels::Door::Ops, counted),
            answer,
            tasks.clone(),
            hard.clone(),
        ));
    }
    if let Some(control) = sockets.control {
        let desk = Arc::new(Desk::new(registry.clone(), office.clone(), metrics));
        servers.spawn(admin::server::serve(
            control,
            desk,
            tasks.clone(),
            hard.clone(),
        ));
    }

    let addresses = &sockets.addresses;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        http = %addresses.http,
        ops = addresses.ops.map(tracing::field::display),
        control,
        agent,
        "ready"
    );
    if unsigned {
        warn!("twilio.validate_signatures is false: anybody may pass for Twilio");
    }
    let needed = files::needed(calls_at_once);
    if let Some(limit) = files.filter(|limit| *limit < needed) {
        warn!(
            limit,
            needed,
            "too few files may be open for calls.max_concurrent: set LimitNOFILE= in the unit \
             (ulimit -n elsewhere), or lower it"
        );
    }
    notify::ready(&sockets.addresses);
    let house = lifecycle::House {
        office,
        registry,
        calls,
        tasks,
        servers,
        hard,
    };
    let kept = lifecycle::keep(house, signals).await;
    // Every call has ended by now, or was given up, and nothing else is left to be held up.
    if !recorder.close(RECORDS_LIMIT) {
        warn!("left behind some call records that could not be written in time");
    }
    kept
}
