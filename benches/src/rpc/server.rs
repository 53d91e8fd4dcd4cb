//! The process at the other end: it answers calls, or receives messages.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nic_figures::cores;
use nic_host::rpc::Services;
use nic_host::{Access, Export, InlineConfig, Nic, Ticket, Wait};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use super::{COMMAND, DEPTH, Lookup, answer, bulk};

/// What it does.
#[derive(Clone, Copy)]
pub(super) enum Work {
    /// Answers calls.
    Calls,
    /// Receives messages.
    Messages,
}

/// The serving process; it stands still unless its slice runs.
pub(super) struct Server {
    process: Child,
    pub(super) ticket: Ticket,
}

impl Server {
    pub(super) fn start(core: usize, work: Work) -> Result<Server> {
        let work = match work {
            Work::Calls => "calls",
            Work::Messages => "messages",
        };
        let mut process = Command::new("/proc/self/exe")
            .args([COMMAND, &format!("{core} {work}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("the serving process cannot be started")?;
        let mut line = String::new();
        let said = process.stdout.take().context("its output is a pipe")?;
        BufReader::new(said).read_line(&mut line)?;
        ensure!(!line.is_empty(), "the serving process has ended at once");
        let server = Server { process, ticket: line.trim().parse()? };
        server.stop()?;
        Ok(server)
    }

    pub(super) fn at_work<T>(&self, measure: impl FnOnce() -> Result<T>) -> Result<T> {
        self.resume()?;
        let outcome = measure();
        self.stop()?;
        outcome
    }

    pub(super) fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    pub(super) fn stop(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, signal).context("the serving process has ended before its time")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The whole life of the process, by its core and its work.
pub(in super::super) fn process(options: &str) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let (core, work) = options.split_once(' ').context("expected a core and what to do")?;
    cores::pin_current_thread(core.parse()?)?;
    let nic = Nic::inline(InlineConfig::default())?;
    let region = nic.region(4096).create()?;
    let export = region.export(Access::CALL)?;
    match work {
        "calls" => answer_calls(&nic, &export),
        "messages" => bulk::receive(&nic, &export),
        other => bail!("found the work {other:?}, expected calls or messages"),
    }
}

/// Tells the other end how to reach this one.
pub(super) fn say_ticket(export: &Export) -> Result<()> {
    println!("{}", export.ticket());
    Ok(std::io::stdout().flush()?)
}

fn answer_calls(nic: &Nic, export: &Export) -> Result<()> {
    let session = nic.session().receive_buffers(DEPTH, 128).wait(Wait::Spin).open()?;
    let mut services = Services::new();
    services.add(|asked: Lookup| answer(asked.number));
    services.open(&session)?;
    say_ticket(export)?;
    loop {
        services.answer(&session)?;
    }
}
