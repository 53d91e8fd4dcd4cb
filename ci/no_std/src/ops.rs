//! Entry points into `nic-kernels`.

use nic_kernels::bucket_table::{BucketTable, Geometry, Identity};
use nic_kernels::mapped::{MappedMemory, Tables};
use nic_kernels::{Access, Budget, Builtin, Executor, Invocation, Limits, Memory};
use nic_shm::RacyMem;
use nic_wire::{KernelId, Status, Time};

/// Registers a region and runs one op of any kernel on it. Returns the length of its reply, zero
/// unless all went well.
// SAFETY: no other symbol of this name exists; nothing is linked with this library.
#[unsafe(no_mangle)]
pub extern "C" fn nic_no_std_op(kernel: u16, fill: u8) -> u32 {
    run_op(KernelId(kernel), &[fill; 32]).map_or(0, |(status, length)| match status {
        Status::Ok => length,
        _ => 0,
    })
}

fn run_op(kernel: KernelId, arguments: &[u8]) -> Option<(Status, u32)> {
    let mut memory = MappedMemory::new(Tables::default());
    let domain = memory.add_domain().ok()?;
    let region = memory.register(domain, RacyMem::allocate(4096), 0).ok()?;
    let access = Access::READ | Access::WRITE | Access::ATOMIC;
    let rkey = memory.export(domain, region, access, &[], 1).ok()?;

    let mut executor = Executor::<Builtin, MappedMemory>::new(16, Limits::default());
    let invocation = Invocation {
        owner: 0,
        kernel,
        arguments,
        payload_length: 8,
        reply_capacity: 64,
        deadline: Time::NEVER,
    };
    let grant = memory.admit(&rkey).ok()?;
    let slot = executor.start(&mut memory, Time::ZERO, grant, &invocation).ok()?;
    executor.payload(slot, 0, &[0; 8], &mut memory).ok()?;
    let mut finish = None;
    executor.run(&mut memory, Time::ZERO, Budget::default(), &mut |_, _, how| finish = Some(how));
    let mut reply = [0; 64];
    let length = finish?.reply_length.min(64);
    executor.copy_reply(slot, &memory, 0, &mut reply[..length as usize]).ok()?;
    executor.free(slot, &mut memory);
    memory.remove_domain(domain).ok()?;
    Some((finish?.status, length))
}

/// Formats a bucket table and works on it as its owner. Returns the length of the value found.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub extern "C" fn nic_no_std_table(fill: u8) -> usize {
    let geometry = Geometry::for_entries(100);
    let index = RacyMem::allocate(geometry.index_bytes());
    let entries = RacyMem::allocate(Geometry::entries_bytes(100, 16, 64));
    let Ok(mut table) = BucketTable::format(index, entries, geometry, Identity::default()) else {
        return 0;
    };
    let key = [fill; 16];
    if table.insert(&key, b"one").is_err() || table.upsert(&key, b"other").is_err() {
        return 0;
    }
    let length = table.get(&key).map_or(0, |found| found.value.len());
    table.erase(&key);
    length
}
