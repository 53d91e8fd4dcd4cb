//! A peer that speaks the protocol's packets without an engine's manners: for tests of what an
//! engine does with frames that no engine would send.

use std::collections::VecDeque;
use std::net::SocketAddr;

use nic_engine::Crc32;
use nic_ports::sim::SimPort;
use nic_ports::{Burst, Port, Share};
use nic_transport::{Config, ConnectFailure, Endpoint, FlowEvent, FlowHandle, Frames, Handled};
use nic_wire::Span;
use nic_wire::frame::{Frame, Reply, Request, request_bytes, write_request};
use nic_wire::handshake::ResetReason;
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
    /// Requests received, with their arguments: of a rogue that engines connect to.
    pub requests: VecDeque<(Request, Vec<u8>)>,
    /// Why no flow could be opened.
    pub failure: Option<ConnectFailure>,
    /// Whether the flow was ended by the other side.
    pub closed: bool,
}

/// A request frame as it stands in a packet.
pub fn request_frame(request: &Request, arguments: &[u8], chunk: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; request_bytes(arguments.len(), chunk.len())];
    let fill = |into: &mut [u8]| into.copy_from_slice(chunk);
    write_request(&mut frame, request, arguments, chunk.len(), fill).expect("room for the frame");
    frame
}

impl Rogue {
    /// A peer at an address of its own.
    pub fn new(world: &World, address: SocketAddr) -> Self {
        Rogue::with_config(world, address, Config::default())
    }

    /// A peer with its own ideas of a flow.
    pub fn with_config(world: &World, address: SocketAddr, config: Config) -> Self {
        let config = Config { receive_window_bytes: 1 << 20, ..config };
        Rogue {
            port: world.network.port(address).unwrap(),
            burst: Burst::new(64),
            endpoint: Endpoint::new(config, 0, 0x0bad_5eed, 7).unwrap(),
            flow: None,
            replies: VecDeque::new(),
            requests: VecDeque::new(),
            failure: None,
            closed: false,
        }
    }

    /// Opens a flow to an engine. Whether that worked.
    pub fn connect(&mut self, world: &mut World, to: SocketAddr) -> bool {
        self.flow = None;
        self.endpoint.connect(world.now(), to, None).unwrap();
        self.turn(world);
        self.turns(world, Span::from_ms(2));
        self.flow.is_some()
    }

    /// Ends the flow.
    pub fn close(&mut self, world: &mut World) {
        let flow = self.flow.take().expect("the rogue has a flow");
        self.endpoint.close(flow, ResetReason::Closing);
        self.endpoint.remove(flow, &mut self.port);
        self.turn(world);
        self.turns(world, Span::from_ms(1));
    }

    /// Whether an engine has opened a flow to here, or the other way round.
    pub fn has_flow(&self) -> bool {
        self.flow.is_some()
    }

    /// Whether the flow has room for another packet.
    pub fn may_send(&self) -> bool {
        let flow = self.flow.and_then(|flow| self.endpoint.flow(flow));
        flow.is_some_and(|flow| flow.may_send(flow.packet_bytes()))
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
                    match frame {
                        Frame::Reply(reply, data) => {
                            self.replies.push_back((reply, data.to_vec()));
                        }
                        Frame::Request(request, arguments, _) => {
                            self.requests.push_back((request, arguments.to_vec()));
                        }
                    }
                }
                self.endpoint.flow_mut(flow).unwrap().accept(now, number);
            }
        }
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                FlowEvent::Opened { flow, .. } => self.flow = Some(flow),
                FlowEvent::Failed { failure, .. } => self.failure = Some(failure),
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
