//! Which receive buffers are out with the caller.

use crate::Burst;

/// How many bursts are out with the caller.
#[derive(Debug, Default)]
pub(crate) struct HeldBursts(usize);

impl HeldBursts {
    /// To be called when a burst has been filled; `length_before` is what it held before.
    #[inline]
    pub(crate) fn lent(&mut self, burst: &Burst, length_before: usize) {
        if length_before == 0 && !burst.is_empty() {
            self.0 += 1;
        }
    }

    /// Empties a burst. True: no burst is held any more.
    #[inline]
    pub(crate) fn returned(&mut self, burst: &mut Burst) -> bool {
        if !burst.is_empty() {
            debug_assert!(self.0 != 0, "a burst of another port was released");
            self.0 = self.0.saturating_sub(1);
            burst.clear();
        }
        self.is_idle()
    }

    /// Whether no burst is held.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.0 == 0
    }
}

/// Receive buffers lent from the front. All come back together once no burst is held and so the
/// first ones, which are still in the cache, serve every turn.
#[derive(Debug)]
pub(crate) struct Lending {
    buffers: usize,
    /// Buffers below this one are lent.
    used: usize,
    bursts: HeldBursts,
}

impl Lending {
    pub(crate) fn new(buffers: usize) -> Self {
        Lending { buffers, used: 0, bursts: HeldBursts::default() }
    }

    /// The number of the next buffer to fill; it is lent only by [`Lending::take`].
    #[inline]
    pub(crate) fn next(&self) -> usize {
        self.used
    }

    /// How many buffers can still be filled.
    #[inline]
    pub(crate) fn free(&self) -> usize {
        self.buffers - self.used
    }

    /// Counts the next `buffers` as lent.
    #[inline]
    pub(crate) fn take(&mut self, buffers: usize) {
        debug_assert!(buffers <= self.free());
        self.used += buffers;
    }

    /// See [`HeldBursts::lent`].
    #[inline]
    pub(crate) fn lent(&mut self, burst: &Burst, length_before: usize) {
        self.bursts.lent(burst, length_before);
    }

    /// See [`HeldBursts::returned`].
    #[inline]
    pub(crate) fn returned(&mut self, burst: &mut Burst) -> bool {
        self.bursts.returned(burst)
    }

    /// Whether no burst is held.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.bursts.is_idle()
    }

    /// Takes all buffers back, if no burst holds any.
    #[inline]
    pub(crate) fn reclaim(&mut self) {
        if self.is_idle() {
            self.used = 0;
        }
    }
}
