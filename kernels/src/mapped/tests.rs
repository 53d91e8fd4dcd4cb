use nic_shm::RacyMem;
use nic_wire::{Rkey, Status};

use super::*;
use crate::kernel::{Extent, Pointer};
use crate::memory::{Access, AccessError, Done, Grant, Memory, Request};

fn tables() -> MappedMemory {
    MappedMemory::new(Tables { domains: 2, regions: 3, exports: 2 })
}

/// Two regions of 64 bytes at bases 0 and 0x1000, the second followable from the first.
fn two_regions(access: Access) -> (MappedMemory, DomainId, Rkey) {
    let mut memory = tables();
    let domain = memory.add_domain().unwrap();
    let home = memory.register(domain, RacyMem::allocate(64), 0).unwrap();
    let other = memory.register(domain, RacyMem::allocate(64), 0x1000).unwrap();
    assert_eq!((home, other), (0, 1));
    let rkey = memory.export(domain, home, access, &[other], 77).unwrap();
    (memory, domain, rkey)
}

fn submit(memory: &mut MappedMemory, grant: Grant, request: Request) -> Result<Pending, Status> {
    memory.submit(grant, &request).map_err(|error| error.status())
}

#[test]
fn only_the_right_secret_admits() {
    let (mut memory, _, rkey) = two_regions(Access::READ);
    assert!(memory.admit(&rkey).is_ok());
    let (slot, generation) = (rkey.export.get(), rkey.generation.get());
    let wrong = [
        Rkey::new(slot, generation, 78),
        Rkey::new(slot, generation + 1, 77),
        Rkey::new(slot, 0, 0),
        Rkey::new(slot + 1, generation, 0),
        Rkey::new(slot + 1, 0, 0),
        Rkey::new(2, generation, 77),
        Rkey::new(u16::MAX, generation, 77),
    ];
    for wrong in wrong {
        assert_eq!(memory.admit(&wrong), Err(AccessError::BadRkey), "{wrong:?}");
    }
    assert_eq!(memory.revoke(slot, generation), Ok(0));
    assert_eq!(memory.admit(&rkey), Err(AccessError::Revoked));
    assert_eq!(memory.admit(&Rkey::new(slot, generation, 0)), Err(AccessError::Revoked));
    assert_eq!(
        memory.revoke(slot, generation),
        Err(ControlError::NoExport { export: slot, generation })
    );
}

#[test]
fn every_access_is_checked_against_its_region() {
    let (mut memory, domain, rkey) = two_regions(Access::READ);
    let grant = memory.admit(&rkey).unwrap();
    let mut named = |region, address, length| {
        submit(&mut memory, grant, Request::Read(Extent::named(region, address, length))).err()
    };
    assert_eq!(named(0, 0, 64), None);
    assert_eq!(named(0, 64, 0), None);
    assert_eq!(named(0, 64, 1), Some(Status::OutOfBounds));
    assert_eq!(named(0, 65, 0), Some(Status::OutOfBounds));
    assert_eq!(named(0, 60, 5), Some(Status::OutOfBounds));
    assert_eq!(named(0, u64::MAX, 1), Some(Status::OutOfBounds));
    assert_eq!(named(0, 0, u32::MAX), Some(Status::OutOfBounds));
    assert_eq!(named(1, 0x1000, 64), None);
    assert_eq!(named(1, 0xfff, 1), Some(Status::OutOfBounds));
    assert_eq!(named(1, 0, 1), Some(Status::OutOfBounds));
    assert_eq!(named(2, 0, 1), Some(Status::Denied));
    let mut followed = |region, address, length| {
        let at = Pointer { region, address };
        submit(&mut memory, grant, Request::Read(Extent::followed(at, length))).err()
    };
    assert_eq!(followed(1, 0x1020, 32), None);
    assert_eq!(followed(1, 0x1021, 32), Some(Status::BadPointer));
    assert_eq!(followed(2, 0, 1), Some(Status::BadPointer));
    // Another region of the domain that the export does not follow.
    let third = memory.register(domain, RacyMem::allocate(64), 0).unwrap();
    let read = Request::Read(Extent::named(third, 0, 1));
    assert_eq!(submit(&mut memory, grant, read).err(), Some(Status::Denied));
}

#[test]
fn a_region_near_the_end_of_the_address_space_has_its_bounds() {
    let mut memory = tables();
    let domain = memory.add_domain().unwrap();
    let base = u64::MAX - 127;
    let number = memory.register(domain, RacyMem::allocate(64), base).unwrap();
    let rkey = memory.export(domain, number, Access::READ, &[], 1).unwrap();
    let grant = memory.admit(&rkey).unwrap();
    let mut read = |address, length| {
        submit(&mut memory, grant, Request::Read(Extent::named(number, address, length))).err()
    };
    assert_eq!(read(base, 64), None);
    assert_eq!(read(base + 60, 5), Some(Status::OutOfBounds));
    assert_eq!(read(0, 1), Some(Status::OutOfBounds));
    assert_eq!(read(u64::MAX, 2), Some(Status::OutOfBounds));
}

#[test]
fn every_kind_of_access_needs_its_right() {
    let word = Extent::named(0, 8, 8);
    let requests = [
        (Access::READ, Request::Read(word)),
        (Access::WRITE, Request::Payload(word)),
        (Access::WRITE, Request::Store(word, 1)),
        (Access::ATOMIC, Request::CompareSwap { at: word, expected: 0, desired: 1 }),
        (Access::ATOMIC, Request::FetchAdd(word, 1)),
    ];
    for (needs, request) in requests {
        let (mut memory, _, rkey) = two_regions(needs);
        let grant = memory.admit(&rkey).unwrap();
        assert!(submit(&mut memory, grant, request).is_ok(), "{request:?}");
        let (mut memory, _, rkey) = two_regions(Access::all().difference(needs));
        let grant = memory.admit(&rkey).unwrap();
        assert_eq!(submit(&mut memory, grant, request).err(), Some(Status::Denied));
        assert_eq!(memory.permit(grant, needs).err().map(|e| e.status()), Some(Status::Denied));
        assert_eq!(memory.permit(grant, Access::all().difference(needs)), Ok(()));
    }
}

#[test]
fn a_memory_that_may_only_be_read_is_not_written() {
    let mut memory = tables();
    let domain = memory.add_domain().unwrap();
    let number = memory.register(domain, RacyMem::allocate(64).to_read_only(), 0).unwrap();
    let rkey = memory.export(domain, number, Access::all(), &[], 1).unwrap();
    let grant = memory.admit(&rkey).unwrap();
    let word = Extent::named(number, 8, 8);
    for request in [
        Request::Payload(word),
        Request::Store(word, 1),
        Request::CompareSwap { at: word, expected: 0, desired: 1 },
        Request::FetchAdd(word, 1),
    ] {
        assert_eq!(submit(&mut memory, grant, request).err(), Some(Status::Denied));
    }
    assert!(submit(&mut memory, grant, Request::Read(word)).is_ok());
}

#[test]
fn words_are_aligned_and_change_atomically() {
    let (mut memory, domain, rkey) = two_regions(Access::all());
    let grant = memory.admit(&rkey).unwrap();
    for offset in 1..8 {
        let add = Request::FetchAdd(Extent::named(1, 0x1000 + offset, 8), 1);
        assert_eq!(submit(&mut memory, grant, add).err(), Some(Status::Misaligned));
    }
    let short = Request::Store(Extent::named(1, 0x1000, 4), 1);
    assert_eq!(submit(&mut memory, grant, short).err(), Some(Status::Misaligned));

    let word = Extent::named(1, 0x1010, 8);
    let mut poll = |request| {
        let pending = memory.submit(grant, &request).unwrap();
        memory.poll(&pending, &mut []).unwrap().unwrap()
    };
    assert_eq!(poll(Request::Store(word, 5)), Done::Written);
    assert_eq!(poll(Request::FetchAdd(word, u64::MAX)), Done::Old(5));
    let swap = |expected, desired| Request::CompareSwap { at: word, expected, desired };
    assert_eq!(poll(swap(5, 9)), Done::Old(4), "not swapped");
    assert_eq!(poll(swap(4, 9)), Done::Old(4));
    assert_eq!(memory.region(domain, 1).unwrap().load64(0x10), Ok(9));
}

#[test]
fn what_is_under_way_is_held_until_it_ends() {
    let (mut memory, domain, rkey) = two_regions(Access::all());
    let (slot, generation) = (rkey.export.get(), rkey.generation.get());
    let grant = memory.admit(&rkey).unwrap();
    let read = Request::Read(Extent::named(0, 0, 8));
    let polled = memory.submit(grant, &read).unwrap();
    let abandoned = memory.submit(grant, &read).unwrap();
    assert_eq!(memory.holds(slot, generation), 2);
    assert_eq!(memory.revoke(slot, generation), Ok(2));
    assert_eq!(memory.submit(grant, &read).err(), Some(AccessError::Revoked));
    // A held slot is not given out again; the other is.
    assert_ne!(memory.export(domain, 0, Access::READ, &[], 1).unwrap().export.get(), slot);
    let full = ControlError::ExportsFull { limit: 2 };
    assert_eq!(memory.export(domain, 0, Access::READ, &[], 1), Err(full));

    let mut bytes = [0; 8];
    assert_eq!(memory.copy_out(&polled, 0, &mut bytes), Err(AccessError::Revoked));
    assert_eq!(memory.poll(&polled, &mut bytes), Err(AccessError::Revoked));
    assert_eq!(memory.holds(slot, generation), 1);
    memory.abandon(&abandoned);
    assert_eq!(memory.holds(slot, generation), 0);
    let again = memory.export(domain, 0, Access::READ, &[], 1).unwrap();
    assert_eq!((again.export.get(), again.generation.get()), (slot, generation + 1));
    assert_eq!(memory.admit(&rkey), Err(AccessError::Revoked));
}

#[test]
fn a_region_that_is_given_up_is_reached_by_nobody() {
    let (mut memory, domain, rkey) = two_regions(Access::all());
    let grant = memory.admit(&rkey).unwrap();
    let followed = Request::Read(Extent::followed(Pointer { region: 1, address: 0x1000 }, 8));
    let under_way = memory.submit(grant, &followed).unwrap();
    memory.deregister(domain, 1).unwrap();
    let number = memory.register(domain, RacyMem::allocate(64), 0x1000).unwrap();
    assert_eq!(number, 1, "the number is given out again");
    assert_eq!(memory.poll(&under_way, &mut [0; 8]), Err(AccessError::Revoked));
    assert_eq!(submit(&mut memory, grant, followed).err(), Some(Status::BadPointer));
    // The home region takes the export with it.
    memory.deregister(domain, 0).unwrap();
    assert_eq!(memory.admit(&rkey), Err(AccessError::Revoked));
    assert_eq!(memory.deregister(domain, 0).err(), Some(ControlError::NoRegion { region: 0 }));
}

#[test]
fn domains_are_apart_and_leave_nothing_behind() {
    let (mut memory, first, rkey) = two_regions(Access::all());
    let second = memory.add_domain().unwrap();
    assert_eq!(memory.add_domain(), Err(ControlError::DomainsFull { limit: 2 }));
    let number = memory.register(second, RacyMem::allocate(64), 0).unwrap();
    let full = ControlError::RegionsFull { limit: 3 };
    assert_eq!(memory.register(second, RacyMem::allocate(64), 0), Err(full));
    let missing = ControlError::NoRegion { region: 1 };
    assert_eq!(memory.export(second, number, Access::READ, &[1], 1), Err(missing));
    let other = memory.export(second, number, Access::READ, &[], 1).unwrap();
    assert_eq!(memory.domain_of(other.export.get()), Some(second));
    memory.remove_domain(first).unwrap();
    assert_eq!(memory.admit(&rkey), Err(AccessError::Revoked));
    assert!(memory.admit(&other).is_ok());
    assert_eq!(memory.remove_domain(first), Err(ControlError::NoDomain { domain: 0 }));
    assert!(memory.add_domain().is_ok());
}

#[test]
fn bases_are_aligned_and_do_not_overflow() {
    let mut memory = tables();
    let domain = memory.add_domain().unwrap();
    for base in [8, 1, !15] {
        let refused = memory.register(domain, RacyMem::allocate(64), base);
        assert_eq!(refused, Err(ControlError::BadBase { base, length: 64 }));
    }
    let unaligned = RacyMem::allocate(64).slice(8, 32).unwrap();
    let refused = memory.register(domain, unaligned, 0);
    assert_eq!(refused, Err(ControlError::BadBase { base: 0, length: 32 }));
}

#[test]
fn the_last_word_of_a_payload_is_found() {
    let (mut memory, _, rkey) = two_regions(Access::WRITE);
    let grant = memory.admit(&rkey).unwrap();
    for (address, length, expected) in [
        (0, 8, Some(0)),
        (0, 7, None),
        (1, 14, None),
        (1, 15, Some(7)),
        (1, 22, Some(7)),
        (3, 40, Some(29)),
        (0, 0, None),
        (16, 32, Some(24)),
    ] {
        let request = Request::Payload(Extent::named(0, address, length));
        let pending = memory.submit(grant, &request).unwrap();
        assert_eq!(memory.last_word(&pending), expected, "{length} bytes at {address}");
        memory.abandon(&pending);
    }
}
