//! Messages between two ends in one process, which take turns.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod strangers;

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
