//! The end of a daemon that is asked to end: it lets what is under way finish, and begins nothing
//! new.

use std::os::fd::BorrowedFd;

use nic_wire::control::ControlRequest;
use nic_wire::{Span, Status};

use super::control::Control;
use crate::clock;
use crate::engine::{Refusal, Work};

/// What the descriptor that asks for the end has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Nothing.
    Nothing,
    /// So many times to end: one byte each.
    ToEnd(usize),
    /// Whoever could ask is gone, and so is the daemon's purpose.
    Gone,
}

/// How far the end has come.
#[derive(Debug, Default)]
pub(super) struct Draining {
    /// The work that the engines have yet to answer; `None` until the end is asked for.
    left: Option<Vec<u64>>,
}

impl Draining {
    pub(super) fn has_begun(&self) -> bool {
        self.left.is_some()
    }

    pub(super) fn is_over(&self) -> bool {
        self.left.as_ref().is_some_and(Vec::is_empty)
    }

    /// Notes an engine's answer. False: it answers something else.
    pub(super) fn answered(&mut self, id: u64) -> bool {
        let Some(left) = &mut self.left else { return false };
        let place = left.iter().position(|one| *one == id);
        place.map(|place| left.swap_remove(place)).is_some()
    }
}

impl Control {
    /// Hears what `shutdown` says: the first byte begins the drain. True: end now, which the second
    /// byte asks for, and its end of file.
    pub(super) fn hear_shutdown(&mut self, shutdown: BorrowedFd<'_>) -> bool {
        let times = match asked(shutdown) {
            Asked::Nothing => return false,
            Asked::Gone => return true,
            Asked::ToEnd(times) => times + usize::from(self.draining.has_begun()),
        };
        if times > 1 {
            tracing::warn!("asked to end again: ops under way are given up");
            return true;
        }
        self.begin_drain();
        false
    }

    fn begin_drain(&mut self) {
        let patience = self.drain_timeout;
        tracing::info!(
            ?patience,
            "asked to end: new ops are refused, those under way may finish; ask again to end at once"
        );
        let until = clock::now() + Span::from_ns(u64::try_from(patience.as_nanos()).unwrap_or(0));
        let engines = 0..self.engines();
        let work = engines.map(|engine| self.post(None, engine, Work::Drain { until }, None));
        self.draining.left = Some(work.collect());
    }

    /// Why something is not begun any more; `None`: it may be.
    pub(super) fn refuses(&self, request: &ControlRequest) -> Option<Refusal> {
        let begins = match request {
            ControlRequest::Hello { .. }
            | ControlRequest::OpenSession { .. }
            | ControlRequest::Register { .. }
            | ControlRequest::RegisterBacked { .. }
            | ControlRequest::Export { .. }
            | ControlRequest::Serve { .. }
            | ControlRequest::Connect { .. }
            | ControlRequest::Way { .. } => true,
            ControlRequest::CloseSession { .. }
            | ControlRequest::Deregister { .. }
            | ControlRequest::Revoke { .. }
            | ControlRequest::Disconnect { .. }
            | ControlRequest::Status
            | ControlRequest::Ops { .. } => false,
        };
        (begins && self.draining.has_begun()).then(|| {
            let reason = "this engine process was asked to end and begins nothing new; connect to \
                          its successor";
            Refusal::new(Status::Draining, reason)
        })
    }
}

/// Reads from a descriptor that is readable.
fn asked(shutdown: BorrowedFd<'_>) -> Asked {
    let mut bytes = [0; 16];
    match rustix::io::read(shutdown, &mut bytes) {
        Ok(0) => Asked::Gone,
        Ok(times) => Asked::ToEnd(times),
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Asked::Nothing,
        Err(error) => {
            tracing::error!(%error, "nobody could ask this process to end any more, so it ends");
            Asked::Gone
        }
    }
}
