//! The far side of a stream: what the bridge sends, what is written to it, and how the socket ends.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::call::Left;
use super::journal::{Echo, Event, Party};
use super::leg::{Leg, Over, STALLED};
use super::wire::{self, Inbound};

/// How long the closing handshake may take, by the wall clock.
const CLOSING: Duration = Duration::from_secs(5);

impl Leg<'_> {
    pub(super) async fn feed(&mut self, message: Message) -> Result<(), Over> {
        let fed = timeout(STALLED, self.socket.feed(message)).await;
        self.written(fed).await
    }

    pub(super) async fn flush(&mut self) -> Result<(), Over> {
        let flushed = timeout(STALLED, self.socket.flush()).await;
        self.written(flushed).await
    }

    pub(super) async fn written(
        &mut self,
        result: Result<Result<(), WsError>, tokio::time::error::Elapsed>,
    ) -> Result<(), Over> {
        match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => {
                // The bridge may have closed in good order before; its last words are still to be read.
                let last = timeout(CLOSING, async {
                    loop {
                        match self.socket.next().await {
                            Some(Ok(Message::Close(frame))) => return Some(frame),
                            Some(Ok(_)) => {}
                            Some(Err(_)) | None => return None,
                        }
                    }
                });
                let last = last.await.ok().flatten();
                Err(self.closed_by_bridge(last, "writing failed").await)
            }
            Err(_) => {
                self.call
                    .violation("31930: the bridge took no frame for 5 s");
                self.closed(Party::Phone, None, "the bridge does not read");
                Err(Over::Stream)
            }
        }
    }

    pub(super) async fn receive(
        &mut self,
        message: Option<Result<Message, WsError>>,
    ) -> Result<(), Over> {
        match message {
            Some(Ok(Message::Text(text))) => {
                let received = std::time::Instant::now();
                if !self.started {
                    self.call.violation(format!(
                        "31951: sent before start: {}",
                        wire::excerpt(&text)
                    ));
                    return Ok(());
                }
                match wire::read(&text, self.writer.stream_sid()) {
                    Ok(inbound) => self.take(inbound, received).await?,
                    Err(what) => self.call.violation(what),
                }
                self.flush().await
            }
            Some(Ok(Message::Binary(bytes))) => {
                self.call
                    .violation(format!("31950: a binary message of {} bytes", bytes.len()));
                Ok(())
            }
            // Answered by tungstenite at the next flush.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(()),
            Some(Ok(Message::Close(frame))) => Err(self.closed_by_bridge(Some(frame), "").await),
            Some(Err(error)) => Err(self.closed_by_bridge(None, &error.to_string()).await),
            None => Err(self.closed_by_bridge(None, "the connection ended").await),
        }
    }

    pub(super) async fn take(
        &mut self,
        inbound: Inbound,
        received: std::time::Instant,
    ) -> Result<(), Over> {
        let now = self.call.clock.now();
        match inbound {
            Inbound::Media(audio) => {
                if let Some(probe) = &mut self.call.probe {
                    probe.media(&audio, received);
                }
                let lost = self.playout.push(&audio);
                let queued = self.playout.queued();
                self.call.journal.write(
                    now,
                    Event::AudioReceived {
                        bytes: audio.len(),
                        queued,
                    },
                );
                if lost > 0 && !self.overflowed {
                    self.overflowed = true; // once a stream, as Twilio
                    self.call
                        .violation("31931: more than ten minutes of audio are queued");
                }
            }
            Inbound::Mark(name) => {
                let queued = self.playout.queued();
                self.call.journal.write(
                    now,
                    Event::MarkReceived {
                        name: name.clone(),
                        queued,
                    },
                );
                if !self.playout.mark(name) {
                    self.call
                        .violation("more marks are pending than anybody needs");
                }
                self.echo_due(now).await?;
            }
            Inbound::Clear => {
                let flushed = self.playout.clear();
                self.cleared_at = Some(now);
                // The next that is heard is something else.
                self.speaking_since = None;
                let marks = flushed.marks.len();
                self.call.journal.write(
                    now,
                    Event::ClearReceived {
                        flushed: flushed.bytes,
                        marks,
                    },
                );
                for name in flushed.marks {
                    self.echo(now, name, Echo::Flushed).await?;
                }
            }
        }
        Ok(())
    }

    /// The phone's own end of the stream: `stop`, a close, and the bridge's answer to it.
    pub(super) async fn leave(&mut self, why: impl Into<Left>) -> Over {
        if self.started {
            let stop = self
                .writer
                .stop(&self.call.phone.account_sid, &self.call.call_sid);
            self.call.log(Event::StopSent);
            let _ = timeout(STALLED, self.socket.send(Message::text(stop))).await;
        }
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let answered = timeout(CLOSING, async {
            let _ = self.socket.close(Some(frame)).await;
            // Whatever is still in flight cannot know of the end.
            let mut answer = false;
            while let Some(Ok(message)) = self.socket.next().await {
                answer |= message.is_close();
            }
            answer
        });
        let reason = match answered.await {
            Ok(true) => "",
            Ok(false) => "the bridge left without answering the close",
            Err(_) => "the bridge did not close its side within 5 s",
        };
        if !reason.is_empty() {
            self.call.violation(reason);
        }
        self.closed(Party::Phone, Some(1000), reason);
        Over::Call(why.into())
    }

    /// `None` in place of a close frame: the connection broke.
    pub(super) async fn closed_by_bridge(
        &mut self,
        frame: Option<Option<CloseFrame>>,
        how: &str,
    ) -> Over {
        match frame {
            Some(frame) => {
                // The answer to the close, and the end of TCP.
                let _ = timeout(CLOSING, async {
                    while let Some(Ok(_)) = self.socket.next().await {}
                })
                .await;
                let code = frame.as_ref().map(|frame| u16::from(frame.code));
                let reason = frame
                    .map(|frame| frame.reason.to_string())
                    .unwrap_or_default();
                self.closed(Party::Bridge, code, &reason);
            }
            None => {
                self.call
                    .violation(format!("31903: the socket broke without a close: {how}"));
                self.closed(Party::Bridge, None, how);
            }
        }
        Over::Stream
    }

    pub(super) fn closed(&self, by: Party, code: Option<u16>, reason: &str) {
        self.call.log(Event::SocketClosed {
            by,
            code,
            reason: reason.to_owned(),
        });
    }
}
