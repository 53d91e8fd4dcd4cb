//! Order within a stream: which ops have finished, so that a FENCE knows when it may start.

/// Ops of one stream that may finish ahead of an earlier one. An initiator issues no op that lies
/// farther ahead of its oldest unfinished one.
const AHEAD_MAX: u32 = 4096;

/// Which numbers of a sequence have finished, in whatever order.
pub(super) struct Progress {
    /// All sequence numbers below this one have finished.
    finished: u32,
    /// Bit of number `n` at `n % AHEAD_MAX`: it finished ahead of its turn.
    ahead: Box<[u64; AHEAD_MAX as usize / 64]>,
}

/// The target's view of one stream: sequence numbers count from 0 in the order of issue.
struct Stream {
    id: u16,
    progress: Progress,
}

/// The streams of one flow. Few; the last one used is looked at first.
pub(super) struct Streams {
    streams: Vec<Stream>,
    last: usize,
}

/// A number that an honest initiator could not have sent yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutOfReach;

impl Streams {
    /// The most streams that a flow has.
    pub(super) const MAX: usize = 64;

    pub(super) fn new() -> Self {
        Streams { streams: Vec::with_capacity(Self::MAX), last: 0 }
    }

    /// Forgets all streams: the flow began anew.
    pub(super) fn clear(&mut self) {
        self.streams.clear();
        self.last = 0;
    }

    /// Whether all ops of `stream` before `sequence` have finished.
    pub(super) fn may_start(&mut self, stream: u16, sequence: u32) -> Result<bool, OutOfReach> {
        Ok(self.stream(stream).ok_or(OutOfReach)?.progress.finished == sequence)
    }

    /// Notes that op `sequence` of `stream` has finished.
    #[inline(always)]
    pub(super) fn finish(&mut self, stream: u16, sequence: u32) -> Result<(), OutOfReach> {
        self.stream(stream).ok_or(OutOfReach)?.progress.finish(sequence)
    }

    /// Whether op `sequence` of `stream` has finished.
    pub(super) fn has_finished(&self, stream: u16, sequence: u32) -> bool {
        self.find(stream).is_some_and(|progress| progress.has_finished(sequence))
    }

    /// Whether op `sequence` of `stream` is one that an honest initiator may have sent by now, or may
    /// send next, and that has not finished.
    pub(super) fn may_come(&self, stream: u16, sequence: u32) -> bool {
        match self.find(stream) {
            Some(progress) => progress.reaches(sequence) && !progress.has_finished(sequence),
            None => self.streams.len() < Self::MAX && sequence < AHEAD_MAX,
        }
    }

    /// A stream that has been used.
    fn find(&self, id: u16) -> Option<&Progress> {
        let is_it = |stream: &&Stream| stream.id == id;
        let last = self.streams.get(self.last).filter(is_it);
        let found = last.or_else(|| self.streams.iter().find(is_it))?;
        Some(&found.progress)
    }

    /// The stream, made at its first use; `None` if the flow has no room for another.
    #[inline]
    fn stream(&mut self, id: u16) -> Option<&mut Stream> {
        if self.streams.get(self.last).is_none_or(|stream| stream.id != id) {
            self.last = self.find_or_add(id)?;
        }
        self.streams.get_mut(self.last)
    }

    fn find_or_add(&mut self, id: u16) -> Option<usize> {
        if let Some(found) = self.streams.iter().position(|stream| stream.id == id) {
            return Some(found);
        }
        if self.streams.len() == Self::MAX {
            return None;
        }
        self.streams.push(Stream { id, progress: Progress::new() });
        Some(self.streams.len() - 1)
    }
}

impl Progress {
    /// Nothing has finished.
    pub(super) fn new() -> Self {
        Progress { finished: 0, ahead: Box::new([0; AHEAD_MAX as usize / 64]) }
    }

    /// Notes that a number has finished.
    #[inline(always)]
    pub(super) fn finish(&mut self, sequence: u32) -> Result<(), OutOfReach> {
        if !self.reaches(sequence) {
            return Err(OutOfReach);
        }
        if sequence != self.finished {
            let (word, bit) = place_of(sequence);
            self.ahead[word] |= bit;
            return Ok(());
        }
        self.finished = self.finished.wrapping_add(1);
        if self.is_marked(self.finished) {
            self.pass_marked();
        }
        Ok(())
    }

    /// Passes over the numbers that finished ahead of their turn, a word of them at a time.
    #[inline(never)]
    fn pass_marked(&mut self) {
        loop {
            let (word, lowest) = place_of(self.finished);
            let from = self.ahead[word] & lowest.wrapping_neg();
            // What ends the run is the first that has not finished, or the word's end.
            let beyond = from.wrapping_add(lowest);
            let run = from & !beyond;
            self.ahead[word] &= !run;
            self.finished = self.finished.wrapping_add(run.count_ones());
            if beyond != 0 || run == 0 {
                return;
            }
        }
    }

    /// Whether a number can be told apart from those that have finished: it lies less than
    /// [`AHEAD_MAX`] ahead of the oldest that has not.
    #[inline]
    pub(super) fn reaches(&self, sequence: u32) -> bool {
        sequence.wrapping_sub(self.finished) < AHEAD_MAX
    }

    /// Whether a number has finished.
    fn has_finished(&self, sequence: u32) -> bool {
        let ahead = sequence.wrapping_sub(self.finished) as i32;
        ahead < 0 || self.reaches(sequence) && self.is_marked(sequence)
    }

    #[inline(always)]
    fn is_marked(&self, sequence: u32) -> bool {
        let (word, bit) = place_of(sequence);
        self.ahead[word] & bit != 0
    }
}

/// The word and the bit of a number.
#[inline(always)]
fn place_of(sequence: u32) -> (usize, u64) {
    let bit = sequence % AHEAD_MAX;
    (bit as usize / 64, 1 << (bit % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_waits_for_exactly_the_earlier_ops() {
        let mut streams = Streams::new();
        for sequence in [1, 3, 2] {
            assert_eq!(streams.finish(7, sequence), Ok(()));
            assert_eq!(streams.may_start(7, 4), Ok(false));
        }
        assert_eq!(streams.finish(7, 0), Ok(()));
        assert_eq!(streams.may_start(7, 4), Ok(true));
        assert_eq!(streams.may_start(7, 5), Ok(false));
        assert_eq!(streams.may_start(8, 0), Ok(true));
        assert_eq!(streams.finish(7, 4 + AHEAD_MAX), Err(OutOfReach));
        assert_eq!(streams.finish(7, 3), Err(OutOfReach));
        assert_eq!(streams.finish(7, 5), Ok(()));
        let finished = [0, 3, 4, 5, 6, 4 + AHEAD_MAX].map(|n| streams.has_finished(7, n));
        assert_eq!(finished, [true, true, false, true, false, false]);
        let to_come = [3, 4, 5, 6, 3 + AHEAD_MAX, 4 + AHEAD_MAX].map(|n| streams.may_come(7, n));
        assert_eq!(to_come, [false, true, false, true, true, false]);
        assert_eq!([0, AHEAD_MAX].map(|n| streams.may_come(9, n)), [true, false]);
        assert!(!streams.has_finished(9, 0));
        assert_eq!(streams.streams.len(), 2, "a look makes no stream");
    }

    #[test]
    fn what_finished_ahead_is_passed_over_to_the_first_gap() {
        for start in [0, 1, 63, AHEAD_MAX - 1, u32::MAX - 100] {
            let mut progress = Progress::new();
            progress.finished = start;
            let number = |ahead: u32| start.wrapping_add(ahead);
            let gap = 200;
            for ahead in (1..300).filter(|ahead| *ahead != gap).rev() {
                assert_eq!(progress.finish(number(ahead)), Ok(()));
            }
            assert_eq!(progress.finish(start), Ok(()));
            assert_eq!(progress.finished, number(gap), "from {start}");
            assert_eq!(progress.finish(number(gap)), Ok(()));
            assert_eq!(progress.finished, number(300), "from {start}");
            assert!(progress.ahead.iter().all(|word| *word == 0), "nothing is left of them");
        }
        let mut progress = Progress::new();
        for number in (0..AHEAD_MAX).rev() {
            assert_eq!(progress.finish(number), Ok(()));
        }
        assert_eq!(progress.finished, AHEAD_MAX, "all that can be ahead");
    }

    #[test]
    fn numbers_wrap_and_streams_are_bounded() {
        let mut streams = Streams::new();
        assert_eq!(streams.finish(0, 0), Ok(()));
        streams.streams[0].progress.finished = u32::MAX;
        assert_eq!(streams.finish(0, 0), Ok(()));
        assert_eq!(streams.finish(0, u32::MAX), Ok(()));
        assert_eq!(streams.may_start(0, 1), Ok(true));
        for id in 1..Streams::MAX as u16 {
            assert_eq!(streams.may_start(id, 0), Ok(true));
        }
        assert_eq!(streams.may_start(9999, 0), Err(OutOfReach));
        assert!(!streams.may_come(9999, 0));
    }
}
