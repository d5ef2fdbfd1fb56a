//! What the daemon works from, and its renewal while it runs.
//!
//! A reload parses and checks everything anew, config and credentials, and then swaps it whole, or
//! changes nothing. Requests and calls that have begun keep what they began with. Credentials that
//! systemd passed (`LoadCredential=`) are copies made at the start: they are read again too, and are
//! what they were until a restart.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use tokio::sync::watch;
use tracing::{info, warn};

use super::logging::SetLevel;
use crate::{
    admin::{desk::Control, protocol::Reloaded},
    agent::link::Tls,
    config::{
        self, Certificate, Config, Credentials, Problems,
        args::RunArgs,
        certificate,
        changes::{self, Changes},
        credentials,
    },
    http::{Front, Shared, ops::ConfigFacts, tls::ServerTls},
    session::{caller::Screen, registry::Limits},
    twilio::rest::Rest,
};

/// Config and credentials, as the command line says where to find them.
pub fn read(run: &RunArgs) -> Result<(Config, Credentials), Problems> {
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

/// The public listener's certificate, where it has one, and what is to be said about it.
pub fn certificate(config: &Config) -> Result<Option<Certificate>, Problems> {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY");
    certificate::load(
        config,
        directory.as_deref().map(Path::new),
        SystemTime::now(),
    )
}

/// One config's worth of everything.
#[derive(Clone)]
pub struct Desk {
    pub front: Arc<Front>,
    pub facts: Arc<ConfigFacts>,
    /// Of the public listener, in Unix time.
    pub certificate_expires: Option<i64>,
}

/// A certificate, and the listener that shows it.
pub struct Door {
    pub tls: Arc<ServerTls>,
    pub certificate: Certificate,
}

/// Keeps what is in force and renews it.
pub struct Office {
    run: RunArgs,
    shared: Shared,
    port: u16,
    in_force: Mutex<(Config, Credentials, Option<Door>)>,
    desks: watch::Sender<Desk>,
    set_level: SetLevel,
}

impl Office {
    /// `port` is the one that the public listener really has.
    pub fn open(
        run: RunArgs,
        config: Config,
        credentials: Credentials,
        door: Option<Door>,
        shared: Shared,
        port: u16,
        set_level: SetLevel,
    ) -> anyhow::Result<Self> {
        let mut desk = desk(&config, &credentials, &shared, port)?;
        if let Some(door) = &door {
            told(&door.certificate);
            desk.certificate_expires = Some(door.certificate.expires);
        }
        Ok(Office {
            run,
            shared,
            port,
            in_force: Mutex::new((config, credentials, door)),
            desks: watch::Sender::new(desk),
            set_level,
        })
    }

    /// What is in force, now and after every reload.
    pub fn desks(&self) -> watch::Receiver<Desk> {
        self.desks.subscribe()
    }

    /// `calls.drain_limit` as it is now.
    pub fn drain_limit(&self) -> Duration {
        let in_force = self
            .in_force
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        in_force.0.calls.drain_limit
    }

    fn renew(&self) -> Result<Reloaded, String> {
        let mut in_force = self
            .in_force
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let (mut config, credentials) = read(&self.run).map_err(|problems| problems.to_string())?;
        let renewed = certificate(&config).map_err(|problems| problems.to_string())?;
        let Changes {
            taken,
            need_restart,
        } = changes::settle(&in_force.0, &mut config);
        let credentials_changed = credentials != in_force.1;
        let mut desk = desk(&config, &credentials, &self.shared, self.port)
            .map_err(|error| format!("{error:#}"))?;
        let mut changed: Vec<String> = taken.iter().map(|key| (*key).to_owned()).collect();
        // Where TLS is switched on or off, everything stays as it is until the restart.
        let mut door = in_force.2.take();
        if let (Some(door), Some(renewed)) = (&mut door, renewed) {
            // The files may be other ones without a change in the config: that is a renewal.
            let files = [
                ("listen.tls_cert", door.certificate.same_chain(&renewed)),
                ("listen.tls_key", door.certificate.same_key(&renewed)),
            ];
            for (key, _) in files.iter().filter(|(_, same)| !same) {
                if !taken.contains(key) {
                    changed.push((*key).to_owned());
                }
            }
            told(&renewed);
            door.tls.renew(&renewed);
            door.certificate = renewed;
        }
        desk.certificate_expires = door.as_ref().map(|door| door.certificate.expires);
        self.shared.registry.set_limits(limits(&config));
        (self.set_level)(config.log.level);
        self.desks.send_replace(desk);
        *in_force = (config, credentials, door);
        if credentials_changed {
            changed.push("credentials".to_owned());
        }
        let need_restart = need_restart.iter().map(|key| (*key).to_owned()).collect();
        Ok(Reloaded {
            changed,
            need_restart,
        })
    }
}

impl Control for Office {
    fn reload(&self) -> Result<Reloaded, String> {
        let result = self.renew();
        match &result {
            Ok(reloaded) => info!(
                changed = ?reloaded.changed, need_restart = ?reloaded.need_restart, "config reloaded"
            ),
            Err(problems) => warn!(%problems, "config not reloaded, the old one stays in force"),
        }
        result
    }
}

fn told(certificate: &Certificate) {
    for warning in &certificate.warnings {
        warn!("{warning}");
    }
}

fn desk(
    config: &Config,
    credentials: &Credentials,
    shared: &Shared,
    port: u16,
) -> anyhow::Result<Desk> {
    let rest = rest(config, credentials, &shared.tls)?;
    let facts = ConfigFacts {
        port,
        agent: config.agent.default.as_str(),
        hume_config_id: config.hume.config_id.clone(),
        twilio_number: credentials.twilio_phone_number.clone(),
    };
    Ok(Desk {
        front: Arc::new(Front::new(
            Arc::new(config.clone()),
            credentials,
            rest,
            shared,
        )),
        facts: Arc::new(facts),
        certificate_expires: None,
    })
}

fn rest(config: &Config, credentials: &Credentials, tls: &Tls) -> anyhow::Result<Rest> {
    // The REST API of a real Twilio is https: build its TLS now, so that a machine without a
    // certificate store is found out at start and not at the first goodbye.
    let rest_tls = if config.twilio.api_url.starts_with("https://") {
        let shared = tls
            .client_config()
            .context("no TLS for Twilio's REST API")?;
        Some(shared.as_ref().clone())
    } else {
        None
    };
    Rest::new(
        &config.twilio.api_url,
        &credentials.twilio_account_sid,
        &credentials.twilio_auth_token,
        rest_tls,
    )
    .context("twilio.api_url")
}

/// How many calls, and how long each may take to begin.
pub fn limits(config: &Config) -> Limits {
    // Twilio speaks the greeting first, some ten characters a second and slower in some tongues.
    let characters = config.calls.greeting.chars().count() as u32;
    Limits {
        max_concurrent: config.calls.max_concurrent,
        max_per_caller: config.calls.max_per_caller,
        max_per_number: config.calls.max_per_number,
        screen: Arc::new(Screen {
            allow: config.calls.allow.clone(),
            deny: config.calls.deny.clone(),
        }),
        admission_lifetime: Duration::from_secs(30) + Duration::from_millis(150) * characters,
    }
}
