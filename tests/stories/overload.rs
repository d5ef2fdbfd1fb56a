//! More than there is room for, and peers that neither take nor leave: what is lost is counted, what
//! lives goes on, and it mends by itself.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::Duration,
};

use hume_bridge::{
    audio::g711,
    sim::{
        self,
        bridge::{ACCOUNT_SID, AUTH_TOKEN, Bridge, Far, HUME_KEY, PUBLIC_URL, Setup},
        ear,
        evi::{self, Evi, What},
        phone::{Awaited, Ended, Event, OngoingCall, Phone, Step, Switchboard},
        rest::Rest,
        scenario::{Story, World, agent_clips},
        speech,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream, tcp},
    sync::watch,
    task::JoinSet,
};
use tokio_tungstenite::{client_async, tungstenite::Error as WsError};

use crate::{
    PROGRAM,
    stage::{
        PACE, causes, close, exchange, heard, in_time, say, start, status, until, wait_for, world,
    },
};

/// What is held up: this connection, in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    /// What its caller sends.
    Up(usize),
    /// What it is sent.
    Down(usize),
    /// Everything: the peer has vanished without a word.
    Both(usize),
}

/// A piece of network between two programs. Little fits in it.
struct Network {
    address: SocketAddr,
    held: watch::Sender<Held>,
    _task: JoinSet<()>,
}

impl Network {
    async fn to(target: SocketAddr) -> Network {
        let socket = TcpSocket::new_v4().unwrap();
        // The connections inherit it.
        socket.set_recv_buffer_size(8 * 1024).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let (held, watched) = watch::channel(Held::Nothing);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut pumps = JoinSet::new();
            for number in 0.. {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(target).await.unwrap();
                let ((near_read, near_write), (far_read, far_write)) =
                    (near.into_split(), far.into_split());
                let up = [Held::Up(number), Held::Both(number)];
                pumps.spawn(pump(near_read, far_write, up, watched.clone()));
                let down = [Held::Down(number), Held::Both(number)];
                pumps.spawn(pump(far_read, near_write, down, watched.clone()));
            }
        });
        Network {
            address,
            held,
            _task: task,
        }
    }

    fn hold(&self, held: Held) {
        self.held.send_replace(held);
    }
}

async fn pump(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    stops: [Held; 2],
    mut held: watch::Receiver<Held>,
) {
    let mut bytes = [0; 4096];
    while held.wait_for(|held| !stops.contains(held)).await.is_ok() {
        tokio::select! {
            biased;
            changed = held.changed() => if changed.is_err() { return },
            read = from.read(&mut bytes) => match read {
                Ok(length) if length > 0 => if to.write_all(&bytes[..length]).await.is_err() { return },
                _ => return,
            },
        }
    }
}

/// A world whose agent is reached through a network.
async fn behind_a_network() -> (World, Network) {
    let story = Story::parse("title = \"told in Rust\"\n[agent]\n[expect]\n").unwrap();
    let options = evi::Options {
        api_key: HUME_KEY.to_owned(),
        clips: agent_clips,
        pace: PACE,
        ..evi::Options::default()
    };
    let evi = Evi::start(story.agent.clone(), options).await.unwrap();
    let network = Network::to(evi.addr).await;
    let switchboard = Switchboard::new();
    let rest = Rest::start(
        switchboard.clone(),
        ACCOUNT_SID,
        AUTH_TOKEN,
        story.rest.clone(),
    )
    .await
    .unwrap();
    let at_agent = evi.addr.to_string();
    let bridge = Bridge::start(Setup {
        program: Path::new(PROGRAM),
        agent: Far::Hume(&evi.url().replace(&at_agent, &network.address.to_string())),
        rest_url: &rest.url(),
        config: "",
        passed: None,
    })
    .await
    .unwrap();
    let mut phone = Phone {
        pace: PACE,
        switchboard,
        ..Phone::new(PUBLIC_URL, bridge.http, ACCOUNT_SID, AUTH_TOKEN)
    };
    phone.options.linger = Duration::from_secs(600);
    let world = World {
        bridge,
        agent: evi,
        rest,
        phone,
        beside: Default::default(),
    };
    (world, network)
}

/// The sum of the series of this name, with or without these labels.
async fn counted(world: &World, series: &str) -> u64 {
    let metrics = sim::get(world.bridge.ops, "/metrics").await.unwrap();
    let mut rows = metrics.lines();
    let value = rows.find_map(|row| row.strip_prefix(series)?.strip_prefix(' '));
    let value: f64 = value
        .unwrap_or_else(|| panic!("no {series}"))
        .parse()
        .unwrap();
    value as u64
}

/// Whether the agent heard a clip to its last word.
fn reached(world: &World, connection: u32, name: &str) -> bool {
    let mut mulaw = Vec::new();
    g711::encode_into(&world.agent.record().uplinks[&connection].audio, &mut mulaw);
    let clip = speech::clip(name).expect("a clip");
    ear::find(&mulaw, clip).is_some_and(|found| found.is_whole())
}

async fn listened(world: &World, connection: u32) {
    let up = |record: &evi::Record| {
        let uplink = record.uplinks.get(&connection);
        uplink.is_some_and(|uplink| uplink.audio_frames > 0)
    };
    in_time(world.agent.until(up)).await;
}

/// The words after so many of these have been heard to their end.
async fn utterance_ended(world: &World, connection: u32) {
    let ended = |record: &evi::Record| {
        let mut events = record.events.iter();
        events.any(|event| {
            event.connection == connection && matches!(event.what, What::SpeechEnded { .. })
        })
    };
    in_time(world.agent.until(ended)).await;
}

const DROPPED: &str = "hume_bridge_caller_frames_dropped_total{reason=\"agent-slow\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_stops_reading_hears_the_present_afterwards_and_every_frame_is_accounted_for()
{
    let (world, network) = behind_a_network().await;
    let slow = start(&world.phone, vec![]);
    listened(&world, 0).await;
    let neighbour = start(&world.phone, vec![]);
    listened(&world, 1).await;
    network.hold(Held::Up(0));
    slow.say("caller-hours").await;
    neighbour.say("caller-hours").await;
    in_time(async { while counted(&world, DROPPED).await < 50 {} }).await;
    let agent_side = |name: &str| format!("hume_bridge_{name}{{side=\"agent\"}}");
    assert_eq!(counted(&world, &agent_side("queues_waiting")).await, 1);
    let queued = counted(&world, &agent_side("queued_bytes")).await;
    // Two seconds, at twice the pace.
    assert!((1000..200_000).contains(&queued), "{queued}");
    // Next door nothing is noticed.
    utterance_ended(&world, 1).await;

    network.hold(Held::Nothing);
    slow.then(vec![
        say("caller-thanks"),
        Step::Wait(Duration::from_secs(1)),
        Step::HangUp,
    ])
    .await;
    assert_eq!(in_time(slow.finish()).await.ended, Ended::CallerHungUp);
    neighbour.hang_up().await;
    in_time(neighbour.finish()).await;
    in_time(async { while status(&world).await["activeSessions"] != 0 {} }).await;
    assert!(reached(&world, 0, "caller-thanks"));
    assert!(reached(&world, 1, "caller-hours"));
    let dropped = counted(&world, DROPPED).await;
    let sent = counted(&world, "hume_bridge_caller_frames_total").await
        + counted(&world, "hume_bridge_caller_silence_filled_bytes_total").await / 160;
    let heard: u64 = world
        .agent
        .record()
        .uplinks
        .values()
        .map(|up| up.audio_frames)
        .sum();
    assert_eq!(sent, heard + dropped);
    assert_eq!(counted(&world, &agent_side("queued_bytes")).await, 0);
    assert_eq!(counted(&world, &agent_side("stalls_total")).await, 0);
    let log = close(world).await;
    let ended: Vec<_> = log
        .iter()
        .filter(|line| line.contains("session ended"))
        .collect();
    assert!(
        ended[0].contains(&format!("frames_dropped={dropped} ")),
        "{}",
        ended[0]
    );
    assert!(ended[1].contains("frames_dropped=0 "), "{}", ended[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_slow_telephone_has_not_been_sent_is_taken_back_when_the_caller_interrupts() {
    let hours = "{ say = \"agent-hours\", rate = 8000 },".repeat(60);
    let world = world(&format!(
        "[agent]\n[[agent.replies]]\nsteps = [{hours} {{ end = true }}]\n\
         [[agent.replies]]\nsteps = [{{ say = \"agent-goodbye\" }}, {{ end = true }}]\n"
    ))
    .await;
    let network = Network::to(world.bridge.http).await;
    let mut phone = world.phone.clone();
    phone.dial = network.address;
    phone.options.linger = Duration::from_secs(600);
    let call = start(&phone, vec![]);
    listened(&world, 0).await;
    // The first connection was the webhook's.
    network.hold(Held::Down(1));
    call.say("caller-hours").await;
    let queued = "hume_bridge_queued_bytes{side=\"twilio\"}";
    in_time(async { while counted(&world, queued).await == 0 {} }).await;
    call.say("caller-interrupt").await;
    let interruptions = "hume_bridge_barge_ins_total";
    in_time(async { while counted(&world, interruptions).await == 0 {} }).await;
    let lost = |why| format!("hume_bridge_agent_audio_dropped_bytes_total{{reason=\"{why}\"}}");
    in_time(async { while counted(&world, &lost("late")).await == 0 {} }).await;

    network.hold(Held::Nothing);
    until(&call, |event| matches!(event, Event::ClearReceived { .. })).await;
    call.then(vec![
        wait_for(Awaited::AgentSpeaking),
        wait_for(Awaited::AgentQuiet),
        Step::HangUp,
    ])
    .await;
    let report = in_time(call.finish()).await;
    assert!(heard(&report, "agent-goodbye"));
    in_time(async { while status(&world).await["activeSessions"] != 0 {} }).await;
    let media = |event: &Event| match event {
        Event::AudioReceived { bytes, .. } => *bytes as u64,
        _ => 0,
    };
    let came: u64 = report.entries.iter().map(|entry| media(&entry.event)).sum();
    let sent = counted(&world, "hume_bridge_agent_audio_bytes_total").await;
    assert_eq!(sent, came, "what was sent has come, and no more");
    assert_eq!(counted(&world, queued).await, 0);
    assert_eq!(causes(&close(world).await), ["caller-hung-up"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_telephone_that_has_vanished_without_a_word_is_missed() {
    let world = world("[agent]\ngreeting = [{ say = \"agent-more\" }, { end = true }]").await;
    let network = Network::to(world.bridge.http).await;
    let mut phone = world.phone.clone();
    phone.dial = network.address;
    phone.options.linger = Duration::from_secs(600);
    let call = start(&phone, vec![]);
    until(&call, |event| matches!(event, Event::PlayingBegan)).await;
    // The first connection was the webhook's.
    network.hold(Held::Both(1));
    // Fifteen seconds of silence and ten for the answer to a ping are nearly as long as a line is
    // waited for.
    let ended = match world.bridge.until_logged("session ended").await {
        Ok(line) => line,
        Err(_) => world.bridge.until_logged("session ended").await.unwrap(),
    };
    assert!(ended.contains("cause=\"carrier-lost\""), "{ended}");
    in_time(async { while status(&world).await["activeSessions"] != 0 {} }).await;
    drop(network);
    drop(call);
    close(world).await;
}

/// Lets the daemon open so many files beyond those that it has, or as many as before.
fn let_open(world: &World, more: Option<usize>, before: &str) {
    let pid = world.bridge.pid();
    let soft = match more {
        None => before.to_owned(),
        Some(more) => {
            let open: BTreeSet<usize> = fs::read_dir(format!("/proc/{pid}/fd"))
                .unwrap()
                .filter_map(|fd| fd.unwrap().file_name().to_str()?.parse().ok())
                .collect();
            // The number of a file is below the limit, and the lowest that is free.
            let free = (0..).filter(|fd| !open.contains(fd)).nth(more).unwrap();
            free.to_string()
        }
    };
    let limited = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--nofile={soft}:")])
        .status()
        .expect("prlimit of util-linux");
    assert!(limited.success());
}

/// The daemon's limit of open files.
fn limit(world: &World) -> String {
    let limits = fs::read_to_string(format!("/proc/{}/limits", world.bridge.pid())).unwrap();
    let mut lines = limits.lines();
    let open = lines.find_map(|line| line.strip_prefix("Max open files"));
    let soft = open.unwrap().split_whitespace().next().unwrap();
    soft.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_too_low_for_all_the_calls_is_told_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("limited");
    let script = format!("#!/bin/sh\nulimit -n 300\nexec '{PROGRAM}' \"$@\"\n");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let start = |config| {
        Bridge::start(Setup {
            program: &program,
            agent: Far::Hume("ws://127.0.0.1:9/"),
            rest_url: "http://127.0.0.1:9",
            config,
            passed: None,
        })
    };
    let mut enough = start("calls.max_concurrent = 100").await.unwrap();
    let mut short = start("").await.unwrap();
    for bridge in [&mut enough, &mut short] {
        assert!(bridge.stop().await.unwrap().success());
    }
    let words = "too few files may be open for calls.max_concurrent";
    let told = |bridge: &Bridge| bridge.log().into_iter().find(|line| line.contains(words));
    assert_eq!(told(&enough), None);
    let told = told(&short).expect("a warning");
    assert!(
        told.contains(" limit=300 needed=1064") && told.contains("LimitNOFILE="),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_files_left_calls_go_on_and_new_ones_wait_until_there_are_some() {
    let world =
        world("[agent]\n[[agent.replies]]\nsteps = [{ say = \"agent-hours\" }, { end = true }]")
            .await;
    let before = limit(&world);
    let mut phone = world.phone.clone();
    phone.options.linger = Duration::from_secs(600);
    let call = start(&phone, vec![]);
    listened(&world, 0).await;
    let_open(&world, Some(4), &before);
    let mut idle = Vec::new();
    for _ in 0..12 {
        idle.push(TcpStream::connect(world.bridge.http).await.unwrap());
    }
    let told = world.bridge.until_logged("cannot accept connections").await;
    let told = told.unwrap();
    assert!(
        told.contains("listener=\"http\"") && told.contains("LimitNOFILE="),
        "{told}"
    );
    // Somebody calls, and waits with the kernel.
    let late = start(
        &world.phone,
        vec![Step::Wait(Duration::from_secs(1)), Step::HangUp],
    );
    call.then(vec![
        say("caller-hours"),
        wait_for(Awaited::AgentSpeaking),
        wait_for(Awaited::AgentQuiet),
        Step::HangUp,
    ])
    .await;
    utterance_ended(&world, 0).await;
    until(&call, |event| matches!(event, Event::PlayingBegan)).await;

    drop(idle);
    let_open(&world, None, &before);
    let again = world.bridge.until_logged("connections are accepted again");
    again.await.unwrap();
    assert_eq!(in_time(late.finish()).await.ended, Ended::CallerHungUp);
    let report = in_time(call.finish()).await;
    assert_eq!(report.ended, Ended::CallerHungUp);
    assert!(heard(&report, "agent-hours") && reached(&world, 0, "caller-hours"));
    let failures = "hume_bridge_accept_failures_total{listener=\"http\"}";
    assert!(counted(&world, failures).await > 0);
    assert_eq!(counted(&world, "process_max_fds").await.to_string(), before);
    assert_eq!(
        causes(&close(world).await),
        ["caller-hung-up", "caller-hung-up"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_cannot_be_dialled_for_want_of_files_is_not_blamed() {
    let world = world("").await;
    let before = limit(&world);
    // For the webhook, and then for the media socket.
    let_open(&world, Some(1), &before);
    let call = start(&world.phone, vec![wait_for(Awaited::StreamOver)]);
    let told = world.bridge.until_logged("no connection to the agent");
    let told = told.await.unwrap();
    assert!(told.contains("raise LimitNOFILE="), "{told}");
    // The agent is called again, and there it is.
    let_open(&world, None, &before);
    let connected = world.bridge.until_logged("connected to agent");
    connected.await.unwrap();
    call.hang_up().await;
    in_time(call.finish()).await;
    close(world).await;
}

/// Twilio's word about a call.
async fn tells(world: &World, path: &str, call: &OngoingCall, rest: &str) {
    let form = format!(
        "CallSid={}&AccountSid={ACCOUNT_SID}&{rest}",
        call.call_sid()
    );
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let answer = exchange(world.bridge.http, request.as_bytes()).await;
    assert_eq!(answer.expect("an answer").status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_media_socket_that_outlasts_its_call_is_closed() {
    let mut world = world(
        "config = '''\ntwilio.validate_signatures = false\n\
         calls.fallback = { hangup = true }\n'''\n",
    )
    .await;
    world.phone.options.linger = Duration::from_secs(600);
    let cases = [
        ("/voice/status", "CallStatus=completed", "caller-hung-up"),
        ("/voice/status", "CallStatus=failed", "caller-hung-up"),
        ("/voice/after", "CallStatus=completed", "caller-hung-up"),
        ("/voice/after", "CallStatus=in-progress", "carrier-lost"),
        (
            "/voice/stream",
            "StreamEvent=stream-stopped",
            "carrier-lost",
        ),
    ];
    for (connection, (path, words, _)) in (0..).zip(cases) {
        let call = start(&world.phone, vec![]);
        let started = until(&call, |event| matches!(event, Event::StreamStarted { .. })).await;
        listened(&world, connection).await;
        let Event::StreamStarted { stream_sid, .. } = &started.event else {
            panic!("{started:?}");
        };
        // Of no consequence: progress, and the end of another stream.
        tells(&world, "/voice/status", &call, "CallStatus=in-progress").await;
        let other = "StreamEvent=stream-stopped&StreamSid=MZ00000000000000000000000000000000";
        tells(&world, "/voice/stream", &call, other).await;
        tells(
            &world,
            path,
            &call,
            &format!("{words}&StreamSid={stream_sid}"),
        )
        .await;
        let closed = |event: &Event| {
            matches!(
                event,
                Event::SocketClosed {
                    by: sim::phone::Party::Bridge,
                    code: Some(1000),
                    ..
                }
            )
        };
        until(&call, closed).await;
        in_time(call.finish()).await;
    }
    let lingered = "hume_bridge_media_sockets_lingered_total";
    assert_eq!(counted(&world, lingered).await, cases.len() as u64);
    let log = close(world).await;
    assert_eq!(causes(&log), cases.map(|(_, _, cause)| cause));
    let told = log
        .iter()
        .filter(|line| line.contains("that its call is over"));
    assert_eq!(told.count(), cases.len(), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_without_a_call_are_so_many_and_no_more() {
    const MOST: usize = 256;
    let world = world("config = 'twilio.validate_signatures = false'").await;
    let mut nobodys = Vec::new();
    let refused = loop {
        let tcp = TcpStream::connect(world.bridge.http).await.unwrap();
        match client_async("ws://bridge.example.com/media-stream", tcp).await {
            Ok((socket, _)) => nobodys.push(socket),
            Err(WsError::Http(answer)) => break answer.status().as_u16(),
            Err(error) => panic!("{error}"),
        }
        assert!(nobodys.len() < 20 * MOST, "there is no end to them");
    };
    assert_eq!(refused, 503);
    assert!(nobodys.len() >= MOST, "{}", nobodys.len());
    let full = "hume_bridge_media_sockets_refused_total{reason=\"too-many\"}";
    assert_eq!(counted(&world, full).await, 1);
    // When they have gone there is room for a call.
    drop(nobodys);
    let gone = "hume_bridge_media_sockets_refused_total{reason=\"gone\"}";
    in_time(async { while counted(&world, gone).await < MOST as u64 {} }).await;
    let call = start(
        &world.phone,
        vec![Step::Wait(Duration::from_secs(1)), Step::HangUp],
    );
    assert_eq!(in_time(call.finish()).await.ended, Ended::CallerHungUp);
    assert_eq!(causes(&close(world).await), ["caller-hung-up"]);
}
