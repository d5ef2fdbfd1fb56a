//! How a call is answered: a route, resolved over what holds for all calls.

use std::{collections::BTreeMap, hash::Hash, sync::Arc, time::Duration};

use super::{DEFAULT, Facts, fill};
use crate::{
    agent::{Briefing, Persona},
    config::{AgentKind, Config, Fallback, Keys, Route, Variable},
    tools::Catalogue,
};

/// Everything that a call of a route needs.
#[derive(Clone)]
pub struct Plan {
    /// The route's, or [`DEFAULT`].
    pub name: String,
    pub agent: AgentKind,
    /// Where the route has one of its own.
    pub config_id: Option<String>,
    pub voice: Option<String>,
    pub instructions: Option<String>,
    /// `""` for none.
    pub greeting: String,
    pub fallback: Fallback,
    pub variables: BTreeMap<String, Variable>,
    pub catalogue: Arc<Catalogue>,
    pub keys: Arc<Keys>,
    /// Of calls on this route; 0 for no limit of its own.
    pub max_concurrent: usize,
    /// Of one caller's calls on this route; `None`: the limit over all of a caller's calls holds.
    pub max_per_caller: Option<usize>,
    pub max_duration: Duration,
    pub no_input_timeout: Duration,
}

impl Plan {
    pub(super) fn default_of(config: &Config) -> Plan {
        let Config { agent, calls, .. } = config;
        Plan {
            name: DEFAULT.to_owned(),
            agent: agent.default,
            config_id: None,
            voice: None,
            instructions: None,
            greeting: calls.greeting.clone(),
            fallback: calls.fallback.clone(),
            variables: agent.variables.clone(),
            catalogue: Arc::new(Catalogue::of(config, agent.tools.as_deref())),
            keys: Arc::new(config.keys.clone()),
            max_concurrent: 0,
            max_per_caller: None,
            max_duration: calls.max_duration,
            no_input_timeout: calls.no_input_timeout,
        }
    }

    pub(super) fn of(config: &Config, route: &Route) -> Plan {
        let all = Plan::default_of(config);
        let route = route.clone();
        let mut variables = all.variables;
        variables.extend(route.variables);
        Plan {
            name: route.name,
            agent: route.agent.unwrap_or(all.agent),
            config_id: route.config_id,
            voice: route.voice,
            instructions: route.instructions,
            greeting: route.greeting.unwrap_or(all.greeting),
            fallback: route.fallback.unwrap_or(all.fallback),
            variables,
            catalogue: match route.tools {
                Some(tools) => Arc::new(Catalogue::of(config, Some(&tools))),
                None => all.catalogue,
            },
            keys: route.keys.map_or(all.keys, Arc::new),
            max_concurrent: route.max_concurrent,
            max_per_caller: route.max_per_caller,
            max_duration: route.max_duration.unwrap_or(all.max_duration),
            no_input_timeout: route.no_input_timeout.unwrap_or(all.no_input_timeout),
        }
    }

    /// What makes an agent another one in a vendor's eyes: equal for plans whose agents are taken or refused
    /// alike. What it is told of a caller is not part of it.
    pub(super) fn likeness(&self) -> impl Hash + Eq + use<'_> {
        let offers = self.catalogue.offers().iter();
        let tools: Vec<&str> = offers.map(|offer| &*offer.name).collect();
        (&self.config_id, &self.voice, &self.instructions, tools)
    }

    /// What the agent is to know of a call before its first word. Without a call, what holds for all.
    pub fn briefing(&self, facts: Option<&Facts<'_>>) -> Briefing {
        let mut briefing = Briefing::default();
        for (name, value) in &self.variables {
            let Variable::Text(text) = value else {
                briefing.fixed.insert(name.clone(), value.clone());
                continue;
            };
            if fill::is_plain(text) {
                let text = Variable::Text(fill::plain(text));
                briefing.fixed.insert(name.clone(), text);
            } else if let Some(text) = facts.and_then(|facts| fill::filled(text, facts)) {
                let text = Variable::Text(text);
                briefing.variables.insert(name.clone(), text);
            }
        }
        briefing
    }

    /// How the agent is to be in a call.
    pub fn persona(&self, facts: Option<&Facts<'_>>) -> Persona {
        Persona {
            voice: self.voice.clone(),
            instructions: self.instructions.clone(),
            tools: self.catalogue.declared(),
            briefing: self.briefing(facts),
        }
    }
}
