//! Futures and pending ops: driven side by side, and dropped at any moment.

use nic_host::{SubmitError, Wait};
use nic_tests::children::Waiting;
use nic_tests::sample::{self, INVERT, WORDS};

use super::{LONG, Place};

#[test]
fn futures_are_driven_side_by_side() {
    let place = Place::new();
    let _daemon = place.daemon("target", "");
    let (_target, tickets) = place.target("target", Waiting::Adaptive);
    for wait in [Wait::Spin, Wait::Adaptive, Wait::Block] {
        let nic = place.nic("target");
        let session = nic.session().depth(8).wait(wait).open().unwrap();
        let data = tickets.region(&session);
        let word = WORDS.0 + 64;
        let before = session.run(data.fetch_add(word, 0)).unwrap();

        let (read, add, call) = session.block_on(async {
            // All three are on their way before the first is waited for.
            let mut read = session.issue(data.read(0..64));
            let mut add = session.issue(data.fetch_add(word, 5));
            let mut call = session.issue(data.call(INVERT, b"future", 16));
            let first = std::future::poll_fn(|context| {
                use std::future::Future;
                use std::pin::Pin;
                let polls = [
                    Pin::new(&mut read).poll(context).map(drop).is_ready(),
                    Pin::new(&mut add).poll(context).map(drop).is_ready(),
                    Pin::new(&mut call).poll(context).map(drop).is_ready(),
                ];
                std::task::Poll::Ready(polls)
            });
            // The first look issues them; none can be over by then.
            assert_eq!(first.await, [false; 3]);
            (read.await, add.await, call.await)
        });
        assert!(sample::is_pattern(0, &read.unwrap()));
        assert_eq!(add.unwrap(), before);
        assert_eq!(call.unwrap().len(), 6);

        // More ops than the session has slots: the others wait for room.
        let sum = session.block_on(async {
            let mut sum = 0;
            let issued: Vec<_> = (0..8).map(|_| session.issue(data.fetch_add(word, 1))).collect();
            for op in issued {
                sum += op.await.unwrap() - before;
            }
            sum
        });
        assert_eq!(sum, (5..13).sum::<u64>());
        assert_eq!(session.in_use(), 0);
    }
}

#[test]
fn what_is_dropped_gives_its_slot_back() {
    let place = Place::new();
    let _daemon = place.daemon("target", "");
    let (_target, tickets) = place.target("target", Waiting::Adaptive);
    let nic = place.nic("target");
    let session = nic.session().depth(16).open().unwrap();
    let data = tickets.region(&session);

    // Dropped on the way: the slot is free when the op is over, and not before.
    for _ in 0..50 {
        let pending: Vec<_> =
            (0..16u64).map(|_| session.submit(data.read(0..4096)).unwrap()).collect();
        assert!(matches!(session.submit(data.read(0..64)), Err(SubmitError::Full(_))));
        drop(pending);
        while session.in_use() > 0 {
            assert_eq!(session.poll().unwrap().count(), 0, "what nobody wants is not reported");
        }
    }
    // Dropped when it is over, but not taken.
    let pending = session.submit(data.read(0..64)).unwrap();
    session.wait(LONG).unwrap();
    let done = session.poll().unwrap().next().unwrap();
    assert_eq!((done.token, session.in_use()), (pending.token(), 1));
    drop(pending);
    assert_eq!(session.in_use(), 0);
    // Bytes stay readable when their slot serves another op.
    let bytes = session.run(data.read(0..64)).unwrap();
    let others = session.run(data.read(64..128)).unwrap();
    assert_eq!(session.in_use(), 0);
    assert!(sample::is_pattern(0, &bytes) && sample::is_pattern(64, &others));
    // A future dropped on the way.
    let mut issued = session.issue(data.read(0..64));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(std::pin::Pin::new(&mut issued).poll(&mut context).is_pending());
    drop(issued);
    while session.in_use() > 0 {
        session.poll().unwrap().for_each(drop);
    }
    // All of it is free: the session takes as many ops as at first.
    let all: Vec<_> = (0..16u64).map(|_| session.submit(data.read(0..64)).unwrap()).collect();
    assert_eq!(all.len(), session.in_use());
}
