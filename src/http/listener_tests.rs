//! The listener against real sockets, with peers that misbehave.

use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Instant,
};

use http_body_util::{Empty, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

struct Running {
    addr: SocketAddr,
    tracker: TaskTracker,
    token: CancellationToken,
}

async fn handler(mut request: Request<Incoming>, peer: Peer) -> Response<Body> {
    assert!(peer.addr.ip().is_loopback());
    match request.uri().path() {
        "/panic" => panic!("a handler's own fault"),
        "/forever" => std::future::pending().await,
        "/form" => match read_form_body(&mut request, 8, Duration::from_millis(200)).await {
            Ok(body) => respond(StatusCode::OK, "text/plain", body),
            Err(error) => error.response(),
        },
        "/upgrade" => {
            tokio::spawn(async move {
                let upgraded = hyper::upgrade::on(&mut request).await.unwrap();
                let mut io = TokioIo::new(upgraded);
                let mut byte = [0];
                while let Ok(1) = io.read(&mut byte).await {
                    io.write_all(&byte).await.unwrap();
                }
            });
            let mut response = Response::new(Body::default());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            for (name, value) in [("connection", "upgrade"), ("upgrade", "echo")] {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        _ => respond(StatusCode::OK, "text/plain", "here\n"),
    }
}

fn accepting() -> Accepting {
    Accepting::new(crate::metrics::labels::Door::Http, Arc::default())
}

#[test]
fn a_quarter_of_the_files_is_for_those_who_only_connect() {
    let within = |files| Limits::within(1000, files).connections;
    assert_eq!(within(None), 1000);
    assert_eq!(within(Some(65_536)), 1000);
    assert_eq!(within(Some(1024)), 256);
    assert_eq!(within(Some(0)), 1);
}

async fn start(limits: Limits) -> Running {
    start_with(None, limits).await
}

async fn start_with(tls: Option<Arc<ServerTls>>, limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
    tokio::spawn(serve(
        listener,
        tls,
        limits,
        accepting(),
        handler,
        tracker.clone(),
        token.clone(),
    ));
    Running {
        addr,
        tracker,
        token,
    }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Sends, and reads until the listener closes.
    async fn exchange(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is still an answer.
        let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer))
            .await
            .unwrap();
        String::from_utf8(answer).unwrap()
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(Duration::from_secs(5), stream.read_u8())
            .await
            .unwrap()
            .unwrap();
        head.push(byte);
    }
    String::from_utf8(head).unwrap()
}

const CLOSE: &str = "Host: x\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn an_answer_is_not_to_be_cached_and_carries_no_banner() {
    let running = start(Limits::default()).await;
    let answer = running
        .exchange(&format!("GET / HTTP/1.1\r\n{CLOSE}"))
        .await
        .to_lowercase();
    assert!(
        answer.starts_with("http/1.1 200 ok\r\n") && answer.ends_with("\r\n\r\nhere\n"),
        "{answer}"
    );
    assert!(
        answer.contains("cache-control: no-store\r\n") && !answer.contains("server:"),
        "{answer}"
    );
    let head = running
        .exchange(&format!("HEAD / HTTP/1.1\r\n{CLOSE}"))
        .await;
    assert!(
        head.contains("content-length: 5\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn a_panic_costs_its_own_connection_only() {
    let running = start(Limits {
        connections: 1,
        ..Limits::default()
    })
    .await;
    for _ in 0..3 {
        assert_eq!(
            running
                .exchange(&format!("GET /panic HTTP/1.1\r\n{CLOSE}"))
                .await,
            ""
        );
    }
    assert!(
        running
            .exchange(&format!("GET / HTTP/1.1\r\n{CLOSE}"))
            .await
            .contains("200 OK")
    );
}

#[tokio::test]
async fn heads_are_bounded_in_size_and_number() {
    let running = start(Limits::default()).await;
    let long = "x".repeat(20 * 1024);
    let answer = running
        .exchange(&format!("GET / HTTP/1.1\r\nLong: {long}\r\n{CLOSE}"))
        .await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    let many: String = (0..70).map(|n| format!("H{n}: x\r\n")).collect();
    let answer = running
        .exchange(&format!("GET / HTTP/1.1\r\n{many}{CLOSE}"))
        .await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn a_peer_that_dawdles_or_idles_is_closed() {
    let limits = Limits {
        header_timeout: Duration::from_millis(150),
        ..Limits::default()
    };
    let running = start(limits).await;
    for sent in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let answer = running.exchange(sent).await;
        assert_eq!(
            answer.contains("200 OK"),
            sent.ends_with("\r\n\r\n"),
            "{sent:?} -> {answer:?}"
        );
    }
}

#[tokio::test]
async fn a_connection_does_not_grow_old() {
    let running = start(Limits {
        age: Duration::from_millis(100),
        ..Limits::default()
    })
    .await;
    let answer = running.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.ends_with("here\n"), "{answer}");
}

#[tokio::test]
async fn above_the_limit_a_connection_waits_and_an_upgraded_one_does_not_count() {
    let running = start(Limits {
        connections: 1,
        ..Limits::default()
    })
    .await;
    let mut first = running.connect().await;
    first
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert!(read_head(&mut first).await.contains("200 OK"));
    let mut second = running.connect().await;
    second
        .write_all(
            b"GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
        )
        .await
        .unwrap();
    let early = timeout(Duration::from_millis(200), second.read_u8()).await;
    assert!(early.is_err(), "served above the limit");
    drop(first);
    assert!(read_head(&mut second).await.starts_with("HTTP/1.1 101 "));
    // The upgraded connection lives on and its place is free again.
    assert!(
        running
            .exchange(&format!("GET / HTTP/1.1\r\n{CLOSE}"))
            .await
            .contains("200 OK")
    );
    second.write_all(b"!").await.unwrap();
    assert_eq!(second.read_u8().await.unwrap(), b'!');
}

#[tokio::test]
async fn everything_ends_within_a_second_of_the_token() {
    let running = start(Limits::default()).await;
    let _silent = running.connect().await;
    let mut busy = running.connect().await;
    busy.write_all(b"GET /forever HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut idle = running.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    read_head(&mut idle).await;
    running.token.cancel();
    running.tracker.close();
    timeout(Duration::from_secs(1), running.tracker.wait())
        .await
        .expect("a connection outlived the token");
}

#[tokio::test]
async fn a_form_is_bounded_in_size_and_time() {
    let running = start(Limits::default()).await;
    let post = |body: &str, length: usize| {
        format!("POST /form HTTP/1.1\r\nContent-Length: {length}\r\n{CLOSE}{body}")
    };
    assert!(
        running
            .exchange(&post("a=1&b=22", 8))
            .await
            .ends_with("a=1&b=22")
    );
    let refused = running.exchange(&post("", 9)).await;
    assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");
    let slow = running.exchange(&post("a=1", 8)).await;
    assert!(
        slow.starts_with("HTTP/1.1 408 ") && slow.contains("connection: close"),
        "{slow}"
    );
    let chunked = format!("POST /form HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{CLOSE}");
    let growing = running
        .exchange(&format!("{chunked}5\r\naaaaa\r\n5\r\naaaaa\r\n0\r\n\r\n"))
        .await;
    assert!(growing.starts_with("HTTP/1.1 413 "), "{growing}");
    let broken = running.exchange(&format!("{chunked}zz\r\n")).await;
    assert!(broken.starts_with("HTTP/1.1 400 "), "{broken}");
}

#[tokio::test]
async fn a_form_that_breaks_off_is_broken() {
    let frames = futures_util::stream::iter([
        Ok(Frame::data(Bytes::from_static(b"a="))),
        Err(io::Error::other("gone")),
    ]);
    let mut request = Request::new(StreamBody::new(frames));
    let read = read_form_body(&mut request, 8, FORM_DEADLINE).await;
    assert_eq!(read, Err(BodyError::Broken));
    let mut request = Request::new(Empty::<Bytes>::new());
    assert_eq!(
        read_form_body(&mut request, 8, FORM_DEADLINE).await,
        Ok(Bytes::new())
    );
}

struct Failing(Arc<AtomicUsize>, TcpListener);

impl Accept for Failing {
    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        // 24 is EMFILE.
        match self.0.fetch_add(1, SeqCst) {
            0..3 => Err(io::Error::from_raw_os_error(24)),
            3 => Err(io::ErrorKind::ConnectionAborted.into()),
            _ => self.1.accept().await,
        }
    }
}

#[tokio::test]
async fn no_file_descriptors_left_is_waited_out_without_a_busy_loop() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
    let source = Failing(Arc::default(), listener);
    let began = Instant::now();
    tokio::spawn(serve_from(
        source,
        None,
        Limits::default(),
        accepting(),
        handler,
        tracker.clone(),
        token.clone(),
    ));
    let running = Running {
        addr,
        tracker,
        token,
    };
    assert!(
        running
            .exchange(&format!("GET / HTTP/1.1\r\n{CLOSE}"))
            .await
            .contains("200 OK")
    );
    // Three failures, each with its pause.
    assert!(began.elapsed() >= Duration::from_millis(100 + 200 + 400));
}

#[test]
fn refusals_say_what_is_allowed_and_no_more() {
    let refused = method_not_allowed("GET, HEAD");
    assert_eq!(
        (
            refused.status().as_u16(),
            refused.headers()["allow"].as_bytes()
        ),
        (405, &b"GET, HEAD"[..])
    );
    assert_eq!(not_found().status(), 404);
}

/// TLS as the config has it, its counters, and who trusts it.
fn tls() -> (
    Arc<ServerTls>,
    Arc<crate::metrics::Metrics>,
    rustls::RootCertStore,
) {
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let directory = tempfile::TempDir::new().unwrap();
    let file = |name: &str, text: String| {
        use std::os::unix::fs::PermissionsExt;
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Some(crate::config::PemFile::Path(path))
    };
    let url = crate::config::PublicUrl::parse("https://localhost").unwrap();
    let mut config = crate::config::Config::new(url);
    config.listen.tls_cert = file("cert.pem", pair.cert.pem());
    config.listen.tls_key = file("key.pem", pair.signing_key.serialize_pem());
    let now = std::time::SystemTime::now();
    let certificate = crate::config::certificate::load(&config, None, now);
    let certificate = certificate.unwrap().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let metrics = Arc::new(crate::metrics::Metrics::default());
    let tls = ServerTls::new(&certificate, metrics.clone());
    (Arc::new(tls), metrics, roots)
}

fn client(
    roots: rustls::RootCertStore,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<rustls::ClientConfig> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(ring)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn failures(metrics: &crate::metrics::Metrics, reason: &str) -> bool {
    let text = metrics.render(&crate::metrics::Now {
        calls_active: 0,
        calls_expected: 0,
        queues_waiting: [0; 2],
        queued_bytes: [0; 2],
        draining: false,
        certificate_expires: None,
        process: crate::metrics::process::Process::now(),
    });
    let row = format!("hume_bridge_tls_handshake_failures_total{{reason=\"{reason}\"}} 1\n");
    text.contains(&row)
}

impl Running {
    async fn shake_hands(
        &self,
        config: Arc<rustls::ClientConfig>,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(config);
        let handshake = connector.connect(name, self.connect().await);
        timeout(Duration::from_secs(5), handshake).await.unwrap()
    }
}

#[tokio::test]
async fn requests_and_upgrades_go_over_both_versions_of_tls() {
    let (tls, _, roots) = tls();
    let running = start_with(Some(tls), Limits::default()).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = client(roots.clone(), &[version]);
        let mut stream = running.shake_hands(config.clone()).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        // With a proper goodbye, or the end of the body could be anybody's doing.
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("here\n"), "{version:?}: {answer}");

        let mut stream = running.shake_hands(config).await.unwrap();
        let request =
            b"GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        stream.write_all(b"?").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'?');
    }
}

#[tokio::test]
async fn who_connects_and_says_nothing_has_a_place_until_the_deadline() {
    let (tls, metrics, roots) = tls();
    let limits = Limits {
        connections: 1,
        handshake_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let running = start_with(Some(tls), limits).await;
    let mut silent = running.connect().await;
    // Behind it, with the kernel, until the place is free.
    let next = running.shake_hands(client(roots, rustls::ALL_VERSIONS));
    let mut end = Vec::new();
    let (ended, next) = tokio::join!(
        timeout(Duration::from_secs(5), silent.read_to_end(&mut end)),
        next
    );
    ended.expect("dropped").unwrap();
    assert!(end.is_empty() && next.is_ok());
    assert!(failures(&metrics, "timeout"));
}

#[tokio::test]
async fn a_handshake_does_not_hold_up_the_end() {
    let (tls, metrics, _) = tls();
    let running = start_with(Some(tls), Limits::default()).await;
    let mut half = running.connect().await;
    // The beginning of a ClientHello, and no more.
    half.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    while running.tracker.is_empty() {
        tokio::task::yield_now().await;
    }
    running.token.cancel();
    running.tracker.close();
    timeout(Duration::from_secs(1), running.tracker.wait())
        .await
        .expect("it ends at once");
    assert!(!failures(&metrics, "timeout") && !failures(&metrics, "gone"));
}
