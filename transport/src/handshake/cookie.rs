//! Cookies: the target's proof, kept by the initiator, that the initiator receives at the address
//! that it sends from. The target keeps nothing.

use core::hash::Hasher;
use core::net::SocketAddr;

use nic_wire::{ConnectionId, Span, Time};
use siphasher::sip128::{Hasher128, SipHasher24};

use crate::peers::write_address;
use crate::secret::{Purpose, keys};

/// Makes and recognises cookies.
#[derive(Clone, Debug)]
pub(crate) struct Cookies {
    keys: (u64, u64),
    epoch: Span,
}

impl Cookies {
    pub(crate) fn new(seed: u64, epoch: Span) -> Self {
        Cookies { keys: keys(seed, Purpose::Cookies), epoch }
    }

    /// The cookie for an initiator at this time.
    pub(crate) fn bake(&self, now: Time, from: SocketAddr, initiator: ConnectionId) -> [u8; 16] {
        self.of_epoch(self.epoch_at(now), from, initiator).to_le_bytes()
    }

    /// Whether the cookie was baked for this initiator in this epoch or the one before.
    pub(crate) fn is_ours(
        &self,
        now: Time,
        from: SocketAddr,
        initiator: ConnectionId,
        cookie: [u8; 16],
    ) -> bool {
        let (cookie, epoch) = (u128::from_le_bytes(cookie), self.epoch_at(now));
        // Whole-word comparisons take the same time wherever the cookies differ.
        let fits = |epoch| self.of_epoch(epoch, from, initiator) ^ cookie == 0;
        fits(epoch) || epoch.checked_sub(1).is_some_and(fits)
    }

    fn epoch_at(&self, now: Time) -> u64 {
        now.as_ns() / self.epoch.as_ns()
    }

    fn of_epoch(&self, epoch: u64, from: SocketAddr, initiator: ConnectionId) -> u128 {
        let mut hasher = SipHasher24::new_with_keys(self.keys.0, self.keys.1);
        write_address(&mut hasher, from);
        hasher.write(&initiator.raw().to_le_bytes());
        hasher.write(&epoch.to_le_bytes());
        hasher.finish128().as_u128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_for_one_initiator_and_at_most_two_epochs() {
        let epoch = Span::from_ms(10);
        let cookies = Cookies::new(7, epoch);
        let from = SocketAddr::from(([10, 0, 0, 1], 5000));
        let id = ConnectionId::new(0, 1, 99);
        let made = Time::ZERO + epoch.times(5);
        let cookie = cookies.bake(made, from, id);
        assert!(cookies.is_ours(made, from, id, cookie));
        assert!(cookies.is_ours(made + epoch, from, id, cookie));
        assert!(!cookies.is_ours(made + epoch.times(2), from, id, cookie));
        let other_port = SocketAddr::from(([10, 0, 0, 1], 5001));
        let other_host = SocketAddr::from(([10, 0, 0, 2], 5000));
        assert!(!cookies.is_ours(made, other_port, id, cookie));
        assert!(!cookies.is_ours(made, other_host, id, cookie));
        assert!(!cookies.is_ours(made, from, ConnectionId::new(0, 1, 98), cookie));
        assert!(!cookies.is_ours(made, from, id, [0; 16]));
        assert!(!Cookies::new(8, epoch).is_ours(made, from, id, cookie));
    }
}
