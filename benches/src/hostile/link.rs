//! The processes of the scene: this program again, each with a socket for standard input, over
//! which it is asked and answers.

use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nic_shm::{ControlSocket, Incoming, wait_any};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::roles::Order;

/// The longest message in bytes.
const MESSAGE_BYTES_MAX: usize = 16 << 10;
/// Who says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process of the scene, seen from the one that started it. Dropping it kills it.
pub(super) struct Child {
    what: &'static str,
    process: std::process::Child,
    link: Link,
}

/// One end of the socket between two processes of the scene.
pub(super) struct Link(ControlSocket);

/// Who works between orders.
pub(super) trait Worker {
    /// Carries an order out and answers it.
    fn obey(&mut self, order: Order) -> Result<Value>;

    /// Does a little. How long to sleep then, unless there is an order; `None`: until there is one.
    fn work(&mut self) -> Result<Option<Duration>>;
}

impl Child {
    /// Starts this program with a hidden command and its argument; `what` it is in messages.
    pub(super) fn start(what: &'static str, command: &str, argument: &str) -> Result<Child> {
        let (own, theirs) = ControlSocket::pair()?;
        let process = Command::new("/proc/self/exe")
            .args([command, argument])
            .stdin(Stdio::from(theirs.as_fd().try_clone_to_owned()?))
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("the {what} cannot be started"))?;
        Ok(Child { what, process, link: Link(own) })
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask<T: DeserializeOwned>(&self, order: &impl Serialize) -> Result<T> {
        self.tell(order)?;
        self.answer()
    }

    /// Asks; the answer is to be taken later.
    pub(super) fn tell(&self, order: &impl Serialize) -> Result<()> {
        self.link.send(order).with_context(|| self.gone())
    }

    pub(super) fn answer<T: DeserializeOwned>(&self) -> Result<T> {
        let answer: Option<Result<T, String>> = self.link.receive(Some(PATIENCE))?;
        let answer = answer.ok_or_else(|| anyhow!(self.gone()))?;
        answer.map_err(|error| anyhow!("the {} failed: {error}", self.what))
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// How it has ended, if it has.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.process.try_wait()?)
    }

    fn gone(&self) -> String {
        format!("the {} (process {}) has ended before its time", self.what, self.process.id())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // kill -9: what is left of it is what the others have to cope with.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Link {
    /// The end of a process that was started by [`Child::start`].
    pub(super) fn of_child() -> Result<Link> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let link = ControlSocket::from_fd(std::io::stdin().as_fd().try_clone_to_owned()?);
        link.peer_credentials().context("this command is started by `nic-benches hostile`")?;
        Ok(Link(link))
    }

    /// Obeys orders until there are no more.
    pub(super) fn obey(&self, mut carry_out: impl FnMut(Order) -> Result<Value>) -> Result<()> {
        while let Some(order) = self.receive(None)? {
            let answer = carry_out(order).map_err(|error| format!("{error:#}"));
            self.send(&answer)?;
        }
        Ok(())
    }

    /// Has a worker work and obey until there are no more orders.
    pub(super) fn drive(&self, worker: &mut impl Worker) -> Result<()> {
        loop {
            let nap = worker.work()?;
            if wait_any(&[self.as_fd()], nap)?.is_empty() {
                continue;
            }
            let Some(order) = self.receive(None)? else { return Ok(()) };
            let answer = worker.obey(order).map_err(|error| format!("{error:#}"));
            self.send(&answer)?;
        }
    }

    fn send(&self, message: &impl Serialize) -> Result<()> {
        Ok(self.0.send(&serde_json::to_vec(message)?, &[])?)
    }

    /// Waits for a message; `None` when the other end is closed.
    fn receive<T: DeserializeOwned>(&self, patience: Option<Duration>) -> Result<Option<T>> {
        let ready = wait_any(&[self.as_fd()], patience)?;
        ensure!(patience.is_none() || !ready.is_empty(), "nothing was said for {patience:?}");
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        match self.0.receive(&mut buffer)? {
            Incoming::Message { len, .. } => Ok(Some(serde_json::from_slice(&buffer[..len])?)),
            Incoming::EndOfFile => Ok(None),
            Incoming::Nothing => bail!("a socket that blocks has brought nothing"),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
