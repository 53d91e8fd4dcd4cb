//! The parts of a turn, for who wants to know where an engine's time goes.

/// A part of a turn, named for what it does beside the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A turn that found nothing to do, or a look for packets that brought none.
    Idle,
    /// The port's receiving, and giving its buffers back.
    Receive,
    /// Packets verified and put in order, ops begun, and what the clock wants.
    Flow,
    /// Rounds of kernels, and the short replies that go into packets as their ops end.
    Executor,
    /// The transmit pass: what else goes into packets (long replies, an initiator's requests), acks.
    Reply,
    /// The port's sending.
    Transmit,
}

/// Told at the end of each part of a turn; see [`super::Engine::poll_by_stage`].
pub trait Stages {
    /// All since the last call was this.
    fn over(&mut self, stage: Stage);
}

/// Nobody wants to know: nothing of it is compiled.
impl Stages for () {
    #[inline(always)]
    fn over(&mut self, _: Stage) {}
}
