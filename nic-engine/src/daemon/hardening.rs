//! What a daemon gives up, so that whoever breaks into it has little: privileges before its threads
//! begin (threads inherit them), system calls once everything runs.

mod filter;

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, no_new_privs, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};
use serde::Serialize;

use super::config::Seccomp;

/// Which parts of a process's memory a core dump holds; a number of bits, none of which is set.
const DUMPED_PARTS: &str = "/proc/self/coredump_filter";

/// What keeps a daemon from giving something up.
#[derive(Debug, thiserror::Error)]
pub enum HardeningError {
    /// A privilege stays: the system's reason.
    #[error("the daemon cannot give up {what}: {error}")]
    Privilege {
        /// What it is.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The system calls cannot be filtered.
    #[error(
        "system calls cannot be filtered: {reason}; `nic doctor` tells what the kernel has, and \
         hardening.seccomp = \"off\" goes without"
    )]
    Filter {
        /// Why.
        reason: String,
    },
}

/// What a daemon has given up, as its status tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Hardening {
    /// What becomes of a system call that it has no use for.
    pub seccomp: Seccomp,
    /// Capabilities that are left, as bits.
    pub capabilities: u64,
    /// Whether a program that it could run would have no more rights than it.
    pub no_new_privileges: bool,
    /// Whether a core dump would hold any of its memory.
    pub core_dumps: bool,
}

impl Hardening {
    /// What the calling thread has now, and what its process will be left of system calls.
    pub(super) fn of_process(seccomp: Seccomp) -> Self {
        let parts = std::fs::read_to_string(DUMPED_PARTS).unwrap_or_default();
        Hardening {
            seccomp,
            capabilities: capabilities(None).map_or(u64::MAX, |sets| sets.permitted.bits()),
            no_new_privileges: no_new_privs().unwrap_or(false),
            core_dumps: parts.trim().bytes().any(|digit| digit != b'0'),
        }
    }
}

/// Gives up all capabilities, what a program could gain, and core dumps. Sockets and files must have
/// been opened before, and threads must not: each keeps its own.
///
/// # Errors
/// The system's reason.
pub(super) fn drop_privileges() -> Result<(), HardeningError> {
    let kept = |what| {
        move |error: rustix::io::Errno| HardeningError::Privilege { what, error: error.into() }
    };
    set_no_new_privs(true).map_err(kept("new privileges"))?;
    drop_capabilities().map_err(kept("its capabilities"))?;
    // Regions belong to applications, and rkeys are secrets. The limit keeps the kernel from writing
    // a file; a program that collects cores by a pipe gets one regardless, so it is left empty.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(kept("core dumps"))?;
    std::fs::write(DUMPED_PARTS, "0")
        .map_err(|error| HardeningError::Privilege { what: "core dumps", error })
}

fn drop_capabilities() -> rustix::io::Result<()> {
    clear_ambient_capability_set()?;
    // Only who has this capability may shrink the bounding set; nobody else gains by it.
    if capabilities(None)?.effective.contains(CapabilitySet::SETPCAP) {
        for number in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << number);
            // The kernel knows the numbers from 0 to some last one.
            let Ok(is_there) = capability_is_in_bounding_set(one) else { break };
            if is_there {
                remove_capability_from_bounding_set(one)?;
            }
        }
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}

/// Leaves all threads of the process no system calls but those that a running daemon makes. Returns
/// what the process has given up by then.
///
/// # Errors
/// The kernel cannot filter, or not on this machine.
pub(super) fn filter_calls(mode: Seccomp) -> Result<Hardening, HardeningError> {
    let refused = |reason: String| HardeningError::Filter { reason };
    // Looked at before the filter, which does not let a daemon ask.
    let given_up = Hardening::of_process(mode);
    for program in filter::programs(mode).map_err(|error| refused(error.to_string()))? {
        seccompiler::apply_filter_all_threads(&program)
            .map_err(|error| refused(error.to_string()))?;
    }
    Ok(given_up)
}
