use super::*;
use crate::{ReadOnly, WriteError};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::mm::{MapFlags, ProtFlags, mmap};

fn received(memory: &SharedMemory) -> OwnedFd {
    memory.fd().try_clone_to_owned().unwrap()
}

#[test]
fn both_sides_see_one_memory() {
    let mut owner = SharedMemory::create("both-sides", 5000, Pages::Small).unwrap();
    assert_eq!(owner.len(), 8192, "rounded up to pages");
    owner.populate().unwrap();
    let mut peer = SharedMemory::open(received(&owner), 5000).unwrap();
    assert_eq!((peer.len(), peer.page_kind()), (8192, PageKind::Small));
    peer.populate().unwrap();

    owner.memory().write(8000, b"from the owner").unwrap();
    assert_eq!(&peer.memory().read_array::<14>(8000).unwrap(), b"from the owner");
    peer.memory().write(0, b"from the peer").unwrap();
    assert_eq!(&owner.memory().read_array::<13>(0).unwrap(), b"from the peer");
}

#[test]
fn handles_outlive_the_shared_memory() {
    let owner = SharedMemory::create("outlive", 4096, Pages::Small).unwrap();
    let memory = owner.memory();
    drop(owner);
    memory.write(0, &[1]).unwrap();
    assert_eq!(memory.read_array::<1>(0).unwrap(), [1]);
}

#[test]
fn it_grows_and_never_shrinks() {
    let owner = SharedMemory::create("shrink", 8192, Pages::Small).unwrap();
    assert_eq!(ftruncate(owner.fd(), 4096), Err(Errno::PERM));
    assert_eq!(fcntl_add_seals(owner.fd(), SealFlags::WRITE), Err(Errno::PERM));
    ftruncate(owner.fd(), 16384).unwrap();
    assert_eq!(SharedMemory::open(received(&owner), 16384).unwrap().len(), 16384);
}

#[test]
fn a_punched_hole_reads_as_zeroes() {
    let owner = SharedMemory::create("hole", 8192, Pages::Small).unwrap();
    let memory = owner.memory();
    memory.fill(0, 8192, 0xaa).unwrap();
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(owner.fd(), hole, 0, 4096).unwrap();
    assert_eq!(memory.read_array::<4096>(0).unwrap(), [0; 4096]);
    assert_eq!(memory.read_array::<4096>(4096).unwrap(), [0xaa; 4096]);
}

#[test]
fn a_read_only_mapping_cannot_be_written() {
    let owner = SharedMemory::create("read-only", 4096, Pages::Small).unwrap();
    owner.memory().write(0, &[7; 8]).unwrap();
    let mut reader = SharedMemory::open_read_only(received(&owner), 4096).unwrap();
    reader.populate().unwrap();
    let memory = reader.memory();
    let refused = ReadOnly { offset: 0, memory_len: 4096 };
    assert_eq!(memory.write(0, &[1]), Err(WriteError::ReadOnly(refused)));
    assert!(memory.word32(0).is_err());
    assert_eq!(memory.load64(0), Ok(u64::from_ne_bytes([7; 8])));
}

#[test]
fn what_only_the_owner_may_write_cannot_be_mapped_writable() {
    let owner = SharedMemory::create_owner_writable("counters", 4096, Pages::Small).unwrap();
    let refused = SharedMemory::open(received(&owner), 4096).unwrap_err();
    assert!(matches!(refused, MemoryError::WriteSealed { found } if found & 0x10 != 0));
    // Nor does a receiver get around it.
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let fd = received(&owner);
    // SAFETY: a new mapping; it is refused, and nothing would touch it.
    let mapped = unsafe { mmap(core::ptr::null_mut(), 4096, protection, MapFlags::SHARED, &fd, 0) };
    assert_eq!(mapped, Err(Errno::PERM));
    assert_eq!(rustix::io::write(&fd, &[1]), Err(Errno::PERM));

    let reader = SharedMemory::open_read_only(received(&owner), 4096).unwrap();
    owner.memory().word64(64).unwrap().store(9, core::sync::atomic::Ordering::Release);
    assert_eq!(reader.memory().load64(64), Ok(9));
}

#[test]
fn what_a_peer_passes_is_checked() {
    let (pipe, _other_end) = rustix::pipe::pipe().unwrap();
    let refused = SharedMemory::open(pipe, 1).unwrap_err();
    assert!(matches!(refused, MemoryError::NotMemfd { .. }));

    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let unsealed = memfd_create("unsealed", flags).unwrap();
    ftruncate(&unsealed, 4096).unwrap();
    let refused = SharedMemory::open_read_only(unsealed.try_clone().unwrap(), 1).unwrap_err();
    assert!(matches!(refused, MemoryError::NotSealed { expected: 2, .. }));
    let refused = SharedMemory::open(unsealed, 1).unwrap_err();
    assert!(matches!(refused, MemoryError::NotSealed { .. }));

    let file = rustix::fs::openat(
        rustix::fs::CWD,
        "/proc/self/exe",
        rustix::fs::OFlags::RDONLY,
        rustix::fs::Mode::empty(),
    );
    assert!(SharedMemory::open_read_only(file.unwrap(), 1).is_err());

    let owner = SharedMemory::create("small", 4096, Pages::Small).unwrap();
    let refused = SharedMemory::open(received(&owner), 4097).unwrap_err();
    assert!(matches!(refused, MemoryError::TooSmall { found: 4096, expected: 4097 }));

    let empty = memfd_create("empty", flags).unwrap();
    fcntl_add_seals(&empty, SealFlags::SHRINK).unwrap();
    let refused = SharedMemory::open(empty, 0).unwrap_err();
    assert!(matches!(refused, MemoryError::TooSmall { found: 0, expected: 1 }));

    // More than there is address space: an error, and nothing is allocated.
    let vast = memfd_create("vast", flags).unwrap();
    ftruncate(&vast, 1 << 62).unwrap();
    fcntl_add_seals(&vast, SealFlags::SHRINK).unwrap();
    let again = vast.try_clone().unwrap();
    let refused = SharedMemory::open(again, 1 << 62).unwrap_err();
    assert!(matches!(refused, MemoryError::Map { .. }));
    let refused = SharedMemory::open_read_only(vast, 1).unwrap_err();
    assert!(matches!(refused, MemoryError::Map { .. }));
}

#[test]
fn only_what_was_agreed_is_mapped_and_populated() {
    // A terabyte that is not there: populated whole it would end the machine.
    let owner = SharedMemory::create("sparse", 1 << 40, Pages::Small).unwrap();
    let mut peer = SharedMemory::open(received(&owner), 5000).unwrap();
    assert_eq!(peer.len(), 8192);
    peer.populate().unwrap();
    assert_eq!(fstat(owner.fd()).unwrap().st_blocks * 512, 8192);
}

#[test]
fn impossible_lengths_are_refused() {
    for len in [0, u64::MAX, i64::MAX as u64] {
        let refused = SharedMemory::create("length", len, Pages::TryHuge).unwrap_err();
        assert!(matches!(refused, MemoryError::Length { len: found } if found == len));
    }
    let refused = SharedMemory::create("length", 1 << 62, Pages::Small).unwrap_err();
    assert!(matches!(refused, MemoryError::Create { .. }));
}

#[test]
fn huge_pages_are_tried_and_the_outcome_is_told() {
    let mut memory = SharedMemory::create("try-huge", 3 << 20, Pages::TryHuge).unwrap();
    memory.memory().write(5000, b"kept").unwrap();
    memory.populate().unwrap();
    assert_eq!(&memory.memory().read_array::<4>(5000).unwrap(), b"kept");
    let mapped_huge = shmem_mapped_huge(memory.memory().as_ptr().addr());
    match memory.page_kind() {
        PageKind::Huge => assert_eq!(memory.len(), 4 << 20),
        PageKind::Joined => {
            assert_eq!((memory.len(), mapped_huge), (3 << 20, 2 << 20));
            // Whoever maps it next has the huge pages, too.
            let mut peer = SharedMemory::open(received(&memory), 3 << 20).unwrap();
            peer.populate().unwrap();
            assert_eq!(shmem_mapped_huge(peer.memory().as_ptr().addr()), 2 << 20);
        }
        // A kernel before 6.1, or without a free huge page.
        PageKind::Small => assert_eq!((memory.len(), mapped_huge), (3 << 20, 0)),
    }
    let little = SharedMemory::create("little", 5000, Pages::TryHuge).unwrap();
    assert_eq!((little.page_kind(), little.len()), (PageKind::Small, 8192));
    // Nothing has this many huge pages, so small ones must come instead, and an error if only huge
    // ones will do.
    let len = 1 << 40;
    let memory = SharedMemory::create("too-huge", len, Pages::TryHuge).unwrap();
    assert_eq!((memory.page_kind(), memory.len()), (PageKind::Small, len));
    let refused = SharedMemory::create("too-huge", len, Pages::Huge).unwrap_err();
    assert!(matches!(refused, MemoryError::NoHugePages { pages: 524_288, .. }));
}

/// Bytes of shared memory that are mapped as huge pages where `address` lies.
fn shmem_mapped_huge(address: usize) -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut is_it = false;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap();
        if let Some((start, end)) = first.split_once('-') {
            let number = |word| usize::from_str_radix(word, 16).unwrap();
            is_it = (number(start)..number(end)).contains(&address);
        } else if is_it && first == "ShmemPmdMapped:" {
            return words.next().unwrap().parse::<u64>().unwrap() << 10;
        }
    }
    panic!("no mapping holds the address");
}

#[test]
#[ignore = "needs huge pages: sysctl vm.nr_hugepages=8"]
fn huge_pages_are_had() {
    let mut owner = SharedMemory::create("huge", 3 << 20, Pages::Huge).unwrap();
    owner.populate().unwrap();
    assert_eq!((owner.page_kind(), owner.len()), (PageKind::Huge, 4 << 20));
    assert_eq!(ftruncate(owner.fd(), 2 << 20), Err(Errno::PERM));
    let peer = SharedMemory::open(received(&owner), 3 << 20).unwrap();
    assert_eq!(peer.page_kind(), PageKind::Huge);
    owner.memory().write(4_000_000, b"huge").unwrap();
    assert_eq!(&peer.memory().read_array::<4>(4_000_000).unwrap(), b"huge");
}

#[test]
fn pages_without_populate_are_touched_unchanged() {
    // What is done on kernels that do not know the advice.
    let owner = SharedMemory::create("touch", 8192, Pages::Small).unwrap();
    owner.memory().write(4096, &[5; 8]).unwrap();
    owner.touch(true);
    owner.touch(false);
    assert_eq!(owner.memory().read_array::<9>(4096).unwrap(), [5, 5, 5, 5, 5, 5, 5, 5, 0]);
    let blocks = fstat(owner.fd()).unwrap().st_blocks;
    assert_eq!(blocks * 512, 8192, "every page has been allocated");
}
