//! `hume-bridge load` and `soak`, small: that they measure and tell the truth, not how fast anything
//! is.

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

#[test]
fn calls_that_come_and_go_over_bad_wires_leave_nothing_behind() {
    // Drawn so that already the first six calls end in every way, and a wire of each leg breaks.
    let output = Command::new(env!("CARGO_BIN_EXE_hume-bridge"))
        .args(["soak", "--calls", "6", "--minutes", "0.3", "--seed", "3650"])
        .arg("--json")
        .output()
        .expect("the program runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"));
    assert!(output.status.success(), "{report:#}\n{errors}");
    assert_eq!(report["ok"], true, "{report:#}");
    assert_eq!(
        (&report["calls"], &report["seed"]),
        (&6.into(), &3650.into())
    );
    assert_eq!(report["problems"], serde_json::json!([]));
    let carried = &report["carried"];
    let count = |name: &str| carried[name].as_u64().unwrap();
    assert_eq!(count("hung"), 0, "{report:#}");
    assert_eq!(count("calls"), count("without_fault") + count("with_fault"));
    assert!(count("calls") > 6 && count("without_fault") > 0 && count("with_fault") > 0);
    let sum = |what: &Value| -> u64 {
        let counts = what.as_object().expect("counts by name").values();
        counts.map(|count| count.as_u64().unwrap()).sum()
    };
    assert_eq!(sum(&carried["ended"]), count("calls"), "{report:#}");
    assert_eq!(sum(&carried["causes"]), count("calls"), "{report:#}");
    for cause in ["caller-hung-up", "agent-hung-up", "operator"] {
        assert!(carried["causes"][cause].as_u64() > Some(0), "{report:#}");
    }
    assert!(sum(&report["faults"]) > 0, "{report:#}");
    for way in ["up", "down"] {
        assert_eq!(report[way]["lost"], 0, "{report:#}");
        assert!(report[way]["frames"].as_u64() > Some(100), "{report:#}");
    }
    let daemon = &report["daemon"];
    assert_eq!(daemon["sessions_end"], 0);
    assert!(daemon["fds_end"].as_u64() <= daemon["fds_begin"].as_u64());
    assert!(daemon["tasks_end"].as_u64() <= daemon["tasks_begin"].as_u64());
    assert!(daemon["rss_slope_kib_per_minute"].is_f64(), "{report:#}");
}
