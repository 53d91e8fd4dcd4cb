//! Packets that arrive at the wrong engine of a process: handed on through a bounded queue.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crossbeam_queue::ArrayQueue;
use nic_shm::Doorbell;
use nic_wire::packet::MAX_PACKET_BYTES;

/// Packets that may wait in one engine's queue.
const QUEUE: usize = 64;
/// Packets taken from it in one turn.
const TAKEN_MAX: usize = 32;

/// A packet on its way between engines.
pub struct Forwarded {
    /// Who sent it.
    pub from: SocketAddr,
    length: usize,
    bytes: [u8; MAX_PACKET_BYTES],
}

impl Forwarded {
    /// The packet.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// One engine's queue, and how to wake it.
struct Inbox {
    packets: ArrayQueue<Forwarded>,
    sleeping: AtomicBool,
    doorbell: Option<Doorbell>,
}

/// The engines of a process, as one of them sees the others.
pub struct Neighbours {
    inboxes: Vec<Arc<Inbox>>,
    own: usize,
    taken: usize,
}

impl Neighbours {
    /// Of an engine that is alone.
    pub fn none() -> Self {
        Neighbours { inboxes: Vec::new(), own: 0, taken: 0 }
    }

    /// For each of the engines of a process, in their order; each with the doorbell that wakes it.
    pub fn of_process(doorbells: Vec<Option<Doorbell>>) -> Vec<Neighbours> {
        if doorbells.len() < 2 {
            // Nobody will ever forward anything: nothing to look at in each turn.
            return doorbells.iter().map(|_| Neighbours::none()).collect();
        }
        let inbox = |doorbell| {
            let packets = ArrayQueue::new(QUEUE);
            Arc::new(Inbox { packets, sleeping: AtomicBool::new(false), doorbell })
        };
        let inboxes: Vec<_> = doorbells.into_iter().map(inbox).collect();
        let of = |own| Neighbours { inboxes: inboxes.clone(), own, taken: 0 };
        (0..inboxes.len()).map(of).collect()
    }

    /// Hands a packet on. False: there is no such engine, its queue is full, or the packet is
    /// longer than any of ours.
    pub(super) fn forward(&self, engine: u8, from: SocketAddr, packet: &[u8]) -> bool {
        let Some(inbox) = self.inboxes.get(usize::from(engine)) else { return false };
        let mut forwarded = Forwarded { from, length: packet.len(), bytes: [0; MAX_PACKET_BYTES] };
        let Some(bytes) = forwarded.bytes.get_mut(..packet.len()) else { return false };
        bytes.copy_from_slice(packet);
        if inbox.packets.push(forwarded).is_err() {
            return false;
        }
        // Pairs with the fence of a sleeper that looks once more.
        fence(Ordering::SeqCst);
        if inbox.sleeping.swap(false, Ordering::Relaxed)
            && let Some(doorbell) = &inbox.doorbell
        {
            let _ = doorbell.ring();
        }
        true
    }

    /// The next packet that was handed to this engine, up to a number each turn.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Forwarded> {
        let own = self.inboxes.get(self.own)?;
        let packet = if self.taken < TAKEN_MAX { own.packets.pop() } else { None };
        self.taken = if packet.is_some() { self.taken + 1 } else { 0 };
        packet
    }

    /// Asks to be woken and looks once more.
    pub(super) fn prepare_wait(&mut self) -> bool {
        let Some(own) = self.inboxes.get(self.own) else { return true };
        own.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        own.packets.is_empty()
    }

    /// Asks for no more wake-ups.
    pub(super) fn end_wait(&mut self) {
        if let Some(own) = self.inboxes.get(self.own) {
            own.sleeping.store(false, Ordering::Relaxed);
        }
    }
}
