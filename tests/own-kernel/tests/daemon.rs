//! The daemon and the two applications as processes, over UDP.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A daemon that applications may connect to.
fn daemon(command: &mut Command) -> Running {
    let mut daemon = command.env("NIC_LOG", "info").stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(daemon.stderr.take().unwrap()).lines().map(Result::unwrap);
    let daemon = Running(daemon);
    let mut said = Vec::new();
    loop {
        let Some(line) = log.next() else { panic!("the daemon ended: {said:?}") };
        if line.contains("applications may connect") {
            break;
        }
        said.push(line);
    }
    // Its log is read to the end, so that it never waits for its reader.
    std::thread::spawn(move || log.for_each(drop));
    daemon
}

fn owner(socket: &Path) -> (Running, String) {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_own-owner"))
        .env("NIC_SOCKET", socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ticket = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut ticket).unwrap();
    (Running(owner), ticket.trim().to_owned())
}

#[test]
fn an_application_calls_the_kernel_next_to_anothers_memory() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_own-engine"));
    let _daemon = daemon(command.arg("--socket").arg(&socket));
    let (_owner, ticket) = owner(&socket);
    let user = Command::new(env!("CARGO_BIN_EXE_own-user"))
        .args([&ticket, "0", "1", "2", "1000000", "1000001", "99999999", "100000001"])
        .output()
        .unwrap();
    assert!(user.status.success(), "{}", String::from_utf8_lossy(&user.stderr));
    assert_eq!(
        String::from_utf8(user.stdout).unwrap().lines().collect::<Vec<_>>(),
        [
            "0: 1 is 1 squared",
            "1: 1 is 1 squared",
            "2: 4 is 2 squared",
            "1000000: 1000000 is 1000 squared",
            "1000001: 1002001 is 1001 squared",
            "99999999: 100000000 is 10000 squared",
            "100000001: no square is as great",
        ]
    );
}

/// Whoever copies from the guide gets what is tested here.
#[test]
fn the_guide_shows_this_crate() {
    let guide = include_str!("../../../docs/own-kernel.md");
    let sources = [
        include_str!("../src/kernel.rs"),
        include_str!("../src/layout.rs"),
        include_str!("../src/main.rs"),
        include_str!("../src/operation.rs"),
    ];
    let shown: Vec<_> = guide.split("```rust\n").skip(1).collect();
    assert!(shown.len() >= 4, "the guide shows {} pieces", shown.len());
    for piece in shown {
        let piece = piece.split("```").next().unwrap();
        assert!(
            piece.split("// ...\n").all(|part| sources.iter().any(|s| s.contains(part))),
            "this stands in no source:\n{piece}"
        );
    }
}
