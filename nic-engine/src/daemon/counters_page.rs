//! An engine's counters where others can read them: plain words in a shared mapping.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use nic_shm::{MappedFile, RacyMem};

use crate::engine::Counters;

/// One engine's part of the page.
#[derive(Clone, Debug)]
pub struct CountersPage {
    memory: RacyMem,
}

impl CountersPage {
    /// Length of one engine's part in bytes.
    pub const BYTES: u64 = (Counters::COUNT as u64 * 8).next_multiple_of(64);

    /// The part at the start of `memory`, which has at least [`CountersPage::BYTES`].
    pub fn new(memory: RacyMem) -> Self {
        CountersPage { memory }
    }

    /// Writes all counters.
    pub fn publish(&self, counters: &Counters) {
        for (index, value) in counters.values().into_iter().enumerate() {
            if let Ok(word) = self.memory.word64(index as u64 * 8) {
                word.store(value, Ordering::Relaxed);
            }
        }
    }

    /// Reads all counters; each is exact, together they may be of neighbouring turns.
    pub fn read(&self) -> Counters {
        let mut values = [0; Counters::COUNT];
        for (index, value) in values.iter_mut().enumerate() {
            *value = self.memory.load64(index as u64 * 8).unwrap_or(0);
        }
        Counters::from_values(values)
    }
}

/// The counters of a daemon's engines in a file beside its socket, readable after its death.
#[derive(Debug)]
pub struct CountersFile {
    memory: RacyMem,
}

impl CountersFile {
    const MAGIC: u64 = u64::from_le_bytes(*b"nicctrs1");
    /// Magic, process, number of engines, number of counters.
    const HEADER_BYTES: u64 = 64;

    /// Where the file of a socket lies.
    pub fn path(socket: &Path) -> PathBuf {
        let mut path = socket.as_os_str().to_owned();
        path.push(".counters");
        path.into()
    }

    /// Makes the file anew.
    ///
    /// # Errors
    /// The system's reason.
    pub fn create(path: &Path, engines: usize) -> io::Result<Self> {
        let length = Self::HEADER_BYTES + engines as u64 * CountersPage::BYTES;
        let memory = MappedFile::create(path, length)?.memory();
        let header = [u64::from(std::process::id()), engines as u64, Counters::COUNT as u64];
        for (index, word) in header.into_iter().enumerate() {
            memory.write(8 + index as u64 * 8, &word.to_le_bytes()).map_err(io::Error::other)?;
        }
        memory.write_release_tail(0, &Self::MAGIC.to_le_bytes()).map_err(io::Error::other)?;
        Ok(CountersFile { memory })
    }

    /// Opens a file to be read.
    ///
    /// # Errors
    /// The system's reason, or it is not such a file of this release.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = CountersFile { memory: MappedFile::open(path, Self::HEADER_BYTES)?.memory() };
        let length = Self::HEADER_BYTES + file.engines() as u64 * CountersPage::BYTES;
        let is_ours = file.word(0) == Self::MAGIC
            && file.word(3) == Counters::COUNT as u64
            && file.engines() <= 64
            && file.memory.len() >= length;
        if !is_ours {
            let reason = "not a counters file of this release";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(file)
    }

    /// The process that writes it, or wrote it.
    pub fn pid(&self) -> u32 {
        self.word(1) as u32
    }

    /// How many engines it is for.
    pub fn engines(&self) -> usize {
        self.word(2) as usize
    }

    /// An engine's part.
    pub fn page(&self, engine: usize) -> Option<CountersPage> {
        let at = Self::HEADER_BYTES + engine as u64 * CountersPage::BYTES;
        self.memory.slice(at, CountersPage::BYTES).ok().map(CountersPage::new)
    }

    fn word(&self, index: u64) -> u64 {
        self.memory.load64(index * 8).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_read() {
        let page = CountersPage::new(RacyMem::allocate(CountersPage::BYTES));
        let counters = Counters { turns: 7, ops_in: 9, ..Counters::default() };
        page.publish(&counters);
        assert_eq!(page.read(), counters);
    }

    #[test]
    fn a_file_is_read_after_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = CountersFile::path(&folder.path().join("nic.sock"));
        let counters = Counters { turns: 3, ..Counters::default() };
        CountersFile::create(&path, 2).unwrap().page(1).unwrap().publish(&counters);
        let file = CountersFile::open(&path).unwrap();
        assert_eq!((file.pid(), file.engines()), (std::process::id(), 2));
        assert_eq!(file.page(1).unwrap().read(), counters);
        assert!(file.page(2).is_none());
        std::fs::write(&path, [0; 4096]).unwrap();
        assert!(CountersFile::open(&path).is_err());
    }
}
