//! Command slots that make no sense.

use nic_engine::engine::OP_BYTES_MAX;
use nic_tests::{AppSession, Ask};
use nic_wire::session::{Command, CommandFlags};
use nic_wire::{Fate, Span, Status};

use crate::{GEOMETRY, Scene};

struct Malicious {
    scene: Scene,
    session: AppSession,
    remote: u16,
}

fn malicious(seed: u64) -> Malicious {
    let mut scene = Scene::new(seed);
    let session = scene.world.add_session(scene.initiator, GEOMETRY);
    let remote = scene.world.connect(&session, scene.target, scene.rkey);
    Malicious { scene, session, remote }
}

/// Each change of a good READ makes it a bad command, which is answered as such and not sent.
fn refused(malicious: &mut Malicious, changes: &[&dyn Fn(&mut Command)]) {
    let Malicious { scene, session, remote } = malicious;
    let before = scene.world.counters(scene.initiator);
    for (number, change) in changes.iter().enumerate() {
        let mut command = session.prepare(&Ask::read(*remote, 0, 64));
        change(&mut command);
        session.push(&command);
        let done = scene.world.wait(session).remove(0);
        let expected = (Status::BadCommand, Fate::NotExecuted);
        assert_eq!(done.ended(), expected, "change {number}");
    }
    let after = scene.world.counters(scene.initiator);
    let count = changes.len() as u64;
    assert_eq!(after.bad_commands - before.bad_commands, count);
    assert_eq!(after.requests_sent, before.requests_sent, "nothing left");
    assert_eq!(after.ring_violations, 0, "a bad slot is no broken ring");
    // The session goes on as well as the others.
    assert!(scene.world.run(session, &Ask::read(*remote, 0, 64)).is_ok());
    scene.nobody_noticed();
}

#[test]
fn remotes_out_of_range() {
    let mut malicious = malicious(40);
    refused(
        &mut malicious,
        &[
            &|command| command.remote = 1.into(),
            &|command| command.remote = 1023.into(),
            &|command| command.remote = u16::MAX.into(),
        ],
    );
}

#[test]
fn arena_out_of_range() {
    let mut malicious = malicious(41);
    let arena = GEOMETRY.arena_bytes;
    refused(
        &mut malicious,
        &[
            &|command| command.reply_offset = (arena - 63).into(),
            &|command| command.reply_offset = arena.into(),
            &|command| command.reply_offset = u32::MAX.into(),
            &|command| command.reply_capacity = (arena + 1).into(),
            &|command| command.reply_capacity = u32::MAX.into(),
            &|command| command.payload_length = (arena + 1).into(),
            &|command| command.payload_offset = (arena + 1).into(),
            &|command| {
                command.payload_offset = (arena - 63).into();
                command.payload_length = 64.into();
            },
            &|command| {
                command.payload_offset = u32::MAX.into();
                command.payload_length = u32::MAX.into();
            },
            &|command| {
                command.reply_offset = 0x8000_0000.into();
                command.reply_capacity = 0x8000_0040.into();
            },
        ],
    );
    // The last bytes are within.
    let Malicious { scene, session, remote } = &mut malicious;
    let mut command = session.prepare(&Ask::read(*remote, 0, 64));
    command.reply_offset = (arena - 64).into();
    session.push(&command);
    scene.world.run_for(Span::from_ms(1));
    assert_eq!(session.poll_raw()[0].status(), Status::Ok);
}

#[test]
fn ops_longer_than_any() {
    let mut scene = Scene::new(42);
    let geometry = nic_wire::session::Geometry { arena_bytes: 16 << 20, ..GEOMETRY };
    let session = scene.world.add_session(scene.initiator, geometry);
    let remote = scene.world.connect(&session, scene.target, scene.rkey);
    let mut malicious = Malicious { scene, session, remote };
    refused(
        &mut malicious,
        &[&|command| command.reply_capacity = (OP_BYTES_MAX + 1).into(), &|command| {
            command.payload_length = (OP_BYTES_MAX + 1).into()
        }],
    );
}

#[test]
fn arguments_beyond_the_arena() {
    let mut malicious = malicious(43);
    let arena = GEOMETRY.arena_bytes;
    let long = |length, offset| {
        move |command: &mut Command| {
            command.argument_length = length;
            command.set_arguments_offset(offset);
        }
    };
    refused(
        &mut malicious,
        &[
            &long(29, arena - 28),
            &long(64, arena),
            &long(255, arena - 254),
            &long(255, u32::MAX),
            &long(29, u32::MAX - 28),
        ],
    );
    // The last bytes are within: they reach the kernel, to which they make no sense.
    let Malicious { scene, session, remote } = &mut malicious;
    let mut command = session.prepare(&Ask::read(*remote, 0, 64));
    long(255, arena - 255)(&mut command);
    session.push(&command);
    let done = scene.world.wait(session).remove(0);
    assert_eq!(done.ended(), (Status::BadArguments, Fate::NotExecuted));
    scene.nobody_noticed();
}

/// Flags that this version does not know mean nothing, and neither does a budget without end.
#[test]
fn what_is_strange_but_allowed() {
    let Malicious { mut scene, mut session, remote } = malicious(44);
    let changes: [&dyn Fn(&mut Command); 3] = [
        &|command| command.flags = !CommandFlags::FENCE.bits(),
        &|command| command.budget_us = u32::MAX.into(),
        &|command| command.stream = u16::MAX.into(),
    ];
    for change in changes {
        let mut command = session.prepare(&Ask::read(remote, 0, 64));
        change(&mut command);
        session.push(&command);
        assert!(scene.world.wait(&mut session)[0].is_ok());
    }
    let mut command = session.prepare(&Ask::read(remote, 0, 64));
    command.budget_us = 0.into();
    session.push(&command);
    let done = scene.world.wait(&mut session).remove(0);
    assert!(matches!(done.status, Status::Ok | Status::Expired), "{:?}", done.ended());
    scene.nobody_noticed();
}
