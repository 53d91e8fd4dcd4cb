//! What an initiator believes of a table: headers and replies with anything in them.
#![cfg(not(loom))]
// The functions that tests share fail by panicking, too.
#![allow(clippy::unwrap_used)]

use nic_kernels::bucket_table::{
    Bucket, BucketTable, Geometry, Identity, KeyHash, TableView, Verdict, validate, validate_entry,
};
use nic_kernels::mapped::{MappedMemory, Tables};
use nic_kernels::{Access, Budget, Builtin, Executor, Invocation, Limits, Memory};
use nic_shm::RacyMem;
use nic_wire::{KernelId, Time};

const ITERATIONS: usize = 10_000;
const KEY: &[u8] = b"a key of sorts";
const VALUE: &[u8] = b"the one value that this key has ever had";

/// A table's header, and the reply to a lookup of the key.
fn recorded() -> (Vec<u8>, Vec<u8>, TableView) {
    let geometry = Geometry::for_entries(100);
    let index = RacyMem::allocate(geometry.index_bytes());
    let entries = RacyMem::allocate(Geometry::entries_bytes(100, 32, 64));
    let mut memory = MappedMemory::new(Tables { domains: 1, regions: 2, exports: 1 });
    let domain = memory.add_domain().unwrap();
    let home = memory.register(domain, index.clone(), 0).unwrap();
    let entries_region = memory.register(domain, entries.clone(), 0).unwrap();
    let rkey = memory.export(domain, home, Access::READ, &[entries_region], 1).unwrap();
    let identity = Identity { entries_region, ..Identity::default() };
    let mut table = BucketTable::format(index.clone(), entries, geometry, identity).unwrap();
    table.insert(KEY, VALUE).unwrap();
    let mut header = vec![0; TableView::HEADER_BYTES];
    index.read(0, &mut header).unwrap();
    let view = TableView::parse(&header).unwrap();

    let mut executor = Executor::<Builtin, MappedMemory>::new(1, Limits::default());
    let arguments = view.scan_and_read(KeyHash::of(KEY)).encode();
    let invocation = Invocation {
        owner: 0,
        kernel: KernelId::SCAN_AND_READ,
        arguments: &arguments,
        payload_length: 0,
        reply_capacity: 1024,
        deadline: Time::NEVER,
    };
    let grant = memory.admit(&rkey).unwrap();
    let slot = executor.start(&mut memory, Time::ZERO, grant, &invocation).unwrap();
    let mut length = 0;
    executor.run(&mut memory, Time::ZERO, Budget::default(), &mut |_, _, finish| {
        length = finish.reply_length as usize;
    });
    let mut reply = vec![0; length];
    executor.copy_reply(slot, &memory, 0, &mut reply).unwrap();
    (header, reply, view)
}

/// Nothing is believed but the key's own value.
fn judge(reply: &[u8], config_id: u64) -> bool {
    match validate(reply, KEY, KeyHash::of(KEY), config_id) {
        Verdict::Hit { value, .. } => {
            assert_eq!(&reply[value], VALUE, "a value that was never stored");
            true
        }
        _ => false,
    }
}

#[test]
fn bytes_as_tables() {
    bolero::check!().with_iterations(ITERATIONS).for_each(|bytes: &[u8]| {
        let hash = KeyHash::of(KEY);
        assert!(!judge(bytes, 0));
        if let Some(bucket) = Bucket::parse(bytes) {
            for (entry, pointer) in bucket.candidates(hash) {
                TableView::read_entry(pointer).encode();
                validate_entry(bucket.header(), entry, bytes, KEY, hash, 0);
            }
        }
        if let Ok(view) = TableView::parse(bytes) {
            view.scan_and_read(hash);
            view.read_bucket(hash);
        }
    });
}

#[test]
fn changed_headers() {
    let (header, _, view) = recorded();
    let input = bolero::check!().with_iterations(ITERATIONS).with_type::<Vec<(u16, u8)>>();
    input.for_each(|changes| {
        let mut changed = header.clone();
        for (place, byte) in changes {
            changed[usize::from(*place) % header.len()] = *byte;
        }
        match TableView::parse(&changed) {
            Ok(found) => {
                found.scan_and_read(KeyHash::of(KEY));
                found.read_bucket(KeyHash::of(KEY));
                assert!(changed != header || found.config_id == view.config_id);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}

#[test]
fn changed_replies() {
    let (_, reply, view) = recorded();
    assert!(judge(&reply, view.config_id), "the reply that is changed is right");
    let input = bolero::check!().with_iterations(ITERATIONS).with_type::<(Vec<(u16, u8)>, u16)>();
    input.for_each(|(changes, cut)| {
        let mut changed = reply.clone();
        for (place, byte) in changes {
            changed[usize::from(*place) % reply.len()] = *byte;
        }
        judge(&changed, view.config_id);
        // Shorter, and with something behind it.
        judge(&changed[..usize::from(*cut) % reply.len()], view.config_id);
        changed.extend_from_slice(&[7; 9]);
        judge(&changed, view.config_id);
    });
}
