//! A peer that speaks the protocol's packets without an engine's manners: for tests of what an
//! engine does with frames that no engine would send.

use std::collections::VecDeque;
use std::net::SocketAddr;

use nic_engine::Crc32;
use nic_ports::sim::SimPort;
use nic_ports::{Burst, Port, Share};
use nic_transport::{Config, Endpoint, FlowEvent, FlowHandle, Frames, Handled};
use nic_wire::Span;
use nic_wire::frame::{Frame, Reply};
use nic_wire::packet::HEADER_BYTES;

use crate::world::World;

/// A port, the flows of an endpoint, and whatever frames the test makes up.
pub struct Rogue {
    port: SimPort,
    burst: Burst,
    endpoint: Endpoint,
    flow: Option<FlowHandle>,
    /// Replies received, with their data.
    pub replies: VecDeque<(Reply, Vec<u8>)>,
    /// Whether the flow was ended by the other side.
    pub closed: bool,
}

impl Rogue {
    /// A peer at an address of its own.
    pub fn new(world: &World, address: SocketAddr) -> Self {
        let config = Config { receive_window_bytes: 1 << 20, ..Config::default() };
        Rogue {
            port: world.network.port(address).unwrap(),
            burst: Burst::new(64),
            endpoint: Endpoint::new(config, 0, 0x0bad_5eed, 7).unwrap(),
            flow: None,
            replies: VecDeque::new(),
            closed: false,
        }
    }

    /// Opens a flow to an engine.
    pub fn connect(&mut self, world: &mut World, to: SocketAddr) {
        self.endpoint.connect(world.now(), to, None).unwrap();
        self.turns(world, Span::from_ms(50));
        assert!(self.flow.is_some(), "the engine opens a flow for the rogue");
    }

    /// Sends a packet on the flow whose body is `body`.
    pub fn send(&mut self, world: &World, body: &[u8]) {
        let flow = self.endpoint.flow_mut(self.flow.unwrap()).expect("the rogue's flow is there");
        let frame = self.port.allocate(Share::Request).expect("the rogue has frames");
        let length = HEADER_BYTES + body.len();
        self.port.bytes_mut(frame)[HEADER_BYTES..length].copy_from_slice(body);
        flow.send(world.now(), frame, length, &mut self.port, &mut Crc32);
        let to = flow.peer();
        self.port.submit(frame, length, to);
        self.port.release(frame);
        self.port.transmit();
    }

    /// Sends bytes that need not be a packet.
    pub fn send_raw(&mut self, to: SocketAddr, bytes: &[u8]) {
        let frame = self.port.allocate(Share::Control).expect("the rogue has frames");
        self.port.bytes_mut(frame)[..bytes.len()].copy_from_slice(bytes);
        self.port.submit(frame, bytes.len(), to);
        self.port.release(frame);
        self.port.transmit();
    }

    /// Lets time pass, in which the rogue acknowledges and repeats what an honest flow would.
    pub fn turns(&mut self, world: &mut World, span: Span) {
        let end = world.now() + span;
        while world.now() < end {
            world.step();
            self.turn(world);
        }
    }

    fn turn(&mut self, world: &World) {
        let now = world.now();
        self.port.receive(&mut self.burst);
        let mut packets = Vec::new();
        for view in self.burst.views() {
            packets.push((view.from, self.port.view(view).to_vec()));
        }
        self.port.release_burst(&mut self.burst);
        for (from, bytes) in packets {
            let handled = self.endpoint.handle(now, from, &bytes, &mut Crc32, &mut self.port);
            if let Handled::Data { flow, number, body, .. } = handled {
                for frame in nic_wire::frame::Frames::new(&bytes[body]).flatten() {
                    if let Frame::Reply(reply, data) = frame {
                        self.replies.push_back((reply, data.to_vec()));
                    }
                }
                self.endpoint.flow_mut(flow).unwrap().accept(now, number);
            }
        }
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                FlowEvent::Opened { flow, .. } => self.flow = Some(flow),
                FlowEvent::Failed { failure, .. } => panic!("the rogue's flow: {failure}"),
                FlowEvent::Closed { .. } => self.closed = true,
            }
        }
        self.endpoint.on_timeout(now);
        self.send_what_is_owed(world);
        self.port.transmit();
    }

    fn send_what_is_owed(&mut self, world: &World) {
        let now = world.now();
        while let Some(handle) = self.endpoint.poll_work() {
            let Some(flow) = self.endpoint.flow_mut(handle) else { continue };
            let to = flow.peer();
            while let Some((frame, length)) = flow.retransmit(now, &mut self.port, &mut Crc32) {
                self.port.submit(frame, length, to);
            }
            if let Some(frame) = self.port.allocate(Share::Control) {
                let length = flow.write_ack(now, self.port.bytes_mut(frame), &mut Crc32);
                self.port.submit(frame, length, to);
                self.port.release(frame);
            }
        }
        let mut packet = [0; nic_transport::CONTROL_BYTES_MAX];
        while let Some((length, to)) = self.endpoint.poll_control(now, &mut packet, &mut Crc32) {
            let frame = self.port.allocate(Share::Control).expect("the rogue has frames");
            self.port.bytes_mut(frame)[..length].copy_from_slice(&packet[..length]);
            self.port.submit(frame, length, to);
            self.port.release(frame);
        }
    }
}
