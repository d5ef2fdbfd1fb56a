//! Which calls are answered how: from a called number, a caller and a time to a [`Plan`].
//!
//! A [`Router`] is one config's routes, each resolved over what holds for all calls. The first that fits
//! is a call's; a call that fits none meets the default plan. Every step is told ([`Tried`]), so that
//! an operator can ask why. Pure but for [`lookup`]: the time is handed in, and nothing is logged, because
//! everything here is about somebody's number.

mod fill;
mod hours;
pub mod lookup;
mod plan;

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    sync::Arc,
};

use jiff::Timestamp;

use crate::{
    config::{AgentKind, CallerPrefix, Config, Fallback, Hours, Route},
    session::caller::{Caller, canonical},
};
pub use fill::{ALWAYS_KNOWN, Facts, Known};
pub use hours::Local;
pub use plan::Plan;

/// The plan of calls that fit no route.
pub const DEFAULT: &str = "default";

/// All routes of one config.
pub struct Router {
    /// In the order of the file.
    routes: Vec<Door>,
    default: Arc<Plan>,
    /// The webhook's fields that some variable names.
    fields: BTreeSet<String>,
}

/// A route, as calls come to it.
struct Door {
    to: Option<Box<str>>,
    from: Option<CallerPrefix>,
    hours: Option<Hours>,
    closed: Option<Fallback>,
    plan: Arc<Plan>,
}

/// What a call meets.
pub struct Picked {
    pub plan: Arc<Plan>,
    /// The route is closed, and its callers meet this instead.
    pub closed: Option<Fallback>,
    /// Every route that was looked at, in order; the last is the call's.
    pub tried: Vec<Tried>,
}

/// A route that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    pub route: String,
    pub why: Why,
}

/// Why a route is a call's, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Fits,
    /// It is for another called number.
    OtherNumber,
    /// It is for other callers.
    OtherCaller,
    /// It is for callers who show their number.
    Withheld,
    /// It is closed, and says nothing of what its callers meet then.
    Passed(Local),
    /// It is closed, and says what its callers meet.
    Closed(Local),
    /// No route fitted.
    Nobodys,
}

impl Why {
    /// Whether the call is the route's.
    pub fn fits(self) -> bool {
        matches!(self, Why::Fits | Why::Closed(_) | Why::Nobodys)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Fits => f.write_str("fits"),
            Why::OtherNumber => f.write_str("is for another called number"),
            Why::OtherCaller => f.write_str("is for other callers"),
            Why::Withheld => f.write_str("is for callers who do not withhold their number"),
            Why::Passed(local) => {
                write!(
                    f,
                    "is closed ({local} there) and leaves its calls to the next"
                )
            }
            Why::Closed(local) => write!(f, "fits, and is closed ({local} there)"),
            Why::Nobodys => f.write_str("no route fits"),
        }
    }
}

impl Router {
    pub fn new(config: &Config) -> Router {
        Router {
            routes: config
                .routes
                .iter()
                .map(|route| Door::new(config, route))
                .collect(),
            default: Arc::new(Plan::default_of(config)),
            fields: config.parameters(),
        }
    }

    /// The first route that fits.
    pub fn pick(&self, to: &str, from: &str, now: Timestamp) -> Picked {
        let (to, from) = (canonical(to), Caller::of(from));
        let mut tried = Vec::new();
        for door in &self.routes {
            let why = door.judge(&to, &from, now);
            tried.push(Tried {
                route: door.plan.name.clone(),
                why,
            });
            if why.fits() {
                let closed = match why {
                    Why::Closed(_) => door.closed.clone(),
                    _ => None,
                };
                return Picked {
                    plan: door.plan.clone(),
                    closed,
                    tried,
                };
            }
        }
        tried.push(Tried {
            route: self.default.name.clone(),
            why: Why::Nobodys,
        });
        Picked {
            plan: self.default.clone(),
            closed: None,
            tried,
        }
    }

    /// A plan by its name, which another instance, or a config before this one, may have had: if the call
    /// is one of its. A route without a name of its own is known by its place, and another may have that
    /// now.
    pub fn named(&self, name: &str, to: &str, from: &str) -> Option<Arc<Plan>> {
        if name == DEFAULT {
            return Some(self.default.clone());
        }
        let (to, from) = (canonical(to), Caller::of(from));
        let ours = |door: &&Door| door.plan.name == name && door.stranger(&to, &from).is_none();
        self.routes.iter().find(ours).map(|door| door.plan.clone())
    }

    /// What a call on no route gets.
    pub fn default_plan(&self) -> &Arc<Plan> {
        &self.default
    }

    /// The plans that this agent answers, but for those that it is no other in than in an earlier one. At
    /// least one if any call may be answered by it.
    pub fn different(&self, kind: AgentKind) -> Vec<&Arc<Plan>> {
        let doors = self.routes.iter().map(|door| &door.plan);
        let mut seen = HashSet::new();
        [&self.default]
            .into_iter()
            .chain(doors)
            .filter(|plan| plan.agent == kind && seen.insert(plan.likeness()))
            .collect()
    }

    /// What the webhook says that somebody here may want to know. `caller`: how its fields begin that are
    /// about the caller.
    pub fn known<'a>(&self, caller: &str, field: impl Fn(&str) -> Option<&'a str>) -> Known {
        fill::known(&self.fields, caller, field)
    }
}

impl Door {
    fn new(config: &Config, route: &Route) -> Door {
        Door {
            to: route.to.as_deref().map(canonical),
            from: route.from.clone(),
            hours: route.hours.clone(),
            closed: route.closed.clone(),
            plan: Arc::new(Plan::of(config, route)),
        }
    }

    /// Why the call is none of the route's at any time.
    fn stranger(&self, to: &str, from: &Caller) -> Option<Why> {
        if self.to.as_deref().is_some_and(|ours| ours != to) {
            return Some(Why::OtherNumber);
        }
        let entry = self.from.as_ref()?;
        (!from.fits(entry)).then_some(match from {
            Caller::Withheld => Why::Withheld,
            Caller::Known(_) => Why::OtherCaller,
        })
    }

    fn judge(&self, to: &str, from: &Caller, now: Timestamp) -> Why {
        if let Some(why) = self.stranger(to, from) {
            return why;
        }
        match &self.hours {
            Some(hours) => match (Local::of(&hours.zone, now), &self.closed) {
                (local, _) if local.is_within(&hours.spans) => Why::Fits,
                (local, Some(_)) => Why::Closed(local),
                (local, None) => Why::Passed(local),
            },
            None => Why::Fits,
        }
    }
}

#[cfg(test)]
#[path = "routing_tests.rs"]
mod tests;
