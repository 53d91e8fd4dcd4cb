//! With which codes `nic` ends; docs/operations.md has the table.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod nic;

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nic::{message, nic, succeed};

fn code(arguments: &[&str]) -> Option<i32> {
    nic(arguments).status.code()
}

#[test]
fn each_failure_has_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let socket = path("nic.sock");
    let serve = |text: &str| {
        let config = path("nic.toml");
        fs::write(&config, text).unwrap();
        code(&["serve", "--config", &config, "--socket", &socket])
    };
    assert_eq!(code(&["serve", "--no-such-flag"]), Some(2));
    assert_eq!(serve("[engine]\ncoers = [1]"), Some(78));
    assert_eq!(serve("[engine]\ncores = [100000]"), Some(78));
    assert_eq!(serve("[port]\naddress = \"0.0.0.0:0\""), Some(78));
    assert_eq!(serve("insecure_network = true\n[port]\naddress = \"192.0.2.1:0\""), Some(78));
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    assert_eq!(serve(&format!("[port]\naddress = \"{address}\"")), Some(69));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    assert_eq!(serve(&format!("[metrics]\nlisten = \"{address}\"")), Some(69));
    assert_eq!(code(&["serve", "--config", &path("missing.toml")]), Some(78));
    let long = format!("/tmp/{}", "x".repeat(120));
    assert_eq!(code(&["serve", "--socket", &long]), Some(78));
    fs::write(path("file"), "no socket").unwrap();
    assert_eq!(code(&["serve", "--socket", &path("file")]), Some(73));
    assert_eq!(code(&["serve", "--socket", &path("no/folder")]), Some(73));

    for command in ["status", "ops"] {
        assert_eq!(code(&[command, "--socket", &path("nobody")]), Some(69), "{command}");
    }
    assert_eq!(code(&["metrics", "--file", &path("missing")]), Some(69));
    assert_eq!(code(&["metrics", "--file", &path("file")]), Some(65));
    assert_eq!(code(&["demo", "--input", &path("missing")]), Some(65));
}

#[test]
fn help_has_the_codes() {
    for arguments in [&["--help"][..], &["serve", "--help"]] {
        let help = String::from_utf8(succeed(arguments).stdout).unwrap();
        assert!(help.contains("78  the configuration cannot be used"), "{help}");
    }
}

#[test]
#[ignore = "needs root: sudo -E cargo test -p nic-cli --test exit_codes -- --include-ignored"]
fn who_may_not_is_told_so_by_the_code() {
    assert!(rustix::process::geteuid().is_root(), "this test takes on another user's identity");
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("nic");
    fs::copy(env!("CARGO_BIN_EXE_nic"), &program).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode;
    fs::set_permissions(folder.path(), mode(0o755)).unwrap();
    let stranger = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).uid(65_533).gid(65_533).current_dir("/").output().unwrap()
    };
    let socket = folder.path().join("nic.sock");
    let output = stranger(&["serve", "--socket", socket.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(77), "{}", message(&output));
    let config = folder.path().join("secret.toml");
    fs::write(&config, "").unwrap();
    fs::set_permissions(&config, mode(0o600)).unwrap();
    let output = stranger(&["serve", "--config", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(77), "{}", message(&output));
    let _engine = nic::Running::start(&["serve", "--socket", socket.to_str().unwrap()]);
    nic::await_true("the engine does not answer", || {
        nic(&["status", "--socket", socket.to_str().unwrap()]).status.success()
    });
    let output = stranger(&["status", "--socket", socket.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(77), "{}", message(&output));
}
