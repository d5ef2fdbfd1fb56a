//! Tools whose caller does not wait for them.

use std::{fs, path::Path};

use hume_bridge::sim::phone::{Awaited, Ended};

use crate::stage::{causes, close, in_time, say, start, wait_for, world};

/// Processes of a group; those that only wait to be reaped do not count.
fn members(group: &str) -> usize {
    let stats = fs::read_dir("/proc").expect("/proc").filter_map(|entry| {
        let stat = entry.ok()?.path().join("stat");
        fs::read_to_string(stat).ok()
    });
    // `pid (name) state ppid pgrp ...`
    let members = stats.filter(|stat| {
        let (_, rest) = stat.rsplit_once(") ").expect("a name in brackets");
        let mut fields = rest.split(' ');
        let (state, pgrp) = (fields.next(), fields.nth(1));
        state != Some("Z") && pgrp == Some(group)
    });
    members.count()
}

/// What a program has written there, as soon as that is a whole line.
async fn line(file: &Path) -> String {
    loop {
        match fs::read_to_string(file) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_hangs_up_while_a_program_runs_leaves_nothing_of_it_behind() {
    let world = world(
        r#"
        config = '''
        [[tool]]
        name = "slow"
        description = "Take long."
        kind = "exec"
        command = ["/bin/sh", "-c", "sleep 1000 & echo $$ >{dir}/group; wait"]
        timeout = "30s"
        '''
        [[agent.replies]]
        steps = [{ tool = { name = "slow" } }]
        "#,
    )
    .await;
    let call = start(
        &world.phone,
        vec![say("caller-hours"), wait_for(Awaited::StreamOver)],
    );
    let group = in_time(line(&world.bridge.directory().join("group"))).await;
    assert_eq!(members(&group), 2, "the shell and what it has started");
    call.hang_up().await;
    assert_eq!(call.finish().await.ended, Ended::CallerHungUp);
    let gone = async {
        while members(&group) > 0 {
            tokio::task::yield_now().await;
        }
    };
    in_time(gone).await;
    let log = close(world).await;
    assert_eq!(causes(&log), ["caller-hung-up"]);
    let told: Vec<_> = log
        .iter()
        .filter(|line| line.contains("tool done"))
        .collect();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains("cancelled"), "{told:#?}");
}
