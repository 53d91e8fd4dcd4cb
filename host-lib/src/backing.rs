//! The file that a region is kept in, in its owner's hands.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nic_shm::RacyMem;
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::io::Errno;

use crate::error::NicError;

/// How long a file is waited for that another has: an engine that has yet to hear of its owner's
/// end gives it up within moments.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long until it is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(10);
/// How much is copied at a time.
const BUFFER_BYTES: u64 = 1 << 20;

/// A region's file, which nobody else has: it is locked until owner and engine have closed it.
pub(crate) struct Backing {
    /// Locked, and the engine's. The owner never syncs it: an error of writing is told once to each
    /// opening of a file, and whoever did not ask hears of it no more.
    engines: File,
    /// The owner's.
    file: File,
    path: PathBuf,
}

impl Backing {
    /// Opens the file, or makes it; it then has the region's length, its blocks, and an entry in its
    /// folder that survives a loss of power.
    pub(crate) fn open(path: &Path, length: u64) -> Result<Self, NicError> {
        let fault = |reason: String| NicError::Backing { path: path.to_owned(), reason };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path).map_err(|error| {
            fault(format!("{error}; give the path of an ordinary file that this user may write"))
        })?;
        lock(&file).map_err(fault)?;
        let engines = file;
        let file = options.open(path).map_err(|error| fault(error.to_string()))?;
        let failed = |error: std::io::Error| fault(error.to_string());
        let metadata = file.metadata().map_err(failed)?;
        let locked = engines.metadata().map_err(failed)?;
        if (metadata.dev(), metadata.ino()) != (locked.dev(), locked.ino()) {
            return Err(fault("it was replaced while it was opened; try again".to_owned()));
        }
        let found = metadata.len();
        if !metadata.is_file() || found > length {
            return Err(fault(format!(
                "it has {found} bytes where the region has {length}; make the region as long as \
                 the file, or give another file"
            )));
        }
        // Blocks that are there cannot be missing when the engine writes.
        match fallocate(&file, FallocateFlags::empty(), 0, length) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) => file.set_len(length).map_err(failed)?,
            Err(error) => {
                return Err(fault(format!("{length} bytes of it cannot be had: {error}")));
            }
        }
        file.sync_all().map_err(failed)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new("."))).and_then(|f| f.sync_all()).map_err(failed)?;
        Ok(Backing { engines, file, path: path.to_owned() })
    }

    /// Copies what the file holds to the memory.
    pub(crate) fn load(&self, memory: &RacyMem) -> Result<(), NicError> {
        let mut buffer = vec![0; BUFFER_BYTES.min(memory.len()) as usize];
        for (at, length) in pieces(&(0..memory.len())) {
            let part = &mut buffer[..length];
            self.file.read_exact_at(part, at).map_err(|error| self.fault(&error))?;
            memory.write(at, part).map_err(|error| NicError::Session(error.to_string()))?;
        }
        Ok(())
    }

    /// Writes a range of the memory to the file; when this returns, it survives a loss of power.
    pub(crate) fn store(&self, memory: &RacyMem, range: &Range<u64>) -> Result<(), NicError> {
        if range.start > range.end || range.end > memory.len() {
            let reason = format!("{range:?} is not a range of its {} bytes", memory.len());
            return Err(NicError::Backing { path: self.path.clone(), reason });
        }
        let mut buffer = vec![0; BUFFER_BYTES.min(memory.len()) as usize];
        for (at, length) in pieces(range) {
            let part = &mut buffer[..length];
            memory.read(at, part).map_err(|error| NicError::Session(error.to_string()))?;
            self.file.write_all_at(part, at).map_err(|error| self.fault(&error))?;
        }
        self.file.sync_data().map_err(|error| self.fault(&error))
    }

    fn fault(&self, error: &std::io::Error) -> NicError {
        NicError::Backing { path: self.path.clone(), reason: error.to_string() }
    }
}

impl AsFd for Backing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.engines.as_fd()
    }
}

/// Two who write one file, each from a memory of its own, would leave neither's.
fn lock(file: &File) -> Result<(), String> {
    let begin = Instant::now();
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if begin.elapsed() < PATIENCE => std::thread::sleep(ASK_AGAIN),
            Err(Errno::WOULDBLOCK) => {
                return Err("another region is kept in it, of this or another process; drop that \
                            region, or give another file"
                    .to_owned());
            }
            Err(error) => return Err(format!("it cannot be locked: {error}")),
        }
    }
}

/// A range in parts that fit the buffer.
fn pieces(range: &Range<u64>) -> impl Iterator<Item = (u64, usize)> + use<> {
    let end = range.end;
    (range.start..end)
        .step_by(BUFFER_BYTES as usize)
        .map(move |at| (at, BUFFER_BYTES.min(end - at) as usize))
}
