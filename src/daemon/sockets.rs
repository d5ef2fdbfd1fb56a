//! The daemon's three sockets: bound by us, or passed by systemd.
//!
//! With socket activation a restart queues connections instead of refusing them. A passed socket is
//! known by its name (`FileDescriptorName=http` or `ops` in the .socket unit) and takes the place of
//! `listen.http` or `listen.ops`; other names are an error, since they are a misconfigured unit.

use std::net::SocketAddr;

use anyhow::Context as _;
use listenfd::ListenFd;
use tokio::net::TcpListener;

use super::notify::Addresses;
use crate::{admin, config::Config};

/// All bound, none served yet.
pub struct Sockets {
    pub public: TcpListener,
    pub private: Option<TcpListener>,
    pub control: Option<admin::server::Listener>,
    pub addresses: Addresses,
}

/// Binds what the config says, except for what systemd has passed.
pub async fn open(config: &Config) -> anyhow::Result<Sockets> {
    let mut passed = passed()?;
    let public = match passed.http.take() {
        Some(public) => public,
        None => bind(config.listen.http, "listen.http").await?,
    };
    let private = match (passed.ops.take(), config.listen.ops) {
        (Some(private), _) => Some(private),
        (None, Some(address)) => Some(bind(address, "listen.ops").await?),
        (None, None) => None,
    };
    let control = match &config.admin.socket {
        Some(path) => Some(admin::server::bind(path, &config.admin.group).await?),
        None => None,
    };
    let addresses = Addresses {
        http: public.local_addr().context("listen.http")?,
        ops: private
            .as_ref()
            .map(TcpListener::local_addr)
            .transpose()
            .context("listen.ops")?,
    };
    Ok(Sockets {
        public,
        private,
        control,
        addresses,
    })
}

#[derive(Default)]
struct Passed {
    http: Option<TcpListener>,
    ops: Option<TcpListener>,
}

fn passed() -> anyhow::Result<Passed> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    let mut fds = ListenFd::from_env();
    let mut passed = Passed::default();
    for index in 0..fds.len() {
        let name = names.get(index).copied().unwrap_or_default();
        let place = match name {
            "http" => &mut passed.http,
            "ops" => &mut passed.ops,
            // A unit with one socket and no name for it: systemd names it after the unit.
            _ if fds.len() == 1 => &mut passed.http,
            _ => anyhow::bail!(
                "systemd passed a socket named {name:?}; write FileDescriptorName=http or ops"
            ),
        };
        let socket = fds
            .take_tcp_listener(index)
            .with_context(|| format!("socket {name:?} passed by systemd is not a TCP listener"))?
            .context("a passed socket is taken once")?;
        socket.set_nonblocking(true).context("a passed socket")?;
        *place = Some(TcpListener::from_std(socket).context("a passed socket")?);
    }
    Ok(passed)
}

async fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "{key}: cannot listen on {address} (the address must be this machine's, the port free)"
        )
    })
}
