//! Messages between two ends in one process, which take turns.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use nic_host::messages::{
    Arrival, INLINE_BYTES_MAX, MESSAGE_BYTES_MAX, MessageId, Opening, ReceiveError, Receiver,
    SendError, Sender, Sent,
};
use nic_host::{Access, Fate, Nic, Status};

const SERVICE: u16 = 3;
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(30);
const MIB: usize = 1 << 20;

/// Both ends, and what came of what they did.
struct Ends<'s> {
    sender: Sender<'s>,
    receiver: Receiver<'s>,
    sent: Vec<Sent>,
    arrived: Vec<Arrival>,
}

/// The sender whose opening has begun, while its receiver takes turns.
fn opened<'s>(mut opening: Opening<'s>, mut turn: impl FnMut()) -> Sender<'s> {
    loop {
        turn();
        match opening.poll().unwrap() {
            Ok(sender) => return sender,
            Err(still) => opening = still,
        }
    }
}

/// Runs a test with a sender of some streams and a receiver that has posted buffers.
fn with_ends(streams: u16, memory: usize, buffers: &[usize], test: impl FnOnce(&mut Ends<'_>)) {
    with_room(128, streams, memory, buffers, test);
}

/// The same, with so many receive buffers.
fn with_room(
    room: u32,
    streams: u16,
    memory: usize,
    buffers: &[usize],
    test: impl FnOnce(&mut Ends<'_>),
) {
    let nic = Nic::inline(Default::default()).unwrap();
    let export = nic.region(4096).create().unwrap();
    let export = export.export(Access::CALL).unwrap();
    let receiving = nic.session().receive_buffers(room, 2048).open().unwrap();
    let session = nic.session().open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    let mut receiver = Receiver::open(&receiving, SERVICE).unwrap();
    for length in buffers {
        receiver.post(vec![0; *length]).unwrap();
    }
    let opening = Sender::begin(&session, &remote, SERVICE, streams, memory as u64).unwrap();
    let sender = opened(opening, || assert_eq!(receiver.poll().unwrap().count(), 0));
    let mut ends = Ends { sender, receiver, sent: Vec::new(), arrived: Vec::new() };
    test(&mut ends);
    drop(ends);
    // Nothing stays out.
    while session.in_use() + receiving.in_use() > 0 {
        assert_eq!(session.poll().unwrap().count() + receiving.poll().unwrap().count(), 0);
    }
}

impl Ends<'_> {
    fn turn(&mut self) {
        self.arrived.extend(self.receiver.poll().unwrap());
        self.sent.extend(self.sender.poll().unwrap());
    }

    /// Sends as soon as there is credit.
    fn send(&mut self, stream: u16, bytes: &[u8]) -> MessageId {
        self.send_within(stream, bytes, LONG)
    }

    fn send_within(&mut self, stream: u16, bytes: &[u8], deadline: Duration) -> MessageId {
        for _ in 0..1_000_000 {
            match self.sender.send(stream, bytes, deadline) {
                Ok(message) => return message,
                Err(SendError::Full) => self.turn(),
                Err(error) => panic!("{error}"),
            }
        }
        panic!("there is no credit");
    }

    /// How a message ended.
    fn outcome(&mut self, message: MessageId) -> Result<(), SendError> {
        loop {
            if let Some(at) = self.sent.iter().position(|sent| sent.message == message) {
                return self.sent.remove(at).outcome;
            }
            self.turn();
        }
    }

    /// The next that arrives: its stream and bytes; its buffer is posted again.
    fn next(&mut self) -> Result<(u16, Vec<u8>), ReceiveError> {
        while self.arrived.is_empty() {
            self.turn();
        }
        let message = self.arrived.remove(0)?;
        let found = (message.stream, message.bytes().to_vec());
        self.receiver.post(message.into_buffer()).unwrap();
        Ok(found)
    }
}

fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251 + seed * 31) as u8).collect()
}

#[test]
fn messages_of_all_lengths_arrive_whole() {
    let edges = [0, 1, 8, INLINE_BYTES_MAX - 1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1];
    let packets = [1399, 1400, 1401, 4095, 4096, 4097, (128 << 10) - 1, 128 << 10, (128 << 10) + 1];
    let long = [MIB - 1, MIB, MIB + 1, 3 * MIB + 5];
    with_ends(1, 16 * MIB, &[4 * MIB, 4 * MIB], |ends| {
        for (seed, length) in edges.into_iter().chain(packets).chain(long).enumerate() {
            let bytes = pattern(seed, length);
            let message = ends.send(0, &bytes);
            let (stream, found) = ends.next().unwrap();
            assert!(stream == 0 && found == bytes, "{length} bytes");
            assert_eq!(ends.outcome(message), Ok(()));
        }
        // One that is built in place may be empty as well.
        let draft = ends.sender.draft(0).unwrap();
        let message = ends.sender.send_draft(0, draft, LONG).unwrap();
        assert_eq!(ends.next(), Ok((0, Vec::new())));
        assert_eq!(ends.outcome(message), Ok(()));
        assert_eq!(ends.sender.out(), 0);
    });
}

#[test]
fn the_longest_message_arrives_and_a_longer_one_is_refused() {
    let most = MESSAGE_BYTES_MAX as usize;
    with_ends(1, most, &[most], |ends| {
        let mut draft = ends.sender.draft(most as u32).unwrap();
        let bytes = pattern(1, MIB);
        for at in 0..64 {
            draft.write(at * MIB as u32, &bytes).unwrap();
        }
        let message = ends.sender.send_draft(0, draft, LONG).unwrap();
        let (_, found) = ends.next().unwrap();
        assert_eq!(found.len(), most);
        assert!(found.chunks(MIB).all(|part| part == bytes));
        assert_eq!(ends.outcome(message), Ok(()));
        assert!(ends.sender.draft(most as u32 + 1).is_none());
        let refused = ends.sender.send(0, &vec![0; most + 1], LONG);
        let found = most as u64 + 1;
        assert_eq!(refused, Err(SendError::TooLong { found, most: most as u64 }));
    });
}

#[test]
fn each_stream_keeps_its_order_and_holds_up_no_other() {
    with_ends(4, 8 * MIB, &[MIB; 16], |ends| {
        // A long one first in stream 0; what follows in other streams is there before it.
        let long = pattern(0, MIB);
        let first = ends.send(0, &long);
        let after_it = ends.send(0, b"after the long one");
        let other = ends.send(1, b"in another stream");
        assert_eq!(ends.outcome(other), Ok(()));
        assert_eq!(ends.next(), Ok((1, b"in another stream".to_vec())));
        assert_eq!(ends.sender.out(), 2, "the others are still out");
        assert_eq!(ends.outcome(after_it), Ok(()));
        assert_eq!(ends.outcome(first), Ok(()));
        assert_eq!(ends.next(), Ok((0, long)));
        assert_eq!(ends.next(), Ok((0, b"after the long one".to_vec())));

        // Many of chance lengths.
        let mut chance = 0x2545_f491_4f6c_dd1d_u64;
        let mut numbers = [[0_u64; 2]; 4];
        let mut out = 0;
        while numbers.iter().map(|[_, got]| got).sum::<u64>() < 800 {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            let stream = (chance % 4) as u16;
            let [next, _] = &mut numbers[usize::from(stream)];
            let length = 8 + (chance >> 8) as usize % if chance & 64 == 0 { 300 } else { 40_000 };
            let mut bytes = pattern(*next as usize, length);
            bytes[..8].copy_from_slice(&next.to_le_bytes());
            match ends.sender.send(stream, &bytes, LONG) {
                Ok(_) => (*next, out) = (*next + 1, out + 1),
                Err(error) => assert_eq!(error, SendError::Full),
            }
            ends.turn();
            while !ends.arrived.is_empty() {
                let (stream, bytes) = ends.next().unwrap();
                let [_, expected] = &mut numbers[usize::from(stream)];
                assert_eq!(bytes[..8], expected.to_le_bytes(), "stream {stream}");
                assert_eq!(bytes[8..], pattern(*expected as usize, bytes.len())[8..]);
                *expected += 1;
            }
        }
        while ends.sender.out() > 0 {
            ends.turn();
        }
        assert_eq!(ends.sent.len(), out, "each message ends once");
        assert!(ends.sent.iter().all(|sent| sent.outcome.is_ok()));
    });
}

#[test]
fn without_credit_nothing_leaves_until_a_buffer_is_posted() {
    with_ends(1, MIB, &[100], |ends| {
        let first = ends.sender.send(0, b"one", LONG).unwrap();
        assert_eq!(ends.sender.credits(), 0);
        assert_eq!(ends.sender.send(0, b"two", LONG), Err(SendError::Full));
        assert_eq!(ends.outcome(first), Ok(()));
        // The buffer is the application's: there is no credit until it posts another.
        for _ in 0..50 {
            ends.turn();
            assert_eq!(ends.sender.send(0, b"two", LONG), Err(SendError::Full));
        }
        assert_eq!(ends.next(), Ok((0, b"one".to_vec())));
        let second = ends.send(0, b"two");
        assert_eq!(ends.outcome(second), Ok(()));
        assert_eq!(ends.arrived.len(), 1);
        // Who may wait, waits until its deadline.
        ends.arrived.clear();
        assert_eq!(ends.sender.deliver(0, b"three", SHORT), Err(SendError::NoBuffer));
    });
}

#[test]
fn a_message_longer_than_its_buffers_is_refused_with_numbers() {
    with_ends(2, MIB, &[64, 2000, 100], |ends| {
        let long = ends.send(0, &[1; 2001]);
        let error = SendError::TooLong { found: 2001, most: 2000 };
        assert_eq!(ends.outcome(long), Err(error));
        assert_eq!(ends.next(), Err(ReceiveError::TooLong { stream: 0, found: 2001 }));
        assert_eq!(ends.receiver.posted(), 3, "no buffer is lost");
        // It takes the first that is long enough.
        let fits = ends.send(0, &[2; 101]);
        assert_eq!(ends.outcome(fits), Ok(()));
        let small = ends.send(1, &[3; 65]);
        assert_eq!(ends.outcome(small), Ok(()));
        let none = ends.send(1, &[4; 65]);
        assert_eq!(ends.outcome(none), Err(SendError::TooLong { found: 65, most: 64 }));
        let unknown = ends.sender.send(2, b"", LONG);
        assert_eq!(unknown, Err(SendError::NoStream { found: 2, streams: 2 }));
    });
}

#[test]
fn messages_that_fail_behind_a_slow_one_leave_room_for_others() {
    with_room(8, 1, 16 * MIB, &[8 * MIB, 4096], |ends| {
        let slow = ends.send(0, &pattern(1, 8 * MIB));
        let long: Vec<_> = (0..20).map(|_| ends.send(0, &[2; 8192])).collect();
        let last = ends.send(0, b"last");
        assert_eq!(ends.next(), Ok((0, pattern(1, 8 * MIB))));
        assert_eq!(ends.outcome(slow), Ok(()));
        for message in long {
            assert!(matches!(ends.outcome(message), Ok(()) | Err(SendError::TooLong { .. })));
        }
        assert_eq!(ends.outcome(last), Ok(()));
        while !matches!(ends.next(), Ok((0, found)) if found == b"last") {}
    });
}

#[test]
fn what_is_sent_behind_a_cancelled_message_has_its_own_end() {
    for turns in 0..6 {
        with_ends(1, 16 * MIB, &[8 * MIB, 4096], |ends| {
            let slow = ends.send(0, &pattern(1, 8 * MIB));
            (0..turns).for_each(|_| ends.turn());
            // The receiver hears of both at once.
            assert!(ends.sender.cancel(slow));
            let small = ends.sender.send(0, b"small", LONG).unwrap();
            assert!(matches!(ends.outcome(slow), Err(SendError::Cancelled(_))));
            assert_eq!(ends.outcome(small), Ok(()));
            assert!(ends.next().is_err());
            assert_eq!(ends.next(), Ok((0, b"small".to_vec())));
        });
    }
}

#[test]
fn credit_is_noticed_however_late_it_comes() {
    with_ends(1, MIB, &[], |ends| {
        assert_eq!(ends.sender.send(0, b"early", LONG), Err(SendError::Full));
        // Longer than one request for credit waits.
        let end = std::time::Instant::now() + Duration::from_millis(1200);
        while std::time::Instant::now() < end {
            ends.turn();
        }
        assert_eq!(ends.sender.credits(), 0);
        ends.receiver.post(vec![0; 64]).unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(20);
        while ends.sender.credits() == 0 {
            ends.turn();
            assert!(std::time::Instant::now() < end, "the sender hears nothing of its credit");
        }
        let message = ends.sender.send(0, b"late", LONG).unwrap();
        assert_eq!(ends.outcome(message), Ok(()));
    });
}

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

#[test]
fn a_withdrawn_buffer_takes_no_message() {
    with_ends(1, MIB, &[100, 200], |ends| {
        assert_eq!(ends.receiver.withdraw().map(|buffer| buffer.len()), Some(200));
        assert_eq!(ends.receiver.withdraw().map(|buffer| buffer.len()), Some(100));
        assert_eq!(ends.receiver.withdraw(), None);
        // The sender knows of two.
        assert_eq!(ends.sender.credits(), 2);
        let message = ends.send(0, b"to nobody");
        assert_eq!(ends.outcome(message), Err(SendError::NoBuffer));
        assert_eq!(ends.next(), Err(ReceiveError::NoBuffer { stream: 0 }));
        ends.receiver.post(vec![0; 100]).unwrap();
        let message = ends.send(0, b"to somebody");
        assert_eq!(ends.outcome(message), Ok(()));
        assert_eq!(ends.next(), Ok((0, b"to somebody".to_vec())));
    });
}

#[test]
fn a_message_is_cancelled_before_while_and_after_it_is_read() {
    with_ends(2, 32 * MIB, &[16 * MIB; 4], |ends| {
        let bytes = pattern(5, 16 * MIB);
        // Before the receiver has looked.
        let message = ends.send(0, &bytes);
        assert!(ends.sender.cancel(message));
        let cancelled = Err(SendError::Cancelled(Fate::NotExecuted));
        assert_eq!(ends.outcome(message), cancelled);
        assert!(ends.next().is_err(), "the stream goes on after a gap that is told");

        // While it is read, once some of it has come.
        for turns in [1, 3, 10, 30] {
            let message = ends.send(0, &bytes);
            for _ in 0..turns {
                ends.turn();
            }
            assert!(ends.arrived.is_empty(), "16 MiB take longer");
            assert!(ends.sender.cancel(message) && ends.sender.cancel(message));
            assert_eq!(ends.outcome(message), cancelled);
            assert!(ends.next().is_err());
            assert!(!ends.sender.cancel(message), "it is over");
        }
        assert_eq!(ends.receiver.posted(), 4, "its buffer is posted again");

        // After it was received, but before the sender knows.
        let message = ends.send(1, b"small");
        assert_eq!(ends.sender.poll().unwrap().count(), 0);
        while ends.arrived.is_empty() {
            ends.arrived.extend(ends.receiver.poll().unwrap());
        }
        assert!(ends.sender.cancel(message));
        assert_eq!(ends.outcome(message), Ok(()));
        assert_eq!(ends.next(), Ok((1, b"small".to_vec())));

        // The memory and the streams are as good as before.
        for stream in [0, 1] {
            let message = ends.send(stream, &bytes);
            assert_eq!(ends.next(), Ok((stream, bytes.clone())));
            assert_eq!(ends.outcome(message), Ok(()));
        }
    });
}

#[test]
fn a_message_ends_at_its_deadline_and_those_behind_it_go_on() {
    with_ends(1, 32 * MIB, &[16 * MIB; 4], |ends| {
        // Nobody looks at the receiver.
        let late = ends.sender.send(0, &pattern(1, 16 * MIB), SHORT).unwrap();
        let behind = ends.sender.send(0, b"behind it", LONG).unwrap();
        while ends.sent.is_empty() {
            ends.sent.extend(ends.sender.poll().unwrap());
        }
        let expired = SendError::Failed { status: Status::Expired, fate: Fate::Unknown };
        assert_eq!(ends.outcome(late), Err(expired));
        // The receiver learns that it will not come, and of the next.
        assert!(ends.next().is_err());
        assert_eq!(ends.next(), Ok((0, b"behind it".to_vec())));
        assert_eq!(ends.outcome(behind), Ok(()));
        // No credit is lost, however many end so: there are four buffers.
        for round in 0..12 {
            let late = ends.send_within(0, &[round; 2000], Duration::from_micros(1));
            assert!(ends.outcome(late).is_err());
            let good = ends.send(0, &[round; 20]);
            assert_eq!(ends.outcome(good), Ok(()));
            while ends.next() != Ok((0, vec![round; 20])) {}
        }
    });
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
