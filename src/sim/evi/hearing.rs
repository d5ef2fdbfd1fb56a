//! Voice activity on the uplink: when an utterance begins and ends.
//!
//! The only clock here is the number of samples received, so a world that runs faster than real
//! time is heard the same, and a bridge that withholds silence is never heard to the end. Energy
//! in windows of 20 ms; no attempt to tell voice from noise.

/// -40 dBFS, squared, in 16-bit samples.
const THRESHOLD: f64 = 327.68 * 327.68;
const WINDOW_MS: u64 = 20;
/// Loud windows in a row that begin an utterance.
const ONSET: u64 = 3;

/// Something heard; times in ms of audio received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Heard {
    Began {
        at: u64,
    },
    /// The utterance has this much voice by now.
    Voice {
        ms: u64,
    },
    Ended {
        begin: u64,
        end: u64,
    },
}

pub(in crate::sim) struct Hearing {
    rate: u32,
    end_windows: u64,
    samples: u64,
    energy: f64,
    /// Loud windows in a row before an utterance.
    onset: u64,
    utterance: Option<Utterance>,
}

#[derive(Clone, Copy)]
struct Utterance {
    begin: u64,
    end: u64,
    voice: u64,
    silent: u64,
}

impl Hearing {
    pub fn new(rate: u32, end_of_turn_ms: f64) -> Hearing {
        Hearing {
            rate,
            end_windows: ((end_of_turn_ms / WINDOW_MS as f64).ceil() as u64).max(1),
            samples: 0,
            energy: 0.0,
            onset: 0,
            utterance: None,
        }
    }

    /// How much audio has come, in ms.
    pub fn clock_ms(&self) -> f64 {
        self.samples as f64 * 1000.0 / f64::from(self.rate)
    }

    pub fn listen(&mut self, pcm: &[i16], heard: &mut Vec<Heard>) {
        let window = u64::from(self.rate) * WINDOW_MS / 1000;
        for &sample in pcm {
            self.energy += f64::from(sample) * f64::from(sample);
            self.samples += 1;
            if self.samples.is_multiple_of(window) {
                let loud = self.energy / window as f64 > THRESHOLD;
                self.energy = 0.0;
                self.window(loud, self.samples / window * WINDOW_MS, heard);
            }
        }
    }

    fn window(&mut self, loud: bool, now: u64, heard: &mut Vec<Heard>) {
        let Some(utterance) = &mut self.utterance else {
            self.onset = if loud { self.onset + 1 } else { 0 };
            if self.onset == ONSET {
                let begin = now - ONSET * WINDOW_MS;
                let voice = ONSET * WINDOW_MS;
                self.utterance = Some(Utterance {
                    begin,
                    end: now,
                    voice,
                    silent: 0,
                });
                heard.push(Heard::Began { at: begin });
            }
            return;
        };
        if loud {
            utterance.voice += WINDOW_MS;
            utterance.end = now;
            utterance.silent = 0;
            heard.push(Heard::Voice {
                ms: utterance.voice,
            });
            return;
        }
        utterance.silent += 1;
        if utterance.silent == self.end_windows {
            heard.push(Heard::Ended {
                begin: utterance.begin,
                end: utterance.end,
            });
            self.utterance = None;
            self.onset = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound(ms: usize, level: i16) -> Vec<i16> {
        (0..ms * 8)
            .map(|n| if n % 2 == 0 { level } else { -level })
            .collect()
    }

    fn hear(parts: &[(usize, i16)], cut: usize) -> Vec<Heard> {
        let all: Vec<i16> = parts
            .iter()
            .flat_map(|&(ms, level)| sound(ms, level))
            .collect();
        let mut hearing = Hearing::new(8_000, 500.0);
        let mut heard = Vec::new();
        for piece in all.chunks(cut) {
            hearing.listen(piece, &mut heard);
        }
        heard.retain(|h| !matches!(h, Heard::Voice { .. }));
        heard
    }

    #[test]
    fn an_utterance_has_a_beginning_and_an_end_however_it_is_cut() {
        let said = [(200, 0), (400, 3000), (300, 10), (100, 3000), (520, 0)];
        let expected = [
            Heard::Began { at: 200 },
            Heard::Ended {
                begin: 200,
                end: 1000,
            },
        ];
        for cut in [1, 160, 333, 8000] {
            assert_eq!(hear(&said, cut), expected, "cut in {cut}");
        }
    }

    #[test]
    fn clicks_and_whispers_are_not_speech() {
        assert_eq!(
            hear(&[(40, 9000), (20, 0), (40, 9000), (600, 300)], 160),
            []
        );
    }

    #[test]
    fn without_samples_no_utterance_ends() {
        assert_eq!(
            hear(&[(300, 3000), (499, 0)], 160),
            [Heard::Began { at: 0 }]
        );
    }
}
