//! What is to be written in one go.

use core::ops::Range;
use std::io;
use std::os::fd::OwnedFd;

use nic_shm::RacyMem;

/// How much is copied at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// Ranges of one region, and a buffer for what they hold.
pub(super) struct Ranges {
    ranges: Vec<Range<u64>>,
    buffer: Box<[u8]>,
}

impl Ranges {
    pub(super) fn new() -> Self {
        Ranges { ranges: Vec::new(), buffer: vec![0; BUFFER_BYTES].into_boxed_slice() }
    }

    pub(super) fn clear(&mut self) {
        self.ranges.clear();
    }

    pub(super) fn add(&mut self, range: Range<u64>) {
        self.ranges.push(range);
    }

    /// Puts them in order and joins those that touch. What lies between others is not theirs to
    /// write: its owner may be writing it.
    pub(super) fn join(&mut self) {
        self.ranges.sort_unstable_by_key(|range| range.start);
        self.ranges.dedup_by(|next, before| {
            let touches = next.start <= before.end;
            if touches {
                before.end = before.end.max(next.end);
            }
            touches
        });
    }

    /// Writes them all to a file. Returns how many bytes that were.
    ///
    /// # Errors
    /// The system's reason; some of it may be written.
    pub(super) fn write(&mut self, memory: &RacyMem, file: &OwnedFd) -> io::Result<u64> {
        let mut written = 0;
        for range in &self.ranges {
            let mut at = range.start;
            while at < range.end {
                // No longer than the buffer.
                let length = (range.end - at).min(BUFFER_BYTES as u64) as usize;
                let part = &mut self.buffer[..length];
                memory.read(at, part).map_err(io::Error::other)?;
                write_all(file, part, at)?;
                at += length as u64;
            }
            written += range.end - range.start;
        }
        Ok(written)
    }
}

fn write_all(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_joined_and_nothing_between_others_is_written() {
        let mut ranges = Ranges::new();
        for range in [70..80, 0..32, 64..72, 32..40, 41..50, 8..16] {
            ranges.add(range);
        }
        ranges.join();
        assert_eq!(ranges.ranges, [0..40, 41..50, 64..80]);
        let memory = RacyMem::allocate(4096);
        memory.fill(0, 4096, 7).unwrap();
        let file: OwnedFd = tempfile::tempfile().unwrap().into();
        assert_eq!(ranges.write(&memory, &file).unwrap(), 65);
        let mut found = [1; 100];
        assert_eq!(rustix::io::pread(&file, &mut found, 0), Ok(80));
        let expected = |at: usize| u8::from(at < 40 || (41..50).contains(&at) || at >= 64) * 7;
        assert!((0..80).all(|at| found[at] == expected(at)), "{found:?}");
    }

    #[test]
    fn a_range_longer_than_the_buffer_is_written_whole() {
        let length = 3 * BUFFER_BYTES as u64 + 77;
        let memory = RacyMem::allocate(length);
        for at in (0..length - 8).step_by(8) {
            memory.write(at, &at.to_le_bytes()).unwrap();
        }
        let mut ranges = Ranges::new();
        ranges.add(0..length);
        let file: OwnedFd = tempfile::tempfile().unwrap().into();
        assert_eq!(ranges.write(&memory, &file).unwrap(), length);
        let (mut found, mut expected) = (vec![1; length as usize], vec![0; length as usize]);
        assert_eq!(rustix::io::pread(&file, &mut found, 0), Ok(length as usize));
        memory.read(0, &mut expected).unwrap();
        assert!(found == expected);
    }
}
