//! Two or three ports that reach each other, and how the suite drives them.

use std::net::SocketAddr;
use std::time::Duration;

use nic_ports::{Burst, Port, Share};
use nic_shm::wait_any;
use nic_transport::FrameId;
use nic_wire::ConnectionId;
use nic_wire::packet::{HEADER_BYTES, PacketHeader, PacketKind};

/// Ports that reach each other, freshly opened.
pub struct Pair<P: Port> {
    pub left: P,
    pub right: P,
    /// A further peer of `left`, for ports that have several.
    pub third: Option<P>,
    /// Lets what is under way arrive, for ports whose time is not ours.
    pub pass_time: Box<dyn FnMut()>,
    /// Tells a port that its peer is gone, if it cannot know.
    pub peer_lost: fn(&mut P),
    /// What every share could get at first.
    free: [[usize; 3]; 2],
}

/// How often an empty poll may follow another before a packet counts as lost.
const PATIENCE: usize = 100;
/// The same for ports that are polled, whose waiting takes no time.
const POLLED_PATIENCE: usize = 1_000_000;
/// How often a port is driven until it must have let go of its frames.
const FRAMES_PATIENCE: usize = 100_000;

/// The least that a packet has: what says its length, and the rest of its header.
pub const LEAST: usize = HEADER_BYTES;

/// A packet whose bytes say which it is and where in it each one is.
pub fn contents(number: usize, length: usize) -> Vec<u8> {
    let byte = |place: usize| (number.wrapping_mul(31) + place * 7 + place / 251) as u8;
    let mut bytes: Vec<u8> = (0..length).map(byte).collect();
    PacketHeader::new(PacketKind::Data, ConnectionId::from_raw(number as u64)).write(&mut bytes);
    bytes
}

fn free<P: Port>(port: &P) -> [usize; 3] {
    [Share::Request, Share::Reply, Share::Control].map(|share| port.available(share))
}

/// Allocates and fills a frame, which the caller owns.
pub fn filled<P: Port>(port: &mut P, bytes: &[u8]) -> FrameId {
    let frame = port.allocate(Share::Reply).expect("the suite frees its frames");
    port.bytes_mut(frame)[..bytes.len()].copy_from_slice(bytes);
    frame
}

/// Submits a packet of which the caller keeps nothing.
pub fn submit<P: Port>(port: &mut P, to: SocketAddr, bytes: &[u8]) {
    let frame = filled(port, bytes);
    port.submit(frame, bytes.len(), to);
    port.release(frame);
}

impl<P: Port> Pair<P> {
    pub fn new(left: P, right: P, third: Option<P>) -> Self {
        let free = [free(&left), free(&right)];
        Pair { left, right, third, pass_time: Box::new(|| {}), peer_lost: |_| {}, free }
    }

    /// Turns the pair round.
    pub fn swap(&mut self) {
        std::mem::swap(&mut self.left, &mut self.right);
        self.free.swap(0, 1);
    }

    /// Sends packets from left to right in one transmit.
    pub fn send(&mut self, packets: &[Vec<u8>]) {
        let to = self.right.local_address();
        packets.iter().for_each(|packet| submit(&mut self.left, to, packet));
        self.left.transmit();
    }

    /// One receive by right into `burst`, waiting until there is something.
    pub fn receive(&mut self, burst: &mut Burst) -> usize {
        let Pair { right, pass_time, .. } = self;
        receive(right, burst, pass_time)
    }

    /// Receives `count` packets at right, in bursts of `room`, and sees that no more come.
    pub fn expect(&mut self, count: usize, room: usize) -> Vec<Vec<u8>> {
        let from = self.left.local_address();
        let Pair { right, pass_time, .. } = self;
        expect(right, from, count, room, pass_time)
    }

    /// The same at the third port.
    pub fn expect_at_third(&mut self, count: usize, room: usize) -> Vec<Vec<u8>> {
        let from = self.left.local_address();
        let Pair { third, pass_time, .. } = self;
        expect(third.as_mut().expect("a third port"), from, count, room, pass_time)
    }

    /// Sends packets and sees that they arrive, whole and in order.
    pub fn deliver(&mut self, packets: &[Vec<u8>]) {
        self.send(packets);
        assert_eq!(self.expect(packets.len(), 64), packets);
    }

    /// Lets frames come back that the port still has, and sees that all did.
    pub fn assert_all_free(&mut self) {
        for _ in 0..FRAMES_PATIENCE {
            self.right.transmit();
            self.left.transmit();
            if [free(&self.left), free(&self.right)] == self.free {
                return;
            }
            (self.pass_time)();
        }
        panic!("free now {:?}, at first {:?}", [free(&self.left), free(&self.right)], self.free);
    }

    /// Lets the port finish with a frame.
    pub fn until_sent(&mut self, frame: FrameId) {
        for _ in 0..FRAMES_PATIENCE {
            self.right.transmit();
            self.left.transmit();
            if !self.left.is_queued(frame) {
                return;
            }
            (self.pass_time)();
        }
        panic!("a frame stays queued for ever");
    }
}

fn receive<P: Port>(port: &mut P, burst: &mut Burst, pass_time: &mut dyn FnMut()) -> usize {
    let patience = if port.sleep_max().is_some() { POLLED_PATIENCE } else { PATIENCE };
    for _ in 0..patience {
        let received = port.receive(burst);
        if received > 0 {
            return received;
        }
        pass_time();
        // A sleep, as an idle engine would: it ends with the packet.
        if port.prepare_wait()
            && let Some(descriptor) = port.wait_descriptor()
        {
            wait_any(&[descriptor], Some(Duration::from_millis(100))).unwrap();
        }
        port.end_wait();
    }
    panic!("no packet arrives: {:?}", port.counters());
}

fn expect<P: Port>(
    port: &mut P,
    from: SocketAddr,
    count: usize,
    room: usize,
    pass_time: &mut dyn FnMut(),
) -> Vec<Vec<u8>> {
    let mut burst = Burst::new(room);
    let mut packets = Vec::new();
    while packets.len() < count {
        let received = receive(port, &mut burst, pass_time);
        assert_eq!(received, burst.len());
        for view in burst.views() {
            assert_eq!(view.from, from, "packets say where they come from");
            let bytes = port.view(view);
            assert_eq!(bytes.len(), view.length as usize);
            packets.push(bytes.to_vec());
        }
        port.release_burst(&mut burst);
        assert!(burst.is_empty());
        port.transmit();
    }
    pass_time();
    assert_eq!(port.receive(&mut burst), 0, "nothing but what was sent");
    packets
}
