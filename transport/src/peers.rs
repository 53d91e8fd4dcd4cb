//! Finds a flow by what its peer calls it: the peer's address and the id under which the peer
//! receives. Needed only for handshakes and resets; data packets name their slot themselves.

use alloc::boxed::Box;
use alloc::vec;
use core::hash::Hasher;
use core::net::{IpAddr, SocketAddr};

use nic_wire::ConnectionId;
use siphasher::sip::SipHasher13;

const EMPTY: u16 = u16::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    slot: u16,
}

/// Open addressing with linear probing, at most half full, keyed so that strangers cannot choose
/// ids that collide.
#[derive(Clone, Debug)]
pub(crate) struct PeerTable {
    entries: Box<[Entry]>,
    keys: (u64, u64),
}

impl PeerTable {
    pub(crate) fn new(slots: u16, keys: (u64, u64)) -> Self {
        let size = (usize::from(slots) * 2).next_power_of_two();
        PeerTable { entries: vec![Entry { hash: 0, slot: EMPTY }; size].into(), keys }
    }

    /// The slot of the flow for which `matches` holds, among those of equal hash.
    pub(crate) fn find(
        &self,
        address: SocketAddr,
        remote: ConnectionId,
        mut matches: impl FnMut(u16) -> bool,
    ) -> Option<u16> {
        let hash = self.hash(address, remote);
        let mut place = self.home(hash);
        // The table is at most half full, so an empty entry ends every search.
        while self.entries[place].slot != EMPTY {
            let entry = self.entries[place];
            if entry.hash == hash && matches(entry.slot) {
                return Some(entry.slot);
            }
            place = self.after(place);
        }
        None
    }

    /// Adds a flow. At most as many as the table was made for.
    pub(crate) fn insert(&mut self, address: SocketAddr, remote: ConnectionId, slot: u16) {
        let hash = self.hash(address, remote);
        let mut place = self.home(hash);
        while self.entries[place].slot != EMPTY {
            place = self.after(place);
        }
        self.entries[place] = Entry { hash, slot };
    }

    /// Takes a flow out, if it is there.
    pub(crate) fn remove(&mut self, address: SocketAddr, remote: ConnectionId, slot: u16) {
        let hash = self.hash(address, remote);
        let mut place = self.home(hash);
        while self.entries[place].slot != slot {
            if self.entries[place].slot == EMPTY {
                return;
            }
            place = self.after(place);
        }
        self.close_gap(place);
    }

    /// Moves later entries of the run back, so that searches still find them.
    fn close_gap(&mut self, mut gap: usize) {
        let mask = self.entries.len() - 1;
        let mut place = self.after(gap);
        while self.entries[place].slot != EMPTY {
            let home = self.home(self.entries[place].hash);
            if place.wrapping_sub(home) & mask >= place.wrapping_sub(gap) & mask {
                self.entries[gap] = self.entries[place];
                gap = place;
            }
            place = self.after(place);
        }
        self.entries[gap].slot = EMPTY;
    }

    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.entries.len() - 1)
    }

    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.entries.len() - 1)
    }

    fn hash(&self, address: SocketAddr, remote: ConnectionId) -> u32 {
        let mut hasher = SipHasher13::new_with_keys(self.keys.0, self.keys.1);
        write_address(&mut hasher, address);
        hasher.write_u64(remote.raw());
        hasher.finish() as u32
    }
}

/// Feeds an address to a hash, the same on every machine.
pub(crate) fn write_address(hasher: &mut impl Hasher, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => hasher.write(&ip.octets()),
        IpAddr::V6(ip) => hasher.write(&ip.octets()),
    }
    hasher.write(&address.port().to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn finds_what_is_there_and_nothing_else() {
        let address = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let mut table = PeerTable::new(64, (1, 2));
        let mut present = Vec::<(u16, u16, u64)>::new();
        let mut state = 3u64;
        for _ in 0..5_000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let choice = (state >> 40) as usize;
            if present.len() < 64 && choice & 1 == 0 {
                let slot = (0..64).find(|s| present.iter().all(|e| e.0 != *s)).unwrap();
                let entry = (slot, (choice % 7) as u16, state);
                table.insert(address(entry.1), ConnectionId::from_raw(entry.2), slot);
                present.push(entry);
            } else if !present.is_empty() {
                let (slot, port, id) = present.swap_remove(choice % present.len());
                table.remove(address(port), ConnectionId::from_raw(id), slot);
                let found = table.find(address(port), ConnectionId::from_raw(id), |s| s == slot);
                assert_eq!(found, None);
            }
            for (slot, port, id) in &present {
                let id = ConnectionId::from_raw(*id);
                assert_eq!(table.find(address(*port), id, |s| s == *slot), Some(*slot));
            }
        }
    }
}
