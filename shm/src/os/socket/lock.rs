//! The lock file that says whether a socket's path has a living owner.
//!
//! The lock belongs to the open file, so it ends with its owner, whatever kills it. The file also
//! holds the owner's process number, for people.

use super::errors::BindError;
use alloc::borrow::ToOwned;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, fstat, openat, statat};
use rustix::io::Errno;
use std::format;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Longest content that is looked at: a process number and a newline.
const CONTENT_BYTES_MAX: u64 = 16;

/// A held lock; dropping it removes the file and lets go.
#[derive(Debug)]
pub(super) struct PathLock {
    _file: File,
    path: PathBuf,
}

impl PathLock {
    /// Takes the lock that belongs to the socket at `socket`: the same path with ".lock" added.
    pub(super) fn acquire(socket: &Path) -> Result<Self, BindError> {
        let mut name = socket.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let failed = |source| BindError::Lock { path: path.clone(), source };
        loop {
            let mut file = open(&path).map_err(|errno| failed(errno.into()))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::INTR) => continue,
                Err(Errno::WOULDBLOCK) => {
                    let pid = owner(&mut file);
                    return Err(BindError::InUse { path: socket.to_path_buf(), pid });
                }
                Err(errno) => return Err(failed(errno.into())),
            }
            // The former owner may have removed the file between our opening and locking it; then
            // the lock is one on a file that nobody else will ever find.
            if is_at(&file, &path).map_err(|errno| failed(errno.into()))? {
                write_owner(&mut file).map_err(failed)?;
                return Ok(Self { _file: file, path });
            }
        }
    }
}

impl Drop for PathLock {
    fn drop(&mut self) {
        // While still locked, so that nobody locks what is being removed and keeps it.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn open(path: &Path) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(File::from(openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)?))
}

/// Whether that very file lies at `path`.
fn is_at(file: &File, path: &Path) -> Result<bool, Errno> {
    let held = fstat(file)?;
    match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => Ok((there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The process number in a lock file; 0 if there is none.
fn owner(file: &mut File) -> u32 {
    let mut content = std::string::String::new();
    match file.take(CONTENT_BYTES_MAX).read_to_string(&mut content) {
        Ok(_) => content.trim().parse().unwrap_or(0),
        Err(_) => 0,
    }
}

fn write_owner(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())
}
