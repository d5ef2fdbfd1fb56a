//! The program: from a command line to an exit code.
//!
//! Everything is parsed, checked and bound before READY is said; then [`lifecycle`] keeps the house
//! until a signal ends it. Nobody imports this module: it composes the others.
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 78 the config or the credentials are wrong.

mod lifecycle;
mod logging;
mod notify;

use std::{
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use crate::{
    admin,
    agent::link::Tls,
    config::{
        self, Config, Credentials, Problems,
        args::{self, Invocation, RunArgs},
        credentials,
    },
    http::{
        self, Front,
        listener::{self, Limits},
        ops::{ConfigFacts, OpsState},
    },
    metrics::Metrics,
    session::registry::Registry,
    sim,
    twilio::rest::Rest,
};

const EX_USAGE: u8 = 2;
const EX_CONFIG: u8 = 78;

/// `hume-bridge`
pub fn main() -> ExitCode {
    match args::parse(std::env::args_os().skip(1)) {
        Ok(Invocation::Run(run)) => serve(&run),
        Ok(Invocation::Demo(demo)) => sim::demo::main(&demo),
        Ok(Invocation::Load(load)) => sim::load::main(&load),
        Ok(Invocation::Help(text)) => print(text),
        Ok(Invocation::Version) => print(concat!("hume-bridge ", env!("CARGO_PKG_VERSION"), "\n")),
        Err(error) => {
            eprintln!("hume-bridge: {error}");
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

fn serve(run: &RunArgs) -> ExitCode {
    let (config, credentials) = match settle(run) {
        Ok(both) => both,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(EX_CONFIG);
        }
    };
    let result = logging::init(&config.log)
        .and_then(|()| runtime())
        .and_then(|runtime| {
            let result = runtime.block_on(Box::pin(daemon(config, credentials)));
            // A name that is still being resolved must not hold the exit.
            runtime.shutdown_timeout(Duration::from_secs(1));
            result
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hume-bridge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn settle(run: &RunArgs) -> Result<(Config, Credentials), Problems> {
    let path = run
        .config
        .as_deref()
        .unwrap_or(Path::new(config::DEFAULT_PATH));
    let config = config::load(path, &run.overrides)?;
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY");
    let directory = directory.as_deref().map(Path::new);
    let credentials = credentials::find(run.credentials.as_deref(), &config, directory)?;
    Ok((config, credentials))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("hume-bridge")
        .build()
        .context("cannot start the runtime")
}

async fn daemon(config: Config, credentials: Credentials) -> anyhow::Result<()> {
    let started = Instant::now();
    let metrics = Arc::new(Metrics::default());
    let signals = lifecycle::signals()?;
    let tls = Arc::new(Tls::new());
    // The REST API of a real Twilio is https: build its TLS now, so that a machine without a
    // certificate store is found out at start and not at the first goodbye.
    let rest_tls = match config.twilio.api_url.starts_with("https://") {
        true => Some(
            tls.client_config()
                .context("no TLS for Twilio's REST API")?
                .as_ref()
                .clone(),
        ),
        false => None,
    };
    let rest = Rest::new(
        &config.twilio.api_url,
        &credentials.twilio_account_sid,
        &credentials.twilio_auth_token,
        rest_tls,
    )
    .context("twilio.api_url")?;

    let public = bind(config.listen.http, "listen.http").await?;
    let private = match config.listen.ops {
        Some(address) => Some(bind(address, "listen.ops").await?),
        None => None,
    };
    let control = match &config.admin.socket {
        Some(path) => Some(admin::server::bind(path, &config.admin.group).await?),
        None => None,
    };
    let addresses = notify::Addresses {
        http: public.local_addr().context("listen.http")?,
        ops: private
            .as_ref()
            .map(TcpListener::local_addr)
            .transpose()
            .context("listen.ops")?,
    };

    let registry = Registry::new(config.calls.max_concurrent, admission_lifetime(&config));
    let drain_limit = config.calls.drain_limit;
    let ops_state = Arc::new(OpsState {
        registry: registry.clone(),
        metrics: metrics.clone(),
        config: ConfigFacts {
            port: addresses.http.port(),
            agent: config.agent.default.as_str(),
            hume_config_id: config.hume.config_id.clone(),
            twilio_number: credentials.twilio_phone_number.clone(),
        },
        started,
    });
    let front = Arc::new(Front::new(
        Arc::new(config),
        &credentials,
        registry.clone(),
        rest,
        tls,
        metrics.clone(),
    ));
    let calls = front.calls.clone();

    let hard = CancellationToken::new();
    let tasks = TaskTracker::new();
    let mut servers = tokio::task::JoinSet::new();
    servers.spawn(listener::serve(
        public,
        Limits::default(),
        move |request, _peer| http::router::route(front.clone(), request),
        tasks.clone(),
        hard.clone(),
    ));
    if let Some(private) = private {
        servers.spawn(listener::serve(
            private,
            Limits::default(),
            move |request, _peer| std::future::ready(http::ops::respond_to(&ops_state, &request)),
            tasks.clone(),
            hard.clone(),
        ));
    }
    if let Some(control) = control {
        servers.spawn(admin::server::serve(
            control,
            registry.clone(),
            metrics,
            tasks.clone(),
            hard.clone(),
        ));
    }

    info!(http = %addresses.http, version = env!("CARGO_PKG_VERSION"), "ready");
    notify::ready(&addresses);
    let house = lifecycle::House {
        registry,
        calls,
        tasks,
        servers,
        hard,
        drain_limit,
    };
    lifecycle::keep(house, signals).await
}

/// From the webhook to the media socket: Twilio speaks the greeting first, some ten characters a
/// second and slower in some tongues.
fn admission_lifetime(config: &Config) -> Duration {
    let characters = config.calls.greeting.chars().count() as u32;
    Duration::from_secs(30) + Duration::from_millis(150) * characters
}

async fn bind(address: std::net::SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{key}: cannot listen on {address}; is another instance running?"))
}
