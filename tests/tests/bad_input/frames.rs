//! Op frames that no engine sends, in packets that are whole: their sender is broken or hostile.

use nic_kernels::{fetch_add, read, write};
use nic_tests::{Rogue, request_frame, small_engine};
use nic_wire::frame::{Reply, Request, RequestFlags, write_reply};
use nic_wire::{Fate, KernelId, OpId, Rkey, Span, Status};

use crate::{REGION_BYTES, Scene, stranger};

struct Molested {
    scene: Scene,
    rogue: Rogue,
}

fn molested(seed: u64) -> Molested {
    let mut scene = Scene::new(seed);
    // Whatever has to end by itself must end without being looked at by chance.
    scene.world.let_engines_sleep(true);
    let mut rogue = Rogue::new(&scene.world, stranger(1));
    let to = scene.target_address();
    assert!(rogue.connect(&mut scene.world, to));
    Molested { scene, rogue }
}

/// A READ of eight bytes, the `sequence`-th op of its stream.
fn good(rkey: Rkey, sequence: u32) -> Request {
    Request {
        op: OpId::new(1, sequence as u16),
        kernel: KernelId::READ,
        stream: 0,
        sequence,
        flags: RequestFlags::empty(),
        rkey,
        budget_us: 100_000,
        reply_capacity: 64,
        payload_length: 0,
        payload_offset: 0,
    }
}

fn read_frame(rkey: Rkey, sequence: u32) -> Vec<u8> {
    request_frame(&good(rkey, sequence), &read::Arguments::home(0, 8).encode(), &[])
}

impl Molested {
    /// Sends a packet, and returns what the target counted and how many replies came.
    fn send(&mut self, body: &[u8]) -> (nic_engine::engine::Counters, usize) {
        self.rogue.replies.clear();
        let Molested { scene, rogue } = self;
        let counted = scene.counted(|scene| {
            rogue.send(&scene.world, body);
            rogue.turns(&mut scene.world, Span::from_us(300));
        });
        assert!(!self.rogue.closed, "the flow goes on");
        (counted, self.rogue.replies.len())
    }
}

#[test]
fn frames_that_cannot_be_understood() {
    let mut molested = molested(80);
    let rkey = molested.scene.rkey;
    let frame = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = read_frame(rkey, 0);
        change(&mut frame);
        frame
    };
    let bad = [
        frame(&|frame| frame[0] = 3),
        frame(&|frame| frame[0] = 255),
        frame(&|frame| frame[2..4].copy_from_slice(&0u16.to_le_bytes())),
        frame(&|frame| frame[2..4].copy_from_slice(&47u16.to_le_bytes())),
        frame(&|frame| frame[2..4].copy_from_slice(&65u16.to_le_bytes())),
        frame(&|frame| frame[2..4].copy_from_slice(&u16::MAX.to_le_bytes())),
        // Arguments longer than the frame, or than any.
        frame(&|frame| frame[44..46].copy_from_slice(&17u16.to_le_bytes())),
        frame(&|frame| frame[44..46].copy_from_slice(&u16::MAX.to_le_bytes())),
        // Payload beyond its own end.
        frame(&|frame| frame[44..46].copy_from_slice(&8u16.to_le_bytes())),
        frame(&|frame| frame[40..44].copy_from_slice(&1u32.to_le_bytes())),
        frame(&|frame| frame.truncate(40)),
    ];
    for (number, body) in bad.iter().enumerate() {
        let (counted, replies) = molested.send(body);
        assert_eq!(counted.malformed_frames, 1, "frame {number}");
        assert_eq!((counted.requests_received, replies), (0, 0), "frame {number}");
    }
    // What stands before a bad frame is served, what comes behind it is not.
    let body = [read_frame(rkey, 0), bad[0].clone(), read_frame(rkey, 1)].concat();
    let (counted, replies) = molested.send(&body);
    assert_eq!((counted.malformed_frames, counted.requests_received, replies), (1, 1, 1));
    molested.scene.nobody_noticed();
}

/// Sequence numbers that no honest initiator could have reached.
#[test]
fn sequences_out_of_reach() {
    let mut molested = molested(81);
    let rkey = molested.scene.rkey;
    let mut request = good(rkey, 1 << 20);
    let arguments = read::Arguments::home(0, 8).encode();
    let (counted, replies) = molested.send(&request_frame(&request, &arguments, &[]));
    assert_eq!((counted.malformed_frames, replies), (1, 1), "it runs, and is counted");
    // Streams beyond what a flow has.
    for stream in 0..100 {
        request = Request { stream, op: OpId::new(2, stream), ..good(rkey, 0) };
        let (_, replies) = molested.send(&request_frame(&request, &arguments, &[]));
        assert_eq!(replies, 1, "stream {stream}");
    }
    // A fence for something that never comes is held until nobody waits any more.
    request = Request { flags: RequestFlags::FENCE, ..good(rkey, 7) };
    let (counted, replies) = molested.send(&request_frame(&request, &arguments, &[]));
    assert_eq!((counted.fenced, replies), (1, 0));
    let Molested { scene, rogue } = &mut molested;
    rogue.turns(&mut scene.world, Span::from_ms(150));
    let ended: Vec<_> = rogue.replies.iter().map(|(reply, _)| (reply.status, reply.fate)).collect();
    assert_eq!(ended, [(Status::Expired, Fate::NotExecuted)]);
    assert_eq!(scene.world.counters(scene.target).expired_on_arrival, 1);
    molested.scene.nobody_noticed();
}

fn write_part(rkey: Rkey, op: u16, length: u32, offset: u32, part: &[u8]) -> Vec<u8> {
    let request = Request {
        op: OpId::new(9, op),
        kernel: KernelId::WRITE,
        sequence: op.into(),
        payload_length: length,
        payload_offset: offset,
        stream: 5,
        budget_us: 2_000,
        ..good(rkey, 0)
    };
    request_frame(&request, &write::Arguments::home(32 << 10).encode(), part)
}

#[test]
fn payloads_in_impossible_parts() {
    let mut molested = molested(82);
    let rkey = molested.scene.rkey;
    let before = molested.scene.untouched_bytes();
    // The same part twice: more bytes than the payload has, and its last word never came.
    let parts = [
        write_part(rkey, 0, 1000, 0, &[1; 504]),
        write_part(rkey, 0, 1000, 0, &[2; 504]),
        write_part(rkey, 0, 1000, 504, &[1; 496]),
    ];
    for (number, part) in parts.iter().enumerate() {
        molested.send(part);
        let replies = molested.rogue.replies.len();
        assert_eq!(replies, usize::from(number == 1), "part {number}");
        if let Some((reply, _)) = molested.rogue.replies.front() {
            assert_eq!((reply.status, reply.fate), (Status::BadArguments, Fate::Unknown));
        }
    }
    // Longer than any.
    let (counted, replies) = molested.send(&write_part(rkey, 1, u32::MAX, 0, &[1; 64]));
    assert_eq!((counted.refused, replies), (1, 1));
    // Beyond the region.
    let (counted, replies) = molested.send(&write_part(rkey, 2, REGION_BYTES as u32, 0, &[1; 64]));
    assert_eq!((counted.refused, replies), (1, 1));
    // One that never becomes whole ends by its budget.
    molested.send(&write_part(rkey, 3, 1000, 0, &[1; 64]));
    assert_eq!(molested.scene.world.counters(molested.scene.target).ops_in, 1);
    let Molested { scene, rogue } = &mut molested;
    rogue.turns(&mut scene.world, Span::from_ms(4));
    assert_eq!(scene.world.counters(scene.target).ops_in, 0);
    assert_eq!(rogue.replies[0].0.status, Status::Expired);
    let after = scene.untouched_bytes();
    let touched = 32 << 10;
    let inside = touched - 8192..touched - 8192 + 1000;
    assert!(after[..inside.start] == before[..inside.start]);
    assert!(after[inside.end..] == before[inside.end..]);
    scene.nobody_noticed();
}

fn reply_frame(op: OpId, status: Status, data: &[u8]) -> Vec<u8> {
    let total = data.len() as u32;
    let reply = Reply { op, status, fate: Fate::Executed, offset: 0, total, service_ns: 1 };
    let mut frame = vec![0; nic_wire::frame::reply_bytes(data.len())];
    let fill = |place: &mut [u8]| place.copy_from_slice(data);
    write_reply(&mut frame, &reply, data.len(), fill).unwrap();
    frame
}

/// Replies belong to the direction that answers, requests to the one that asks.
#[test]
fn replies_where_requests_belong() {
    let mut molested = molested(83);
    for slot in 0..4 {
        let body = reply_frame(OpId::new(slot, 0), Status::Ok, &[7; 8]);
        let (counted, replies) = molested.send(&body);
        assert_eq!((counted.malformed_frames + counted.late_replies, replies), (1, 0));
        assert_eq!(counted.completions, 0);
    }
    molested.scene.nobody_noticed();
}

/// More ops than the credits allow: what finds no place comes again, and the peer is told that
/// somebody is there.
#[test]
fn ops_beyond_all_credits() {
    let mut molested = molested(84);
    let rkey = molested.scene.rkey;
    let arguments = fetch_add::Arguments::home(16384, 1).encode();
    let mut sequence = 0;
    for _ in 0..400 {
        let mut body = Vec::new();
        for _ in 0..18 {
            // Every op waits for one that never comes.
            sequence += 1;
            let request = Request {
                kernel: KernelId::FETCH_ADD,
                flags: RequestFlags::FENCE,
                budget_us: 60_000_000,
                ..good(rkey, sequence)
            };
            body.extend(request_frame(&request, &arguments, &[]));
        }
        let Molested { scene, rogue } = &mut molested;
        if rogue.may_send() {
            rogue.send(&scene.world, &body);
        }
        rogue.turns(&mut scene.world, Span::from_us(20));
    }
    let Molested { scene, rogue } = &mut molested;
    let counters = scene.world.counters(scene.target);
    assert!(counters.unplaced_packets > 0, "the tables were full");
    assert!(counters.fenced < 256, "no flow gets more than its share");
    scene.nobody_noticed();
    rogue.turns(&mut scene.world, Span::from_ms(3_000));
    assert!(!rogue.closed, "a target without room is not a dead one");
    scene.nobody_noticed();
    assert_eq!(scene.memory.load64(16384).unwrap(), 0);
}

/// Ops that stay in hand because their payload never comes: no flow gets more than its credits.
#[test]
fn payloads_that_never_come() {
    let mut molested = molested(86);
    let rkey = molested.scene.rkey;
    let at = write::Arguments::home(32 << 10).encode();
    for packet in 0..40 {
        let mut body = Vec::new();
        for op in 0..10 {
            let request = Request {
                kernel: KernelId::WRITE,
                budget_us: 100_000,
                payload_length: 4000,
                ..good(rkey, packet * 10 + op)
            };
            body.extend(request_frame(&request, &at, &[1; 16]));
        }
        let Molested { scene, rogue } = &mut molested;
        rogue.send(&scene.world, &body);
        rogue.turns(&mut scene.world, Span::from_us(20));
    }
    let Molested { scene, rogue } = &mut molested;
    let counters = scene.world.counters(scene.target);
    assert_eq!(counters.ops_in, 250, "256 credits, ten ops a packet");
    assert!(counters.unplaced_packets > 0);
    scene.nobody_noticed();
    // They expire and make room, until all have had their turn.
    rogue.turns(&mut scene.world, Span::from_ms(1_500));
    let counters = scene.world.counters(scene.target);
    assert_eq!((counters.ops_in, rogue.replies.len()), (0, 400));
    assert!(rogue.replies.iter().all(|(reply, _)| reply.status == Status::Expired));
    scene.nobody_noticed();
}

/// With a flow ends all that it left half done, however long its budget.
#[test]
fn the_flow_ends_in_the_middle() {
    let mut molested = molested(85);
    let rkey = molested.scene.rkey;
    let hour = 3_600_000_000;
    let part =
        Request { kernel: KernelId::WRITE, budget_us: hour, payload_length: 4000, ..good(rkey, 0) };
    let at = write::Arguments::home(32 << 10).encode();
    let fenced = Request { flags: RequestFlags::FENCE, budget_us: hour, ..good(rkey, 1) };
    let read = read::Arguments::home(0, 8).encode();
    let body = [request_frame(&part, &at, &[1; 64]), request_frame(&fenced, &read, &[])].concat();
    let (counted, replies) = molested.send(&body);
    assert_eq!((counted.ops_in, counted.fenced, replies), (1, 1, 0));
    let Molested { scene, rogue } = &mut molested;
    let open = scene.world.counters(scene.target).flows;
    rogue.close(&mut scene.world);
    let counters = scene.world.counters(scene.target);
    assert_eq!((counters.flows, counters.ops_in), (open - 1, 0));
    let revoked_at = scene.world.now();
    scene.world.revoke(scene.target, scene.owner, rkey);
    assert!(scene.world.now().since(revoked_at) < Span::from_ms(5), "nothing holds the region");
}

/// A CANCEL of the `sequence`-th op, which has all the time in the world.
fn cancel_frame(rkey: Rkey, sequence: u32) -> Vec<u8> {
    let kernel = KernelId::CANCEL;
    let request = Request { kernel, budget_us: u32::MAX, ..good(rkey, sequence) };
    request_frame(&request, &[], &[])
}

/// How many CANCELs a flow of the target may have whose ops have yet to come.
fn share() -> u64 {
    let config = small_engine();
    u64::from(config.ops_in / config.flows)
}

/// CANCELs of ops that never come: a bounded number is remembered, for a while. An op that its CANCEL
/// has overtaken ends when it comes.
#[test]
fn cancels_of_what_never_comes() {
    let mut molested = molested(87);
    let rkey = molested.scene.rkey;
    let (counted, replies) = molested.send(&cancel_frame(rkey, 5));
    assert_eq!((counted.ops_cancelled, replies), (0, 0), "it gets no reply");
    let half = Request { kernel: KernelId::WRITE, payload_length: 16, ..good(rkey, 5) };
    let at = write::Arguments::home(32 << 10).encode();
    molested.send(&request_frame(&half, &at, &[0; 8]));
    let Molested { scene, rogue } = &mut molested;
    // It is looked for now and then.
    rogue.turns(&mut scene.world, Span::from_ms(2));
    let counted = scene.world.counters(scene.target).ops_cancelled;
    assert_eq!((counted, rogue.replies.len()), (1, 1));
    let (reply, _) = &molested.rogue.replies[0];
    assert_eq!((reply.op, reply.status), (half.op, Status::Cancelled));

    let (counted, _) = molested.send(&cancel_frame(rkey, 5));
    assert_eq!((counted.cancels_dropped, counted.cancel_looks), (0, 0), "it is over");
    let (counted, _) = molested.send(&cancel_frame(rkey, 1 << 20));
    assert_eq!((counted.cancels_dropped, counted.cancel_looks), (1, 0), "it cannot come");
    for _ in 0..2 {
        let mut dropped = 0;
        for packet in 0..40 {
            let sequences = (0..20).map(|place| 100 + packet * 20 + place);
            let body: Vec<u8> = sequences.flat_map(|place| cancel_frame(rkey, place)).collect();
            dropped += molested.send(&body).0.cancels_dropped;
        }
        assert_eq!(dropped, 800 - share());
        let Molested { scene, rogue } = &mut molested;
        rogue.turns(&mut scene.world, Span::from_ms(1_100));
        let counted = scene.counted(|scene| rogue.turns(&mut scene.world, Span::from_ms(100)));
        assert_eq!(counted.cancel_looks, 0, "nothing is looked for any more");
    }
    let (counted, replies) = molested.send(&read_frame(rkey, 0));
    assert_eq!((counted.executed, replies), (1, 1));
    molested.scene.nobody_noticed();
}

/// However often it is told of ops to look for, a target looks now and then.
#[test]
fn cancels_without_end() {
    let mut molested = molested(89);
    let rkey = molested.scene.rkey;
    let Molested { scene, rogue } = &mut molested;
    let begin = scene.world.now();
    let counted = scene.counted(|scene| {
        for sequence in 0..500 {
            rogue.send(&scene.world, &cancel_frame(rkey, sequence));
            rogue.turns(&mut scene.world, Span::from_us(4));
        }
    });
    let most = 1 + scene.world.now().since(begin).as_us() / 100;
    assert!((most / 2..=most).contains(&counted.cancel_looks), "{most}: {}", counted.cancel_looks);
    scene.nobody_noticed();
}

/// Those who fill all room with CANCELs leave others theirs.
#[test]
fn cancels_of_others_are_heard() {
    let mut molested = molested(90);
    let rkey = molested.scene.rkey;
    let Molested { scene, rogue } = &mut molested;
    let to = scene.target_address();
    let config = small_engine();
    let mut others = Vec::new();
    for number in 2..2 + (config.ops_in / config.op_credits) as u8 {
        let mut other = Rogue::new(&scene.world, stranger(number));
        assert!(other.connect(&mut scene.world, to));
        others.push(other);
    }
    let half = Request {
        kernel: KernelId::WRITE,
        payload_length: 16,
        budget_us: 10_000_000,
        ..good(rkey, 0)
    };
    let at = write::Arguments::home(32 << 10).encode();
    rogue.send(&scene.world, &request_frame(&half, &at, &[0; 8]));
    rogue.turns(&mut scene.world, Span::from_us(300));
    let counted = scene.counted(|scene| {
        for from in (0..u32::from(config.op_credits)).step_by(16) {
            let body: Vec<u8> =
                (from..from + 16).flat_map(|place| cancel_frame(rkey, place)).collect();
            for other in &mut others {
                other.send(&scene.world, &body);
            }
        }
        rogue.send(&scene.world, &cancel_frame(rkey, 0));
        rogue.turns(&mut scene.world, Span::from_ms(2));
    });
    let theirs = u64::from(config.ops_in) - others.len() as u64 * share();
    assert_eq!((counted.ops_cancelled, counted.cancels_dropped), (1, theirs));
    assert_eq!(rogue.replies.len(), 1);
    scene.nobody_noticed();
}
