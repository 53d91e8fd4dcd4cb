//! Other processes: their death, and being one's own child.

use super::mapping::Mapping;
use crate::{Ready, WaitError, wait_any};
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::mm::Advice;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io;

/// A process that stays the same process: its number may be given to another after its death, this
/// handle not. It becomes readable when the process has died; unlike a socket's end-of-file, this
/// cannot be kept from us by a child that inherited the socket.
#[derive(Debug)]
pub struct Pidfd {
    fd: OwnedFd,
}

impl Pidfd {
    /// The process that has this number now. `NotFound` if there is none (any more).
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, std::format!("{pid} is no process number"))
        })?;
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => Ok(Self { fd }),
            Err(Errno::SRCH) => Err(io::ErrorKind::NotFound.into()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A handle that was received.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Whether the process has died, even if its parent has not yet taken note: one system call.
    pub fn has_exited(&self) -> Result<bool, WaitError> {
        let ready = wait_any(&[self.fd.as_fd()], Some(Duration::ZERO))?;
        Ok(ready != Ready::NONE)
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The value that a fork wipes away.
const PARENT: u32 = 1;

/// Tells a process from the child that it forked: mappings and descriptors are inherited, and two
/// processes working one session would ruin it. Costs one load.
#[derive(Debug)]
pub struct ForkGuard {
    page: Mapping,
}

impl ForkGuard {
    /// A guard for the process that calls this.
    pub fn new() -> io::Result<Self> {
        let page = Mapping::anonymous(size_of::<u32>())?;
        page.advise(Advice::LinuxWipeOnFork)?;
        let guard = Self { page };
        guard.word().store(PARENT, Ordering::Relaxed);
        Ok(guard)
    }

    /// Whether this is a child, forked after the guard was made.
    #[inline]
    #[must_use]
    pub fn in_child(&self) -> bool {
        self.word().load(Ordering::Relaxed) != PARENT
    }

    #[inline(always)]
    fn word(&self) -> &AtomicU32 {
        // SAFETY: the page is aligned, ours alone, writable, and mapped as long as the guard lives.
        unsafe { self.page.base().cast::<AtomicU32>().as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_living_process_has_not_exited_and_a_dead_one_has() {
        let mut child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let process = Pidfd::open(child.id()).unwrap();
        assert!(!process.has_exited().unwrap());

        child.kill().unwrap();
        // Death makes the handle readable, before the parent has taken note of it.
        assert!(wait_any(&[process.as_fd()], None).unwrap().contains(0));
        assert!(process.has_exited().unwrap());
        child.wait().unwrap();
        assert!(process.has_exited().unwrap());
    }

    #[test]
    fn numbers_without_a_process_are_refused() {
        assert_eq!(Pidfd::open(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(Pidfd::open(u32::MAX).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        // Beyond the kernel's greatest process number (2^22).
        assert_eq!(Pidfd::open(1 << 30).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_forked_child_knows_that_it_is_one() {
        let guard = ForkGuard::new().unwrap();
        assert!(!guard.in_child());
        // SAFETY: the child only loads a word and exits, which is allowed after a fork even if
        // other threads held locks.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let status = if guard.in_child() { 42 } else { 1 };
            // SAFETY: ends the child without running anything of the test harness.
            unsafe { libc::_exit(status) };
        }
        assert!(child > 0, "fork failed");
        let mut status = 0;
        // SAFETY: waits for our own child and writes the status into our variable.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert!(libc::WIFEXITED(status));
        assert_eq!(libc::WEXITSTATUS(status), 42);
        assert!(!guard.in_child(), "the parent stays what it was");
    }
}
