use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::vec::Vec;

use super::*;
use crate::{MappedFile, RacyMem, faults};

const PAGE: u64 = 4096;

/// A mapped file of four pages of ones.
fn mapped(name: &str) -> (PathBuf, RacyMem) {
    let name = std::format!("nic-fault-{}-{name}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let memory = MappedFile::create(&path, 4 * PAGE).unwrap().memory();
    memory.fill(0, 4 * PAGE, 1).unwrap();
    (path, memory)
}

fn cut(path: &Path, len: u64) {
    File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

#[test]
fn a_file_cut_short_reads_as_zeros_and_is_lost() {
    survive_faults().unwrap();
    let (path, memory) = mapped("read");
    let (other_path, other) = mapped("other");
    cut(&path, PAGE);
    assert!(!memory.is_lost(), "nobody has noticed yet");
    let before = faults();
    let mut bytes = [7; 2 * PAGE as usize];
    memory.read(0, &mut bytes).unwrap();
    assert!(bytes[..PAGE as usize].iter().all(|byte| *byte == 1));
    assert!(bytes[PAGE as usize..].iter().all(|byte| *byte == 0));
    assert!(faults() > before);
    assert!(memory.is_lost() && memory.slice(8, 8).unwrap().is_lost());
    assert!(!other.is_lost());

    // Atomics and writes go on too, and reach nobody.
    memory.word64(2 * PAGE).unwrap().fetch_add(5, Ordering::AcqRel);
    assert_eq!(memory.load64(2 * PAGE), Ok(5));
    memory.write(3 * PAGE, &[9; 16]).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), PAGE);
    for path in [path, other_path] {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_place_serves_one_mapping_after_the_other() {
    survive_faults().unwrap();
    let (path, memory) = mapped("first");
    cut(&path, 0);
    assert_eq!(memory.load64(0), Ok(0));
    assert!(memory.is_lost());
    let address = memory.as_ptr().addr();
    drop(memory);
    assert!(place_of(address).is_none_or(|place| !place.lost.load(Ordering::Relaxed)));
    let (again, memory) = mapped("again");
    assert!(!memory.is_lost());
    for path in [path, again] {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn several_threads_fault_at_once() {
    survive_faults().unwrap();
    let (path, memory) = mapped("threads");
    cut(&path, 0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let memory = &memory;
                scope.spawn(move || (0..4).map(|at| memory.load64((at + number) % 4 * PAGE)).sum())
            })
            .collect();
        for thread in threads {
            let sum: Result<u64, _> = thread.join().unwrap();
            assert_eq!(sum, Ok(0));
        }
    });
    std::fs::remove_file(path).unwrap();
}

/// In a process of its own: whoever faults elsewhere ends as ever.
#[test]
fn faults_elsewhere_end_the_process() {
    const CHILD: &str = "NIC_FAULT_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let this = std::env::current_exe().unwrap();
        let name = "os::fault::tests::faults_elsewhere_end_the_process";
        let mut child = Command::new(this);
        let ended = child.args(["--exact", name]).env(CHILD, "1").output().unwrap().status;
        assert_eq!(ended.signal(), Some(libc::SIGBUS), "{ended}");
        return;
    }
    survive_faults().unwrap();
    // SAFETY: prevents a core file; touches nothing of ours.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
    let path = std::env::temp_dir().join(std::format!("nic-fault-{}", std::process::id()));
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    file.write_all(&[1; 4096]).unwrap();
    // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
    let stranger = unsafe {
        let flags = rustix::mm::MapFlags::SHARED;
        rustix::mm::mmap(null_mut(), 4096, rustix::mm::ProtFlags::READ, flags, &file, 0).unwrap()
    };
    file.set_len(0).unwrap();
    std::fs::remove_file(&path).unwrap();
    // SAFETY: the page is mapped; that the access faults is what is asked for here.
    unsafe { stranger.cast::<u8>().read_volatile() };
}
