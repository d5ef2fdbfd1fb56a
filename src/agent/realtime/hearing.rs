//! The caller, as the server hears them: that they speak, that they have spoken, their words; and what the
//! server is told of what they have heard.
//!
//! A server on a WebSocket does not know what was played (OpenAI docs). So each utterance that was cut is
//! truncated to what was heard, or deleted if nothing was; and its response is ended, unless the server does
//! that by itself.

use super::{
    codec::{Codec, Send, Tell},
    messages,
    responses::Purpose,
};
use crate::{
    agent::{Event, Role, SegmentId},
    config::realtime::{Truncate, UserTranscript},
};

impl Codec {
    pub(super) fn heard(&mut self, segment: SegmentId, heard_ms: u64, send: Send<'_, '_>) {
        (self.cut_off, self.owes) = (false, false);
        let item = self.items.cut(segment, heard_ms);
        let cut = item.and_then(|item| {
            if item.told {
                self.recap
                    .words(Role::Agent, u64::from(segment.0), item.heard());
            }
            let (heard, received) = item.cut?;
            Some((
                item.id.clone(),
                item.content,
                item.response,
                heard,
                received,
            ))
        });
        if self.items.sounding_but(None).is_empty() {
            self.line.down.drop();
        }
        let Some((id, content, response, heard, received)) = cut else {
            return;
        };
        let server_cuts = self.line.server_cuts;
        if let Some(active) = &mut self.line.responses.active
            && active.serial == response
            && !std::mem::replace(&mut active.discarded, true)
            && !server_cuts
            && !std::mem::replace(&mut active.cancelling, true)
        {
            let id = active.id.clone();
            let event = self.event_id("cut");
            send(messages::cancel(&event, id.as_deref()));
        }
        // One that was heard to its end needs none, and is said again if it gets one (seen in the field).
        let Some(id) = id.filter(|_| heard < received) else {
            return;
        };
        let alone = self.items.of_item(&id).len() == 1;
        let event = self.event_id("cut");
        match self.settings.server.config.truncate {
            Truncate::Off => {}
            Truncate::Delete if heard == 0 && alone => send(messages::delete(&event, &id)),
            Truncate::Delete | Truncate::Keep if heard == 0 => {}
            Truncate::Delete | Truncate::Keep => {
                send(messages::truncate(&event, &id, content, heard));
            }
        }
    }

    pub(super) fn caller_speaks(
        &mut self,
        id: Option<&str>,
        tell: Tell<'_, '_>,
        send: Send<'_, '_>,
    ) {
        let interrupts = self.settings.server.interrupts;
        self.line.server_cuts = interrupts;
        self.items.interrupted();
        self.line.responses.caller_speaks();
        self.line.caller.speaks(id);
        tell(Event::CallerSpeaks);
        // Of an answer that nothing has been heard of the host knows nothing, and cuts nothing; what we asked
        // for is not the caller's affair, and a noise must not cost them the greeting.
        let active = self.line.responses.active.as_ref();
        if !interrupts && active.is_some_and(|a| !a.audio && a.is_the_servers()) {
            self.cancel(send);
        }
    }

    /// Ends what the server has under way.
    pub(super) fn cancel(&mut self, send: Send<'_, '_>) {
        let Some(active) = &mut self.line.responses.active else {
            return;
        };
        active.discarded = true;
        if !std::mem::replace(&mut active.cancelling, true) {
            let id = active.id.clone();
            let event = self.event_id("cut");
            send(messages::cancel(&event, id.as_deref()));
        }
    }

    /// The caller has finished. `began`: the answer has begun already.
    pub(super) fn caller_spoke(&mut self, key: u64, began: bool, tell: Tell<'_, '_>) {
        let server = &self.settings.server;
        self.recap.begun(Role::Caller, key);
        self.line.spoke = false;
        self.line.error = None;
        (self.cut_off, self.owes) = (false, false);
        let answers = server.answers && !self.line.paused;
        if !began {
            self.line.responses.caller_spoke(answers);
        }
        if self.line.paused {
            self.line.unanswered = true;
        } else if !answers {
            self.line.responses.want(Purpose::Go { follow: false });
        }
        tell(Event::CallerSpoke);
    }

    pub(super) fn caller_words(
        &mut self,
        item: Option<&str>,
        text: &str,
        manner: Option<UserTranscript>,
        tell: Tell<'_, '_>,
    ) {
        let words = match manner {
            Some(manner) => self.line.caller.interim(item, text, manner),
            None => self.line.caller.words(item, text),
        };
        let (key, news, interim) = (words.key, words.news, manner.is_some());
        if !words.text.trim().is_empty() {
            if !interim {
                self.recap.words(Role::Caller, key, words.text);
            }
            self.line.error = None;
            let (text, replace) = (words.text, words.replace);
            tell(Event::Transcript {
                role: Role::Caller,
                text,
                interim,
                replace,
            });
        }
        if news {
            self.caller_spoke(key, false, tell);
        }
    }
}
