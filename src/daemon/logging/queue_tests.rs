use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::daemon::logging::record::AUDIT;

const LONG: Duration = Duration::from_secs(30);

/// Hands over what is written, and fails as often as it is told to.
struct Kept {
    lines: Sender<String>,
    failures: u32,
}

impl Sink for Kept {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.lines.send(record.text()).map_err(io::Error::other)
    }
}

fn kept(failures: u32) -> (Box<dyn Sink>, Receiver<String>) {
    let (lines, written) = channel();
    (Box::new(Kept { lines, failures }), written)
}

/// Stalls with each line until it is let go on; without its other end it does not stall.
struct Stalled {
    begun: Sender<()>,
    go_on: Receiver<()>,
    kept: Box<dyn Sink>,
}

impl Sink for Stalled {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        _ = self.begun.send(());
        _ = self.go_on.recv();
        self.kept.write(record)
    }
}

fn line(n: usize) -> Record {
    Record::ours(Level::INFO, &format!("line {n}"), vec![])
}

fn audit(message: &str) -> Record {
    Record {
        target: AUDIT,
        ..Record::ours(Level::WARN, message, vec![])
    }
}

fn open(log: Box<dyn Sink>, audit: Option<Box<dyn Sink>>) -> (Arc<Queue<u8>>, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::default());
    let (queue, _) = Queue::start(Sinks { log, audit }, metrics.clone()).unwrap();
    (queue, metrics)
}

#[test]
fn what_was_logged_is_written_in_order_before_the_end() {
    let (sink, written) = kept(0);
    let (queue, metrics) = open(sink, None);
    for n in 0..1000 {
        queue.push(line(n), None);
    }
    assert!(queue.close(LONG));
    let expected: Vec<_> = (0..1000).map(|n| format!("line {n}")).collect();
    assert_eq!(written.try_iter().collect::<Vec<_>>(), expected);
    assert_eq!(metrics.log_lines_lost.get(), 0);
    queue.push(line(1), None);
    assert_eq!(metrics.log_lines_lost.get(), 1, "nobody writes it any more");
}

#[test]
fn a_log_that_stalls_costs_lines_and_nobody_any_time() {
    let (sink, written) = kept(0);
    let ((begun, stalls), (go_on, told)) = (channel(), channel());
    let stalled = Stalled {
        begun,
        go_on: told,
        kept: sink,
    };
    let (queue, metrics) = open(Box::new(stalled), None);
    queue.push(line(0), None);
    stalls.recv().unwrap();
    // One is in the writer's hand; of these, 100 find no room.
    for n in 1..=MAX_RECORDS + 100 {
        queue.push(line(n), None);
    }
    assert_eq!(metrics.log_lines_lost.get(), 100);
    assert!(
        !queue.close(Duration::from_millis(1)),
        "nobody waits for it without end"
    );
    drop(go_on);
    assert!(queue.close(LONG));
    let written: Vec<_> = written.try_iter().collect();
    assert_eq!(written.len(), 1 + MAX_RECORDS + 1);
    assert_eq!(
        written.last().unwrap(),
        "log lines were dropped: more came than could be written lines=100"
    );
    assert_eq!(written[MAX_RECORDS], format!("line {MAX_RECORDS}"));
}

#[test]
fn long_lines_fill_the_queue_too_and_a_loss_is_told_where_it_was() {
    let (sink, written) = kept(0);
    let ((begun, stalls), (go_on, told)) = (channel(), channel());
    let stalled = Stalled {
        begun,
        go_on: told,
        kept: sink,
    };
    let (queue, metrics) = open(Box::new(stalled), None);
    queue.push(line(0), None);
    stalls.recv().unwrap();
    let long = Record::ours(Level::INFO, &"x".repeat(MAX_BYTES / 4), vec![]);
    for _ in 0..5 {
        queue.push(long.clone(), None);
    }
    // A quarter has no room any more, by the little that a record takes besides its words.
    assert_eq!(metrics.log_lines_lost.get(), 2);
    for _ in 0..2 {
        go_on.send(()).unwrap();
        stalls.recv().unwrap();
    }
    queue.push(line(1), None);
    drop(go_on);
    assert!(queue.close(LONG));
    let written: Vec<_> = written.try_iter().collect();
    assert_eq!(written.len(), 6);
    assert!(written[4].ends_with("lines=2"), "{}", written[4]);
    assert_eq!(written[5], "line 1");
}

#[test]
fn a_sink_that_fails_is_tried_again_and_says_so_once() {
    let (sink, written) = kept(3);
    let (queue, metrics) = open(sink, None);
    for n in 0..6 {
        queue.push(line(n), None);
    }
    assert!(queue.close(LONG));
    let written: Vec<_> = written.try_iter().collect();
    let error = io::Error::from(io::ErrorKind::StorageFull);
    assert_eq!(
        written,
        [
            &format!("log lines were lost: they could not be written lines=3 error=\"{error}\""),
            "line 3",
            "line 4",
            "line 5",
        ]
    );
    assert_eq!(metrics.log_lines_lost.get(), 3);
}

#[test]
fn what_was_lost_is_told_without_another_line_as_soon_as_it_can_be() {
    let open = |failures, retry| {
        let (log, written) = kept(failures);
        let sinks = Sinks { log, audit: None };
        let metrics = Arc::new(Metrics::default());
        let (queue, _) = Queue::<u8>::start_with(sinks, metrics.clone(), retry).unwrap();
        queue.push(line(0), None);
        (queue, written, metrics)
    };
    let told = "log lines were lost: they could not be written lines=1";
    // The line, and twice the attempt to tell of it.
    let (queue, written, metrics) = open(3, Duration::from_millis(1));
    let recovered = written.recv_timeout(LONG).unwrap();
    assert!(recovered.starts_with(told), "{recovered}");
    queue.push(line(1), None);
    assert!(queue.close(LONG));
    assert_eq!(written.try_iter().collect::<Vec<_>>(), ["line 1"]);
    assert_eq!(metrics.log_lines_lost.get(), 1, "an attempt is no line");
    // At the end it is not waited for.
    let (queue, written, _) = open(1, LONG * 100);
    assert!(queue.close(LONG));
    let last = written.try_iter().last().unwrap();
    assert!(last.starts_with(told), "{last}");
}

#[test]
fn audit_lines_go_to_their_own_sink_besides() {
    let ((log, lines), (other, audits)) = (kept(0), kept(0));
    let (queue, _) = open(log, Some(other));
    queue.push(line(1), None);
    queue.push(audit("hang-up"), None);
    assert!(queue.close(LONG));
    let lines: Vec<_> = lines.try_iter().collect();
    assert_eq!(lines, ["line 1", "audit: hang-up"]);
    assert_eq!(audits.try_iter().collect::<Vec<_>>(), ["audit: hang-up"]);
}

#[test]
fn a_flood_is_some_lines_and_their_number() {
    let (sink, written) = kept(0);
    let (queue, metrics) = open(sink, None);
    for _ in 0..1000 {
        if queue.permits(1) {
            queue.push(audit("refused"), Some(&1));
        }
    }
    assert!(queue.close(LONG));
    let written: Vec<_> = written.try_iter().collect();
    let shown = written.iter().filter(|line| *line == "audit: refused");
    let shown = shown.count();
    assert!((10..1000).contains(&shown), "{shown}");
    // A slow machine may have needed a second window.
    let told: usize = written
        .iter()
        .filter_map(|line| {
            let more = "audit: more of these, not shown: refused lines=";
            line.strip_prefix(more)?.parse::<usize>().ok()
        })
        .sum();
    assert_eq!(shown + told, 1000, "{written:#?}");
    assert_eq!(metrics.log_lines_lost.get(), 0, "not shown is not lost");
}
