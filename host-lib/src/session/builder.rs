//! Sessions about to be opened.

use std::cell::RefCell;
use std::rc::Rc;

use nic_shm::{Doorbell, SharedMemory, WakeReceiver};
use nic_wire::control::{ControlReply, ControlRequest};
use nic_wire::session::Geometry;

use super::Session;
use super::state::State;
use crate::error::NicError;
use crate::nic::Nic;
use crate::remote::GivenUp;

/// What a session does while it waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Looks again and again: the lowest latency, a whole core. Where others keep that core from it,
    /// it lets them run, and sleeps if that is not enough.
    Spin,
    /// Looks for up to 50 us, less where that has been in vain, then sleeps until woken.
    #[default]
    Adaptive,
    /// Looks once, then sleeps until woken: what else runs on the core gets most of it.
    Block,
}

/// A session about to be opened.
pub struct SessionBuilder<'n> {
    nic: &'n Nic,
    geometry: Geometry,
    wait: Wait,
}

impl<'n> SessionBuilder<'n> {
    pub(crate) fn new(nic: &'n Nic) -> Self {
        let geometry = Geometry {
            depth: 256,
            arena_bytes: 4 << 20,
            receive_buffers: 0,
            receive_buffer_bytes: 0,
        };
        SessionBuilder { nic, geometry, wait: Wait::default() }
    }

    /// Ops that may be out at once: a power of two from 2 to 4096 (256 unless set).
    #[must_use]
    pub fn depth(mut self, depth: u32) -> Self {
        self.geometry.depth = depth;
        self
    }

    /// Memory for payloads and replies in bytes, a multiple of 4096 (4 MiB unless set).
    #[must_use]
    pub fn arena(mut self, bytes: u32) -> Self {
        self.geometry.arena_bytes = bytes;
        self
    }

    /// Calls that may wait to be served here, and the longest request in bytes. Longer answers, up to
    /// an op's longest reply, lie in the arena while they are sent: it should have room for as many
    /// as may be on their way at once.
    #[must_use]
    pub fn receive_buffers(mut self, count: u32, bytes: u32) -> Self {
        self.geometry.receive_buffers = count;
        self.geometry.receive_buffer_bytes = bytes;
        self
    }

    /// What [`Session::wait`] does (adaptive unless set).
    #[must_use]
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// Opens it.
    ///
    /// # Errors
    /// Sizes that cannot be, or an engine that refuses or is gone.
    pub fn open(self) -> Result<Session, NicError> {
        let places = self.geometry.places()?;
        let request = ControlRequest::OpenSession { geometry: self.geometry };
        let (reply, descriptors) = self.nic.inner.request(&request, &[])?;
        let ControlReply::Session { session } = reply else { return Err(NicError::OutOfTurn) };
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next().ok_or(NicError::OutOfTurn);
        let shared = SharedMemory::open(next()?, places.total)?;
        let engine_bell =
            Doorbell::from_fd(next()?).map_err(|error| NicError::Session(error.to_string()))?;
        let own_bell = WakeReceiver::from_fd(next()?);
        Ok(Session {
            state: RefCell::new(State::new(&shared, self.geometry)?),
            nic: Rc::clone(&self.nic.inner),
            id: session,
            waiting: RefCell::new(self.wait.begin()),
            engine_bell,
            own_bell,
            idle_polls: std::cell::Cell::new(0),
            given_up: GivenUp::default(),
            _memory: shared,
        })
    }
}
