//! The two queues shared with the kernel, and the only calls that are made on them.
//!
//! The ring is made to be driven by one thread (SINGLE_ISSUER), and the kernel's part of an arrival
//! is done by that thread as well, when it enters the kernel and at no other time (DEFER_TASKRUN).
//! So nothing interrupts the thread, and no buffer changes while it looks. Whether there is
//! something to enter for stands in shared memory (TASKRUN_FLAG): an idle poll makes no call.
//!
//! A port is made on one thread and driven by another, so the ring begins disabled and is enabled
//! by the thread that enters first. From then on the kernel refuses all but the port's own three
//! operations on the port's own socket, whoever gets hold of the ring.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};

use io_uring::cqueue::{self, CompletionQueue};
use io_uring::register::Restriction;
use io_uring::squeue::{self, Flags};
use io_uring::types::{CancelBuilder, Fixed};
use io_uring::{EnterFlags, IoUring, opcode};
use rustix::event::{EventfdFlags, eventfd};

use super::UringError;
use super::buffers::Buffers;

/// The socket's place among the ring's registered files.
pub(super) const SOCKET: Fixed = Fixed(0);
/// The number of the only group of receive buffers.
pub(super) const BUFFER_GROUP: u16 = 0;

/// Operations by which a closing port lets go of its socket, IORING_REGISTER_SYNC_CANCEL and
/// IORING_UNREGISTER_FILES.
const CLOSING: [u8; 2] = [24, 3];

/// A ring over one socket.
pub(super) struct Ring {
    ring: IoUring,
    /// Rung by the kernel while somebody sleeps.
    bell: OwnedFd,
    /// Whether a thread has taken the ring.
    enabled: bool,
    /// Whether the bell may be rung.
    listening: bool,
    /// Entries pushed that the kernel has not taken.
    pushed: u32,
    #[cfg(test)]
    calls: u64,
}

impl Ring {
    /// A ring for `entries` submissions at once and `completions_max` completions unread.
    pub(super) fn new(
        socket: BorrowedFd<'_>,
        buffers: &Buffers,
        entries: u32,
        completions_max: u32,
    ) -> Result<Self, UringError> {
        let step = UringError::step;
        let ring = IoUring::builder()
            .dontfork()
            .setup_r_disabled()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(completions_max.next_power_of_two())
            .build(entries)
            .map_err(UringError::setup)?;
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|error| step("eventfd(2)", "eventfds")(error.into()))?;
        let submitter = ring.submitter();
        submitter
            .register_files(&[socket.as_raw_fd()])
            .map_err(step("registering the socket", "registered files"))?;
        // SAFETY: the buffers' ring is memory of that many entries, aligned to a page; the port
        // keeps it longer than this ring.
        unsafe {
            submitter.register_buf_ring_with_flags(
                buffers.ring_address(),
                buffers.count(),
                BUFFER_GROUP,
                0,
            )
        }
        .map_err(step("registering the receive buffers", "rings of provided buffers"))?;
        submitter
            .register_eventfd(bell.as_raw_fd())
            .map_err(step("registering an eventfd", "registered eventfds"))?;
        submitter
            .register_restrictions(&mut restrictions())
            .map_err(step("restricting the ring", "restrictions"))?;
        let mut ring = Ring {
            ring,
            bell,
            enabled: false,
            listening: false,
            pushed: 0,
            #[cfg(test)]
            calls: 0,
        };
        ring.ring.completion().disable_eventfd();
        Ok(ring)
    }

    /// Puts one operation into the submission queue; `false` if that is full.
    ///
    /// # Safety
    /// What the operation points to must stay as it is until its completion is seen, or until the
    /// ring is dropped.
    #[inline]
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> bool {
        let entry = entry.clone().flags(Flags::FIXED_FILE);
        // SAFETY: the caller's promise.
        let is_in = unsafe { self.ring.submission().push(&entry) }.is_ok();
        self.pushed += u32::from(is_in);
        is_in
    }

    /// Whether an operation was pushed that the kernel has not taken.
    #[inline]
    pub(super) fn has_pushed(&self) -> bool {
        self.pushed > 0
    }

    /// Whether the kernel has something to do here for which it waits to be entered.
    #[inline]
    pub(super) fn has_work(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// The one call: hands over what was pushed, and has the kernel do what it waited with.
    ///
    /// # Errors
    /// What will not be better the next time.
    #[inline]
    pub(super) fn enter(&mut self) -> io::Result<()> {
        if !self.enabled {
            self.enable()?;
        }
        #[cfg(test)]
        {
            self.calls += 1;
        }
        // SAFETY: no further argument is handed over, and the entries are as `push` was promised.
        let entered = unsafe {
            self.ring.submitter().enter::<libc::sigset_t>(
                self.pushed,
                0,
                EnterFlags::GETEVENTS.bits(),
                None,
            )
        };
        match entered {
            Ok(taken) => {
                self.pushed = self.pushed.saturating_sub(taken as u32);
                Ok(())
            }
            // A signal, or the kernel is short of memory: the entries stay for the next call.
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// How often the kernel was entered.
    #[cfg(test)]
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    /// What has completed and was not read; reading it makes room.
    #[inline]
    pub(super) fn completions(&mut self) -> CompletionQueue<'_, cqueue::Entry> {
        self.ring.completion()
    }

    /// Readable when the kernel has rung, between [`Ring::listen`] and [`Ring::stop_listening`].
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// From now on the kernel rings when there is something. What came before rings no more: the
    /// next [`Ring::enter`] finds it, because the kernel itself is asked there.
    pub(super) fn listen(&mut self) {
        self.listening = true;
        self.ring.completion().enable_eventfd();
        // The kernel queues its work, then looks whether to ring; here it is the other way round.
        fence(Ordering::SeqCst);
    }

    /// The kernel rings no more, and the bell is silent again.
    pub(super) fn stop_listening(&mut self) {
        if !self.listening {
            return;
        }
        self.listening = false;
        self.ring.completion().disable_eventfd();
        // Nothing to read: it was not rung.
        let _ = rustix::io::read(&self.bell, &mut [0u8; 8]);
    }

    /// Makes the calling thread the ring's.
    #[cold]
    fn enable(&mut self) -> io::Result<()> {
        self.ring.submitter().register_enable_rings()?;
        self.enabled = true;
        Ok(())
    }
}

impl Drop for Ring {
    /// Lets go of the socket at once: the kernel takes a closed ring down later, and the address
    /// would be in use until then. On another thread than the ring's this cannot be done.
    fn drop(&mut self) {
        if !self.enabled {
            // Nobody asked for anything; the registration alone holds the socket.
            let _ = self.ring.submitter().unregister_files();
            return;
        }
        let _ = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
        // What was cancelled holds the socket until its completion is written, here.
        let _ = self.enter();
        let _ = self.ring.submitter().unregister_files();
    }
}

/// All that the enabled ring may be used for: messages through the registered socket.
fn restrictions() -> [Restriction; 7] {
    [
        Restriction::sqe_op(opcode::RecvMsgMulti::CODE),
        Restriction::sqe_op(opcode::SendMsg::CODE),
        Restriction::sqe_op(opcode::Send::CODE),
        Restriction::sqe_flags_required(Flags::FIXED_FILE.bits()),
        Restriction::sqe_flags_allowed(Flags::BUFFER_SELECT.bits()),
        Restriction::register_op(CLOSING[0]),
        Restriction::register_op(CLOSING[1]),
    ]
}
