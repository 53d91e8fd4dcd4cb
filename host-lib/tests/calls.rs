//! Calls whose answers span packets, between two sessions in one process, which take turns.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::cell::Cell;

use nic_host::ops::{Bytes, Call};
use nic_host::rpc::{Procedure, Services};
use nic_host::{
    Access, Deferred, Export, Fate, Nic, Op, OpError, OpPart, Region, RemoteRegion, ServeError,
    Session, Status, SubmitError,
};
use serde::{Deserialize, Serialize};

const SERVICE: u16 = 6;
const OP_BYTES_MAX: usize = (1 << 20) + 4096;
const BUFFER_BYTES: u32 = 512;

/// An application that calls itself.
struct Scene {
    serving: Session,
    session: Session,
    remote: RemoteRegion,
    /// What serves, and as an initiator: answers are not the only ops of such a session.
    own: RemoteRegion,
    _export: Export,
    _region: Region,
    _nic: Nic,
}

fn scene(depth: u32, arena: u32) -> Scene {
    let nic = Nic::inline(Default::default()).unwrap();
    let region = nic.region(1 << 20).create().unwrap();
    let export = region.export(Access::CALL.and(Access::READ)).unwrap();
    let serving = nic.session().depth(depth).arena(arena).receive_buffers(16, BUFFER_BYTES);
    let serving = serving.open().unwrap();
    serving.serve(SERVICE).unwrap();
    let session = nic.session().arena(16 << 20).open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    let own = serving.connect(&export.ticket()).unwrap();
    Scene { serving, session, remote, own, _export: export, _region: region, _nic: nic }
}

fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251 + seed * 31) as u8).collect()
}

impl Scene {
    fn call(&self, capacity: usize) -> Op<Call<'static>> {
        self.remote.call(SERVICE, b"please", capacity as u32)
    }

    /// Runs a call while `serve` takes turns.
    fn run(
        &self,
        call: Op<Call<'static>>,
        mut serve: impl FnMut(&Session),
    ) -> Result<Bytes, OpError> {
        let pending = self.session.submit(call).map_err(|_| "it is taken").unwrap();
        loop {
            serve(&self.serving);
            if let Some(done) = self.session.poll().unwrap().next() {
                return pending.take(done);
            }
        }
    }

    /// The same, with an answer of these bytes.
    fn answered(&self, capacity: usize, bytes: &[u8]) -> Result<Bytes, OpError> {
        self.run(self.call(capacity), |serving| {
            serving.answer_calls(|_, _, answer| answer.append(bytes)).unwrap();
        })
    }

    /// Waits until no answer holds anything of the serving session.
    fn settle(&self) {
        while self.serving.in_use() > 0 {
            assert_eq!(self.serving.poll().unwrap().count(), 0, "answers are not reported");
        }
    }
}

fn failed(status: Status, fate: Fate) -> OpError {
    OpError::Failed { status, fate, refusal: None }
}

#[test]
fn answers_of_all_lengths_come_whole() {
    let scene = scene(16, 4 << 20);
    let buffer = BUFFER_BYTES as usize;
    let lengths =
        [0, 1, buffer - 1, buffer, buffer + 1, 1400, 65_537, 300_000, 1 << 20, OP_BYTES_MAX];
    for (seed, length) in lengths.into_iter().enumerate() {
        let bytes = pattern(seed, length);
        for capacity in [length, OP_BYTES_MAX] {
            assert!(*scene.answered(capacity, &bytes).unwrap() == bytes[..], "{length} bytes");
        }
    }
    scene.settle();
}

#[test]
fn an_answer_that_does_not_fit_is_told_to_both_sides() {
    let scene = scene(16, 4 << 20);
    let too_long = failed(Status::ReplyTooLong, Fate::Executed);
    for capacity in [0, 100, 2000, 100_000, OP_BYTES_MAX] {
        // At once: the handler sees how much room there is.
        let room = Cell::new(0);
        let answered = scene.run(scene.call(capacity), |serving| {
            serving
                .answer_calls(|_, _, answer| {
                    room.set(answer.room());
                    answer.append(&vec![0; capacity + 1])
                })
                .unwrap();
        });
        assert_eq!((answered.unwrap_err(), room.get()), (too_long, capacity));
        // Later.
        let mut refused = None;
        let answered = scene.run(scene.call(capacity), |serving| {
            let mut deferred = None;
            serving
                .answer_calls(|_, _, answer| {
                    deferred = Some(answer.defer());
                    Ok(())
                })
                .unwrap();
            if let Some(call) = deferred {
                refused = serving.answer_later(call, Ok(&vec![0; capacity + 1])).err();
            }
        });
        assert_eq!(answered.unwrap_err(), too_long);
        let Some(SubmitError::Invalid(error)) = refused else { panic!("it was taken") };
        let (found, most) = (capacity as u64 + 1, capacity as u64);
        assert_eq!(error, OpError::TooLong { part: OpPart::Reply, found, most });
    }
    // A caller cannot ask for more than an op brings.
    match scene.session.run(scene.call(OP_BYTES_MAX + 1)) {
        Err(OpError::TooLong { part: OpPart::Reply, found, most }) => {
            assert_eq!((found, most), (OP_BYTES_MAX as u64 + 1, OP_BYTES_MAX as u64));
        }
        other => panic!("{:?}", other.map(|bytes| bytes.len())),
    }
    scene.settle();
}

#[test]
fn a_call_for_whose_answer_there_is_no_room_is_not_heard() {
    // By want of arena, and by want of a place.
    for (depth, arena, held) in [(16, 64 << 10, 1), (2, 4 << 20, 2)] {
        let scene = scene(depth, arena);
        let held: Vec<_> =
            (0..held).map(|_| scene.serving.submit(scene.own.read(0..64 << 10)).unwrap()).collect();
        let heard = Cell::new(0);
        let ask = |capacity: usize, bytes: &[u8]| {
            scene.run(scene.call(capacity), |serving| {
                serving
                    .answer_calls(|_, _, answer| {
                        heard.set(heard.get() + 1);
                        answer.append(bytes)
                    })
                    .unwrap();
            })
        };
        let busy = failed(Status::Busy, Fate::NotExecuted);
        assert_eq!(ask(32 << 10, b"short").unwrap_err(), busy);
        assert_eq!(heard.get(), 0);
        // One whose answer fits its receive buffer needs no room.
        assert_eq!(*ask(BUFFER_BYTES as usize, b"short").unwrap(), *b"short");
        drop(held);
        scene.settle();
        let long = pattern(1, 32 << 10);
        assert!(*ask(32 << 10, &long).unwrap() == long[..]);
        assert_eq!(heard.get(), 2);
    }
}

#[test]
fn an_answer_given_later_finds_room_or_is_handed_back() {
    let scene = scene(16, 64 << 10);
    let long = pattern(1, 64 << 10);
    let mut read = None;
    let mut deferred: Option<Deferred> = None;
    let mut handed_back = 0;
    // The arena is free when the call comes, and not when it is answered.
    let answered = scene.run(scene.call(64 << 10), |serving| {
        serving
            .answer_calls(|_, _, answer| {
                deferred = Some(answer.defer());
                Ok(())
            })
            .unwrap();
        let Some(call) = deferred.take() else { return };
        if handed_back == 0 {
            read = Some(scene.serving.submit(scene.own.read(0..64)).unwrap());
        }
        match serving.answer_later(call, Ok(&long)) {
            Ok(()) => {}
            Err(SubmitError::Full(call)) => {
                assert!(serving.is_awaited(&call));
                (deferred, handed_back) = (Some(call), handed_back + 1);
                drop(read.take());
            }
            Err(SubmitError::Invalid(error)) => panic!("{error}"),
        }
    });
    assert!(*answered.unwrap() == long[..]);
    assert!(handed_back > 0);
    scene.settle();
}

#[test]
fn many_long_answers_at_once_and_a_session_that_closes_amid_them() {
    let scene = scene(16, 16 << 20);
    let bytes = pattern(3, 1 << 20);
    let calls: Vec<_> = (0..8).map(|_| scene.call(1 << 20)).collect();
    let Scene { serving, session, .. } = scene;
    let pending: Vec<_> = calls.into_iter().map(|call| session.submit(call).unwrap()).collect();
    let mut over = Vec::new();
    while over.len() < 3 {
        serving.answer_calls(|_, _, answer| answer.append(&bytes)).unwrap();
        over.extend(session.poll().unwrap());
    }
    drop(serving);
    while over.len() < 8 {
        over.extend(session.poll().unwrap());
    }
    let mut good = 0;
    for call in pending {
        let done = *over.iter().find(|done| done.token == call.token()).unwrap();
        match call.take(done) {
            Ok(answer) => {
                assert!(*answer == bytes[..]);
                good += 1;
            }
            Err(OpError::Failed { status, .. }) => assert_eq!(status, Status::ServiceFailed),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(good >= 3);
}

/// Asks for so many numbers.
#[derive(Debug, Serialize, Deserialize)]
struct Numbers(u32);

impl Procedure for Numbers {
    const SERVICE: u16 = 7;
    const ANSWER_BYTES_MAX: u32 = 512 << 10;
    type Answer = Vec<u64>;
}

#[test]
fn typed_answers_may_be_long_and_are_refused_when_too_long() {
    let scene = scene(16, 4 << 20);
    let Scene { serving, session, remote, .. } = &scene;
    let mut services = Services::new();
    services.add(|Numbers(count)| (0..u64::from(count)).map(|n| n << 56 | n).collect());
    services.open(serving).unwrap();
    let mut ask = |count| {
        let pending = session.submit(remote.rpc(&Numbers(count)).unwrap()).unwrap();
        loop {
            services.answer(serving).unwrap();
            if let Some(done) = session.poll().unwrap().next() {
                return pending.take(done);
            }
        }
    };
    for count in [0, 1, 1000, 50_000] {
        let expected: Vec<u64> = (0..u64::from(count)).map(|n| n << 56 | n).collect();
        assert_eq!(ask(count), Ok(expected));
    }
    assert_eq!(ask(100_000), Err(failed(Status::ReplyTooLong, Fate::Executed)));
    assert_eq!(ask(1), Ok(vec![0]));
}

#[test]
fn a_handler_that_fails_says_no_more_than_that() {
    let scene = scene(16, 4 << 20);
    let answered = scene.run(scene.call(1 << 20), |serving| {
        serving
            .answer_calls(|_, _, answer| {
                answer.append(&[1; 100_000])?;
                Err(ServeError)
            })
            .unwrap();
    });
    assert_eq!(answered.unwrap_err(), failed(Status::ServiceFailed, Fate::Executed));
    scene.settle();
}
