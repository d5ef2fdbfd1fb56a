//! Faults on the wire: a TCP proxy that passes on what it is given, until it is told not to.
//!
//! It stands before one far end (an EVI, a bridge, a REST API) on a loopback port of its own, and
//! carries any number of connections there. Of itself it changes nothing: bytes, half-closes and
//! resets are passed on as they come, and a reader that lags is felt by the writer behind it. A
//! [`Plan`] says what befalls each connection, and [`Proxy::strike`] does something to one at once:
//! see [`What`] for what there is.
//!
//! Connections are numbered from 0 in the order in which the far end gets them, so a far end that
//! nobody else dials numbers its own connections alike. What is done is counted ([`Counts`]). What a
//! connection holds is bounded; beyond it the proxy stops reading. Every task belongs to the
//! [`Proxy`] and ends with it. What a peer sends is neither read nor kept.

mod dice;
mod pipe;
mod plan;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

pub use dice::Dice;
pub use plan::{Fault, Kind, Plan, Way, What, When, transparent};

/// For the far end to take a connection. Loopback answers at once, or not at all.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Faults that wait to be struck on one way; a test that tells more than that at once is wrong.
const MOST_TOLD: usize = 16;
/// With [`Proxy::narrow`]: the kernel makes the best of it, some kilobytes.
const NARROW: u32 = 4096;

/// What a proxy has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Carried to the far end.
    pub connections: u32,
    /// Of these, still open.
    pub open: u32,
    /// Nobody was there, or for a moment only; who dialled got a reset.
    pub in_vain: u32,
    /// Bytes handed on, by way.
    pub out: u64,
    pub back: u64,
    /// Bytes taken in and thrown away, behind a [`What::HalfClose`] or a cut.
    pub thrown_away: u64,
    /// Faults that have struck.
    pub struck: BTreeMap<Kind, u32>,
}

/// A running proxy. Dropped, it is gone, with all its connections.
pub struct Proxy {
    /// Where to dial.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

/// What the proxy and its connections have in common.
struct Shared {
    to: SocketAddr,
    plan: Plan,
    narrow: bool,
    counts: watch::Sender<Counts>,
    /// The open connections' ears, one for each way.
    told: Mutex<BTreeMap<u32, [mpsc::Sender<What>; 2]>>,
}

impl Proxy {
    /// Stands before `to`, on a free loopback port.
    pub async fn start(to: SocketAddr, plan: Plan) -> io::Result<Proxy> {
        Proxy::open(to, plan, false).await
    }

    /// The same with the smallest receive buffers, so that a stall is felt by the writer soon and
    /// not after megabytes.
    pub async fn narrow(to: SocketAddr, plan: Plan) -> io::Result<Proxy> {
        Proxy::open(to, plan, true).await
    }

    async fn open(to: SocketAddr, plan: Plan, narrow: bool) -> io::Result<Proxy> {
        let socket = TcpSocket::new_v4()?;
        if narrow {
            // Accepted sockets inherit it.
            socket.set_recv_buffer_size(NARROW)?;
        }
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(1024)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            to,
            plan,
            narrow,
            counts: watch::Sender::default(),
            told: Mutex::default(),
        });
        let mut server = JoinSet::new();
        server.spawn(serve(listener, shared.clone()));
        Ok(Proxy {
            addr,
            shared,
            _server: server,
        })
    }

    /// A URL of the far end, with the proxy in its place.
    pub fn instead_of(&self, url: &str) -> String {
        url.replacen(&self.shared.to.to_string(), &self.addr.to_string(), 1)
    }

    /// Does something to an open connection at once. `false`: it is not there (any more).
    pub fn strike(&self, connection: u32, way: Way, what: What) -> bool {
        let told = self.shared.told();
        let ears = told.get(&connection);
        ears.is_some_and(|ears| ears[way as usize].try_send(what).is_ok())
    }

    pub fn counts(&self) -> Counts {
        self.shared.counts.borrow().clone()
    }

    /// Returns when `so` holds; asked whenever a connection comes or goes, or a fault strikes. It may
    /// never: callers set the deadline.
    pub async fn until(&self, mut so: impl FnMut(&Counts) -> bool) {
        let mut counts = self.shared.counts.subscribe();
        // The sender lives in self.
        _ = counts.wait_for(|counts| so(counts)).await;
    }
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, BTreeMap<u32, [mpsc::Sender<What>; 2]>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn struck(&self, kind: Kind) {
        self.counts
            .send_modify(|counts| *counts.struck.entry(kind).or_default() += 1);
    }

    /// Wakes nobody: bytes come by the thousand.
    fn handed_on(&self, way: Way, bytes: usize) {
        self.counts.send_if_modified(|counts| {
            match way {
                Way::Out => counts.out += bytes as u64,
                Way::Back => counts.back += bytes as u64,
            }
            false
        });
    }

    fn thrown_away(&self, bytes: usize) {
        self.counts.send_if_modified(|counts| {
            counts.thrown_away += bytes as u64;
            false
        });
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        let Ok((dialler, _)) = listener.accept().await else {
            // Out of descriptors, most likely: give some back before the next.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        // One after the other, so that the far end gets them in the order of their numbers.
        let Ok(Ok(far)) = timeout(CONNECT_LIMIT, connect(&shared)).await else {
            // As if the far end itself had been dialled.
            _ = dialler.set_zero_linger();
            shared.counts.send_modify(|counts| counts.in_vain += 1);
            continue;
        };
        connections.spawn(connection(number, dialler, far, shared.clone()));
        number += 1;
    }
}

async fn connect(shared: &Shared) -> io::Result<TcpStream> {
    let socket = match shared.to.is_ipv4() {
        true => TcpSocket::new_v4()?,
        false => TcpSocket::new_v6()?,
    };
    if shared.narrow {
        socket.set_recv_buffer_size(NARROW)?;
    }
    socket.connect(shared.to).await
}

async fn connection(number: u32, dialler: TcpStream, far: TcpStream, shared: Arc<Shared>) {
    let (out, heard_out) = mpsc::channel(MOST_TOLD);
    let (back, heard_back) = mpsc::channel(MOST_TOLD);
    shared.told().insert(number, [out, back]);
    shared.counts.send_modify(|counts| {
        counts.connections += 1;
        counts.open += 1;
    });
    // However the connection ends, also by being dropped with the proxy.
    let _open = Open {
        number,
        shared: &shared,
    };
    pipe::run(number, dialler, far, [heard_out, heard_back], &shared).await;
}

struct Open<'s> {
    number: u32,
    shared: &'s Shared,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.shared.told().remove(&self.number);
        self.shared.counts.send_modify(|counts| counts.open -= 1);
    }
}
