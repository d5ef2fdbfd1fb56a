//! Which calls are answered how: routes, their hours, variables, and keys.

use std::time::Duration;

use hume_bridge::config::{AgentKind, CallerPrefix, Fallback, KeyAction, Span, Variable};

use super::{MARK, good, said, says};

#[test]
fn a_route_says_what_is_different() {
    let config = good(
        "[keys]\nend = '*'\ncount = 3\n[[route]]\nname = 'support'\nto = '+15557654324'\n\
         from = '+882'\nhours = ['mon 09:00-17:30']\ntimezone = 'Australia/Sydney'\n\
         closed = { dial = '+15557654325' }\nagent = 'hume'\nconfig_id = 'c-1'\nvoice = 'v-1'\n\
         greeting = 'Hello.'\nfallback = { hangup = true }\n\
         variables = { a = 'x', b = 1, c = 0.5, d = true }\ntools = ['hang_up']\n\
         keys = { timeout = '1s', actions = { '0' = { transfer = '+15557654326' }, 'D' = { say = 'Yes.' } } }\n\
         max_concurrent = 5\nmax_per_caller = 0\nmax_duration = '1m'\nno_input_timeout = '0s'\n\
         [[route]]\n",
    );
    let [route, all] = &config.routes[..] else {
        panic!("{:?}", config.routes);
    };
    assert_eq!(route.name, "support");
    assert_eq!(route.to.as_deref(), Some("+15557654324"));
    assert_eq!(route.from, Some(CallerPrefix::Begins("+882".into())));
    let hours = route.hours.as_ref().unwrap();
    assert_eq!(hours.zone.iana_name(), Some("Australia/Sydney"));
    let span = Span {
        day: 0,
        from: 540,
        to: 1050,
    };
    assert_eq!(hours.spans, [span]);
    assert_eq!(route.closed, Some(Fallback::Dial("+15557654325".into())));
    assert_eq!(route.agent, Some(AgentKind::Hume));
    assert_eq!(route.config_id.as_deref(), Some("c-1"));
    assert_eq!(route.voice.as_deref(), Some("v-1"));
    assert_eq!(route.greeting.as_deref(), Some("Hello."));
    assert_eq!(route.fallback, Some(Fallback::HangUp));
    let variables: Vec<_> = route.variables.values().cloned().collect();
    assert_eq!(
        variables,
        [
            Variable::Text("x".into()),
            Variable::Number(1.0),
            Variable::Number(0.5),
            Variable::Flag(true)
        ]
    );
    assert_eq!(route.tools.as_deref(), Some(&["hang_up".to_owned()][..]));
    let keys = route.keys.as_ref().unwrap();
    assert_eq!((keys.end, keys.count), (Some('*'), 3), "as in [keys]");
    assert_eq!(keys.words, config.keys.words);
    assert_eq!(keys.timeout, Duration::from_secs(1));
    assert_eq!(keys.actions[&'D'], KeyAction::Say("Yes.".into()));
    assert_eq!((route.max_concurrent, route.max_per_caller), (5, Some(0)));
    assert_eq!(route.max_duration, Some(Duration::from_secs(60)));
    assert_eq!(route.no_input_timeout, Some(Duration::ZERO));

    assert_eq!(all.name, "route 2");
    assert!(all.to.is_none() && all.from.is_none() && all.hours.is_none() && all.keys.is_none());
    assert!(all.tools.is_none() && all.variables.is_empty() && all.max_concurrent == 0);
    let shown = format!("{config:?}");
    assert!(!shown.contains("5557654"), "{shown}");
}

#[test]
fn mistakes_have_the_place_of_their_route() {
    says(
        "[[route]]\nto = '0555765401234'\n[[route]]\nfrom = '+'\nhours = ['mon']\nmax_duration = 3\n\
         gretting = ''\ntools = ['x']\n[route.keys]\nedn = '#'",
        "t.toml:3: route[1].to: is not a telephone number as Twilio writes it; write + and the country \
         code, then digits only, as in \"+61255501234\"\n\
         t.toml:4: route[2].timezone: is missing, and there are hours; write timezone = \
         \"Australia/Sydney\", or where the hours are meant\n\
         t.toml:5: route[2].from: is + alone, which would be every number; write the digits that the \
         numbers begin with, as in \"+882\"\n\
         t.toml:6: route[2].hours: entry 1 is not days and times with a space between; write days and \
         times, as in \"mon-fri 09:00-17:30\", \"sat,sun 10:00-12:00\" or \"daily 22:00-06:00\"\n\
         t.toml:7: route[2].max_duration: is a number without a unit; write a whole number and a unit, \
         as in \"20ms\", \"5s\", \"5m\" or \"2h\"\n\
         t.toml:8: route[2].gretting: there is no such key; did you mean greeting?\n\
         t.toml:9: route[2].tools: entry 1 is \"x\", and there is no such tool; write a [[tool]] of that \
         name; there are hang_up, transfer_call, send_digits, send_sms, get_call_info, leave_note\n\
         t.toml:11: route[2].keys.edn: there is no such key; did you mean end?",
    );
    for (text, what) in [
        (
            "timezone = 'UTC'",
            "timezone: means nothing without hours; ",
        ),
        (
            "closed = { hangup = true }",
            "closed: means nothing without hours; ",
        ),
        (
            "hours = ['daily 00:00-24:00']\ntimezone = 'Sydney'",
            "timezone: is no time zone; did you mean \"Australia/Sydney\"?",
        ),
        (
            "hours = ['daily 00:00-24:00']\ntimezone = 'UTC'\nclosed = { say = '' }",
            "closed: say has no words; ",
        ),
        (
            "agent = 'realtiem'",
            "agent: there is no \"realtiem\"; did you mean \"realtime\"?",
        ),
        (
            "agent = 'realtime'\nconfig_id = 'c'",
            "config_id: names a config of Hume's, and this route's agent is \"realtime\"; ",
        ),
        (
            "instructions = 'x'",
            "instructions: are for a Realtime server, and this route's agent is \"hume\"; ",
        ),
        ("name = ''", "name: is not a name; "),
        ("name = '+15557654324'", "name: is not a name; "),
        (
            "name = '15557654324'",
            "name: looks like a telephone number; ",
        ),
        (
            "keys = 'x'",
            "keys: is a string, not a section; write keys = { ... }",
        ),
        (
            "password = 'PLANTED'",
            "password: secrets never stand in this file",
        ),
        (
            "variables = { x = { token = 'PLANTED' } }",
            "variables.x: is a table, not a text",
        ),
    ] {
        let told = said(&format!("[[route]]\n{text}"));
        assert!(told.contains(&format!("route[1].{what}")), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(!told.contains("5557654"), "{told}");
    }
}

#[test]
fn a_route_that_an_earlier_one_leaves_no_call_to_is_a_mistake() {
    const TO: &str = "to = '+15557654324'\n";
    const HOURS: &str = "hours = ['daily 09:00-17:00']\ntimezone = 'UTC'\n";
    let two =
        |first: &str, second: &str| format!("[[route]]\n{first}[[route]]\nname = 'b'\n{second}");
    let never = "route 2 (\"b\") never gets a call: route 1 above takes them all; put the narrower \
                 one first, or remove one of them";
    for (first, second) in [
        ("", ""),
        ("", TO),
        (TO, TO),
        ("from = '+61'\n", "from = '+612'\n"),
        (
            "from = 'anonymous'\n",
            "from = 'anonymous'\nto = '+15557654324'\n",
        ),
        ("", HOURS),
        (HOURS, HOURS),
        (HOURS, "hours = ['mon-fri 10:00-12:00']\ntimezone = 'UTC'\n"),
        ("hours = ['daily 00:00-24:00']\ntimezone = 'UTC'\n", ""),
        // One that says what happens outside its hours keeps the call.
        (&format!("{HOURS}closed = {{ hangup = true }}\n"), TO),
    ] {
        let text = two(first, second);
        let line = 3 + first.lines().count();
        says(&text, &format!("t.toml:{line}: route[2]: {never}"));
    }
    for (first, second) in [
        (TO, ""),
        (TO, "to = '+15557654325'\n"),
        ("from = '+612'\n", "from = '+61'\n"),
        ("from = '+61'\n", ""),
        ("from = '+61'\n", TO),
        (HOURS, ""),
        (
            HOURS,
            "hours = ['daily 09:00-17:00']\ntimezone = 'Asia/Tokyo'\n",
        ),
        (HOURS, "hours = ['daily 09:00-17:01']\ntimezone = 'UTC'\n"),
    ] {
        assert_eq!(good(&two(first, second)).routes.len(), 2);
    }
    // Both are named, and what is not clear shadows nobody.
    let told = said("[[route]]\nname = 'a'\n[[route]]\nname = 'b'\n[[route]]\n");
    assert_eq!(
        told,
        "t.toml:4: route[2]: route 2 (\"b\") never gets a call: route 1 (\"a\") above takes them all; \
         put the narrower one first, or remove one of them\n\
         t.toml:6: route[3]: route 3 never gets a call: route 1 (\"a\") above takes them all; put the \
         narrower one first, or remove one of them"
    );
    for bad in [
        "to = '1'\n",
        "from = ''\n",
        "hours = []\ntimezone = 'UTC'\n",
    ] {
        assert_eq!(said(&two(bad, "")).lines().count(), 1, "{bad}");
        assert_eq!(said(&two("", bad)).lines().count(), 1, "{bad}");
    }
}

#[test]
fn a_route_has_a_name_of_its_own() {
    let two = |a: &str, b: &str| format!("[[route]]\nto = '+15557654324'\n{a}\n[[route]]\n{b}\n");
    says(
        &two("name = 'a b'", "name = 'a b'"),
        "t.toml:6: route[2].name: is the name of route 1, too; give each a name of its own",
    );
    says(
        &two("name = 'route 2'", ""),
        "t.toml:5: route[2]: has no name, and route 1 has the one it would get; write name = \"...\"",
    );
    // `route-test` would say it of two.
    says(
        &two("name = 'default'", ""),
        "t.toml:4: route[1].name: is what calls on no route are said to be on; give it another name",
    );
}

#[test]
fn variables_are_texts_with_facts_in_them() {
    let all = "{from}{to}{city}{state}{zip}{country}{caller_name}{call_sid}{route}{param.X-y_1.z}";
    let config = good(&format!(
        "[agent]\nvariables = {{ a = '{all}', b = '{{{{from}}}} }}}}' }}"
    ));
    assert_eq!(config.agent.variables["a"], Variable::Text(all.into()));
    assert_eq!(
        config.agent.variables["b"],
        Variable::Text("{{from}} }}".into())
    );
    assert_eq!(config.agent.variables.len(), 2, "in place of the defaults");
    assert_eq!(good("").agent.variables.len(), 4);
    good("[agent]\nvariables = { auth_token = '{param.Token}', empty = '' }");

    for (variable, what) in [
        (
            "a = '{form}'",
            "a: has {form}, which is no fact of a call; did you mean {from}?",
        ),
        (
            "a = '{xyzzy}'",
            "a: has {xyzzy}, which is no fact of a call; the call's facts are {from}, {to}, {city}, \
             {state}, {zip}, {country}, {caller_name}, {call_sid}, {route} and {param.NAME}; write {{ \
             for a brace",
        ),
        (
            "a = '{PLANTED}'",
            "a: has braces around what is no fact of a call; ",
        ),
        (
            "a = '{param.}'",
            "a: has a {param.} without the name of a field; ",
        ),
        (
            "a = '{param.a b}'",
            "a: has a {param.} without the name of a field; ",
        ),
        (
            "a = '{credential:crm-key}'",
            "a: has braces around what is no fact of a call; ",
        ),
        ("a = 'x {from'", "a: has a { that nothing closes; "),
        ("a = 'x }'", "a: has a } that closes nothing; "),
        (
            "a = \"\\u0000\"",
            "a: has more than 1000 characters, or a control character; ",
        ),
        (
            "a = ['x']",
            "a: is a list, not a text, a number, true or false; ",
        ),
        (
            "a = 1979-05-27",
            "a: is a date, not a text, a number, true or false; ",
        ),
        ("a = nan", "a: is no number that an agent can be told; "),
        (
            "a = 12345678901234567",
            "a: has more digits than an agent can be told exactly; put it in quotes",
        ),
        ("'a-b' = 'x'", "a-b: is not the name of a variable; "),
        ("1a = 'x'", "1a: is not the name of a variable; "),
        (
            "api_key = 'PLANTED'",
            "api_key: secrets never stand in this file; ",
        ),
    ] {
        let told = said(&format!("[agent]\nvariables = {{ {variable} }}"));
        assert!(
            told.starts_with(&format!("t.toml:3: agent.variables.{what}")),
            "{told}"
        );
        assert!(!told.contains(MARK) && told.lines().count() == 1, "{told}");
    }
    good("[agent]\nvariables = { a = 9007199254740991, b = -1.5 }");
    // Each field that is named travels, whoever names it.
    let fields = |from: usize, to: usize| -> String {
        let facts = (from..to).map(|n| format!("{{param.F{n}}}"));
        facts.chain(["{{param.none}}".to_owned()]).collect()
    };
    let both = |own| {
        let (all, own) = (fields(0, 18), fields(16, own));
        format!("[agent]\nvariables = {{ a = '{all}' }}\n[[route]]\nvariables = {{ a = '{own}' }}")
    };
    good(&both(20));
    says(
        &both(21),
        "t.toml:3: agent.variables: name 21 different fields as {param.NAME}, with those of the routes; \
         name 20 at most: each travels with every call",
    );
    let many: String = (0..51).map(|n| format!("v{n} = 1\n")).collect();
    says(
        &format!("[agent.variables]\n{many}"),
        "t.toml:2: agent.variables: are more than 50; remove some",
    );
}

#[test]
fn keys_end_an_input_or_do_something() {
    let keys = good(
        "[keys]\nwords = ''\nend = ''\ncount = 64\ntimeout = '100ms'\n[keys.actions]\n\
         0 = { transfer = '+15557654324' }\n'#' = { hangup = true }\n'*' = { say = 'Help.' }\nA = { hangup = true }",
    )
    .keys;
    assert_eq!((keys.end, keys.count), (None, 64));
    let actions: Vec<_> = keys.actions.keys().collect();
    assert_eq!(actions, [&'#', &'*', &'0', &'A']);
    assert_eq!(
        keys.actions[&'0'],
        KeyAction::Transfer("+15557654324".into())
    );

    for (text, what) in [
        ("words = 'Keys.'", "words: does not say which keys; "),
        (
            "words = 'Pressed {digits}, {keys}.'",
            "words: has {digits}, which stands for nothing; remove it; what is known here is {keys}",
        ),
        ("end = '##'", "end: is not a key; "),
        ("end = 'A'", "end: is not a key; "),
        ("end = 0", "end: is a number, not a string; "),
        ("count = 65", "count: 65 is out of range; "),
        ("timeout = '0s'", "timeout: 0ms is out of range; "),
        (
            "actions = { '10' = { hangup = true } }",
            "actions.10: is not a key; ",
        ),
        (
            "actions = { a = { hangup = true } }",
            "actions.a: is not a key; ",
        ),
        (
            "actions = { '#' = { hangup = true } }",
            "actions.#: is the key that ends an input; ",
        ),
        (
            "actions = { '0' = { transfer = '0555765401234' } }",
            "actions.0: transfer is not a telephone number",
        ),
        (
            "actions = { '0' = { dial = '+15557654324' } }",
            "actions.0: has a key that is none of transfer, say and hangup; ",
        ),
        (
            "actions = { '0' = { say = '' } }",
            "actions.0: say has no words; ",
        ),
        (
            "actions = { '0' = { hangup = false } }",
            "actions.0: hangup = false says nothing to do; ",
        ),
        (
            "actions = []",
            "actions: is not a table; write actions = { NAME = \"...\" }",
        ),
    ] {
        let told = said(&format!("[keys]\n{text}"));
        assert!(
            told.starts_with(&format!("t.toml:3: keys.{what}")),
            "{told}"
        );
        assert!(!told.contains("5557654"), "{told}");
    }
    // A route's other end meets the actions that it has from [keys].
    says(
        "[keys]\nactions = { '0' = { hangup = true } }\n[[route]]\nkeys = { end = '0' }",
        "t.toml:5: route[1].keys.end: is a key that has an action in [keys]; choose another, or write \
         actions = {} here",
    );
    good(
        "[keys]\nactions = { '0' = { hangup = true } }\n[[route]]\nkeys = { end = '0', actions = {} }",
    );
}

#[test]
fn what_is_the_same_for_every_call_fits_into_an_address() {
    let text = |length: usize| "x".repeat(length);
    let four = |last: usize| {
        let (a, last) = (text(1000), text(last));
        format!("a = '{a}', b = '{a}', c = '{a}', d = '{last}'")
    };
    // Each name, and two signs around each.
    let most = 4096 - 3000 - 4 * 3 - 96;
    let whole = format!("{}, e = '{}'", four(most), text(96 - 3));
    good(&format!("[agent]\nvariables = {{ {whole} }}"));
    let told = said(&format!("[agent]\nvariables = {{ {whole}, f = 1 }}"));
    let what = "have 4100 bytes in all as they are sent, without those that facts of the call stand in, \
                and 4096 is the most";
    let mend = "shorten them, or write what is long into the agent's prompt";
    assert_eq!(told, format!("t.toml:2: agent.variables: {what}; {mend}"));
    // What is sent apart does not count, and what has to be written in another way counts as that.
    good(&format!(
        "[agent]\nvariables = {{ {whole}, f = '{{from}}{}' }}",
        text(900)
    ));
    let spelt = format!("a = '{}', b = '{}'", "\u{fc}".repeat(500), "{{".repeat(400));
    let told = said(&format!("[agent]\nvariables = {{ {spelt} }}"));
    assert!(told.contains("have 4206 bytes in all"), "{told}");

    // A route's are sent with those of all calls, and over them.
    let all = format!("[agent]\nvariables = {{ {} }}\n", four(900));
    good(&format!(
        "{all}[[route]]\nvariables = {{ a = '{}' }}",
        text(999)
    ));
    let told = said(&format!(
        "{all}[[route]]\nvariables = {{ z = '{}' }}",
        text(500)
    ));
    let what = "have 4415 bytes in all as they are sent, without those that facts of the call stand in, \
                and 4096 is the most, with those of [agent]";
    assert_eq!(
        told,
        format!("t.toml:4: route[1].variables: {what}; {mend}")
    );
    // Told once.
    let told = said(&format!(
        "[agent]\nvariables = {{ {whole}, f = 1 }}\n[[route]]\nvariables = {{ z = 1 }}"
    ));
    assert_eq!(told.lines().count(), 1, "{told}");
}
