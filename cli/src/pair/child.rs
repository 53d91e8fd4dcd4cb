//! Other processes that this program starts: itself again, with a socket for standard input.
//!
//! A child leaves no trace: it has no path, gets its descriptors through that socket, and ends at
//! the socket's end-of-file, whatever this process dies of. The kernel is asked to kill it then as
//! well, for the case that it is stopped or stuck.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nic_shm::{ControlSocket, Incoming, wait_any};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message in bytes.
const MESSAGE_BYTES_MAX: usize = 4096;
/// How long a child may be silent, and how long it may take to end.
const PATIENCE: Duration = Duration::from_secs(60);
const FAREWELL: Duration = Duration::from_secs(2);

/// A process that this one has started. Dropping it ends it.
#[derive(Debug)]
pub struct Child {
    what: &'static str,
    process: std::process::Child,
    /// Closed to end the process.
    link: Option<Link>,
}

/// One end of the socket between such a process and the one that started it.
#[derive(Debug)]
pub struct Link {
    socket: ControlSocket,
}

impl Child {
    /// Starts this program with a hidden command; `what` it is in messages.
    pub fn start(command: &str, what: &'static str) -> Result<Self> {
        let (own, theirs) = ControlSocket::pair().context("the system gives no socket")?;
        let process = Command::new("/proc/self/exe")
            .arg0("nic")
            .arg(command)
            .stdin(Stdio::from(theirs.as_fd().try_clone_to_owned()?))
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{what} cannot be started"))?;
        Ok(Child { what, process, link: Some(Link { socket: own }) })
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a message.
    pub fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        self.link()?.send(message, descriptors).with_context(|| self.gone())
    }

    /// Waits for its next message.
    pub fn receive<T: DeserializeOwned>(&self) -> Result<T> {
        match self.link()?.receive(Some(PATIENCE))? {
            Some((message, _)) => Ok(message),
            None => Err(anyhow!(self.gone())),
        }
    }

    /// What becomes readable when it has said something, or has ended.
    pub fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.link()?.as_fd())
    }

    /// Whether it has said something, or has ended.
    pub fn has_something(&self) -> Result<bool> {
        Ok(self.link()?.has_something())
    }

    /// Nothing is expected from it: something is its end.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.has_something()?, self.gone());
        Ok(())
    }

    fn link(&self) -> Result<&Link> {
        self.link.as_ref().ok_or_else(|| anyhow!(self.gone()))
    }

    fn gone(&self) -> String {
        format!("{} (process {}) has ended before its time", self.what, self.process.id())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.link = None;
        let begin = Instant::now();
        while begin.elapsed() < FAREWELL {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // It is stuck, and what it was for is over.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Link {
    /// The end of a process that was started by [`Child::start`].
    pub fn of_child() -> Result<Self> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let descriptor = std::io::stdin().as_fd().try_clone_to_owned()?;
        let link = Link { socket: ControlSocket::from_fd(descriptor) };
        link.socket.peer_credentials().context(
            "this command is a part of `nic demo` and `nic bench` and is started by them; run one of \
             these instead",
        )?;
        Ok(link)
    }

    /// Sends a message.
    pub fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let bytes = serde_json::to_vec(message)?;
        Ok(self.socket.send(&bytes, descriptors)?)
    }

    /// Waits for a message and its descriptors; `None` when the other end is closed.
    pub fn receive<T: DeserializeOwned>(
        &self,
        patience: Option<Duration>,
    ) -> Result<Option<(T, Vec<OwnedFd>)>> {
        let begin = Instant::now();
        loop {
            let left = patience.map(|patience| patience.saturating_sub(begin.elapsed()));
            if !wait_any(&[self.socket.as_fd()], left)?.is_empty() {
                break;
            }
            if left == Some(Duration::ZERO) {
                bail!("a process that was started has said nothing for {patience:?}");
            }
        }
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        match self.socket.receive(&mut buffer)? {
            Incoming::Message { len, descriptors } => {
                Ok(Some((serde_json::from_slice(&buffer[..len])?, descriptors)))
            }
            Incoming::EndOfFile => Ok(None),
            Incoming::Nothing => bail!("a socket between processes does not block"),
        }
    }

    /// Whether something can be received: a message, or the end.
    pub fn has_something(&self) -> bool {
        // A look that fails is followed by a receive, which tells why.
        wait_any(&[self.socket.as_fd()], Some(Duration::ZERO))
            .map_or(true, |ready| !ready.is_empty())
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
