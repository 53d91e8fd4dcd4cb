//! Stops a process in which a watched thread makes a system call that it has no right to.
//!
//! The trap is a seccomp filter of the one thread: it needs no privilege, costs some tens of
//! nanoseconds per call, misses nothing, and compares the arguments too. What is not on the list
//! raises SIGSYS; the handler lets a reporter thread name the call, and the process ends with
//! [`TRAPPED`].
//!
//! A filter cannot be taken off again: a thread that carries one works until its process ends.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};
use signal_hook::consts::SIGSYS;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::WithRawSiginfo;

/// With which status a process ends whose watched thread made a forbidden call.
pub const TRAPPED: i32 = 99;

/// What a watched thread may call.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    calls: BTreeMap<i64, Vec<SeccompRule>>,
}

impl Allowed {
    /// Nothing.
    pub fn nothing() -> Self {
        Allowed::default()
    }

    /// A UDP port's receive and transmit calls.
    pub fn port(mut self, socket: BorrowedFd<'_>) -> Result<Self> {
        let calls = [
            libc::SYS_sendto,
            libc::SYS_sendmsg,
            libc::SYS_sendmmsg,
            libc::SYS_recvfrom,
            libc::SYS_recvmmsg,
        ];
        let socket = socket.as_raw_fd() as u64;
        for call in calls {
            self.add(call, &[(0, socket)])?;
        }
        Ok(self)
    }

    /// The one call of a port over io_uring.
    pub fn uring(mut self) -> Self {
        self.calls.insert(libc::SYS_io_uring_enter, Vec::new());
        self
    }

    /// Ringing: eight bytes written to an eventfd, or a single one sent to a stream socket, if it
    /// cannot block. All those that the process has now are doorbells, but for eventfds that it only
    /// watches.
    pub fn ring(mut self) -> Result<Self> {
        for bell in eventfds()? {
            self.add(libc::SYS_write, &[(0, bell as u64), (2, 8)])?;
        }
        let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u64;
        for bell in stream_sockets()? {
            self.add(libc::SYS_sendto, &[(0, bell as u64), (2, 1), (3, flags)])?;
        }
        Ok(self)
    }

    /// Sleeping until a descriptor has something, and letting others run first.
    fn sleep(mut self) -> Self {
        self.calls.insert(libc::SYS_sched_yield, Vec::new());
        #[cfg(target_arch = "x86_64")]
        self.calls.insert(libc::SYS_poll, Vec::new());
        self.calls.insert(libc::SYS_ppoll, Vec::new());
        self
    }

    /// An engine's sleep. Afterwards it silences the eventfd by which its own process wakes it,
    /// which is read as it cannot block: nobody else has it. The applications' bells it only
    /// forgets, by a look at its set of them that does not wait; a read would block on one that
    /// was spoilt.
    pub fn engine_sleep(self) -> Result<Self> {
        let mut allowed = self.sleep();
        for set in descriptors(EPOLL)? {
            #[cfg(target_arch = "x86_64")]
            allowed.add(libc::SYS_epoll_wait, &[(0, set as u64), (3, 0)])?;
            allowed.add(libc::SYS_epoll_pwait, &[(0, set as u64), (3, 0)])?;
        }
        for bell in eventfds()? {
            allowed.add(libc::SYS_read, &[(0, bell as u64), (2, 8)])?;
        }
        Ok(allowed)
    }

    /// An application's sleep, and silencing its own bell afterwards.
    pub fn session_sleep(self) -> Result<Self> {
        let mut allowed = self.sleep();
        for bell in stream_sockets()? {
            let flags = libc::MSG_DONTWAIT as u64;
            allowed.add(libc::SYS_recvfrom, &[(0, bell as u64), (3, flags)])?;
        }
        Ok(allowed)
    }

    /// A call, if all of these arguments (place, value) are so.
    fn add(&mut self, call: i64, arguments: &[(u8, u64)]) -> Result<()> {
        let condition = |(place, value): &(u8, u64)| {
            SeccompCondition::new(*place, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, *value)
        };
        let conditions: Result<Vec<_>, _> = arguments.iter().map(condition).collect();
        self.calls.entry(call).or_default().push(SeccompRule::new(conditions?)?);
        Ok(())
    }

    /// What the signal handler itself needs.
    fn and_handler(mut self, handler: &Handler) -> Result<Self> {
        self.add(libc::SYS_sendto, &[(0, handler.report as u64)])?;
        self.add(libc::SYS_write, &[(0, handler.hold as u64), (2, 1)])?;
        Ok(self)
    }

    fn program(self) -> Result<BpfProgram> {
        let arch = std::env::consts::ARCH.try_into()?;
        let filter =
            SeccompFilter::new(self.calls, SeccompAction::Trap, SeccompAction::Allow, arch)?;
        Ok(name_the_call(filter.try_into()?))
    }
}

/// Descriptors that the trap's signal handler writes to.
struct Handler {
    /// Where it tells the reporter.
    report: RawFd,
    /// Where it then waits for the end: a full pipe.
    hold: RawFd,
}

static HANDLER: OnceLock<Handler> = OnceLock::new();

/// Makes violations end the process, the call's name on standard error. To be called before the
/// first [`install`].
pub fn report_violations() -> Result<()> {
    let (read, write) = UnixStream::pair()?;
    let report = write.as_raw_fd();
    let mut signals = SignalDelivery::with_pipe(read, write, WithRawSiginfo, [SIGSYS])?;
    let (pipe_end, pipe) = full_pipe()?;
    let hold = pipe.as_raw_fd();
    let same_pipe = pipe.try_clone()?;
    signal_hook::low_level::pipe::register(SIGSYS, pipe)?;
    // Registering made it non-blocking. But the trapped thread has to stay where it is until it
    // has been reported: what it would do next, without its system call, nobody knows.
    fcntl_setfl(&same_pipe, fcntl_getfl(&same_pipe)? - OFlags::NONBLOCK)?;
    ensure!(HANDLER.set(Handler { report, hold }).is_ok(), "violations are reported already");
    let reporter = move || {
        let _open_as_long_as_this = pipe_end;
        loop {
            let socket = signals.get_read().as_fd();
            let _ = poll(&mut [PollFd::from_borrowed_fd(socket, PollFlags::IN)], None);
            if let Some(signal) = signals.pending().next() {
                let call = i64::from(signal.si_errno);
                let name = name(call);
                eprintln!("a watched thread called {name} (number {call}), which is not allowed");
                std::process::exit(TRAPPED);
            }
        }
    };
    std::thread::Builder::new().name("trap".to_owned()).spawn(reporter)?;
    Ok(())
}

/// Leaves the calling thread nothing but the `allowed` calls, for good.
pub fn install(allowed: Allowed) -> Result<()> {
    let handler = HANDLER.get().context("nobody would report violations")?;
    let program = allowed.and_handler(handler)?.program()?;
    seccompiler::apply_filter(&program).context("the kernel refuses the filter")
}

/// A pipe that takes nothing more.
fn full_pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    while rustix::io::write(&write, &[0; 4096]).is_ok() {}
    Ok((read, write))
}

/// How /proc shows an eventfd, and a set of watched descriptors.
const EVENTFD: &str = "anon_inode:[eventfd]";
const EPOLL: &str = "anon_inode:[eventpoll]";

/// The eventfds that the process has open and does not watch in a set: those, others may have too.
fn eventfds() -> Result<Vec<RawFd>> {
    let mut found = descriptors(EVENTFD)?;
    for set in descriptors(EPOLL)? {
        let members = std::fs::read_to_string(format!("/proc/self/fdinfo/{set}"))?;
        for member in members.lines().filter_map(|line| line.strip_prefix("tfd:")) {
            let number = member.split_ascii_whitespace().next().context("a member is a number")?;
            let number: RawFd = number.parse()?;
            found.retain(|bell| *bell != number);
        }
    }
    Ok(found)
}

/// The process's stream sockets to other processes of the machine.
fn stream_sockets() -> Result<Vec<RawFd>> {
    // Columns: address, references, protocol, flags, type, state, inode, path.
    const STREAM: &str = "0001";
    let mut found = Vec::new();
    for line in std::fs::read_to_string("/proc/net/unix")?.lines().skip(1) {
        let columns: Vec<_> = line.split_ascii_whitespace().collect();
        if columns.get(4) == Some(&STREAM) {
            let inode = columns.get(6).context("a socket has an inode")?;
            found.extend(descriptors(&format!("socket:[{inode}]"))?);
        }
    }
    Ok(found)
}

/// The descriptors that the process has open and that /proc shows as `kind`.
fn descriptors(kind: &str) -> Result<Vec<RawFd>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // The folder's own descriptor is on the list, and gone by now.
        let Ok(link) = std::fs::read_link(entry.path()) else { continue };
        if link.as_os_str() == kind {
            let number = entry.file_name();
            found.push(number.to_str().context("descriptors are numbers")?.parse()?);
        }
    }
    Ok(found)
}

/// Makes a program that traps tell the number of the call: the kernel hands the low half of its
/// verdict to the signal handler, as `si_errno`.
fn name_the_call(mut program: BpfProgram) -> BpfProgram {
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
    let step = |code: u32, k: u32| sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let tail = program.len();
    for (place, instruction) in program.iter_mut().enumerate() {
        if instruction.code == RETURN && instruction.k == libc::SECCOMP_RET_TRAP {
            *instruction = step(u32::from(JUMP), (tail - place - 1) as u32);
        }
    }
    // The call's number is the first word of what filters are shown.
    program.push(step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0));
    program.push(step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, libc::SECCOMP_RET_DATA));
    program.push(step(libc::BPF_ALU | libc::BPF_OR | libc::BPF_K, libc::SECCOMP_RET_TRAP));
    program.push(step(libc::BPF_RET | libc::BPF_A, 0));
    program
}

/// Names of the calls that an engine might make by mistake.
fn name(call: i64) -> &'static str {
    macro_rules! names {
        ($($call:ident)*) => {
            match call { $(libc::$call => stringify!($call),)* _ => "of another name" }
        };
    }
    names!(
        SYS_brk SYS_clock_gettime SYS_clock_nanosleep SYS_close SYS_exit_group SYS_fcntl SYS_futex
        SYS_getpid SYS_getrandom SYS_gettid SYS_gettimeofday SYS_ioctl SYS_madvise SYS_mmap
        SYS_mprotect SYS_mremap SYS_munmap SYS_nanosleep SYS_openat SYS_ppoll SYS_read SYS_readv
        SYS_recvfrom SYS_recvmmsg SYS_recvmsg SYS_sched_yield SYS_sendmmsg SYS_sendmsg SYS_sendto
        SYS_setsockopt SYS_sigaltstack SYS_statx SYS_tgkill SYS_write SYS_writev
    )
}
