//! `nic serve`, `nic status` and `nic doctor` from outside.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod nic;

use std::fs;
use std::process::{Command, Stdio};

use nic::{Running, await_true, message, nic, succeed};

#[test]
fn an_engine_serves_tells_its_status_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("nic.sock");
    let path = socket.to_str().unwrap();
    let mut engine = Running::start(&["serve", "--socket", path]);
    await_true("the engine does not answer", || {
        nic(&["status", "--socket", path]).status.success()
    });
    let text = String::from_utf8(succeed(&["status", "--socket", path]).stdout).unwrap();
    for part in ["engine process", "127.0.0.1:", "port udp", "packets sent", "no applications"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let json = succeed(&["status", "--socket", path, "--json"]).stdout;
    let status: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(status["pid"], engine.pid());

    let second = nic(&["serve", "--socket", path]);
    assert_eq!(second.status.code(), Some(69));
    let said = message(&second);
    assert!(said.contains(&format!("is in use by pid {}", engine.pid())), "{said}");

    assert!(engine.terminate().success());
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.iter().all(|path| path.extension().is_some_and(|e| e == "lock")), "{left:?}");
    let status = nic(&["status", "--socket", path]);
    assert_eq!(status.status.code(), Some(69));
    assert!(message(&status).contains("nic serve"), "{}", message(&status));
}

/// Whoever reads the log may go away: the engine goes on, and ends as it should.
#[test]
fn a_log_that_nobody_reads_any_more_is_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("nic.sock");
    let path = socket.to_str().unwrap();
    let mut engine = Command::new(env!("CARGO_BIN_EXE_nic"))
        .args(["serve", "--socket", path])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    await_true("the engine does not answer", || {
        nic(&["status", "--socket", path]).status.success()
    });
    drop(engine.stderr.take());
    let pid = rustix::process::Pid::from_child(&engine);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    // That it was asked to end is one more line of the log.
    let ended = engine.wait().unwrap();
    assert_eq!(ended.code(), Some(0), "{ended:?}");
}

#[test]
fn a_bad_configuration_is_told_with_its_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("nic.toml");
    let serve = |text: &str| {
        fs::write(&config, text).unwrap();
        let socket = folder.path().join("nic.sock");
        let output = nic(&[
            "serve",
            "--config",
            config.to_str().unwrap(),
            "--socket",
            socket.to_str().unwrap(),
        ]);
        assert_eq!(output.status.code(), Some(78));
        message(&output)
    };
    let said = serve("[engine]\ncoers = [1]\n");
    assert!(said.contains("line 2") && said.contains("unknown field `coers`"), "{said}");
    let said = serve("[port]\naddress = \"0.0.0.0:7000\"\n");
    assert!(said.contains("--insecure-network"), "{said}");
    let output = nic(&["serve", "--socket", "/nonexistent/nic.sock"]);
    assert_eq!(output.status.code(), Some(73));
    let said = message(&output);
    assert!(said.contains("install -d") && said.contains("--socket"), "{said}");
}

#[test]
fn the_configuration_is_explained_and_what_is_explained_can_be_used() {
    let text = String::from_utf8(succeed(&["config", "--print"]).stdout).unwrap();
    for part in ["socket_mode = 0o600", "allow_users = []", "[quota]", "wait = \"adaptive\""] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let (config, socket) = (folder.path().join("nic.toml"), folder.path().join("nic.sock"));
    fs::write(&config, text).unwrap();
    let (config, path) = (config.to_str().unwrap(), socket.to_str().unwrap());
    let _engine = Running::start(&["serve", "--config", config, "--socket", path]);
    await_true("the engine does not answer", || {
        nic(&["status", "--socket", path]).status.success()
    });
    // Nothing is printed unasked.
    assert!(!nic(&["config"]).status.success());
}

#[test]
fn an_address_in_use_is_told() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("nic.toml");
    fs::write(&config, format!("[port]\naddress = \"{address}\"\n")).unwrap();
    let socket = folder.path().join("nic.sock");
    let output =
        nic(&["serve", "--config", config.to_str().unwrap(), "--socket", socket.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(69));
    let said = message(&output);
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
}

#[test]
fn the_doctor_finds_this_machine_usable() {
    let json = succeed(&["doctor", "--json"]).stdout;
    let report: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(report["usable"], true);
    let findings = report["findings"].as_array().unwrap();
    for what in ["kernel", "cores", "udp port", "huge pages", "clock", "control socket"] {
        assert!(findings.iter().any(|finding| finding["what"] == what), "{what}");
    }
    for finding in findings {
        let is_good = finding["grade"] == "good";
        assert_eq!(finding["mend"].is_null(), is_good, "what is not good has its command");
    }
    let text = String::from_utf8(succeed(&["doctor"]).stdout).unwrap();
    assert!(text.ends_with("This machine is usable.\n"), "{text}");
}

#[test]
fn the_demos_own_commands_are_not_for_people() {
    for command in ["__engine", "__demo-target", "__bench-target"] {
        let output = nic(&[command]);
        assert!(!output.status.success());
        assert!(message(&output).contains("nic demo"), "{}", message(&output));
    }
}
