//! Which call takes which route, and what it finds there.

use std::{collections::BTreeMap, time::Duration};

use jiff::tz::TimeZone;

use super::*;
use crate::{
    config::{AgentKind, Keys, PublicUrl, Span, Variable},
    tools::Builtin,
};

const ANN: &str = "+61255501234";
const SHOP: &str = "+15557654321";
const BAR: &str = "+15550000000";

fn config(routes: Vec<Route>) -> Config {
    Config {
        routes,
        ..Config::new(PublicUrl::parse("https://bridge.example.com").unwrap())
    }
}

fn route(name: &str) -> Route {
    Route::named(name)
}

fn to(name: &str, to: &str) -> Route {
    Route {
        to: Some(to.to_owned()),
        ..route(name)
    }
}

fn from(name: &str, prefix: &str) -> Route {
    Route {
        from: Some(match prefix {
            "anonymous" => CallerPrefix::Withheld,
            prefix => CallerPrefix::Begins(prefix.to_owned()),
        }),
        ..route(name)
    }
}

/// Days from Monday, minutes as `(hour, minute)`.
/// A day, and from when to when on it, in hours and minutes.
type Hour = (u8, (u16, u16), (u16, u16));

fn open(route: Route, zone: &str, spans: &[Hour]) -> Route {
    let span = |(day, from, to): &(u8, (u16, u16), (u16, u16))| Span {
        day: *day,
        from: from.0 * 60 + from.1,
        to: to.0 * 60 + to.1,
    };
    let hours = Hours {
        zone: TimeZone::get(zone).expect("a zone of the bundled database"),
        spans: spans.iter().map(span).collect(),
    };
    Route {
        hours: Some(hours),
        ..route
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn noon() -> Timestamp {
    at("2026-11-23T12:00:00Z")
}

/// What the call takes, and why it does not take those before.
fn picked(router: &Router, to: &str, from: &str) -> (String, Vec<Why>) {
    let picked = router.pick(to, from, noon());
    assert_eq!(picked.tried.last().unwrap().route, picked.plan.name);
    assert!(picked.tried.last().unwrap().why.fits());
    let why = picked.tried.iter().map(|tried| tried.why).collect();
    (picked.plan.name.clone(), why)
}

#[test]
fn the_first_route_that_fits_is_the_calls() {
    let ann_at_shop = Route {
        from: Some(CallerPrefix::Begins(ANN.to_owned())),
        ..to("ann", SHOP)
    };
    let router = Router::new(&config(vec![
        ann_at_shop,
        to("shop", SHOP),
        from("down under", "+61"),
        from("nobody", "anonymous"),
        from("app", "client:"),
    ]));
    use Why::*;
    for (to, from, name, why) in [
        (SHOP, ANN, "ann", vec![Fits]),
        (SHOP, "+61299990000", "shop", vec![OtherCaller, Fits]),
        // A list that begins so is not who withholds.
        (SHOP, "anonymous", "shop", vec![Withheld, Fits]),
        (BAR, ANN, "down under", vec![OtherNumber, OtherNumber, Fits]),
        (
            BAR,
            "+266696687",
            "nobody",
            vec![OtherNumber, OtherNumber, Withheld, Fits],
        ),
        (
            BAR,
            "client:Zoe",
            "app",
            vec![OtherNumber, OtherNumber, OtherCaller, OtherCaller, Fits],
        ),
        (
            BAR,
            "+15551234567",
            "default",
            vec![
                OtherNumber,
                OtherNumber,
                OtherCaller,
                OtherCaller,
                OtherCaller,
                Nobodys,
            ],
        ),
    ] {
        assert_eq!(picked(&router, to, from), (name.to_owned(), why), "{name}");
    }
    // However the number is written.
    assert_eq!(picked(&router, &format!(" {SHOP};x=y"), ANN).0, "ann");
    assert_eq!(picked(&router, "", "").0, "nobody");
}

#[test]
fn a_wider_route_before_a_narrower_one_shadows_it() {
    let wide_first = Router::new(&config(vec![from("all", "+"), from("au", "+61")]));
    assert_eq!(picked(&wide_first, SHOP, ANN).0, "all");
    let narrow_first = Router::new(&config(vec![from("au", "+61"), from("all", "+")]));
    assert_eq!(picked(&narrow_first, SHOP, ANN).0, "au");
}

/// A config in which another has been written before it.
#[test]
fn a_route_that_is_known_by_its_place_is_no_others() {
    let to = |name: &str, number: &str| Route {
        to: Some(number.to_owned()),
        ..route(name)
    };
    let router = Router::new(&config(vec![to("route 1", BAR), to("route 2", SHOP)]));
    assert!(router.named("route 1", SHOP, ANN).is_none());
    assert_eq!(router.named("route 2", SHOP, ANN).unwrap().name, "route 2");
}

#[test]
fn without_routes_there_is_the_default() {
    let router = Router::new(&config(vec![]));
    assert_eq!(
        picked(&router, SHOP, ANN),
        (DEFAULT.to_owned(), vec![Why::Nobodys])
    );
    assert!(Arc::ptr_eq(
        router.default_plan(),
        &router.named(DEFAULT, SHOP, ANN).unwrap()
    ));
    assert!(router.named("shop", SHOP, ANN).is_none());
}

#[test]
fn outside_its_hours_a_route_says_what_its_callers_meet_or_leaves_them_to_the_next() {
    let weekdays: Vec<_> = (0..5).map(|day| (day, (9, 0), (17, 30))).collect();
    let shop = open(to("shop", SHOP), "UTC", &weekdays);
    let router = Router::new(&config(vec![shop.clone(), route("night")]));
    // A Monday.
    let (early, late) = (at("2026-11-23T08:59:59Z"), at("2026-11-23T17:30:00Z"));
    for time in [early, late, at("2026-11-22T12:00:00Z")] {
        let picked = router.pick(SHOP, ANN, time);
        assert_eq!(picked.plan.name, "night");
        assert_eq!(picked.closed, None);
    }
    assert_eq!(
        router.pick(SHOP, ANN, early).tried[0].why.to_string(),
        "is closed (mon 08:59 there) and leaves its calls to the next"
    );
    for time in [at("2026-11-23T09:00:00Z"), at("2026-11-27T17:29:59Z")] {
        assert_eq!(router.pick(SHOP, ANN, time).plan.name, "shop");
    }
    let says = Fallback::Say("We open at nine.".to_owned());
    let shop = Route {
        closed: Some(says.clone()),
        ..shop
    };
    let router = Router::new(&config(vec![shop, route("night")]));
    let picked = router.pick(SHOP, ANN, late);
    assert_eq!(picked.plan.name, "shop");
    assert_eq!(picked.closed, Some(says));
    assert_eq!(
        picked.tried[0].why.to_string(),
        "fits, and is closed (mon 17:30 there)"
    );
    assert_eq!(router.pick(BAR, ANN, late).plan.name, "night");
}

#[test]
fn hours_are_those_of_the_clock_on_the_wall_summer_and_winter() {
    let nine_to_five: Vec<_> = (0..7).map(|day| (day, (9, 0), (17, 0))).collect();
    let sydney = open(route("sydney"), "Australia/Sydney", &nine_to_five);
    let router = Router::new(&config(vec![sydney]));
    let is_open = |now: &str| router.pick(SHOP, ANN, at(now)).plan.name == "sydney";
    // Summer time, +11: from 22:00 to 06:00 in UTC.
    assert!(is_open("2026-01-15T22:00:00Z") && is_open("2026-01-16T05:59:59Z"));
    assert!(!is_open("2026-01-15T21:59:59Z") && !is_open("2026-01-16T06:00:00Z"));
    // Winter, +10: from 23:00 to 07:00.
    assert!(is_open("2026-07-15T23:00:00Z") && is_open("2026-07-16T06:59:59Z"));
    assert!(!is_open("2026-07-15T22:59:59Z") && !is_open("2026-07-16T07:00:00Z"));
    // The first Sunday in April, on which clocks go back at three.
    assert!(!is_open("2026-04-04T22:30:00Z") && is_open("2026-04-04T23:00:00Z"));
}

#[test]
fn an_hour_that_comes_twice_counts_twice_and_one_that_does_not_come_is_nobodys() {
    let two_to_three = open(route("night"), "Europe/Berlin", &[(6, (2, 0), (3, 0))]);
    let router = Router::new(&config(vec![two_to_three]));
    let is_open = |now: &str| router.pick(SHOP, ANN, at(now)).plan.name == "night";
    // 25 October 2026: at 01:00 UTC clocks go from 03:00 back to 02:00.
    for time in ["2026-10-25T00:00:00Z", "2026-10-25T01:59:59Z"] {
        assert!(is_open(time), "{time}");
    }
    assert!(!is_open("2026-10-24T23:59:59Z") && !is_open("2026-10-25T02:00:00Z"));
    // 29 March 2026: at 01:00 UTC they go from 02:00 to 03:00.
    for minute in 0..180 {
        let now = at("2026-03-28T23:30:00Z") + jiff::SignedDuration::from_mins(minute);
        assert_eq!(router.pick(SHOP, ANN, now).plan.name, DEFAULT);
    }
}

#[test]
fn a_night_that_begins_on_one_day_ends_on_the_next() {
    // As "fri 22:00-06:00" is read: two spans.
    let night = [(4, (22, 0), (24, 0)), (5, (0, 0), (6, 0))];
    let router = Router::new(&config(vec![open(route("night"), "UTC", &night)]));
    let is_open = |now: &str| router.pick(SHOP, ANN, at(now)).plan.name == "night";
    for time in [
        "2026-11-27T22:00:00Z",
        "2026-11-27T23:59:59Z",
        "2026-11-28T00:00:00Z",
        "2026-11-28T05:59:59Z",
    ] {
        assert!(is_open(time), "{time}");
    }
    for time in [
        "2026-11-27T21:59:59Z",
        "2026-11-28T06:00:00Z",
        "2026-11-28T22:00:00Z",
        "2026-11-27T03:00:00Z",
    ] {
        assert!(!is_open(time), "{time}");
    }
}

#[test]
fn a_plan_is_what_holds_for_all_calls_but_for_what_its_route_says() {
    let text = |text: &str| Variable::Text(text.to_owned());
    let mut config = config(vec![
        route("plain"),
        Route {
            agent: Some(AgentKind::Hume),
            config_id: Some("c".to_owned()),
            voice: Some("v".to_owned()),
            greeting: Some("Hello.".to_owned()),
            fallback: Some(Fallback::HangUp),
            variables: BTreeMap::from([("a".to_owned(), text("route's"))]),
            tools: Some(vec![]),
            keys: Some(Keys {
                count: 4,
                ..Keys::default()
            }),
            max_concurrent: 3,
            max_per_caller: Some(0),
            max_duration: Some(Duration::from_secs(60)),
            no_input_timeout: Some(Duration::ZERO),
            ..route("own")
        },
    ]);
    config.calls.greeting = "Good day.".to_owned();
    config.agent.variables = BTreeMap::from([
        ("a".to_owned(), text("all's")),
        ("b".to_owned(), text("all's")),
    ]);
    let router = Router::new(&config);
    let named = |name| router.named(name, SHOP, ANN).unwrap();
    let (plain, own) = (named("plain"), named("own"));
    assert_eq!(plain.greeting, "Good day.");
    assert_eq!(plain.fallback, config.calls.fallback);
    assert_eq!(plain.variables, config.agent.variables);
    assert_eq!(
        (plain.config_id.as_deref(), plain.max_concurrent),
        (None, 0)
    );
    assert_eq!(plain.max_duration, config.calls.max_duration);
    assert!(plain.catalogue.find(Builtin::HangUp.name()).is_some());

    assert_eq!(own.config_id.as_deref(), Some("c"));
    assert_eq!(own.greeting, "Hello.");
    assert_eq!(own.fallback, Fallback::HangUp);
    let expected = [("a", "route's"), ("b", "all's")];
    let expected = expected.map(|(name, value)| (name.to_owned(), text(value)));
    assert_eq!(own.variables, expected.into());
    assert!(own.catalogue.offers().is_empty());
    assert_eq!((own.keys.count, own.max_concurrent), (4, 3));
    assert_eq!(own.max_per_caller, Some(0));
    assert_eq!(own.max_duration, Duration::from_secs(60));
    assert_eq!(own.no_input_timeout, Duration::ZERO);
    let persona = own.persona(None);
    assert_eq!(persona.voice.as_deref(), Some("v"));
    assert!(persona.tools.is_empty());
}

#[test]
fn an_agent_is_told_what_is_known_and_of_the_rest_nothing() {
    let variables = [
        ("shop", Variable::Text("the {{best}} one".into())),
        ("open", Variable::Flag(true)),
        ("limit", Variable::Number(2.5)),
        ("caller", Variable::Text("{from}".into())),
        ("place", Variable::Text("{city}, {country}".into())),
        ("name", Variable::Text("{caller_name}".into())),
        ("order", Variable::Text("{param.Order}".into())),
        (
            "brief",
            Variable::Text(format!("{}\nin {{city}}.", "x".repeat(900))),
        ),
    ];
    let mut config = config(vec![]);
    config.agent.variables = variables
        .map(|(name, value)| (name.to_owned(), value))
        .into();
    let router = Router::new(&config);
    let form = |name: &str| match name {
        "FromCity" => Some("Rome"),
        "Order" => Some("77"),
        "Other" => Some("88"),
        _ => None,
    };
    let placed = router.known("To", form);
    assert_eq!(placed.keys().collect::<Vec<_>>(), ["param.Order"]);
    let known = router.known("From", form);
    let expected = [("city", "Rome"), ("param.Order", "77")];
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    assert_eq!(known, expected.map(owned).into());

    let call = "CA0123456789abcdef0123456789abcdef".parse().unwrap();
    let facts = Facts {
        call: &call,
        from: "anonymous",
        to: SHOP,
        route: DEFAULT,
        known: &known,
    };
    let briefing = router.default_plan().briefing(Some(&facts));
    let fixed = [
        ("shop", Variable::Text("the {best} one".into())),
        ("open", Variable::Flag(true)),
        ("limit", Variable::Number(2.5)),
    ];
    let fixed = fixed.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(briefing.fixed, fixed.into());
    // The operator's own words are whole, whatever stands in them.
    let brief = format!("{}\nin Rome.", "x".repeat(900));
    let own = [("place", "Rome, "), ("order", "77"), ("brief", &brief)];
    let own = own.map(|(name, value)| (name.to_owned(), Variable::Text(value.to_owned())));
    assert_eq!(briefing.variables, own.into());
    // A check has no call.
    let nobody = router.default_plan().briefing(None);
    assert!(nobody.variables.is_empty() && nobody.fixed == briefing.fixed);
}
