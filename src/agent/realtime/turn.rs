//! The agent's turns: what it says, the tools it calls, and what is done about a response that came to
//! nothing. A failed response never means silence.

use super::{
    calls::Answered,
    codec::{Codec, Handled, Send, Tell, id},
    errors::{self, Meaning, harmless, meaning},
    messages::{Envelope, Failure, Item, Nested, Response},
    responses::{Belongs, Purpose, Want},
};
use crate::{
    agent::{Closed, Event, Ignored, Role, SegmentId},
    config::realtime::ToolTrigger,
};

/// So often a response that came to nothing is asked for again, the last time with words to that end.
const RETRIES: u8 = 2;

/// A content index that is none counts as the first.
fn content(envelope: &Envelope<'_>) -> u32 {
    envelope.content_index.0.map_or(0, |index| index as u32)
}

impl Codec {
    /// Where this belongs; a new utterance ends those before it.
    fn place(&mut self, envelope: &Envelope<'_>, response: u32) -> (SegmentId, bool) {
        let placed = self
            .items
            .place(id(envelope.item_id.get()), content(envelope), response);
        if placed.1 {
            self.recap.begun(Role::Agent, u64::from(placed.0.0));
        }
        placed
    }

    fn belongs(&mut self, envelope: &Envelope<'_>) -> Belongs {
        let response = id(envelope.response_id.get());
        self.line.responses.stirs(response)
    }

    pub(super) fn audio(&mut self, envelope: &Envelope<'_>, tell: Tell<'_, '_>) -> Handled {
        let data = envelope.delta.get().or(envelope.audio.get());
        let data = data.ok_or(Ignored::Malformed)?;
        let Belongs::To(response) = self.belongs(envelope) else {
            return Err(Ignored::Stale);
        };
        let (segment, _) = self.place(envelope, response);
        for other in self.items.sounding_but(Some(segment)) {
            if other < segment {
                self.end_segment(other, tell);
            }
        }
        if self.items.is_stale(segment) {
            return Err(Ignored::Stale);
        }
        let played = self.line.down.take(data, |mulaw| {
            tell(Event::Audio { segment, mulaw });
            mulaw.len()
        })?;
        if played > 0 {
            if let Some(item) = self.items.get(segment) {
                item.sounded += played as u64;
            }
            if let Some(active) = &mut self.line.responses.active
                && active.serial == response
            {
                active.audio = true;
            }
            (self.sounded, self.cut_off) = (true, false);
            self.line.spoke = true;
            self.line.failures = 0;
            self.line.error = None;
        }
        Ok(())
    }

    pub(super) fn audio_done(&mut self, envelope: &Envelope<'_>, tell: Tell<'_, '_>) {
        if let Belongs::To(_) = self.belongs(envelope)
            && let Some(id) = id(envelope.item_id.get())
            && let Some(item) = self.items.find(id, content(envelope))
        {
            let segment = item.segment;
            self.end_segment(segment, tell);
        }
    }

    /// No more audio comes of it, if any did.
    fn end_segment(&mut self, segment: SegmentId, tell: Tell<'_, '_>) {
        let Some(item) = self.items.get(segment) else {
            return;
        };
        if item.sounded == 0 || std::mem::replace(&mut item.ended, true) {
            return;
        }
        item.sounded += self.line.down.end(|mulaw| {
            tell(Event::Audio { segment, mulaw });
            mulaw.len() as u64
        });
        tell(Event::SegmentEnd { segment });
    }

    /// More of an utterance's words. `spoken`: its transcript; otherwise written text, which stands for
    /// the words only as long as there is no transcript.
    pub(super) fn some_words(&mut self, envelope: &Envelope<'_>, spoken: bool) -> Handled {
        let words = envelope.delta.get().ok_or(Ignored::Malformed)?;
        if let Some(segment) = self.utterance(envelope)
            && let Some(item) = self.items.get(segment)
        {
            if spoken && !std::mem::replace(&mut item.spoken, true) {
                item.all("");
            }
            if item.spoken == spoken && !item.told {
                item.more(words);
            }
        }
        Ok(())
    }

    /// Its words are complete.
    pub(super) fn all_words(&mut self, envelope: &Envelope<'_>, spoken: bool, tell: Tell<'_, '_>) {
        let words = envelope.transcript.get().or(envelope.text.get());
        if let Some(segment) = self.utterance(envelope)
            && let Some(item) = self.items.get(segment)
        {
            item.spoken |= spoken;
            if item.spoken != spoken || item.told {
                return;
            }
            if let Some(words) = words {
                item.all(words);
            }
            // What was written and is not heard was perhaps never spoken: the response's end tells.
            if spoken || item.sounded > 0 {
                self.tell_words(segment, tell);
            }
        }
    }

    /// The utterance that words belong to. To one that was cut they come all the same, for what was
    /// heard of it has words.
    fn utterance(&mut self, envelope: &Envelope<'_>) -> Option<SegmentId> {
        match self.belongs(envelope) {
            Belongs::To(response) => Some(self.place(envelope, response).0),
            Belongs::Stale => {
                let id = id(envelope.item_id.get())?;
                let item = self.items.find(id, content(envelope))?;
                Some(item.segment)
            }
        }
    }

    fn tell_words(&mut self, segment: SegmentId, tell: Tell<'_, '_>) {
        let Some(item) = self.items.get(segment) else {
            return;
        };
        item.told = true;
        let text = item.heard();
        self.recap.words(Role::Agent, u64::from(segment.0), text);
        if !text.trim().is_empty() {
            self.line.error = None;
            tell(Event::Transcript {
                role: Role::Agent,
                text,
                interim: false,
                replace: false,
            });
        }
    }

    pub(super) fn response_created(
        &mut self,
        id: Option<&str>,
        tell: Tell<'_, '_>,
        send: Send<'_, '_>,
    ) {
        let by_itself = self.line.responses.created(id);
        if by_itself && let Some(key) = self.line.caller.answered() {
            self.caller_spoke(key, true, tell);
        }
        if self.line.paused {
            self.hush(send);
        }
    }

    /// A paused agent says nothing: what it is about to say is ended. Of what has begun to be heard the rest
    /// is in the caller's ear already; what we have asked for and not seen yet is ended when it is seen.
    pub(super) fn hush(&mut self, send: Send<'_, '_>) {
        let active = self.line.responses.active.as_ref();
        if let Some(active) = active.filter(|active| active.is_silent()) {
            self.line.unanswered |= active.is_an_answer();
            self.cancel(send);
        }
    }

    pub(super) fn item_added(&mut self, envelope: &Envelope<'_>, nested: &Nested<'_>) -> Handled {
        let item = nested.item.0.as_ref().ok_or(Ignored::Malformed)?;
        self.belongs(envelope);
        if let Some(name) = id(item.name.get()) {
            for known in [id(item.id.get()), id(item.call_id.get())]
                .into_iter()
                .flatten()
            {
                self.line.calls.named(known, name);
            }
        }
        Ok(())
    }

    pub(super) fn item_done(
        &mut self,
        envelope: &Envelope<'_>,
        nested: &Nested<'_>,
        tell: Tell<'_, '_>,
    ) -> Handled {
        let item = nested.item.0.as_ref().ok_or(Ignored::Malformed)?;
        let Belongs::To(response) = self.belongs(envelope) else {
            return Ok(());
        };
        if item.kind.get() == Some("function_call") {
            // Of a response that was cut the arguments may be a fragment.
            if item.status.get().is_none_or(|status| status == "completed") {
                self.call(item, response, tell);
            }
        } else if let Some(id) = id(item.id.get()) {
            for segment in self.items.of_item(id) {
                self.end_segment(segment, tell);
            }
        }
        Ok(())
    }

    pub(super) fn arguments_done(
        &mut self,
        envelope: &Envelope<'_>,
        tell: Tell<'_, '_>,
    ) -> Handled {
        let Belongs::To(response) = self.belongs(envelope) else {
            return Ok(());
        };
        if self.settings.server.config.tool_trigger != ToolTrigger::Arguments {
            return Ok(());
        }
        let known = [&envelope.call_id, &envelope.item_id];
        let known = known.map(|loose| id(loose.get()));
        let calls = &self.line.calls;
        let earlier = known.into_iter().flatten().find_map(|id| calls.name(id));
        let name = id(envelope.name.get())
            .or(earlier)
            .ok_or(Ignored::Malformed)?
            .to_owned();
        let call_id = known[0].ok_or(Ignored::Malformed)?;
        self.call_of(call_id, &name, envelope.arguments.get(), response, tell);
        Ok(())
    }

    fn call(&mut self, item: &Item<'_>, response: u32, tell: Tell<'_, '_>) {
        if let (Some(call_id), Some(name)) = (id(item.call_id.get()), id(item.name.get())) {
            self.call_of(call_id, name, item.arguments.get(), response, tell);
        }
    }

    fn call_of(
        &mut self,
        call_id: &str,
        name: &str,
        arguments: Option<&str>,
        response: u32,
        tell: Tell<'_, '_>,
    ) {
        if self.line.calls.open(call_id, response) {
            self.line.failures = 0;
            tell(Event::ToolCall {
                call_id,
                name,
                arguments: match arguments {
                    None | Some("") => "{}",
                    Some(arguments) => arguments,
                },
                expects_reply: true,
            });
        }
    }

    pub(super) fn response_done(&mut self, response: &Response<'_>, tell: Tell<'_, '_>) {
        let vendor = id(response.id.get());
        let status = response.status.get().unwrap_or("completed");
        let done = self.line.responses.done(vendor);
        let (serial, cut) = match &done {
            Some(active) => (active.serial, active.discarded || status == "cancelled"),
            // Another one's place was taken before it was done.
            None => match self.line.responses.stirs(vendor) {
                Belongs::To(serial) => (serial, status == "cancelled"),
                Belongs::Stale => return,
            },
        };
        for segment in self.items.of_response(serial) {
            self.end_segment(segment, tell);
            let item = self.items.get(segment);
            if item.is_some_and(|item| !item.told && item.sounded > 0 && item.has_words()) {
                self.tell_words(segment, tell);
            }
        }
        if status == "completed" && !cut {
            let calls = response.output.0.iter();
            for item in calls.filter(|item| item.kind.get() == Some("function_call")) {
                if item.status.get().is_none_or(|status| status == "completed") {
                    self.call(item, serial, tell);
                }
            }
        }
        if cut {
            self.line.calls.cancelled(serial);
            return if done.is_some() {
                tell(Event::TurnDone);
            };
        }
        let over = match self.line.calls.done(serial) {
            // Its calls are still being answered.
            Some(None) => return,
            Some(Some(answered)) => self.answered(answered),
            None => true,
        };
        let Some(active) = done else { return };
        let details = response.status_details.0.as_ref();
        let failure = details.and_then(|details| details.error.0.as_ref());
        let text = |loose: Option<&str>| loose.unwrap_or_default().to_owned();
        let code = failure.map(|f| (text(f.code.get()), text(f.kind.get())));
        let (code, kind) = code.unwrap_or_default();
        if over && !active.audio && !self.line.calls.made(serial) {
            return self.came_to_nothing(active.want, (&code, &kind), tell);
        }
        if status == "failed" {
            let code = &*harmless(&code, &kind);
            tell(Event::Error { code, ends: None });
        }
        if over && !self.line.responses.turn_goes_on() {
            tell(Event::TurnDone);
        }
    }

    /// All calls of a response are answered. True if the turn ends here.
    pub(super) fn answered(&mut self, answered: Answered) -> bool {
        if answered.cut {
            self.line.responses.want(Purpose::Go { follow: false });
            return false;
        }
        match answered.ending {
            // Its last sentence has been said.
            Some(_) if self.line.spoke => return true,
            Some(text) => self.line.responses.want(Purpose::Goodbye(text)),
            None => self.line.responses.want(Purpose::Go { follow: true }),
        }
        false
    }

    /// Nothing can be heard of a response: it failed, wrote its answer, or is empty. It is asked for
    /// again, and if that has no sense the host learns that this agent is of no use.
    pub(super) fn came_to_nothing(
        &mut self,
        want: Option<Want>,
        (code, kind): (&str, &str),
        tell: Tell<'_, '_>,
    ) {
        if self.line.paused {
            return tell(Event::TurnDone);
        }
        let hopeless = errors::hopeless(code, kind);
        let words = matches!(
            want,
            Some(Want {
                purpose: Purpose::Say(_) | Purpose::Force(_),
                ..
            })
        );
        if hopeless.is_none() && self.line.failures < RETRIES {
            self.line.failures += 1;
            let purpose = want.map_or(Purpose::Go { follow: true }, |want| want.purpose);
            let failed = self.line.failures;
            return self.line.responses.retry(Want::again(purpose, failed));
        }
        if words && hopeless.is_none() {
            // Words that the server will not say are no reason to lose an agent that answers its caller.
            let code = &*harmless(code, kind);
            tell(Event::Error { code, ends: None });
            self.line.failures = 0;
            return tell(Event::TurnDone);
        }
        let ends = hopeless.unwrap_or(Closed::Lost);
        self.line.error = Some(ends);
        let code = match (code, kind) {
            ("", "") => "response_without_audio".into(),
            _ => harmless(code, kind),
        };
        tell(Event::Error {
            code: &code,
            ends: Some(ends),
        });
    }

    /// The response under way has failed, of which the server says no more.
    fn fails(&mut self, code: &str, kind: &str, tell: Tell<'_, '_>) {
        let active = self.line.responses.active.as_ref();
        let id = active.and_then(|active| active.id.clone());
        let Some(active) = self.line.responses.done(id.as_deref()) else {
            return;
        };
        for segment in self.items.of_response(active.serial) {
            self.end_segment(segment, tell);
        }
        if active.discarded {
            return tell(Event::TurnDone);
        }
        if !active.audio {
            return self.came_to_nothing(active.want, (code, kind), tell);
        }
        let code = &*harmless(code, kind);
        tell(Event::Error { code, ends: None });
        tell(Event::TurnDone);
    }

    pub(super) fn error(&mut self, failure: &Failure<'_>, tell: Tell<'_, '_>) {
        let text = |loose: Option<&str>| loose.unwrap_or_default().to_owned();
        let (code, kind) = (text(failure.code.get()), text(failure.kind.get()));
        let event = failure.event_id.get();
        let of = |what: &str| event.is_some_and(|event| event.starts_with(what));
        let meaning = meaning(&code, &kind, failure.message.get().unwrap_or_default());
        let ends = match meaning {
            Meaning::Ends(closed) => Some(closed),
            Meaning::Benign | Meaning::Other if of("cut-") => None,
            Meaning::Benign => None,
            Meaning::Idle => {
                // It was done already, and its end was never told.
                if self.line.responses.nothing_to_cancel().is_some() {
                    tell(Event::TurnDone);
                }
                None
            }
            Meaning::Busy => {
                let responses = &mut self.line.responses;
                match responses.refused(event, true) {
                    Some(want) => responses.retry(want),
                    // The server's own answer to the caller came in the way of ours, and will not come again.
                    None if event.is_none() && responses.speaks_for_us() => {
                        responses.want(Purpose::Go { follow: false });
                    }
                    None => {}
                }
                None
            }
            Meaning::Fails if self.line.responses.active.is_some() => {
                return self.fails(&code, &kind, tell);
            }
            Meaning::Other | Meaning::Fails => {
                if let Some(want) = event.and_then(|e| self.line.responses.refused(Some(e), false))
                {
                    return self.came_to_nothing(Some(want), (&code, &kind), tell);
                }
                // The same settings would be refused again; and whoever waits for an answer from a server
                // that is in trouble is better served by another.
                match () {
                    () if !self.line.ready
                        && (of("session-") || code == "session_update_error") =>
                    {
                        Some(Closed::Rejected)
                    }
                    () if kind == "server_error" && !self.line.spoke => Some(Closed::Lost),
                    () => None,
                }
            }
        };
        let told = match meaning {
            Meaning::Benign | Meaning::Idle | Meaning::Busy => false,
            Meaning::Other | Meaning::Fails => !of("cut-"),
            Meaning::Ends(_) => true,
        };
        if told {
            self.line.error = ends.or(self.line.error);
            let code = &*harmless(&code, &kind);
            tell(Event::Error { code, ends });
        }
    }
}
