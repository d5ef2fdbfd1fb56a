//! One connection: two directions, each with its faults.
//!
//! [`Flow`] is what is done to the bytes of one direction, without a socket: it says how much may be
//! read, what is to be written, and when to look again. [`run`] does the reading and writing.

use std::{collections::VecDeque, io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{Dice, Fault, Kind, Shared, Way, What, When};

/// Read at once.
const CHUNK: usize = 16 * 1024;
/// Bytes that wait to be written, of one direction; beyond it nothing is read.
const MOST_HELD: usize = 256 * 1024;
/// For both ends to take notice of a [`What::Close`].
const CLOSING: Duration = Duration::from_secs(1);
/// Pieces of a [`What::Split`] written in a row before others get their turn.
const PIECES_IN_A_ROW: u32 = 32;

/// How a connection is broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Close,
    Reset,
}

/// Bytes of one direction between reading and writing.
pub(super) struct Flow {
    began: Instant,
    /// Not struck yet.
    to_come: Vec<(When, What)>,
    /// Bytes read so far.
    read: u64,
    delay: Option<(Duration, Duration)>,
    /// The largest piece written.
    most: usize,
    corrupt: (u64, u8),
    stalled: Stalled,
    /// What comes is thrown away.
    deaf: bool,
    /// A [`What::Close`] waits for what was read before it.
    closing: bool,
    /// Nothing more comes: the end is to be passed on once all is written.
    ended: bool,
    held: VecDeque<Piece>,
    held_bytes: usize,
    dice: Dice,
}

#[derive(Clone, Copy, PartialEq)]
enum Stalled {
    No,
    Until(Instant),
    ForEver,
}

struct Piece {
    due: Instant,
    bytes: Vec<u8>,
    /// Of these, so many are written.
    written: usize,
}

impl Flow {
    pub fn new(began: Instant, faults: Vec<(When, What)>, dice: Dice) -> Flow {
        Flow {
            began,
            to_come: faults,
            read: 0,
            delay: None,
            most: usize::MAX,
            corrupt: (0, 0),
            stalled: Stalled::No,
            deaf: false,
            closing: false,
            ended: false,
            held: VecDeque::new(),
            held_bytes: 0,
            dice,
        }
    }

    /// Strikes what is due. `Err`: the connection is to be reset at once.
    pub fn strike(&mut self, now: Instant, mut struck: impl FnMut(Kind)) -> Result<(), Cut> {
        if let Stalled::Until(until) = self.stalled
            && until <= now
        {
            self.stalled = Stalled::No;
        }
        let (read, began) = (self.read, self.began);
        let due = |when: &When| match when {
            When::Byte(byte) => *byte <= read,
            When::After(span) => began + *span <= now,
        };
        while let Some(at) = self.to_come.iter().position(|(when, _)| due(when)) {
            let (_, what) = self.to_come.remove(at);
            struck(what.kind());
            self.befall(what, now)?;
        }
        Ok(())
    }

    pub fn befall(&mut self, what: What, now: Instant) -> Result<(), Cut> {
        match what {
            What::Delay { constant, jitter } => self.delay = Some((constant, jitter)),
            What::Split { most } => self.most = most.max(1),
            What::Corrupt { bytes, flip } => self.corrupt = (bytes, flip),
            What::Stall { lasts: Some(span) } => self.stalled = Stalled::Until(now + span),
            What::Stall { lasts: None } => self.stalled = Stalled::ForEver,
            What::HalfClose => {
                self.deaf = true;
                self.ended = true;
            }
            What::Close => self.closing = true,
            What::Reset => return Err(Cut::Reset),
        }
        Ok(())
    }

    /// How many bytes may be read now, never past the next fault.
    pub fn room(&self) -> usize {
        let stopped = self.closing || self.stalled != Stalled::No || (self.ended && !self.deaf);
        if stopped || self.held_bytes >= MOST_HELD {
            return 0;
        }
        let next = self.to_come.iter().filter_map(|(when, _)| match when {
            When::Byte(byte) => Some(byte.saturating_sub(self.read)),
            When::After(_) => None,
        });
        next.min()
            .map_or(CHUNK, |left| left.min(CHUNK as u64) as usize)
    }

    /// Bytes have been read. Returns how many of them were thrown away.
    pub fn take(&mut self, bytes: &[u8], now: Instant) -> usize {
        self.read += bytes.len() as u64;
        if self.deaf {
            return bytes.len();
        }
        let mut bytes = bytes.to_vec();
        let (left, flip) = &mut self.corrupt;
        let spoilt = (*left).min(bytes.len() as u64) as usize;
        bytes[..spoilt].iter_mut().for_each(|byte| *byte ^= *flip);
        *left -= spoilt as u64;
        let due = match self.delay {
            None => now,
            Some((constant, jitter)) => now + constant + self.dice.span(Duration::ZERO..=jitter),
        };
        // Later bytes never overtake.
        let due = self.held.back().map_or(due, |last| last.due.max(due));
        self.held_bytes += bytes.len();
        self.held.push_back(Piece {
            due,
            bytes,
            written: 0,
        });
        0
    }

    /// The writer behind us has ended in good order.
    pub fn end(&mut self) {
        self.ended = true;
        self.deaf = false;
    }

    /// What is to be written now.
    pub fn front(&mut self, now: Instant) -> Option<&[u8]> {
        let piece = self.held.front().filter(|piece| piece.due <= now)?;
        let rest = &piece.bytes[piece.written..];
        let most = match self.most {
            usize::MAX => rest.len(),
            most => self.dice.among(1..=most as u64) as usize,
        };
        Some(&rest[..most.min(rest.len())])
    }

    pub fn wrote(&mut self, count: usize) {
        self.held_bytes -= count;
        if let Some(piece) = self.held.front_mut() {
            piece.written += count;
            if piece.written == piece.bytes.len() {
                self.held.pop_front();
            }
        }
    }

    /// When something is due without anything being read, written or told.
    pub fn wake(&self) -> Option<Instant> {
        let faults = self.to_come.iter().filter_map(|(when, _)| match when {
            When::After(span) => Some(self.began + *span),
            When::Byte(_) => None,
        });
        let stall = match self.stalled {
            Stalled::Until(until) => Some(until),
            _ => None,
        };
        let piece = self.held.front().map(|piece| piece.due);
        faults.chain(stall).chain(piece).min()
    }

    fn splits(&self) -> bool {
        self.most != usize::MAX
    }
}

/// Carries a connection to its end.
pub(super) async fn run(
    number: u32,
    mut dialler: TcpStream,
    mut far: TcpStream,
    told: [mpsc::Receiver<What>; 2],
    shared: &Shared,
) {
    // Pieces are to leave as they are written.
    let quick = dialler
        .set_nodelay(true)
        .and_then(|()| far.set_nodelay(true));
    let cut = match quick {
        Ok(()) => carry(number, &mut dialler, &mut far, told, shared).await,
        Err(_) => Some(Cut::Reset),
    };
    match cut {
        None => {}
        Some(Cut::Reset) => {
            // Where it cannot be set, the peer is gone already.
            _ = dialler.set_zero_linger();
            _ = far.set_zero_linger();
        }
        Some(Cut::Close) => {
            _ = tokio::join!(dialler.shutdown(), far.shutdown());
            // To close a socket with something unread in it would be a reset.
            let both = async { tokio::join!(drain(&mut dialler, shared), drain(&mut far, shared)) };
            _ = timeout(CLOSING, both).await;
        }
    }
}

async fn carry(
    number: u32,
    dialler: &mut TcpStream,
    far: &mut TcpStream,
    told: [mpsc::Receiver<What>; 2],
    shared: &Shared,
) -> Option<Cut> {
    let began = Instant::now();
    let faults: Vec<Fault> = (shared.plan)(number);
    let flow = |way: Way| {
        let own = faults.iter().filter(|fault| fault.way == way);
        let own = own.map(|fault| (fault.when, fault.what)).collect();
        Flow::new(began, own, Dice::new(u64::from(number), way as u64))
    };
    let (read_dialler, write_dialler) = dialler.split();
    let (read_far, write_far) = far.split();
    let [told_out, told_back] = told;
    let over = [watch::Sender::new(false), watch::Sender::new(false)];
    let pump = |way: Way, told, over: &watch::Sender<bool>| Pump {
        way,
        flow: flow(way),
        told,
        other_over: over.subscribe(),
        shared,
    };
    let out = pump(Way::Out, told_out, &over[1]);
    let back = pump(Way::Back, told_back, &over[0]);
    let out = async {
        let end = out.run(read_dialler, write_far).await;
        over[0].send_replace(true);
        end
    };
    let back = async {
        let end = back.run(read_far, write_dialler).await;
        over[1].send_replace(true);
        end
    };
    // Either the whole is cut, or both directions have ended each in its time.
    tokio::try_join!(out, back).err()
}

/// One direction.
struct Pump<'s> {
    way: Way,
    flow: Flow,
    told: mpsc::Receiver<What>,
    /// Whether the other direction has ended.
    other_over: watch::Receiver<bool>,
    shared: &'s Shared,
}

impl Pump<'_> {
    /// `Ok`: the end has been passed on, and nothing more comes.
    async fn run(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Result<(), Cut> {
        let mut buffer = vec![0; CHUNK];
        let mut told_open = true;
        let mut passed_on = false;
        let mut pieces = 0;
        loop {
            let now = Instant::now();
            self.flow.strike(now, |kind| self.shared.struck(kind))?;
            let other_over = *self.other_over.borrow_and_update();
            if self.flow.held.is_empty() {
                if self.flow.closing {
                    return Err(Cut::Close);
                }
                if self.flow.ended && !passed_on {
                    // The other end may have left before.
                    _ = to.shutdown().await;
                    passed_on = true;
                }
                // To the deaf it makes no difference whether somebody still speaks.
                if passed_on && (!self.flow.deaf || other_over) {
                    return Ok(());
                }
            }
            if other_over && self.flow.stalled == Stalled::ForEver {
                return Err(Cut::Reset);
            }
            if self.flow.splits() {
                pieces += 1;
                if pieces % PIECES_IN_A_ROW == 0 {
                    tokio::task::yield_now().await;
                }
            }
            let (room, wake) = (self.flow.room(), self.flow.wake());
            let wake = wake.filter(|wake| *wake > now);
            let front = self.flow.front(now);
            let writes = front.is_some();
            tokio::select! {
                biased;
                what = self.told.recv(), if told_open => match what {
                    Some(what) => {
                        self.shared.struck(what.kind());
                        self.flow.befall(what, Instant::now())?;
                    }
                    None => told_open = false,
                },
                written = to.write(front.unwrap_or_default()), if writes => match written {
                    Ok(count) if count > 0 => {
                        self.shared.handed_on(self.way, count);
                        self.flow.wrote(count);
                    }
                    _ => return Err(Cut::Reset),
                },
                read = from.read(&mut buffer[..room]), if room > 0 => match read {
                    Ok(0) => self.flow.end(),
                    Ok(count) => {
                        let lost = self.flow.take(&buffer[..count], Instant::now());
                        self.shared.thrown_away(lost);
                    }
                    Err(_) => return Err(Cut::Reset),
                },
                changed = self.other_over.changed(), if !other_over => {
                    // The sender outlives both directions.
                    _ = changed;
                }
                () = until(wake), if wake.is_some() => {}
            }
        }
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

/// Reads to the end and keeps nothing.
async fn drain(stream: &mut TcpStream, shared: &Shared) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => shared.thrown_away(count),
        }
    }
}
