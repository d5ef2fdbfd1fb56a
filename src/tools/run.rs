//! Carries tool calls out.
//!
//! Every call ends within its offer's time and with exactly one [`Outcome`], unless it is dropped, which
//! stops the tool. Arguments are held against the schema before anything happens. A tool that is
//! running as often as it may is not waited for: the agent is told at once. What is counted and logged
//! of a call, and how often one call may do what costs money, is the [ledger](super::ledger)'s.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use serde_json::{Map, Value};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    Catalogue, Facts, Offer, Outcome, Use,
    builtin::{self, House},
    exec,
    http::{self, Service},
    ledger::Ledger,
    request,
    schema::Schema,
};
use crate::{
    config::{Config, Secret, ToolKind},
    metrics::{Metrics, labels::ToolEnd},
    session::order::Words,
    twilio::CallSid,
};

/// What an agent reads of a failure for which nobody has found better words.
const SORRY: &str = "That did not work. Tell the caller that it is not possible at the moment.";
/// Of each built-in tool, over all calls.
const MAX_BUILTIN: usize = 64;

/// A message for somebody's telephone.
pub struct Message {
    /// `+...`, both.
    pub to: String,
    pub from: String,
    pub body: String,
    /// When it is given up.
    pub within: Duration,
}

/// A message on its way.
pub type Sending = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// Sends a message. Nothing of it is in a failure.
pub type SendMessage = Arc<dyn Fn(Message) -> Sending + Send + Sync>;

/// Why tools cannot be made ready. The config's own check finds all of these first.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("[[tool]] {0:?}: its url is neither https:// nor http:// to a loopback address")]
    Url(String),
    #[error(
        "[[tool]] {tool:?}: there is no credential {credential:?}: put it beside the other credentials"
    )]
    NoCredential { tool: String, credential: String },
    #[error(
        "[[tool]] {tool:?}: the header {header:?}, with its credentials filled in, is none that HTTP can carry"
    )]
    Header { tool: String, header: String },
    #[error("[[tool]] {tool:?}: its parameters are no JSON Schema: {why}")]
    Schema { tool: String, why: String },
    #[error("the http client for tools cannot be set up: {0}")]
    Client(String),
}

/// Why a tool gave no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A word of ours, for logs.
    pub error: &'static str,
    /// More of the same, where the machine's or the library's words say it; nothing of a call is in it.
    pub why: Option<String>,
    /// The tool's own words for the agent.
    pub said: Option<String>,
}

impl Failure {
    pub fn word(error: &'static str) -> Failure {
        Failure {
            error,
            why: None,
            said: None,
        }
    }

    pub fn because(error: &'static str, why: impl Into<String>) -> Failure {
        Failure {
            why: Some(why.into()),
            ..Failure::word(error)
        }
    }
}

/// Everything that tools need to work, under one config. A reload makes a new one; calls keep theirs.
pub struct Runner {
    tools: HashMap<String, Arc<Tool>>,
    house: Arc<House>,
    ledger: Arc<Ledger>,
}

struct Tool {
    schema: Schema,
    running: Arc<Semaphore>,
    work: Work,
}

enum Work {
    Builtin(super::Builtin),
    Http(Service),
    Exec {
        command: Vec<String>,
        max_output: usize,
    },
}

impl Runner {
    /// `named`: the credentials that tools name. `tls` may be absent where no tool asks by `https://`,
    /// `send` where no message is ever sent.
    pub fn new(
        config: &Config,
        named: &BTreeMap<String, Secret>,
        tls: Option<rustls::ClientConfig>,
        send: Option<SendMessage>,
        metrics: Arc<Metrics>,
    ) -> Result<Runner, SetupError> {
        // Setting a client up takes some milliseconds, and most bridges have no use for one.
        let asks = |tool: &crate::config::Tool| matches!(tool.kind, ToolKind::Http(_));
        let client = match config.tools.iter().any(asks) {
            true => Some(http::client(tls)?),
            false => None,
        };
        let mut tools = HashMap::new();
        for offer in Catalogue::of(config, None).offers() {
            let schema = serde_json::from_str(&offer.parameters)
                .map_err(|error| error.to_string())
                .and_then(|schema: Value| Schema::compile(&schema))
                .map_err(|why| SetupError::Schema {
                    tool: offer.name.clone(),
                    why,
                })?;
            let (most, work) = match &offer.what {
                Use::Builtin(tool) => (MAX_BUILTIN, Work::Builtin(*tool)),
                Use::Config(tool) => {
                    let work = match (&tool.kind, &client) {
                        (ToolKind::Http(http), Some(client)) => {
                            Work::Http(Service::new(client, tool, http, named)?)
                        }
                        (ToolKind::Http(_), None) => {
                            return Err(SetupError::Client("there is none".to_owned()));
                        }
                        (ToolKind::Exec { command }, _) => Work::Exec {
                            command: command.clone(),
                            max_output: tool.max_output,
                        },
                    };
                    (tool.max_concurrent, work)
                }
            };
            let tool = Tool {
                schema,
                running: Arc::new(Semaphore::new(most)),
                work,
            };
            tools.insert(offer.name.clone(), Arc::new(tool));
        }
        Ok(Runner {
            tools,
            house: Arc::new(House::new(config, send)),
            ledger: Arc::new(Ledger::new(metrics)),
        })
    }

    /// Carries out one call of a tool. Ends within the offer's time; dropped, the tool is stopped.
    pub fn run(
        &self,
        offer: &Offer,
        call_id: &str,
        arguments: &str,
        facts: Arc<Facts>,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        let Some(tool) = self.tools.get(&offer.name).cloned() else {
            return Box::pin(std::future::ready(failed(
                offer,
                Failure::word("not-available"),
            )));
        };
        let entry = self.ledger.open(&facts, call_id, offer);
        let (offer, call_id, arguments) = (offer.clone(), call_id.to_owned(), arguments.to_owned());
        let (house, ledger) = (self.house.clone(), self.ledger.clone());
        Box::pin(async move {
            let deadline = Instant::now() + offer.timeout;
            let done = match prepare(&tool, &arguments) {
                Ok((arguments, _running)) => {
                    let work = tool.carry_out(
                        &offer, &call_id, &arguments, &facts, &house, &ledger, deadline,
                    );
                    match timeout_at(deadline, work).await {
                        Ok(done) => done,
                        Err(_) => Err(Failure::word(TIMEOUT)),
                    }
                }
                Err(failure) => Err(failure),
            };
            entry.close(done.as_ref().err());
            done.unwrap_or_else(|failure| failed(&offer, failure))
        })
    }

    /// The agent no longer waits for this call's answer because it has made a newer one in its place: to be
    /// said before the older is dropped, or it counts as cancelled.
    pub fn replaced(&self, call: &CallSid, call_id: &str) {
        self.ledger.replaced(call, call_id);
    }
}

/// Arguments that fit, and a place.
fn prepare(
    tool: &Tool,
    arguments: &str,
) -> Result<(Map<String, Value>, tokio::sync::OwnedSemaphorePermit), Failure> {
    let arguments = tool.schema.check(arguments).map_err(|complaint| Failure {
        said: Some(complaint),
        ..Failure::word(ARGUMENTS)
    })?;
    let running = tool.running.clone().try_acquire_owned();
    Ok((arguments, running.map_err(|_| Failure::word(BUSY))?))
}

/// The words for logs that the ledger counts apart.
pub(super) const ARGUMENTS: &str = "arguments";
pub(super) const BUSY: &str = "busy";
pub(super) const TIMEOUT: &str = "timeout";

/// How the metrics count a failure by its word.
pub(super) fn end(error: Option<&str>) -> ToolEnd {
    match error {
        None => ToolEnd::Ok,
        Some(ARGUMENTS) => ToolEnd::Refused,
        Some(BUSY) => ToolEnd::Busy,
        Some(TIMEOUT) => ToolEnd::Timeout,
        Some(_) => ToolEnd::Failed,
    }
}

impl Tool {
    #[allow(clippy::too_many_arguments)] // it is a stage of `Runner::run`, and these are what that has
    async fn carry_out(
        &self,
        offer: &Offer,
        call_id: &str,
        arguments: &Map<String, Value>,
        facts: &Facts,
        house: &House,
        ledger: &Ledger,
        deadline: Instant,
    ) -> Result<Outcome, Failure> {
        let question = || request::question(&offer.name, call_id, facts, arguments);
        let text = match &self.work {
            Work::Builtin(tool) => {
                return builtin::carry_out(*tool, arguments, facts, house, ledger, deadline).await;
            }
            Work::Http(service) => {
                service
                    .ask(&facts.call, call_id, question(), deadline)
                    .await?
            }
            Work::Exec {
                command,
                max_output,
            } => exec::run(command, question(), *max_output).await?,
        };
        Ok(Outcome::Done(Words(text)))
    }
}

/// What the tool itself said, else what the operator has written for this case, else what always holds.
fn failed(offer: &Offer, failure: Failure) -> Outcome {
    let fallback = || match &offer.fallback {
        Some(words) => words.0.clone(),
        None => SORRY.to_owned(),
    };
    Outcome::Failed {
        error: failure.error,
        content: Words(failure.said.unwrap_or_else(fallback)),
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
