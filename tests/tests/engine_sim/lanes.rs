//! Random ops against an oracle. Each lane has a part of the region to itself and one op out, so
//! that its results are exact, while the ops of all lanes share flows, packets and losses.

use nic_ports::{Chance, Random};
use nic_tests::{AppSession, Ask, Done, World};
use nic_wire::Span;

use crate::{Pair, session_of, under_seeds};

const LANES: usize = 12;
const LANE_BYTES: u64 = 16 << 10;
const OPS_PER_LANE: u32 = 60;

/// What a lane expects of its op.
enum Expected {
    Nothing,
    Bytes(Vec<u8>),
    Word(u64),
}

struct Lane {
    start: u64,
    bytes: Vec<u8>,
    out: Option<(u64, Expected)>,
    left: u32,
}

impl Lane {
    fn new(number: usize) -> Self {
        let start = number as u64 * LANE_BYTES;
        Lane { start, bytes: vec![0; LANE_BYTES as usize], out: None, left: OPS_PER_LANE }
    }

    fn range(random: &mut Random) -> (usize, usize) {
        let size = random.below(14);
        let length = 1 + random.below(1 << size) as usize;
        (random.below(LANE_BYTES - length as u64) as usize, length)
    }

    fn issue(&mut self, random: &mut Random, session: &mut AppSession, remote: u16, stream: u16) {
        let word_at = 8 * random.below(LANE_BYTES / 8) as usize;
        let word = u64::from_le_bytes(self.bytes[word_at..word_at + 8].try_into().unwrap());
        let address = self.start + word_at as u64;
        let (ask, expected) = match random.below(4) {
            0 => {
                let (at, length) = Lane::range(random);
                let bytes = self.bytes[at..at + length].to_vec();
                let read = Ask::read(remote, self.start + at as u64, length as u32);
                (read, Expected::Bytes(bytes))
            }
            1 => {
                let (at, length) = Lane::range(random);
                let payload: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
                self.bytes[at..at + length].copy_from_slice(&payload);
                (Ask::write(remote, self.start + at as u64, &payload), Expected::Nothing)
            }
            2 => {
                let addend = random.next();
                let sum = word.wrapping_add(addend);
                self.bytes[word_at..word_at + 8].copy_from_slice(&sum.to_le_bytes());
                (Ask::fetch_add(remote, address, addend), Expected::Word(word))
            }
            _ => {
                let desired = random.next();
                let right = random.below(2) == 0;
                let expected = if right { word } else { word ^ 1 };
                if right {
                    self.bytes[word_at..word_at + 8].copy_from_slice(&desired.to_le_bytes());
                }
                (Ask::compare_swap(remote, address, expected, desired), Expected::Word(word))
            }
        };
        let token = session.submit(&ask.in_stream(stream).within(Span::from_ms(4_000)));
        self.out = Some((token, expected));
        self.left -= 1;
    }

    fn check(&mut self, done: &Done) {
        assert!(done.is_ok(), "{:?}", done.ended());
        match self.out.take().expect("the lane has an op out").1 {
            Expected::Nothing => assert!(done.reply.is_empty()),
            Expected::Bytes(bytes) => assert!(done.reply == bytes, "what a READ found"),
            Expected::Word(word) => assert_eq!(done.word(), word, "the word before"),
        }
    }
}

/// Runs all lanes to their end over sessions that share the flow, in turn.
fn run_lanes(pair: &mut Pair, random: &mut Random, sessions: &mut [(AppSession, u16)]) {
    let count = sessions.len();
    let mut lanes: Vec<Lane> = (0..LANES).map(Lane::new).collect();
    let end = pair.world.now() + Span::from_ms(60_000);
    loop {
        for (number, lane) in lanes.iter_mut().enumerate() {
            if lane.out.is_none() && lane.left > 0 {
                let (session, remote) = &mut sessions[number % count];
                lane.issue(random, session, *remote, number as u16 % 3);
            }
        }
        if lanes.iter().all(|lane| lane.out.is_none()) {
            break;
        }
        assert!(pair.world.now() < end, "the lanes come to an end");
        pair.world.step();
        for (turn, (session, _)) in sessions.iter_mut().enumerate() {
            for done in session.poll() {
                let token = done.token;
                let waits = |lane: &Lane| lane.out.as_ref().is_some_and(|out| out.0 == token);
                let mut of_session = lanes.iter_mut().skip(turn).step_by(count);
                of_session.find(|lane| waits(lane)).expect("a lane waits for it").check(&done);
            }
        }
    }
    for lane in &lanes {
        let mut found = vec![0; LANE_BYTES as usize];
        pair.memory.read(lane.start, &mut found).unwrap();
        assert!(found == lane.bytes, "memory of the lane at {}", lane.start);
    }
}

fn check_nothing_is_left(pair: &mut Pair) {
    pair.world.run_until_idle();
    let (initiator, target) =
        (pair.world.counters(pair.initiator), pair.world.counters(pair.target));
    assert_eq!((initiator.ops_out, target.ops_in), (0, 0));
    assert_eq!(target.executed, u64::from(OPS_PER_LANE) * LANES as u64);
    assert_eq!((target.malformed_frames, initiator.malformed_frames), (0, 0));
}

#[test]
fn random_ops_agree_with_an_oracle() {
    under_seeds(100..106, |seed| {
        let mut world = World::lossy(seed, Chance::percent(5));
        world.let_engines_sleep(seed % 2 == 1);
        let mut pair = Pair::new(world, LANE_BYTES * LANES as u64, session_of(4, 4096));
        let mut random = Random::new(seed);
        let session = pair.world.add_session(pair.initiator, session_of(16, 16 << 10));
        let remote = pair.world.connect(&session, pair.target, pair.rkey);
        run_lanes(&mut pair, &mut random, &mut [(session, remote)]);
        check_nothing_is_left(&mut pair);
    });
}

#[test]
fn two_sessions_share_a_flow() {
    under_seeds(200..203, |seed| {
        let mut world = World::lossy(seed, Chance::percent(5));
        world.let_engines_sleep(seed % 2 == 1);
        let mut pair = Pair::new(world, LANE_BYTES * LANES as u64, session_of(4, 4096));
        let mut random = Random::new(seed);
        let mut sessions = Vec::new();
        for _ in 0..2 {
            let session = pair.world.add_session(pair.initiator, session_of(8, 16 << 10));
            let remote = pair.world.connect(&session, pair.target, pair.rkey);
            sessions.push((session, remote));
        }
        run_lanes(&mut pair, &mut random, &mut sessions);
        let flows = [pair.initiator, pair.target].map(|host| pair.world.counters(host).flows);
        assert_eq!(flows, [1, 1], "sessions to one target share the flow");
        check_nothing_is_left(&mut pair);
    });
}

/// Two engines that work on each other, and one of them on itself.
#[test]
fn both_ways_at_once() {
    under_seeds(300..303, |seed| {
        let world = World::lossy(seed, Chance::percent(3));
        let mut pair = Pair::new(world, LANE_BYTES * LANES as u64, session_of(4, 4096));
        let client = pair.world.add_client(pair.initiator);
        let all = nic_kernels::Access::all();
        let (back_memory, back_rkey) =
            pair.world.exported_region(pair.initiator, client, 4096, all);
        let mut back = pair.world.add_session(pair.target, session_of(8, 4096));
        let back_remote = pair.world.connect(&back, pair.initiator, back_rkey);
        let mut own = pair.world.add_session(pair.initiator, session_of(8, 4096));
        let own_remote = pair.world.connect(&own, pair.initiator, back_rkey);
        for round in 0..40 {
            for _ in 0..8 {
                back.submit(&Ask::fetch_add(back_remote, 0, 1));
                own.submit(&Ask::fetch_add(own_remote, 8, 1));
                if pair.session.has_room() {
                    pair.session.submit(&Ask::fetch_add(pair.remote, 0, 1));
                }
            }
            let Pair { world, session, .. } = &mut pair;
            for session in [&mut back, &mut own, session] {
                assert!(world.wait(session).iter().all(Done::is_ok), "round {round}");
            }
        }
        assert_eq!(back_memory.load64(0).unwrap(), 320);
        assert_eq!(back_memory.load64(8).unwrap(), 320);
        assert_eq!(pair.word(0), 160);
    });
}
