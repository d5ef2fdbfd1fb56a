//! The agent of the load command: talks without pause and understands nothing.
//!
//! Hundreds of these share a process with what measures the bridge, so a frame costs a hook call
//! and a message one copy of prepared base64. Nothing is kept but counts.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval_at};
use tokio_tungstenite::tungstenite::Message;

use super::{
    log::{By, What},
    server::{Ground, Io, Link},
    voice::{Layout, octets_of, tone, wav},
    wire::{self, ChatMessage, Downlink, Models},
};

/// Length of one message, in ms.
pub const MESSAGE_MS: u64 = 100;
/// Messages of one segment; then the turn ends and the next begins.
const SEGMENT: u64 = 100;

/// One message's WAV in base64: 40 whole cycles, so messages join without a click.
fn body() -> Arc<str> {
    static BODY: OnceLock<Arc<str>> = OnceLock::new();
    let make = || {
        let pcm = octets_of(&tone(MESSAGE_MS * 48, 48_000));
        base64_simd::STANDARD
            .encode_to_string(wav(&pcm, 48_000, Layout::default()))
            .into()
    };
    BODY.get_or_init(make).clone()
}

pub(super) async fn run(mut link: Link, number: u32, ground: &Ground) {
    let world = &ground.world;
    let (body, tail) = (body(), wire::tail(None, false));
    let (chat_id, chat_group_id, request_id) = (world.id(1), world.id(2), world.id(3));
    let metadata = Downlink::ChatMetadata {
        chat_id: &chat_id,
        chat_group_id: &chat_group_id,
        request_id: &request_id,
    };
    link.send(Message::text(metadata.frame(&tail)));
    world.log.event(
        number,
        What::Ready {
            chat_id: chat_id.clone(),
            chat_group_id: chat_group_id.clone(),
        },
    );

    let period = world.log.clock.wall(Duration::from_millis(MESSAGE_MS));
    let mut ticks = interval_at((Instant::now() + period).into(), period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut spoken, mut sent, mut received) = (0u64, 0u64, 0u64);
    let mut id = String::new();
    // Frames to send, and whether each is audio: those of one tick, so never more than three.
    let mut outbox: VecDeque<(String, bool)> = VecDeque::new();
    let mut audio_under_way = false;
    let by = loop {
        if link.idle()
            && let Some((frame, is_audio)) = outbox.pop_front()
        {
            link.send(Message::text(frame));
            audio_under_way = is_audio;
        }
        let silent = link.idle();
        tokio::select! {
            biased;
            () = ground.stop.cancelled() => break By::Stopped,
            io = link.io() => match io {
                Io::Frame(Message::Text(text)) => {
                    received += 1;
                    if let Some(hook) = &ground.hooks.on_uplink {
                        hook(number, &text, Instant::now());
                    }
                }
                Io::Frame(Message::Close(_)) => break By::Bridge,
                Io::Frame(_) => {}
                Io::Written => if std::mem::take(&mut audio_under_way) {
                    if let Some(hook) = &ground.hooks.on_sent {
                        hook(number, sent, Instant::now());
                    }
                    sent += 1;
                },
                Io::Gone(_) => break By::Lost,
            },
            _ = ticks.tick(), if silent => {
                let index = spoken % SEGMENT;
                if index == 0 {
                    if spoken > 0 {
                        outbox.push_back((Downlink::AssistantEnd.frame(&tail), false));
                    }
                    id = world.id(4);
                    outbox.push_back((beginning(&id, &tail), false));
                }
                let audio = wire::audio_output(&id, index, &body, &tail);
                outbox.push_back((audio, true));
                spoken += 1;
            }
        }
    };
    if by == By::Bridge {
        // Our half of the closing handshake; how the bridge takes it is no matter here.
        let goodbye = async { while !matches!(link.io().await, Io::Gone(_)) {} };
        let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
    }
    world.log.event(
        number,
        What::Closed {
            by,
            code: None,
            reason: String::new(),
        },
    );
    world.log.counted(number, received);
}

fn beginning(id: &str, tail: &str) -> String {
    let message = ChatMessage {
        role: "assistant",
        content: "(load)",
    };
    Downlink::AssistantMessage {
        id,
        from_text: false,
        is_quick_response: false,
        language: None,
        message,
        models: Models::new(false),
    }
    .frame(tail)
}
