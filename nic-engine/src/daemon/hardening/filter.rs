//! The system calls that a running daemon makes, each with who makes it. A daemon that has started
//! opens no file, connects to nobody, starts no thread and no program, and makes no memory
//! executable.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

use super::Seccomp;

/// Calls that are allowed with any arguments.
const CALLS: &[i64] = &[
    // Engines: what has been received on the udp port.
    libc::SYS_recvmmsg,
    // Engines: what is to be sent there, several packets at once.
    libc::SYS_sendmmsg,
    // Engines on port uring: what is to be sent, and what has been received. A ring made before the
    // filter does nothing but that, and none can be made after it.
    libc::SYS_io_uring_enter,
    // Control thread: applications' messages and their descriptors. Engines: one coalesced packet.
    libc::SYS_recvmsg,
    // Control thread: answers and descriptors. Engines: one packet, or a run of segments.
    libc::SYS_sendmsg,
    // Engines: a packet alone, what port xdp has queued, and the byte that wakes an application.
    // Watcher of port xdp: questions to the kernel and to neighbours. Metrics thread: its answer.
    // Signal handler: the byte that asks for the end.
    libc::SYS_sendto,
    // Engines: a packet alone. Watcher of port xdp: the kernel's answers. Metrics thread: what it is
    // asked.
    libc::SYS_recvfrom,
    // Everyone: eventfds found rung. Control thread: whether the end is asked for.
    libc::SYS_read,
    // Everyone: eventfds to be rung, the counters of an application's status, log lines.
    libc::SYS_write,
    // Flusher: what ops have asked to be in the files of their regions. Applications have opened
    // these, and handed them over.
    libc::SYS_pwrite64,
    // The same: that it survives a loss of power.
    libc::SYS_fdatasync,
    // Log lines of several parts.
    libc::SYS_writev,
    // Engines and control thread: sleep until something comes.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    // The same with a precise end.
    libc::SYS_ppoll,
    // Engines: which of the applications' doorbells were rung, without a wait.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    // The same call under its other name.
    libc::SYS_epoll_pwait,
    // Control thread: a session's doorbell is watched as long as the session is open.
    libc::SYS_epoll_ctl,
    // Control thread: an application connects. Metrics thread: a scraper does.
    libc::SYS_accept4,
    // Control thread: a session's doorbell.
    libc::SYS_eventfd2,
    // Control thread: an application's process, to hear of its death.
    libc::SYS_pidfd_open,
    // Control thread: memory of sessions, and the text of a status.
    libc::SYS_memfd_create,
    // Control thread: gives that memory its length.
    libc::SYS_ftruncate,
    // Control thread: the length of a memory that an application has sent.
    libc::SYS_fstat,
    // The same where the C library asks so; the socket's path before it is removed.
    libc::SYS_newfstatat,
    // The same where the standard library asks so.
    libc::SYS_statx,
    // Control thread: whether such a memory has huge pages.
    libc::SYS_fstatfs,
    // Control thread: descriptors of an application that is gone. Metrics thread: connections.
    libc::SYS_close,
    // Control thread: memory of sessions and regions that are gone. Threads that end: their stacks.
    libc::SYS_munmap,
    // The allocator: a large block that grows.
    libc::SYS_mremap,
    // The allocator: small blocks.
    libc::SYS_brk,
    // Control thread: makes the pages of a region before it is used. The allocator: gives some back.
    libc::SYS_madvise,
    // Control thread: an rkey's secret. The standard library: seeds of its hash tables.
    libc::SYS_getrandom,
    // Everyone, on machines whose clock is no ordinary memory to read.
    libc::SYS_clock_gettime,
    // Control and metrics thread: a pause when no descriptor is free.
    libc::SYS_clock_nanosleep,
    // Everyone: locks and channels between threads, a thread's end.
    libc::SYS_futex,
    // Engines that share a core.
    libc::SYS_sched_yield,
    // The allocator and the standard library: how many cores there are.
    libc::SYS_sched_getaffinity,
    // Engines: how often they were made to wait.
    libc::SYS_getrusage,
    // Control thread: its own number, which a status and a welcome tell.
    libc::SYS_getpid,
    // Whoever aborts: the thread to be signalled.
    libc::SYS_gettid,
    // The handler of holes in regions: what it does not mend goes to the handler before it.
    libc::SYS_rt_sigaction,
    // Whoever aborts, and threads that end.
    libc::SYS_rt_sigprocmask,
    // Every signal handler's end.
    libc::SYS_rt_sigreturn,
    // Threads that end: their signal stacks.
    libc::SYS_sigaltstack,
    // A thread that the daemon's program started just before the filter: its beginning.
    libc::SYS_set_robust_list,
    // The same.
    libc::SYS_rseq,
    // The kernel itself: a sleep goes on after the process was stopped for a while.
    libc::SYS_restart_syscall,
    // The clean end: socket, lock file and counters file are removed.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    // The same call under its other name.
    libc::SYS_unlinkat,
    // A thread's end.
    libc::SYS_exit,
    // The process's end.
    libc::SYS_exit_group,
];

/// Operations of io_uring_register(2), by their numbers: libc has no names for them.
const ENABLE_RINGS: i32 = 12;
const SYNC_CANCEL: i32 = 24;
const UNREGISTER_FILES: i32 = 3;

/// Calls that libraries try and do without: they fail, where others end the process.
const FUTILE: &[i64] = &[
    // The allocator, as a thread's blocks shrink: whether the system overcommits. A panic's
    // backtrace: what has the names of functions.
    libc::SYS_openat,
    // A panic's backtrace: which program this is, and where it runs.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
];

/// Calls that are allowed with certain arguments: each line one way, as conditions on arguments by
/// place.
fn ways(process: u32) -> Vec<(i64, Vec<Condition>)> {
    let ring = |operation: i32| (libc::SYS_io_uring_register, vec![Condition::is(1, operation)]);
    let no_execution = || vec![Condition::without(2, libc::PROT_EXEC)];
    let socket = |option: i32| vec![Condition::is(1, libc::SOL_SOCKET), Condition::is(2, option)];
    vec![
        // Control thread: memory of sessions and regions. Engines: pages in the place of lost ones.
        // The allocator: large blocks. None of it can be executed.
        (libc::SYS_mmap, no_execution()),
        // The allocator: blocks of threads. None of it becomes executable.
        (libc::SYS_mprotect, no_execution()),
        // Control thread: the socket by which an engine wakes an application.
        (libc::SYS_socketpair, vec![Condition::is(0, libc::AF_UNIX)]),
        // Control thread: of that socket the engine only ever sends.
        (libc::SYS_shutdown, vec![Condition::is(1, libc::SHUT_RD)]),
        // Control thread: an application's socket does not block.
        (libc::SYS_ioctl, vec![Condition::is(1, libc::FIONBIO as i32)]),
        // Control thread: who an application is.
        (libc::SYS_getsockopt, socket(libc::SO_PEERCRED)),
        // Control thread: the application's process.
        (libc::SYS_getsockopt, socket(libc::SO_PEERPIDFD)),
        // Control thread: the groups of an application's user.
        (libc::SYS_getsockopt, socket(libc::SO_PEERGROUPS)),
        // Watcher of port xdp: what the kernel has dropped.
        (
            libc::SYS_getsockopt,
            vec![Condition::is(1, libc::SOL_XDP), Condition::is(2, libc::XDP_STATISTICS)],
        ),
        // Metrics thread: how long a scraper may take to ask.
        (libc::SYS_setsockopt, socket(libc::SO_RCVTIMEO)),
        // Metrics thread: how long it may take to listen.
        (libc::SYS_setsockopt, socket(libc::SO_SNDTIMEO)),
        // Control thread: descriptors of its own for what it shares.
        (libc::SYS_fcntl, vec![Condition::is(1, libc::F_DUPFD_CLOEXEC)]),
        // Control thread: whether a region's memory can change its length.
        (libc::SYS_fcntl, vec![Condition::is(1, libc::F_GET_SEALS)]),
        // Control thread: the memory of a session cannot.
        (libc::SYS_fcntl, vec![Condition::is(1, libc::F_ADD_SEALS)]),
        // Control thread: how a descriptor was opened.
        (libc::SYS_fcntl, vec![Condition::is(1, libc::F_GETFL)]),
        // The standard library, built for tests: whether what it closes is open.
        (libc::SYS_fcntl, vec![Condition::is(1, libc::F_GETFD)]),
        // A thread that the daemon's program started just before the filter: its name.
        (libc::SYS_prctl, vec![Condition::is(0, libc::PR_SET_NAME)]),
        // Engines on port uring: the ring becomes the engine thread's.
        ring(ENABLE_RINGS),
        // The same at the end: what is under way is given up, and the socket let go of.
        ring(SYNC_CANCEL),
        ring(UNREGISTER_FILES),
        // Whoever aborts: a signal to this process, and to no other.
        (libc::SYS_tgkill, vec![Condition::is(0, process as i32)]),
    ]
}

/// What an argument must be like.
struct Condition {
    place: u8,
    compare: SeccompCmpOp,
    value: u64,
}

impl Condition {
    /// The argument is this.
    fn is(place: u8, value: i32) -> Self {
        Condition { place, compare: SeccompCmpOp::Eq, value: u64::from(value as u32) }
    }

    /// The argument has none of these bits.
    fn without(place: u8, bits: i32) -> Self {
        let compare = SeccompCmpOp::MaskedEq(u64::from(bits as u32));
        Condition { place, compare, value: 0 }
    }

    fn checked(self) -> Result<SeccompCondition, BackendError> {
        SeccompCondition::new(self.place, SeccompCmpArgLen::Dword, self.compare, self.value)
    }
}

/// The filters for a mode, in the order in which they are put on.
///
/// # Errors
/// This machine's kind of processor is not known.
pub(super) fn programs(mode: Seccomp) -> Result<Vec<BpfProgram>, BackendError> {
    match mode {
        Seccomp::Kill => strict(SeccompAction::KillProcess),
        Seccomp::Log => Ok(vec![listed(&[], SeccompAction::Log)?]),
        Seccomp::Off => Ok(Vec::new()),
    }
}

/// Filters under which futile calls fail, and this becomes of all that are not listed. A filter has
/// two answers, so that three need two filters; the harsher answer holds.
fn strict(to_others: SeccompAction) -> Result<Vec<BpfProgram>, BackendError> {
    let futile = FUTILE.iter().map(|call| (*call, Vec::new())).collect();
    let fails = SeccompAction::Errno(libc::EACCES as u32);
    Ok(vec![compiled(futile, SeccompAction::Allow, fails)?, listed(FUTILE, to_others)?])
}

/// The filter that does this to every call that is neither listed above nor among `others`.
fn listed(others: &[i64], to_unlisted: SeccompAction) -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        CALLS.iter().chain(others).map(|call| (*call, Vec::new())).collect();
    for (call, conditions) in ways(std::process::id()) {
        let conditions: Result<Vec<_>, _> =
            conditions.into_iter().map(Condition::checked).collect();
        rules.entry(call).or_default().push(SeccompRule::new(conditions?)?);
    }
    compiled(rules, to_unlisted, SeccompAction::Allow)
}

fn compiled(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    to_others: SeccompAction,
    to_these: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, to_others, to_these, architecture)?.try_into()
}

#[cfg(test)]
mod tests;
