//! Every story that ships with the program.

use std::path::Path;

use hume_bridge::sim::scenario::{STORIES, Story, tell};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hume-bridge");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_story_ends_as_it_should() {
    let only = std::env::var("STORY").ok();
    let mut failed = Vec::new();
    for (name, text) in STORIES {
        if only.as_deref().is_some_and(|only| only != *name) {
            continue;
        }
        let story = Story::parse(text).unwrap();
        println!("{name}: {}", story.title);
        match tell(&story, Path::new(PROGRAM), 4.0).await {
            Ok((observed, missed)) if !missed.is_empty() => {
                println!("  {}", missed.join("\n  "));
                println!("  daemon:\n    {}", observed.log.join("\n    "));
                for entry in &observed.call.entries {
                    println!("    {:?} {:?}", entry.at, entry.event);
                }
                failed.push(*name);
            }
            Ok(_) => {}
            Err(error) => {
                println!("  {error:#}");
                failed.push(*name);
            }
        }
    }
    assert!(
        failed.is_empty(),
        "stories that did not end as they should: {failed:?}"
    );
}
