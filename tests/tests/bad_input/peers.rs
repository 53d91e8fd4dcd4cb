//! A target that is not what it seems: what an initiating engine makes of its answers.

use std::net::SocketAddr;

use nic_engine::engine::{Answer, Work};
use nic_kernels::read;
use nic_tests::{AppSession, Ask, Done, Rogue, request_frame};
use nic_wire::frame::{Reply, Request, RequestFlags, write_reply};
use nic_wire::{Fate, KernelId, OpId, Rkey, Span, Status};

use crate::{GEOMETRY, Scene, stranger};

/// A session whose remote is a rogue.
struct Deceived {
    scene: Scene,
    rogue: Rogue,
    session: AppSession,
    remote: u16,
}

fn deceived(seed: u64) -> Deceived {
    let mut scene = Scene::new(seed);
    let at: SocketAddr = stranger(2);
    let mut rogue = Rogue::new(&scene.world, at);
    let session = scene.world.add_session(scene.initiator, GEOMETRY);
    let (client, number) = (session.client, session.id);
    let rkey = Rkey::new(1, 1, 1);
    let work = Work::Connect { client, session: number, engine: at, rkey };
    let id = scene.world.begin(scene.initiator, work);
    rogue.turns(&mut scene.world, Span::from_ms(1));
    let remote = match scene.world.answer(scene.initiator, id) {
        Some(Answer::Connected(remote)) => remote,
        other => panic!("{other:?}"),
    };
    Deceived { scene, rogue, session, remote }
}

impl Deceived {
    /// Submits an op and returns what the rogue sees of it.
    fn ask(&mut self, ask: &Ask) -> Request {
        self.session.submit(ask);
        self.rogue.turns(&mut self.scene.world, Span::from_us(50));
        self.rogue.requests.pop_front().expect("the request arrives").0
    }

    fn answer(&mut self, reply: &Reply, data: &[u8]) {
        let mut frame = vec![0; nic_wire::frame::reply_bytes(data.len())];
        let fill = |place: &mut [u8]| place.copy_from_slice(data);
        write_reply(&mut frame, reply, data.len(), fill).unwrap();
        self.rogue.send(&self.scene.world, &frame);
        self.rogue.turns(&mut self.scene.world, Span::from_us(50));
    }

    fn completions(&mut self) -> Vec<Done> {
        self.session.poll()
    }
}

fn ok(op: OpId, offset: u32, total: u32) -> Reply {
    Reply { op, status: Status::Ok, fate: Fate::Executed, offset, total, service_ns: 5 }
}

/// Credits for nothing: whatever the first packet of the rogue grants, honest replies are served.
#[test]
fn a_rogue_may_also_be_honest() {
    let mut deceived = deceived(100);
    let request = deceived.ask(&Ask::read(deceived.remote, 0, 16));
    deceived.answer(&ok(request.op, 0, 16), &[3; 16]);
    let done = deceived.completions();
    assert!(done.len() == 1 && done[0].is_ok() && done[0].reply == [3; 16]);
    deceived.scene.nobody_noticed();
}

#[test]
fn replies_longer_than_the_landing_place() {
    let mut deceived = deceived(101);
    let request = deceived.ask(&Ask::read(deceived.remote, 0, 16));
    deceived.answer(&ok(request.op, 0, 17), &[3; 17]);
    let done = deceived.completions();
    assert_eq!(done[0].ended(), (Status::ReplyTooLong, Fate::Executed));
    let untouched = deceived.session.landing_place(done[0].token);
    assert!(untouched.iter().all(|byte| *byte == untouched[0]), "nothing was written");
    // A part that lies beyond it.
    let request = deceived.ask(&Ask::read(deceived.remote, 0, 16));
    deceived.answer(&ok(request.op, 1 << 20, (1 << 20) + 8), &[3; 8]);
    assert_eq!(deceived.completions()[0].status, Status::ReplyTooLong);
    deceived.scene.nobody_noticed();
}

#[test]
fn replies_to_ops_that_are_not_its_own() {
    let mut deceived = deceived(102);
    // An op of the honest session to its own target, held up on the way.
    deceived.scene.world.network.set_script(|packet| {
        let held = packet.to.port() == 4791 && packet.to.ip().to_string() == "10.0.0.2";
        if held {
            nic_ports::sim::Verdict::Delay(Span::from_ms(50))
        } else {
            nic_ports::sim::Verdict::Deliver
        }
    });
    let token = deceived.scene.honest.submit(&Ask::read(deceived.scene.remote, 4096, 8));
    deceived.rogue.turns(&mut deceived.scene.world, Span::from_us(20));
    let before = deceived.scene.world.counters(deceived.scene.initiator);
    for slot in 0..20 {
        for generation in 0..4 {
            deceived.answer(&ok(OpId::new(slot, generation), 0, 8), &[0xbd; 8]);
        }
    }
    assert!(deceived.scene.honest.poll().is_empty(), "nobody answers for another");
    let after = deceived.scene.world.counters(deceived.scene.initiator);
    assert!(after.malformed_frames > before.malformed_frames, "one op was hit, and it was seen");
    deceived.scene.world.network.clear_script();
    let done = deceived.scene.world.wait(&mut deceived.scene.honest);
    assert!(done[0].token == token && done[0].is_ok() && done[0].reply != [0xbd; 8]);
    deceived.scene.nobody_noticed();
}

/// The same answer twice, and answers to what was answered.
#[test]
fn replies_that_come_again() {
    let mut deceived = deceived(103);
    let request = deceived.ask(&Ask::read(deceived.remote, 0, 16));
    for _ in 0..3 {
        deceived.answer(&ok(request.op, 0, 16), &[3; 16]);
    }
    assert_eq!(deceived.completions().len(), 1);
    let counters = deceived.scene.world.counters(deceived.scene.initiator);
    assert_eq!(counters.late_replies, 2);
    deceived.scene.nobody_noticed();
}

/// Without the check of generations, this fails.
#[test]
fn replies_that_come_again_do_not_answer_later_ops() {
    let mut deceived = deceived(104);
    let first = deceived.ask(&Ask::read(deceived.remote, 0, 16)).op;
    deceived.answer(&ok(first, 0, 16), &[3; 16]);
    assert_eq!(deceived.completions().len(), 1);
    let next = deceived.ask(&Ask::read(deceived.remote, 64, 16)).op;
    assert_eq!(next.slot(), first.slot(), "the op table gives the slot out again at once");
    deceived.answer(&ok(first, 0, 16), &[3; 16]);
    assert!(deceived.completions().is_empty(), "a former op's reply has answered a later one");
    deceived.answer(&ok(next, 0, 16), &[4; 16]);
    let done = deceived.completions();
    assert!(done.len() == 1 && done[0].is_ok() && done[0].reply == [4; 16]);
    let counters = deceived.scene.world.counters(deceived.scene.initiator);
    assert_eq!(counters.late_replies, 1);
    deceived.scene.nobody_noticed();
}

/// An initiator serves nothing on the flows that it opened.
#[test]
fn requests_where_replies_belong() {
    let mut deceived = deceived(104);
    let memory = {
        let scene = &mut deceived.scene;
        let client = scene.world.add_client(scene.initiator);
        let all = nic_kernels::Access::all();
        scene.world.exported_region(scene.initiator, client, 4096, all)
    };
    let before = deceived.scene.world.counters(deceived.scene.initiator);
    for sequence in 0..50 {
        let request = Request {
            op: OpId::new(sequence as u16, 0),
            kernel: KernelId::READ,
            stream: 0,
            sequence,
            flags: if sequence % 2 == 0 { RequestFlags::empty() } else { RequestFlags::FENCE },
            rkey: memory.1,
            budget_us: 1_000_000,
            reply_capacity: 64,
            payload_length: 0,
            payload_offset: 0,
        };
        let frame = request_frame(&request, &read::Arguments::home(0, 8).encode(), &[]);
        deceived.rogue.send(&deceived.scene.world, &frame);
        deceived.rogue.turns(&mut deceived.scene.world, Span::from_us(20));
    }
    let after = deceived.scene.world.counters(deceived.scene.initiator);
    assert_eq!(after.requests_received, before.requests_received);
    assert_eq!(after.malformed_frames - before.malformed_frames, 50);
    assert_eq!(after.ops_in, 0, "nothing of it is kept");
    deceived.scene.nobody_noticed();
}
