use super::*;
use alloc::sync::Arc;
use core::sync::atomic::AtomicUsize;

#[test]
fn is_busy_from_post_to_collect() {
    let mailbox = Mailbox::new();
    assert!(mailbox.take().is_none());
    assert!(mailbox.collect().is_none());

    mailbox.post(Box::new(1)).unwrap();
    assert_eq!(*mailbox.post(Box::new(2)).unwrap_err(), 2);
    assert!(mailbox.collect().is_none());
    let item = mailbox.take().unwrap();
    assert!(mailbox.take().is_none());
    assert!(mailbox.post(Box::new(3)).is_err(), "it is with the engine");
    mailbox.answer(item);
    assert!(mailbox.post(Box::new(4)).is_err(), "its answer was not collected");
    assert_eq!(mailbox.collect().as_deref(), Some(&1));
    mailbox.post(Box::new(5)).unwrap();
}

#[test]
fn drops_what_it_holds_once() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let counted = || Box::new(Counted(Arc::clone(&dropped)));

    let posted = Mailbox::new();
    posted.post(counted()).map_err(drop).unwrap();
    drop(posted);
    assert_eq!(dropped.load(Ordering::Relaxed), 1);

    let answered = Mailbox::new();
    answered.post(counted()).map_err(drop).unwrap();
    answered.answer(answered.take().unwrap());
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
    drop(answered);
    assert_eq!(dropped.load(Ordering::Relaxed), 2);
    drop(Mailbox::<Counted>::default());
    assert_eq!(dropped.load(Ordering::Relaxed), 2);
}

#[test]
fn serves_several_control_threads_and_one_engine() {
    let rounds: u64 = if cfg!(miri) { 20 } else { 2000 };
    let mailbox = Arc::new(Mailbox::new());
    let engine = std::thread::spawn({
        let mailbox = Arc::clone(&mailbox);
        move || {
            for _ in 0..2 * rounds {
                let mut item: Box<u64> = loop {
                    match mailbox.take() {
                        Some(item) => break item,
                        None => std::thread::yield_now(),
                    }
                };
                *item += 1;
                mailbox.answer(item);
            }
        }
    });
    let control = |first: u64| {
        let mailbox = Arc::clone(&mailbox);
        std::thread::spawn(move || {
            let mut sum = 0;
            for round in 0..rounds {
                while mailbox.post(Box::new(first + round)).is_err() {
                    std::thread::yield_now();
                }
                // Whoever posted successfully is the only one for whom there is an answer.
                sum += loop {
                    match mailbox.collect() {
                        Some(answer) => break *answer,
                        None => std::thread::yield_now(),
                    }
                };
            }
            sum
        })
    };
    let (low, high) = (control(0), control(1 << 32));
    let sum_of_rounds = rounds * (rounds - 1) / 2 + rounds;
    assert_eq!(low.join().unwrap(), sum_of_rounds);
    assert_eq!(high.join().unwrap(), sum_of_rounds + rounds * (1 << 32));
    engine.join().unwrap();
}
