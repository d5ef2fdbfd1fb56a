//! Routes: who is answered how, what the agent knows of them, and a service that is asked who calls.

use std::{collections::BTreeMap, time::Duration};

use hume_bridge::sim::{
    bridge::CONFIG_ID,
    evi::What,
    phone::{Awaited, CallReport, CallSetup, Ended, Event, OngoingCall},
    scenario::World,
};
use serde_json::{Value, json};

use crate::{
    metrics::Families,
    stage::{
        ANN, BOB, SHOP, close, ctl, dial, greeting_under, heard, in_time, status, talking, until,
        wait_for, world,
    },
};

const BAR: &str = "+15550000000";

async fn hang_up(world: &World, call: OngoingCall) -> CallReport {
    call.hang_up().await;
    let report = call.finish().await;
    assert_eq!(report.ended, Ended::CallerHungUp);
    while status(world).await["activeSessions"] != 0 {}
    report
}

async fn turned_away(world: &World, from: &str, to: &str) -> CallReport {
    let report = in_time(dial(world, from, to).finish()).await;
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    report
}

fn said(report: &CallReport) -> Vec<&str> {
    let said = report
        .entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Said { text } => Some(text.as_str()),
            _ => None,
        });
    said.collect()
}

/// What the agent was given in its last connection.
#[derive(Debug, Default)]
struct Given {
    config_id: Option<String>,
    variables: BTreeMap<String, String>,
    tools: Vec<String>,
    /// What could be read in somebody's access log.
    in_url: Vec<String>,
    frames: Vec<String>,
}

impl Given {
    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}

fn given(world: &World) -> Given {
    let record = world.agent.record();
    let last = record.events.iter().map(|event| event.connection).max();
    let last = last.expect("a connection");
    let mut given = Given {
        frames: record.uplinks[&last].frames.clone(),
        ..Given::default()
    };
    for event in record
        .events
        .iter()
        .filter(|event| event.connection == last)
    {
        match &event.what {
            What::Connected { config_id, .. } => given.config_id.clone_from(config_id),
            What::Settings {
                in_query,
                variables,
                tools,
                ..
            } => {
                if *in_query {
                    given.in_url.extend(variables.keys().cloned());
                }
                given.variables.extend(variables.clone());
                given.tools.extend(tools.clone());
            }
            _ => {}
        }
    }
    given
}

const TWO_ROUTES: &str = r#"
agent.variables = { house = "the {{old}} house", caller = "{from}", place = "{city}, {state}", zip = "{zip}" }
[[route]]
name = "shop"
to = "+15557654321"
config_id = "5b3c1d0e-aaaa-4222-8333-944455556666"
voice = "5b3c1d0e-0000-4222-8333-944455556666"
greeting = "Welcome to the shop."
variables = { house = "the shop", on = "{route}", verified = "{param.StirVerstat}", open = true }
tools = []
[[route]]
name = "bar"
to = "+15550000000"
from = "+1555123"
config_id = "5b3c1d0e-bbbb-4222-8333-944455556666"
fallback = { dial = "+61255501234" }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_number_has_its_own_agent_greeting_and_variables() {
    let world = world(&greeting_under(TWO_ROUTES)).await;
    let shop = talking(&world, ANN, SHOP).await;
    let at_shop = given(&world);
    let shop = hang_up(&world, shop).await;
    assert_eq!(said(&shop), ["Welcome to the shop."]);
    assert_eq!(
        at_shop.config_id.as_deref(),
        Some("5b3c1d0e-aaaa-4222-8333-944455556666")
    );
    assert_eq!(at_shop.tools, [""; 0]);
    assert!(
        at_shop
            .frames
            .iter()
            .any(|frame| frame.contains("5b3c1d0e-0000-4222-8333-944455556666")),
        "the voice"
    );
    for (name, value) in [
        ("house", Some("the shop")),
        ("on", Some("shop")),
        ("open", Some("true")),
        ("verified", Some("TN-Validation-Passed-A")),
        ("caller", Some(ANN)),
        ("place", Some("SAN JOS\u{c9}, CA")),
        // Nothing is known of it.
        ("zip", None),
    ] {
        assert_eq!(at_shop.variable(name), value, "{name}");
    }
    // A URL is in logs: nothing of the caller's stands there.
    let mut in_url = at_shop.in_url;
    in_url.sort();
    assert_eq!(in_url, ["house", "open"]);

    let bar = talking(&world, ANN, BAR).await;
    let at_bar = given(&world);
    let bar = hang_up(&world, bar).await;
    assert_eq!(said(&bar), [""; 0]);
    assert_eq!(
        at_bar.config_id.as_deref(),
        Some("5b3c1d0e-bbbb-4222-8333-944455556666")
    );
    assert_eq!(at_bar.variable("house"), Some("the {old} house"));
    assert_eq!(at_bar.variable("verified"), None);
    assert!(at_bar.tools.contains(&"hang_up".to_owned()));

    // Neither route is for somebody else at the bar, nor for a number that is withheld.
    for from in [BOB, "anonymous"] {
        let other = talking(&world, from, BAR).await;
        let given = given(&world);
        hang_up(&world, other).await;
        assert_eq!(given.config_id.as_deref(), Some(CONFIG_ID));
        let shown = (from == BOB).then_some(BOB);
        assert_eq!(given.variable("caller"), shown);
    }
    discreet(&close(world).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_agent_fails_a_caller_meets_what_their_route_says() {
    // No agent at all: every connection is refused.
    let world = world(&format!(
        "config = '''\nhume.connect_budget = \"1s\"\n{TWO_ROUTES}\n'''\n\
         [agent]\nhandshake = [401, 401, 401, 401]"
    ))
    .await;
    let at_bar = turned_away(&world, ANN, BAR).await;
    let dialled = |report: &CallReport| {
        report.count(
            |event| matches!(event, Event::Dialled { numbers } if *numbers == ["+61255501234"]),
        )
    };
    assert_eq!(dialled(&at_bar), 1, "{:?}", at_bar.ended);
    let at_shop = turned_away(&world, ANN, SHOP).await;
    assert_eq!(dialled(&at_shop), 0);
    assert!(
        said(&at_shop).iter().any(|text| text.contains("sorry")),
        "{:?}",
        said(&at_shop)
    );
    discreet(&close(world).await);
}

/// A day of the week on which it is not today anywhere.
fn another_day() -> &'static str {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let there = usize::from(today.weekday().to_monday_zero_offset().unsigned_abs()) + 3;
    ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][there % 7]
}

/// The number that a route is for is the operator's, whoever placed the call; and whoever talks to the agent
/// is its caller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_called_by_the_operator_is_the_caller() {
    let world = world(&greeting_under(TWO_ROUTES)).await;
    let call = world.phone.start(CallSetup {
        from: SHOP.to_owned(),
        to: ANN.to_owned(),
        placed: true,
        ..CallSetup::new(vec![wait_for(Awaited::StreamOver)])
    });
    until(&call, |event| matches!(event, Event::PlayingBegan)).await;
    let at_shop = given(&world);
    let report = hang_up(&world, call).await;
    assert_eq!(said(&report), ["Welcome to the shop."]);
    assert_eq!(at_shop.variable("caller"), Some(ANN));
    assert_eq!(at_shop.variable("on"), Some("shop"));
    // Where the number called is from, which is not the shop's town.
    assert_eq!(at_shop.variable("place"), Some(", CA"));
    discreet(&close(world).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_route_says_so_without_an_agent_and_takes_no_place() {
    let day = another_day();
    let world = world(&greeting_under(&format!(
        r#"
calls.max_concurrent = 1
[[route]]
name = "shop"
to = "+15557654321"
hours = ["{day} 00:00-24:00"]
timezone = "UTC"
closed = {{ say = "We are closed today." }}
[[route]]
name = "days"
to = "+15550000000"
hours = ["{day} 00:00-24:00"]
timezone = "UTC"
greeting = "It is the day."
[[route]]
name = "nights"
to = "+15550000000"
greeting = "It is another day."
"#
    )))
    .await;
    let live = talking(&world, BOB, BAR).await;
    // The house is full, and still nobody at the shop hears the busy tone.
    let closed = turned_away(&world, ANN, SHOP).await;
    assert_eq!(said(&closed), ["We are closed today."]);
    assert_eq!(closed.ended, Ended::Hangup);
    assert_eq!(status(&world).await["activeSessions"], 1);
    let counted = Families::of(&world).await;
    let refused = |reason| format!("hume_bridge_calls_refused_total{{reason=\"{reason}\"}}");
    assert_eq!(counted.value(&refused("closed")), 1.0);
    assert_eq!(counted.value("hume_bridge_calls_admitted_total"), 1.0);
    // A route that is closed and says nothing leaves its callers to the next.
    let report = hang_up(&world, live).await;
    assert_eq!(said(&report), ["It is another day."]);

    let (code, out, _) = ctl(&world, &["route-test", "--from", ANN, "--to", BAR]).await;
    assert_eq!(code, Some(0));
    assert!(out.contains("days    no   is closed ("), "{out}");
    assert!(out.contains("nights  yes  fits\n"), "{out}");
    let log = close(world).await;
    discreet(&log);
    let line = log.iter().find(|line| line.contains("its route is closed"));
    assert!(line.expect("a line").contains("shop"), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_has_so_many_places_and_its_callers_so_many_each() {
    let world = world(&greeting_under(
        r#"
calls.max_per_caller = 1
[[route]]
name = "shop"
to = "+15557654321"
max_concurrent = 2
max_per_caller = 2
"#,
    ))
    .await;
    const BUSY: Ended = Ended::Rejected { busy: true };
    let one = talking(&world, ANN, SHOP).await;
    // Her second there: the route's own limit counts, not the one over all.
    let two = talking(&world, ANN, SHOP).await;
    assert_eq!(turned_away(&world, BOB, SHOP).await.ended, BUSY);
    // Elsewhere all of hers count.
    assert_eq!(turned_away(&world, ANN, BAR).await.ended, BUSY);
    let elsewhere = talking(&world, BOB, BAR).await;
    elsewhere.hang_up().await;
    elsewhere.finish().await;
    one.hang_up().await;
    one.finish().await;
    while status(&world).await["activeSessions"] != 1 {}
    let bob = talking(&world, BOB, SHOP).await;
    let counted = Families::of(&world).await;
    for (reason, expected) in [("route-full", 1.0), ("caller-full", 1.0)] {
        let series = format!("hume_bridge_calls_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(counted.value(&series), expected, "{reason}");
    }
    bob.hang_up().await;
    bob.finish().await;
    hang_up(&world, two).await;
    let log = close(world).await;
    discreet(&log);
    assert!(
        log.iter()
            .any(|line| line.contains("its route's max_concurrent is reached")),
        "{log:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_asks_which_route_a_call_would_take() {
    let world = world(&greeting_under(TWO_ROUTES)).await;
    let ask = async |words: &[&str]| {
        let words = [&["--json", "route-test"], words].concat();
        let (code, out, err) = ctl(&world, &words).await;
        assert_eq!((code, err.as_str()), (Some(0), ""), "{words:?}");
        serde_json::from_str::<Value>(&out).expect("JSON")
    };
    // The number of the config is the shop's.
    let shop = ask(&["--from", BOB]).await;
    assert_eq!(
        shop["why"],
        json!([{"route": "shop", "fits": true, "why": "fits"}])
    );
    assert_eq!(
        shop["plan"]["configId"],
        "5b3c1d0e-aaaa-4222-8333-944455556666"
    );
    assert_eq!(shop["plan"]["greeting"], "Welcome to the shop.");
    assert_eq!(shop["plan"]["tools"], json!([]));
    let bar = ask(&["--from", ANN, "--to", BAR]).await;
    assert_eq!(bar["route"], "bar");
    assert_eq!(bar["plan"]["fallback"], "dial");
    assert!(!bar.to_string().contains("61255501234"), "{bar}");
    let nobodys = ask(&["--from", "anonymous", "--to", BAR]).await;
    assert_eq!(nobodys["route"], "default");
    assert_eq!(nobodys["why"].as_array().map(Vec::len), Some(3));
    assert_eq!(nobodys["plan"]["configId"], CONFIG_ID);
    let (code, out, err) = ctl(&world, &["route-test", "--from", "0412345678"]).await;
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(
        err.contains("--from") && !err.contains("0412345678"),
        "{err}"
    );
    discreet(&close(world).await);
}

const LOOKUP: &str = r#"
[lookup]
url = "{web}/who"
headers = { Authorization = "Bearer {credential:crm-key}" }
sign_with = "crm-signing"
timeout = "2s"
cache = "5m"
"#;

fn asks(answers: &str) -> String {
    let stage = greeting_under(LOOKUP);
    let (config, agent) = stage.split_once("[agent]").expect("both");
    format!(
        "{config}\n[credentials]\ncrm-key = \"crm-secret-1\"\ncrm-signing = \"crm-secret-2\"\n\
         [agent]{agent}\n{answers}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_says_who_calls_before_the_agents_first_word_and_is_asked_once() {
    let world = world(&asks(
        r#"
        [[web.answers]]
        path = "/who"
        delay = "1500ms"
        json = { variables = { name = "Ann Lovelace", orders = 3, vip = true }, context = "Ann waits for order 77." }
        "#,
    ))
    .await;
    for _ in 0..2 {
        let call = dial(&world, ANN, SHOP);
        // An agent may greet as soon as it is called, so it is called when it is known who calls.
        if world.web().requests().is_empty() {
            until(&call, |event| matches!(event, Event::StreamStarted { .. })).await;
            in_time(async {
                while world.web().requests().is_empty() {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            // For as long as one that is called at once would need to be there.
            for _ in 0..50 {
                status(&world).await;
            }
            assert_eq!(world.agent.record().events.len(), 0);
        }
        until(&call, |event| matches!(event, Event::PlayingBegan)).await;
        let given = given(&world);
        hang_up(&world, call).await;
        assert_eq!(given.variable("name"), Some("Ann Lovelace"));
        assert_eq!(given.variable("orders"), Some("3"));
        assert_eq!(given.variable("vip"), Some("true"));
        assert!(given.in_url.is_empty(), "{:?}", given.in_url);
        let settings = given
            .frames
            .iter()
            .find(|frame| frame.contains("session_settings"));
        let settings = settings.expect("the first frame");
        assert!(settings.contains("Ann waits for order 77."), "{settings}");
    }
    let requests = world.web().requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].method, "POST");
    assert_eq!(
        requests[0].header("authorization"),
        Some("Bearer crm-secret-1")
    );
    assert!(
        requests[0]
            .header("x-hume-bridge-signature")
            .is_some_and(|signature| signature.starts_with("v1=") && signature.len() == 67)
    );
    let question = requests[0].json().expect("JSON");
    assert_eq!(question["from"], ANN);
    assert_eq!(question["to"], SHOP);
    assert_eq!(question["route"], "default");
    assert_eq!(question["city"], "SAN JOS\u{c9}");
    let counted = Families::of(&world).await;
    for (outcome, expected) in [("answered", 1.0), ("cached", 1.0), ("timeout", 0.0)] {
        let series = format!("hume_bridge_lookups_total{{outcome=\"{outcome}\"}}");
        assert_eq!(counted.value(&series), expected, "{outcome}");
    }
    let log = close(world).await;
    discreet(&log);
    for secret in ["Lovelace", "crm-secret", "order 77"] {
        assert!(!log.iter().any(|line| line.contains(secret)), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_slow_or_broken_costs_no_call() {
    let world = world(&asks(
        r#"
        [[web.answers]]
        silent = true
        [[web.answers]]
        status = 500
        body = "Lovelace"
        [[web.answers]]
        cut = true
        body = '{"variables":{"name":"Lovelace"}}'
        [[web.answers]]
        body = "Lovelace, Ann"
        [[web.answers]]
        huge = 100000
        [[web.answers]]
        redirect = "/elsewhere"
        [[web.answers]]
        json = { variables = { name = "Ann" } }
        "#,
    ))
    .await;
    // A failure is not kept: each call asks again.
    let mut names = Vec::new();
    for _ in 0..7 {
        let call = talking(&world, ANN, SHOP).await;
        names.push(given(&world).variable("name").map(str::to_owned));
        let report = hang_up(&world, call).await;
        assert!(report.violations.is_empty(), "{:?}", report.violations);
    }
    assert_eq!(names.pop().flatten().as_deref(), Some("Ann"));
    assert!(names.iter().all(Option::is_none), "{names:?}");
    let counted = Families::of(&world).await;
    let of = |outcome: &str| {
        let series = format!("hume_bridge_lookups_total{{outcome=\"{outcome}\"}}");
        counted.value(&series)
    };
    assert_eq!(
        (of("timeout"), of("status"), of("unreachable")),
        (1.0, 2.0, 1.0)
    );
    assert_eq!(
        (of("senseless"), of("answered"), of("cached")),
        (2.0, 1.0, 0.0)
    );
    assert!(
        world
            .web()
            .requests()
            .iter()
            .all(|request| request.path == "/who")
    );
    let log = close(world).await;
    discreet(&log);
    assert!(
        !log.iter().any(|line| line.contains("Lovelace")),
        "{log:#?}"
    );
    let told = log.iter().filter(|line| line.contains("lookup failed"));
    assert!(told.count() >= 1, "{log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_while_twilio_greets_is_there_when_the_agent_is() {
    let mut stage = asks(
        r#"
        [[web.answers]]
        delay = "300ms"
        json = { variables = { name = "Ann" } }
        "#,
    );
    stage = stage.replacen(
        "config = '''",
        "config = '''\ncalls.greeting = \"One moment, please, I am looking for your papers.\"",
        1,
    );
    let world = world(&stage).await;
    let call = dial(&world, ANN, SHOP);
    until(&call, |event| matches!(event, Event::Said { .. })).await;
    // Asked at the webhook: before there is any stream.
    in_time(world.web().until(|requests| requests.len() == 1)).await;
    until(&call, |event| matches!(event, Event::PlayingBegan)).await;
    assert_eq!(given(&world).variable("name"), Some("Ann"));
    let report = hang_up(&world, call).await;
    assert!(!heard(&report, "agent-saturday"));
    let asked = world.web().requests();
    assert_eq!(asked.len(), 1);
    let began = report.first(|event| matches!(event, Event::StreamStarted { .. }));
    assert!(began.is_some_and(|began| began > Duration::ZERO));
    close(world).await;
}

fn discreet(log: &[String]) {
    for number in [
        "5551234567",
        "5559876543",
        "5557654321",
        "5550000000",
        "61255501234",
    ] {
        assert!(!log.iter().any(|line| line.contains(number)), "{log:#?}");
    }
}
