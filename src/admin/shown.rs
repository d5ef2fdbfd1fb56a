//! A call as operators are shown it.

use std::sync::atomic::Ordering::Relaxed;

use super::protocol::Session;
use crate::{
    session::{news::Seen, registry::View},
    timestamp::rfc3339,
};

/// A live call as it is now.
pub(super) fn session(view: &View) -> Session {
    let facts = &view.facts;
    Session {
        call_sid: facts.call.as_str().into(),
        stream_sid: view.stream().as_str().into(),
        agent: facts.agent.into(),
        agent_connected: view.agent_connected(),
        from: facts.from.clone(),
        to: facts.to.clone(),
        started_at: rfc3339(view.started_at),
        duration_seconds: view.started.elapsed().as_secs(),
        ending: view.ending.load(Relaxed),
        paused: view.paused.load(Relaxed),
        frames_in: view.frames_in.load(Relaxed),
        audio_out: view.audio_out.load(Relaxed),
        frames_dropped: view.frames_dropped.load(Relaxed),
        barge_ins: view.barge_ins.load(Relaxed),
        test: view.test,
        route: facts.route.clone(),
        away: view.away().map(|why| why.as_str().to_owned()),
    }
}

/// A call as it was when somebody began to follow.
pub(super) fn seen(seen: &Seen) -> Session {
    Session {
        agent_connected: seen.agent_connected,
        ending: seen.ending,
        paused: seen.paused,
        barge_ins: seen.barge_ins,
        away: seen.away.map(|why| why.as_str().to_owned()),
        ..session(&seen.view)
    }
}
