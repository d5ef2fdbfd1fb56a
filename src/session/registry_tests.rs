//! Who gets a place, and when it is free again.

use super::*;
use crate::config::CallerPrefix;

const ANN: &str = "+15551234567";
const BOB: &str = "+15559876543";
const SHOP: &str = "+15557654321";
const BAR: &str = "+15550000000";
const LIFETIME: Duration = Duration::from_secs(30);

fn sid(n: u32) -> CallSid {
    format!("CA{n:032x}").parse().unwrap()
}

fn limits(per_caller: usize, per_number: usize) -> Limits {
    Limits {
        max_per_caller: per_caller,
        max_per_number: per_number,
        ..Limits::of(100, LIFETIME)
    }
}

#[test]
fn a_test_call_is_known_until_it_is_over_and_done_with() {
    let registry = Registry::new(Limits::of(5, LIFETIME));
    let began = Instant::now();
    for number in 0..MAX_TEST_CALLS as u32 {
        assert!(registry.expect_test(sid(number), began), "{number}");
    }
    assert!(!registry.expect_test(sid(99), began), "one too many");
    assert!(!registry.is_test(&sid(99), began));

    let facts = CallFacts {
        call: sid(0),
        stream: format!("MZ{:032x}", 1).parse().unwrap(),
        from: String::new(),
        to: String::new(),
        agent: "x",
        route: None,
        known: Default::default(),
        token_expires_unix: 1,
    };
    let claim = registry.claim(facts, began).unwrap();
    assert!(claim.view.test);
    // Those that never came are forgotten, the one that lives is not.
    let later = began + TEST_CALL_LIFETIME;
    assert!(registry.is_test(&sid(0), later) && !registry.is_test(&sid(1), later));
    // What comes after the stream is still about a test call.
    drop(claim);
    assert!(registry.is_test(&sid(0), Instant::now()));
    assert!(!registry.is_test(&sid(0), Instant::now() + TEST_CALL_LIFETIME));
}

struct Desk {
    registry: Arc<Registry>,
    now: Instant,
}

impl Desk {
    fn with(limits: Limits) -> Desk {
        Desk {
            registry: Registry::new(limits),
            now: Instant::now(),
        }
    }

    fn ask(&self, n: u32, from: &str, to: &str, inbound: bool) -> Result<Admitted, Refused> {
        let asking = Asking {
            call: sid(n),
            from,
            to,
            inbound,
            on: Default::default(),
        };
        self.registry.admit(asking, self.now)
    }

    fn ask_on(&self, n: u32, from: &str, on: OnRoute<'_>) -> Result<Admitted, Refused> {
        let asking = Asking {
            call: sid(n),
            from,
            to: SHOP,
            inbound: true,
            on,
        };
        self.registry.admit(asking, self.now)
    }

    fn admit(&self, n: u32, from: &str) -> Result<Admitted, Refused> {
        self.ask(n, from, SHOP, true)
    }

    fn claim(&self, n: u32, from: &str) -> Result<Claim, ClaimError> {
        let facts = CallFacts {
            call: sid(n),
            stream: format!("MZ{n:032x}").parse().unwrap(),
            from: from.to_owned(),
            to: SHOP.to_owned(),
            agent: "test",
            route: None,
            known: Default::default(),
            token_expires_unix: 1,
        };
        self.registry.claim(facts, self.now)
    }
}

#[test]
fn one_caller_has_so_many_places_and_no_more() {
    let desk = Desk::with(limits(2, 0));
    assert_eq!(desk.admit(1, ANN), Ok(Admitted::New));
    assert_eq!(desk.admit(2, ANN), Ok(Admitted::New));
    assert_eq!(desk.admit(3, ANN), Err(Refused::CallerFull));
    // Twilio asks again, about each of them.
    assert_eq!(desk.admit(3, ANN), Err(Refused::CallerFull));
    assert_eq!(desk.admit(2, ANN), Ok(Admitted::Again));
    assert_eq!(desk.admit(4, BOB), Ok(Admitted::New));
}

#[test]
fn a_place_is_free_again_when_the_call_has_ended_was_given_up_or_never_came() {
    let mut desk = Desk::with(limits(1, 0));
    desk.admit(1, ANN).unwrap();
    let claim = desk.claim(1, ANN).unwrap();
    assert_eq!(desk.admit(2, ANN), Err(Refused::CallerFull));
    drop(claim);
    assert_eq!(desk.admit(2, ANN), Ok(Admitted::New));
    desk.registry.forget_admitted(&sid(2));
    assert_eq!(desk.admit(3, ANN), Ok(Admitted::New));
    assert_eq!(desk.admit(4, ANN), Err(Refused::CallerFull));
    desk.now += LIFETIME;
    assert_eq!(desk.admit(4, ANN), Ok(Admitted::New));
}

#[test]
fn a_call_of_another_instances_counts_and_is_not_judged_again() {
    let desk = Desk::with(limits(1, 0));
    let one = desk.claim(1, ANN).unwrap();
    assert_eq!(desk.admit(2, ANN), Err(Refused::CallerFull));
    let two = desk.claim(2, ANN).unwrap();
    drop(one);
    assert_eq!(desk.admit(3, ANN), Err(Refused::CallerFull));
    drop(two);
    assert_eq!(desk.admit(3, ANN), Ok(Admitted::New));
}

#[test]
fn withheld_numbers_are_many_callers_but_one_called_number() {
    let desk = Desk::with(limits(1, 3));
    for (n, from) in [(1, "anonymous"), (2, "anonymous"), (3, "+266696687")] {
        assert_eq!(desk.admit(n, from), Ok(Admitted::New));
    }
    assert_eq!(desk.admit(4, "anonymous"), Err(Refused::NumberFull));
}

#[test]
fn a_called_number_has_so_many_places_and_no_more() {
    let desk = Desk::with(limits(0, 2));
    desk.admit(1, ANN).unwrap();
    desk.admit(2, BOB).unwrap();
    assert_eq!(desk.admit(3, "+15553333333"), Err(Refused::NumberFull));
    assert_eq!(desk.ask(3, ANN, BAR, true), Ok(Admitted::New));
}

fn on(name: &str, max_concurrent: usize, max_per_caller: Option<usize>) -> OnRoute<'_> {
    OnRoute {
        name,
        max_concurrent,
        max_per_caller,
        closed: false,
    }
}

#[test]
fn a_route_has_so_many_places_and_no_more() {
    let desk = Desk::with(limits(0, 0));
    desk.ask_on(1, ANN, on("shop", 2, None)).unwrap();
    desk.ask_on(2, BOB, on("shop", 2, None)).unwrap();
    let third = |n| desk.ask_on(n, "+15553333333", on("shop", 2, None));
    assert_eq!(third(3), Err(Refused::RouteFull));
    assert_eq!(desk.ask_on(3, ANN, on("bar", 1, None)), Ok(Admitted::New));
    // Also of calls that we have placed, and of those that another instance let in.
    let ours = Asking {
        call: sid(4),
        from: SHOP,
        to: ANN,
        inbound: false,
        on: on("bar", 1, None),
    };
    assert_eq!(desk.registry.admit(ours, desk.now), Err(Refused::RouteFull));
    desk.registry.forget_admitted(&sid(1));
    assert_eq!(third(5), Ok(Admitted::New));
}

#[test]
fn a_routes_own_limit_of_one_caller_is_about_their_calls_on_it() {
    let desk = Desk::with(limits(1, 0));
    desk.ask_on(1, ANN, on("shop", 0, Some(2))).unwrap();
    desk.ask_on(2, ANN, on("shop", 0, Some(2))).unwrap();
    let third = desk.ask_on(3, ANN, on("shop", 0, Some(2)));
    assert_eq!(third, Err(Refused::CallerFull));
    assert_eq!(
        desk.ask_on(3, ANN, on("bar", 0, Some(1))),
        Ok(Admitted::New)
    );
    // Where the route says nothing, all of them count.
    assert_eq!(
        desk.ask_on(4, ANN, on("office", 0, None)),
        Err(Refused::CallerFull)
    );
    assert_eq!(
        desk.ask_on(4, ANN, on("shop", 0, Some(0))),
        Ok(Admitted::New)
    );
}

#[test]
fn a_closed_route_takes_nobody_but_those_it_took_before() {
    let desk = Desk::with(Limits {
        max_concurrent: 1,
        screen: Arc::new(Screen {
            allow: vec![],
            deny: vec![CallerPrefix::Begins(BOB.into())],
        }),
        ..limits(0, 0)
    });
    let closed = OnRoute {
        closed: true,
        ..on("shop", 0, None)
    };
    desk.ask_on(1, ANN, on("shop", 0, None)).unwrap();
    // Twilio asks again, a minute past closing time.
    assert_eq!(desk.ask_on(1, ANN, closed), Ok(Admitted::Again));
    // Who is not wanted learns no hours; who is, need not hear that all lines are busy.
    assert_eq!(desk.ask_on(2, BOB, closed), Err(Refused::Denied));
    assert_eq!(desk.ask_on(2, ANN, closed), Err(Refused::Closed));
    desk.registry.set_draining(true);
    assert_eq!(desk.ask_on(2, ANN, closed), Err(Refused::Closed));
}

#[test]
fn a_calls_route_is_known_from_its_webhook_until_it_is_forgotten() {
    let desk = Desk::with(limits(0, 0));
    let route = |n| desk.registry.route_of(&sid(n));
    assert_eq!(route(1), None);
    desk.ask_on(1, ANN, on("shop", 0, None)).unwrap();
    assert_eq!(route(1).as_deref(), Some("shop"));
    let facts = CallFacts {
        call: sid(1),
        stream: format!("MZ{:032x}", 1).parse().unwrap(),
        from: ANN.to_owned(),
        to: SHOP.to_owned(),
        agent: "test",
        route: Some("shop".to_owned()),
        known: Default::default(),
        token_expires_unix: 1,
    };
    let claim = desk.registry.claim(facts, desk.now).unwrap();
    assert_eq!(route(1).as_deref(), Some("shop"));
    drop(claim);
    assert_eq!(route(1).as_deref(), Some("shop"));
}

#[test]
fn a_sip_phone_is_one_caller_whatever_its_transport() {
    let desk = Desk::with(limits(1, 0));
    desk.admit(1, "sip:ann@example.com;transport=tls").unwrap();
    let same = desk.admit(2, "sip:Ann@example.com;transport=udp");
    assert_eq!(same, Err(Refused::CallerFull));
}

#[test]
fn calls_of_our_own_are_nobodys() {
    let screen = Screen {
        allow: vec![CallerPrefix::Begins("+61".into())],
        deny: vec![],
    };
    let desk = Desk::with(Limits {
        screen: Arc::new(screen),
        ..limits(1, 1)
    });
    for n in 1..5 {
        assert_eq!(desk.ask(n, SHOP, ANN, false), Ok(Admitted::New));
        // Nor are they when they live.
        std::mem::forget(desk.claim(n, SHOP).unwrap());
    }
    assert_eq!(desk.ask(9, "+61255501234", SHOP, true), Ok(Admitted::New));
}

#[test]
fn other_limits_and_lists_are_for_the_calls_to_come() {
    let desk = Desk::with(limits(4, 0));
    desk.admit(1, ANN).unwrap();
    let live = desk.claim(1, ANN).unwrap();
    desk.admit(2, ANN).unwrap();
    let screen = |allow: &[&str], deny: &[&str]| {
        let list = |list: &[&str]| {
            let begins = |text: &&str| CallerPrefix::Begins((*text).to_owned());
            list.iter().map(begins).collect()
        };
        Arc::new(Screen {
            allow: list(allow),
            deny: list(deny),
        })
    };
    desk.registry.set_limits(Limits {
        screen: screen(&[], &["+1555123"]),
        ..limits(1, 0)
    });
    assert_eq!(desk.admit(1, ANN), Ok(Admitted::Again));
    assert_eq!(desk.admit(2, ANN), Ok(Admitted::Again));
    assert_eq!(desk.admit(3, ANN), Err(Refused::Denied));
    desk.registry.set_limits(Limits {
        screen: screen(&["+61"], &[]),
        ..limits(1, 0)
    });
    assert_eq!(desk.admit(3, ANN), Err(Refused::NotAllowed));
    // A list is a list, drain or not; those who may call meet the drain.
    desk.registry.set_draining(true);
    assert_eq!(desk.admit(3, ANN), Err(Refused::NotAllowed));
    assert_eq!(desk.admit(4, "+61255501234"), Err(Refused::Draining));
    drop(live);
}

#[test]
fn a_full_house_comes_before_whose_calls_fill_it() {
    let desk = Desk::with(Limits {
        max_concurrent: 1,
        ..limits(1, 1)
    });
    desk.admit(1, ANN).unwrap();
    assert_eq!(desk.admit(2, ANN), Err(Refused::Full));
}

#[test]
fn a_drain_takes_no_place_from_a_call_that_asks_again() {
    let desk = Desk::with(limits(0, 0));
    assert_eq!(desk.admit(1, ANN), Ok(Admitted::New));
    desk.registry.set_draining(true);
    assert_eq!(desk.admit(1, ANN), Ok(Admitted::Again));
    assert_eq!(desk.admit(2, BOB), Err(Refused::Draining));
    desk.registry.close();
    assert_eq!(desk.admit(1, ANN), Err(Refused::Draining));
}

#[test]
fn a_call_is_told_that_it_is_over_and_only_by_its_own_stream() {
    let desk = Desk::with(limits(0, 0));
    let mut claim = desk.claim(1, ANN).unwrap();
    let stream = format!("MZ{:032x}", 1);
    let mut told = |stream: Option<&str>, caller_left| {
        desk.registry.call_over(&sid(1), stream, caller_left);
        claim.mailbox.try_recv().ok().map(|letter| letter.order)
    };
    let over = |caller_left| Some(Order::CallOver { caller_left });
    assert_eq!(told(None, true), over(true));
    assert_eq!(told(Some(&stream), false), over(false));
    assert_eq!(told(Some(&format!("MZ{:032x}", 2)), false), None);
    assert_eq!(told(Some(""), false), None);
    // A stream's word is none about the place of a call whose own stream is still to come.
    desk.admit(2, ANN).unwrap();
    desk.registry.call_over(&sid(2), Some(&stream), false);
    assert_eq!(desk.registry.owed(desk.now), 2);
    desk.registry.call_over(&sid(2), None, true);
    assert_eq!(desk.registry.owed(desk.now), 1);
    // Whatever Twilio repeats, the daemon's own order finds its room.
    for _ in 0..100 {
        desk.registry.call_over(&sid(1), None, true);
    }
    desk.registry.close();
    let letters = std::iter::from_fn(|| claim.mailbox.try_recv().ok());
    let last = letters.last().map(|letter| letter.order);
    assert_eq!(last, Some(Order::DrainExpired));
    drop(claim);
    desk.registry.call_over(&sid(1), None, true);
}

#[test]
fn operators_leave_room_for_the_end_of_a_drain() {
    let registry = Registry::new(limits(0, 0));
    let facts = CallFacts {
        call: sid(1),
        stream: format!("MZ{:032x}", 1).parse().unwrap(),
        from: String::new(),
        to: String::new(),
        agent: "x",
        route: None,
        known: Default::default(),
        token_expires_unix: 1,
    };
    let mut claim = registry.claim(facts, Instant::now()).unwrap();
    let told: Vec<_> = (0..=MAILBOX)
        .map(|_| registry.order(&sid(1), Order::Pause).map(|_| ()))
        .collect();
    assert_eq!(told[MAILBOX], Err(OrderError::Busy));
    assert!(told[..MAILBOX].iter().all(Result::is_ok));
    assert_eq!(registry.close(), 1);
    let letters = std::iter::from_fn(|| claim.mailbox.try_recv().ok());
    assert_eq!(
        letters.last().map(|letter| letter.order),
        Some(Order::DrainExpired)
    );
}

/// The stream of a call, with the expiry of its token.
fn stream(n: u32, token_expires_unix: u64) -> CallFacts {
    CallFacts {
        call: sid(n),
        stream: "MZ0123456789abcdef0123456789abcdef".parse().unwrap(),
        from: ANN.to_owned(),
        to: SHOP.to_owned(),
        agent: "test",
        route: None,
        known: Default::default(),
        token_expires_unix,
    }
}

#[test]
fn a_call_that_is_away_comes_back_once_and_with_a_newer_token() {
    let desk = Desk::with(limits(0, 0));
    let claim = desk.registry.claim(stream(1, 100), desk.now).unwrap();
    // It is not away.
    assert!(desk.registry.come_back(&stream(1, 101)).is_none());
    let _door = claim.open_door();
    // Whoever holds the token that its first stream has used is not it.
    assert!(desk.registry.come_back(&stream(1, 100)).is_none());
    assert!(desk.registry.come_back(&stream(2, 101)).is_none());
    assert!(desk.registry.come_back(&stream(1, 101)).is_some());
    assert!(desk.registry.come_back(&stream(1, 102)).is_none());
    assert_eq!(claim.facts().token_expires_unix, 101);
    let _door = claim.open_door();
    assert!(desk.registry.come_back(&stream(1, 101)).is_none());
    assert!(desk.registry.come_back(&stream(1, 102)).is_some());
}

#[test]
fn a_call_that_was_hung_up_does_not_come_to_life_again() {
    let desk = Desk::with(limits(0, 0));
    let claim = desk.registry.claim(stream(1, 100), desk.now).unwrap();
    claim.decide(After::HangUp);
    drop(claim);
    let again = desk.registry.claim(stream(1, 200), desk.now);
    assert_eq!(again.err(), Some(ClaimError::Spent));
    // One that was lost may begin anew.
    let claim = desk.registry.claim(stream(2, 100), desk.now).unwrap();
    drop(claim);
    assert!(desk.registry.claim(stream(2, 200), desk.now).is_ok());
}
