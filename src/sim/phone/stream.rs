//! One Media Stream of a call: opened, announced, carried, announced again.

use tokio::time::{Duration, timeout};

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

use super::Fault;
use super::call::{Call, Left};
use super::journal::Event;
use super::leg::{Leg, Over, STALLED};
use super::twiml::Stream;
use super::upgrade::{NoSocket, open};
use super::webhook::{self, Params};
use super::wire::Writer;

/// How long a second socket is watched, by the wall clock.
const WATCHED: Duration = Duration::from_secs(2);

impl Call {
    /// Carries one stream to its end. `Err`: the call ended with it, or is led elsewhere.
    pub async fn stream(&mut self, noun: &Stream) -> Result<(), Left> {
        let stream_sid = webhook::sid("MZ");
        let mut socket = match Box::pin(open(&self.phone, &noun.url)).await {
            Ok(socket) => socket,
            Err(no) => {
                let error = match no {
                    NoSocket::Refused(status) => {
                        self.log(Event::UpgradeRefused { status });
                        format!("31920: the upgrade was answered with {status}")
                    }
                    NoSocket::Broken(what) => {
                        self.violation(what.clone());
                        what
                    }
                };
                self.stream_callback(noun, &stream_sid, "stream-error", Some(error));
                return Ok(());
            }
        };
        let mut writer = Writer::new(stream_sid.clone(), self.phone.has(Fault::BareNumbers));
        let mut opening = vec![Writer::connected()];
        let started = !self.phone.has(Fault::NeverStart);
        if started {
            opening.push(writer.start(&self.phone.account_sid, &self.call_sid, &noun.parameters));
        }
        for text in opening {
            // A failure shows up again, and is told, when the loop reads.
            let _ = socket.feed(Message::text(text)).await;
        }
        let _ = timeout(STALLED, socket.flush()).await;
        self.stream_sids.push(stream_sid.clone());
        self.script_runs = true;
        // Whoever comes back stays for as long as somebody who has just come.
        if self.idle_since.is_some() {
            self.idle_since = Some(self.clock.now());
        }
        let parameters = noun.parameters.clone();
        self.log(Event::StreamStarted {
            stream_sid: stream_sid.clone(),
            parameters,
        });
        self.stream_callback(noun, &stream_sid, "stream-started", None);
        if self.phone.has(Fault::SecondSocket) {
            // Otherwise it might be the first: who answers this has read the start before it.
            let _ = socket.send(Message::Ping(Vec::new().into())).await;
            let answered = async {
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_pong() {
                        break;
                    }
                }
            };
            let _ = timeout(WATCHED, answered).await;
            self.second_socket(noun);
        }

        let over = Leg::new(self, socket, writer, started).run().await;
        self.stream_callback(noun, &stream_sid, "stream-stopped", None);
        match over {
            Over::Stream => Ok(()),
            Over::Call(left) => Err(left),
        }
    }

    fn stream_callback(
        &mut self,
        noun: &Stream,
        stream_sid: &str,
        event: &str,
        error: Option<String>,
    ) {
        let Some(request) = noun.status_callback.clone() else {
            return;
        };
        let fields = [
            ("AccountSid", self.phone.account_sid.clone()),
            ("CallSid", self.call_sid.clone()),
            ("StreamSid", stream_sid.to_owned()),
            (
                "StreamName",
                noun.name.clone().unwrap_or_else(|| stream_sid.to_owned()),
            ),
            ("StreamEvent", event.to_owned()),
            ("Timestamp", format!("{:.9}", jiff::Timestamp::now())),
        ];
        let mut params: Params = fields.map(|(name, value)| (name.to_owned(), value)).into();
        params.extend(error.map(|error| ("StreamError".to_owned(), error)));
        self.callback(event, request, params);
    }

    /// Opens a second socket for the call and tells what the bridge makes of it.
    fn second_socket(&mut self, noun: &Stream) {
        let (phone, journal, clock) = (self.phone.clone(), self.journal.clone(), self.clock);
        let (call_sid, noun) = (self.call_sid.clone(), noun.clone());
        self.background.spawn(async move {
            let outcome = match open(&phone, &noun.url).await {
                Err(NoSocket::Refused(status)) => format!("refused with {status}"),
                Err(NoSocket::Broken(what)) => what,
                Ok(mut socket) => {
                    let mut writer = Writer::new(webhook::sid("MZ"), false);
                    let start = writer.start(&phone.account_sid, &call_sid, &noun.parameters);
                    let _ = socket.feed(Message::text(Writer::connected())).await;
                    let _ = socket.send(Message::text(start)).await;
                    match timeout(WATCHED, socket.next()).await {
                        Err(_) => "open and silent after 2 s".to_owned(),
                        Ok(Some(Ok(Message::Close(frame)))) => {
                            format!("closed with {:?}", frame.map(|frame| u16::from(frame.code)))
                        }
                        Ok(Some(Ok(_))) => "spoken to".to_owned(),
                        Ok(Some(Err(_)) | None) => "cut".to_owned(),
                    }
                }
            };
            journal.write(clock.now(), Event::SecondSocket { outcome });
        });
    }
}
