use core::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::write;
use std::vec::Vec;

use super::*;
use crate::{Doorbell, wait_any};

fn is_ready(descriptor: impl AsFd) -> bool {
    !wait_any(&[descriptor.as_fd()], Some(Duration::ZERO)).unwrap().is_empty()
}

/// A doorbell in the set, and the stranger's copy of it.
fn shared(set: &Arc<DoorbellSet>) -> (WatchedDoorbell, Doorbell) {
    let bell = Doorbell::new().unwrap();
    (set.watch(bell.as_fd().try_clone_to_owned().unwrap()).unwrap(), bell)
}

#[test]
fn a_receiver_is_readable_from_ring_to_drain() {
    let (sender, receiver) = WakeSender::pair().unwrap();
    assert!(!is_ready(&receiver));
    assert!(!receiver.drain().unwrap());
    sender.ring();
    sender.ring();
    assert!(is_ready(&receiver));
    assert!(receiver.drain().unwrap());
    assert!(!receiver.drain().unwrap());
    assert!(!is_ready(&receiver));
    drop(sender);
    assert!(is_ready(&receiver), "the end of the sender is something to look at");
    assert!(receiver.drain().is_err());
}

#[test]
fn a_received_end_rings_and_what_is_none_is_refused() {
    let (sender, receiver) = WakeSender::pair().unwrap();
    let copy = WakeSender::from_fd(sender.as_fd().try_clone_to_owned().unwrap()).unwrap();
    copy.ring();
    assert!(receiver.drain().unwrap());
    let (datagrams, _other) =
        socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
    assert!(WakeSender::from_fd(datagrams).is_err());
    let bell = Doorbell::new().unwrap();
    assert!(WakeSender::from_fd(bell.as_fd().try_clone_to_owned().unwrap()).is_err());
    // Its maker has left it a way back: it is closed.
    let (one, other) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    let sender = WakeSender::from_fd(one).unwrap();
    let sent = send(&other, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    assert_eq!(sent, Err(Errno::PIPE));
    drop(sender);
}

#[test]
fn ringing_never_blocks() {
    let (sender, receiver) = WakeSender::pair().unwrap();
    fcntl_setfl(&receiver.socket, OFlags::empty()).unwrap();
    for _ in 0..100_000 {
        sender.ring();
    }
    assert!(receiver.drain().unwrap());
    drop(receiver);
    sender.ring();
}

#[test]
fn nothing_comes_back_to_a_sender() {
    let (sender, receiver) = WakeSender::pair().unwrap();
    let sent = send(&receiver.socket, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    assert_eq!(sent, Err(Errno::PIPE));
    drop(sender);
}

#[test]
fn a_set_is_readable_from_any_ring_until_it_is_cleared() {
    let set = DoorbellSet::new().unwrap();
    let bells: Vec<_> = (0..3).map(|_| shared(&set)).collect();
    assert!(!is_ready(&*set));
    for (_, copy) in bells.iter().chain(&bells) {
        copy.ring().unwrap();
        assert!(is_ready(&*set));
        set.clear();
        // Nobody has drained it, and yet it is new rings that count.
        assert!(!is_ready(&*set));
    }
    bells[0].1.ring().unwrap();
    bells[2].1.ring().unwrap();
    set.clear();
    assert!(!is_ready(&*set));
}

#[test]
fn bells_that_were_spoilt_are_watched_all_the_same() {
    let set = DoorbellSet::new().unwrap();
    let (_watched, copy) = shared(&set);
    let (_honest, honest_copy) = shared(&set);
    // It blocks from now on, whoever would read or write it.
    fcntl_setfl(&copy, fcntl_getfl(&copy).unwrap() - OFlags::NONBLOCK).unwrap();
    set.clear();
    assert!(!is_ready(&*set));
    // It is full.
    write(&copy, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    set.clear();
    assert!(!is_ready(&*set));
    honest_copy.ring().unwrap();
    assert!(is_ready(&*set));
    set.clear();
    assert!(!is_ready(&*set));
}

#[test]
fn a_bell_that_was_taken_out_wakes_nobody() {
    let set = DoorbellSet::new().unwrap();
    let (watched, copy) = shared(&set);
    copy.ring().unwrap();
    drop(watched);
    assert!(!is_ready(&*set));
    copy.ring().unwrap();
    assert!(!is_ready(&*set));
}
