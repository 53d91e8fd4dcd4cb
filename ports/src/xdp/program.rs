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
    use super::*;

    #[test]
    fn programs_are_short() {
        for (address, vlan, length) in
            [("10.0.0.1", None, 31), ("10.0.0.1", Some(5), 36), ("fd00::1", Some(5), 41)]
        {
            let address = address.parse().unwrap();
            let steering = Steering { address, first_port: 4791, ports: 2, vlan };
            assert_eq!(steering.assemble(3).len(), length, "{steering:?}");
        }
    }
}
