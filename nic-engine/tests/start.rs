//! The `nic-engine` binary from outside: what it says where, and how it ends.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

fn daemon(socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nic-engine"));
    command.arg("--socket").arg(socket).stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

#[test]
fn a_missing_folder_is_told_with_the_command_that_makes_it() {
    let output = daemon(Path::new("/nonexistent/nic.sock")).output().unwrap();
    assert_eq!(output.status.code(), Some(73));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("nic-engine: "), "{said}");
    assert!(said.contains("install -d") && said.contains("--socket"), "{said}");
}

#[test]
fn its_log_has_no_colours_where_there_is_no_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = daemon(&folder.path().join("nic.sock")).spawn().unwrap();
    let mut log = Vec::new();
    for line in BufReader::new(engine.stderr.take().unwrap()).lines() {
        log.push(line.unwrap());
        if log.last().unwrap().contains("applications may connect") {
            break;
        }
    }
    engine.kill().unwrap();
    engine.wait().unwrap();
    assert!(log.iter().any(|line| line.contains("applications may connect")), "{log:?}");
    assert!(!log.concat().contains('\u{1b}'), "{log:?}");
}
