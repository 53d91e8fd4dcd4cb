//! What is known of chain appends that fail.

use nic_wire::{Fate, KernelId, Status, Time};

use super::tests::{Store, bench_of};
use super::*;
use crate::bench::{Bench, op};
use crate::chain_append::{self, Outcome};
use crate::{Access, Budget, Invocation, Pointer};

/// Each way in which an append can fail, and what is then known of it.
#[test]
fn an_append_that_fails_tells_whether_it_is_linked() {
    let mut store = Store::new(8);
    let chain = store.pool.create(b"first").unwrap();
    let fresh = store.pool.allocate().unwrap();
    let image = store.image(fresh, b"second");
    let arguments = chain_append::Arguments::new(chain.first, fresh);
    let unlinked = |store: &Store| store.pool.next(chain.first) == Some(Link::NONE);

    // Without the right to swap words: written, not linked.
    let everything = (store.bench, store.rkey);
    (store.bench, store.rkey) = bench_of(&store.regions, Access::READ | Access::WRITE, &[1, 2]);
    let (finish, _) = store.append(arguments, &image);
    assert_eq!((finish.status, finish.fate), (Status::Denied, Fate::NotExecuted));
    assert!(unlinked(&store));
    // Without the right to write: nothing.
    (store.bench, store.rkey) = bench_of(&store.regions, Access::READ | Access::ATOMIC, &[1, 2]);
    let (finish, _) = store.append(arguments, &image);
    assert_eq!((finish.status, finish.fate), (Status::Denied, Fate::NotExecuted));
    (store.bench, store.rkey) = everything;

    // The deadline passes when a part of the payload has come, and when all of it has.
    for parts in [&image[..20], &image[..]] {
        let encoded = arguments.encode();
        let invocation = Invocation {
            payload_length: image.len() as u32,
            deadline: Time::from_ns(1000),
            ..op(KernelId::CHAIN_APPEND, &encoded)
        };
        let slot = store.bench.start(&store.rkey, &invocation).unwrap();
        let Bench { executor, memory, .. } = &mut store.bench;
        executor.payload(slot, 0, parts, memory).unwrap();
        executor.run(memory, Time::ZERO, Budget { rounds: 1, cost: 1 }, &mut |_, _, _| {
            panic!("it is not over")
        });
        let over = store.bench.run(Time::from_ns(2000));
        let finish = over[0].2;
        assert_eq!((finish.status, finish.fate), (Status::Expired, Fate::NotExecuted));
        store.bench.executor.free(slot, &mut store.bench.memory);
        assert!(unlinked(&store));
    }

    // The shortcut's place is none: linked all the same.
    let nowhere = arguments.with_shortcut(0, 1 << 30, false);
    let (finish, _) = store.append(nowhere, &image);
    assert_eq!((finish.status, finish.fate), (Status::OutOfBounds, Fate::Executed));
    assert_eq!(store.pool.latest(chain.first), Some((fresh, b"second".to_vec())));
    let (_, reply) = store.append(arguments.written(), &[]);
    let reply = chain_append::Reply::decode(&reply).unwrap();
    assert_eq!(reply.outcome(), Some(Outcome::LinkedBefore));
}

/// An append that is sent again whole, as one does whose first reply was lost.
#[test]
fn an_append_that_is_sent_again_keeps_what_was_linked_behind_it() {
    let mut store = Store::new(8);
    let chain = store.pool.create(b"first").unwrap();
    let fresh = store.pool.allocate().unwrap();
    let image = store.image(fresh, b"second");
    let arguments = chain_append::Arguments::new(chain.first, fresh);
    let again = |store: &mut Store, expected| {
        let (finish, reply) = store.append(arguments, &image);
        let outcome = chain_append::Reply::decode(&reply).unwrap().outcome();
        assert_eq!((finish.status, outcome), (Status::Ok, Some(expected)));
    };
    again(&mut store, Outcome::Linked);
    again(&mut store, Outcome::LinkedBefore);
    assert_eq!(store.pool.latest(chain.first), Some((fresh, b"second".to_vec())));
    let third = store.pool.append(chain.first, b"third").unwrap();
    again(&mut store, Outcome::LinkedBefore);
    assert_eq!(store.pool.latest(chain.first), Some((third, b"third".to_vec())));

    // One whose first attempt ended with a part of its image there.
    let fresh = store.pool.allocate().unwrap();
    let image = store.image(fresh, b"fourth");
    let word = u64::from_le_bytes(*image.first_chunk().unwrap());
    let arguments = chain_append::Arguments::new(chain.first, fresh);
    let Pointer { region, address } = fresh.pointer();
    store.regions[usize::from(region)].write(address, &word.to_le_bytes()).unwrap();
    let (finish, reply) = store.append(arguments, &image);
    let outcome = chain_append::Reply::decode(&reply).unwrap().outcome();
    assert_eq!((finish.status, outcome), (Status::Ok, Some(Outcome::Linked)));
    assert_eq!(store.pool.latest(chain.first), Some((fresh, b"fourth".to_vec())));
}
