//! Packets kept whole by a CRC-32: the integrity-only form of protection.

use core::ops::Range;

use nic_transport::{NotAuthentic, Protection};
use nic_wire::packet::HEADER_BYTES;

/// Where the checksum stands in the header.
const CHECK: Range<usize> = 4..8;

/// CRC-32 over every byte of the packet but the checksum's own.
///
/// It guards against accidents, not against people: until peers are authenticated, engines bind
/// loopback only.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crc32;

impl Crc32 {
    /// The four bytes before the checksum seed it, so that one pass covers all the others. They are
    /// mixed first: a CRC's seed acts like its first four bytes, and a bit flipped in both would
    /// cancel out.
    #[inline]
    fn checksum(packet: &[u8]) -> u32 {
        let first = u32::from_le_bytes([packet[0], packet[1], packet[2], packet[3]]);
        let mut hasher = crc32fast::Hasher::new_with_initial(mixed(first));
        hasher.update(&packet[CHECK.end..]);
        hasher.finalize()
    }
}

/// Spreads every bit over the whole word; no two words become the same.
#[inline]
fn mixed(word: u32) -> u32 {
    let word = (word ^ word >> 16).wrapping_mul(0x7feb_352d);
    let word = (word ^ word >> 15).wrapping_mul(0x846c_a68b);
    word ^ word >> 16
}

impl Protection for Crc32 {
    #[inline]
    fn seal(&mut self, packet: &mut [u8]) {
        let checksum = Self::checksum(packet);
        packet[CHECK].copy_from_slice(&checksum.to_le_bytes());
    }

    #[inline]
    fn open(&mut self, packet: &[u8]) -> Result<Range<usize>, NotAuthentic> {
        if packet.len() < HEADER_BYTES || packet[CHECK] != Self::checksum(packet).to_le_bytes() {
            return Err(NotAuthentic);
        }
        Ok(HEADER_BYTES..packet.len())
    }
}

/// What keeps the packets of a port whole.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whole {
    /// Their checksum.
    Checked(Crc32),
    /// That nothing lies between the two ends: the checksum's place holds anything.
    InMemory,
}

impl Protection for Whole {
    #[inline(always)]
    fn seal(&mut self, packet: &mut [u8]) {
        if let Whole::Checked(crc) = self {
            crc.seal(packet);
        }
    }

    #[inline(always)]
    fn open(&mut self, packet: &[u8]) -> Result<Range<usize>, NotAuthentic> {
        match self {
            Whole::Checked(crc) => crc.open(packet),
            Whole::InMemory if packet.len() >= HEADER_BYTES => Ok(HEADER_BYTES..packet.len()),
            Whole::InMemory => Err(NotAuthentic),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_bit_is_noticed() {
        let mut packet = [0x5au8; 200];
        Crc32.seal(&mut packet);
        assert_eq!(Crc32.open(&packet), Ok(HEADER_BYTES..200));
        for bit in 0..200 * 8 {
            packet[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Crc32.open(&packet), Err(NotAuthentic), "bit {bit}");
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(Crc32.open(&packet[..63]), Err(NotAuthentic));
    }

    #[test]
    fn two_bits_do_not_cancel_out() {
        let mut packet = [0u8; 100];
        packet[0] = 1;
        packet[1] = 1;
        Crc32.seal(&mut packet);
        for (one, other) in (0..32).flat_map(|one| (64..64 + 64).map(move |other| (one, other))) {
            packet[one / 8] ^= 1 << (one % 8);
            packet[other / 8] ^= 1 << (other % 8);
            assert_eq!(Crc32.open(&packet), Err(NotAuthentic), "bits {one} and {other}");
            packet[one / 8] ^= 1 << (one % 8);
            packet[other / 8] ^= 1 << (other % 8);
        }
    }
}
