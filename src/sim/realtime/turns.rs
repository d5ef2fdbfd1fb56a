//! The server's ears: the caller's audio, where a turn begins and ends, and what is written down of it.

use serde_json::{Value, json};

use super::{
    Dialect, chat::Chat, errors::Failure, front::LINEAR_RATE, items::Item, response::Reason,
    session::Format, shape::Fault, tables::MAX_APPEND,
};
use crate::sim::evi::{
    On, What,
    hearing::{Heard, Hearing},
    voice::{CLIP_RATE, linear},
};

/// Less than this cannot be committed (seen in the field), in ms.
const LEAST_COMMIT: f64 = 100.0;

/// What is heard, and how.
#[derive(Default)]
pub(super) struct Ears {
    hearing: Option<(Hearing, Format, f64)>,
    /// Audio received before the present hearing began, in ms.
    before_ms: f64,
    /// Half a sample.
    odd: Option<u8>,
    /// Samples until the next one that is kept for the record.
    skip: usize,
    pub utterances: u32,
    /// The item that the caller's words will be.
    item: Option<String>,
    /// Not yet committed.
    pub buffered_ms: f64,
    deaf: bool,
}

impl Ears {
    /// How much audio has come, in ms.
    pub fn clock_ms(&self) -> f64 {
        let now = self.hearing.as_ref().map_or(0.0, |(h, ..)| h.clock_ms());
        self.before_ms + now
    }

    /// The samples in these bytes; half a sample is kept for the next.
    fn samples(&mut self, bytes: &[u8], format: Format) -> Vec<i16> {
        match format {
            Format::Pcmu | Format::Pcma => bytes.iter().map(|octet| linear(*octet)).collect(),
            Format::Pcm(_) => {
                let whole: Vec<u8> = self
                    .odd
                    .take()
                    .into_iter()
                    .chain(bytes.iter().copied())
                    .collect();
                let pairs = whole.chunks_exact(2);
                self.odd = pairs.remainder().first().copied();
                pairs
                    .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
                    .collect()
            }
        }
    }

    /// What of it is kept: 8 kHz. What was made of a telephone's audio has nothing above that.
    fn thinned(&mut self, pcm: &[i16], rate: u32) -> Vec<i16> {
        let step = (rate / CLIP_RATE).max(1) as usize;
        let kept = pcm.iter().skip(self.skip).step_by(step).copied().collect();
        let rest = pcm.len().saturating_sub(self.skip);
        self.skip = if pcm.len() < self.skip {
            self.skip - pcm.len()
        } else {
            (step - rest % step) % step
        };
        kept
    }
}

impl Chat {
    /// The session was updated: it may be another format, or another patience.
    pub(super) fn listen_anew(&mut self) {
        let mut format = self.session.format_in();
        if self.world.dialect == Dialect::Plain && !matches!(format, Format::Pcm(_)) {
            format = Format::Pcm(LINEAR_RATE);
        }
        let patience = self.world.shared.script.end_of_turn.0;
        let turns = self.session.turns();
        let silence = turns.and_then(|turns| turns.silence_ms).unwrap_or(patience);
        let same = self.ears.hearing.as_ref();
        if same.is_none_or(|(_, f, s)| (*f, *s) != (format, silence)) {
            self.ears.before_ms = self.ears.clock_ms();
            self.ears.hearing = Some((Hearing::new(format.rate(), silence), format, silence));
            self.ears.skip = 0;
            self.ears.odd = None;
        }
    }

    pub(super) fn append(&mut self, audio: &Value, event_id: Option<&str>) {
        let text = audio.as_str().unwrap_or_default();
        let bytes = base64_simd::STANDARD
            .decode_to_vec(text)
            .unwrap_or_default();
        if bytes.is_empty() || bytes.len() > MAX_APPEND {
            let message = format!("{} bytes of audio cannot be appended.", bytes.len());
            return self.wrong_field(Fault::new("invalid_value", "audio", message), event_id);
        }
        let Some((_, format, _)) = self.ears.hearing else {
            if !std::mem::replace(&mut self.ears.deaf, true) {
                self.violation("audio ahead of session.update: it would be heard as noise");
            }
            return;
        };
        let pcm = self.ears.samples(&bytes, format);
        self.ears.buffered_ms += pcm.len() as f64 * 1000.0 / f64::from(format.rate());
        let thin = self.ears.thinned(&pcm, format.rate());
        self.record_caller(&thin);
        let mut heard = Vec::new();
        if let Some((hearing, ..)) = &mut self.ears.hearing {
            hearing.listen(&pcm, &mut heard);
        }
        for heard in heard {
            match heard {
                Heard::Began { at } => self.caller_begins(at),
                Heard::Voice { .. } => {}
                Heard::Ended { begin, end } => self.caller_ends(begin, end),
            }
        }
    }

    fn caller_begins(&mut self, at: u64) {
        let utterance = self.ears.utterances;
        let at = at + self.ears.before_ms as u64;
        self.log(What::SpeechBegan {
            utterance,
            audio_ms: at,
        });
        let Some(turns) = self.session.turns() else {
            return;
        };
        let item = self.id("item");
        self.tell(json!({
            "type": "input_audio_buffer.speech_started",
            "audio_start_ms": at,
            "item_id": item,
        }));
        self.ears.item = Some(item);
        let generating = self.response.is_some() || !self.aftermath.is_empty();
        if !generating && self.ears.clock_ms() >= self.playing_until {
            return;
        }
        self.log(What::Interrupted {
            id: self.last.as_ref().map(|spoken| spoken.item_id.clone()),
            spurious: false,
        });
        self.playing_until = self.ears.clock_ms();
        // This one leaves it to the client (seen in the field).
        if turns.interrupts && self.world.dialect != Dialect::Xai {
            self.owed.clear();
            self.aftermath.clear();
            self.aftermath_until = None;
            self.cancel(Reason::TurnDetected);
        }
        if let Some(reply) = self.take_on(On::Interruption) {
            self.aftermath.extend(reply.steps);
        }
    }

    fn caller_ends(&mut self, begin: u64, end: u64) {
        let utterance = self.ears.utterances;
        self.ears.utterances += 1;
        let before = self.ears.before_ms as u64;
        self.log(What::SpeechEnded {
            utterance,
            begin_ms: begin + before,
            end_ms: end + before,
        });
        let Some(turns) = self.session.turns() else {
            return;
        };
        let item = match self.ears.item.take() {
            Some(item) => item,
            None => self.id("item"),
        };
        self.tell(json!({
            "type": "input_audio_buffer.speech_stopped",
            "audio_end_ms": end + before,
            "item_id": item,
        }));
        self.caller_turn(item, turns.creates);
    }

    /// Ends the turn in place of the server.
    pub(super) fn commit(&mut self, event_id: Option<&str>) {
        if self.ears.buffered_ms < LEAST_COMMIT {
            let message = format!(
                "Error committing input audio buffer: buffer too small, it has {:.2}ms of audio.",
                self.ears.buffered_ms
            );
            let failure = Failure::request("input_audio_buffer_commit_empty", message);
            return self.refuse(&failure, event_id);
        }
        let item = self.id("item");
        self.caller_turn(item, false);
    }

    /// The caller has spoken: an item of the conversation, and a response if there is to be one.
    fn caller_turn(&mut self, item: String, creates: bool) {
        self.ears.buffered_ms = 0.0;
        self.unanswered = true;
        let reply = self.take_on(On::Utterance);
        let text = match reply.as_ref().and_then(|reply| reply.heard.clone()) {
            Some(text) => text,
            None => format!("(utterance {})", self.ears.utterances.saturating_sub(1)),
        };
        let previous = self.items.last().map(|item| item.id.clone());
        self.tell(json!({
            "type": "input_audio_buffer.committed",
            "item_id": item,
            "previous_item_id": previous,
        }));
        let value = json!({
            "id": item,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{ "type": "input_audio", "transcript": null }],
        });
        self.announce(Item::of(value));
        self.said(&text);
        self.to_ask |= !creates;
        // A script without a reply has nothing to say, and then no response is begun.
        if let Some(reply) = reply
            && !reply.steps.is_empty()
        {
            match creates {
                true => self.owe(reply.steps),
                false => self.due.push_back(reply.steps),
            }
        }
        if self.session.transcribes() {
            self.write_down(&item, &text);
        }
    }

    /// The caller's words, from a model of their own: they come when the answer may have begun.
    fn write_down(&mut self, item: &str, text: &str) {
        const PREFIX: &str = "conversation.item.input_audio_transcription";
        let half = text.char_indices().nth(text.chars().count() / 2);
        let (first, second) = text.split_at(half.map_or(0, |(at, _)| at));
        if self.world.dialect == Dialect::Xai {
            for text in [first, text] {
                self.tell(json!({
                    "type": format!("{PREFIX}.updated"),
                    "item_id": item,
                    "content_index": 0,
                    "transcript": text,
                }));
            }
        } else {
            for part in [first, second] {
                self.tell(json!({
                    "type": format!("{PREFIX}.delta"),
                    "item_id": item,
                    "content_index": 0,
                    "delta": part,
                }));
            }
        }
        let mut completed = json!({
            "type": format!("{PREFIX}.completed"),
            "item_id": item,
            "content_index": 0,
            "transcript": text,
            "usage": {
                "type": "tokens",
                "total_tokens": 12,
                "input_tokens": 8,
                "input_token_details": { "text_tokens": 0, "audio_tokens": 8 },
                "output_tokens": 4,
            },
        });
        if self.world.dialect == Dialect::Xai {
            completed["status"] = "in_progress".into();
            self.tell(completed.clone());
            completed["status"] = "completed".into();
        }
        self.tell(completed);
        self.log(What::UserMessage {
            text: text.to_owned(),
            interim: false,
            from_text: false,
        });
    }
}
