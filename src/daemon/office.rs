//! What the daemon works from, and its renewal while it runs.
//!
//! A reload parses and checks everything anew, config and credentials, and then swaps it whole, or
//! changes nothing. Requests and calls that have begun keep what they began with. Credentials that
//! systemd passed (`LoadCredential=`) are copies made at the start: they are read again too, and are
//! what they were until a restart.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::watch;
use tracing::{info, warn};

use super::logging::SetLevel;
use crate::{
    admin::{
        desk::{Control, Line},
        protocol::Reloaded,
        routed::{self, Meets, Routed},
    },
    agent::link::Tls,
    config::{
        self, Certificate, Config, Credentials, Fallback, KeyAction, Problems, ToolKind,
        args::RunArgs,
        certificate,
        changes::{self, Changes},
        credentials,
    },
    http::{Front, Means, Shared, ops::ConfigFacts, rehearsal::may_be_signed, tls::ServerTls},
    metrics::Metrics,
    routing::{Picked, lookup::Lookup},
    session::{caller::Screen, counting, registry::Limits},
    tools::{Failure, Message, Offer, Runner, Sending},
    twilio::{CallSid, rest::Rest, signature},
};

/// Of a config that is all wrong.
const PROBLEMS_LOGGED: usize = 20;

/// Config and credentials, as the command line says where to find them.
pub fn read(run: &RunArgs) -> Result<(Config, Credentials), Problems> {
    with_credentials(run, load(run)?)
}

fn load(run: &RunArgs) -> Result<Config, Problems> {
    let path = run
        .config
        .as_deref()
        .unwrap_or(Path::new(config::DEFAULT_PATH));
    config::load(path, &run.overrides)
}

fn with_credentials(run: &RunArgs, config: Config) -> Result<(Config, Credentials), Problems> {
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

type InForce = (Config, Credentials, Option<Door>);

/// Keeps what is in force and renews it.
pub struct Office {
    run: RunArgs,
    shared: Shared,
    /// Of the public listener.
    address: SocketAddr,
    in_force: Mutex<InForce>,
    desks: watch::Sender<Desk>,
    set_level: SetLevel,
}

impl Office {
    /// `address` is the one that the public listener really has.
    pub fn open(
        run: RunArgs,
        config: Config,
        credentials: Credentials,
        door: Option<Door>,
        shared: Shared,
        address: SocketAddr,
        set_level: SetLevel,
    ) -> anyhow::Result<Self> {
        let mut desk = desk(&config, &credentials, &shared, address.port())?;
        shared.recorder.reopen(config.calls.record.as_deref());
        if let Some(door) = &door {
            told(&door.certificate);
            desk.certificate_expires = Some(door.certificate.expires);
        }
        Ok(Office {
            run,
            shared,
            address,
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
        self.in_force().0.calls.drain_limit
    }

    fn in_force(&self) -> MutexGuard<'_, InForce> {
        self.in_force
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn renew(&self) -> Result<Reloaded, String> {
        let mut in_force = self.in_force();
        let next = self.next(&in_force, load(&self.run))?;
        let Next {
            config,
            credentials,
            desk,
            renewed,
            reloaded,
        } = next;
        let mut door = in_force.2.take();
        if let (Some(door), Some(renewed)) = (&mut door, renewed) {
            told(&renewed);
            door.tls.renew(&renewed);
            door.certificate = renewed;
        }
        self.shared.registry.set_limits(limits(&config));
        (self.set_level)(config.log.level);
        // Even if it is the same file: it may have been rotated away.
        let record = config.calls.record.as_deref();
        self.shared.recorder.reopen(record);
        self.desks.send_replace(desk);
        *in_force = (config, credentials, door);
        let registry = &self.shared.registry;
        registry.reloaded(&reloaded.changed, &reloaded.need_restart);
        Ok(reloaded)
    }

    /// Everything that can fail about a new config, before anything is touched.
    fn next(&self, in_force: &InForce, config: Result<Config, Problems>) -> Result<Next, String> {
        let both = config.and_then(|config| with_credentials(&self.run, config));
        let (mut config, credentials) = both.map_err(|problems| problems.to_string())?;
        let renewed = certificate(&config).map_err(|problems| problems.to_string())?;
        let Changes {
            taken,
            need_restart,
        } = changes::settle(&in_force.0, &mut config);
        let mut desk = desk(&config, &credentials, &self.shared, self.address.port())
            .map_err(|error| format!("{error:#}"))?;
        let mut changed: Vec<String> = taken.iter().map(|key| (*key).to_owned()).collect();
        // Where TLS is switched on or off, everything stays as it is until the restart.
        let certificate = in_force.2.as_ref().map(|door| &door.certificate);
        let renewed = renewed.filter(|_| certificate.is_some());
        if let (Some(old), Some(renewed)) = (certificate, &renewed) {
            // The files may be other ones without a change in the config: that is a renewal.
            let files = [
                ("listen.tls_cert", old.same_chain(renewed)),
                ("listen.tls_key", old.same_key(renewed)),
            ];
            for (key, _) in files.iter().filter(|(_, same)| !same) {
                if !taken.contains(key) {
                    changed.push((*key).to_owned());
                }
            }
        }
        let now = renewed.as_ref().or(certificate);
        desk.certificate_expires = now.map(|certificate| certificate.expires);
        if credentials != in_force.1 {
            changed.push("credentials".to_owned());
        }
        let need_restart = need_restart.iter().map(|key| (*key).to_owned()).collect();
        Ok(Next {
            config,
            credentials,
            desk,
            renewed,
            reloaded: Reloaded {
                changed,
                need_restart,
            },
        })
    }
}

/// What a reload puts in force.
struct Next {
    config: Config,
    credentials: Credentials,
    desk: Desk,
    /// For the public listener, if that speaks TLS.
    renewed: Option<Certificate>,
    reloaded: Reloaded,
}

impl Control for Office {
    fn reload(&self) -> Result<Reloaded, String> {
        let result = self.renew();
        match &result {
            Ok(reloaded) => info!(
                changed = reloaded.changed.join(" "),
                need_restart = reloaded.need_restart.join(" "),
                "config reloaded"
            ),
            Err(problems) => {
                // A line each, as `humebridgectl reload` has them, and bounded like everything.
                for problem in problems.lines().take(PROBLEMS_LOGGED) {
                    warn!("{problem}");
                }
                let problems = problems.lines().count();
                warn!(problems, "config not reloaded, the old one stays in force");
            }
        }
        result
    }

    fn line(&self) -> Line {
        let (config, credentials, door) = &*self.in_force();
        Line {
            account_sid: credentials.twilio_account_sid.clone(),
            number: credentials.twilio_phone_number.clone(),
            public_url: config.public_url.http(""),
            address: config::from_here(self.address),
            certificate: door
                .as_ref()
                .and_then(|door| door.certificate.certified.cert.first())
                .map(|certificate| certificate.to_vec()),
        }
    }

    fn sign(&self, call: &CallSid, url: &str, params: &[(String, String)]) -> Option<String> {
        let (config, credentials, _) = &*self.in_force();
        may_be_signed(&config.public_url, call, url, params)
            .then(|| signature::sign(&credentials.twilio_auth_token, url, params))
    }

    fn check(&self, name: &str, text: &str) -> Result<Reloaded, String> {
        let in_force = self.in_force();
        let config = config::parse(text, name, &self.run.overrides);
        self.next(&in_force, config).map(|next| next.reloaded)
    }

    fn route(&self, to: &str, from: &str, at: Timestamp) -> Routed {
        let desk = self.desks.borrow();
        let Picked {
            plan,
            closed,
            tried,
        } = desk.front.router.pick(to, from, at);
        let tried = tried.iter().map(|tried| routed::Tried {
            route: tried.route.clone(),
            fits: tried.why.fits(),
            why: tried.why.to_string(),
        });
        let names = |offers: &[Offer]| offers.iter().map(|offer| offer.name.clone()).collect();
        let (config_id, voice) = desk.front.agent_names(&plan);
        let does = |action: &KeyAction| match action {
            KeyAction::Transfer(_) => routed::Does::Transfer,
            KeyAction::Say(_) => routed::Does::Say,
            KeyAction::HangUp => routed::Does::Hangup,
        };
        let keys = plan.keys.actions.iter();
        Routed {
            route: plan.name.clone(),
            why: tried.collect(),
            plan: routed::Plan {
                agent: plan.agent.as_str().to_owned(),
                config_id: config_id.map(str::to_owned),
                voice: voice.map(str::to_owned),
                greeting: plan.greeting.clone(),
                fallback: meets(&plan.fallback),
                closed: closed.as_ref().map(meets),
                tools: names(plan.catalogue.offers()),
                variables: plan.variables.keys().cloned().collect(),
                keys: keys.map(|(key, action)| (*key, does(action))).collect(),
                max_concurrent: plan.max_concurrent,
                max_per_caller: plan.max_per_caller,
                max_duration_seconds: plan.max_duration.as_secs(),
                no_input_timeout_seconds: plan.no_input_timeout.as_secs(),
            },
        }
    }
}

fn meets(fallback: &Fallback) -> Meets {
    match fallback {
        Fallback::Say(_) => Meets::Say,
        Fallback::Dial(_) => Meets::Dial,
        Fallback::HangUp => Meets::Hangup,
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
    let tools = tools(config, credentials, &rest, shared)?;
    let lookup = lookup(config, credentials, &shared.tls, &shared.metrics)?;
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
            Means {
                rest,
                tools,
                lookup,
            },
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

fn tools(
    config: &Config,
    credentials: &Credentials,
    rest: &Rest,
    shared: &Shared,
) -> anyhow::Result<Runner> {
    let asks = |tool: &config::Tool| match &tool.kind {
        ToolKind::Http(http) => http.url.starts_with("https://"),
        ToolKind::Exec { .. } => false,
    };
    let tls = match config.tools.iter().any(asks) {
        true => {
            let shared = shared.tls.client_config().context("no TLS for tools")?;
            Some(shared.as_ref().clone())
        }
        false => None,
    };
    let (rest, metrics) = (rest.clone(), shared.metrics.clone());
    let send = move |message: Message| -> Sending {
        let (rest, metrics) = (rest.clone(), metrics.clone());
        Box::pin(async move {
            let asked = Instant::now();
            let Message {
                to,
                from,
                body,
                within,
            } = &message;
            let sent = rest.send_message(to, from, body, *within).await;
            counting::rest(&metrics, asked.elapsed(), &sent);
            sent.map(drop).map_err(|error| {
                warn!(limited = true, %error, "message not sent");
                Failure {
                    said: Some(error.about_message().to_owned()),
                    ..Failure::word("not-sent")
                }
            })
        })
    };
    let (named, metrics) = (&credentials.named, shared.metrics.clone());
    Ok(Runner::new(
        config,
        named,
        tls,
        Some(Arc::new(send)),
        metrics,
    )?)
}

fn lookup(
    config: &Config,
    credentials: &Credentials,
    tls: &Tls,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Option<Lookup>> {
    let Some(config) = &config.lookup else {
        return Ok(None);
    };
    let tls = match config.url.starts_with("https://") {
        true => {
            let shared = tls.client_config().context("no TLS for [lookup]")?;
            Some(shared.as_ref().clone())
        }
        false => None,
    };
    let secrets = &credentials.named;
    Ok(Some(Lookup::new(config, secrets, tls, metrics.clone())?))
}

/// How many calls, and how long each may take to begin.
pub fn limits(config: &Config) -> Limits {
    // Twilio speaks the greeting first, some ten characters a second and slower in some tongues.
    let of_routes = config.routes.iter().flat_map(|route| &route.greeting);
    let greetings = of_routes.chain([&config.calls.greeting]);
    let longest = greetings.map(|greeting| greeting.chars().count()).max();
    let characters = longest.unwrap_or(0) as u32;
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
