//! Ops as futures: polling the future polls the session.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::{Session, Token};
use crate::error::OpError;
use crate::operation::{Op, Operation};

/// An op that is issued when first polled, and yields its result. Dropping it gives the result up.
#[must_use = "a future does nothing until it is polled"]
pub struct Issued<'s, O: Operation> {
    session: &'s Session,
    stage: Stage<O>,
}

enum Stage<O> {
    /// For room, since the session was first found full.
    Waiting(Op<O>, Option<Instant>),
    Out(Token),
    Over,
}

// Nothing in it is pinned.
impl<O: Operation> Unpin for Issued<'_, O> {}

impl Session {
    /// The op as a future. A full session is waited for, as long as the op may take; then the future
    /// ends with [`OpError::NoRoom`].
    pub fn issue<O: Operation>(&self, op: Op<O>) -> Issued<'_, O> {
        Issued { session: self, stage: Stage::Waiting(op, None) }
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
}

impl<O: Operation> Future for Issued<'_, O> {
    type Output = Result<O::Output, OpError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.session.progress()?;
        let session = self.session;
        if let Stage::Waiting(op, full_since) = &mut self.stage {
            let outcome = match session.start(op, false) {
                Ok(None) => {
                    if full_since.get_or_insert_with(Instant::now).elapsed() < op.deadline {
                        // Room comes when other ops of this session end, or whoever has their
                        // results drops them.
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Err(session.state.borrow().no_room(op))
                }
                Ok(Some(token)) => Ok(token),
                Err(error) => Err(error),
            };
            match outcome {
                Ok(token) => self.stage = Stage::Out(token),
                Err(error) => {
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
