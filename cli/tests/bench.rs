//! `nic bench` from outside: what it counts, what it says of bad input, what it leaves behind.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod nic;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use nic::{Running, await_true, is_alive, message, nic, succeed};

/// A short bench's only JSON object, and how it ended.
fn bench(arguments: &[&str]) -> (serde_json::Value, Option<i32>) {
    let output = nic(&[&["bench"], arguments, &["--json"]].concat());
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "one object: {text}, {}", message(&output));
    (serde_json::from_str(&text).unwrap(), output.status.code())
}

fn value(report: &serde_json::Value, name: &str) -> f64 {
    let results = report["results"].as_array().unwrap();
    let found = results.iter().find(|result| result["name"] == name);
    found.unwrap_or_else(|| panic!("no result {name} in {report}"))["value"].as_f64().unwrap()
}

const OPS: [&str; 18] = [
    "read",
    "write",
    "cas",
    "faa",
    "scar",
    "indirect-read",
    "traverse",
    "consistent-read",
    "chain-read",
    "chain-append",
    "prism",
    "scan",
    "partition-write",
    "sketch-write",
    "append",
    "fetch",
    "call",
    "rpc",
];
/// Those whose length the target has laid out.
const LAID_OUT: [&str; 4] = ["scar", "consistent-read", "chain-read", "fetch"];
const SHORT: [&str; 8] =
    ["--duration", "150ms", "--warmup", "20ms", "--region-bytes", "4MiB", "--entries", "2000"];

/// What holds of every op on every port, however restless the machine is.
fn check(report: &serde_json::Value) {
    assert_eq!(report["program"], "bench");
    let ops = value(report, "ops");
    assert!(ops > 100.0, "{ops} ops");
    for name in ["errors", "wrong", "fate_unknown", "retries", "overdue", "given_up"] {
        assert_eq!(value(report, name), 0.0, "{name}");
    }
    let order = ["latency_p50_us", "latency_p90_us", "latency_p99_us", "latency_p99_9_us"];
    let latencies = order.map(|name| value(report, name));
    assert!(latencies[0] > 0.0 && latencies.is_sorted(), "{latencies:?}");
    assert!(value(report, "ops_per_s") > 0.0 && value(report, "mb_per_s") > 0.0);
    for pid in report["setup"]["pids"].as_object().unwrap().values() {
        let pid = u32::try_from(pid.as_u64().unwrap()).unwrap();
        assert!(!is_alive(pid), "process {pid} is left");
    }
}

/// One at a time: a packet there and a packet back for each.
fn one_at_a_time(port: &str) {
    for op in OPS {
        let (report, code) = bench(&[&["--port", port, "--op", op], &SHORT[..]].concat());
        assert_eq!(code, Some(0), "{op}");
        check(&report);
        // Packets that carry no op leave when the other side is kept waiting for its core.
        let ops = value(&report, "ops");
        let others = ["lone_acks", "asks", "retransmissions"].map(|name| value(&report, name));
        let sent = value(&report, "packets_sent_per_op") - others.iter().sum::<f64>() / ops;
        assert!((sent - 1.0).abs() <= 0.01, "{op}: {sent} packets sent an op");
        let received = value(&report, "packets_received_per_op");
        assert!((0.99..=2.5).contains(&received), "{op}: {received} packets received an op");
        let both = value(&report, "packets_sent_per_op") + received;
        assert!((both - value(&report, "packets_per_op")).abs() < 1e-9);
    }
}

#[test]
fn every_op_takes_two_packets_on_udp() {
    one_at_a_time("udp");
}

#[test]
fn every_op_takes_two_packets_on_a_ring() {
    one_at_a_time("ring");
}

#[test]
fn windows_connections_and_threads_share_packets_and_nothing_goes_wrong() {
    for op in OPS {
        let many = ["--window", "32", "--batch", "8", "--connections", "3"];
        let (report, code) = bench(&[&["--op", op], &many[..], &SHORT].concat());
        assert_eq!(code, Some(0), "{op}");
        check(&report);
        let packets = value(&report, "packets_per_op");
        assert!(packets < 1.5, "{op}: {packets} packets an op");
    }
    let threads = ["--op", "faa", "--window", "4", "--connections", "4", "--threads", "2"];
    let (report, code) = bench(&[&threads[..], &SHORT].concat());
    assert_eq!((code, &report["setup"]["initiator"]), (Some(0), &"process".into()));
    check(&report);
}

#[test]
fn values_of_all_lengths_are_compared_whole() {
    for (op, size) in [
        ("read", "1"),
        ("read", "1001"),
        ("read", "1MiB"),
        ("write", "1"),
        ("write", "100001"),
        ("scar", "1"),
        ("scar", "70000"),
        ("call", "1024"),
        ("indirect-read", "1"),
        ("indirect-read", "4096"),
        ("traverse", "1"),
        ("traverse", "64KiB"),
        ("consistent-read", "1"),
        ("consistent-read", "4088"),
        ("chain-read", "1"),
        ("chain-read", "4088"),
        ("chain-append", "1"),
        ("chain-append", "4096"),
        ("prism", "1"),
        ("prism", "64KiB"),
        ("scan", "64"),
        ("scan", "16KiB"),
        ("partition-write", "8"),
        ("partition-write", "64KiB"),
        ("sketch-write", "8"),
        ("sketch-write", "1MiB"),
        ("append", "1"),
        ("append", "64KiB"),
        ("fetch", "1"),
        ("fetch", "4088"),
        ("rpc", "1"),
        ("rpc", "1000"),
    ] {
        let large = ["--op", op, "--size", size, "--window", "3", "--port", "ring"];
        let few = ["--duration", "100ms", "--warmup", "0s", "--entries", "100"];
        let (report, code) = bench(&[&large[..], &few].concat());
        assert_eq!((code, value(&report, "errors")), (Some(0), 0.0), "{op} of {size}");
        assert!(value(&report, "ops") > 0.0);
    }
}

#[test]
fn an_open_loop_keeps_its_rate_or_says_that_it_did_not() {
    let rate = ["--op", "read", "--rate", "2000", "--connections", "2", "--window", "64"];
    let (report, code) = bench(&[&rate[..], &SHORT].concat());
    assert_eq!((code, &report["setup"]["loop"]), (Some(0), &"open".into()));
    let ops = value(&report, "ops") + value(&report, "overdue");
    assert_eq!(ops, 300.0, "2000 a second for 150 ms are due");

    let output = succeed(&[&["bench", "--rate", "1000000000"], &SHORT[..]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("was NOT kept"), "{text}");
}

#[test]
fn people_get_a_table_a_histogram_and_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("bench.svg");
    let plot = ["bench", "--op", "scar", "--plot", picture.to_str().unwrap()];
    let text = String::from_utf8(succeed(&[&plot[..], &SHORT].concat()).stdout).unwrap();
    for part in [
        "scar of 64 B, 1 out; port udp",
        "ops_per_s",
        "latency_p99_9_us",
        "system_calls_per_op",
        "packets_per_op",
        " %  #####",
        "Closed loop",
        "The cores",
    ] {
        let is_there = text.contains(part);
        // Where there is one core, or others use both, it is not known.
        assert!(is_there || (part == "The cores" && text.contains("not known")), "{part}: {text}");
    }
    assert!(std::fs::read_to_string(picture).unwrap().starts_with("<svg"));
}

#[test]
fn a_bench_that_is_killed_takes_its_processes_along() {
    let mut bench = Running::start(&["bench", "--duration", "1min"]);
    let children = bench.await_children(2);
    bench.kill();
    for pid in children {
        await_true(&format!("process {pid} outlives the bench"), || !is_alive(pid));
    }
}

#[test]
fn what_cannot_be_is_told_with_what_to_do() {
    let ticket = "nic1:127.0.0.1:9/0003.0001/8f6d2c1b5a493827/0/8000000/f";
    for (arguments, code, expected) in [
        (&["--window", "0"][..], 2, "1..=4096"),
        (&["--op", "fly"], 2, "invalid value 'fly'"),
        (&["--port", "air"], 2, "[possible values: udp,"),
        (&["--size", "2MiB"], 2, "read takes 1 to 1052672 bytes"),
        (&["--op", "call", "--size", "1025"], 2, "call takes 1 to 1024 bytes"),
        (&["--op", "fetch", "--size", "4089"], 2, "fetch takes 1 to 4088 bytes"),
        (&["--window", "4", "--batch", "8"], 2, "at most --window ops (4)"),
        (&["--threads", "2"], 2, "1 --connections"),
        (&["--region-bytes", "64"], 2, "--region-bytes 64: expected 1048576 to"),
        (&["--region-bytes", "1MiB", "--size", "1MiB"], 2, "--region-bytes"),
        (
            &["--op", "write", "--region-bytes", "1MiB", "--size", "64KiB", "--window", "64"],
            2,
            "use a smaller --window",
        ),
        (&["run"], 2, "--ticket"),
        (&["run", "--ticket", "hello"], 2, "begins with \"nic1:\""),
        (&["run", "--ticket", ticket, "--op", "scar"], 2, "memory,table"),
        (&["run", "--ticket", ticket, "--socket", "/nonexistent"], 69, "nic serve"),
        (&["target", "--socket", "/nonexistent"], 69, "nic serve"),
        (&["target", "--value-bytes", "0"], 2, "--value-bytes 0: expected 1 to 1048576"),
    ] {
        let output = nic(&[&["bench"], arguments].concat());
        let said = message(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {expected:?} is not in {said:?}");
    }
    let help = String::from_utf8(succeed(&["bench", "--help"]).stdout).unwrap();
    for part in ["nic bench target", "nic bench run --ticket", "FETCH_ADD", "coordinated omission"]
    {
        assert!(help.contains(part), "{part} is missing in {help}");
    }
}

/// `nic bench target` beside an engine of its own.
struct Target {
    _engine: Running,
    process: Child,
    ticket: String,
}

fn engine(folder: &Path, name: &str) -> (Running, String) {
    let socket = folder.join(name).to_str().unwrap().to_owned();
    let engine = Running::start(&["serve", "--socket", &socket]);
    await_true("the engine does not answer", || {
        nic(&["status", "--socket", &socket]).status.success()
    });
    (engine, socket)
}

impl Target {
    fn start(folder: &Path) -> Self {
        let (engine, socket) = engine(folder, "target.sock");
        let small = ["--region-bytes", "4MiB", "--entries", "2000", "--value-bytes", "100"];
        let mut process = Command::new(env!("CARGO_BIN_EXE_nic"))
            .args(["bench", "target", "--json", "--socket", &socket])
            .args(small)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&told["value_bytes"], &told["pid"]), (&100.into(), &process.id().into()));
        let ticket = told["ticket"].as_str().unwrap().to_owned();
        Target { _engine: engine, process, ticket }
    }

    /// Ends its standard input, as Ctrl-D does.
    fn end(mut self) -> ExitStatus {
        drop(self.process.stdin.take());
        self.process.wait().unwrap()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Killing one that has ended is no error of the test's.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_running_pair_is_driven_by_several_benches() {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::start(folder.path());
    let (_engine, socket) = engine(folder.path(), "initiator.sock");
    let run = ["run", "--socket", &socket, "--ticket", &target.ticket];
    let short = ["--duration", "150ms", "--warmup", "20ms", "--wait", "adaptive"];
    for op in OPS {
        for shape in [&["--window", "1"][..], &["--window", "8", "--connections", "2"]] {
            let (report, code) = bench(&[&run[..], &short, &["--op", op], shape].concat());
            assert_eq!((code, value(&report, "errors")), (Some(0), 0.0), "{op}");
            // Two where both sides are quick; each is acknowledged by itself where one is not.
            let packets = value(&report, "packets_per_op");
            assert!((0.1..=4.5).contains(&packets), "{op}: {packets}");
            let is_laid_out = LAID_OUT.contains(&op);
            let size = if is_laid_out { 100 } else { report["setup"]["size"].as_i64().unwrap() };
            assert_eq!(report["setup"]["size"], size);
        }
    }
    let said = |more: &[&str]| {
        let output = nic(&[&["bench"], &run[..], more].concat());
        assert_eq!(output.status.code(), Some(2), "{}", message(&output));
        message(&output)
    };
    let other_values = said(&["--op", "scar", "--size", "64"]);
    assert!(other_values.contains("has values of 100 bytes"), "{other_values}");
    let too_much = said(&["--op", "write", "--size", "1MiB", "--window", "4"]);
    assert!(too_much.contains("start the target with --region-bytes"), "{too_much}");
    let table = target.ticket.split(',').nth(1).unwrap();
    let output = nic(&["bench", "run", "--socket", &socket, "--ticket", table]);
    assert_eq!(output.status.code(), Some(65), "{}", message(&output));
    assert!(message(&output).contains("is no memory of a bench target"), "{}", message(&output));
    assert!(target.end().success());
}

/// The target application dies, then its engine, then the own engine: each time the bench tells.
#[test]
fn a_peer_that_dies_is_reported_with_what_came_until_then() {
    let folder = tempfile::tempdir().unwrap();
    for victim in ["application", "target's engine", "own engine"] {
        let mut target = Target::start(folder.path());
        let (mut own, socket) = engine(folder.path(), "initiator.sock");
        let long = ["--duration", "50s", "--warmup", "0s", "--window", "4", "--deadline", "200ms"];
        let mut bench = Command::new(env!("CARGO_BIN_EXE_nic"))
            .args(["bench", "run", "--socket", &socket, "--ticket", &target.ticket, "--json"])
            .args(long)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        await_true("no op is completed", || completions(&socket) > 1000);
        match victim {
            "application" => target.process.kill().unwrap(),
            "own engine" => own.kill(),
            _ => target._engine.kill(),
        }
        await_true("the bench goes on", || bench.try_wait().unwrap().is_some());
        let output = bench.wait_with_output().unwrap();
        let said = message(&output);
        assert_eq!(output.status.code(), Some(1), "{victim}: {said}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(value(&report, "ops") > 0.0 && value(&report, "errors") > 0.0, "{victim}");
        assert_eq!((value(&report, "wrong"), value(&report, "given_up")), (0.0, 1.0), "{victim}");
        assert!(said.contains("failed: ") && said.contains("ended early"), "{victim}: {said}");
    }
}

fn completions(socket: &str) -> u64 {
    let json = nic(&["status", "--socket", socket, "--json"]).stdout;
    let status: serde_json::Value = serde_json::from_slice(&json).unwrap_or_default();
    status["engines"][0]["counters"]["completions"].as_u64().unwrap_or(0)
}
