use super::*;
use crate::errors::WordError;
use crate::seeded::Seeded;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::AtomicBool;

/// Bytes of `memory`, read one by one, so that the copies under test are not trusted.
fn content(memory: &RacyMem) -> Vec<u8> {
    (0..memory.len()).map(|offset| memory.read_array::<1>(offset).unwrap()[0]).collect()
}

fn numbered(len: usize) -> Vec<u8> {
    (0..len).map(|position| (position * 7 + 1) as u8).collect()
}

#[test]
fn copies_of_all_lengths_and_alignments_touch_their_range_alone() {
    let lengths = (0..=144).chain([200, 255, 256, 257, 1400, 4095, 4096]);
    for len in lengths {
        for offset in 0..=16_u64 {
            let memory = RacyMem::allocate(4096 + 64);
            memory.fill(0, memory.len(), 0xee).unwrap();
            let source = numbered(len);
            memory.write(offset, &source).unwrap();

            let mut expected = vec![0xee; 4096 + 64];
            expected[offset as usize..][..len].copy_from_slice(&source);
            assert!(content(&memory) == expected, "write of {len} at {offset}");

            let mut copy = vec![0x55; len + 2];
            memory.read(offset, &mut copy[1..=len]).unwrap();
            assert_eq!(copy[1..=len], source, "read of {len} at {offset}");
            assert_eq!((copy[0], copy[len + 1]), (0x55, 0x55), "read of {len} at {offset}");
        }
    }
}

#[test]
#[cfg(not(any(miri, loom)))]
fn portable_copies_do_the_same() {
    for len in (0..=80).chain([200, 1400]) {
        for (from_at, to_at) in [(0, 0), (0, 3), (5, 0), (5, 5), (7, 2)] {
            let source = numbered(len + 16);
            let mut memories = [(); 2].map(|()| vec![0xee_u8; len + 16]);
            let [middle, end] = &mut memories;
            let mut back = vec![0xee_u8; len + 16];
            // SAFETY: each range of `len` bytes from an offset below 16 lies within its vector.
            unsafe {
                let from = source.as_ptr().add(from_at);
                portable::copy_out(from, middle.as_mut_ptr().add(to_at), len);
                let from = middle.as_ptr().add(to_at);
                portable::copy_across(from, end.as_mut_ptr().add(from_at), len);
                let from = end.as_ptr().add(from_at);
                portable::copy_in(from, back.as_mut_ptr().add(to_at), len);
            }
            for (copy, at) in [(&memories[0], to_at), (&memories[1], from_at), (&back, to_at)] {
                let mut expected = vec![0xee_u8; len + 16];
                expected[at..][..len].copy_from_slice(&source[from_at..][..len]);
                assert!(*copy == expected, "{len} bytes from {from_at} to {to_at}");
            }
        }
    }
    let source = numbered(24);
    for at in 0..16 {
        // SAFETY: 8 bytes from an offset of at most 16 lie within the vector.
        let word = unsafe { portable::read8(source.as_ptr(), at) };
        assert_eq!(word.to_ne_bytes(), source[at..at + 8]);
    }
    portable::prefetch_line(core::ptr::null());
    portable::prefetch_line_for_write(core::ptr::null());
}

#[test]
fn words_of_a_range_are_read_where_they_lie_within() {
    let memory = RacyMem::allocate(64);
    memory.write(0, &numbered(64)).unwrap();
    let sight = memory.sight();
    let word = |at: usize| u64::from_le_bytes(numbered(64)[at..at + 8].try_into().unwrap());
    let places = Places::new(24, [16, 3]).unwrap();
    for offset in 0..=40_u64 {
        let at = offset as usize;
        assert_eq!(sight.words(offset, &places), Some([word(at + 16), word(at + 3)]));
        sight.lines(offset, &places).prefetch();
    }
    for (length, starts) in [(24, [0, 17]), (24, [u16::MAX, 0]), (7, [0, 0]), (0, [0, 0])] {
        assert_eq!(Places::new(length, starts), None, "{starts:?} beyond {length}");
    }
    for (offset, length) in [(41, 24), (64, 8), (u64::MAX, 8), (0, 65), (u64::MAX - 7, 8)] {
        let places = Places::new(length, [0, 0]).unwrap();
        assert_eq!(sight.words(offset, &places), None, "{length} at {offset}");
        assert_eq!(Sight::NOTHING.words(offset, &places), None);
        sight.lines(offset, &places).prefetch();
        Sight::NOTHING.lines(offset, &places).prefetch();
    }
}

#[test]
fn a_release_tail_places_the_same_bytes() {
    for len in 0..=40_usize {
        for offset in 0..=9_u64 {
            let memory = RacyMem::allocate(64);
            let source = numbered(len);
            memory.write_release_tail(offset, &source).unwrap();
            let mut expected = vec![0; 64];
            expected[offset as usize..][..len].copy_from_slice(&source);
            assert_eq!(content(&memory), expected, "{len} bytes at {offset}");
        }
    }
}

#[test]
fn memory_to_memory_and_fill_match_a_model() {
    let mut random = Seeded::new(11);
    let memories = [RacyMem::allocate(1000), RacyMem::allocate(777)];
    let mut models = [vec![0_u8; 1000], vec![0_u8; 777]];
    for (memory, model) in memories.iter().zip(&mut models) {
        random.fill(model);
        memory.write(0, model).unwrap();
    }
    for round in 0..500 {
        let (from, to) = (round % 2, (round + 1) % 2);
        let len = random.below(300) as usize;
        let offset = random.below((models[from].len() - len) as u64);
        let target = random.below((models[to].len() - len) as u64);
        memories[from].copy_to(offset, &memories[to], target, len as u64).unwrap();
        let bytes = models[from][offset as usize..][..len].to_vec();
        models[to][target as usize..][..len].copy_from_slice(&bytes);

        let fill = random.next() as u8;
        memories[from].fill(offset, len as u64, fill).unwrap();
        models[from][offset as usize..][..len].fill(fill);
    }
    assert_eq!(content(&memories[0]), models[0]);
    assert_eq!(content(&memories[1]), models[1]);
}

#[test]
fn ranges_outside_are_refused_untouched() {
    let memory = RacyMem::allocate(100);
    let refused = |offset, len| OutOfBounds { offset, len, memory_len: 100 };
    for (offset, len) in [(100, 1), (93, 8), (101, 0), (u64::MAX, 1), (u64::MAX - 3, 8)] {
        let mut buffer = vec![0x77; len];
        let expected = refused(offset, len as u64);
        assert_eq!(memory.read(offset, &mut buffer), Err(expected));
        assert_eq!(buffer, vec![0x77; len]);
        assert_eq!(memory.write(offset, &buffer), Err(expected.into()));
        assert_eq!(memory.write_release_tail(offset, &buffer), Err(expected.into()));
        assert_eq!(memory.fill(offset, len as u64, 1), Err(expected.into()));
        assert_eq!(memory.copy_to(offset, &memory, 0, len as u64), Err(expected.into()));
        assert_eq!(memory.copy_to(0, &memory, offset, len as u64), Err(expected.into()));
        assert_eq!(memory.slice(offset, len as u64).unwrap_err(), expected);
    }
    assert_eq!(memory.fill(1, u64::MAX, 1), Err(refused(1, u64::MAX).into()));
    assert_eq!(memory.word64(96).unwrap_err(), refused(96, 8).into());
    assert_eq!(memory.word32(100).unwrap_err(), refused(100, 4).into());
    assert_eq!(memory.read_array::<8>(93), Err(refused(93, 8)));
    assert_eq!(content(&memory), vec![0; 100]);

    memory.read(100, &mut []).unwrap();
    memory.write(100, &[]).unwrap();
    assert!(memory.slice(100, 0).unwrap().is_empty());
}

#[test]
fn a_slice_ends_where_it_was_told() {
    let memory = RacyMem::allocate(64);
    let slice = memory.slice(16, 16).unwrap();
    slice.write(8, &[9; 8]).unwrap();
    assert_eq!(memory.read_array::<8>(24).unwrap(), [9; 8]);
    assert_eq!(slice.read_array::<8>(9), Err(OutOfBounds { offset: 9, len: 8, memory_len: 16 }));
    let nested = slice.slice(8, 4).unwrap();
    assert_eq!(nested.read_array::<4>(0).unwrap(), [9; 4]);
    assert!(nested.write(1, &[0; 4]).is_err());
}

#[test]
fn words_are_in_place_and_aligned_by_address() {
    let memory = RacyMem::allocate(64);
    memory.word64(8).unwrap().store(0x0102_0304_0506_0708, Ordering::Relaxed);
    assert_eq!(memory.read_array::<8>(8).unwrap(), 0x0102_0304_0506_0708_u64.to_ne_bytes());
    assert_eq!(memory.load64(8), Ok(0x0102_0304_0506_0708));
    memory.word32(12).unwrap().store(7, Ordering::Relaxed);
    assert_eq!(memory.load32(12), Ok(7));
    assert_eq!(
        memory.word64(4).unwrap_err(),
        WordError::Misaligned { offset: 4, width: 8, excess: 4 }
    );
    assert_eq!(memory.load32(2), Err(WordError::Misaligned { offset: 2, width: 4, excess: 2 }));

    let odd = memory.slice(4, 32).unwrap();
    assert!(odd.word64(0).is_err(), "offset 0 of the slice is at 4");
    assert!(odd.word64(4).is_ok());

    let word = Word32::new(&odd, 8).unwrap();
    drop((memory, odd));
    assert_eq!(word.swap(5, Ordering::Relaxed), 7, "a word keeps its memory");
    assert_eq!(word.memory().load32(8), Ok(5));
}

#[test]
fn a_read_only_handle_refuses_to_write() {
    let memory = RacyMem::allocate(64);
    memory.write(0, &[3; 16]).unwrap();
    let reader = memory.to_read_only();
    assert_eq!(reader.permission(), Permission::ReadOnly);
    for reader in [reader.slice(0, 64).unwrap(), reader] {
        let refused = ReadOnly { offset: 8, memory_len: 64 };
        assert_eq!(reader.write(8, &[1]), Err(refused.into()));
        assert_eq!(reader.fill(8, 1, 1), Err(refused.into()));
        assert_eq!(reader.write_release_tail(8, &[0; 8]), Err(refused.into()));
        assert_eq!(memory.copy_to(0, &reader, 8, 8), Err(refused.into()));
        assert_eq!(reader.word64(8).unwrap_err(), refused.into());
        assert_eq!(reader.load64(8), Ok(u64::from_ne_bytes([3; 8])));
        // Out of bounds is said rather than read-only, for that is what would have to be mended.
        assert!(matches!(reader.write(64, &[1]), Err(WriteError::OutOfBounds(_))));
    }
    assert_eq!(memory.permission(), Permission::ReadWrite);
    memory.write(8, &[4]).unwrap();
}

#[test]
fn the_owner_goes_with_the_last_handle() {
    struct Owner(Vec<u64>, Arc<AtomicBool>);
    impl Drop for Owner {
        fn drop(&mut self) {
            self.1.store(true, Ordering::Relaxed);
        }
    }
    let gone = Arc::new(AtomicBool::new(false));
    let mut owner = Owner(vec![0; 8], Arc::clone(&gone));
    let base = NonNull::new(owner.0.as_mut_ptr().cast()).unwrap();
    // SAFETY: the vector stays where it is and is not touched otherwise.
    let memory = unsafe { RacyMem::from_parts(base, 64, Permission::ReadWrite, Arc::new(owner)) };
    let slice = memory.slice(0, 8).unwrap();
    drop(memory);
    slice.write(0, &[1; 8]).unwrap();
    assert!(!gone.load(Ordering::Relaxed));
    drop(slice);
    assert!(gone.load(Ordering::Relaxed));
}

#[test]
fn prefetch_takes_anything() {
    let memory = RacyMem::allocate(100);
    for (offset, len) in [(0, 0), (0, 100), (99, 1), (99, u64::MAX), (u64::MAX, u64::MAX)] {
        memory.prefetch(offset, len);
        memory.prefetch_for_write(offset, len);
    }
    RacyMem::allocate(0).prefetch(0, 64);
    RacyMem::allocate(1 << 20).prefetch(63, 1 << 20);
}

#[test]
fn aligned_words_are_copied_whole_while_another_thread_writes() {
    const WORDS: u64 = 33;
    let memory = RacyMem::allocate(WORDS * 8);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (memory, stop) = (memory.clone(), Arc::clone(&stop));
        move || {
            let patterns = [[0_u8; WORDS as usize * 8], [0xff; WORDS as usize * 8]];
            while !stop.load(Ordering::Relaxed) {
                for pattern in &patterns {
                    memory.write(0, pattern).unwrap();
                }
            }
        }
    });
    let mut copy = [0_u8; WORDS as usize * 8];
    let mut torn = 0;
    let rounds = if cfg!(miri) { 50 } else { 20_000 };
    for _ in 0..rounds {
        // A length with a ragged end must not tear the words before it either.
        for len in [8, 12, 24, 31, 64, 200, WORDS as usize * 8] {
            memory.read(0, &mut copy[..len]).unwrap();
            let words = copy[..len].chunks_exact(8);
            torn += words.filter(|word| word.iter().any(|byte| *byte != word[0])).count();
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert_eq!(torn, 0);
}

#[test]
fn whoever_sees_the_release_tail_sees_the_rest() {
    // 52 bytes from offset 4: the last whole word is the one at 48, as the range ends at 56.
    const FLAG_AT: u64 = 48;
    let rounds: u64 = if cfg!(miri) { 20 } else { 20_000 };
    let (data, back) = (RacyMem::allocate(64), RacyMem::allocate(64));
    let writer = std::thread::spawn({
        let (data, back) = (data.clone(), back.clone());
        move || {
            for round in 1..=rounds {
                let mut bytes = [round as u8; 52];
                bytes[44..].copy_from_slice(&round.to_ne_bytes());
                data.write_release_tail(4, &bytes).unwrap();
                while back.load64(0).unwrap() != round {
                    std::thread::yield_now();
                }
            }
        }
    });
    for round in 1..=rounds {
        while data.word64(FLAG_AT).unwrap().load(Ordering::Acquire) != round {
            std::thread::yield_now();
        }
        assert_eq!(data.read_array::<44>(4).unwrap(), [round as u8; 44], "round {round}");
        back.word64(0).unwrap().store(round, Ordering::Release);
    }
    writer.join().unwrap();
}

#[test]
fn handles_cross_threads_and_show_no_bytes() {
    fn crosses_threads<T: Send + Sync>() {}
    crosses_threads::<RacyMem>();
    crosses_threads::<Word32>();
    let shown = std::format!("{:?}", RacyMem::allocate(64));
    assert_eq!(shown, "RacyMem { len: 64, permission: ReadWrite, .. }");
}
