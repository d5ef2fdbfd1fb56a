//! A daemon that does not start says why, all of it at once, and with the right exit code.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use hume_bridge::sim::bridge::{ACCOUNT_SID, AUTH_TOKEN, HUME_KEY};
use tempfile::TempDir;

use crate::{
    PROGRAM,
    stage::{close, world},
};

fn run(directory: &Path, config: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let (file, credentials) = (directory.join("c.toml"), directory.join("credentials.json"));
    fs::write(&file, config).unwrap();
    let secrets = format!(
        "{{\"hume_api_key\":\"{HUME_KEY}\",\"twilio_account_sid\":\"{ACCOUNT_SID}\",\"twilio_auth_token\":\"{AUTH_TOKEN}\"}}"
    );
    fs::write(&credentials, secrets).unwrap();
    fs::set_permissions(&credentials, fs::Permissions::from_mode(0o600)).unwrap();
    let Output { status, stderr, .. } = Command::new(PROGRAM)
        .arg("--config")
        .arg(file)
        .arg("--credentials")
        .arg(credentials)
        .args(arguments)
        .env_remove("CREDENTIALS_DIRECTORY")
        .env_remove("NOTIFY_SOCKET")
        .output()
        .unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(
        !stderr.contains(HUME_KEY) && !stderr.contains(AUTH_TOKEN),
        "{stderr}"
    );
    (status.code(), stderr)
}

fn good(directory: &Path) -> String {
    format!(
        "public_url = \"https://bridge.example.com\"\nlisten.http = \"127.0.0.1:0\"\nlisten.ops = \"\"\n\
         admin.socket = \"{}\"\nadmin.group = \"\"\ntwilio.api_url = \"http://127.0.0.1:9\"\n\
         hume.url = \"ws://127.0.0.1:9/\"\n",
        directory.join("control.sock").display()
    )
}

#[test]
fn every_problem_of_a_config_is_told_at_once() {
    let directory = TempDir::new().unwrap();
    let config = "public_url = \"http://bridge.example.com\"\n[hume]\nping_intervall = \"20s\"\n\
                  pong_timeout = 10\n[calls]\nmax_concurrent = 0\n[telephone]\nx = 1\n";
    let (code, stderr) = run(directory.path(), config, &[]);
    assert_eq!(code, Some(78), "{stderr}");
    for key in [
        "public_url",
        "ping_interval",
        "pong_timeout",
        "max_concurrent",
        "telephone",
    ] {
        assert!(stderr.contains(key), "{key}: {stderr}");
    }
    assert!(stderr.contains("c.toml:3"), "{stderr}");
}

#[test]
fn a_config_that_is_not_there_and_credentials_that_all_can_read() {
    let directory = TempDir::new().unwrap();
    let (code, stderr) = run(
        directory.path(),
        &good(directory.path()),
        &["--config", "/nonexistent.toml"],
    );
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("/nonexistent.toml"), "{stderr}");

    let open = directory.path().join("open.json");
    fs::write(&open, "{}").unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let arguments = ["--credentials", open.to_str().unwrap()];
    let (code, stderr) = run(directory.path(), &good(directory.path()), &arguments);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("chmod"), "{stderr}");
}

#[test]
fn a_command_line_that_makes_no_sense() {
    let directory = TempDir::new().unwrap();
    for arguments in [
        &["--nonsense"][..],
        &["--port", "high"],
        &["sing"],
        &["--log-level"],
        &["demo", "--agent", "nobody"],
    ] {
        let output = Command::new(PROGRAM)
            .args(arguments)
            .current_dir(&directory)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("hume-bridge: "), "{stderr}");
    }
}

#[test]
fn a_port_that_somebody_else_has() {
    let directory = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (key, line) in [
        ("listen.http", "listen.http = \"127.0.0.1:0\""),
        ("listen.ops", "listen.ops = \"\""),
    ] {
        let config = good(directory.path()).replace(line, &format!("{key} = \"{address}\""));
        let (code, stderr) = run(directory.path(), &config, &[]);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(
            stderr.contains(key) && stderr.contains(&address),
            "{stderr}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_daemon_does_not_take_the_control_socket_of_the_first() {
    let world = world("").await;
    let directory = TempDir::new().unwrap();
    let ours = directory.path().join("control.sock");
    let config = good(directory.path()).replace(
        ours.to_str().unwrap(),
        world.bridge.control.to_str().unwrap(),
    );
    let (code, stderr) = run(directory.path(), &config, &[]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("admin.socket"), "{stderr}");
    assert!(world.bridge.control.exists());
    close(world).await;
}

#[test]
fn tls_files_that_will_not_do_are_told_before_anything_is_bound() {
    let directory = TempDir::new().unwrap();
    let file = |name: &str| directory.path().join(name);
    let config = format!(
        "{}listen.tls_cert = \"{}\"\nlisten.tls_key = \"{}\"\n",
        good(directory.path()),
        file("cert.pem").display(),
        file("key.pem").display()
    );
    let (code, stderr) = run(directory.path(), &config, &[]);
    assert_eq!(code, Some(78), "{stderr}");
    for words in [
        "cert.pem: listen.tls_cert: cannot be read",
        "key.pem: listen.tls_key: cannot",
    ] {
        assert!(stderr.contains(words), "{stderr}");
    }
    let pair = rcgen::generate_simple_self_signed(vec!["bridge.example.com".into()]).unwrap();
    fs::write(file("cert.pem"), pair.cert.pem()).unwrap();
    fs::write(file("key.pem"), pair.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(file("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    let (code, stderr) = run(directory.path(), &config, &[]);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("chmod o-rwx") && !stderr.contains("PRIVATE"),
        "{stderr}"
    );

    let lone = config.replace("listen.tls_key", "listen.tls_kye");
    let (code, stderr) = run(directory.path(), &lone, &[]);
    assert_eq!(code, Some(78), "{stderr}");
    for words in ["is set without listen.tls_key", "did you mean tls_key?"] {
        assert!(stderr.contains(words), "{stderr}");
    }
}
