//! The proxy between an echo that tells what befell it, and whoever dials.

use std::future::Future;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

/// A listener, and what it takes.
struct FarEnd(TcpListener);

impl FarEnd {
    async fn new() -> FarEnd {
        FarEnd(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    async fn before(&self, plan: Plan) -> Proxy {
        Proxy::start(self.0.local_addr().unwrap(), plan)
            .await
            .unwrap()
    }

    /// Two ends of a new connection.
    async fn dialled(&self, proxy: &Proxy) -> (TcpStream, TcpStream) {
        let near = TcpStream::connect(proxy.addr).await.unwrap();
        let (far, _) = in_time(self.0.accept()).await.unwrap();
        near.set_nodelay(true).unwrap();
        in_time(proxy.until(|counts| counts.open > 0)).await;
        (near, far)
    }
}

fn at(way: Way, byte: u64, what: What) -> Plan {
    let when = When::Byte(byte);
    Fault { way, when, what }.always()
}

/// Everything until the end, which must be a good one.
fn read_all(mut stream: TcpStream) -> JoinHandle<(Vec<u8>, TcpStream)> {
    tokio::spawn(async move {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        (bytes, stream)
    })
}

/// Bytes that tell their places.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|n| (n % 251) as u8).collect()
}

async fn is_reset(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match in_time(stream.read(&mut buffer)).await {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

#[tokio::test]
async fn of_itself_it_changes_nothing() {
    let far_end = FarEnd::new().await;
    let proxy = far_end.before(transparent()).await;
    let (mut near, mut far) = far_end.dialled(&proxy).await;
    let (up, down) = (bytes(3_000_000), bytes(1_000_000));
    // A reader that lags is waited for.
    near.write_all(&up[..1000]).await.unwrap();
    let mut first = vec![0; 1000];
    far.read_exact(&mut first).await.unwrap();
    let heard = read_all(far);
    near.write_all(&up[1000..]).await.unwrap();
    // A half-close is passed on, and the other direction goes on.
    near.shutdown().await.unwrap();
    let (rest, mut far) = in_time(heard).await.unwrap();
    assert!(first.iter().chain(&rest).eq(&up));
    let heard = read_all(near);
    far.write_all(&down).await.unwrap();
    drop(far);
    assert!(in_time(heard).await.unwrap().0 == down);
    in_time(proxy.until(|counts| counts.open == 0)).await;
    let expected = Counts {
        connections: 1,
        out: 3_000_000,
        back: 1_000_000,
        ..Counts::default()
    };
    assert_eq!(proxy.counts(), expected);
}

#[tokio::test]
async fn a_reset_is_passed_on_both_ways() {
    let far_end = FarEnd::new().await;
    let proxy = far_end.before(transparent()).await;
    let (near, mut far) = far_end.dialled(&proxy).await;
    near.set_zero_linger().unwrap();
    drop(near);
    assert!(is_reset(&mut far).await);
    in_time(proxy.until(|counts| counts.open == 0)).await;
    let (mut near, far) = far_end.dialled(&proxy).await;
    far.set_zero_linger().unwrap();
    drop(far);
    assert!(is_reset(&mut near).await);
}

#[tokio::test]
async fn delayed_jittered_and_split_bytes_come_in_order_and_whole() {
    for what in [
        What::Delay {
            constant: Duration::from_millis(20),
            jitter: Duration::from_millis(30),
        },
        What::Split { most: 3 },
        What::Stall {
            lasts: Some(Duration::from_millis(50)),
        },
    ] {
        let far_end = FarEnd::new().await;
        let proxy = far_end.before(at(Way::Back, 100, what)).await;
        let (near, mut far) = far_end.dialled(&proxy).await;
        let heard = read_all(near);
        let said = bytes(20_000);
        for piece in said.chunks(700) {
            far.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(far);
        assert!(in_time(heard).await.unwrap().0 == said, "{what:?}");
        let counts = proxy.counts();
        assert_eq!(counts.struck, [(what.kind(), 1)].into());
        assert_eq!((counts.out, counts.back), (0, 20_000));
    }
}

#[tokio::test]
async fn only_the_bytes_that_are_meant_are_corrupted() {
    let far_end = FarEnd::new().await;
    let what = What::Corrupt {
        bytes: 5,
        flip: 0x70,
    };
    let proxy = far_end.before(at(Way::Out, 1000, what)).await;
    let (mut near, far) = far_end.dialled(&proxy).await;
    let heard = read_all(far);
    let mut said = bytes(3000);
    near.write_all(&said).await.unwrap();
    near.shutdown().await.unwrap();
    said[1000..1005].iter_mut().for_each(|byte| *byte ^= 0x70);
    assert!(in_time(heard).await.unwrap().0 == said);
}

#[tokio::test]
async fn a_cut_comes_behind_the_byte_that_was_meant() {
    let far_end = FarEnd::new().await;
    let proxy = far_end.before(at(Way::Out, 1000, What::Close)).await;
    let (mut near, far) = far_end.dialled(&proxy).await;
    let heard = read_all(far);
    near.write_all(&bytes(3000)).await.unwrap();
    assert!(in_time(heard).await.unwrap().0 == bytes(1000));
    let mut rest = Vec::new();
    in_time(near.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty(), "an end in good order for both");

    let proxy = far_end.before(at(Way::Back, 1000, What::Reset)).await;
    let (mut near, mut far) = far_end.dialled(&proxy).await;
    far.write_all(&bytes(3000)).await.unwrap();
    assert!(is_reset(&mut near).await && is_reset(&mut far).await);
    assert_eq!(proxy.counts().struck, [(Kind::Reset, 1)].into());
}

#[tokio::test]
async fn half_a_close_leaves_the_other_half() {
    let far_end = FarEnd::new().await;
    let proxy = far_end.before(at(Way::Out, 1000, What::HalfClose)).await;
    let (mut near, far) = far_end.dialled(&proxy).await;
    let heard = read_all(far);
    // More than all the buffers on the way hold: what is thrown away is read.
    near.write_all(&bytes(1000)).await.unwrap();
    let (heard, mut far) = in_time(heard).await.unwrap();
    assert!(heard == bytes(1000));
    in_time(near.write_all(&bytes(8_000_000))).await.unwrap();
    far.write_all(b"still here").await.unwrap();
    let mut answer = [0; 10];
    in_time(near.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"still here");
    drop(far);
    drop(near);
    in_time(proxy.until(|counts| counts.open == 0)).await;
    assert_eq!(proxy.counts().out, 1000);
}

#[tokio::test]
async fn who_is_stalled_is_held_up_and_nobody_else() {
    let far_end = FarEnd::new().await;
    let only_first: Plan = Arc::new(|connection| {
        let stall = Fault {
            way: Way::Out,
            when: When::Byte(10),
            what: What::Stall { lasts: None },
        };
        if connection == 0 { vec![stall] } else { vec![] }
    });
    let address = far_end.0.local_addr().unwrap();
    let proxy = Proxy::narrow(address, only_first).await.unwrap();
    let (mut stuck, mut far) = far_end.dialled(&proxy).await;
    let stuck_writes = tokio::spawn(async move {
        let mut sent = 0;
        while let Ok(Ok(n)) = timeout(Duration::from_millis(300), stuck.write(&[1; 4096])).await {
            sent += n;
        }
        (sent, stuck)
    });
    let (mut near, other) = far_end.dialled(&proxy).await;
    let heard = read_all(other);
    near.write_all(&bytes(2_000_000)).await.unwrap();
    near.shutdown().await.unwrap();
    assert!(in_time(heard).await.unwrap().0 == bytes(2_000_000));
    let (sent, stuck) = in_time(stuck_writes).await.unwrap();
    assert!((10..20_000_000).contains(&sent), "{sent}");
    let mut got = [0; 10];
    in_time(far.read_exact(&mut got)).await.unwrap();
    // The other direction is not stuck, and its end is the end of both.
    drop(far);
    in_time(proxy.until(|counts| counts.open == 0)).await;
    drop(stuck);
}

#[tokio::test]
async fn a_connection_is_struck_when_a_test_says_so() {
    let far_end = FarEnd::new().await;
    let proxy = far_end.before(transparent()).await;
    let (mut first, mut far) = far_end.dialled(&proxy).await;
    let (mut second, mut other) = far_end.dialled(&proxy).await;
    in_time(proxy.until(|counts| counts.open == 2)).await;
    assert!(proxy.strike(0, Way::Out, What::Reset));
    assert!(is_reset(&mut first).await && is_reset(&mut far).await);
    in_time(proxy.until(|counts| counts.open == 1)).await;
    assert!(!proxy.strike(0, Way::Out, What::Reset));
    second.write_all(b"good").await.unwrap();
    let mut heard = [0; 4];
    in_time(other.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"good");
    // Gone with its proxy.
    drop(proxy);
    assert_eq!(in_time(other.read(&mut heard)).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_fault_may_come_with_time_and_nobody_may_be_there() {
    let far_end = FarEnd::new().await;
    let fault = Fault {
        way: Way::Back,
        when: When::After(Duration::from_millis(30)),
        what: What::Reset,
    };
    let proxy = far_end.before(fault.always()).await;
    let (mut near, _far) = far_end.dialled(&proxy).await;
    assert!(is_reset(&mut near).await);

    let gone = far_end.0.local_addr().unwrap();
    drop(far_end);
    let proxy = Proxy::start(gone, transparent()).await.unwrap();
    let mut near = TcpStream::connect(proxy.addr).await.unwrap();
    assert_eq!(in_time(near.read(&mut [0; 10])).await.unwrap_or(0), 0);
    in_time(proxy.until(|counts| counts.in_vain == 1)).await;
    assert_eq!(proxy.counts().connections, 0);
}
