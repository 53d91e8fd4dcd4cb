//! Nothing that strangers send makes an endpoint allocate: what it may ever need was taken at the
//! start.

use std::net::SocketAddr;
use std::thread;

use nic_engine::Crc32;
use nic_ports::Random;
use nic_tests::counting_allocator::{self, CountingAllocator, Seen};
use nic_transport::{CONTROL_BYTES_MAX, Config, Endpoint, FrameId, Handled, Protection, Reclaim};
use nic_wire::handshake::Init;
use nic_wire::packet::{HEADER_BYTES, PacketFlags, PacketHeader, PacketKind};
use nic_wire::{ConnectionId, Span, Time};
use zerocopy::{FromBytes, IntoBytes};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const FLOWS: u16 = 8;
const PACKETS: usize = 20_000;

/// A target never gets frames back of which it has sent none.
struct NoFrames;

impl Reclaim for NoFrames {
    fn reclaim(&mut self, frame: FrameId) {
        panic!("{frame:?} was never sent");
    }
}

/// Handshakes of honest strangers, and packets of all kinds that are right but for their content.
fn packets(random: &mut Random) -> Vec<(SocketAddr, Vec<u8>)> {
    let kinds = [
        PacketKind::Data,
        PacketKind::Init,
        PacketKind::Retry,
        PacketKind::Accept,
        PacketKind::Reset,
        PacketKind::Versions,
    ];
    let packet = |_| {
        let from = SocketAddr::from(([10, 8, 0, random.below(40) as u8], 4791));
        let kind = kinds[random.below(6) as usize];
        let id = ConnectionId::new(0, random.below(FLOWS.into()) as u16, random.next());
        let mut bytes: Vec<u8> = (0..140).map(|_| random.next() as u8).collect();
        PacketHeader::new(kind, id).write(&mut bytes);
        if kind == PacketKind::Init && random.below(2) == 0 {
            let init = Init {
                initiator_id: random.next().into(),
                versions: Config::default().versions,
                first_packet_number: random.below(1 << 40).into(),
                packet_bytes: 1400.into(),
                wanted_engine: 0xffff.into(),
                ..Init::read_from_bytes(&bytes[HEADER_BYTES..][..64]).unwrap()
            };
            bytes[HEADER_BYTES..][..64].copy_from_slice(init.as_bytes());
        }
        Crc32.seal(&mut bytes);
        (from, bytes)
    };
    (0..PACKETS).map(packet).collect()
}

/// Makes a data packet one of a flow that there is, with a number that can be, and sometimes acks
/// that cannot.
fn impersonate(target: &Endpoint, number: usize, from: &mut SocketAddr, bytes: &mut [u8]) {
    let Some((_, flow)) = target.iter().nth(number % usize::from(FLOWS)) else { return };
    let mut header = PacketHeader::new(PacketKind::Data, flow.local_id());
    let acks = if number.is_multiple_of(3) { PacketFlags::ACKS } else { PacketFlags::ACK_NOW };
    header.flags = (PacketFlags::NUMBERED | acks).bits().into();
    header.packet_number = (flow.expected() as u32).wrapping_add(number as u32 % 160).into();
    header.write(bytes);
    Crc32.seal(bytes);
    *from = flow.peer();
}

/// Initiators that ask for flows, more than there is room for, and never hear of it again.
fn knock(target: &mut Endpoint, now: Time, initiators: &mut [Endpoint], at: SocketAddr) {
    let mut packet = [0; CONTROL_BYTES_MAX];
    for (number, initiator) in initiators.iter_mut().enumerate() {
        let from = SocketAddr::from(([10, 8, 1, number as u8], 4791));
        let _ = initiator.connect(now, at, None);
        for _ in 0..2 {
            while let Some((length, _)) = initiator.poll_control(now, &mut packet, &mut Crc32) {
                target.handle(now, from, &packet[..length], &mut Crc32, &mut NoFrames);
            }
            while let Some((length, to)) = target.poll_control(now, &mut packet, &mut Crc32) {
                if to == from {
                    initiator.handle(now, at, &packet[..length], &mut Crc32, &mut NoFrames);
                }
            }
        }
    }
}

fn turn(target: &mut Endpoint, now: Time) {
    let mut packet = [0; CONTROL_BYTES_MAX];
    while target.poll_event().is_some() {}
    target.on_timeout(now);
    while let Some(handle) = target.poll_work() {
        if let Some(flow) = target.flow_mut(handle) {
            flow.write_ack(now, &mut packet, &mut Crc32);
        }
    }
    while target.poll_control(now, &mut packet, &mut Crc32).is_some() {}
}

/// Lives through it all on a thread of its own, which is watched from its first packet on.
fn molested() -> (Seen, u64, u64) {
    let config = Config { flows_max: FLOWS, control_max: 16, ..Config::default() };
    let new = |seed| Endpoint::new(config.clone(), 0, seed, seed).unwrap();
    let mut target = new(1);
    let mut initiators: Vec<_> = (2..20).map(new).collect();
    let mut packets = packets(&mut Random::new(180));
    let mut now = Time::from_ns(1_000_000_000);
    let (mut taken, mut dropped) = (0, 0);
    let before = counting_allocator::seen();
    counting_allocator::watch_this_thread();
    knock(&mut target, now, &mut initiators, SocketAddr::from(([10, 8, 2, 1], 4791)));
    for (number, (from, bytes)) in packets.iter_mut().enumerate() {
        if bytes[1] == PacketKind::Data as u8 && !number.is_multiple_of(8) {
            impersonate(&target, number, from, bytes);
        }
        match target.handle(now, *from, bytes, &mut Crc32, &mut NoFrames) {
            Handled::Dropped(_) => dropped += 1,
            Handled::Data { flow, number, .. } => {
                taken += u64::from(target.flow_mut(flow).unwrap().accept(now, number));
            }
            Handled::Ack { .. } | Handled::Control => taken += 1,
            Handled::Foreign { .. } => {}
        }
        // Bursts longer than the queue of answers.
        if number.is_multiple_of(50) {
            now += Span::from_us(300);
            turn(&mut target, now);
        }
    }
    let after = counting_allocator::seen();
    assert_eq!(before, Seen::default(), "nobody else is watched");
    assert_eq!(target.flows(), usize::from(FLOWS), "its table is full");
    (after, taken, dropped)
}

#[test]
fn hostile_packets_allocate_nothing() {
    let (seen, taken, dropped) = thread::spawn(molested).join().unwrap();
    assert_eq!((seen.allocations, seen.frees), (0, 0), "{seen:?}");
    assert!(taken > 1_000 && dropped > 1_000, "{taken} and {dropped}");
}
