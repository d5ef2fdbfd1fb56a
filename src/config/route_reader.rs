//! `[[route]]`: which calls are answered how.
//!
//! Routes are looked at in the order of the file, so one that an earlier one never leaves a call to is
//! a mistake, and told as one.

use std::collections::BTreeMap;

use super::{
    Agent, AgentKind, Hours, Keys, Route, callers,
    check::{self, Checked, Complaint, complain},
    duration::{HOUR, SECOND},
    either, file, hours, keypad,
    problem::harmless,
    reader::Section,
    realtime_reader,
    tool_reader::Shelf,
    variables,
};

/// More than anybody keeps in order by hand.
const MOST_ROUTES: usize = 1000;

/// How `route-test`, logs and tokens call it when no route fits.
const NO_ROUTE: &str = "default";

/// Reads every route; what its `keys` leave out is as in `keys`, and `agent` is that of all calls.
pub(super) fn routes(
    top: &mut Section<'_, '_>,
    keys: &Keys,
    agent: &Agent,
    shelf: &Shelf,
) -> Vec<Route> {
    let variables = &agent.variables;
    let mut read: Vec<(Route, bool)> = Vec::new();
    top.list("route", |n, mut s| {
        if n == MOST_ROUTES + 1 {
            let what = format!("is one too many: there are {MOST_ROUTES} at most");
            let mend = "remove some".into();
            s.complain("", Complaint { what, mend });
        }
        // Of a route that says wrongly for which calls it is, nothing can be said.
        let narrowing = |s: &Section<'_, '_>| ["to", "from", "hours"].map(|key| s.has(key));
        let said = narrowing(&s);
        let named = s.has("name");
        let names: Vec<_> = read.iter().map(|(one, _)| one.name.clone()).collect();
        let route = route(n, &mut s, &names, keys, agent.default, shelf);
        let kept = [
            route.to.is_some(),
            route.from.is_some(),
            route.hours.is_some(),
        ];
        let clear = said == kept;
        let own = &route.variables;
        let others = variables
            .iter()
            .filter(|(name, _)| !own.contains_key(*name));
        if let Err(complaint) = variables::fit(own.iter().chain(others))
            && !own.is_empty()
            && variables::fit(variables.iter()).is_ok()
        {
            let what = format!("{}, with those of [agent]", complaint.what);
            let mend = complaint.mend;
            s.complain("variables", Complaint { what, mend });
        }
        if let Some(other) = names.iter().position(|name| *name == route.name)
            && !named
        {
            let what = format!(
                "has no name, and route {} has the one it would get",
                other + 1
            );
            let mend = "write name = \"...\"".to_owned();
            s.complain("", Complaint { what, mend });
        }
        let mut others = read.iter().enumerate();
        let shadow = others.find(|(_, (one, one_clear))| *one_clear && shadows(one, &route));
        if let Some((other, (earlier, _))) = shadow
            && clear
        {
            let what = format!(
                "{} never gets a call: {} above takes them all",
                called(n, &route),
                called(other + 1, earlier)
            );
            let mend = "put the narrower one first, or remove one of them".to_owned();
            s.complain("", Complaint { what, mend });
        }
        s.close();
        read.push((route, clear));
    });
    read.into_iter().map(|(route, _)| route).collect()
}

/// By its place in the file, and by its name if that is nothing else but one.
fn called(n: usize, route: &Route) -> String {
    match harmless(&route.name) {
        true => format!("route {n} (\"{}\")", route.name),
        false => format!("route {n}"),
    }
}

fn route(
    n: usize,
    s: &mut Section<'_, '_>,
    names: &[String],
    keys: &Keys,
    default: AgentKind,
    shelf: &Shelf,
) -> Route {
    let name = s.read("name", |v| {
        let name = check::label(check::text(v)?)?;
        match names.iter().position(|one| *one == name) {
            Some(other) => complain(
                format!("is the name of route {}, too", other + 1),
                "give each a name of its own",
            ),
            None if name == NO_ROUTE => complain(
                "is what calls on no route are said to be on",
                "give it another name",
            ),
            None => Ok(name),
        }
    });
    let to = s.read("to", |v| check::phone_number(check::text(v)?));
    let from = s.read("from", |v| callers::entry(check::text(v)?));

    let has_hours = s.has("hours");
    if has_hours && !s.has("timezone") {
        let what = "is missing, and there are hours".to_owned();
        let mend = "write timezone = \"Australia/Sydney\", or where the hours are meant".to_owned();
        s.complain("timezone", Complaint { what, mend });
    }
    let spans = s.read("hours", hours::spans);
    let zone = s.read("timezone", |v| match has_hours {
        true => hours::zone(check::text(v)?),
        false => alone(),
    });
    let closed = s.read("closed", |v| match has_hours {
        true => either::fallback(v),
        false => alone(),
    });

    let has_agent = s.has("agent");
    let agent = s.read("agent", |v| file::agent(check::text(v)?));
    // Of an agent that has been complained of, nobody knows what goes with it.
    let kind = match has_agent {
        true => agent,
        false => Some(default),
    };
    let config_id = s.read("config_id", |v| {
        let id = check::opaque_id(check::text(v)?)?;
        match kind {
            Some(AgentKind::Realtime) => complain(
                "names a config of Hume's, and this route's agent is \"realtime\"",
                "remove it, or write agent = \"hume\"; a Realtime server is told what to be by \
                 instructions",
            ),
            _ => Ok(id),
        }
    });
    let voice = s.read("voice", |v| check::opaque_id(check::text(v)?));
    let greeting = s.read("greeting", |v| check::spoken(check::text(v)?));
    let fallback = s.read("fallback", either::fallback);
    let variables: BTreeMap<_, _> = variables::variables(s).unwrap_or_default();
    let tools = shelf.read(s);
    let own_keys = s.has("keys").then(|| {
        let mut own = keys.clone();
        keypad::keys(s.section_like("keys", "keys"), &mut own);
        own
    });
    let mut max_concurrent = 0;
    s.set(&mut max_concurrent, "max_concurrent", |v| {
        check::count(v, 0..=100_000)
    });
    let max_per_caller = s.read("max_per_caller", |v| check::count(v, 0..=100_000));
    let max_duration = s.read("max_duration", |v| check::duration(v, SECOND..=24 * HOUR));
    let no_input_timeout = s.read("no_input_timeout", |v| {
        check::duration_or_never(v, SECOND..=HOUR)
    });
    let instructions = s.read("instructions", |v| {
        let text = realtime_reader::instructions(check::text(v)?)?;
        match kind {
            Some(AgentKind::Hume) => complain(
                "are for a Realtime server, and this route's agent is \"hume\"",
                "remove them, or write agent = \"realtime\"; what EVI is to do stands in its config, \
                 and config_id names another",
            ),
            _ => Ok(text),
        }
    });
    Route {
        name: name.unwrap_or_else(|| format!("route {n}")),
        to,
        from,
        hours: spans.zip(zone).map(|(spans, zone)| Hours { zone, spans }),
        closed,
        agent,
        config_id,
        voice,
        instructions,
        greeting,
        fallback,
        variables,
        tools,
        keys: own_keys,
        max_concurrent,
        max_per_caller,
        max_duration,
        no_input_timeout,
    }
}

fn alone<T>() -> Checked<T> {
    complain(
        "means nothing without hours",
        "write hours = [\"mon-fri 09:00-17:30\"], or remove it",
    )
}

/// Whether every call that would be `later`'s is `earlier`'s.
fn shadows(earlier: &Route, later: &Route) -> bool {
    // Outside its hours a route that says what a caller meets then keeps the call.
    let open = match (&earlier.hours, &later.hours) {
        (None, _) => true,
        (Some(earlier), Some(later)) if earlier.zone == later.zone => {
            later.spans.iter().all(|span| earlier.covers(*span))
        }
        (Some(earlier), _) => earlier.is_always(),
    };
    let always = open || earlier.closed.is_some();
    let to = earlier.to.is_none() || earlier.to == later.to;
    let from = match (&earlier.from, &later.from) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(earlier), Some(later)) => earlier.covers(later),
    };
    always && to && from
}
