//! Ops that their target refuses, each with its own status.

use nic_kernels::{Access, read, write};
use nic_tests::{Ask, Done, revoke_work};
use nic_wire::{Fate, KernelId, Rkey, Status};

use crate::{REGION_BYTES, Scene};

/// Runs ops that must be refused with a status, and checks that nothing came of them.
fn refused(scene: &mut Scene, asks: &[Ask], status: Status) {
    let before = scene.untouched_bytes();
    let counted = scene.counted(|scene| {
        for ask in asks {
            let done: Done = scene.world.run(&mut scene.honest, ask);
            assert_eq!(done.ended(), (status, Fate::NotExecuted), "{ask:?}");
        }
        scene.world.run_until_idle();
    });
    let count = asks.len() as u64;
    assert_eq!((counted.requests_received, counted.refused), (count, count), "each op once");
    assert_eq!((counted.executed, counted.failed, counted.malformed_frames), (0, 0, 0));
    assert!(scene.untouched_bytes() == before, "a refused op leaves no trace");
    scene.nobody_noticed();
}

/// One op of each kind at an address, of a length.
fn each_kind(remote: u16, address: u64, length: u32) -> Vec<Ask> {
    vec![
        Ask::read(remote, address, length),
        Ask::write(remote, address, &vec![0xbb; length as usize]),
        Ask::fetch_add(remote, address, 1),
        Ask::compare_swap(remote, address, 0, 1),
    ]
}

#[test]
fn wrong_rkeys() {
    let mut scene = Scene::new(20);
    let Rkey { export, generation, secret } = scene.rkey;
    let (export, generation, secret) = (export.get(), generation.get(), secret.get());
    let wrong = [
        Rkey::new(export, generation, secret ^ 1),
        Rkey::new(export, generation, 0),
        Rkey::new(export, generation + 1, secret),
        Rkey::new(export, 0, secret),
        Rkey::new(export + 1, generation, secret),
        Rkey::new(u16::MAX, generation, secret),
    ];
    for rkey in wrong {
        let remote = scene.world.connect(&scene.honest, scene.target, rkey);
        refused(&mut scene, &each_kind(remote, 16384, 8), Status::BadRkey);
    }
}

#[test]
fn ranges_out_of_bounds() {
    let mut scene = Scene::new(21);
    let remote = scene.remote;
    for (address, length) in [
        (REGION_BYTES, 8),
        (REGION_BYTES + 8, 8),
        (1 << 40, 8),
        (u64::MAX - 7, 8),
        (u64::MAX - 7, 4000),
    ] {
        refused(&mut scene, &each_kind(remote, address, length), Status::OutOfBounds);
    }
    // The first bytes would fit. Short and long: payloads of several packets are refused whole.
    for length in [2, 8, 4000] {
        let from = REGION_BYTES - u64::from(length) + 1;
        let asks =
            [Ask::read(remote, from, length), Ask::write(remote, from, &vec![7; length as usize])];
        refused(&mut scene, &asks, Status::OutOfBounds);
    }
    let last = [Ask::read(remote, REGION_BYTES - 8, 8), Ask::read(remote, REGION_BYTES, 0)];
    for ask in &last {
        assert!(scene.world.run(&mut scene.honest, ask).is_ok(), "{ask:?} is within");
    }
}

#[test]
fn revoked_regions() {
    let mut scene = Scene::new(22);
    let Scene { world, target, owner, honest, .. } = &mut scene;
    let (_, rkey) = world.exported_region(*target, *owner, REGION_BYTES, Access::all());
    let remote = world.connect(honest, *target, rkey);
    assert!(world.run(honest, &Ask::read(remote, 0, 8)).is_ok());
    world.revoke(*target, *owner, rkey);
    let asks: Vec<Ask> = [8, 4000].iter().flat_map(|n| each_kind(remote, 0, *n)).collect();
    refused(&mut scene, &asks, Status::Revoked);
    let refusal = scene.world.refused(scene.target, revoke_work(scene.owner, rkey));
    assert_eq!(refusal.status, Status::BadRkey);
}

#[test]
fn unknown_kernels() {
    let mut scene = Scene::new(23);
    let remote = scene.remote;
    let asks = [60, 99, 0x7fff, 0x8000, 0xffff]
        .map(|kernel| Ask::kernel(remote, KernelId(kernel), &[1, 2, 3], 64));
    refused(&mut scene, &asks, Status::UnknownKernel);
    let payload = Ask { payload: vec![1; 4000], ..asks[0].clone() };
    refused(&mut scene, &[payload], Status::UnknownKernel);
}

#[test]
fn arguments_that_a_kernel_refuses() {
    let mut scene = Scene::new(24);
    let remote = scene.remote;
    let mut asks = Vec::new();
    for kernel in [2, 3, 4, 5, 6] {
        for length in [0, 1, 15, 27] {
            asks.push(Ask::kernel(remote, KernelId(kernel), &[0; 28][..length], 64));
        }
    }
    // A region number that none can have.
    let beyond = read::Arguments::new(300, 0, 8).encode();
    asks.push(Ask::kernel(remote, KernelId::READ, &beyond, 64));
    // CALL without a service.
    asks.push(Ask::kernel(remote, KernelId::CALL, &[1], 64));
    refused(&mut scene, &asks, Status::BadArguments);
}

#[test]
fn what_an_export_does_not_allow() {
    let mut scene = Scene::new(25);
    for (access, allowed) in [(Access::READ, 0), (Access::WRITE, 1), (Access::ATOMIC, 2)] {
        let Scene { world, target, owner, honest, .. } = &mut scene;
        let (memory, rkey) = world.exported_region(*target, *owner, REGION_BYTES, access);
        let remote = world.connect(honest, *target, rkey);
        let mut asks = each_kind(remote, 0, 8);
        asks.push(Ask::write(remote, 0, &[7; 4000]));
        let is_allowed = |ask: &Ask| match ask.kernel {
            KernelId::READ => allowed == 0,
            KernelId::WRITE => allowed == 1,
            _ => allowed == 2,
        };
        asks.retain(|ask| !is_allowed(ask));
        refused(&mut scene, &asks, Status::Denied);
        assert_eq!(memory.load64(0).unwrap(), 0);
    }
}

/// An rkey opens its own region, and others of its owner only if it may follow pointers there.
#[test]
fn regions_beside_the_exported_one() {
    let mut scene = Scene::new(26);
    let other = nic_shm::RacyMem::allocate(4096);
    let number = scene.world.register(scene.target, scene.owner, &other);
    let region = u16::from(number);
    let remote = scene.remote;
    let asks = |remote| {
        let read = read::Arguments::new(region, 0, 8).encode();
        let write = write::Arguments::new(region, 0).encode();
        let write = Ask::kernel(remote, KernelId::WRITE, &write, 0);
        [Ask::kernel(remote, KernelId::READ, &read, 8), Ask { payload: vec![1; 8], ..write }]
    };
    refused(&mut scene, &asks(remote), Status::Denied);
    assert_eq!(other.load64(0).unwrap(), 0);
    let rkey = scene.world.export(scene.target, scene.owner, 0, Access::all(), &[number]);
    let remote = scene.world.connect(&scene.honest, scene.target, rkey);
    for ask in asks(remote) {
        assert!(scene.world.run(&mut scene.honest, &ask).is_ok());
    }
    assert_eq!(other.load64(0).unwrap(), 0x0101_0101_0101_0101);
}

#[test]
fn unaligned_words() {
    let mut scene = Scene::new(27);
    let remote = scene.remote;
    for address in [16385, 16388, 16391] {
        let asks = [Ask::fetch_add(remote, address, 1), Ask::compare_swap(remote, address, 0, 1)];
        refused(&mut scene, &asks, Status::Misaligned);
    }
}
