//! `nic metrics`, `nic ops`, `nic top` and the Prometheus endpoint, from outside.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod nic;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nic::{Running, await_true, message, nic, succeed};
use nic_host::{Access, Endpoint, Nic};
use serde_json::Value;

/// An engine process with a folder of its own.
struct Engine {
    running: Running,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Engine {
    /// `config` is the text of its configuration file.
    fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (file, socket) = (folder.path().join("nic.toml"), folder.path().join("nic.sock"));
        fs::write(&file, config).unwrap();
        let (file, path) = (file.to_str().unwrap(), socket.to_str().unwrap());
        let running = Running::start(&["serve", "--config", file, "--socket", path]);
        await_true("the engine does not answer", || {
            nic(&["status", "--socket", path]).status.success()
        });
        Engine { running, socket, _folder: folder }
    }

    fn socket(&self) -> &str {
        self.socket.to_str().unwrap()
    }

    /// What a command says of it.
    fn said(&self, command: &[&str]) -> String {
        let arguments = [command, &["--socket", self.socket()]].concat();
        String::from_utf8(succeed(&arguments).stdout).unwrap()
    }

    fn json(&self, command: &[&str]) -> Value {
        let said = self.said(&[command, &["--json"]].concat());
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    fn connect(&self) -> Nic {
        Nic::connect(Endpoint::Path(self.socket.clone())).unwrap()
    }
}

/// Writes and reads a region of the own engine `count` times.
fn work(nic: &Nic, count: u64) {
    let region = nic.region(4096).create().unwrap();
    let export = region.export(Access::READ.and(Access::WRITE)).unwrap();
    let session = nic.session().open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    for round in 0..count {
        session.run(remote.write(0, &round.to_le_bytes())).unwrap();
        assert_eq!(session.run(remote.read(0..8)).unwrap().as_ref(), round.to_le_bytes());
    }
}

#[test]
fn what_was_counted_can_be_read_after_the_engine_was_killed() {
    let mut engine = Engine::start("");
    work(&engine.connect(), 50);
    // The counters are published when the engine has nothing to do.
    await_true("the counters do not come", || {
        engine.json(&["metrics"])["engines"][0]["completions"] == 100
    });
    let alive = engine.json(&["metrics"]);
    assert_eq!((&alive["runs"], &alive["pid"]), (&true.into(), &engine.running.pid().into()));
    engine.running.kill();
    let dead = engine.json(&["metrics"]);
    assert_eq!((&dead["runs"], &dead["pid"]), (&false.into(), &alive["pid"]));
    for name in ["completions", "executed", "commands", "flows_opened"] {
        assert_eq!(dead["engines"][0][name], alive["engines"][0][name], "{name}");
    }
    let text = engine.said(&["metrics"]);
    assert!(text.contains("which has ended") && text.contains("completions"), "{text}");
    // A copy elsewhere can be read as well, and the top of a dead engine says so.
    let copy = engine.socket.with_extension("copy");
    fs::copy(engine.socket.with_extension("sock.counters"), &copy).unwrap();
    let copied = succeed(&["metrics", "--json", "--file", copy.to_str().unwrap()]).stdout;
    assert_eq!(serde_json::from_slice::<Value>(&copied).unwrap(), dead);
    let top = engine.said(&["top", "--once", "--interval", "10"]);
    assert!(top.contains("HAS ENDED") && top.contains("no answer"), "{top}");
}

#[test]
fn every_metric_is_listed_and_what_is_no_counters_file_is_told() {
    let list = String::from_utf8(succeed(&["metrics", "--list"]).stdout).unwrap();
    for part in ["completions ", "The longest turn.", "gauge ", " now "] {
        assert_eq!(list.contains(part), part != "gauge ", "{part} in {list}");
    }
    let json = succeed(&["metrics", "--list", "--json"]).stdout;
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json.as_array().unwrap().len(), list.lines().count());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x");
    let path = file.to_str().unwrap();
    let missing = nic(&["metrics", "--file", path]);
    assert_eq!(missing.status.code(), Some(69));
    assert!(message(&missing).contains("--socket"), "{}", message(&missing));
    fs::write(&file, [7; 4096]).unwrap();
    let foreign = nic(&["metrics", "--file", path]);
    assert_eq!(foreign.status.code(), Some(65));
    assert!(message(&foreign).contains("no counters file that"), "{}", message(&foreign));
}

#[test]
fn a_call_that_nobody_answers_is_found() {
    let engine = Engine::start("");
    let nic = engine.connect();
    let region = nic.region(4096).create().unwrap();
    let export = region.export(Access::CALL).unwrap();
    let session = nic.session().receive_buffers(4, 1024).open().unwrap();
    session.serve(7).unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    let call = remote.call(7, b"?", 64).deadline(Duration::from_secs(3600));
    let pending = session.submit(call).unwrap();
    let stuck = || engine.json(&["ops", "--older-than", "0"])["engines"][0]["live"].clone();
    await_true("the call is not seen at its target", || {
        session.poll().unwrap().for_each(drop);
        stuck()["ops_in"]["ops"][0]["state"] == "called"
    });
    let live = stuck();
    let out = &live["ops_out"]["ops"][0];
    assert_eq!((&out["kernel"], &out["state"]), (&"CALL".into(), &"out".into()), "{live}");
    let address = nic.address().to_string();
    assert_eq!(out["peer"], address);
    assert!(out["deadline_in_ns"].as_u64().unwrap() > 3_000_000_000_000, "{live}");
    assert_eq!(live["ops_in"]["ops"][0]["kernel"], "CALL");
    let flows = live["flows"].as_array().unwrap();
    assert!(flows.iter().all(|flow| flow["is_open"] == true && flow["ops"] == 1), "{live}");
    assert_eq!((flows.len(), &live["sessions"][0]["ops"]), (2, &1.into()), "{live}");

    let me = format!("({})", std::process::id());
    let text = engine.said(&["ops", "--older-than", "0"]);
    for part in ["initiator", "target", "CALL", "called", &me, &address] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let young = engine.json(&["ops", "--older-than", "3600000"]);
    assert_eq!(young["engines"][0]["live"]["ops_out"]["ops"], Value::Array(Vec::new()));
    let top = engine.said(&["top", "--once", "--interval", "10"]);
    for part in ["engine process", "flows of engine 0", "initiator", &me, "q quits"] {
        assert!(top.contains(part), "{part} is missing in {top}");
    }
    drop(pending);
}

/// An address that nobody has just now.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn prometheus_text_is_served_over_http() {
    let address = free_address();
    let engine = Engine::start(&format!("[metrics]\nlisten = \"{address}\"\n"));
    work(&engine.connect(), 5);
    let mut scraped = None;
    await_true("the ops do not show", || {
        let mut response = ureq::get(format!("http://{address}/metrics")).call().unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        let lines = text.lines().map(|line| Ok(line.to_owned()));
        let scrape = prometheus_parse::Scrape::parse(lines).unwrap();
        let value = |name: &str| {
            let sample = scrape.samples.iter().find(|sample| sample.metric == name);
            let sample = sample.unwrap_or_else(|| panic!("{name} is missing in {text}"));
            assert_eq!(sample.labels.get("engine"), Some("0"));
            match sample.value {
                prometheus_parse::Value::Counter(value)
                | prometheus_parse::Value::Gauge(value)
                | prometheus_parse::Value::Untyped(value) => value,
                ref other => panic!("{name}: {other:?}"),
            }
        };
        scraped = Some(value("nic_engine_busy_seconds_total"));
        value("nic_engine_completions_total") == 10.0 && value("nic_engine_flows") == 2.0
    });
    let busy = scraped.unwrap();
    assert!(busy > 0.0 && busy < 60.0, "busy for {busy} s");

    let taken = folder_with(&format!("[metrics]\nlisten = \"{address}\"\n"));
    let (config, socket) = (taken.path().join("nic.toml"), taken.path().join("nic.sock"));
    let (config, socket) = (config.to_str().unwrap(), socket.to_str().unwrap());
    let second = nic(&["serve", "--config", config, "--socket", socket]);
    assert_eq!(second.status.code(), Some(69));
    let said = message(&second);
    assert!(said.contains("metrics.listen") && said.contains("in use"), "{said}");
}

fn folder_with(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("nic.toml"), config).unwrap();
    folder
}

/// A program under way; dropping it ends it.
struct Program(std::process::Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs Prometheus: apt-get install prometheus (or its binary, named by $PROMETHEUS)"]
fn prometheus_itself_scrapes_the_engine() {
    let (engine_address, own_address) = (free_address(), free_address());
    let engine = Engine::start(&format!("[metrics]\nlisten = \"{engine_address}\"\n"));
    work(&engine.connect(), 5);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    let text = format!(
        "scrape_configs:\n- job_name: nic\n  scrape_interval: 1s\n  static_configs:\n  \
         - targets: [\"{engine_address}\"]\n"
    );
    fs::write(&config, text).unwrap();
    let program = std::env::var("PROMETHEUS").unwrap_or_else(|_| "prometheus".to_owned());
    let _prometheus = Program(
        Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={own_address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let query = format!("http://{own_address}/api/v1/query?query=nic_engine_completions_total");
    await_true("Prometheus does not know the engine's counters", || {
        let Ok(mut response) = ureq::get(&query).call() else { return false };
        let said = response.body_mut().read_to_string().unwrap();
        let answer: Value = serde_json::from_str(&said).unwrap();
        answer["data"]["result"][0]["value"][1] == "10"
    });
}
