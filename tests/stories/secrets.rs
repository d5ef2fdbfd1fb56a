//! What must not be in a log is not there even when everything is logged.
//!
//! It is read on standard error; that the journal is told nothing else is a test of its encoding's.

use std::path::Path;

use hume_bridge::sim::{
    bridge::{AUTH_TOKEN, HUME_KEY},
    scenario::{STORIES, Story, tell},
};

use crate::{PROGRAM, stage::PACE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_numbers_and_words_stay_out_of_the_log() {
    let (_, demo) = STORIES.iter().find(|(name, _)| *name == "demo").unwrap();
    // Words of the agent, of the caller, of a tool call, of an error, of things not understood.
    let spoken = demo
        .replace(
            "{ say = \"agent-hours\" }",
            "{ say = \"agent-hours\", text = \"MARKER one\" }",
        )
        .replace(
            "[[agent.replies]]\nheard = \"Sorry, just the Saturday hours please.\"\nsteps = [{ wait = \"300ms\" }, { say = \"agent-saturday\" }",
            "[[agent.replies]]\nheard = \"MARKER two\"\nsteps = [\
             { error = \"E0712\", slug = \"MARKER-three\", message = \"MARKER four\" },\
             { raw = \"MARKER five\" }, { raw = '{\"type\":\"MARKER six\"}' },\
             { raw = '{\"type\":\"audio_output\",\"id\":\"MARKER seven\",\"data\":\"MARKER\"}' },\
             { tool = { name = \"lookup\", parameters = '{\"MARKER\":\"eight\"}' } },\
             { say = \"agent-saturday\" }",
        )
        .replace("answers = {", "answers = { lookup = [\"error\"],")
        .replace(
            "{ say = \"caller-hours\" },",
            "{ raw = 'MARKER nine' }, { dtmf = \"47110815\" }, { say = \"caller-hours\" },",
        );
    assert_eq!(
        spoken.matches("MARKER").count(),
        10,
        "the demo's story has changed: {spoken}"
    );
    let config = "title = \"Everything is logged\"\nconfig = '''\nlog.level = \"debug\"\nkeys.words = \"\"\n'''\n";
    let (_, rest) = spoken.split_once('\n').unwrap();
    let story = Story::parse(&format!("{config}{rest}")).unwrap();
    let (observed, missed) = tell(&story, Path::new(PROGRAM), PACE).await.unwrap();
    let log = observed.log.join("\n");
    assert_eq!(missed, [""; 0], "{log}");
    assert!(log.contains("DEBUG"), "{log}");
    let token = observed
        .call
        .entries
        .iter()
        .find_map(|entry| match &entry.event {
            hume_bridge::sim::phone::Event::StreamStarted { parameters, .. } => parameters
                .iter()
                .find(|(name, _)| name == "token")
                .map(|(_, value)| value.clone()),
            _ => None,
        });
    for secret in [
        HUME_KEY,
        AUTH_TOKEN,
        &token.unwrap(),
        "15551234567",
        "15557654321",
        "MARKER",
        "museum",
        "Saturday",
        "47110815",
    ] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}
