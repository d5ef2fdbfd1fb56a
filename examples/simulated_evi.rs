//! The simulated EVI by itself: `cargo run --example simulated_evi -- STORY.toml`.
//!
//! Plays the `[agent]` of a story for every chat, in real time, until it is killed. The URL for
//! `hume.url` is the one line on stdout; the key is the one of the simulators.

use std::path::PathBuf;

use anyhow::Context as _;
use hume_bridge::sim::{
    bridge::HUME_KEY,
    evi::{Evi, Options},
    scenario::{self, Story},
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let path = std::env::args_os().nth(1).map(PathBuf::from);
    let path = path.context("usage: simulated_evi STORY.toml")?;
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let story = Story::parse(&text).with_context(|| path.display().to_string())?;
    let options = Options {
        api_key: HUME_KEY.to_owned(),
        clips: scenario::agent_clips,
        ..Options::default()
    };
    let evi = Evi::start(story.agent, options).await?;
    println!("{}", evi.url());
    std::future::pending().await
}
