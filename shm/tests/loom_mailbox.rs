//! The mailbox under every interleaving that loom finds (bounded preemption).
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p nic-shm --release --test loom_mailbox`

#![cfg(loom)]
// Loom lends the content of its cells as raw pointers.
#![allow(unsafe_code)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use nic_shm::Mailbox;

/// An item whose content loom watches: a hand-over without ordering fails the test.
struct Item(UnsafeCell<u32>);

// SAFETY: loom checks that only one thread uses the content at a time.
unsafe impl Send for Item {}

impl Item {
    fn new(value: u32) -> Box<Self> {
        Box::new(Self(UnsafeCell::new(value)))
    }
    fn add(&self, more: u32) -> u32 {
        // SAFETY: loom checks that nobody else uses it.
        self.0.with_mut(|value| unsafe {
            *value += more;
            *value
        })
    }
}

fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

#[test]
fn an_item_goes_there_and_back_twice() {
    model(|| {
        let mailbox = Arc::new(Mailbox::new());
        let engine = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || {
                for _ in 0..2 {
                    let item: Box<Item> = loop {
                        match mailbox.take() {
                            Some(item) => break item,
                            None => thread::yield_now(),
                        }
                    };
                    item.add(10);
                    mailbox.answer(item);
                }
            }
        });
        for round in 0..2 {
            assert!(mailbox.post(Item::new(round)).is_ok(), "its answer was collected");
            let answer = loop {
                match mailbox.collect() {
                    Some(answer) => break answer,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(answer.add(0), 10 + round);
        }
        engine.join().unwrap();
    });
}

#[test]
fn of_two_that_post_one_succeeds() {
    model(|| {
        let mailbox = Arc::new(Mailbox::new());
        let other = thread::spawn({
            let mailbox = Arc::clone(&mailbox);
            move || mailbox.post(Item::new(1)).is_ok()
        });
        let own = mailbox.post(Item::new(2)).is_ok();
        let other = other.join().unwrap();
        assert!(own != other);
        let item = mailbox.take().expect("one was posted");
        assert_eq!(item.add(0), if own { 2 } else { 1 });
        assert!(mailbox.take().is_none());
    });
}
