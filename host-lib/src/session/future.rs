//! Ops as futures: polling the future polls the session.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::{Session, Token};
use crate::error::{OpError, SubmitError};
use crate::operation::{Op, Operation};

/// An op that is issued when first polled, and yields its result. Dropping it gives the result up.
#[must_use = "a future does nothing until it is polled"]
pub struct Issued<'s, O: Operation> {
    session: &'s Session,
    stage: Stage<O>,
}

enum Stage<O> {
    /// For room, since the session was first found full.
    Waiting(Option<Op<O>>, Option<Instant>),
    Out(Token),
    Over,
}

// Nothing in it is pinned.
impl<O: Operation> Unpin for Issued<'_, O> {}

impl Session {
    /// The op as a future. A full session is waited for, as long as the op may take; then the future
    /// ends with [`OpError::NoRoom`].
    pub fn issue<O: Operation>(&self, op: Op<O>) -> Issued<'_, O> {
        Issued { session: self, stage: Stage::Waiting(Some(op), None) }
    }

    /// Drives a future of this session's ops to its end, on this thread, waiting as the session
    /// waits.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            self.wait_for_arrival();
        }
    }

    /// Waits until the rings have something, or a moment has passed.
    fn wait_for_arrival(&self) {
        let is_spinning = self.wait == super::Wait::Spin;
        for _ in 0..if is_spinning { 1 } else { 256 } {
            if self.state.borrow_mut().has_arrivals() {
                return;
            }
            if let crate::nic::Backend::Inline(inline) = &self.nic.backend {
                self.state.borrow_mut().publish();
                inline.turn();
            }
        }
        if !is_spinning && !self.state.borrow().is_lost {
            self.sleep(std::time::Duration::from_millis(100));
        }
    }
}

impl<O: Operation> Future for Issued<'_, O> {
    type Output = Result<O::Output, OpError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.session.progress()?;
        if let Stage::Waiting(op, full_since) = &mut self.stage {
            let Some(op) = op.take() else { return Poll::Pending };
            let full_since = *full_since;
            match self.session.start(op, false) {
                Ok(token) => self.stage = Stage::Out(token),
                Err(SubmitError::Full(op)) => {
                    let since = full_since.unwrap_or_else(Instant::now);
                    if since.elapsed() >= op.deadline {
                        self.stage = Stage::Over;
                        return Poll::Ready(Err(self.session.state.borrow().no_room(&op)));
                    }
                    self.stage = Stage::Waiting(Some(op), Some(since));
                    // Room comes when other ops of this session end, or whoever has their results
                    // drops them.
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Err(SubmitError::Invalid(error)) => {
                    self.stage = Stage::Over;
                    return Poll::Ready(Err(error));
                }
            }
        }
        let Stage::Out(token) = self.stage else { return Poll::Pending };
        let mut state = self.session.state.borrow_mut();
        if let Some(result) = state.take::<O>(token) {
            drop(state);
            self.stage = Stage::Over;
            return Poll::Ready(result);
        }
        if let Some(slot) = state.slots.get(token) {
            slot.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl<O: Operation> Drop for Issued<'_, O> {
    fn drop(&mut self) {
        if let Stage::Out(token) = self.stage {
            self.session.state.borrow_mut().abandon(token);
        }
    }
}
