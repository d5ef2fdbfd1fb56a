//! `hume-bridge load`, small: that it measures and tells the truth, not how fast anything is.

use std::process::Command;

use serde_json::Value;

#[test]
fn three_calls_lose_nothing_and_leave_nothing_behind() {
    let output = Command::new(env!("CARGO_BIN_EXE_hume-bridge"))
        .args(["load", "--calls", "3", "--secs", "1", "--json"])
        .output()
        .expect("the program runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"));
    assert!(output.status.success(), "{report:#}\n{errors}");
    assert_eq!(report["ok"], true, "{report:#}");
    assert_eq!(report["calls"], 3);
    assert_eq!(report["problems"], serde_json::json!([]));
    // 50 frames a second up, 10 messages a second down, and a machine that may be busy.
    for (way, rate) in [("up", 50), ("down", 10)] {
        let way = &report[way];
        assert_eq!(way["lost"], 0, "{report:#}");
        let frames = way["frames"].as_u64().unwrap();
        assert!(frames >= 3 * rate / 2, "{report:#}");
        let figure = |name: &str| way[name].as_f64().unwrap();
        assert!(figure("p50_ms") <= figure("p99_ms") && figure("p99_ms") <= figure("max_ms"));
    }
    let daemon = &report["daemon"];
    assert_eq!(daemon["sessions_after"], 0);
    assert!(daemon["fds_after"].as_u64() <= daemon["fds_before"].as_u64());
    assert!(daemon["rss_base_kib"].as_u64().unwrap() > 0);
}
