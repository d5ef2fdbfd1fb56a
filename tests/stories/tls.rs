//! Without a proxy: the public listener speaks TLS itself.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use hume_bridge::sim::{
    phone::{Awaited, Ended, Event, Step},
    scenario::World,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    metrics::Families,
    stage::{close, ctl, exchange, heard, in_time, say, start, until, wait_for, world},
};

const HOST: &str = "bridge.example.com";

/// An authority, and the files of what it has issued last.
pub struct Certificates {
    directory: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    pub fn new() -> Certificates {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "The stories' authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificates = Certificates {
            directory: TempDir::new().unwrap(),
            authority: CertifiedIssuer::self_signed(params, key).unwrap(),
        };
        certificates.issue(2040);
        certificates
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.file(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// A new certificate with a new key, good until that year, as certbot leaves it.
    fn issue(&self, until: i32) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        self.write("key.pem", &key.serialize_pem());
        let chain = format!("{}{}", certificate.pem(), self.authority.pem());
        self.write("cert.pem", &chain);
        certificate.der().clone()
    }

    /// The beginning of a story's TOML.
    pub fn stage(&self, more: &str) -> String {
        format!(
            "config = '''\nlisten.tls_cert = \"{}\"\nlisten.tls_key = \"{}\"\n'''\n{more}",
            self.file("cert.pem").display(),
            self.file("key.pem").display()
        )
    }

    /// Somebody who knows the authority.
    fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        client(roots)
    }
}

fn client(roots: RootCertStore) -> Arc<ClientConfig> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

async fn connect(
    world: &World,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(world.bridge.http).await.unwrap();
    let name = ServerName::try_from(HOST).unwrap();
    in_time(TlsConnector::from(config).connect(name, stream)).await
}

/// What a new connection is shown.
async fn shown(world: &World, certificates: &Certificates) -> CertificateDer<'static> {
    let stream = connect(world, certificates.client()).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

const GREETED: &str = "[agent]\ngreeting = [{ say = \"agent-greeting\" }, { end = true }]\n\
    [[agent.replies]]\nsteps = [{ tool = { name = \"hang_up\" } }, { say = \"agent-goodbye\" }, { end = true }]";
const EXPIRES: &str = "hume_bridge_tls_certificate_expires_seconds";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_call_over_tls() {
    let certificates = Certificates::new();
    let mut world = world(&certificates.stage(GREETED)).await;
    world.phone.tls = Some(certificates.client());
    let steps = vec![
        wait_for(Awaited::AgentSpeaking),
        wait_for(Awaited::AgentQuiet),
        say("caller-thanks"),
        wait_for(Awaited::StreamOver),
    ];
    let report = start(&world.phone, steps).finish().await;
    assert_eq!(report.ended, Ended::RestCompleted);
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    assert!(heard(&report, "agent-greeting") && heard(&report, "agent-goodbye"));
    let counted = Families::of(&world).await;
    let expires = date_time_ymd(2040, 1, 1).unix_timestamp();
    assert_eq!(counted.value(EXPIRES), expires as f64);
    assert_eq!(counted.sum("hume_bridge_tls_handshake_failures_total"), 0.0);
    let log = close(world).await;
    assert!(
        !log.iter().any(|line| line.contains("listen.tls_cert")),
        "{log:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_for_new_connections_and_a_bad_one_for_nobody() {
    let certificates = Certificates::new();
    let mut world = world(&certificates.stage(GREETED)).await;
    world.phone.tls = Some(certificates.client());
    let first = shown(&world, &certificates).await;
    let live = start(&world.phone, vec![wait_for(Awaited::StreamOver)]);
    until(&live, |event| matches!(event, Event::PlayingEnded { .. })).await;

    // The same names, other files: what certbot does.
    let second = certificates.issue(2041);
    assert_ne!(first, second);
    assert_eq!(
        shown(&world, &certificates).await,
        first,
        "nobody has said anything"
    );
    let (code, out, err) = ctl(&world, &["reload"]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "changed: listen.tls_cert\nchanged: listen.tls_key\n");
    assert_eq!(shown(&world, &certificates).await, second);
    let in_2041 = date_time_ymd(2041, 1, 1).unix_timestamp() as f64;
    assert_eq!(Families::of(&world).await.value(EXPIRES), in_2041);
    let (_, out, _) = ctl(&world, &["reload"]).await;
    assert!(!out.contains("tls"), "{out}");

    // A renewal that went wrong half-way, told as such.
    let good_key = fs::read_to_string(certificates.file("key.pem")).unwrap();
    certificates.issue(2042);
    certificates.write("key.pem", &good_key);
    let (code, out, err) = ctl(&world, &["reload"]).await;
    assert_eq!((code, out.as_str()), (Some(78), ""));
    assert!(
        err.contains("listen.tls_key") && err.contains("is not the key of"),
        "{err}"
    );
    assert_eq!(shown(&world, &certificates).await, second);
    assert_eq!(Families::of(&world).await.value(EXPIRES), in_2041);

    // The call from the time of the first certificate, and one of now.
    live.now(say("caller-thanks")).await;
    for call in [
        live,
        start(
            &world.phone,
            vec![say("caller-thanks"), wait_for(Awaited::StreamOver)],
        ),
    ] {
        let report = call.finish().await;
        assert_eq!(report.ended, Ended::RestCompleted);
        assert!(report.violations.is_empty(), "{:?}", report.violations);
    }
    close(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_cannot_shake_hands_is_counted_and_costs_nobody_else() {
    let certificates = Certificates::new();
    let world = world(&certificates.stage("")).await;
    let plain = exchange(
        world.bridge.http,
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
    )
    .await;
    assert!(
        plain.is_none_or(|answer| answer.status == 400),
        "no answer in plain text"
    );
    let distrustful = connect(&world, client(RootCertStore::empty())).await;
    assert!(distrustful.is_err());
    drop(TcpStream::connect(world.bridge.http).await.unwrap());
    let mut modern = (*certificates.client()).clone();
    modern.alpn_protocols = vec![b"h2".to_vec()];
    assert!(connect(&world, Arc::new(modern)).await.is_err());

    let mut fine = (*certificates.client()).clone();
    fine.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut stream = connect(&world, Arc::new(fine)).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    // Each is counted by its own task, sooner or later.
    let counted = in_time(async {
        loop {
            let counted = Families::of(&world).await;
            if counted.sum("hume_bridge_tls_handshake_failures_total") >= 4.0 {
                return counted;
            }
        }
    })
    .await;
    for reason in ["not-tls", "certificate", "gone", "refused"] {
        let series = format!("hume_bridge_tls_handshake_failures_total{{reason=\"{reason}\"}}");
        assert_eq!(counted.value(&series), 1.0, "{reason}");
    }
    close(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_listener_stays_plain_until_the_restart() {
    let certificates = Certificates::new();
    let world = world("config = 'calls.max_per_number = 0'").await;
    let files = format!(
        "listen.tls_cert = \"{}\"\nlisten.tls_key = \"{}\"\n",
        certificates.file("cert.pem").display(),
        certificates.file("key.pem").display()
    );
    world
        .bridge
        .rewrite_config("calls.max_per_number = 0", &files)
        .unwrap();
    let (code, out, err) = ctl(&world, &["reload"]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(
        out,
        "need restart: listen.tls_cert\nneed restart: listen.tls_key\n"
    );
    let report = start(&world.phone, vec![Step::HangUp]).finish().await;
    assert_eq!(report.ended, Ended::CallerHungUp);
    close(world).await;
}
