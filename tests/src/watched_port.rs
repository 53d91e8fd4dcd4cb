//! A port whose engine is watched from a signal on.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use nic_ports::{Burst, Capabilities, Port, PortCounters, PortFault, Received, Share};
use nic_transport::{FrameId, Frames};

use crate::children::Offence;
use crate::counting_allocator;
use crate::system_call_trap::{self, Allowed};

/// Turns an engine works under watch before a planned offence.
const TURNS_BEFORE_OFFENCE: u32 = 1000;

/// Tells watched threads when to begin, and how many have begun.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    wanted: Arc<AtomicBool>,
    watched: Arc<AtomicU32>,
}

impl Watch {
    /// Has every thread that holds this be watched from its next look on.
    pub fn begin(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Whether threads are to be watched.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// How many threads are watched.
    pub fn watched(&self) -> u32 {
        self.watched.load(Ordering::Acquire)
    }

    /// Watches the calling thread for good: its allocations are counted, and it may call only what
    /// is allowed.
    pub fn watch_this_thread(&self, allowed: Allowed) -> Result<()> {
        system_call_trap::install(allowed)?;
        counting_allocator::watch_this_thread();
        self.watched.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

/// A port around a port. Its engine's thread is watched from the first turn after [`Watch::begin`]
/// on.
pub struct Watched<P> {
    inner: P,
    watch: Watch,
    offence: Offence,
    is_watched: bool,
    turns: u32,
}

impl<P: Port> Watched<P> {
    /// Around a port.
    pub fn new(inner: P, watch: Watch, offence: Offence) -> Self {
        Watched { inner, watch, offence, is_watched: false, turns: 0 }
    }

    /// Called in the first turn under watch, on the engine's thread.
    #[cold]
    fn begin(&mut self) -> Result<()> {
        self.is_watched = true;
        let socket = self.inner.wait_descriptor().context("the port has a socket")?;
        let allowed = match self.inner.capabilities().name {
            "uring" => Allowed::nothing().uring(),
            _ => Allowed::nothing().port(socket)?,
        };
        // One that spins sleeps as well where others keep its core from it.
        self.watch.watch_this_thread(allowed.ring()?.engine_sleep()?)
    }

    #[cold]
    fn offend(&self) {
        match self.offence {
            Offence::None => {}
            Offence::Allocation => drop(std::hint::black_box(Box::new(self.turns))),
            Offence::SystemCall => {
                std::hint::black_box(std::process::id());
            }
        }
    }
}

impl<P: Port> Frames for Watched<P> {
    fn bytes(&self, frame: FrameId) -> &[u8] {
        self.inner.bytes(frame)
    }

    fn bytes_mut(&mut self, frame: FrameId) -> &mut [u8] {
        self.inner.bytes_mut(frame)
    }

    fn retain(&mut self, frame: FrameId) {
        self.inner.retain(frame);
    }

    fn release(&mut self, frame: FrameId) {
        self.inner.release(frame);
    }

    fn is_queued(&self, frame: FrameId) -> bool {
        self.inner.is_queued(frame)
    }
}

impl<P: Port> Port for Watched<P> {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn local_address(&self) -> SocketAddr {
        self.inner.local_address()
    }

    fn allocate(&mut self, share: Share) -> Option<FrameId> {
        self.inner.allocate(share)
    }

    fn available(&self, share: Share) -> usize {
        self.inner.available(share)
    }

    fn submit(&mut self, frame: FrameId, length: usize, to: SocketAddr) {
        self.inner.submit(frame, length, to);
    }

    fn transmit(&mut self) {
        self.inner.transmit();
    }

    /// Every turn begins here.
    fn receive(&mut self, burst: &mut Burst) -> usize {
        if !self.is_watched && self.watch.is_wanted() {
            self.begin().expect("an engine's thread can be watched");
        }
        if self.is_watched && self.turns <= TURNS_BEFORE_OFFENCE {
            self.turns += 1;
            if self.turns == TURNS_BEFORE_OFFENCE {
                self.offend();
            }
        }
        self.inner.receive(burst)
    }

    fn view<'a>(&'a self, received: &Received) -> &'a [u8] {
        self.inner.view(received)
    }

    fn release_burst(&mut self, burst: &mut Burst) {
        self.inner.release_burst(burst);
    }

    fn wait_descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inner.wait_descriptor()
    }

    fn sleep_max(&self) -> Option<Duration> {
        self.inner.sleep_max()
    }

    fn prepare_wait(&mut self) -> bool {
        self.inner.prepare_wait()
    }

    fn end_wait(&mut self) {
        self.inner.end_wait();
    }

    fn fault(&self) -> Option<PortFault> {
        self.inner.fault()
    }

    fn counters(&self) -> PortCounters {
        self.inner.counters()
    }
}
