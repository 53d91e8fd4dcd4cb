//! A file that is mapped: words that stay readable after the death of who wrote them.

use alloc::sync::Arc;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::mapping::Mapping;
use crate::racy::{Permission, RacyMem};

/// A file of the owner's alone, mapped whole. It must not be cut short while it is mapped: touching
/// what is gone would end the process, so its permissions let nobody else near it.
#[derive(Debug)]
pub struct MappedFile {
    memory: RacyMem,
}

impl MappedFile {
    /// Makes the file anew, zeroed, readable and writable by its owner alone, and maps it. A file of
    /// that name is replaced, not changed: whoever has it mapped keeps what was in it.
    ///
    /// # Errors
    /// The system's reason.
    pub fn create(path: &Path, len: u64) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
        file.set_len(len)?;
        Self::map(&file, len, Permission::ReadWrite)
    }

    /// Maps an existing file to be read.
    ///
    /// # Errors
    /// The system's reason, or the file has fewer than `min_len` bytes.
    pub fn open(path: &Path, min_len: u64) -> io::Result<Self> {
        let file = File::open(path)?;
        let found = file.metadata()?.len();
        if found < min_len.max(1) {
            let reason = std::format!("{found} bytes where {min_len} were expected");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Self::map(&file, found, Permission::ReadOnly)
    }

    /// Its memory.
    #[must_use]
    pub fn memory(&self) -> RacyMem {
        self.memory.clone()
    }

    fn map(file: &File, len: u64, permission: Permission) -> io::Result<Self> {
        let writable = permission == Permission::ReadWrite;
        let mapping = Arc::new(Mapping::shared(file.as_fd(), len as usize, writable)?);
        let base = mapping.base();
        // SAFETY: the pages stay mapped, and as writable as said, until the mapping is dropped; its
        // address is handed to no one else. Nobody but the owner may cut the file short.
        let memory = unsafe { RacyMem::from_parts(base, len, permission, mapping) };
        Ok(Self { memory })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::Ordering;

    #[test]
    fn words_outlive_their_writer() {
        let path = std::env::temp_dir().join(std::format!("nic-file-{}", std::process::id()));
        let file = MappedFile::create(&path, 4096).unwrap();
        file.memory().word64(8).unwrap().store(77, Ordering::Relaxed);
        drop(file);
        let read = MappedFile::open(&path, 4096).unwrap();
        assert_eq!(read.memory().load64(8), Ok(77));
        assert!(read.memory().write(0, b"x").is_err());
        let fresh = MappedFile::create(&path, 4096).unwrap();
        assert_eq!((fresh.memory().load64(8), read.memory().load64(8)), (Ok(0), Ok(77)));
        assert!(MappedFile::open(&path, 8192).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(MappedFile::open(&path, 1).is_err());
    }
}
