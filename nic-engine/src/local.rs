//! An engine as its driver sees it, whatever port and kernels it was built with.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use nic_kernels::KernelSet;
use nic_kernels::mapped::Flushes;
use nic_ports::Port;
use nic_wire::Time;

use crate::engine::{Answered, Counters, Engine, Neighbours, Turn, Work};

/// What a thread needs to drive an engine: one call per turn, and the calls around sleep and
/// control work.
pub trait LocalEngine {
    /// See [`Engine::poll`].
    fn poll(&mut self, now: Time) -> Turn;
    /// See [`Engine::control`].
    fn control(&mut self, now: Time, id: u64, work: Work);
    /// See [`Engine::next_answer`].
    fn next_answer(&mut self) -> Option<Answered>;
    /// See [`Engine::prepare_wait`].
    fn prepare_wait(&mut self) -> bool;
    /// See [`Engine::end_wait`].
    fn end_wait(&mut self);
    /// See [`Engine::wait_descriptor`].
    fn wait_descriptor(&self) -> Option<BorrowedFd<'_>>;
    /// See [`Engine::sleep_max`].
    fn sleep_max(&self) -> Option<Duration>;
    /// See [`Engine::next_timeout`].
    fn next_timeout(&self) -> Time;
    /// See [`Engine::address`].
    fn address(&self) -> SocketAddr;
    /// See [`Engine::counters`].
    fn counters(&self) -> Counters;
    /// See [`Engine::flushes`].
    fn flushes(&self) -> Arc<Flushes>;
    /// See [`Engine::set_neighbours`].
    fn set_neighbours(&mut self, neighbours: Neighbours);
    /// The port's name, mode and limits.
    fn describe_port(&self) -> String;
}

impl<P: Port, K: KernelSet> LocalEngine for Engine<P, K> {
    fn poll(&mut self, now: Time) -> Turn {
        Engine::poll(self, now)
    }

    fn control(&mut self, now: Time, id: u64, work: Work) {
        Engine::control(self, now, id, work);
    }

    fn next_answer(&mut self) -> Option<Answered> {
        Engine::next_answer(self)
    }

    fn prepare_wait(&mut self) -> bool {
        Engine::prepare_wait(self)
    }

    fn end_wait(&mut self) {
        Engine::end_wait(self);
    }

    fn wait_descriptor(&self) -> Option<BorrowedFd<'_>> {
        Engine::wait_descriptor(self)
    }

    fn sleep_max(&self) -> Option<Duration> {
        Engine::sleep_max(self)
    }

    fn next_timeout(&self) -> Time {
        Engine::next_timeout(self)
    }

    fn address(&self) -> SocketAddr {
        Engine::address(self)
    }

    fn counters(&self) -> Counters {
        Engine::counters(self)
    }

    fn flushes(&self) -> Arc<Flushes> {
        Engine::flushes(self)
    }

    fn set_neighbours(&mut self, neighbours: Neighbours) {
        Engine::set_neighbours(self, neighbours);
    }

    fn describe_port(&self) -> String {
        self.port().capabilities().to_string()
    }
}
