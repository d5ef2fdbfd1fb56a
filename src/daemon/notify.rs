//! What systemd is told. Without a NOTIFY_SOCKET nothing happens, and nothing here can fail a call.

use std::{
    ffi::OsStr,
    io, net,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::OnceLock,
    time::Duration,
};

use sd_notify::NotifyState;
use tracing::debug;

/// Where the listeners really are: with port 0 only the daemon knows.
pub struct Addresses {
    pub http: net::SocketAddr,
    pub ops: Option<net::SocketAddr>,
}

/// Everything is checked and bound.
pub fn ready(addresses: &Addresses) {
    // Fields with the prefix X_ are everybody's own (sd_notify(3)).
    let http = format!("X_HTTP={}", addresses.http);
    let ops = addresses.ops.map(|ops| format!("X_OPS={ops}"));
    let mut states = vec![
        NotifyState::Ready,
        NotifyState::Status("no calls"),
        NotifyState::Custom(&http),
    ];
    states.extend(ops.as_deref().map(NotifyState::Custom));
    send(&states);
}

/// A reload has begun: systemd waits for [`reloaded`] (`Type=notify-reload`, sd_notify(3)).
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "no monotonic clock"),
    }
}

/// The reload is over, for better or worse.
pub fn reloaded() {
    send(&[NotifyState::Ready]);
}

/// How long systemd waits for [`alive`] before it kills us; `None` without a watchdog.
pub fn watchdog_limit() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// The watchdog's food.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// How many calls there are, and whether an operator has closed the door to new ones.
pub fn calls(calls: usize, draining: bool) {
    let mut status = in_words(calls);
    if draining {
        status.push_str(", taking no new ones");
    }
    send(&[NotifyState::Status(&status)]);
}

/// The daemon is leaving; `owed` calls are waited for.
pub fn stopping(owed: usize) {
    let status = format!("draining, {}", in_words(owed));
    send(&[NotifyState::Stopping, NotifyState::Status(&status)]);
}

/// Still leaving: the drain is making use of its time.
pub fn draining(owed: usize, extend: Duration) {
    let status = format!("draining, {}", in_words(owed));
    let extend = u32::try_from(extend.as_micros()).unwrap_or(u32::MAX);
    send(&[
        NotifyState::Status(&status),
        NotifyState::ExtendTimeoutUsec(extend),
    ]);
}

fn in_words(calls: usize) -> String {
    match calls {
        0 => "no calls".to_owned(),
        1 => "1 call".to_owned(),
        calls => format!("{calls} calls"),
    }
}

/// Sends without ever waiting: a systemd that does not read must not stop the daemon. What it has no
/// room for is lost, and the next beat tells again.
fn send(states: &[NotifyState]) {
    static SOCKET: OnceLock<Option<UnixDatagram>> = OnceLock::new();
    let Some(socket) = SOCKET.get_or_init(|| open().ok().flatten()) else {
        return;
    };
    let message: Vec<String> = states.iter().map(ToString::to_string).collect();
    if let Err(error) = socket.send(message.join("\n").as_bytes()) {
        debug!(%error, "systemd does not listen");
    }
}

fn open() -> io::Result<Option<UnixDatagram>> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(None);
    };
    // A leading @ stands for the null byte of an abstract address (sd_notify(3)).
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(Some(socket))
}
