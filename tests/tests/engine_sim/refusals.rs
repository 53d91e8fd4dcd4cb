//! Control work that an engine refuses: all is as it was, and what came with it goes back to who
//! asked, so that nothing is unmapped in the middle of the engine's turns.

use nic_engine::engine::{Answer, Answered, Released, Work};
use nic_kernels::Access;
use nic_shm::RacyMem;
use nic_tests::{Ask, World, small_engine};
use nic_wire::Status;

use crate::{Pair, session_of};

/// Has the target do work that it refuses. What comes back.
fn refused(pair: &mut Pair, work: Work) -> Answered {
    let now = pair.world.now();
    let engine = &mut pair.world.host(pair.target).engine;
    engine.control(now, 0, work);
    let answered = engine.next_answer().unwrap();
    assert!(matches!(answered.answer, Answer::Refused(_)), "{answered:?}");
    answered
}

fn is_back(answered: &Answered, memory: &RacyMem) -> bool {
    let is_it =
        |one: &Released| matches!(one, Released::Memory(back) if back.as_ptr() == memory.as_ptr());
    answered.returned.iter().any(is_it)
}

#[test]
fn a_refused_memory_goes_back_and_those_registered_before_stay() {
    let mut pair = Pair::new(World::new(500), 4096, session_of(4, 4096));
    let (target, owner) = (pair.target, pair.owner);
    pair.memory.write(0, &[7; 8]).unwrap();
    // The pair has one region.
    let memory = RacyMem::allocate(4096);
    let regions: Vec<u8> =
        (1..small_engine().regions).map(|_| pair.world.register(target, owner, &memory)).collect();
    let register = |base| Work::Register { client: owner, memory: memory.clone(), base };
    for _ in 0..3 {
        // No room; and an unfit base.
        for base in [0, 1] {
            assert!(is_back(&refused(&mut pair, register(base)), &memory));
        }
        let done = pair.world.run(&mut pair.session, &Ask::read(pair.remote, 0, 8));
        assert_eq!((done.is_ok(), done.reply), (true, vec![7; 8]));
    }
    let last = *regions.last().unwrap();
    let rkey = pair.world.export(target, owner, last, Access::all(), &[]);
    let remote = pair.world.connect(&pair.session, target, rkey);
    assert!(pair.world.run(&mut pair.session, &Ask::write(remote, 8, &[9; 8])).is_ok());
    assert_eq!(memory.load64(8).unwrap(), 0x0909_0909_0909_0909);
    pair.world.released(target, Work::Deregister { client: owner, region: regions[0] });
    assert_eq!(pair.world.register(target, owner, &memory), regions[0], "the one free number");
}

#[test]
fn the_memory_of_a_refused_session_goes_back() {
    let mut pair = Pair::new(World::new(501), 4096, session_of(4, 4096));
    let (target, client, geometry) = (pair.target, pair.owner, session_of(4, 4096));
    let total = geometry.places().unwrap().total;
    let open = |memory: &RacyMem| Work::OpenSession {
        client,
        memory: memory.clone(),
        geometry,
        bells: None,
    };
    let short = RacyMem::allocate(total / 2);
    assert!(is_back(&refused(&mut pair, open(&short)), &short));
    for _ in 0..small_engine().sessions {
        pair.world.open_session(target, client, geometry);
    }
    let memory = RacyMem::allocate(total);
    let answered = refused(&mut pair, open(&memory));
    assert!(is_back(&answered, &memory));
    let Answer::Refused(refusal) = answered.answer else { unreachable!() };
    assert_eq!(refusal.status, Status::Busy);
}
