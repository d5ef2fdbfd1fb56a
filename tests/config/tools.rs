//! What an agent can do: tools, and lists of them.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use hume_bridge::{
    config::{BUILTIN_TOOLS, Method, Secret, Tool, ToolKind},
    tools::Builtin,
};

use super::{good, said, says};

/// A tool that is right, but for what `more` says. `more` begins on line 7.
fn http(more: &str) -> String {
    format!(
        "[[tool]]\nname = 'find'\ndescription = 'Finds.'\nkind = 'http'\n\
         url = 'https://crm.example.com/find?v=2'\n{more}\n"
    )
}

fn exec(more: &str) -> String {
    format!(
        "[[tool]]\nname = 'when'\ndescription = 'Says.'\nkind = 'exec'\n\
         command = ['/usr/bin/env', '-i']\n{more}\n"
    )
}

fn one(text: &str) -> Tool {
    let mut tools = good(text).tools;
    assert_eq!(tools.len(), 1, "{text}");
    tools.remove(0)
}

#[test]
fn a_tool_has_the_defaults_of_its_kind() {
    let tool = one(&http(""));
    let ToolKind::Http(service) = &tool.kind else {
        panic!("{tool:?}");
    };
    assert_eq!(service.method, Method::Post);
    assert!(service.headers.is_empty() && service.sign_with.is_none() && !service.idempotent);
    assert_eq!((tool.max_concurrent, tool.max_output), (16, 16 * 1024));
    assert_eq!(tool.timeout, Duration::from_secs(5));
    assert_eq!(tool.filler_after, Duration::from_millis(1500));
    assert_eq!((&*tool.filler, &*tool.fallback), ("", ""));
    assert_eq!(
        tool.parameters,
        serde_json::json!({"type": "object", "properties": {}})
    );

    let tool = one(&exec(""));
    let ToolKind::Exec { command } = &tool.kind else {
        panic!("{tool:?}");
    };
    assert_eq!(command, &["/usr/bin/env", "-i"]);
    assert_eq!(tool.max_concurrent, 4);

    for (method, again) in [("GET", true), ("PUT", true), ("POST", false)] {
        let ToolKind::Http(service) = one(&http(&format!("method = '{method}'"))).kind else {
            panic!("{method}");
        };
        assert_eq!(service.idempotent, again, "{method}");
        let told = format!("method = '{method}'\nidempotent = {}", !again);
        let ToolKind::Http(service) = one(&http(&told)).kind else {
            panic!("{method}");
        };
        assert_eq!(service.idempotent, !again, "{method}");
    }
}

#[test]
fn parameters_are_a_schema_as_a_table_or_as_json() {
    let table = one(&http(
        "parameters = { type = 'object', required = ['n'], properties = { n = { type = 'integer', \
         minimum = 1, maximum = 0x1f }, key = { type = 'string' }, token = { type = 'number', \
         default = 0.5, enum = [0.5, -1e3] } } }",
    ));
    let json = one(&http(
        r#"parameters = '{"type":"object","required":["n"],"properties":{"n":{"type":"integer","minimum":1,"maximum":31},"key":{"type":"string"},"token":{"type":"number","default":0.5,"enum":[0.5,-1000.0]}}}'"#,
    ));
    assert_eq!(table.parameters, json.parameters);
    one(&http(
        r##"parameters = '{"type":"object","properties":{"a":{"$ref":"#/$defs/x"}},"$defs":{"x":{"type":"string"}}}'"##,
    ));
    for (value, what) in [
        ("3", "is a number, not a JSON Schema; write { type"),
        ("'{'", "is not JSON (line 1, column 1 of it); mend it"),
        ("'[]'", "is not a JSON object; "),
        ("{}", "has no type; add type = \"object\""),
        (
            "{ order = { type = 'string' } }",
            "has no type; write { type = \"object\", properties = ",
        ),
        (
            "{ type = 'string' }",
            "is not a schema of an object; write { type",
        ),
        (
            "{ type = 'object', properties = { a = { type = 'strin' } } }",
            "is not a JSON Schema at /properties/a/type; ",
        ),
        (
            "{ type = 'object', properties = { a = { pattern = '(' } } }",
            "is not a JSON Schema at /properties/a/pattern; ",
        ),
        (
            r##"'{"type":"object","properties":{"PLANTED":{"anyOf":[{"$ref":"#/PLANTED"}]}}}'"##,
            "has a $ref that leads nowhere; ",
        ),
        (
            r#"'{"type":"object","properties":{"PLANTED":{"anyOf":[{"minLength":"PLANTED"}]}}}'"#,
            "is not a JSON Schema at /properties/../anyOf/0/minLength; ",
        ),
        (
            "{ type = 'object', properties = ['PLANTED'] }",
            "is not a JSON Schema at /properties; ",
        ),
        (
            "{ type = 'object', properties = { a = { '$ref' = 'https://example.com/a' } } }",
            "refers to another document with $ref; ",
        ),
        (
            "{ type = 'object', allOf = [{ '$ref' = 'https://json-schema.org/draft/2020-12/schema' }] }",
            "refers to another document with $ref; ",
        ),
        (
            "{ type = 'object', properties = { a = { '$ref' = '#/$defs/none' } } }",
            "has a $ref that leads nowhere; ",
        ),
        (
            "{ type = 'object', properties = { a = { const = 2026-11-23 } } }",
            "has a date, which JSON does not have; ",
        ),
        (
            "{ type = 'object', properties = { a = { maximum = nan } } }",
            "has a number that JSON does not have; ",
        ),
        (
            "{ type = 'object', properties = { a = { maximum = 99999999999999999999 } } }",
            "has 99999999999999999999, which is out of range; ",
        ),
    ] {
        let told = said(&http(&format!("parameters = {value}")));
        let line = format!("t.toml:7: tool[1].parameters: {what}");
        assert!(told.starts_with(&line), "{value}\n{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    let inside = |more: &str| format!("{{ type = 'object', properties.n = {{ {more} }} }}");
    for (value, what) in [
        (
            inside("type = 'integer', minumum = 1"),
            "has minumum, which means nothing at /properties/n; did you mean minimum?",
        ),
        (
            inside("type = 'string', min_length = 1"),
            "has min_length, which means nothing at /properties/n; did you mean minLength?",
        ),
        (
            "{ type = 'object', propertys = { n = {} } }".to_owned(),
            "has propertys, which means nothing; did you mean properties?",
        ),
        (
            inside("anyOf = [{ enmu = [1] }]"),
            "has enmu, which means nothing at /properties/n/anyOf/0; did you mean enum?",
        ),
        (
            inside("ref = '#/$defs/a'"),
            "has ref, which means nothing at /properties/n; did you mean $ref?",
        ),
        (
            inside("type = 'string', format = 'datetime'"),
            "has a format that there is not at /properties/n; did you mean \"date-time\"?",
        ),
        (
            inside("type = 'string', format = 'PLANTED'"),
            "has a format that there is not at /properties/n; remove it, and say in the description \
             what is wanted; there are date, ",
        ),
        (
            inside("minimum = 3, maximum = 2"),
            "has minimum and maximum between which nothing lies at /properties/n; mend one of them",
        ),
        (
            inside("minimum = 3, exclusiveMaximum = 3"),
            "has minimum and exclusiveMaximum between which nothing lies at /properties/n; ",
        ),
        (
            inside("minLength = 9, maxLength = 2"),
            "has minLength and maxLength between which nothing lies at /properties/n; ",
        ),
        (
            "{ type = 'object', required = ['guest'], properties.guests = {} }".to_owned(),
            "requires \"guest\", which is not among the properties; did you mean \"guests\"?",
        ),
        (
            "{ type = 'object', required = ['n', 'PLANTED'], properties.n = {}, \
             additionalProperties = false }"
                .to_owned(),
            "requires what is not among the properties (entry 2); describe it there, or remove it",
        ),
    ] {
        let told = said(&http(&format!("parameters = {value}")));
        let line = format!("t.toml:7: tool[1].parameters: {what}");
        assert!(told.starts_with(&line), "{value}\n{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    // Odd, and yet what somebody may mean.
    for value in [
        inside("minimum = 3, maximum = 3, example = 3, note = 'x', nullable = true, unit = 'h'"),
        inside("default = { minumum = 1 }, enum = [{ propertys = 1 }], x-formt = 'x'"),
        "{ type = 'object', required = ['a'], properties.n = {}, additionalProperties.type = 'string' }"
            .to_owned(),
        "{ type = 'object', required = ['a'], properties.n = {}, patternProperties.a = {} }".to_owned(),
        "{ type = 'object', properties.minumum = {}, anyOf = [{ required = ['a'], properties.b = {} }] }"
            .to_owned(),
        "{ type = 'object', properties.n = { format = 'date-time' } }".to_owned(),
        "{ type = 'object', properties.n = { type = 'integer', format = 'int32' } }".to_owned(),
    ] {
        one(&http(&format!("parameters = {value}")));
    }
    let long = format!(
        "parameters = {{ type = 'object', description = '{}' }}",
        "x".repeat(17_000)
    );
    assert!(said(&http(&long)).contains("is larger than 16 KiB"));
}

#[test]
fn what_a_tool_lacks_is_told_at_its_header() {
    says(
        "[[tool]]",
        "t.toml:2: tool[1].name: is missing; write name = \"...\"\n\
         t.toml:2: tool[1].description: is missing; write description = \"...\": what it does and \
         when to use it, for the agent\n\
         t.toml:2: tool[1].kind: is missing; write kind = \"http\" or kind = \"exec\"",
    );
    let second = format!("{}[[tool]]\nname = 'b'\ndescription = 'B.'\n", http(""));
    says(
        &format!("{second}kind = 'http'"),
        "t.toml:8: tool[2].url: is missing; write url = \"https://HOST/PATH\"",
    );
    says(
        &format!("{second}kind = 'exec'"),
        "t.toml:8: tool[2].command: is missing; write command = [\"/full/path\", \"argument\"]",
    );
    says(
        &format!("{second}url = 'https://x.example.com'"),
        "t.toml:8: tool[2].kind: is missing; write kind = \"http\"",
    );
    says(
        &format!("{second}kind = 'htpp'\nurl = 'ftp://x'"),
        "t.toml:11: tool[2].kind: there is no \"htpp\"; did you mean \"http\"?\n\
         t.toml:12: tool[2].url: does not begin with https://; write https://",
    );
}

#[test]
fn keys_of_the_other_kind_and_unknown_ones_are_told_as_that() {
    says(
        &http("command = ['/usr/bin/env']"),
        "t.toml:7: tool[1].command: is for tools of kind \"exec\"; remove it, or change kind",
    );
    for key in [
        "url = 'https://x.example.com'",
        "method = 'GET'",
        "headers = {}",
        "sign_with = 'x'",
        "idempotent = true",
    ] {
        let (name, _) = key.split_once(' ').unwrap();
        says(
            &exec(key),
            &format!(
                "t.toml:7: tool[1].{name}: is for tools of kind \"http\"; remove it, or change kind"
            ),
        );
    }
    says(
        &http("tiemout = '1s'"),
        "t.toml:7: tool[1].tiemout: there is no such key; did you mean timeout?",
    );
    says(
        "[tool]\nname = 'x'\ndescription = 'x'\nkind = 'exec'\ncommand = ['/usr/bin/env']",
        "t.toml:2: tool: is one section, and there may be several; write [[tool]] on a line of its \
         own before the keys of each",
    );
    says(
        "tool = 3",
        "t.toml:2: tool: is a number, not a list of sections; write [[tool]] on a line of its own \
         before the keys of each",
    );
    assert!(said("tool = [3]").starts_with("t.toml:2: tool[1]: is a number, not a section; "));
}

#[test]
fn names_are_the_operators_and_each_is_given_once() {
    for name in ["a", "find-order_2", &"x".repeat(64)] {
        one(&http("").replace("'find'", &format!("'{name}'")));
    }
    for (name, what) in [
        ("", "is not the name of a tool; "),
        ("find order", "is not the name of a tool; "),
        ("finde_bestellung_für", "is not the name of a tool; "),
        (
            "hang_up",
            "is hang_up, a tool that is built in; give yours another name",
        ),
    ] {
        let told = said(&http("").replace("'find'", &format!("'{name}'")));
        assert!(
            told.starts_with(&format!("t.toml:3: tool[1].name: {what}")),
            "{told}"
        );
    }
    let twice = format!("{}{}", http(""), http(""));
    says(
        &twice,
        "t.toml:9: tool[2].name: is the name of tool 1, too; give each a name of its own",
    );
    assert_eq!(BUILTIN_TOOLS, Builtin::ALL.map(Builtin::name));
}

#[test]
fn a_get_takes_no_arguments() {
    good(&http("method = 'GET'"));
    good(&http(
        "method = 'GET'\nparameters = { type = 'object', properties = {}, description = 'none' }",
    ));
    says(
        &http("parameters = { type = 'object', properties.n.type = 'string' }\nmethod = 'GET'"),
        "t.toml:8: tool[1].method: is GET, and the tool has parameters: arguments never stand in a \
         URL; write method = \"POST\"",
    );
    for parameters in ["required = ['n']", "minProperties = 1"] {
        let told = said(&http(&format!(
            "parameters = {{ type = 'object', {parameters} }}\nmethod = 'GET'"
        )));
        assert!(
            told.contains("is GET, and the tool has parameters"),
            "{told}"
        );
    }
    assert!(said(&http("method = 'DELETE'")).contains("is none of the words"));
}

#[test]
fn a_url_has_no_secret_and_nothing_is_put_into_it() {
    for (url, what) in [
        (
            "http://crm.example.com",
            "is http:// to a host that is not this machine; ",
        ),
        (
            "https://u:PLANTED@h.example.com",
            "has a user or a password in it; ",
        ),
        (
            "https://h.example.com/?api_key=PLANTED",
            "has a secret in its query; ",
        ),
        (
            "https://h.example.com/?a=b&token=PLANTED",
            "has a secret in its query; ",
        ),
        (
            "https://h.example.com/?CODE=PLANTED",
            "has a secret in its query; ",
        ),
        (
            "https://h.example.com/?se=1&sig=PLANTED",
            "has a secret in its query; ",
        ),
        (
            "https://h.example.com/?auth=PLANTED",
            "has a secret in its query; ",
        ),
        (
            "https://h.example.com/?signature=PLANTED",
            "has a secret in its query; ",
        ),
        ("https://h.example.com/{from}", "has { or } in it; "),
        ("https://h.example.com/#x", "has a fragment; "),
    ] {
        let told = said(&http("").replace("https://crm.example.com/find?v=2", url));
        assert!(
            told.starts_with(&format!("t.toml:6: tool[1].url: {what}")),
            "{told}"
        );
    }
    one(&http("").replace("https://crm.example.com", "http://127.0.0.1:8080"));
}

#[test]
fn headers_hold_secrets_by_name_only() {
    let tool = one(&http(
        "headers = { Authorization = 'Bearer {credential:crm-key}', X-Api-Key = '{credential:b}', \
         X-Department = 'sales' }\nsign_with = 'c1'",
    ));
    let ToolKind::Http(service) = tool.kind else {
        panic!();
    };
    let named = [("b", "2"), ("crm-key", "1")].map(|(k, v)| (k.to_owned(), Secret::new(v)));
    let value = |name: &str| service.headers[name].filled(&named.clone().into()).unwrap();
    assert_eq!(value("Authorization").expose(), "Bearer 1");
    assert_eq!(value("X-Api-Key").expose(), "2");
    assert_eq!(value("X-Department").expose(), "sales");
    assert_eq!(service.sign_with.as_deref(), Some("c1"));

    for (header, what) in [
        (
            "Authorization = 'Bearer PLANTED'",
            "Authorization: looks like a secret, and secrets never stand in this file; write {credential:NAME} in its place, and put it into a credentials file",
        ),
        (
            "authorization = 'PLANTED'",
            "authorization: looks like a secret",
        ),
        ("X-Api-Key = 'PLANTED'", "X-Api-Key: looks like a secret"),
        (
            "Ocp-Apim-Subscription-Key = 'PLANTED'",
            "Ocp-Apim-Subscription-Key: looks like a secret",
        ),
        ("Cookie = 'id=PLANTED'", "Cookie: looks like a secret"),
        (
            "X-Whatever = 'bearer PLANTED'",
            "X-Whatever: looks like a secret",
        ),
        ("Host = 'x'", "Host: is a header that the bridge decides; "),
        (
            "content-LENGTH = '3'",
            "content-LENGTH: is a header that the bridge decides; ",
        ),
        (
            "X-Hume-Bridge-Signature = 'x'",
            "X-Hume-Bridge-Signature: is one of the bridge's own headers; ",
        ),
        ("'X Y' = 'x'", "X Y: is not the name of a header; "),
        (
            "X-A = ''",
            "X-A: is empty or has more than 4096 characters; ",
        ),
        ("X-A = \"a\\r\\nX-B: PLANTED\"", "X-A: has a line break, "),
        (
            "X-A = 'ä'",
            "X-A: has a line break, a space at an end or a character that is not ASCII; ",
        ),
        (
            "X-A = '{from}'",
            "X-A: has { or } in it, and only {credential:NAME} stands for something; ",
        ),
        ("X-A = '{credential:x'", "X-A: has { or } in it, "),
        (
            "X-A = '{credential:CRM_KEY}'",
            "X-A: does not name a credential; write small letters",
        ),
        ("X-A = '{credential:}'", "X-A: does not name a credential; "),
        (
            "X-A = '{credential:hume-api-key}'",
            "X-A: names a credential of the bridge itself, which nobody else gets; ",
        ),
        (
            "X-A = '{credential:twilio-au-auth-token}'",
            "X-A: names a credential of the bridge itself",
        ),
        ("X-A = 3", "X-A: is a number, not a string; "),
    ] {
        let told = said(&http(&format!("headers = {{ {header} }}")));
        let line = format!("t.toml:7: tool[1].headers.{what}");
        assert!(told.starts_with(&line), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    // All of them at once, each with its line.
    says(
        &http("[tool.headers]\nX-A = '1'\nx-a = '2'\nTE = 'x'"),
        "t.toml:9: tool[1].headers.x-a: stands there twice; remove one of them\n\
         t.toml:10: tool[1].headers.TE: is a header that the bridge decides; remove it; \
         lengths, the connection and the key of a repetition are the bridge's affair",
    );
    assert!(said(&http("headers = 'X-A: 1'")).contains("tool[1].headers: is not a table; "));
    assert!(said(&http("sign_with = 'PLANTED'")).contains("sign_with: does not name a credential"));
    assert!(said("[lookup]\nurl = 'https://x.example.com'\nheaders = { authorization = 'Bearer PLANTED' }")
        .starts_with("t.toml:4: lookup.headers.authorization: looks like a secret"));
}

#[test]
fn a_command_is_a_program_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
    let plain = plain.display().to_string();
    let command = |value: &str| exec("").replace("['/usr/bin/env', '-i']", value);
    for (value, what) in [
        (
            "'/usr/bin/env -i'".to_owned(),
            "is a string, not a list: there is no shell; ",
        ),
        ("[]".to_owned(), "is empty, or has more than 64 entries; "),
        ("['env']".to_owned(), "entry 1 is not a full path; "),
        (
            "['/usr/lib/../bin/env']".to_owned(),
            "entry 1 has .. in its path; ",
        ),
        ("['/no/such/program']".to_owned(), "entry 1 cannot be run: "),
        ("['/usr']".to_owned(), "entry 1 is not a file; "),
        (
            format!("['{plain}']"),
            "entry 1 is not executable; chmod +x it; ",
        ),
        (
            "['/usr/bin/env', 3]".to_owned(),
            "entry 2 is a number, not a string; ",
        ),
        (
            "['/usr/bin/env', '--api-key=PLANTED']".to_owned(),
            "entry 2 looks like a secret",
        ),
        (
            "['/usr/bin/env', 'TOKEN=PLANTED']".to_owned(),
            "entry 2 looks like a secret",
        ),
        (
            "['/usr/bin/env', '--password', 'PLANTED']".to_owned(),
            "entry 3 looks like a secret",
        ),
        (
            "['/usr/bin/env', '-H', 'Authorization: Bearer PLANTED']".to_owned(),
            "entry 3 looks like a secret",
        ),
        (
            "['/usr/bin/env', '--header=Authorization: PLANTED']".to_owned(),
            "entry 2 looks like a secret",
        ),
        (
            "['/usr/bin/env', 'X-Api-Key:PLANTED']".to_owned(),
            "entry 2 looks like a secret",
        ),
        (
            "['/usr/bin/env', 'https://name:PLANTED@h.example.com/x']".to_owned(),
            "entry 2 looks like a secret",
        ),
        (
            "['/usr/bin/env', '--proxy=http://name:PLANTED@h']".to_owned(),
            "entry 2 looks like a secret",
        ),
        (
            "['/usr/bin/env', '-u', 'name:PLANTED']".to_owned(),
            "entry 3 looks like a secret",
        ),
        (
            "['/usr/bin/env', '--user', 'name:PLANTED']".to_owned(),
            "entry 3 looks like a secret",
        ),
        (
            "['/usr/bin/env', '--user=name:PLANTED']".to_owned(),
            "entry 2 looks like a secret",
        ),
        (
            "['/usr/bin/env', 'basic PLANTED']".to_owned(),
            "entry 2 looks like a secret",
        ),
        (
            "['/usr/bin/env', \"\\u0000\"]".to_owned(),
            "entry 2 is longer than 4096 bytes, or has a NUL",
        ),
    ] {
        let told = said(&command(&value));
        let line = format!("t.toml:6: tool[1].command: {what}");
        assert!(told.starts_with(&line), "{told}");
    }
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o755)).unwrap();
    for good in [
        "'a=b', '--token'",
        "'--token', '--verbose'",
        "'--password-file', '/etc/x', '-p', '8080', 'token', 'x'",
        "'-u', 'name', '--user=name', '-u', '1000:1000', 'https://name@h.example.com:8443/a:b@c', 'redis://h:6379'",
        "'--password-file=/etc/x', 'Authorization:', 'Name: Bear', 'Ask for the password: twice.'",
    ] {
        one(&command(&format!("['{plain}', {good}]")));
    }
}

#[test]
fn times_sizes_and_words_of_a_tool_have_bounds() {
    for (key, what) in [
        (
            "timeout = '31s'",
            "31s is out of range; write from \"100ms\" to \"30s\"",
        ),
        ("max_output = 16", "is a number without a unit; "),
        (
            "max_output = '16KB'",
            "is not a size; write a whole number and a unit, as in \"512B\" or \"64KiB\"",
        ),
        (
            "max_output = '1MiB'",
            "1MiB is out of range; write from \"1KiB\" to \"256KiB\"",
        ),
        ("max_concurrent = 0", "0 is out of range; "),
        ("fallback = \"\\u0007\"", "has a control character in it; "),
        ("description = ' '", ""),
    ] {
        let told = match key.starts_with("description") {
            true => said(&http("").replace("description = 'Finds.'", key)),
            false => said(&http(key)),
        };
        let (name, _) = key.split_once(' ').unwrap();
        assert!(told.contains(&format!("tool[1].{name}: {what}")), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    one(&http("filler = 'One moment.'\ntimeout = '2s'"));
    let told = said(&http("filler = 'One moment.'\ntimeout = '1500ms'"));
    assert!(
        told.contains("tool[1].filler: is never said: filler_after is not below timeout; "),
        "{told}"
    );
}

#[test]
fn a_list_of_tools_names_what_there_is() {
    let all = "[transfer]\nnumbers = ['+15557654324']\n[sms]\nto_caller = true\n[calls]\n\
               record = '/var/lib/hume-bridge/calls.jsonl'\n";
    let names = "'hang_up', 'transfer_call', 'send_digits', 'send_sms', 'get_call_info', \
                 'leave_note', 'find'";
    for place in ["[agent]", "[[route]]"] {
        let config = good(&format!("{all}{}{place}\ntools = [{names}]", http("")));
        let tools = match place {
            "[agent]" => config.agent.tools,
            _ => config.routes[0].tools.clone(),
        };
        assert_eq!(tools.unwrap().len(), 7);
        let key = match place {
            "[agent]" => "agent.tools",
            _ => "route[1].tools",
        };
        for (list, what) in [
            (
                "'hangup'",
                "entry 1 is \"hangup\", and there is no such tool; did you mean \"hang_up\"?",
            ),
            (
                "'hang_up', 'fnid'",
                "entry 2 is \"fnid\", and there is no such tool; did you mean \"find\"?",
            ),
            (
                "'xyzzy'",
                "entry 1 is \"xyzzy\", and there is no such tool; write a [[tool]] of that name; there are find, hang_up, ",
            ),
            ("'PLANTED'", "entry 1 names no tool; "),
            ("'find', 'find'", "entry 2 is entry 1 again; "),
            (
                "'transfer_call'",
                "entry 1 is transfer_call, which has nothing to work with; write numbers = [\"+...\"] in [transfer], or remove it here",
            ),
            (
                "'send_sms'",
                "entry 1 is send_sms, which has nothing to work with; write to_caller = true or numbers",
            ),
            (
                "'leave_note'",
                "entry 1 is leave_note, which has nothing to work with; write record = \"/var/lib/hume-bridge/",
            ),
        ] {
            let told = said(&format!("{}{place}\ntools = [{list}]", http("")));
            assert!(
                told.starts_with(&format!("t.toml:9: {key}: {what}")),
                "{told}"
            );
        }
        assert_eq!(good(&format!("{place}\ntools = []")).tools.len(), 0);
    }
    assert_eq!(good("").agent.tools, None);
    // What has been complained of is not called missing besides.
    for text in [
        http("timeout = 3") + "[agent]\ntools = ['find']",
        "[[tool]]\nname = 'hang_up'\ndescription = 'x'\nkind = 'http'\nurl = 'https://x.example.com'\n\
         [agent]\ntools = ['other']"
            .to_owned(),
        "[transfer]\nnumbers = ['61']\n[agent]\ntools = ['transfer_call']".to_owned(),
        "[sms]\nto_caller = 'yes'\n[agent]\ntools = ['send_sms']".to_owned(),
        "[calls]\nrecord = 'calls'\n[agent]\ntools = ['leave_note']".to_owned(),
    ] {
        let told = said(&text);
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}
