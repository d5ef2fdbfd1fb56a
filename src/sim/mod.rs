//! The simulated world: a telephone ([`phone`]), an EVI ([`evi`]), a Realtime server ([`realtime`]), Twilio's
//! REST API ([`rest`]) and a web server of somebody else's ([`web`]).
//!
//! Part of the product: `hume-bridge demo` ([`demo`]) carries a whole call without an account, and
//! `hume-bridge load` ([`load`]) and `hume-bridge soak` ([`soak`]) measure. The simulators are written from the vendors'
//! documentation and share no codec with the bridge: strict about what they receive, faithful in
//! what hurts. Stories ([`scenario`]) put them around a real daemon ([`bridge`]) and listen
//! ([`ear`]) to what came of it; [`tape`] plays and makes recordings, and [`faults`] does to the
//! connections between them what networks do.
//!
//! [`chance`] is something else: calls as chance would have them around the call's state machine
//! alone, in virtual time.

pub mod bridge;
pub mod chance;
pub mod demo;
pub mod ear;
pub mod evi;
pub mod faults;
pub mod load;
mod measure;
pub mod phone;
pub mod realtime;
pub mod rest;
pub mod scenario;
pub mod soak;
pub mod speech;
#[cfg(test)]
mod talk;
pub mod tape;
pub mod web;

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use futures_util::StreamExt as _;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// The body of a plain GET to a loopback listener of ours, whatever its status.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = timeout(Duration::from_secs(5), exchange)
        .await
        .context("no answer in time")??;
    let (_, body) = answer
        .split_once("\r\n\r\n")
        .context("not an HTTP answer")?;
    Ok(body.to_owned())
}

/// Runs a command that has a daemon of its own. Told to stop, it lets go of everything, the daemon
/// and its directory with its credentials too, instead of leaving them behind.
pub async fn unless_stopped<T>(
    command: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen for signals")?;
    tokio::select! {
        result = Box::pin(command) => result,
        _ = signals.next() => anyhow::bail!("stopped"),
    }
}
