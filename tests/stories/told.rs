//! Every story that ships with the program, with each agent that it can be told with.
//!
//! `STORY=name` tells one of them, and how it went; `AGENT=realtime` only with that agent.

use std::{path::Path, sync::Arc, time::Duration};

use hume_bridge::sim::scenario::{Observed, STORIES, Story, tell};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};

use crate::PROGRAM;

/// Twice as fast as life: the daemon's own deadlines run by the wall clock, and an unoptimised
/// build has to keep up on a busy machine.
const PACE: f64 = 2.0;
/// Stories wait most of the time, so several are told at once.
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_story_ends_as_it_should() {
    let only = std::env::var("STORY").ok();
    let with = std::env::var("AGENT").ok();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut told = JoinSet::new();
    for (name, text) in STORIES {
        if only.as_deref().is_some_and(|only| only != *name) {
            continue;
        }
        let story = Story::parse(text).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        for kind in story.agents.clone() {
            if with.as_deref().is_some_and(|with| with != kind.as_str()) {
                continue;
            }
            let story = Story::with(text, kind).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            let places = places.clone();
            told.spawn(async move {
                let _place = places.acquire_owned().await.expect("never closed");
                let began = Instant::now();
                let outcome = Box::pin(tell(&story, Path::new(PROGRAM), PACE)).await;
                (
                    format!("{name} ({})", kind.as_str()),
                    story.title,
                    began.elapsed(),
                    outcome,
                )
            });
        }
    }
    let mut failed = Vec::new();
    while let Some(ended) = told.join_next().await {
        let (name, title, took, outcome) = ended.expect("no simulator panics");
        println!("{name}: {title} ({:.1} s)", took.as_secs_f64());
        match outcome {
            Ok((observed, missed)) => {
                if !missed.is_empty() || only.is_some() {
                    print(&observed, &missed);
                }
                if !missed.is_empty() {
                    failed.push(name);
                }
            }
            Err(error) => {
                println!("  {error:#}");
                failed.push(name);
            }
        }
    }
    assert!(
        failed.is_empty(),
        "stories that did not end as they should: {failed:?}"
    );
}

fn print(observed: &Observed, missed: &[String]) {
    println!("  {}", missed.join("\n  "));
    println!("  daemon:\n    {}", observed.log.join("\n    "));
    println!("  telephone:");
    for entry in &observed.call.entries {
        println!("    {:?} {:?}", entry.at, entry.event);
    }
    println!("  agent:");
    for event in &observed.agent.events {
        let at = Duration::from_secs_f64(event.at_ms / 1000.0);
        println!("    {at:?} {:?}", event.what);
    }
}
