//! The webhooks of transfers, asked by hand: signed as Twilio signs, about calls of other instances and of
//! this one.

use hume_bridge::sim::{
    bridge::{ACCOUNT_SID, AUTH_TOKEN, PUBLIC_URL},
    phone::{Awaited, Ended, Event, sid},
    scenario::World,
};
use ring::hmac;

use crate::stage::{
    Answer, causes, close, exchange, heard, in_time, say, start, status, until, wait_for, world,
};

const CALLEE: &str = "+61400000007";

/// `path` may have a query.
fn signature(path: &str, form: &[(&str, &str)]) -> String {
    let mut fields = form.to_vec();
    fields.sort();
    let mut data = format!("{PUBLIC_URL}{path}");
    for (name, value) in fields {
        data.push_str(name);
        data.push_str(value);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, AUTH_TOKEN.as_bytes());
    base64_simd::STANDARD.encode_to_string(hmac::sign(&key, data.as_bytes()))
}

async fn post(world: &World, path: &str, form: &[(&str, &str)], signature: &str) -> Answer {
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Twilio-Signature: {signature}\r\n\
         Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(world.bridge.http, request.as_bytes())
        .await
        .expect("an answer")
}

/// What Twilio is answered; the TwiML without its frame.
async fn ask(world: &World, path: &str, form: &[(&str, &str)]) -> String {
    let answer = post(world, path, form, &signature(path, form)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.head.contains("content-type: text/xml"), "{answer:?}");
    let (_, inside) = answer.body.split_once("<Response>").expect("TwiML");
    inside
        .strip_suffix("</Response>")
        .expect("TwiML")
        .to_owned()
}

/// What Twilio says of a callee's leg.
fn leg<'a>(
    child: &'a str,
    parent: &'a str,
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let base = [
        ("AccountSid", ACCOUNT_SID),
        ("CallSid", child),
        ("ParentCallSid", parent),
        ("Direction", "outbound-dial"),
        ("From", "+15551234567"),
        ("To", CALLEE),
    ];
    [&base, more].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_but_twilio_takes_or_ends_a_transfer() {
    let world = world("").await;
    let (call, child) = (sid("CA"), sid("CA"));
    let form = leg(
        &child,
        &call,
        &[("CallStatus", "in-progress"), ("Digits", "1")],
    );
    for path in ["transferred", "announce", "accept"] {
        let path = format!("/voice/{path}");
        let of_call = format!("{path}?call={call}");
        let of_another = format!("{path}?call={}", sid("CA"));
        let good = signature(&of_call, &form);
        // The query is signed with the rest: no key is pressed for another's call.
        for (asked, signature) in [
            (&of_call, "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            (&of_call, &signature(&path, &form)),
            (&of_another, &good),
            (&path, &good),
        ] {
            let answer = post(&world, asked, &form, signature).await;
            assert_eq!((answer.status, answer.body.as_str()), (403, ""), "{asked}");
        }
        assert_eq!(post(&world, &of_call, &form, &good).await.status, 200);
    }
    let metrics = hume_bridge::sim::get(world.bridge.ops, "/metrics")
        .await
        .unwrap();
    for endpoint in ["transferred", "announce", "accept"] {
        let counted =
            format!("hume_bridge_signature_failures_total{{endpoint=\"{endpoint}\"}} 4\n");
        assert!(metrics.contains(&counted), "{endpoint}");
    }
    close(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_of_another_instances_call_is_answered_as_well_as_can_be() {
    let world = world("config = 'calls.fallback = { say = \"Please call again.\" }'").await;
    let (call, child) = (sid("CA"), sid("CA"));
    let announce = format!("/voice/announce?call={call}");
    let accept = format!("/voice/accept?call={call}");
    let answered = leg(&child, &call, &[("CallStatus", "in-progress")]);
    let told = ask(&world, &announce, &answered).await;
    let gather = format!(
        "<Gather numDigits=\"1\" timeout=\"8\" action=\"{PUBLIC_URL}{accept}\" method=\"POST\">\
         <Say>A caller is on the line. Press 1 to take the call.</Say></Gather>"
    );
    assert_eq!(told, format!("{gather}{gather}<Hangup/>"));
    // Twilio's own word for whose leg it is will do, too; with neither there is nobody to connect.
    assert_eq!(ask(&world, "/voice/announce", &answered).await, told);
    let nobody = [("CallSid", child.as_str())];
    assert_eq!(ask(&world, "/voice/announce", &nobody).await, "<Hangup/>");

    for (keys, answer) in [("1", ""), ("2", "<Hangup/>"), ("", "<Hangup/>")] {
        let form = leg(&child, &call, &[("Digits", keys)]);
        assert_eq!(ask(&world, &accept, &form).await, answer, "{keys:?}");
    }

    let fallback = "<Say>Please call again.</Say><Hangup/>";
    for (status, bridged, call_status, answer) in [
        ("no-answer", "false", "in-progress", fallback),
        ("busy", "false", "in-progress", fallback),
        ("completed", "false", "in-progress", fallback),
        ("completed", "true", "in-progress", "<Hangup/>"),
        ("canceled", "false", "completed", ""),
    ] {
        let form = [
            ("CallSid", call.as_str()),
            ("CallStatus", call_status),
            ("DialBridged", bridged),
            ("DialCallSid", &child),
            ("DialCallStatus", status),
        ];
        let got = ask(&world, "/voice/transferred", &form).await;
        assert_eq!(got, answer, "{status} {bridged}");
    }
    let log = close(world).await;
    assert!(
        !log.iter().any(|line| line.contains("61400000007")),
        "{log:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_callees_call_is_not_the_end_of_the_callers() {
    let world = world(
        "[agent]\ngreeting = [{ say = \"agent-greeting\" }, { end = true }]\n\
         [[agent.replies]]\nsteps = [{ say = \"agent-hours\" }, { end = true }]\n\
         [[agent.replies]]\n\
         steps = [{ tool = { name = \"hang_up\" } }, { say = \"agent-goodbye\" }, { end = true }]",
    )
    .await;
    let call = start(
        &world.phone,
        vec![
            wait_for(Awaited::AgentSpeaking),
            wait_for(Awaited::AgentQuiet),
            say("caller-hours"),
            wait_for(Awaited::AgentSpeaking),
            wait_for(Awaited::AgentQuiet),
            say("caller-thanks"),
            wait_for(Awaited::StreamOver),
        ],
    );
    until(&call, |event| matches!(event, Event::PlayingBegan)).await;
    let status = status(&world).await;
    let parent = status["sessions"][0]["callSid"]
        .as_str()
        .expect("the call")
        .to_owned();
    let child = sid("CA");
    for progress in [
        "initiated",
        "ringing",
        "in-progress",
        "completed",
        "busy",
        "failed",
    ] {
        let form = leg(&child, &parent, &[("CallStatus", progress)]);
        assert_eq!(ask(&world, "/voice/status", &form).await, "", "{progress}");
    }
    let report = call.finish().await;
    assert_eq!(report.ended, Ended::RestCompleted, "{:#?}", report.entries);
    assert!(heard(&report, "agent-hours") && heard(&report, "agent-goodbye"));
    assert_eq!(causes(&close(world).await), ["agent-hung-up"]);
}

/// The keys have been sounded, and it is the way back that fails: Twilio asks what comes next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_have_been_sounded_are_not_sounded_again() {
    let world = world(
        "config = 'calls.fallback = { say = \"Please call again.\" }'\n\
         [agent]\n[[agent.replies]]\n\
         steps = [{ tool = { name = \"send_digits\", arguments = { digits = \"WWWWWWWWWWWWWWWWWWWW1\" } } }]",
    )
    .await;
    let call = start(
        &world.phone,
        vec![say("caller-hours"), wait_for(Awaited::StreamOver)],
    );
    until(&call, |event| matches!(event, Event::Redirected { .. })).await;
    let taken =
        "hume_bridge_rest_operations_total{operation=\"redirect\",outcome=\"redirected\"} 1";
    in_time(async {
        loop {
            let metrics = hume_bridge::sim::get(world.bridge.ops, "/metrics").await;
            if metrics.unwrap().contains(taken) {
                break;
            }
        }
    })
    .await;
    let sid = call.call_sid().to_owned();
    let form = [("CallSid", &*sid), ("CallStatus", "in-progress")];
    let next = ask(&world, "/voice/after", &form).await;
    assert_eq!(next, "<Say>Please call again.</Say><Hangup/>");
    call.hang_up().await;
    call.finish().await;
    let over = [("CallSid", &*sid), ("CallStatus", "completed")];
    ask(&world, "/voice/status", &over).await;
    close(world).await;
}
