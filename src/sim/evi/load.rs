//! The agent of the load command: talks without pause and understands nothing.
//!
//! Hundreds of these share a process with what measures the bridge, so a frame costs a hook call
//! and a message one copy of prepared base64. Nothing is kept but counts. It may be told to leave
//! ([`super::LeavesHook`]): then it calls `hang_up`, says goodbye, ends its turn and is silent; a
//! bridge that goes before that, or without having answered the call, is on record.

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

/// Messages of the goodbye, behind the tool call.
const GOODBYE: u64 = 10;

/// How far the agent is with leaving.
#[derive(PartialEq)]
enum Leaving {
    No,
    /// So many messages of the goodbye are still to be said; behind the last there is silence.
    Goodbye {
        left: u64,
        /// Of the next message, in the segment that was under way.
        index: u64,
        call: String,
        answered: bool,
    },
}

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
    let mut leaving = Leaving::No;
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
                    if let Leaving::Goodbye { call, answered, .. } = &mut leaving {
                        // No audio holds an id: base64 has no hyphen.
                        *answered |= text.contains(&**call);
                    }
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
                if leaving == Leaving::No
                    && spoken % SEGMENT > 0
                    && let Some(leaves) = &ground.hooks.leaves
                    && leaves(number)
                {
                    let call = world.id(5);
                    outbox.push_back((hang_up(&call, &tail), false));
                    leaving = Leaving::Goodbye {
                        left: GOODBYE,
                        index: spoken % SEGMENT,
                        call,
                        answered: false,
                    };
                }
                if let Leaving::Goodbye { left, index, .. } = &mut leaving {
                    if *left > 0 {
                        let audio = wire::audio_output(&id, *index, &body, &tail);
                        outbox.push_back((audio, true));
                        *left -= 1;
                        *index += 1;
                        if *left == 0 {
                            outbox.push_back((Downlink::AssistantEnd.frame(&tail), false));
                        }
                    }
                    continue;
                }
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
        if let Leaving::Goodbye { left, answered, .. } = leaving {
            let log = &world.log;
            if !answered {
                log.violation(number, "the bridge left without an answer to hang_up");
            }
            if left > 0 {
                log.violation(number, "the bridge left in the middle of the goodbye");
            }
        }
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

fn hang_up(call: &str, tail: &str) -> String {
    Downlink::ToolCall {
        name: "hang_up",
        parameters: "{}",
        response_required: true,
        tool_call_id: call,
        tool_type: Some("function"),
    }
    .frame(tail)
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
