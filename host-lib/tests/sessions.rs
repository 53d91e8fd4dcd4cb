//! What a session refuses, and what it gives back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use nic_host::{
    Access, Ask, BadArguments, Export, Facts, Fate, Judgement, KernelId, Nic, Op, OpError, OpPart,
    Operation, Region, Reply, Session, Status, SubmitError, chain_read,
};

const MIB: u64 = 1 << 20;
const OP_BYTES_MAX: u64 = MIB + 4096;

/// An application that is its own target.
fn own(bytes: u64) -> (Nic, Region, Export) {
    let nic = Nic::inline(Default::default()).unwrap();
    let region = nic.region(bytes).create().unwrap();
    let all = Access::READ.and(Access::WRITE).and(Access::ATOMIC);
    let export = region.export(all).unwrap();
    (nic, region, export)
}

#[test]
fn a_session_whose_places_only_the_caller_frees_says_so() {
    let (nic, _region, export) = own(MIB);
    let session = nic.session().depth(4).open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    let pending: Vec<_> = (0..4u64).map(|_| session.submit(remote.read(0..8)).unwrap()).collect();
    // Whether they are out or over: nobody but the caller takes their results.
    for over in [0, 4] {
        match session.run(remote.read(0..8)) {
            Err(error @ OpError::NoRoom { in_use: 4, depth: 4, needed: 8, .. }) => {
                assert!(error.is_not_executed());
                let said = error.to_string();
                assert!(said.contains(&format!("{over} of them over")), "{said}");
            }
            other => panic!("{other:?}"),
        }
        let mut ended = 0;
        while over == 0 && ended < 4 {
            ended += session.poll().unwrap().count();
        }
    }
    drop(pending);
    session.run(remote.read(0..8)).unwrap();
}

#[test]
fn an_arena_that_only_the_caller_frees_is_told() {
    let (nic, _region, export) = own(MIB);
    let session = nic.session().depth(64).arena(64 << 10).open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    let held: Vec<_> = (0..4u64).map(|_| session.run(remote.read(0..16384)).unwrap()).collect();
    match session.run(remote.read(0..8)) {
        Err(OpError::NoRoom { in_use: 0, over: 0, held: 65536, arena: 65536, .. }) => {}
        other => panic!("{other:?}"),
    }
    // A future cannot know what others will drop: it waits as long as its op may take.
    let soon = Duration::from_millis(20);
    let begin = Instant::now();
    let issued = session.block_on(session.issue(remote.read(0..8).deadline(soon)));
    assert!(matches!(issued, Err(OpError::NoRoom { .. })), "{issued:?}");
    assert!(begin.elapsed() >= soon);
    drop(held);
    session.run(remote.read(0..8)).unwrap();
}

#[test]
fn a_session_full_of_ops_that_nobody_wants_is_waited_for() {
    let (nic, _region, export) = own(MIB);
    let session = nic.session().depth(4).open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    for _ in 0..100 {
        let given_up: Vec<_> =
            (0..4u64).map(|_| session.submit(remote.fetch_add(0, 1)).unwrap()).collect();
        drop(given_up);
        session.run(remote.fetch_add(8, 1)).unwrap();
    }
    assert_eq!(session.run(remote.fetch_add(8, 0)).unwrap(), 100);
}

#[test]
fn ops_that_are_too_long_are_refused_with_numbers() {
    let (nic, _region, export) = own(4 * MIB);
    let session = nic.session().arena(8 << 20).open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    let too_long = |part, found, most| OpError::TooLong { part, found, most };
    let long = OP_BYTES_MAX + 1;
    let expected = too_long(OpPart::Reply, long, OP_BYTES_MAX);
    assert_eq!(session.run(remote.read(0..long)).unwrap_err(), expected);
    assert!(expected.is_not_executed());
    let bytes = vec![7; long as usize];
    let expected = too_long(OpPart::Payload, long, OP_BYTES_MAX);
    assert_eq!(session.run(remote.write(0, &bytes)).unwrap_err(), expected);
    let submitted = session.submit(remote.read(0..3 * MIB));
    let Err(SubmitError::Invalid(error)) = submitted else { panic!("it was taken") };
    assert_eq!(error, too_long(OpPart::Reply, 3 * MIB, OP_BYTES_MAX));
    // The longest there can be, and beyond everything.
    assert_eq!(session.run(remote.read(0..OP_BYTES_MAX)).unwrap().len() as u64, OP_BYTES_MAX);
    session.run(remote.write(0, &bytes[1..])).unwrap();
    let beyond = u64::from(u32::MAX);
    let expected = too_long(OpPart::Reply, beyond, OP_BYTES_MAX);
    assert_eq!(session.run(remote.read(0..u64::MAX)).unwrap_err(), expected);

    // A small arena has smaller pieces.
    let small = nic.session().arena(8192).open().unwrap();
    let remote = small.connect(&export.ticket()).unwrap();
    let expected = too_long(OpPart::Piece, 8193, 8192);
    assert_eq!(small.run(remote.read(0..8193)).unwrap_err(), expected);
    assert_eq!(small.run(remote.read(0..8192)).unwrap().len(), 8192);
}

#[test]
fn regions_of_others_that_are_dropped_make_room_for_others() {
    let (nic, _region, export) = own(MIB);
    let session = nic.session().open().unwrap();
    for number in 0..3_000 {
        let remote = session.connect(&export.ticket()).unwrap();
        assert_eq!(session.run(remote.fetch_add(0, 1)).unwrap(), number);
    }
    // As many as there may be at once, and not one more.
    let all: Vec<_> = (0..1024).map(|_| session.connect(&export.ticket()).unwrap()).collect();
    let refused = session.connect(&export.ticket()).unwrap_err().to_string();
    assert!(refused.contains("1024 ways"), "{refused}");
    drop(all);
    session.connect(&export.ticket()).unwrap();
}

#[test]
fn an_op_outlives_the_handle_of_its_region() {
    let (nic, _region, export) = own(MIB);
    let session = nic.session().open().unwrap();
    let add = |address| {
        let remote = session.connect(&export.ticket()).unwrap();
        session.submit(remote.fetch_add(address, 1)).unwrap()
    };
    // The second connect finds the first way given up, with an op on it that has not left yet.
    let pending = [add(0), add(8)];
    let third = session.connect(&export.ticket()).unwrap();
    let mut ended = Vec::new();
    while ended.len() < 2 {
        ended.extend(session.poll().unwrap());
    }
    for op in pending {
        let done = ended.iter().find(|done| done.token == op.token()).unwrap();
        assert_eq!(op.take(*done).unwrap(), 0);
    }
    // What was made by a handle that is gone, and is submitted when its way is gone, is refused.
    let late = session.connect(&export.ticket()).unwrap().fetch_add(0, 1);
    let fourth = session.connect(&export.ticket()).unwrap();
    let refused = session.run(late).unwrap_err();
    assert!(refused.is_not_executed(), "{refused}");
    assert_eq!(session.run(third.fetch_add(0, 0)).unwrap(), 1);
    assert_eq!(session.run(fourth.fetch_add(8, 0)).unwrap(), 1);
}

/// A read of the first word that always finds it torn.
#[derive(Debug)]
struct Torn {
    remote: u16,
    arguments: Vec<u8>,
}

impl Torn {
    fn op(remote: &nic_host::RemoteRegion) -> Op<Torn> {
        let arguments = nic_kernels::read::Arguments::new(nic_kernels::HOME_REGION, 0, 8);
        let (remote, arguments) = (remote.remote(), arguments.encode().to_vec());
        Op::new(Torn { remote, arguments })
    }
}

impl Operation for Torn {
    type Output = ();

    fn ask(&self) -> Ask<'_> {
        Ask::new(KernelId::READ, self.remote, &self.arguments).reply(8)
    }

    fn judge(_: &Facts, _: &[u8], _: &[u8]) -> Judgement {
        Judgement::Again
    }

    fn result(_: &Facts, _: Reply) -> Result<(), OpError> {
        Ok(())
    }
}

/// However far its latest try has come when it is cancelled, and whether or not its session has
/// seen that: it is not tried again.
#[test]
fn a_torn_read_that_is_cancelled_is_not_issued_anew() {
    let (nic, _region, export) = own(MIB);
    let session = nic.session().open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    let counters = || nic.counters().unwrap();
    for (polls, turns) in (0..4).flat_map(|polls| (0..6).map(move |turns| (polls, turns))) {
        let op = Torn::op(&remote).deadline(Duration::from_secs(3000));
        let pending = session.submit(op).unwrap();
        for _ in 0..=polls {
            assert_eq!(session.poll().unwrap().count(), 0);
        }
        // The engine goes on, and nobody looks at what it has done.
        (0..turns).for_each(|_| nic.turn().unwrap());
        assert!(session.cancel(&pending).unwrap());
        let done = until_over(&session);
        assert_eq!((done.token, done.status), (pending.token(), Status::Cancelled));
        assert_eq!(done.fate, Fate::NotExecuted);
        assert!(pending.take(done).is_err());
        let completions = counters().completions;
        assert!((0..100).all(|_| session.poll().unwrap().count() == 0));
        assert!(counters().completions <= completions + 1, "the cancelling, and nothing else");
        assert_eq!((session.in_use(), counters().ops_out), (0, 0));
    }
}

fn until_over(session: &Session) -> nic_host::Done {
    for _ in 0..100_000 {
        if let Some(done) = session.poll().unwrap().next() {
            return done;
        }
    }
    panic!("it goes on and on");
}

/// An op of any kernel, with arguments as they are, and as many bytes that stay here.
struct Raw<'a>(KernelId, u16, &'a [u8], &'a [u8]);

impl Operation for Raw<'_> {
    type Output = Reply;

    fn ask(&self) -> Ask<'_> {
        Ask::new(self.0, self.1, self.2).note(self.3).payload(&[1; 24]).reply(64)
    }

    fn result(_: &Facts, reply: Reply) -> Result<Reply, OpError> {
        Ok(reply)
    }
}

/// What a target refuses is told with its reason, short arguments and those that lie in the arena.
#[test]
fn who_brings_bad_arguments_hears_which() {
    let (nic, _region, export) = own(MIB);
    let session = nic.session().open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    let failed = |kernel, arguments: &[u8]| {
        let op = Op::new(Raw(kernel, remote.remote(), arguments, b"a note"));
        match session.run(op).unwrap_err() {
            error @ OpError::Failed { status, fate: Fate::NotExecuted, refusal } => {
                (status, refusal, error.to_string())
            }
            other => panic!("{other:?}"),
        }
    };
    let walk = chain_read::Arguments::from_shortcut(0).hops_max(0).encode();
    let (status, refusal, said) = failed(KernelId::CHAIN_READ, &walk);
    assert_eq!(status, Status::BadArguments);
    assert_eq!(refusal, Some(BadArguments::Value { field: "hops_max" }));
    assert!(said.contains("`hops_max`"), "{said}");
    let (status, refusal, _) = failed(KernelId::READ, &[0; 200]);
    assert_eq!(status, Status::BadArguments);
    assert_eq!(refusal, Some(BadArguments::Length { found: 200, expected: 16 }));
    let too_many = [u32::MAX; 40].map(u32::to_le_bytes).concat();
    let (status, refusal, said) = failed(KernelId::INDIRECT_READ, &too_many);
    assert_eq!(refusal.map(BadArguments::status), Some(status), "{said}");
    let (status, refusal, said) = failed(KernelId(0x9000), &[]);
    let unknown = BadArguments::Unknown(KernelId(0x9000));
    assert_eq!((status, refusal), (Status::UnknownKernel, Some(unknown)), "{said}");
    // What is wrong with the memory is not said of the arguments.
    let beyond = remote.read(2 * MIB..2 * MIB + 8);
    let error = session.run(beyond).unwrap_err();
    let (status, fate) = (Status::OutOfBounds, Fate::NotExecuted);
    assert_eq!(error, OpError::Failed { status, fate, refusal: None });
}
