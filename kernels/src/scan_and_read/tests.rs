//! Tables that no owner would write.

use nic_shm::RacyMem;
use nic_wire::{KernelId, Rkey, Status};

use super::*;
use crate::bench::Bench;
use crate::bucket_table::layout::{EntryPointer, IndexEntry};
use crate::bucket_table::{BucketTable, Geometry, Identity, KeyHash};
use crate::{Access, Budget, Builtin};
use zerocopy::IntoBytes;

const KEY: &[u8] = b"key";

/// One bucket at 256 whose first index entry is KEY's; three regions, of which the entries (1) are
/// followable and the third (2) is not.
struct Crafted {
    bench: Bench,
    index: RacyMem,
    entries: RacyMem,
    rkey: Rkey,
}

impl Crafted {
    fn new(value: &[u8]) -> Self {
        let mut bench = Bench::<Builtin>::new(4);
        let geometry = Geometry::of(1, 256).unwrap();
        let index = RacyMem::allocate(geometry.index_bytes());
        let entries = RacyMem::allocate(8192);
        assert_eq!((bench.register(&index), bench.register(&entries)), (0, 1));
        bench.register(&RacyMem::allocate(8192));
        let identity = Identity::default();
        let mut table =
            BucketTable::format(index.clone(), entries.clone(), geometry, identity).unwrap();
        table.insert(KEY, value).unwrap();
        let rkey = bench.memory.export(bench.domain, 0, Access::READ, &[1], 9).unwrap();
        Crafted { bench, index, entries, rkey }
    }

    /// Points KEY's index entry elsewhere.
    fn point(&self, raw: u64) {
        self.index.write(256 + 32, &raw.to_le_bytes()).unwrap();
    }

    fn scan(&mut self) -> (Status, usize) {
        let arguments = Arguments::new(256, KeyHash::of(KEY), 256).encode();
        let (finish, reply) = self.bench.call(&self.rkey, KernelId::SCAN_AND_READ, &arguments, &[]);
        let (export, generation) = (self.rkey.export.get(), self.rkey.generation.get());
        assert_eq!(self.bench.memory.holds(export, generation), 0);
        (finish.status, reply.len())
    }
}

#[test]
fn pointers_are_followed_only_where_the_export_allows() {
    let mut crafted = Crafted::new(b"value");
    assert_eq!(crafted.scan(), (Status::Ok, 16 + 24 + 40 + 3 + 5));
    let to = |region, offset, length| EntryPointer::new(region, offset, length).unwrap().raw();
    for (raw, status) in [
        (to(2, 0, 48), Status::BadPointer),
        (to(3, 0, 48), Status::BadPointer),
        (to(255, 0, 48), Status::BadPointer),
        (to(1, 8192, 48), Status::BadPointer),
        (to(1, 8192 - 32, 48), Status::BadPointer),
        (to(1, EntryPointer::OFFSET_LIMIT - 16, 48), Status::BadPointer),
        (to(1, 0, 32), Status::BadPointer),
        (1 << 56, Status::BadPointer),
        (u64::MAX, Status::BadPointer),
    ] {
        crafted.point(raw);
        assert_eq!(crafted.scan(), (status, 0), "{raw:#x}");
    }
    crafted.point(0);
    assert_eq!(crafted.scan(), (Status::Ok, 16), "an empty entry is a miss");
}

#[test]
fn a_long_entry_is_bounded_by_its_pointer_and_by_the_region() {
    let mut crafted = Crafted::new(&[1; 3000]);
    assert_eq!(crafted.scan(), (Status::Ok, 40 + 40 + 3 + 3000));
    let raw = crafted.index.load64(256 + 32).unwrap();
    let offset = EntryPointer::from_raw(raw).unwrap().offset();
    // The data entry claims more than its pointer grants.
    crafted.entries.write(offset + 36, &5000u32.to_le_bytes()).unwrap();
    let granted = EntryPointer::from_raw(raw).unwrap().length() as usize;
    assert_eq!(crafted.scan(), (Status::Ok, 40 + granted));
    // The pointer grants more than the region has.
    let beyond = EntryPointer::new(1, offset, 1 << 20).unwrap();
    crafted.point(beyond.raw());
    crafted.entries.write(offset + 36, &(1u32 << 19).to_le_bytes()).unwrap();
    assert_eq!(crafted.scan(), (Status::BadPointer, 0));
}

#[test]
fn data_that_never_fits_its_index_entry_ends_all_the_same() {
    let mut crafted = Crafted::new(b"value");
    // Another version than the data entry's.
    crafted.index.write(256 + 24, &77u64.to_le_bytes()).unwrap();
    assert_eq!(crafted.scan(), (Status::Ok, 88));
    // Another key's data, although the index says otherwise: passed over.
    let raw = crafted.index.load64(256 + 32).unwrap();
    let offset = EntryPointer::from_raw(raw).unwrap().offset();
    crafted.entries.write(offset + 16, &[0xff; 8]).unwrap();
    assert_eq!(crafted.scan(), (Status::Ok, 16));
}

#[test]
fn every_bad_argument_has_its_status() {
    let mut crafted = Crafted::new(b"value");
    let good = Arguments::new(256, KeyHash::of(KEY), 256);
    for (arguments, status) in [
        (Arguments { bucket: 255.into(), ..good }, Status::Misaligned),
        (Arguments { bucket: 512.into(), ..good }, Status::OutOfBounds),
        (Arguments { bucket: (u64::MAX - 63).into(), ..good }, Status::OutOfBounds),
        (Arguments { bucket_bytes: 0.into(), ..good }, Status::BadArguments),
        (Arguments { bucket_bytes: 100.into(), ..good }, Status::BadArguments),
        (Arguments { bucket_bytes: 320.into(), ..good }, Status::BadArguments),
        (Arguments { flags: 1.into(), ..good }, Status::BadArguments),
    ] {
        let (finish, _) =
            crafted.bench.call(&crafted.rkey, KernelId::SCAN_AND_READ, &arguments.encode(), &[]);
        assert_eq!(finish.status, status, "{arguments:?}");
    }
}

#[test]
fn a_key_that_is_replaced_meanwhile_is_not_missed() {
    // KEY's data is overwritten by another key's after its bucket was fetched, and the index then
    // points to KEY's new data: what a replacement and an insertion amount to.
    let mut crafted = Crafted::new(b"value");
    let raw = crafted.index.load64(256 + 32).unwrap();
    let old = EntryPointer::from_raw(raw).unwrap();
    let arguments = Arguments::new(256, KeyHash::of(KEY), 256).encode();
    let invocation = crate::bench::op(KernelId::SCAN_AND_READ, &arguments);
    let slot = crafted.bench.start(&crafted.rkey, &invocation).unwrap();
    let budget = Budget { rounds: 1, cost: 1 };
    let bench = &mut crafted.bench;
    bench.executor.run(&mut bench.memory, nic_wire::Time::ZERO, budget, &mut |_, _, _| {});
    let mut bytes = [0; 48];
    crafted.entries.read(old.offset(), &mut bytes).unwrap();
    let moved = EntryPointer::new(1, 4096, 48).unwrap();
    crafted.entries.write(4096, &bytes).unwrap();
    crafted.point(moved.raw());
    crafted.entries.write(old.offset(), &[0xff; 48]).unwrap();
    crafted.bench.run(nic_wire::Time::ZERO);
    let reply = crafted.bench.reply(slot);
    assert_eq!(reply.len(), 88);
    let index = IndexEntry {
        hash: KeyHash::of(KEY).low().into(),
        version: 1.into(),
        pointer: moved.raw().into(),
    };
    assert_eq!(&reply[16..40], index.as_bytes());
    assert_eq!(&reply[40..], &bytes);
}

#[test]
fn the_rest_of_a_bucket_is_looked_at_only_if_it_was_ever_used() {
    let mut crafted = Crafted::new(b"value");
    let hit = (Status::Ok, 16 + 24 + 40 + 3 + 5);
    let entry: [u8; 24] = crafted.index.read_array(256 + 16).unwrap();
    let last = 256 + 16 + 9 * 24;
    crafted.index.write(last, &entry).unwrap();
    crafted.point(0);
    assert_eq!(crafted.scan(), (Status::Ok, 16), "one place was ever used, and it is empty");
    crafted.index.write(256 + 12, &10u32.to_le_bytes()).unwrap();
    assert_eq!(crafted.scan(), hit, "all ten were used");
}

crate::bench::also_on_dma!(
    pointers_are_followed_only_where_the_export_allows,
    a_long_entry_is_bounded_by_its_pointer_and_by_the_region,
    data_that_never_fits_its_index_entry_ends_all_the_same,
    every_bad_argument_has_its_status,
    the_rest_of_a_bucket_is_looked_at_only_if_it_was_ever_used,
);
