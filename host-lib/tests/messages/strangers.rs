//! Ends that nobody knows: senders that are none, receivers that say nothing, and one sender that
//! takes another's place.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use nic_host::messages::{Arrival, ReceiveError, Receiver, SendError, Sender, Sent};
use nic_host::{Access, InlineConfig, Nic, Status};

use super::{LONG, MIB, SERVICE, opened, pattern};

#[test]
fn whoever_has_no_room_for_an_answer_is_not_heard() {
    let nic = Nic::inline(Default::default()).unwrap();
    let region = nic.region(4096).create().unwrap();
    let export = region.export(Access::CALL).unwrap();
    let receiving = nic.session().receive_buffers(16, 2048).open().unwrap();
    let session = nic.session().open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    let mut receiver = Receiver::open(&receiving, SERVICE).unwrap();
    receiver.post(vec![0; 64]).unwrap();
    let opening = Sender::begin(&session, &remote, SERVICE, 1, MIB as u64).unwrap();
    let mut sender = opened(opening, || assert_eq!(receiver.poll().unwrap().count(), 0));
    // An OPEN of one stream, from somebody else, again and again.
    let mut open = [0; 56];
    (open[0], open[1], open[2]) = (1, 1, 1);
    let other = nic.session().open().unwrap();
    let way = other.connect(&export.ticket()).unwrap();
    for room in (0..24).cycle().take(100) {
        let call = other.submit(way.call(SERVICE, &open, room)).unwrap();
        let refused = loop {
            assert_eq!(receiver.poll().unwrap().count(), 0);
            if let Some(done) = other.poll().unwrap().next() {
                break call.take(done).map(|_| ());
            }
        };
        let status = Status::ServiceFailed;
        assert!(
            matches!(refused, Err(nic_host::OpError::Failed { status: found, .. }) if found == status)
        );
    }
    // The first sender is still there, and there are receive buffers for it.
    let message = sender.send(0, b"heard", LONG).unwrap();
    let (mut arrived, mut sent) = (Vec::new(), Vec::new());
    while sent.is_empty() {
        arrived.extend(receiver.poll().unwrap());
        sent.extend(sender.poll().unwrap());
    }
    assert_eq!(sent, [Sent { message, outcome: Ok(()) }]);
    assert!(matches!(arrived.as_slice(), [Ok(heard)] if heard.bytes() == b"heard"));
}

/// A verdict as receivers give it: done, with credit for 4 messages and 1024 bytes in announcements.
fn welcome() -> Vec<u8> {
    [0_u64, 4, 1024].iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn nobody_reads_the_memory_of_a_message_that_is_over() {
    let nic = Nic::inline(Default::default()).unwrap();
    let region = nic.region(4096).create().unwrap();
    let export = region.export(Access::CALL).unwrap();
    // A receiver that takes the key of what is announced and never says a word.
    let rogue = nic.session().receive_buffers(16, 2048).open().unwrap();
    rogue.serve(SERVICE).unwrap();
    let session = nic.session().open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    let opening = Sender::begin(&session, &remote, SERVICE, 1, 1 << 20).unwrap();
    let mut sender = opened(opening, || {
        rogue.answer_calls(|_, _, answer| answer.append(&welcome())).unwrap();
    });
    for is_cancelled in [false, true] {
        let deadline = if is_cancelled { LONG } else { Duration::from_millis(200) };
        let kept = sender.send(0, &pattern(1, 5000), LONG).unwrap();
        let message = sender.send(0, &pattern(2, 5000), deadline).unwrap();
        let mut announced = Vec::new();
        while announced.len() < 2 {
            assert_eq!(sender.poll().unwrap().count(), 0);
            let take = |_: u16, request: &[u8], answer: &mut nic_host::Answer<'_>| {
                match request[0] {
                    // An announcement.
                    2 => announced.push((request.to_vec(), answer.defer())),
                    _ => answer.append(&welcome())?,
                }
                Ok(())
            };
            rogue.answer_calls(take).unwrap();
        }
        let ways: Vec<_> = announced
            .iter()
            .map(|(request, _)| {
                let word = |at: usize| u64::from_le_bytes(request[at..at + 8].try_into().unwrap());
                let (key, secret, address) = (word(36), word(40), word(48));
                let rkey = nic_wire::Rkey::new(key as u16, (key >> 16) as u16, secret);
                let (engine, access) = (nic.address(), 1);
                let length = 1 << 20;
                let ticket = nic_host::Ticket { engine, rkey, base: 0, length, access };
                (rogue.connect(&ticket).unwrap(), address)
            })
            .collect();
        let read = |at: usize| ways[at].0.read(ways[at].1..ways[at].1 + 5000);
        let reads = [read(0), read(1)];
        assert!(*rogue.run(reads[0]).unwrap() == pattern(1, 5000));
        assert!(*rogue.run(reads[1]).unwrap() == pattern(2, 5000));
        if is_cancelled {
            assert!(sender.cancel(message));
        } else {
            while !sender.poll().unwrap().any(|sent| sent.message == message) {}
        }
        let refused = rogue.run(reads[1]);
        let is_refused = matches!(
            refused,
            Err(nic_host::OpError::Failed { status: Status::Revoked | Status::BadRkey, .. })
        );
        assert!(is_refused, "{refused:?}");
        // The other message is still out, and goes on.
        assert!(*rogue.run(reads[0]).unwrap() == pattern(1, 5000));
        for (_, call) in announced {
            rogue.answer_later(call, Ok(&welcome())).unwrap();
        }
        let mut over = Vec::new();
        while sender.out() > 0 {
            rogue.answer_calls(|_, _, answer| answer.append(&welcome())).unwrap();
            over.extend(sender.poll().unwrap());
        }
        assert!(over.contains(&Sent { message: kept, outcome: Ok(()) }));
    }
}

#[test]
fn another_sender_takes_the_place_of_the_first() {
    let nic = Nic::inline(Default::default()).unwrap();
    let region = nic.region(4096).create().unwrap();
    let export = region.export(Access::CALL).unwrap();
    let receiving = nic.session().receive_buffers(16, 2048).open().unwrap();
    let session = nic.session().open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    let mut receiver = Receiver::open(&receiving, SERVICE).unwrap();
    receiver.post(vec![0; 8 * MIB]).unwrap();
    let open = |receiver: &mut Receiver<'_>| {
        let opening = Sender::begin(&session, &remote, SERVICE, 1, 16 << 20).unwrap();
        let mut arrived = Vec::new();
        let sender = opened(opening, || arrived.extend(receiver.poll().unwrap()));
        (sender, arrived)
    };
    let (mut first, _) = open(&mut receiver);
    let message = first.send(0, &pattern(1, 8 * MIB), LONG).unwrap();
    for _ in 0..3 {
        assert_eq!(first.poll().unwrap().count() + receiver.poll().unwrap().count(), 0);
    }
    let (mut second, arrived) = open(&mut receiver);
    assert_eq!(arrived, [Err(ReceiveError::Replaced { stream: 0 })]);
    let sent = loop {
        if let Some(sent) = first.poll().unwrap().next() {
            break sent;
        }
    };
    let closed = SendError::Closed(Status::Cancelled);
    assert_eq!(sent, Sent { message, outcome: Err(closed) });
    assert_eq!(first.send(0, b"", LONG), Err(closed));
    let message = second.send(0, b"from the second", LONG).unwrap();
    let received = loop {
        assert_eq!(second.poll().unwrap().count(), 0);
        if let Some(received) = receiver.poll().unwrap().next() {
            break received.unwrap();
        }
    };
    assert_eq!(received.bytes(), b"from the second");
    while second.out() > 0 {
        assert!(second.poll().unwrap().all(|sent| sent.message == message));
    }
}

#[test]
fn whoever_opens_where_no_messages_are_received_is_told() {
    let nic = Nic::inline(Default::default()).unwrap();
    let region = nic.region(4096).create().unwrap();
    let export = region.export(Access::CALL).unwrap();
    let session = nic.session().open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    let refused = Sender::open(&session, &remote, SERVICE, 1, 1 << 20).err().unwrap();
    assert!(refused.to_string().contains("no receiver of messages"), "{refused}");
    let refused = Receiver::open(&session, SERVICE).err().unwrap();
    assert!(refused.to_string().contains("receive_buffers(16, 2048)"), "{refused}");
    assert!(Sender::open(&session, &remote, SERVICE, 0, 1 << 20).is_err());
}

/// What a sender says that is none: it opens a channel, or announces a message that lies with an
/// engine that answers nobody.
fn open_words(engine: std::net::SocketAddr) -> Vec<u8> {
    let std::net::IpAddr::V4(ip) = engine.ip() else { panic!("a loopback address") };
    let mut words = vec![0; 56];
    (words[0], words[1], words[2], words[8]) = (1, 1, 1, 99);
    words[24..32].copy_from_slice(&(1_u64 << 20).to_le_bytes());
    words[32..48].copy_from_slice(&ip.to_ipv6_mapped().octets());
    words[48..50].copy_from_slice(&engine.port().to_le_bytes());
    words[50] = 4;
    words
}

fn announce_words(sequence: u32) -> Vec<u8> {
    let mut words = vec![0; 56];
    (words[0], words[1], words[8], words[32]) = (2, 1, 99, 1);
    words[4..8].copy_from_slice(&sequence.to_le_bytes());
    words[24..32].copy_from_slice(&5000_u64.to_le_bytes());
    // Each with a key of its own.
    words[36..40].copy_from_slice(&sequence.to_le_bytes());
    words
}

/// The receiver of a sender whose engine never answers asks it once, then leaves it alone; and
/// others that the same thread serves do not wait for it.
#[test]
fn a_sender_that_cannot_be_read_from_holds_nobody_up() {
    let nic = Nic::inline(Default::default()).unwrap();
    let region = nic.region(4096).create().unwrap();
    let export = region.export(Access::CALL).unwrap();
    let sessions = [3, 4].map(|_| nic.session().receive_buffers(64, 2048).open().unwrap());
    let mut spoilt = Receiver::open(&sessions[0], SERVICE).unwrap();
    let mut receiver = Receiver::open(&sessions[1], SERVICE + 1).unwrap();
    for receiver in [&mut spoilt, &mut receiver] {
        (0..16).for_each(|_| receiver.post(vec![0; MIB]).unwrap());
    }
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let rogue = nic.session().open().unwrap();
    let way = rogue.connect(&export.ticket()).unwrap();
    let opening = open_words(silent.local_addr().unwrap());
    let words: Vec<_> = std::iter::once(opening).chain((0..24).map(announce_words)).collect();
    let call = |words| way.call(SERVICE, words, 24).deadline(LONG);
    let mut said: Vec<_> =
        words[..13].iter().map(|words| rogue.submit(call(words)).unwrap()).collect();
    let mut verdicts = 0;

    // Meanwhile an honest one sends as many.
    let session = nic.session().open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    let opening = Sender::begin(&session, &remote, SERVICE + 1, 1, 4 << 20).unwrap();
    let mut turn = |receiver: &mut Receiver<'_>, arrived: &mut Vec<Arrival>| {
        assert!(spoilt.poll().unwrap().all(|arrival| arrival.is_err()));
        arrived.extend(receiver.poll().unwrap());
        verdicts += rogue.poll().unwrap().count();
        verdicts
    };
    let mut arrived = Vec::new();
    let mut sender = opened(opening, || {
        turn(&mut receiver, &mut arrived);
    });
    let (mut sent, mut over) = (0, 0);
    while over < 12 {
        if sent < 12 && sender.send(0, &pattern(sent, 300_000), LONG).is_ok() {
            sent += 1;
        }
        let verdicts = turn(&mut receiver, &mut arrived);
        assert!(verdicts <= 1, "the channel is open, and no message of it is over");
        over += sender.poll().unwrap().filter(|sent| sent.outcome.is_ok()).count();
    }
    assert_eq!(arrived.len(), 12);
    // All of the other's end; each datagram begins with what names its handshake.
    while turn(&mut receiver, &mut arrived) < 13 {}
    let mut ids = std::collections::BTreeSet::new();
    let mut packet = [0; 2048];
    while let Ok(length) = silent.recv(&mut packet) {
        ids.insert(packet[..length.min(24)].to_vec());
    }
    assert_eq!(ids.len(), 1, "it was asked by one handshake: {ids:x?}");
    let before = nic.counters().unwrap();
    said.extend(words[13..].iter().map(|words| rogue.submit(call(words)).unwrap()));
    while turn(&mut receiver, &mut arrived) < 25 {}
    assert_eq!(
        silent.recv(&mut packet).map_err(|error| error.kind()),
        Err(std::io::ErrorKind::WouldBlock)
    );
    assert_eq!(nic.counters().unwrap().ops_out, before.ops_out);
}

/// Sends a long message from an engine of its own that stands still once it was asked for a second
/// piece, until it is told to end.
fn stand_still(ticket: &nic_host::Ticket, stands: &mpsc::Sender<()>, end: &mpsc::Receiver<()>) {
    let nic = Nic::inline(Default::default()).unwrap();
    let session = nic.session().open().unwrap();
    let remote = session.connect(ticket).unwrap();
    let opening = Sender::begin(&session, &remote, SERVICE, 1, 16 << 20).unwrap();
    let mut sender = opened(opening, || {});
    sender.send(0, &pattern(1, 16 * MIB), LONG).unwrap();
    while nic.counters().unwrap().requests_received < 2 {
        assert_eq!(sender.poll().unwrap().count(), 0);
    }
    stands.send(()).unwrap();
    // Also if the other end has gone.
    let _ = end.recv();
}

/// A receiver does not wait for what it reads from a sender that stands still: whoever comes next
/// finds room for its messages, also where there is little.
#[test]
fn what_is_read_from_a_sender_that_stands_still_holds_up_nobody() {
    for (depth, arena, pieces) in [(256, 4 << 20, 16), (4, 64 << 10, 3)] {
        // As a sender would be that goes on to say that all has arrived, it is not given up.
        let mut config = InlineConfig::default();
        config.engine.peer_timeout = nic_wire::Span::from_ms(60_000);
        let nic = Nic::inline(config).unwrap();
        let region = nic.region(4096).create().unwrap();
        let export = region.export(Access::CALL).unwrap();
        let receiving = nic.session().depth(depth).arena(arena).receive_buffers(16, 2048);
        let receiving = receiving.open().unwrap();
        let mut receiver = Receiver::open(&receiving, SERVICE).unwrap();
        receiver.post(vec![0; 16 * MIB]).unwrap();
        let (stands, has_stood) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let ticket = export.ticket();
        let first = std::thread::spawn(move || stand_still(&ticket, &stands, &ends));
        let begun = Instant::now();
        let is_late = || begun.elapsed() > Duration::from_secs(20);
        let mut stands = false;
        while !stands || receiving.in_use() < pieces {
            stands |= has_stood.try_recv().is_ok();
            assert_eq!(receiver.poll().unwrap().count(), 0);
            assert!(!is_late(), "{} pieces are out", receiving.in_use());
        }

        let session = nic.session().open().unwrap();
        let remote = session.connect(&export.ticket()).unwrap();
        let opening = Sender::begin(&session, &remote, SERVICE, 1, 4 << 20).unwrap();
        let mut arrived = Vec::new();
        let mut second = opened(opening, || arrived.extend(receiver.poll().unwrap()));
        let message = second.send(0, &pattern(2, MIB), LONG).unwrap();
        let sent = loop {
            assert!(!is_late(), "nothing was received");
            arrived.extend(receiver.poll().unwrap());
            if let Some(sent) = second.poll().unwrap().next() {
                break sent;
            }
        };
        assert_eq!(sent, Sent { message, outcome: Ok(()) });
        assert_eq!(arrived.remove(0), Err(ReceiveError::Replaced { stream: 0 }));
        assert!(arrived.remove(0).unwrap().bytes() == pattern(2, MIB));
        drop((second, receiver));
        while receiving.in_use() > 0 {
            assert!(!is_late(), "something stays out");
            assert_eq!(receiving.poll().unwrap().count(), 0);
        }
        drop(end);
        first.join().unwrap();
    }
}
