//! The `nic` command as the tests run it.
#![allow(dead_code, reason = "each test file uses a part")]

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the command to its end.
pub fn nic(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// Runs the command, which is to end well.
pub fn succeed(arguments: &[&str]) -> Output {
    let output = nic(arguments);
    assert!(output.status.success(), "{}", message(&output));
    output
}

/// What the command said on standard error.
pub fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nic"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A command under way; dropping it kills it.
pub struct Running(Child);

impl Running {
    pub fn start(arguments: &[&str]) -> Self {
        let quiet = Stdio::null;
        Running(command(arguments).stdout(quiet()).stderr(quiet()).spawn().unwrap())
    }

    /// Waits until it has at least `count` children; their process numbers.
    pub fn await_children(&mut self, count: usize) -> Vec<u32> {
        let mut found = Vec::new();
        let pid = self.0.id();
        await_true("the demo's processes do not appear", || {
            assert!(self.0.try_wait().unwrap().is_none(), "the demo has ended early");
            found = children(pid);
            found.len() >= count
        });
        found
    }

    pub fn kill(&mut self) {
        // Killing one that has ended is no error of the test's.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Asks it to end, as `kill PID` does.
    pub fn terminate(&mut self) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.0.wait().unwrap()
    }

    pub fn await_end(&mut self) -> std::process::ExitStatus {
        self.0.wait().unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kills a process that this one has not started itself.
pub fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Whether the process runs: neither gone nor a zombie that nobody has reaped.
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap();
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent)).collect()
}

/// Looks again and again until something holds.
pub fn await_true(otherwise: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{otherwise}");
        std::thread::yield_now();
    }
}
