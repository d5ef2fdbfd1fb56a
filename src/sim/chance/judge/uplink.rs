//! The caller's samples on their way to the agent: each once, in order, none lost unseen.

use crate::sim::chance::sound::{self, SILENCE, Tongue};

/// A jump of Twilio's clock below this is jitter, and above that it is filled no further.
const JITTER_MS: u64 = 40;
const FILLED_MS: u64 = 2000;
/// What a new agent may be told again: ten seconds.
const AGAIN: u64 = 80_000;
/// Fewer samples than these cannot be told from others.
const SHORT: usize = 32;
/// None of it older than a minute and its own length.
const REMEMBERED: u64 = 60 * 8000 + AGAIN;

/// What the agent has been given of the caller's voice.
#[derive(Default)]
pub struct Uplink {
    tongue: Tongue,
    /// The agent's transcript has it up to here, and the agent has begun to answer it up to there.
    understood: u64,
    answered: u64,
    reply_due: bool,
    /// Below this, the agent at hand hears what one before it has heard: not all of that is worth
    /// repeating. So much has been repeated.
    fresh: u64,
    again: u64,
    /// The next sample that the agent at hand has to hear; `None` until it has heard one.
    next: Option<u64>,
    /// The newest sample that any agent has heard, and one more.
    reached: u64,
    /// Samples that were passed over, and those that were said to be.
    skipped: u64,
    dropped: u64,
    /// Of silence: what the agent heard, and what Twilio's clock tells of.
    silence: u64,
    missing: u64,
    due_ms: Option<u64>,
}

impl Uplink {
    pub fn new(tongue: Tongue) -> Self {
        Uplink {
            tongue,
            ..Uplink::default()
        }
    }

    /// The caller's words are final.
    pub fn understood(&mut self) {
        self.understood = self.reached;
        self.reply_due = true;
    }

    /// The agent speaks.
    pub fn answers(&mut self) {
        if std::mem::take(&mut self.reply_due) {
            self.answered = self.answered.max(self.understood);
        }
    }

    /// A frame comes; returns how many samples are missing before it.
    pub fn frame(&mut self, timestamp_ms: Option<u64>, bytes: usize) -> u64 {
        let Some(at) = timestamp_ms else { return 0 };
        let gap = self.due_ms.map_or(0, |due| at.saturating_sub(due));
        self.due_ms = Some(at.saturating_add(bytes as u64 / 8));
        let gap = if gap < JITTER_MS {
            0
        } else {
            gap.min(FILLED_MS)
        };
        self.missing += gap * 8;
        gap * 8
    }

    /// A new agent may be told again what the last one has heard.
    pub fn connected(&mut self) {
        self.next = None;
        self.understood = self.answered;
        self.fresh = self.reached;
        self.again = 0;
    }

    /// So much of it, silence included.
    pub fn repeated(&mut self, bytes: usize) {
        self.missing += bytes as u64;
    }

    /// The caller is back on another stream; nobody listened meanwhile.
    pub fn returned(&mut self, sent: u64) {
        self.due_ms = None;
        self.dropped += sent.saturating_sub(self.reached);
    }

    pub fn dropped(&mut self, bytes: usize) {
        self.dropped += bytes as u64;
    }

    /// The agent hears this; `Err` when it should not.
    pub fn heard(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while let Some(first) = bytes.first() {
            if *first == SILENCE {
                let silent = bytes.iter().take_while(|byte| **byte == SILENCE).count();
                self.silence += silent as u64;
                bytes = &bytes[silent..];
                continue;
            }
            let expected = self.next.unwrap_or(self.reached);
            let mut from = expected;
            let mut agree = self.tongue.agrees(from, bytes);
            let stretch = bytes.iter().take(16).take_while(|byte| **byte != SILENCE);
            let stretch = stretch.count();
            // What is repeated may have holes, and one may begin or end anywhere.
            let repeats = self.next.is_some_and(|next| next < self.fresh);
            if agree == 0 || agree < stretch && !repeats {
                from = match sound::locate(bytes) {
                    Some(from) => from,
                    None if self.tongue.agrees(self.fresh, bytes) >= stretch => self.fresh,
                    // Too few to tell; the next ones will.
                    None if repeats && bytes.len() < SHORT => return Ok(()),
                    None => return Err("a sample that the caller never sent".into()),
                };
                agree = self.tongue.agrees(from, bytes);
            }
            if agree == 0 {
                return Err("a sample that the caller never sent".into());
            }
            if self.next.is_none() {
                self.again(from)?;
            }
            match self.next {
                Some(next) if from < next => {
                    return Err(format!("sample {from} again, {next} was due"));
                }
                _ => self.skipped += from.saturating_sub(expected.max(self.fresh)),
            }
            let end = from + agree as u64;
            self.again += end.min(self.fresh).saturating_sub(from);
            // A sample beside a hole may look like the one that belongs there.
            if self.again > AGAIN + SHORT as u64 {
                return Err(format!("{} samples again", self.again));
            }
            self.next = Some(end);
            self.reached = self.reached.max(end);
            bytes = &bytes[agree..];
        }
        // The same holds here; a frame is five times as much.
        let alike = if self.fresh > 0 { SHORT as u64 } else { 0 };
        if self.skipped > self.dropped + alike {
            let (skipped, dropped) = (self.skipped, self.dropped);
            return Err(format!("{skipped} samples are lost, {dropped} are counted"));
        }
        Ok(())
    }

    /// A new agent begins to hear with this sample.
    fn again(&self, from: u64) -> Result<(), String> {
        if from + REMEMBERED < self.reached {
            return Err(format!("sample {from} again, of {}", self.reached));
        }
        // Somebody who never stops speaking has said something that was not answered, and there is
        // room for it.
        let lost = self.reached.saturating_sub(self.answered) + self.missing;
        let room = self.dropped == 0 && lost < AGAIN / 2;
        if self.tongue.always_loud() && room && from > self.answered {
            let answered = self.answered;
            return Err(format!(
                "from sample {from} on, but only {answered} are answered"
            ));
        }
        Ok(())
    }

    /// No more silence than there were gaps.
    pub fn check(&self) -> Result<(), String> {
        if self.silence > self.missing {
            let (silence, missing) = (self.silence, self.missing);
            return Err(format!(
                "{silence} samples of silence for a gap of {missing}"
            ));
        }
        Ok(())
    }

    /// The agent listens, and has heard all of `sent` and of the silence before it.
    pub fn up_to_date(&self, sent: u64) -> Result<(), String> {
        let short = sent.saturating_sub(self.reached);
        // The newest may have been dropped.
        match self.reached <= sent
            && short <= (self.dropped + SHORT as u64).saturating_sub(self.skipped)
        {
            true => Ok(()),
            false => Err(format!(
                "the agent has heard up to sample {}, the caller has said {sent}",
                self.reached
            )),
        }
    }

    pub fn silence(&self) -> u64 {
        self.silence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(from: u64, bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        Tongue::default().fill(from, bytes, &mut out);
        out
    }

    #[test]
    fn each_sample_once_in_order() {
        let mut uplink = Uplink::default();
        uplink.heard(&said(0, 160)).unwrap();
        uplink.heard(&said(160, 160)).unwrap();
        uplink.up_to_date(320).unwrap();
        assert!(uplink.up_to_date(480).is_err());
        assert!(uplink.heard(&said(160, 160)).is_err(), "again");
        assert!(uplink.heard(&[7; 160]).is_err(), "not the caller's");
    }

    #[test]
    fn what_is_lost_has_to_be_counted() {
        let mut uplink = Uplink::default();
        uplink.dropped(160);
        uplink.heard(&said(160, 160)).unwrap();
        assert!(uplink.heard(&said(480, 160)).is_err());
    }

    #[test]
    fn silence_only_for_a_gap() {
        let mut uplink = Uplink::default();
        assert_eq!(uplink.frame(Some(100), 160), 0);
        assert_eq!(uplink.frame(Some(220), 160), 800);
        uplink.heard(&[SILENCE; 800]).unwrap();
        uplink.check().unwrap();
        uplink.heard(&[SILENCE]).unwrap();
        assert!(uplink.check().is_err());
    }

    #[test]
    fn a_new_agent_hears_again_what_was_not_answered() {
        let heard = || {
            let mut uplink = Uplink::default();
            uplink.heard(&said(0, 800)).unwrap();
            uplink
        };
        let mut uplink = heard();
        uplink.connected();
        uplink.heard(&said(0, 960)).unwrap();
        uplink.up_to_date(960).unwrap();

        let mut forgetful = heard();
        forgetful.connected();
        assert!(forgetful.heard(&said(160, 800)).is_err());

        let mut answered = heard();
        answered.understood();
        answered.answers();
        answered.connected();
        answered.heard(&said(800, 160)).unwrap();
    }
}
