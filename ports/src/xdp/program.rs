//! The program that the kernel runs for each arriving frame: what is for the engines goes to
//! their sockets, everything else to the kernel as ever.

use std::net::IpAddr;
use std::os::fd::RawFd;

use super::assembler::{Assembler, Instruction, Label, R1, R2, R3, R4, R5, R6, Size};

/// The number of `bpf_redirect_map` among the kernel's functions.
const REDIRECT_MAP: i32 = 51;
/// "Go on as if there were no program."
const XDP_PASS: i32 = 2;

/// Where the fields of `struct xdp_md` are.
const CONTEXT_DATA: i16 = 0;
const CONTEXT_DATA_END: i16 = 4;
const CONTEXT_RX_QUEUE: i16 = 16;

const ETHERNET_BYTES: i16 = 14;
const VLAN_BYTES: i16 = 4;
const IPV4_BYTES: i16 = 20;
const IPV6_BYTES: i16 = 40;
const UDP_BYTES: i16 = 8;
const PROTOCOL_UDP: u32 = 17;

/// Which frames are for the engines of this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steering {
    pub(super) address: IpAddr,
    /// The first of `ports` consecutive UDP ports.
    pub(super) first_port: u16,
    pub(super) ports: u16,
    /// Only frames with this VLAN's tag, or only such without one.
    pub(super) vlan: Option<u16>,
}

impl Steering {
    /// The program, which sends frames to the socket that `map` has for the queue on which they
    /// arrived.
    pub(super) fn assemble(&self, map: RawFd) -> Vec<Instruction> {
        let mut program = Assembler::default();
        let pass = program.label();
        let ip = ETHERNET_BYTES + if self.vlan.is_some() { VLAN_BYTES } else { 0 };
        let ip_bytes = if self.address.is_ipv4() { IPV4_BYTES } else { IPV6_BYTES };

        // R2: the frame. All headers must be there.
        program.copy(R6, R1);
        program.load(Size::Word, R2, R1, CONTEXT_DATA);
        program.load(Size::Word, R3, R1, CONTEXT_DATA_END);
        program.copy(R4, R2);
        program.add(R4, (ip + ip_bytes + UDP_BYTES).into());
        program.jump_if_above(R4, R3, pass);

        self.check_link(&mut program, pass);
        match self.address {
            IpAddr::V4(address) => check_ipv4(&mut program, ip, address.octets(), pass),
            IpAddr::V6(address) => check_ipv6(&mut program, ip, address.octets(), pass),
        }

        // The destination port counts from our first; below it, it is a very large number.
        program.load(Size::Half, R5, R2, ip + ip_bytes + 2);
        program.swap_to_host_order(R5);
        program.subtract(R5, self.first_port.into());
        program.jump_if_at_least(R5, self.ports.into(), pass);

        // return bpf_redirect_map(map, rx_queue, otherwise XDP_PASS)
        program.load_map(R1, map);
        program.load(Size::Word, R2, R6, CONTEXT_RX_QUEUE);
        program.set(R3, XDP_PASS);
        program.call(REDIRECT_MAP);
        program.exit();

        program.place(pass);
        program.set(super::assembler::R0, XDP_PASS);
        program.exit();
        program.finish()
    }

    fn check_link(&self, program: &mut Assembler, pass: Label) {
        let ethertype = if self.address.is_ipv4() { 0x0800u16 } else { 0x86dd };
        program.load(Size::Half, R5, R2, 12);
        let Some(vlan) = self.vlan else {
            return program.jump_if_not(R5, ethertype.to_be().into(), pass);
        };
        program.jump_if_not(R5, 0x8100u16.to_be().into(), pass);
        program.load(Size::Half, R5, R2, 14);
        program.swap_to_host_order(R5);
        // Priority bits do not matter.
        program.mask(R5, 0xfff);
        program.jump_if_not(R5, vlan.into(), pass);
        program.load(Size::Half, R5, R2, 16);
        program.jump_if_not(R5, ethertype.to_be().into(), pass);
    }
}

/// UDP without options and fragments, to our address.
fn check_ipv4(program: &mut Assembler, ip: i16, address: [u8; 4], pass: Label) {
    program.load(Size::Byte, R5, R2, ip);
    program.jump_if_not(R5, 0x45, pass);
    program.load(Size::Half, R5, R2, ip + 6);
    // "More fragments" and the fragment's offset.
    program.mask(R5, 0x3fffu16.to_be().into());
    program.jump_if_not(R5, 0, pass);
    program.load(Size::Byte, R5, R2, ip + 9);
    program.jump_if_not(R5, PROTOCOL_UDP, pass);
    program.load(Size::Word, R5, R2, ip + 16);
    program.jump_if_not(R5, u32::from_ne_bytes(address), pass);
}

/// UDP without extension headers, to our address.
fn check_ipv6(program: &mut Assembler, ip: i16, address: [u8; 16], pass: Label) {
    program.load(Size::Byte, R5, R2, ip);
    program.mask(R5, 0xf0);
    program.jump_if_not(R5, 0x60, pass);
    program.load(Size::Byte, R5, R2, ip + 6);
    program.jump_if_not(R5, PROTOCOL_UDP, pass);
    let (words, _) = address.as_chunks::<4>();
    for (place, word) in words.iter().enumerate() {
        program.load(Size::Word, R5, R2, ip + 24 + 4 * place as i16);
        program.jump_if_not(R5, u32::from_ne_bytes(*word), pass);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::MacAddress;
    use crate::link::{Endpoint, Header};

    /// Where the program finds its frame and its context.
    const FRAME: u64 = 0x1000;
    const CONTEXT: u64 = 0x10_0000;

    /// Runs a program on a frame. True: it asks for the socket of the frame's queue.
    fn steers(program: &[Instruction], frame: &[u8]) -> bool {
        let mut registers = [0u64; 11];
        registers[1] = CONTEXT;
        let mut next = 0;
        loop {
            let (code, to, from, offset, immediate) = program[next].parts();
            next += 1;
            let value = i64::from(immediate) as u64;
            let address = registers[from].wrapping_add_signed(offset.into());
            let jumps = match code {
                0x2d => registers[to] > registers[from],
                0x35 => registers[to] >= value,
                0x56 => registers[to] as u32 != value as u32,
                _ => false,
            };
            registers[to] = match code {
                0x2d | 0x35 | 0x56 => registers[to],
                0x61 if address == CONTEXT => FRAME,
                0x61 if address == CONTEXT + 4 => FRAME + frame.len() as u64,
                0x61 if address == CONTEXT + 16 => 3,
                0x61 => loaded(frame, address, 4),
                0x69 => loaded(frame, address, 2),
                0x71 => loaded(frame, address, 1),
                0xbf => registers[from],
                0xb7 => value,
                0x07 => registers[to].wrapping_add(value),
                0x17 => registers[to].wrapping_sub(value),
                0x57 => registers[to] & value,
                0xdc => u16::from_be(registers[to] as u16).into(),
                0x18 => {
                    next += 1;
                    value
                }
                0x85 => {
                    assert_eq!((registers[1], registers[2], registers[3]), (77, 3, 2));
                    return true;
                }
                0x95 => {
                    assert_eq!(registers[0], 2, "everything else passes");
                    return false;
                }
                _ => panic!("an instruction that programs have not: {code:#x}"),
            };
            if jumps {
                next = next.checked_add_signed(offset.into()).unwrap();
            }
        }
    }

    /// Bytes of the frame, which must be there: the kernel's verifier sees to it.
    fn loaded(frame: &[u8], address: u64, length: usize) -> u64 {
        let at = (address - FRAME) as usize;
        let mut word = [0; 8];
        word[..length].copy_from_slice(&frame[at..at + length]);
        u64::from_le_bytes(word)
    }

    fn frame(to: SocketAddr, vlan: Option<u16>) -> Vec<u8> {
        let from = if to.is_ipv4() { "10.0.0.9:1000" } else { "[fd00::9]:1000" };
        let endpoint = Endpoint { mac: MacAddress([2; 6]), address: from.parse().unwrap(), vlan };
        let header = Header::new(&endpoint, to, MacAddress([4; 6])).unwrap();
        let mut headroom = [0; 80];
        let written = header.write(&mut headroom, b"packet");
        [&headroom[80 - written..], b"packet"].concat()
    }

    #[test]
    fn what_is_for_an_engine_is_steered_and_nothing_else() {
        for (ip, other) in [("10.0.0.200", "10.0.0.201"), ("fd00::80", "fd00::81")] {
            let (ip, other): (IpAddr, IpAddr) = (ip.parse().unwrap(), other.parse().unwrap());
            for vlan in [None, Some(5)] {
                let steering = Steering { address: ip, first_port: 40_000, ports: 3, vlan };
                let program = steering.assemble(77);
                let is_steered = |to: SocketAddr, vlan| steers(&program, &frame(to, vlan));
                for (port, expected) in
                    [(39_999, false), (40_000, true), (40_002, true), (40_003, false), (1, false)]
                {
                    assert_eq!(is_steered((ip, port).into(), vlan), expected, "{ip} {port}");
                    assert!(!is_steered((other, port).into(), vlan));
                }
                let to = (ip, 40_001).into();
                assert!(!is_steered(to, if vlan.is_some() { None } else { Some(5) }));
                assert!(!is_steered(to, Some(6)));
                changes_are_noticed(&program, &frame(to, vlan), vlan);
            }
        }
    }

    /// Each bit that a program looks at makes a difference, and no frame is too short.
    fn changes_are_noticed(program: &[Instruction], whole: &[u8], vlan: Option<u16>) {
        assert!(steers(program, whole));
        let ip = if vlan.is_some() { 18 } else { 14 };
        let is_ipv4 = whole[ip] >> 4 == 4;
        // Ethernet type; version; protocol; fragment; destination.
        let places: &[(usize, u8)] = if is_ipv4 {
            &[(0, 0x10), (0, 1), (6, 0x20), (6, 1), (7, 1), (9, 1), (16, 1), (19, 0x80)]
        } else {
            &[(0, 0x10), (6, 1), (24, 1), (31, 1), (32, 0x80), (39, 1)]
        };
        let places = places.iter().map(|(place, bit)| (ip + place, *bit));
        for (place, bit) in places.chain([(ip - 2, 1), (ip - 1, 1)]) {
            let mut changed = whole.to_vec();
            changed[place] ^= bit;
            assert!(!steers(program, &changed), "byte {place}");
        }
        // "Don't fragment" is no fragment; a VLAN's priority is no other VLAN.
        let mut changed = whole.to_vec();
        if is_ipv4 {
            changed[ip + 6] ^= 0x40;
        }
        if vlan.is_some() {
            changed[14] |= 0xe0;
        }
        assert!(steers(program, &changed));
        let headers = whole.len() - b"packet".len();
        for length in 0..headers {
            assert!(!steers(program, &whole[..length]), "{length} bytes");
        }
        assert!(steers(program, &whole[..headers]));
    }
}
