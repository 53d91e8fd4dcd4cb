//! Why a port over io_uring cannot be opened.

use std::io;

use crate::udp::UdpError;

/// Where the machine says whether io_uring is switched off.
const SWITCH: &str = "/proc/sys/kernel/io_uring_disabled";

/// Why a port over io_uring cannot be opened, and what to do about it. Port udp does the same work
/// where this one cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum UringError {
    /// The socket cannot be opened; it is a UDP port's.
    #[error(transparent)]
    Udp(#[from] UdpError),
    /// The machine's administrator has switched io_uring off.
    #[error(
        "io_uring is switched off on this machine (kernel.io_uring_disabled is {found}); `sysctl \
         -w kernel.io_uring_disabled=0` switches it on for all, or at 1 `sysctl -w \
         kernel.io_uring_group=GROUP` for one group; or choose port udp"
    )]
    SwitchedOff {
        /// The setting: 1 for processes without privilege, 2 for all.
        found: u32,
    },
    /// A filter of system calls keeps this process from it.
    #[error(
        "this process may not use io_uring: a seccomp filter denies it, as the default profiles of \
         containers do; allow io_uring_setup, io_uring_enter and io_uring_register (docker: \
         `--security-opt seccomp=PROFILE.json`; systemd: `SystemCallFilter=@aio`), or choose port \
         udp"
    )]
    Denied,
    /// The kernel has no io_uring at all.
    #[error(
        "this kernel has no io_uring, or a seccomp filter says so; take a kernel with \
         CONFIG_IO_URING (`zgrep IO_URING /proc/config.gz`) of Linux 6.1 or newer and allow \
         io_uring_setup, or choose port udp"
    )]
    Absent,
    /// The kernel's io_uring lacks what the port is made of.
    #[error(
        "this kernel's io_uring lacks {missing}, which Linux 6.1 has; found Linux {release}; boot \
         a newer kernel, or choose port udp"
    )]
    TooOld {
        /// What the kernel does not know.
        missing: &'static str,
        /// Which kernel runs.
        release: String,
    },
    /// The limit on locked memory, or the machine, leaves no memory for the queues.
    #[error(
        "there is no memory for io_uring's queues: raise the limit on locked memory (`ulimit -l \
         unlimited`; systemd: `LimitMEMLOCK=infinity`), or choose port udp"
    )]
    NoMemory,
    /// The kernel refused a step that should always work.
    #[error("cannot set up io_uring: {step} failed: {source}; choose port udp")]
    Step {
        /// What was tried.
        step: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl UringError {
    /// What a refused set-up means.
    pub(super) fn setup(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => match switch() {
                found @ 1.. => UringError::SwitchedOff { found },
                0 => UringError::Denied,
            },
            Some(libc::ENOSYS) => UringError::Absent,
            _ => Self::step("io_uring_setup(2)", "deferred task work (DEFER_TASKRUN)")(error),
        }
    }

    /// What a refused step means; the kernel that does not know what is asked says so.
    pub(super) fn step(step: &'static str, missing: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| match source.raw_os_error() {
            Some(libc::EINVAL | libc::EOPNOTSUPP) => {
                UringError::TooOld { missing, release: release() }
            }
            Some(libc::ENOMEM) => UringError::NoMemory,
            _ => UringError::Step { step, source },
        }
    }
}

/// The machine's setting; kernels before 6.6 have none.
fn switch() -> u32 {
    let text = std::fs::read_to_string(SWITCH).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn release() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_mends_them() {
        let of = |errno| UringError::setup(io::Error::from_raw_os_error(errno));
        match (of(libc::EPERM), switch()) {
            (UringError::Denied, 0) => {}
            (UringError::SwitchedOff { found }, switch) => assert_eq!(found, switch),
            (other, switch) => panic!("{other} at {switch}"),
        }
        assert!(matches!(of(libc::ENOSYS), UringError::Absent));
        assert!(matches!(of(libc::ENOMEM), UringError::NoMemory));
        let UringError::TooOld { release, .. } = of(libc::EINVAL) else { panic!("found another") };
        assert!(release.contains('.'));
        assert!(matches!(of(libc::EMFILE), UringError::Step { .. }));
    }
}
