//! Sleeping until one of a few descriptors has something.

use core::time::Duration;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::io;
use thiserror::Error;

/// More descriptors than this cannot be waited for in one call.
pub const WAIT_DESCRIPTORS_MAX: usize = 8;

/// Why there was no waiting.
#[derive(Debug, Error)]
pub enum WaitError {
    /// Too many descriptors: wait for fewer.
    #[error("{found} descriptors are to be waited for; expected at most {WAIT_DESCRIPTORS_MAX}")]
    TooMany {
        /// How many there were.
        found: usize,
    },
    /// The kernel refused: see the cause (no memory).
    #[error("waiting for descriptors failed: {0}")]
    Poll(#[source] io::Error),
}

/// Which of the descriptors have something: bit i for the i-th.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ready(u8);

impl Ready {
    /// None of them: the time is over, or a signal came.
    pub const NONE: Ready = Ready(0);

    /// Whether the descriptor at `position` of the slice has something: data, a connection, its
    /// end, or an error that the next call on it will report.
    #[must_use]
    pub fn contains(self, position: usize) -> bool {
        position < WAIT_DESCRIPTORS_MAX && self.0 & (1 << position) != 0
    }

    /// Whether none has anything.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The bits.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }
}

/// Waits until one of up to [`WAIT_DESCRIPTORS_MAX`] descriptors has something to read, or
/// `timeout` (nothing: for ever; zero: only a look) is over. Allocates nothing. May come back early
/// with [`Ready::NONE`] when a signal arrives: look at the clock before waiting again.
pub fn wait_any(
    descriptors: &[BorrowedFd<'_>],
    timeout: Option<Duration>,
) -> Result<Ready, WaitError> {
    let count = descriptors.len();
    if count > WAIT_DESCRIPTORS_MAX {
        return Err(WaitError::TooMany { found: count });
    }
    // A time beyond what the kernel can count is as good as for ever.
    let timeout = timeout.and_then(|duration| Timespec::try_from(duration).ok());
    let Some(&first) = descriptors.first() else {
        return polled(&mut [], timeout);
    };
    // The places behind the last descriptor are filled with any one and not passed on.
    let mut polls: [PollFd<'_>; WAIT_DESCRIPTORS_MAX] = core::array::from_fn(|position| {
        let fd = descriptors.get(position).copied().unwrap_or(first);
        PollFd::from_borrowed_fd(fd, PollFlags::IN)
    });
    polled(&mut polls[..count], timeout)
}

fn polled(polls: &mut [PollFd<'_>], timeout: Option<Timespec>) -> Result<Ready, WaitError> {
    match poll(polls, timeout.as_ref()) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(Ready::NONE),
        Err(errno) => return Err(WaitError::Poll(errno.into())),
    }
    let bits = polls.iter().enumerate().fold(0, |bits, (position, poll)| {
        bits | (u8::from(!poll.revents().is_empty()) << position)
    });
    Ok(Ready(bits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Doorbell;
    use rustix::fd::AsFd;
    use std::vec::Vec;

    #[test]
    fn says_which_are_ready() {
        let bells: Vec<Doorbell> =
            (0..WAIT_DESCRIPTORS_MAX).map(|_| Doorbell::new().unwrap()).collect();
        let descriptors: Vec<_> = bells.iter().map(AsFd::as_fd).collect();
        assert_eq!(wait_any(&descriptors, Some(Duration::ZERO)).unwrap(), Ready::NONE);

        bells[0].ring().unwrap();
        bells[7].ring().unwrap();
        let ready = wait_any(&descriptors, None).unwrap();
        assert_eq!(ready.bits(), 0b1000_0001);
        assert!(ready.contains(0) && !ready.contains(1) && ready.contains(7));
        assert!(!ready.contains(8));

        // The eighth is not asked about here.
        assert_eq!(wait_any(&descriptors[..7], None).unwrap().bits(), 1);
    }

    #[test]
    fn a_closed_peer_is_something_to_read() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(writer);
        assert!(wait_any(&[reader.as_fd()], None).unwrap().contains(0));
    }

    #[test]
    fn limits_are_kept() {
        assert_eq!(wait_any(&[], Some(Duration::ZERO)).unwrap(), Ready::NONE);
        let bell = Doorbell::new().unwrap();
        bell.ring().unwrap();
        // A timeout that the kernel cannot express means for ever, and the bell has been rung.
        assert!(wait_any(&[bell.as_fd()], Some(Duration::MAX)).unwrap().contains(0));
        let nine = [bell.as_fd(); 9];
        assert!(matches!(wait_any(&nine, None), Err(WaitError::TooMany { found: 9 })));
    }
}
