//! Packets on their way to the kernel: grouped for segmentation, and kept until they have left.
//!
//! Packets are copied by the kernel. Its zero-copy sends (SEND_ZC) cost a second completion for
//! each message and pages pinned meanwhile: for packets of an engine's size that is dearer than the
//! copy.

use std::net::SocketAddr;

use io_uring::{opcode, squeue};
use nic_transport::FrameId;

use super::ring::{Ring, SOCKET};
use crate::pool::FramePool;
use crate::queue::{Queued, TransmitQueue};
use crate::udp::name::SocketName;
use crate::udp::segments::{SEGMENTS_MAX, SegmentControl, run_length};

/// Messages with the kernel at most.
pub(super) const MESSAGES_MAX: u16 = 128;

/// One message: what the kernel reads, and what is known of its packets. The kernel's part stays
/// where it is while the message is under way.
struct Message {
    header: libc::msghdr,
    name: SocketName,
    control: SegmentControl,
    vectors: [libc::iovec; SEGMENTS_MAX],
    frames: [FrameId; SEGMENTS_MAX],
    packets: usize,
    bytes: u64,
    to: SocketAddr,
    /// Whether its only packet belongs to a run that was refused.
    trial: bool,
}

/// A message that did not leave.
#[derive(Clone, Copy)]
pub(super) struct Failure {
    number: u16,
    /// What the kernel answered.
    pub(super) errno: i32,
    /// How many packets it has.
    pub(super) packets: usize,
}

/// A message that left.
pub(super) struct Left<'a> {
    pub(super) frames: &'a [FrameId],
    pub(super) bytes: u64,
    pub(super) trial: bool,
}

/// Messages, those that are free and those that failed. Made once.
pub(super) struct Outgoing {
    messages: Box<[Message]>,
    /// The last one freed is the first used, while it is in the cache.
    free: Vec<u16>,
    failures: Vec<Failure>,
}

// SAFETY: the raw pointers lead into this structure and into frames; only the kernel follows them.
unsafe impl Send for Outgoing {}

impl Outgoing {
    /// For a socket at `local`, whose family says how long names are.
    pub(super) fn new(local: SocketAddr) -> Self {
        let message = || {
            // SAFETY: `msghdr` is plain data; all zeroes (null pointers, no lengths) is valid.
            let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
            header.msg_namelen = SocketName::bytes_of(&local);
            let vector = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
            Message {
                header,
                name: SocketName::EMPTY,
                control: SegmentControl::new(),
                vectors: [vector; SEGMENTS_MAX],
                frames: [FrameId(0); SEGMENTS_MAX],
                packets: 0,
                bytes: 0,
                to: local,
                trial: false,
            }
        };
        Outgoing {
            messages: (0..MESSAGES_MAX).map(|_| message()).collect(),
            free: (0..MESSAGES_MAX).rev().collect(),
            failures: Vec::with_capacity(usize::from(MESSAGES_MAX)),
        }
    }

    /// Whether any message is with the kernel.
    #[inline]
    pub(super) fn is_under_way(&self) -> bool {
        self.free.len() < usize::from(MESSAGES_MAX)
    }

    /// Takes packets from the queue and pushes them, until the queue is empty or no message is
    /// free. The first `trials` go one by one, and so do all without `segmentation`. `false`: none
    /// could be pushed.
    #[inline]
    pub(super) fn push(
        &mut self,
        queue: &mut TransmitQueue,
        pool: &FramePool,
        ring: &mut Ring,
        segmentation: bool,
        trials: &mut usize,
    ) -> bool {
        let mut pushed = false;
        while !queue.is_empty()
            && let Some(&number) = self.free.last()
        {
            let waiting = queue.waiting();
            let trial = *trials > 0;
            let run = if segmentation && !trial { run_length(waiting) } else { 1 };
            let message = &mut self.messages[usize::from(number)];
            message.trial = trial;
            let entry = message.describe(pool, &waiting[..run]).user_data(u64::from(number));
            // SAFETY: message and frames stay as they are until the completion: the message is not
            // free until then, and the frames have the port's reference. The ring, dropped first,
            // takes nothing up after that.
            if !unsafe { ring.push(&entry) } {
                break;
            }
            pushed = true;
            self.free.pop();
            for _ in 0..run {
                queue.pop();
            }
            *trials = trials.saturating_sub(1);
        }
        pushed
    }

    /// Takes a completion. `None`: the message did not leave, and is found among the failures.
    #[inline]
    pub(super) fn complete(&mut self, number: u64, result: i32) -> Option<Left<'_>> {
        let number = number as u16;
        let message = &self.messages[usize::from(number)];
        if result < 0 {
            let failure = Failure { number, errno: -result, packets: message.packets };
            self.failures.push(failure);
            return None;
        }
        self.free.push(number);
        let frames = &message.frames[..message.packets];
        Some(Left { frames, bytes: message.bytes, trial: message.trial })
    }

    /// Whether messages have failed.
    #[inline]
    pub(super) fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// The message that failed last. It is free again; its packets are the caller's.
    pub(super) fn last_failure(&mut self) -> Option<(Failure, impl Iterator<Item = Queued> + '_)> {
        let failure = self.failures.pop()?;
        Some((failure, self.taken(failure.number)))
    }

    /// Gives up on a message with the kernel, if there is one. Its packets are the caller's.
    pub(super) fn abandon(&mut self) -> Option<impl Iterator<Item = Queued> + '_> {
        let number = (0..MESSAGES_MAX).find(|number| !self.free.contains(number))?;
        Some(self.taken(number))
    }

    /// The packets of a message, last first; it is free.
    fn taken(&mut self, number: u16) -> impl Iterator<Item = Queued> + '_ {
        self.free.push(number);
        let message = &self.messages[usize::from(number)];
        (0..message.packets).rev().map(|place| Queued {
            frame: message.frames[place],
            length: message.vectors[place].iov_len as u32,
            to: message.to,
        })
    }
}

impl Message {
    /// Describes packets to the kernel.
    #[inline]
    fn describe(&mut self, pool: &FramePool, run: &[Queued]) -> squeue::Entry {
        self.packets = run.len();
        self.bytes = 0;
        for (place, packet) in run.iter().enumerate() {
            let bytes = &pool.bytes(packet.frame)[..packet.length as usize];
            self.vectors[place].iov_base = bytes.as_ptr().cast_mut().cast();
            self.vectors[place].iov_len = bytes.len();
            self.frames[place] = packet.frame;
            self.bytes += bytes.len() as u64;
        }
        self.to = run[0].to;
        self.name.set(&self.to);
        if run.len() == 1 {
            return self.send_one();
        }
        self.control.cut_into(run[0].length);
        self.header.msg_name = (&raw mut self.name).cast();
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = run.len() as _;
        self.header.msg_control = (&raw mut self.control).cast();
        self.header.msg_controllen = size_of::<SegmentControl>() as _;
        // A full socket is to say so: waiting inside the kernel, later messages would overtake.
        let flags = libc::MSG_DONTWAIT as u32;
        opcode::SendMsg::new(SOCKET, &raw const self.header).flags(flags).build()
    }

    /// The operation with the fewest instructions, for a packet that travels alone.
    #[inline]
    fn send_one(&self) -> squeue::Entry {
        let vector = &self.vectors[0];
        opcode::Send::new(SOCKET, vector.iov_base.cast_const().cast(), vector.iov_len as u32)
            .flags(libc::MSG_DONTWAIT)
            .dest_addr((&raw const self.name).cast())
            .dest_addr_len(SocketName::bytes_of(&self.to))
            .build()
    }
}
