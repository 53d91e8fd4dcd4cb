//! Between a peer and the engine: every packet passes here, and some are changed, doubled, lost, or
//! kept and sent again later from elsewhere. What is changed is mostly sealed anew, so that it is
//! believed.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use nic_engine::Crc32;
use nic_ports::Random;
use nic_shm::wait_any;
use nic_transport::Protection;
use nic_wire::handshake::Accept;
use nic_wire::packet::{HEADER_BYTES, PacketKind};
use zerocopy::FromBytes;

use super::owner::is_marked;

/// Packets that are kept.
const KEPT: usize = 64;
/// How long it waits for packets before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);
const LOOPBACK: (&str, u16) = ("127.0.0.1", 0);

/// What it counts, and when it is to end.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) is_over: AtomicBool,
    pub(super) passed: AtomicU64,
    pub(super) changed: AtomicU64,
    /// Packets in which there were bytes of a canary.
    pub(super) leaks: AtomicU64,
}

pub(super) struct Relay {
    /// Whom the peer takes for the engine.
    inward: UdpSocket,
    /// Whom the engine takes for the peer.
    outward: UdpSocket,
    /// Who is neither.
    elsewhere: UdpSocket,
    engine: SocketAddr,
    /// Where the peer is, once it has said something.
    peer: Option<SocketAddr>,
    /// Who else is sent packets that were kept.
    bystander: SocketAddr,
    random: Random,
    kept: VecDeque<Vec<u8>>,
    shared: Arc<Shared>,
}

impl Relay {
    /// Begins to pass packets on. Where the peer is to send them.
    pub(super) fn begin(
        engine: SocketAddr,
        bystander: SocketAddr,
        seed: u64,
        shared: Arc<Shared>,
    ) -> Result<SocketAddr> {
        let relay = Relay {
            inward: UdpSocket::bind(LOOPBACK)?,
            outward: UdpSocket::bind(LOOPBACK)?,
            elsewhere: UdpSocket::bind(LOOPBACK)?,
            engine,
            peer: None,
            bystander,
            random: Random::new(seed),
            kept: VecDeque::with_capacity(KEPT),
            shared,
        };
        relay.inward.set_nonblocking(true)?;
        relay.outward.set_nonblocking(true)?;
        let address = relay.inward.local_addr()?;
        std::thread::spawn(move || relay.run());
        Ok(address)
    }

    fn run(mut self) {
        let mut buffer = [0; 1 << 16];
        while !self.shared.is_over.load(Ordering::Relaxed) {
            // A socket that fails has something: the reason is of no interest here.
            let _ = wait_any(&[self.inward.as_fd(), self.outward.as_fd()], Some(LOOK));
            while let Ok((length, from)) = self.inward.recv_from(&mut buffer) {
                self.peer = Some(from);
                self.pass(buffer[..length].to_vec(), true);
            }
            while let Ok((length, _)) = self.outward.recv_from(&mut buffer) {
                let leaks = u64::from(is_marked(&buffer[..length]));
                self.shared.leaks.fetch_add(leaks, Ordering::Relaxed);
                self.pass(buffer[..length].to_vec(), false);
            }
        }
    }

    /// One packet to the engine, or from it.
    fn pass(&mut self, mut packet: Vec<u8>, is_to_engine: bool) {
        self.shared.passed.fetch_add(1, Ordering::Relaxed);
        if !is_to_engine {
            self.claim(&mut packet);
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(packet.clone());
        match self.random.below(16) {
            0..2 => {
                change(&mut packet, &mut self.random);
                self.shared.changed.fetch_add(1, Ordering::Relaxed);
            }
            2 => return,
            3 => self.send(&packet, is_to_engine),
            4 => self.send_again(),
            _ => {}
        }
        self.send(&packet, is_to_engine);
    }

    fn send(&self, packet: &[u8], is_to_engine: bool) {
        // What cannot be sent is lost, as packets are.
        let _ = match (is_to_engine, self.peer) {
            (true, _) => self.outward.send_to(packet, self.engine),
            (false, Some(peer)) => self.inward.send_to(packet, peer),
            (false, None) => Ok(0),
        };
    }

    /// Some packet of before, changed or not, to anyone, from anywhere.
    fn send_again(&mut self) {
        let place = self.random.below(self.kept.len() as u64) as usize;
        let mut packet = self.kept[place].clone();
        if self.random.below(2) == 0 {
            change(&mut packet, &mut self.random);
        }
        let to = [self.engine, self.bystander][self.random.below(2) as usize];
        let socket = [&self.outward, &self.elsewhere][self.random.below(2) as usize];
        let _ = socket.send_to(&packet, to);
    }

    /// The peer is to send to us what follows, too.
    fn claim(&self, packet: &mut [u8]) {
        let Ok(own) = self.inward.local_addr() else { return };
        if packet.len() > HEADER_BYTES
            && packet[1] == PacketKind::Accept as u8
            && let Ok((accept, _)) = Accept::mut_from_prefix(&mut packet[HEADER_BYTES..])
        {
            accept.port = own.port().into();
            Crc32.seal(packet);
        }
    }
}

/// Changes a packet's bytes; what is not sealed again fails its checksum.
pub(super) fn change(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    for _ in 0..1 + random.below(4) {
        let place = random.below(bytes.len() as u64) as usize;
        bytes[place] = match random.below(4) {
            0 => 0,
            1 => 0xff,
            2 => bytes[place] ^ 1 << random.below(8),
            _ => random.next() as u8,
        };
    }
    if random.below(8) == 0 {
        let least = HEADER_BYTES as u64;
        bytes.truncate((least + random.below(bytes.len() as u64 - least + 1)) as usize);
        state_length(bytes);
    }
    if random.below(6) != 0 {
        Crc32.seal(bytes);
    }
}

/// Has a packet say how long it is.
pub(super) fn state_length(bytes: &mut [u8]) {
    let flags = u16::from(bytes[2] & 15) | (bytes.len() as u16) << 4;
    bytes[2..4].copy_from_slice(&flags.to_le_bytes());
}
