//! Packets, their op frames, and the bodies that open and close flows.

use nic_wire::frame::{
    Frame, Frames, MAX_ARGUMENT_BYTES, REPLY_BYTES, REQUEST_BYTES, Reply, Request, RequestFlags,
    reply_bytes, request_bytes, write_pad, write_reply, write_request,
};
use nic_wire::handshake::{Accept, Init, ResetReason, Retry, Versions};
use nic_wire::packet::{
    HEADER_BYTES, MAX_PACKET_BYTES, Packet, PacketHeader, PacketKind, expand_number, first_length,
};
use nic_wire::{ConnectionId, Fate, KernelId, OpId, Rkey, Status};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ITERATIONS;
use crate::mutation::{Mutation, mutate};

/// What a valid packet is made of.
#[derive(Clone, Debug, bolero::TypeGenerator)]
struct Parts {
    header: [u8; 24],
    frames: Vec<FrameParts>,
    is_padded: bool,
}

#[derive(Clone, Debug, bolero::TypeGenerator)]
struct FrameParts {
    is_reply: bool,
    numbers: [u8; 28],
    arguments: Vec<u8>,
    chunk: Vec<u8>,
    /// How much more than this chunk the whole is.
    beyond: u16,
}

impl FrameParts {
    fn number(&self, place: usize) -> u32 {
        u32::from_le_bytes(self.numbers[place..place + 4].try_into().unwrap())
    }

    fn arguments(&self) -> &[u8] {
        &self.arguments[..self.arguments.len().min(MAX_ARGUMENT_BYTES)]
    }

    fn chunk(&self) -> &[u8] {
        &self.chunk[..self.chunk.len().min(600)]
    }

    fn frame(&self) -> Frame<'_> {
        let offset = self.number(0) % 1_000_000;
        let total = offset + self.chunk().len() as u32 + u32::from(self.beyond);
        let op = OpId::from_raw(self.number(4));
        if self.is_reply {
            let status = Status::ALL[self.number(8) as usize % Status::ALL.len()];
            let fate = Fate::ALL[self.number(8) as usize % Fate::ALL.len()];
            let service_ns = self.number(12);
            return Frame::Reply(
                Reply { op, status, fate, offset, total, service_ns },
                self.chunk(),
            );
        }
        let request = Request {
            op,
            kernel: KernelId(self.number(8) as u16),
            stream: self.number(12) as u16,
            sequence: self.number(16),
            flags: RequestFlags::from_bits_truncate(self.numbers[14]),
            rkey: Rkey::read_from_bytes(&self.numbers[16..28]).unwrap(),
            budget_us: self.number(20),
            reply_capacity: self.number(24),
            payload_length: total,
            payload_offset: offset,
        };
        Frame::Request(request, self.arguments(), self.chunk())
    }
}

/// Writes a frame; `None` if it does not fit.
fn emit(frame: &Frame<'_>, into: &mut [u8]) -> Option<usize> {
    match frame {
        Frame::Request(request, arguments, chunk) => {
            let fill = |place: &mut [u8]| place.copy_from_slice(chunk);
            write_request(into, request, arguments, chunk.len(), fill)
        }
        Frame::Reply(reply, data) => {
            write_reply(into, reply, data.len(), |place| place.copy_from_slice(data))
        }
    }
}

fn frame_bytes(frame: &Frame<'_>) -> usize {
    match frame {
        Frame::Request(_, arguments, chunk) => request_bytes(arguments.len(), chunk.len()),
        Frame::Reply(_, data) => reply_bytes(data.len()),
    }
}

impl Parts {
    /// The packet, and how many of the frames found room in it.
    fn packet(&self) -> (Vec<u8>, usize) {
        let raw = u64::from_le_bytes(self.header[..8].try_into().unwrap());
        let mut header = PacketHeader::new(PacketKind::Data, ConnectionId::from_raw(raw));
        header.flags = u16::from_le_bytes([self.header[8], self.header[9]]).into();
        header.packet_number = u32::from_le_bytes(self.header[12..16].try_into().unwrap()).into();
        header.acknowledged = u32::from_le_bytes(self.header[16..20].try_into().unwrap()).into();
        header.age_us = u32::from_le_bytes(self.header[20..24].try_into().unwrap()).into();
        let mut bytes = vec![0xee; MAX_PACKET_BYTES];
        let (mut used, mut count) = (HEADER_BYTES, 0);
        for parts in &self.frames {
            let frame = parts.frame();
            let Some(room) = emit(&frame, &mut bytes[used..]) else { break };
            assert_eq!(room, frame_bytes(&frame));
            (used, count) = (used + room, count + 1);
        }
        if self.is_padded {
            write_pad(&mut bytes[used..]);
        } else {
            bytes.truncate(used);
        }
        header.write(&mut bytes);
        (bytes, count)
    }
}

/// Makes a packet say how long it is; its flags stay as they are.
fn set_length(packet: &mut [u8]) {
    let word = (packet.len() as u16) << 4 | u16::from(packet[2] & 15);
    packet[2..4].copy_from_slice(&word.to_le_bytes());
}

/// Looks at bytes as an engine would, and checks that all that is understood is written again as
/// it was. Returns how many frames were understood.
fn examine(bytes: &[u8]) -> usize {
    if let Some(length) = first_length(bytes) {
        assert!((HEADER_BYTES..=bytes.len()).contains(&length), "a packet beyond its run");
    }
    let Ok(packet) = Packet::parse(bytes) else { return 0 };
    assert_eq!(first_length(bytes), Some(bytes.len()));
    assert_eq!(packet.header.kind, packet.kind as u8);
    let mut copy = bytes.to_vec();
    copy[..HEADER_BYTES].fill(0);
    packet.header.write(&mut copy);
    assert_eq!(copy, bytes, "a header is written as it was read");
    let near = packet.header.connection_id.get();
    let number = expand_number(packet.header.packet_number.get(), near);
    assert_eq!(number as u32, packet.header.packet_number.get());
    examine_body(packet.kind, packet.body);
    let (mut understood, mut left) = (0, packet.body.len());
    for frame in Frames::new(packet.body) {
        let Ok(frame) = frame else { continue };
        let room = frame_bytes(&frame);
        let least = if matches!(frame, Frame::Reply(..)) { REPLY_BYTES } else { REQUEST_BYTES };
        assert!((least..=left.next_multiple_of(8)).contains(&room), "a frame beyond its packet");
        left = left.saturating_sub(room);
        let mut again = vec![0xee; room];
        assert_eq!(emit(&frame, &mut again), Some(room));
        assert_eq!(
            Frames::new(&again).next(),
            Some(Ok(frame)),
            "a frame is read as it was written"
        );
        understood += 1;
    }
    understood
}

/// The bodies of handshake packets are read at fixed places; what is behind them means nothing.
fn examine_body(kind: PacketKind, body: &[u8]) {
    match kind {
        PacketKind::Data => {}
        PacketKind::Init => comes_back::<Init>(body),
        PacketKind::Retry => comes_back::<Retry>(body),
        PacketKind::Accept => comes_back::<Accept>(body),
        PacketKind::Versions => comes_back::<Versions>(body),
        PacketKind::Reset => {
            comes_back::<nic_wire::handshake::Reset>(body);
            if let Ok((reset, _)) = nic_wire::handshake::Reset::ref_from_prefix(body) {
                let (code, reason) =
                    (reset.reason.get(), ResetReason::from_code(reset.reason.get()));
                assert!(reason as u16 == code || reason == ResetReason::UnknownFlow);
            }
        }
    }
}

fn comes_back<T: FromBytes + IntoBytes + KnownLayout + Immutable>(body: &[u8]) {
    match T::read_from_prefix(body) {
        Ok((value, _)) => assert_eq!(value.as_bytes(), &body[..size_of::<T>()]),
        Err(_) => assert!(body.len() < size_of::<T>()),
    }
}

#[test]
fn bytes_as_packets() {
    bolero::check!().with_iterations(ITERATIONS).for_each(|bytes: &[u8]| {
        examine(bytes);
        // The same with a beginning that is right, so that the rest is looked at.
        let mut packet = bytes[..bytes.len().min(MAX_PACKET_BYTES)].to_vec();
        if let [version, kind, _, _, ..] = packet.as_mut_slice() {
            (*version, *kind) = (nic_wire::WIRE_VERSION, 1 + *kind % 6);
            set_length(&mut packet);
            examine(&packet);
        }
        if packet.len() >= HEADER_BYTES {
            let flags = u16::from(packet[2] & 15) | (packet.len() as u16) << 4;
            packet[2..4].copy_from_slice(&flags.to_le_bytes());
            examine(&packet);
        }
        assert!(Frames::new(bytes).count() <= bytes.len() / 8 + 1, "frames come to an end");
    });
}

#[test]
fn packets_come_back() {
    bolero::check!().with_iterations(ITERATIONS).with_type::<Parts>().for_each(|parts| {
        let (bytes, count) = parts.packet();
        assert_eq!(examine(&bytes), count);
        let read = Frames::new(&bytes[HEADER_BYTES..]).map(Result::unwrap);
        assert!(read.eq(parts.frames[..count].iter().map(FrameParts::frame)));
    });
}

#[test]
fn changed_packets() {
    let input = bolero::check!().with_iterations(ITERATIONS).with_type::<(Parts, Vec<Mutation>)>();
    input.for_each(|(parts, mutations)| {
        let mut bytes = parts.packet().0;
        mutate(&mut bytes, mutations);
        examine(&bytes);
        if (HEADER_BYTES..=MAX_PACKET_BYTES).contains(&bytes.len()) {
            set_length(&mut bytes);
            examine(&bytes);
        }
    });
}

/// The corpus is of this version's packets, so that changes of it reach everywhere.
#[test]
fn the_corpus_is_understood() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fuzz/__fuzz__/packets__bytes_as_packets/corpus"
    );
    let mut kinds = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let packet = Packet::parse(&bytes).unwrap();
        kinds.insert(packet.kind as u8);
        if packet.kind == PacketKind::Data {
            let frames: Vec<_> = Frames::new(packet.body).collect();
            assert!(frames.iter().all(Result::is_ok), "{path:?}: {frames:?}");
            assert_eq!(frames.is_empty(), path.ends_with("lone-ack"), "{path:?}");
        }
    }
    assert_eq!(kinds.len(), 6, "a packet of each kind");
}
