//! The agent's voice: an item being said, in the bursts and the odd lengths in which the real server
//! sends it.

use serde_json::{Value, json};

use super::{Dialect, chat::Chat, front::LINEAR_RATE, items::Speech, session::Format};
use crate::sim::evi::{
    Say, What,
    chat::Next,
    voice::{Pcm, Renderer},
};

/// Of a response for which the script has no words.
const BREATH_MS: usize = 20;

/// An item being said, or said last.
#[derive(Clone)]
pub(super) struct Spoken {
    pub item_id: String,
    response_id: String,
    output_index: usize,
    say: Say,
    words: String,
    audio: Pcm,
    format: Format,
    sent: usize,
    index: usize,
    began: f64,
}

impl Spoken {
    fn ms(&self, octets: usize) -> f64 {
        octets as f64 * 1000.0 / self.format.octets() as f64
    }

    /// When the next delta may go out.
    fn due(&self) -> f64 {
        if self.say.realtime_factor > 0.0 {
            self.began + self.ms(self.sent) / self.say.realtime_factor
        } else {
            self.began
        }
    }

    /// The next delta ends here. Lengths are the script's, and mostly some octets more: no client may
    /// count on frames, nor on whole samples.
    fn end(&self) -> usize {
        let lengths = &self.say.message_ms;
        let ms = match lengths.get(self.index) {
            Some(ms) => *ms,
            None if lengths.len() == 1 => lengths[0],
            None => lengths[1 + (self.index - 1) % (lengths.len() - 1)],
        };
        let octets = u64::from(ms) * self.format.octets() / 1000 + [0, 3, 1][self.index % 3];
        (self.sent + (octets as usize).max(1)).min(self.audio.len())
    }

    fn delta(&self, from: usize, to: usize) -> Value {
        json!({
            "type": "response.output_audio.delta",
            "response_id": self.response_id,
            "item_id": self.item_id,
            "output_index": self.output_index,
            "content_index": 0,
            "delta": base64_simd::STANDARD.encode_to_string(&self.audio[from..to]),
        })
    }

    fn item(&self, status: &str) -> Value {
        json!({
            "id": self.item_id,
            "object": "realtime.item",
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [{ "type": "output_audio", "transcript": self.words }],
        })
    }

    /// An event about this item's only content.
    fn event(&self, kind: &str, more: Value) -> Value {
        let mut event = json!({
            "type": kind,
            "response_id": self.response_id,
            "item_id": self.item_id,
            "output_index": self.output_index,
            "content_index": 0,
        });
        if let Value::Object(more) = more {
            for (key, value) in more {
                event[key] = value;
            }
        }
        event
    }
}

impl Chat {
    pub(super) fn say(&mut self, say: Say, now: f64) {
        let format = self.voice_format();
        let renderer = &self.world.shared.renderer;
        // A voice for the words of a clip is the clip's.
        let name = match say.clip.is_empty() {
            true => say.text.clone().unwrap_or_default(),
            false => say.clip.clone(),
        };
        let (audio, known): (Pcm, Option<&str>) = match format {
            Format::Pcm(rate) => match renderer.clip(&name, rate) {
                Some((pcm, words)) => (pcm, Some(words)),
                None => (Renderer::tone_for(&name, rate), None),
            },
            _ => match renderer.stored(&name) {
                Some((octets, words)) => (octets.into(), Some(words)),
                None => (Renderer::stored_tone(&name).into(), None),
            },
        };
        let words = say.text.clone().or(known.map(str::to_owned));
        self.utter(say, words.unwrap_or_default(), audio, format, now);
    }

    /// A model that is asked for a response never has none. Where the script has no words for it, it is
    /// a moment of silence.
    pub(super) fn breathe(&mut self, now: f64) {
        let format = self.voice_format();
        let octets = format.octets() as usize * BREATH_MS / 1000;
        let silence = match format {
            Format::Pcm(_) => 0,
            _ => 0xff,
        };
        let audio = vec![silence; octets].into();
        self.utter(Say::clip(""), String::new(), audio, format, now);
    }

    fn voice_format(&self) -> Format {
        match (self.world.dialect, self.session.format_out()) {
            (Dialect::Plain, Format::Pcmu | Format::Pcma) => Format::Pcm(LINEAR_RATE),
            (_, format) => format,
        }
    }

    fn utter(&mut self, say: Say, words: String, audio: Pcm, format: Format, now: f64) {
        let item_id = self.id("item");
        let (response_id, output_index) = self.open_item(json!({
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }));
        if let Some(item) = self.item(&item_id) {
            item.speech = Some(Speech {
                clip: say.clip.clone(),
                sent: 0,
                octets: format.octets(),
                over: false,
                kept_ms: None,
            });
        }
        self.log(What::Saying {
            id: item_id.clone(),
            clip: say.clip.clone(),
        });
        let spoken = Spoken {
            item_id,
            response_id,
            output_index,
            say,
            words,
            audio,
            format,
            sent: 0,
            index: 0,
            began: now,
        };
        self.tell(spoken.event(
            "response.content_part.added",
            json!({ "part": { "type": "audio", "transcript": "" } }),
        ));
        // The words run ahead of the voice.
        let half = spoken
            .words
            .char_indices()
            .nth(spoken.words.chars().count() / 2);
        let (first, second) = spoken.words.split_at(half.map_or(0, |(at, _)| at));
        for part in [first, second] {
            let delta = json!({ "delta": part });
            self.tell(spoken.event("response.output_audio_transcript.delta", delta));
        }
        self.spoken = true;
        if !spoken.words.is_empty() {
            self.said(&spoken.words);
        }
        if let Some(response) = &mut self.response {
            response.words += spoken.words.split_whitespace().count() as u64;
            response.saying = Some(spoken);
        }
    }

    /// The next delta of the item. `None`: it was the last.
    pub(super) fn speak(&mut self, mut spoken: Spoken, now: f64) -> Option<Next> {
        let (from, to) = (spoken.sent, spoken.end());
        if from == to {
            self.log(What::Said {
                id: spoken.item_id.clone(),
                clip: spoken.say.clip.clone(),
                messages: spoken.index as u64,
                duration_ms: spoken.ms(spoken.sent),
            });
            self.hush(spoken, "completed");
            return None;
        }
        let due = spoken.due();
        let next = if now < due {
            Some(Next::Until(due))
        } else {
            spoken.sent = to;
            spoken.index += 1;
            let ms = spoken.ms(to - from);
            self.playing_until = self.playing_until.max(self.ears.clock_ms()) + ms;
            if let Some(item) = self.item(&spoken.item_id)
                && let Some(speech) = &mut item.speech
            {
                speech.sent = to as u64;
            }
            self.compose(spoken.delta(from, to)).map(Next::Send)
        };
        if let Some(response) = &mut self.response {
            if next
                .as_ref()
                .is_some_and(|next| matches!(next, Next::Send(_)))
            {
                response.octets += (to - from) as u64;
            }
            self.last = Some(spoken.clone());
            response.saying = Some(spoken);
        }
        next
    }

    /// Ends the item: all of it was sent, or no more will be.
    pub(super) fn hush(&mut self, spoken: Spoken, status: &str) {
        let words = json!({ "transcript": spoken.words });
        let part = json!({ "part": { "type": "audio", "transcript": spoken.words } });
        self.tell(spoken.event("response.output_audio.done", json!({})));
        self.tell(spoken.event("response.output_audio_transcript.done", words));
        self.tell(spoken.event("response.content_part.done", part));
        if let Some(item) = self.item(&spoken.item_id)
            && let Some(speech) = &mut item.speech
        {
            speech.over = true;
        }
        self.close_item(spoken.item(status));
        self.last = Some(spoken);
    }

    /// An answer in writing, as models were seen to give when they have read a conversation instead of
    /// having heard it.
    pub(super) fn write(&mut self, words: &str) {
        let id = self.id("item");
        let item = |status: &str, content: Value| {
            json!({
                "id": id,
                "object": "realtime.item",
                "type": "message",
                "status": status,
                "role": "assistant",
                "content": content,
            })
        };
        let (response_id, output_index) = self.open_item(item("in_progress", json!([])));
        for (kind, field, value) in [
            (
                "response.content_part.added",
                "part",
                json!({ "type": "text", "text": "" }),
            ),
            ("response.output_text.delta", "delta", words.into()),
            ("response.output_text.done", "text", words.into()),
            (
                "response.content_part.done",
                "part",
                json!({ "type": "text", "text": words }),
            ),
        ] {
            let mut event = json!({
                "type": kind,
                "response_id": response_id,
                "item_id": id,
                "output_index": output_index,
                "content_index": 0,
            });
            event[field] = value;
            self.tell(event);
        }
        self.close_item(item(
            "completed",
            json!([{ "type": "output_text", "text": words }]),
        ));
    }

    /// Two more deltas of the item that was cut, or of the last one's beginning.
    pub(super) fn stale_audio(&mut self) {
        let Some(spoken) = self.last.clone() else {
            return;
        };
        let length = spoken.format.octets() as usize / 10;
        let from = match spoken.sent + 2 * length <= spoken.audio.len() {
            true => spoken.sent,
            false => 0,
        };
        for start in [from, from + length] {
            let end = (start + length).min(spoken.audio.len());
            self.tell(spoken.delta(start.min(end), end));
        }
    }
}
