//! Calls that are over by Twilio's word while their media socket goes on.

use super::*;

const GRACE: Duration = Duration::from_secs(2);

struct Line {
    machine: Machine,
    out: Outbox,
    now: Instant,
}

impl Line {
    fn new() -> Line {
        let (now, mut out) = (Instant::now(), Outbox::default());
        let settings = settings();
        let machine = Machine::new(settings, now, &mut out);
        Line { machine, out, now }
    }

    fn event(&mut self, event: Event<'_>) {
        self.machine.handle(self.now, event, &mut self.out);
    }

    fn over(&mut self, caller_left: bool) {
        self.event(Event::Order(Order::CallOver { caller_left }));
    }

    /// A socket that lingers sends on.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.machine.next_deadline().filter(|due| *due <= until) {
            self.now = due;
            self.event(Event::Tick);
        }
        self.now = until;
        let mulaw = [0xff; 160];
        self.event(Event::Carrier(Carrier::Media {
            timestamp_ms: None,
            mulaw: &mulaw,
        }));
    }

    /// How it ended, and whether for want of the socket's own end.
    fn end(&self) -> Option<(Cause, u16, bool)> {
        let lingered = self.out.actions.contains(&Action::Note(Note::Lingered));
        let mut ends = self.out.actions.iter().filter_map(|action| match action {
            Action::End { cause, close_code } => Some((*cause, *close_code, lingered)),
            _ => None,
        });
        let end = ends.next();
        assert_eq!(ends.next(), None, "a call ends once");
        end
    }
}

#[test]
fn a_socket_without_a_call_is_closed_after_a_moment() {
    for (caller_left, cause) in [(true, Cause::CallerHungUp), (false, Cause::CarrierLost)] {
        let mut line = Line::new();
        line.wait(Duration::from_secs(5));
        line.over(caller_left);
        line.wait(GRACE - Duration::from_millis(1));
        assert_eq!(line.end(), None);
        line.wait(Duration::from_millis(1));
        assert_eq!(line.end(), Some((cause, 1000, true)));
    }
}

#[test]
fn the_sockets_own_end_stays_the_ordinary_one() {
    let mut line = Line::new();
    line.over(true);
    line.wait(Duration::from_millis(100));
    line.event(Event::Carrier(Carrier::Stop));
    assert_eq!(line.end(), Some((Cause::CallerHungUp, 1000, false)));
}

#[test]
fn what_is_said_twice_takes_no_longer_and_the_callers_leaving_says_more() {
    let mut line = Line::new();
    line.over(false);
    line.wait(Duration::from_millis(1500));
    line.over(true);
    line.over(false);
    line.wait(Duration::from_millis(500));
    assert_eq!(line.end(), Some((Cause::CallerHungUp, 1000, true)));
}

#[test]
fn a_hang_up_that_is_under_way_keeps_its_cause() {
    let mut line = Line::new();
    line.event(Event::Order(Order::HangUp { now: true }));
    line.over(true);
    // The REST API has four seconds to answer; Twilio's word is as good as its answer.
    line.wait(GRACE);
    assert_eq!(line.end(), Some((Cause::Operator, 1000, false)));
    let mut line = Line::new();
    line.over(true);
    line.wait(Duration::from_millis(1900));
    line.event(Event::Order(Order::HangUp { now: true }));
    line.wait(Duration::from_secs(10));
    assert_eq!(line.end(), Some((Cause::Operator, 1000, false)));
}
