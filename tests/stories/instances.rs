//! Several instances behind a load balancer, as docs/instances.md says: its own snippets are run.

use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use hume_bridge::sim::{
    bridge::{Bridge, Far, Setup},
    phone::{Awaited, Document, Ended, Event, Phone},
    scenario::World,
};
use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};

use crate::{
    PROGRAM,
    stage::{
        PATIENCE, causes, close, exchange, heard, in_time, say, start, until, wait_for, world,
    },
};

const PAGE: &str = include_str!("../../docs/instances.md");

const TALK: &str = r#"
    [agent]
    greeting = [{ say = "agent-greeting" }, { end = true }]
    [[agent.replies]]
    steps = [{ tool = { name = "hang_up" } }, { say = "agent-goodbye" }, { end = true }]
"#;

/// The page's block in this language, with real addresses and without certificates.
fn snippet(language: &str, listen: SocketAddr, servers: [SocketAddr; 2]) -> String {
    let (_, rest) = PAGE
        .split_once(&format!("```{language}\n"))
        .expect("the block");
    let (block, _) = rest.split_once("```").expect("its end");
    let replaced = [
        ("listen 443 ssl;", format!("listen {listen};")),
        (
            "bind :443 ssl crt /etc/haproxy/certs/bridge.example.com.pem",
            format!("bind {listen}"),
        ),
        ("10.0.0.1:3000", servers[0].to_string()),
        ("10.0.0.2:3000", servers[1].to_string()),
    ];
    let block: String = block
        .lines()
        .filter(|line| !line.contains("ssl_certificate"))
        .map(|line| format!("{line}\n"))
        .collect();
    replaced
        .iter()
        .fold(block, |block, (old, new)| block.replace(old, new))
}

/// A balancer by its program, or `None`, said aloud, where it is not installed.
async fn balancer(
    program: &str,
    servers: [SocketAddr; 2],
    dir: &Path,
) -> Option<(Child, SocketAddr)> {
    let found = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"]
        .map(|place| Path::new(place).join(program))
        .into_iter()
        .find(|path| path.exists());
    let Some(found) = found else {
        eprintln!("SKIPPED: {program} is not installed; its snippet was not run");
        return None;
    };
    // Nobody else takes it in between: the kernel hands out other ports first.
    let listen = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let block = snippet(program, listen, servers);
    let (config, arguments) = match program {
        "nginx" => (
            format!(
                "daemon off;\nmaster_process off;\npid {0}/pid;\nerror_log stderr;\nevents {{}}\n\
                 http {{\naccess_log off;\nclient_body_temp_path {0}/body;\nproxy_temp_path {0}/proxy;\n\
                 fastcgi_temp_path {0}/fastcgi;\nuwsgi_temp_path {0}/uwsgi;\nscgi_temp_path {0}/scgi;\n\
                 {block}}}\n",
                dir.display()
            ),
            ["-c", "-e", "stderr"].as_slice(),
        ),
        _ => (block, ["-db", "-f"].as_slice()),
    };
    let path = dir.join(program);
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(found);
    for argument in arguments {
        command.arg(argument);
        if matches!(*argument, "-c" | "-f") {
            command.arg(&path);
        }
    }
    let child = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    in_time(async {
        while TcpStream::connect(listen).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    Some((child, listen))
}

async fn second_instance(world: &World) -> Bridge {
    Bridge::start(Setup {
        program: Path::new(PROGRAM),
        agent: Far::Hume(&world.agent.url()),
        rest_url: &world.rest.url(),
        config: "",
        passed: None,
    })
    .await
    .expect("a second instance")
}

/// Calls to which this instance answered the webhook.
async fn admitted(bridge: &Bridge) -> usize {
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let metrics = exchange(bridge.ops, request).await.expect("metrics").body;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("hume_bridge_calls_admitted_total "));
    line.expect("the counter").parse().expect("a number")
}

async fn a_call_passes(program: &str) {
    let world = world(TALK).await;
    let mut other = second_instance(&world).await;
    let dir = tempfile::tempdir().unwrap();
    let servers = [world.bridge.http, other.http];
    let Some((_balancer, listen)) = balancer(program, servers, dir.path()).await else {
        return;
    };
    let phone = Phone {
        dial: listen,
        ..world.phone.clone()
    };
    let talk = || {
        vec![
            wait_for(Awaited::AgentSpeaking),
            wait_for(Awaited::AgentQuiet),
            say("caller-thanks"),
            wait_for(Awaited::StreamOver),
        ]
    };
    // The balancer takes turns: the webhook goes to one, the media socket to the other.
    let report = start(&phone, talk()).finish().await;
    assert_eq!(report.ended, Ended::RestCompleted, "{:#?}", report.entries);
    assert!(heard(&report, "agent-greeting") && heard(&report, "agent-goodbye"));
    assert_eq!(report.violations, []);
    for bridge in [&world.bridge, &other] {
        let carried = causes(&bridge.log()).len();
        assert_eq!(admitted(bridge).await + carried, 1, "one of the two");
    }

    // One instance leaves: whatever comes is taken by the one that stays.
    let live = start(&phone, talk());
    until(&live, |event| matches!(event, Event::PlayingBegan)).await;
    other.signal("TERM").await.unwrap();
    other.until_notified("STOPPING=1").await.unwrap();
    for _ in 0..3 {
        let report = start(&phone, talk()).finish().await;
        assert_eq!(report.ended, Ended::RestCompleted, "{:#?}", report.entries);
        let refused = |event: &Event| matches!(event, Event::Fetched { what: Document::Webhook, status, .. } if *status != 200);
        assert!(!report.entries.iter().any(|entry| refused(&entry.event)));
    }
    assert_eq!(live.finish().await.ended, Ended::RestCompleted);
    assert!(other.ended(PATIENCE).await.unwrap().success());
    close(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_nginx() {
    a_call_passes("nginx").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_haproxy() {
    a_call_passes("haproxy").await;
}
