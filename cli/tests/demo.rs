//! `nic demo` from outside: what it prints, what it says of bad input, what it leaves behind.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod nic;

use std::fs;
use std::path::Path;
use std::process::Output;

use nic::{Running, is_alive, message, nic, succeed};

/// A small demo's only JSON object.
fn demo(arguments: &[&str]) -> serde_json::Value {
    let small = ["demo", "--json", "--rounds", "1"];
    let output = nic(&[&small, arguments].concat());
    // One round is too few to be sure of times: a reader of the JSON is told so by 75.
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 75)), "{code:?}: {}", message(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "standard output is one object: {text}");
    serde_json::from_str(&text).unwrap()
}

fn value(report: &serde_json::Value, name: &str) -> f64 {
    let results = report["results"].as_array().unwrap();
    let found = results.iter().find(|result| result["name"] == name);
    found.unwrap_or_else(|| panic!("no result {name}"))["value"].as_f64().unwrap()
}

/// The process numbers that a report names.
fn pids(report: &serde_json::Value) -> Vec<u32> {
    let pids = report["setup"]["pids"].as_object().unwrap().values();
    pids.map(|pid| u32::try_from(pid.as_u64().unwrap()).unwrap()).collect()
}

const COUNTS: [(&str, f64); 7] = [
    ("scar_round_trips", 1.0),
    ("two_reads_round_trips", 2.0),
    ("scar_retries", 0.0),
    ("packets_per_op_window_1", 2.0),
    ("errors", 0.0),
    ("scar_while_target_stopped", 1.0),
    ("pairs_verified", 2000.0),
];

const TIMES: [&str; 11] = [
    "read_p50_us",
    "two_reads_p50_us",
    "scar_p50_us",
    "call_threaded_p50_us",
    "call_polled_p50_us",
    "port_rtt_p50_us",
    "dependent_load_ns",
    "two_reads_over_scar",
    "scar_mops_window_64",
    "scar_mops_window_256",
    "target_busy_us_per_get_call_threaded",
];

const OTHERS: [&str; 6] = [
    "target_busy_us_per_get_scar",
    "packets_per_op_window_64",
    "syscalls_per_op_window_256",
    "empty_polls_per_op",
    "cpu_us_target_app_scar",
    "overflow_calls",
];

/// Counts are exact wherever it runs; times may be missing on a machine that others use as well.
/// Packets alone are counted by an engine process that goes on while its counters are read, so one
/// of thousands may fall outside.
fn check(report: &serde_json::Value) {
    assert_eq!(report["program"], "demo");
    for (name, expected) in COUNTS {
        let found = value(report, name);
        let slack = if name == "packets_per_op_window_1" { 0.005 } else { 0.0 };
        assert!((found - expected).abs() <= slack, "{name}: {found}, not {expected}");
    }
    for name in OTHERS {
        value(report, name);
    }
    let mut distinct = pids(report);
    assert!(distinct.len() >= 3, "{distinct:?}");
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), pids(report).len());
    for pid in distinct {
        assert!(!is_alive(pid), "process {pid} is left");
    }
}

#[test]
fn counts_are_exact_on_udp_and_nothing_is_left() {
    check(&demo(&["--entries", "2000"]));
}

#[test]
fn counts_are_exact_on_a_ring_and_nothing_is_left() {
    check(&demo(&["--entries", "2000", "--port", "ring"]));
}

/// On one core no slice is dropped, for there is no placement to watch.
#[test]
fn one_core_is_enough_and_every_figure_is_there() {
    let core = nic_figures::cores::available().unwrap()[0];
    // This thread's children inherit it.
    nic_figures::cores::pin_current_thread(core).unwrap();
    let report = demo(&["--entries", "2000"]);
    check(&report);
    for name in TIMES {
        assert!(value(&report, name) > 0.0, "{name}");
    }
    value(&report, "scar_over_port_us");
    assert_eq!(report["setup"]["cores"]["available"], 1);
}

#[test]
fn the_initiator_can_be_a_process_of_its_own() {
    let report = demo(&["--entries", "2000", "--initiator", "process"]);
    check(&report);
    assert!(pids(&report).len() >= 4);
    assert_eq!(report["setup"]["initiator"], "process");
}

/// As with four cores and more, where one table serves every way.
#[test]
fn an_owner_can_poll_beside_its_engine() {
    let report = demo(&["--entries", "2000", "--polled", "process"]);
    check(&report);
    assert_eq!(report["setup"]["call_polled_target"], "process");
    assert_eq!(pids(&report).len(), 3);
}

#[test]
fn people_get_a_table_and_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("demo.svg");
    let output = succeed(&[
        "demo",
        "--rounds",
        "1",
        "--entries",
        "500",
        "--plot",
        picture.to_str().unwrap(),
    ]);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["2xR", "SCAR", "CALL, owner sleeps", "CALL, owner polls", "p50", "0 errors"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(fs::read_to_string(picture).unwrap().starts_with("<svg"));
}

#[test]
fn pairs_of_a_file_are_all_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.tsv");
    // Keys and values of all lengths, beyond one packet and beyond one page; some empty values.
    let line = |number: usize| {
        let key = format!("{number:0width$}", width = 4 + number % 500);
        format!("{key}\t{}\n", "v".repeat(number * number % 9000))
    };
    fs::write(&path, (0..600).map(line).collect::<String>()).unwrap();
    let report = demo(&["--input", path.to_str().unwrap()]);
    assert_eq!(value(&report, "pairs_verified"), 600.0);
    assert_eq!(value(&report, "errors"), 0.0);
    assert_eq!(value(&report, "scar_round_trips"), 1.0);
}

fn refuse(path: &Path) -> Output {
    let output = nic(&["demo", "--rounds", "1", "--input", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(65), "{}", message(&output));
    output
}

#[test]
fn bad_input_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.tsv");
    let long_key = format!("a\tb\n{}\tv\n", "k".repeat(513));
    let long_value = format!("a\t{}\n", "v".repeat((1 << 20) + 1));
    let cases: [(&str, &str); 6] = [
        ("a\tb\nno tab here\n", "bad.tsv, line 2: there is no TAB"),
        ("a\tb\n\tvalue\n", "bad.tsv, line 2: the key is empty"),
        (&long_key, "bad.tsv, line 2: the key has 513 bytes"),
        (&long_value, "bad.tsv, line 1: the value has 1048577 bytes"),
        ("a\tb\nc\td\na\te\n", "bad.tsv, line 3: the key stands in line 1 already"),
        ("", "is empty"),
    ];
    for (text, expected) in cases {
        fs::write(&path, text).unwrap();
        let said = message(&refuse(&path));
        assert!(said.contains(expected), "{expected:?} is not in {said:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let said = message(&refuse(&folder.path().join("absent.tsv")));
    assert!(said.contains("cannot read the input file") && said.contains("absent.tsv"), "{said}");
    let said = message(&refuse(folder.path()));
    assert!(said.contains("cannot read the input file"), "{said}");
}

#[test]
fn a_demo_that_is_killed_takes_its_processes_along() {
    let mut demo = Running::start(&["demo", "--json", "--entries", "5000", "--rounds", "5000"]);
    // Engine, two owners of tables: it is under way.
    let children = demo.await_children(3);
    demo.kill();
    for pid in children {
        nic::await_true(&format!("process {pid} outlives the demo"), || !is_alive(pid));
    }
}

#[test]
fn a_demo_that_loses_its_engine_says_so_and_ends() {
    let mut demo = Running::start(&["demo", "--json", "--entries", "5000", "--rounds", "100"]);
    let children = demo.await_children(3);
    // The first that was started is the target's engine.
    nic::kill(*children.iter().min().unwrap());
    assert_eq!(demo.await_end().code(), Some(1));
    assert!(children.into_iter().all(|pid| !is_alive(pid)));
}
