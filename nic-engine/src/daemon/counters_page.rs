//! An engine's counters where others can read them: plain words in a shared mapping, and beside
//! them what each word means.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use nic_shm::{MappedFile, OutOfBounds, RacyMem};
use serde::{Deserialize, Serialize};

use crate::engine::{Counters, Metric};

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

/// What the words of a file mean: it lies in the file itself, so that a tool of another release can
/// read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Description {
    /// The release that wrote it.
    version: String,
    /// The words of an engine's part, in order.
    metrics: Vec<Metric>,
}

/// The counters of a daemon's engines in a file beside its socket, readable after its death.
#[derive(Debug)]
pub struct CountersFile {
    memory: RacyMem,
    description: Description,
}

/// Why a counters file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CountersFault {
    /// There is none: no engine process has run with this socket since it last ended well.
    #[error(
        "no counters file {path}: no engine process runs there, nor did one die there; name its \
         socket with --socket, or the file with --file"
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The system's reason.
    #[error("cannot read the counters file {path}: {error}")]
    System {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is something else, or of a release that wrote another format.
    #[error("{path} is no counters file that this release can read: {reason}")]
    Foreign {
        /// Which.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
}

/// The words at the start of a file, after the magic.
#[derive(Clone, Copy)]
enum Word {
    /// The process that writes.
    Process = 1,
    /// How many engines.
    Engines,
    /// Length of one engine's part in bytes.
    PageBytes,
    /// Length of the description in bytes; it lies behind the engines' parts.
    DescriptionBytes,
    /// When the file was made, in seconds since 1970.
    Started,
}

impl CountersFile {
    const MAGIC: u64 = u64::from_le_bytes(*b"nicctrs2");
    const HEADER_BYTES: u64 = 64;
    /// Longer parts and descriptions than any release writes are not believed.
    const PAGE_BYTES_MAX: u64 = 1 << 16;
    const DESCRIPTION_BYTES_MAX: u64 = 1 << 20;
    const ENGINES_MAX: u64 = 64;

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
        let description = Description {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            metrics: Counters::LIST.to_vec(),
        };
        let text = serde_json::to_vec(&description)?;
        let description_at = Self::HEADER_BYTES + engines as u64 * CountersPage::BYTES;
        let memory = MappedFile::create(path, description_at + text.len() as u64)?.memory();
        let started = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        let header = [
            (Word::Process, u64::from(std::process::id())),
            (Word::Engines, engines as u64),
            (Word::PageBytes, CountersPage::BYTES),
            (Word::DescriptionBytes, text.len() as u64),
            (Word::Started, started),
        ];
        let write = |at, bytes: &[u8]| memory.write(at, bytes).map_err(io::Error::other);
        write(description_at, &text)?;
        for (word, value) in header {
            write(word as u64 * 8, &value.to_le_bytes())?;
        }
        memory.write_release_tail(0, &Self::MAGIC.to_le_bytes()).map_err(io::Error::other)?;
        Ok(CountersFile { memory, description })
    }

    /// Opens a file to be read; nothing that is found there is believed unchecked.
    ///
    /// # Errors
    /// There is none, it cannot be read, or it is not such a file.
    pub fn open(path: &Path) -> Result<Self, CountersFault> {
        let path = || path.to_path_buf();
        let memory = match MappedFile::open(&path(), Self::HEADER_BYTES) {
            Ok(file) => file.memory(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(CountersFault::Missing { path: path() });
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(CountersFault::Foreign { path: path(), reason: error.to_string() });
            }
            Err(error) => return Err(CountersFault::System { path: path(), error }),
        };
        let description = Self::description(&memory)
            .map_err(|reason| CountersFault::Foreign { path: path(), reason })?;
        Ok(CountersFile { memory, description })
    }

    fn description(memory: &RacyMem) -> Result<Description, String> {
        let word = |word: Word| memory.load64(word as u64 * 8).unwrap_or(0);
        let magic = memory.load64(0).unwrap_or(0);
        if magic != Self::MAGIC {
            let found = magic.to_le_bytes();
            let (found, expected) = (found.escape_ascii(), Self::MAGIC.to_le_bytes());
            return Err(format!(
                "it begins with \"{found}\" where \"{}\" was expected",
                expected.escape_ascii()
            ));
        }
        let (engines, page) = (word(Word::Engines), word(Word::PageBytes));
        let bytes = word(Word::DescriptionBytes);
        let are_believable = engines <= Self::ENGINES_MAX
            && page <= Self::PAGE_BYTES_MAX
            && bytes <= Self::DESCRIPTION_BYTES_MAX;
        if !are_believable {
            return Err(format!("{engines} engines of {page} bytes and {bytes} of names"));
        }
        let mut text = vec![0; bytes as usize];
        let at = Self::HEADER_BYTES + engines * page;
        memory
            .read(at, &mut text)
            .map_err(|error: OutOfBounds| format!("it is cut short: {error}"))?;
        let description: Description = serde_json::from_slice(&text)
            .map_err(|error| format!("its list of counters cannot be read: {error}"))?;
        match description.metrics.len() as u64 * 8 <= page {
            true => Ok(description),
            false => Err(format!("{} counters in {page} bytes", description.metrics.len())),
        }
    }

    /// The process that writes it, or wrote it.
    pub fn pid(&self) -> u32 {
        self.word(Word::Process) as u32
    }

    /// How many engines it is for.
    pub fn engines(&self) -> usize {
        self.word(Word::Engines) as usize
    }

    /// When it was made, since 1970.
    pub fn started(&self) -> Duration {
        Duration::from_secs(self.word(Word::Started))
    }

    /// The release of the process that writes it.
    pub fn version(&self) -> &str {
        &self.description.version
    }

    /// What is counted there, in the order of [`CountersFile::values`].
    pub fn metrics(&self) -> &[Metric] {
        &self.description.metrics
    }

    /// An engine's counters; each is exact, together they may be of neighbouring turns. `None` if
    /// the file is not for so many engines.
    pub fn values(&self, engine: usize) -> Option<Vec<u64>> {
        let page = self.part(engine)?;
        let count = self.description.metrics.len() as u64;
        (0..count).map(|index| page.load64(index * 8).ok()).collect()
    }

    /// An engine's part, for a file that this process has made.
    pub(super) fn page(&self, engine: usize) -> Option<CountersPage> {
        self.part(engine).map(CountersPage::new)
    }

    fn part(&self, engine: usize) -> Option<RacyMem> {
        let page = self.word(Word::PageBytes);
        let at = Self::HEADER_BYTES + engine as u64 * page;
        (engine < self.engines()).then(|| self.memory.slice(at, page).ok())?
    }

    fn word(&self, word: Word) -> u64 {
        self.memory.load64(word as u64 * 8).unwrap_or(0)
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

    fn value(file: &CountersFile, engine: usize, name: &str) -> u64 {
        let place = file.metrics().iter().position(|metric| metric.name == name).unwrap();
        file.values(engine).unwrap()[place]
    }

    #[test]
    fn a_file_is_read_after_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = CountersFile::path(&folder.path().join("nic.sock"));
        let counters = Counters { turns: 3, ..Counters::default() };
        CountersFile::create(&path, 2).unwrap().page(1).unwrap().publish(&counters);
        let file = CountersFile::open(&path).unwrap();
        assert_eq!((file.pid(), file.engines()), (std::process::id(), 2));
        assert_eq!(file.metrics(), Counters::LIST);
        assert_eq!((value(&file, 0, "turns"), value(&file, 1, "turns")), (0, 3));
        assert!(file.values(2).is_none() && file.page(2).is_none());
    }

    /// A file of another release names counters that this one does not have, in parts of another
    /// length.
    #[test]
    fn a_file_of_another_release_is_read_by_its_own_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counters");
        let names = br#"{"version":"9.9.9","metrics":[
            {"name":"hops","kind":"total","unit":"hops","meaning":"Hops."},
            {"name":"rooms","kind":"gauge","unit":"rooms","meaning":"Rooms."}]}"#;
        let mut bytes = Vec::new();
        for word in [CountersFile::MAGIC, 77, 2, 16, names.len() as u64, 5, 0, 0, 1, 2, 3, 4] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(names);
        std::fs::write(&path, &bytes).unwrap();
        let file = CountersFile::open(&path).unwrap();
        assert_eq!((file.pid(), file.version()), (77, "9.9.9"));
        assert_eq!((value(&file, 0, "rooms"), value(&file, 1, "hops")), (2, 3));
    }

    #[test]
    fn what_is_no_counters_file_is_refused_with_what_was_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counters");
        let said = || CountersFile::open(&path).unwrap_err().to_string();
        assert!(said().contains("no counters file"), "{}", said());
        CountersFile::create(&path, 1).unwrap();
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, "short").unwrap();
        assert!(said().contains("5 bytes where 64 were expected"), "{}", said());
        std::fs::write(&path, [0; 4096]).unwrap();
        assert!(said().contains("where \"nicctrs2\" was expected"), "{}", said());
        // Each word of the header made huge, and the file cut short anywhere behind the header.
        for word in [2, 3, 4] {
            let mut bytes = good.clone();
            bytes[word * 8..word * 8 + 8].fill(0xff);
            std::fs::write(&path, bytes).unwrap();
            assert!(said().contains("is no counters file"), "{}", said());
        }
        for length in (64..good.len()).step_by(97) {
            std::fs::write(&path, &good[..length]).unwrap();
            assert!(said().contains("cut short"), "{}", said());
        }
    }
}
