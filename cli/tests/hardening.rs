//! What an engine process has given up, and what it never tells, seen from outside.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod nic;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ::nic_host::{Access, Endpoint, Nic};
use nic::{await_true, nic, succeed};
use tempfile::TempDir;

/// `nic serve` with a configuration of its own.
struct Serving {
    folder: TempDir,
    process: Child,
}

impl Serving {
    fn start(configuration: &str) -> Serving {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("nic.toml");
        let log = fs::File::create(folder.path().join("log")).unwrap();
        fs::write(&config, configuration).unwrap();
        let socket = folder.path().join("nic.sock");
        let process = Command::new(env!("CARGO_BIN_EXE_nic"))
            .arg("serve")
            .args([Path::new("--config"), &config, Path::new("--socket"), &socket])
            .env("NIC_LOG", "trace")
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        await_true("the engine does not answer", || {
            nic(&["status", "--socket", socket.to_str().unwrap()]).status.success()
        });
        Serving { folder, process }
    }

    fn socket(&self) -> String {
        self.folder.path().join("nic.sock").to_str().unwrap().to_owned()
    }

    fn nic(&self) -> Nic {
        Nic::connect(Endpoint::Path(self.socket().into())).unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// A file of the process's, or of one of its threads', in /proc.
    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.process.id())).unwrap()
    }

    /// The status of every thread.
    fn threads(&self) -> Vec<String> {
        let folder = format!("/proc/{}/task", self.process.id());
        let tasks = fs::read_dir(folder).unwrap();
        let name = |task: fs::DirEntry| task.file_name().into_string().unwrap();
        tasks.map(|task| self.proc(&format!("task/{}/status", name(task.unwrap())))).collect()
    }

    fn terminate(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let ended = self.process.wait().unwrap();
        assert_eq!(ended.code(), Some(0), "{ended:?}: {}", self.log());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.strip_prefix(':')).unwrap_or_else(|| panic!("no {name}")).trim()
}

#[test]
fn every_thread_of_an_engine_process_has_given_everything_up() {
    let mut serving = Serving::start("[metrics]\nlisten = \"127.0.0.1:0\"\n");
    let threads = serving.threads();
    assert_eq!(threads.len(), 3, "control, engine, metrics");
    for status in &threads {
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(field(status, set), "0000000000000000", "{set} in {status}");
        }
        if rustix::process::geteuid().is_root() {
            assert_eq!(field(status, "CapBnd"), "0000000000000000", "{status}");
        }
        assert_eq!(field(status, "NoNewPrivs"), "1", "{status}");
        assert_eq!(field(status, "Seccomp"), "2", "{status}");
    }
    let limits = serving.proc("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let numbers: Vec<_> = core.split_ascii_whitespace().filter(|word| *word == "0").collect();
    assert_eq!(numbers.len(), 2, "{core}");
    assert_eq!(serving.proc("coredump_filter").trim(), "00000000");

    let json = succeed(&["status", "--socket", &serving.socket(), "--json"]).stdout;
    let status: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let expected = serde_json::json!({
        "seccomp": "kill", "capabilities": 0, "no_new_privileges": true, "core_dumps": false
    });
    assert_eq!(status["hardening"], expected);
    let text = succeed(&["status", "--socket", &serving.socket()]).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("no capabilities, no core dumps"), "{text}");
    serving.terminate();
}

#[test]
fn the_filter_is_what_the_configuration_says() {
    for (mode, expected) in [("log", "2"), ("off", "0")] {
        let mut serving = Serving::start(&format!("[hardening]\nseccomp = \"{mode}\"\n"));
        for status in serving.threads() {
            assert_eq!(field(&status, "Seccomp"), expected, "{mode}");
            assert_eq!(field(&status, "NoNewPrivs"), "1", "{mode}");
        }
        serving.terminate();
    }
}

#[test]
fn no_log_has_a_secret_in_it() {
    let mut serving = Serving::start("");
    let owner = serving.nic();
    let region = owner.region(1 << 16).create().unwrap();
    let export = region.export(Access::READ.and(Access::WRITE)).unwrap();
    let ticket = export.ticket();
    // One initiator on the same engine process, one elsewhere; one that has a wrong secret.
    for nic in [serving.nic(), Nic::inline(Default::default()).unwrap()] {
        let session = nic.session().open().unwrap();
        let remote = session.connect(&ticket).unwrap();
        session.run(remote.write(0, b"written")).unwrap();
        assert_eq!(&*session.run(remote.read(0..7)).unwrap(), b"written");
        let mut wrong = ticket;
        wrong.rkey.secret = (!ticket.rkey.secret.get()).into();
        let stranger = session.connect(&wrong).unwrap();
        session.run(stranger.read(0..7)).unwrap_err();
    }
    export.revoke().unwrap();
    serving.terminate();

    let log = serving.log().to_lowercase();
    assert!(log.contains("an application connected"), "something was logged: {log}");
    let secret = ticket.rkey.secret.get();
    for secret in [secret, !secret] {
        let swapped = secret.swap_bytes();
        let written = [
            format!("{secret:x}"),
            format!("{swapped:x}"),
            secret.to_string(),
            swapped.to_string(),
            format!("{:?}", secret.to_le_bytes()),
            format!("{:?}", secret.to_be_bytes()),
        ];
        for form in written {
            assert!(!log.contains(&form), "the secret stands in the log as {form}: {log}");
        }
    }
}
