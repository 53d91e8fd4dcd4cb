//! The bytes of packets that are under way.

use std::net::SocketAddr;

use nic_wire::packet::MAX_PACKET_BYTES;

/// A packet under way: where it goes and how long it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parcel {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) length: usize,
}

/// Room for a fixed number of packets.
#[derive(Debug)]
pub(super) struct Store {
    bytes: Vec<u8>,
    parcels: Vec<Option<Parcel>>,
    free: Vec<u32>,
}

impl Store {
    pub(super) fn new(packets_max: u32) -> Self {
        let packets = packets_max as usize;
        Store {
            bytes: vec![0; packets * MAX_PACKET_BYTES],
            parcels: vec![None; packets],
            free: (0..packets_max).rev().collect(),
        }
    }

    /// Copies a packet in and returns its number, or `None` if there is no room.
    pub(super) fn put(&mut self, parcel: Parcel, bytes: &[u8]) -> Option<u32> {
        let number = self.free.pop()?;
        self.parcels[number as usize] = Some(parcel);
        let start = number as usize * MAX_PACKET_BYTES;
        self.bytes[start..start + parcel.length].copy_from_slice(bytes);
        Some(number)
    }

    /// A packet's description and bytes.
    pub(super) fn get(&self, number: u32) -> Option<(Parcel, &[u8])> {
        let parcel = self.parcels[number as usize]?;
        let start = number as usize * MAX_PACKET_BYTES;
        Some((parcel, &self.bytes[start..start + parcel.length]))
    }

    /// Changes one bit of a packet.
    pub(super) fn flip(&mut self, number: u32, bit: u64) {
        let at = number as usize * MAX_PACKET_BYTES + (bit / 8) as usize;
        self.bytes[at] ^= 1 << (bit % 8);
    }

    /// Forgets a packet.
    pub(super) fn remove(&mut self, number: u32) {
        if self.parcels[number as usize].take().is_some() {
            self.free.push(number);
        }
    }

    /// How many packets there are.
    pub(super) fn len(&self) -> usize {
        self.parcels.len() - self.free.len()
    }
}
