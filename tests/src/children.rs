//! Processes that tests start, and how they are told what to do.
//!
//! A [`Child`] is the binary of this package in one of its [`Role`]s. It is asked in lines and
//! answers in lines; it is killed when it is dropped, and it ends by itself when its test does.

mod options;

pub use options::{
    ApplicationOptions, Drive, EngineOptions, InitiatorOptions, LoadOptions, LogOwnerOptions,
    MessagesEngine, MessagesOptions, Offence, PortKind, RacerOptions, Role, Structure,
    TargetOptions, Waiting, WriterOptions,
};

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use nic_host::{Endpoint, Nic, NicError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A child that says nothing for so long hangs, and its test fails. Nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(240);

/// A process of this package's binary.
pub struct Child {
    role: &'static str,
    process: std::process::Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Child {
    /// Starts a process. `program` is `env!("CARGO_BIN_EXE_nic-tests")`, which only tests know.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn start(program: &str, role: &Role) -> Child {
        Child::start_by(Command::new(program), role)
    }

    /// Starts a process by a command that names the program and where it is to run.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn start_by(mut command: Command, role: &Role) -> Child {
        let mut process = command
            .arg(serde_json::to_string(role).expect("options are plain data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
        let input = process.stdin.take();
        let output = process.stdout.take().expect("the output is a pipe");
        Child { role: role.name(), process, input, output: BufReader::new(output) }
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Says a line and waits for the answer.
    ///
    /// # Panics
    /// If the child ends, hangs or answers with an error.
    pub fn ask(&mut self, command: &str) -> Value {
        self.tell(command);
        self.answer()
    }

    /// Says a line, whose answer is to be taken later.
    ///
    /// # Panics
    /// If the child has ended.
    pub fn tell(&mut self, command: &str) {
        let input = self.input.as_mut().expect("the input is closed by the end only");
        if let Err(error) = writeln!(input, "{command}") {
            let status = self.process.wait();
            panic!("the {} cannot be told {command:?}: {error}; {status:?}", self.role);
        }
    }

    /// The next answer.
    ///
    /// # Panics
    /// If the child ends, hangs or answers with an error.
    pub fn answer(&mut self) -> Value {
        let mut line = String::new();
        if self.output.buffer().is_empty() {
            let patience = Timespec::try_from(PATIENCE).expect("some minutes");
            let mut output = [PollFd::new(self.output.get_ref(), PollFlags::IN)];
            let ready = poll(&mut output, Some(&patience)).expect("a pipe can be waited for");
            assert!(ready > 0, "the {} has said nothing for {PATIENCE:?}", self.role);
        }
        self.output.read_line(&mut line).expect("the child speaks text");
        if line.is_empty() {
            let status = self.process.wait();
            panic!("the {} ended instead of answering: {status:?}", self.role);
        }
        let answer: Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("the {} said {line:?}: {error}", self.role));
        if let Some(error) = answer.get("error") {
            panic!("the {} failed: {error}", self.role);
        }
        answer
    }

    /// Whether there is no answer to be taken yet.
    ///
    /// # Panics
    /// If its output cannot be looked at.
    pub fn has_said_nothing(&self) -> bool {
        let mut output = [PollFd::new(self.output.get_ref(), PollFlags::IN)];
        let at_once = Timespec::default();
        let ready = poll(&mut output, Some(&at_once)).expect("a pipe can be looked at");
        self.output.buffer().is_empty() && ready == 0
    }

    /// Waits for its end, without telling it anything.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn end(&mut self) -> ExitStatus {
        self.process.wait().expect("a child can be waited for")
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it has ended.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.rustix_pid(), signal).expect("the child lives");
    }

    /// Stops it, and returns once all its threads stand still.
    ///
    /// # Panics
    /// If it has ended.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        while !self.states().iter().all(|state| *state == 'T') {
            std::thread::yield_now();
        }
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// If it has ended.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// kill -9, and waits until it is gone.
    ///
    /// # Panics
    /// If it has ended before.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.end();
    }

    /// The state letter of each of its threads, as /proc shows them: R runs, S sleeps, T stands.
    pub fn states(&self) -> Vec<char> {
        self.threads().iter().map(|thread| thread.state).collect()
    }

    /// Its threads.
    ///
    /// # Panics
    /// If it has ended.
    pub fn threads(&self) -> Vec<Thread> {
        let folder = format!("/proc/{}/task", self.pid());
        let tasks = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
        tasks.filter_map(|task| Thread::read(&task.ok()?.path())).collect()
    }

    fn rustix_pid(&self) -> Pid {
        let number = i32::try_from(self.pid()).expect("process numbers are small");
        Pid::from_raw(number).expect("a child's number is not zero")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A thread of another process, as /proc shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its name.
    pub name: String,
    /// R runs, S sleeps, T stands.
    pub state: char,
    /// How often it has gone to sleep and been woken.
    pub sleeps: u64,
    /// How often it was made to wait while it wanted to run.
    pub preemptions: u64,
}

impl Thread {
    /// `None`: it is gone.
    fn read(folder: &Path) -> Option<Thread> {
        let status = std::fs::read_to_string(folder.join("status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().to_owned())
        };
        Some(Thread {
            name: field("Name:")?,
            state: field("State:")?.chars().next()?,
            sleeps: field("voluntary_ctxt_switches:")?.parse().ok()?,
            preemptions: field("nonvoluntary_ctxt_switches:")?.parse().ok()?,
        })
    }
}

/// Connects to an engine that may be just starting.
///
/// # Panics
/// If it ends, or nobody ever answers.
pub fn connect(engine: &mut Child, socket: &Path) -> Nic {
    let begin = std::time::Instant::now();
    loop {
        match Nic::connect(Endpoint::Path(socket.to_owned())) {
            Ok(nic) => return nic,
            Err(NicError::NoEngine { .. }) => {}
            Err(error) => panic!("{}: {error}", socket.display()),
        }
        let ended = engine.process.try_wait().expect("a child can be asked for its end");
        assert!(ended.is_none(), "the {} ended at its start: {ended:?}", engine.role);
        assert!(begin.elapsed() < PATIENCE, "no engine answers at {}", socket.display());
        std::thread::yield_now();
    }
}

/// The counters that an engine process publishes, by name.
///
/// # Panics
/// If the engine is gone.
pub fn engine_counters(nic: &Nic) -> serde_json::Map<String, Value> {
    let status = nic.status().expect("the engine lives");
    let status: Value = serde_json::from_str(&status).expect("the status is JSON");
    let counters = status["engines"][0]["counters"].as_object();
    counters.expect("an engine has counters").clone()
}

/// The core of a place among those that the system has, if there are two or more: where a race's
/// sides are put, so that they really run at once.
pub fn racing_core(place: usize) -> Option<usize> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    cores.get(place).filter(|_| cores.len() > 1).map(|core| core.id)
}

/// An engine that answers at a socket, on the second core.
///
/// # Panics
/// As [`connect`].
pub fn racing_engine(program: &str, socket: &Path) -> Child {
    let socket = socket.to_owned();
    let options =
        EngineOptions { socket: socket.clone(), core: racing_core(1), ..EngineOptions::default() };
    let mut engine = Child::start(program, &Role::Engine(options));
    drop(connect(&mut engine, &socket));
    engine
}
