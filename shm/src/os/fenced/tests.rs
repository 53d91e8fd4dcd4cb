use super::*;
use crate::seeded::Seeded;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use rustix::fd::AsRawFd;
use rustix::pipe::pipe;

/// Whether the byte at this distance from the memory's start can be read, as the kernel finds it: a
/// system call comes back with an error where an access would end the process.
fn is_readable(memory: &RacyMem, distance: isize) -> bool {
    let (_reader, writer) = pipe().unwrap();
    let address = memory.as_ptr().wrapping_offset(distance);
    // SAFETY: the kernel looks itself whether the byte is there.
    unsafe { libc::write(writer.as_raw_fd(), address.cast(), 1) == 1 }
}

#[test]
fn the_fences_are_where_they_are_said_to_be() {
    for len in [1, 100, 4096, 5000] {
        let start = FencedMemory::new(len, Edge::Start).unwrap().memory();
        assert!(is_readable(&start, 0) && !is_readable(&start, -1));
        let end = FencedMemory::new(len, Edge::End).unwrap().memory();
        assert!(is_readable(&end, len as isize - 1) && !is_readable(&end, len as isize));
    }
    assert!(FencedMemory::new(0, Edge::Start).is_err());
    assert!(FencedMemory::new(u64::MAX - 5, Edge::Start).is_err());
}

/// Every kind of access, at all lengths and alignments near the edges: one that touched a byte too
/// many, even only to read it, would end this process.
#[test]
fn no_access_leaves_the_memory() {
    let mut random = Seeded::new(7);
    for len in [1, 7, 8, 15, 16, 17, 64, 100, 300, 4096, 4097] {
        for edge in [Edge::Start, Edge::End] {
            let memory = FencedMemory::new(len, edge).unwrap().memory();
            let other = FencedMemory::new(len, edge).unwrap().memory();
            let mut model = vec![0; len as usize];
            for piece in 0..=len.min(300) {
                for offset in [0, len - piece, random.below(len - piece + 1)] {
                    access(&memory, &other, &mut model, offset, piece, &mut random);
                }
            }
        }
    }
}

fn access(
    memory: &RacyMem,
    other: &RacyMem,
    model: &mut [u8],
    offset: u64,
    piece: u64,
    random: &mut Seeded,
) {
    let range = offset as usize..(offset + piece) as usize;
    let mut bytes = vec![0; piece as usize];
    random.fill(&mut bytes);
    match random.below(3) {
        0 => memory.write(offset, &bytes).unwrap(),
        1 => memory.write_release_tail(offset, &bytes).unwrap(),
        _ => {
            bytes.fill(0xa5);
            memory.fill(offset, piece, 0xa5).unwrap();
        }
    }
    model[range].copy_from_slice(&bytes);
    let mut read: Vec<u8> = vec![0; piece as usize];
    memory.read(offset, &mut read).unwrap();
    assert_eq!(read, bytes);
    memory.copy_to(offset, other, offset, piece).unwrap();
    memory.prefetch(offset, piece + 4096);
    if let Ok(word) = memory.word64(offset) {
        word.fetch_add(0, Ordering::Relaxed);
    }
    let mut whole = vec![0; model.len()];
    memory.read(0, &mut whole).unwrap();
    assert_eq!(whole, model);
}
