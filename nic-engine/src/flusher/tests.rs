//! Files that are written, that fail, and that are no such files.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nic_kernels::AccessError;
use rustix::fs::{FlockOperation, MemfdFlags, OFlags, SealFlags, fcntl_add_seals, fcntl_setfl};
use rustix::fs::{flock, ftruncate, memfd_create};

use super::*;

const LENGTH: u64 = 1 << 20;
const OPS: usize = 100;

fn line(flusher: &Flusher) -> (FlushLine, Arc<Flushes>, Arc<Doorbell>) {
    let (flushes, bell) = (Arc::default(), Arc::new(Doorbell::new().unwrap()));
    (flusher.line(Arc::clone(&flushes), Arc::clone(&bell), OPS), flushes, bell)
}

/// A file of the region's length, and its first handle.
fn file() -> (File, OwnedFd) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(LENGTH).unwrap();
    let passed = file.try_clone().unwrap().into();
    (file, passed)
}

/// A file without its thread.
fn alone(file: OwnedFd) -> (Requests, Arc<BackedFile>, Arc<Flushes>, RacyMem) {
    let flusher = Flusher::start().unwrap();
    let (line, flushes, bell) = line(&flusher);
    let memory = RacyMem::allocate(LENGTH);
    let opened = BackedFile::new(memory.clone(), file, Arc::clone(&flushes), bell, OPS).unwrap();
    let opened = Arc::new(opened);
    (Requests::new(Arc::clone(&opened), Arc::clone(&line.shared)), opened, flushes, memory)
}

fn read(file: &File, offset: u64) -> u64 {
    let mut word = [0; 8];
    assert_eq!(rustix::io::pread(file, &mut word, offset), Ok(8));
    u64::from_le_bytes(word)
}

fn count(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[test]
fn all_requests_that_are_there_share_one_sync() {
    let (file, passed) = file();
    let (mut requests, opened, flushes, memory) = alone(passed);
    let mut ranges = Ranges::new();
    assert!(!opened.flush(&mut ranges), "there are none");
    // A record each, one behind the other, and one that spans the first ten.
    let mut numbers = Vec::new();
    for number in 0..64 {
        memory.write(64 * number, &(number + 1).to_le_bytes()).unwrap();
        numbers.push(requests.request(64 * number, 64).unwrap());
    }
    numbers.push(requests.request(0, 640).unwrap());
    assert!(numbers.iter().all(|number| requests.outcome(*number).is_none()));
    assert!(opened.flush(&mut ranges));
    assert!(numbers.iter().all(|number| requests.outcome(*number) == Some(Ok(()))));
    assert_eq!((count(&flushes.requests), count(&flushes.syncs)), (65, 1));
    assert_eq!((count(&flushes.bytes), count(&flushes.over)), (64 * 64, 1));
    assert!((0..64).all(|number| read(&file, 64 * number) == number + 1));
    assert!(opened.is_idle() && !opened.flush(&mut ranges));
}

#[test]
fn who_was_told_that_there_is_room_finds_it() {
    let (mut requests, opened, ..) = alone(file().1);
    // Some wait already; then all ops of the engine are told so before any of them asks.
    for _ in 0..=OPS {
        assert_eq!(requests.check(), Ok(()));
        requests.request(0, 8).unwrap();
    }
    assert_eq!(requests.check(), Err(AccessError::FlushesFull));
    for _ in 1..OPS {
        assert!(requests.request(0, 8).is_ok());
    }
    assert_eq!(requests.request(0, 8), Err(AccessError::FlushesFull));
    assert!(opened.flush(&mut Ranges::new()));
    assert_eq!((requests.check(), opened.is_idle()), (Ok(()), true));
}

#[test]
fn a_file_that_failed_is_never_believed_again() {
    // What the kernel refuses to write.
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let sealed = memfd_create("nic-sealed", flags).unwrap();
    ftruncate(&sealed, LENGTH).unwrap();
    let (mut requests, opened, flushes, _) = alone(sealed.try_clone().unwrap());
    let mut ranges = Ranges::new();
    let well = requests.request(0, 64).unwrap();
    assert!(opened.flush(&mut ranges));
    fcntl_add_seals(&sealed, SealFlags::WRITE).unwrap();
    let ill = [requests.request(0, 64).unwrap(), requests.request(64, 64).unwrap()];
    assert!(opened.flush(&mut ranges));
    assert_eq!(requests.outcome(well), Some(Ok(())));
    for number in ill {
        assert_eq!(requests.outcome(number), Some(Err(AccessError::NotPersisted)));
    }
    assert_eq!(requests.check(), Err(AccessError::NotPersisted));
    assert_eq!(requests.request(0, 8), Err(AccessError::NotPersisted));
    assert_eq!((count(&flushes.failures), count(&flushes.syncs), count(&flushes.over)), (1, 1, 2));
}

#[test]
fn a_region_whose_pages_were_taken_is_not_written_down_as_zeros() {
    nic_shm::survive_faults().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("region");
    let memory = nic_shm::MappedFile::create(&path, LENGTH).unwrap().memory();
    let (file, passed) = file();
    let (flushes, bell) = (Arc::default(), Arc::new(Doorbell::new().unwrap()));
    let opened = BackedFile::new(memory.clone(), passed, flushes, bell, OPS).unwrap();
    let opened = Arc::new(opened);
    let flusher = Flusher::start().unwrap();
    let mut requests = Requests::new(Arc::clone(&opened), Arc::clone(&flusher.shared));
    memory.write(0, &7u64.to_le_bytes()).unwrap();
    let well = requests.request(0, 8).unwrap();
    assert!(opened.flush(&mut Ranges::new()));
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    let lost = requests.request(4096, 8).unwrap();
    assert!(opened.flush(&mut Ranges::new()));
    assert_eq!(requests.outcome(well), Some(Ok(())));
    assert_eq!(requests.outcome(lost), Some(Err(AccessError::NotPersisted)));
    assert_eq!(read(&file, 0), 7);
}

#[test]
fn the_thread_serves_whoever_asks_and_wakes_the_engine() {
    let flusher = Flusher::start().unwrap();
    let (line, flushes, bell) = line(&flusher);
    let files: Vec<_> = (0..3)
        .map(|_| {
            let (file, passed) = file();
            let memory = RacyMem::allocate(LENGTH);
            (file, line.back(memory.clone(), passed).unwrap(), memory)
        })
        .collect();
    let mut files = files;
    for round in 1..200u64 {
        for (_, requests, memory) in &mut files {
            memory.write(8 * round, &round.to_le_bytes()).unwrap();
            assert_eq!(requests.request(8 * round, 8), Ok(round));
        }
        // As an engine that sleeps between.
        while !files.iter().all(|(_, requests, _)| requests.outcome(round) == Some(Ok(()))) {
            let ready = wait_any(&[bell.as_fd()], Some(Duration::from_secs(60))).unwrap();
            assert!(ready.contains(0), "nobody has rung");
            bell.drain().unwrap();
        }
        assert!(files.iter().all(|(file, ..)| read(file, 8 * round) == round));
    }
    assert_eq!((count(&flushes.requests), count(&flushes.failures)), (3 * 199, 0));
    // What is given up is closed, and its memory unmapped, though the thread sleeps.
    let (file, requests, _) = files.pop().unwrap();
    assert_eq!(flusher.shared.files().len(), 3);
    drop(requests);
    assert_eq!(flusher.shared.files().len(), 2);
    drop(file);
}

#[test]
fn a_region_that_is_given_up_lets_go_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let open = || File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let flusher = Flusher::start().unwrap();
    let (line, ..) = line(&flusher);
    for _ in 0..100 {
        let file = open().unwrap();
        file.set_len(LENGTH).unwrap();
        // Held by whoever has the description, until the last of them has closed it.
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            std::thread::yield_now();
        }
        let mut requests = line.back(RacyMem::allocate(LENGTH), file.into()).unwrap();
        requests.request(0, 4096).unwrap();
    }
}

#[test]
fn what_is_no_such_file_is_refused_with_what_was_found() {
    let flusher = Flusher::start().unwrap();
    let (line, ..) = line(&flusher);
    let refusal = |file: OwnedFd| {
        line.back(RacyMem::allocate(LENGTH), file).map(drop).unwrap_err().to_string()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let file = File::create(&path).unwrap();
    file.set_len(LENGTH - 1).unwrap();
    let short = refusal(File::options().read(true).write(true).open(&path).unwrap().into());
    assert!(short.contains("1048575") && short.contains("1048576"), "{short}");
    file.set_len(LENGTH).unwrap();
    for (read, write, append) in [(true, false, false), (false, true, false), (true, true, true)] {
        let mut options = File::options();
        let opened = options.read(read).write(write).append(append).open(&path).unwrap();
        let refused = refusal(opened.into());
        assert!(refused.contains("expected O_RDWR"), "{refused}");
    }
    let folder = File::open(folder.path()).unwrap();
    assert!(refusal(folder.into()).contains("ordinary file"));
    assert!(refusal(rustix::pipe::pipe().unwrap().0).contains("Fifo"));
    // Flags that change later make writes fail or hit another place: of the application's own file.
    let (mine, passed) = self::file();
    let mut requests = line.back(RacyMem::allocate(LENGTH), passed).unwrap();
    fcntl_setfl(&mine, OFlags::APPEND).unwrap();
    let number = requests.request(0, 8).unwrap();
    while requests.outcome(number).is_none() {
        std::thread::yield_now();
    }
}
