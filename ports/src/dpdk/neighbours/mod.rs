//! Neighbours without a kernel: who is where on the link, and answers to who asks for us.
//!
//! One set for all queues of a device, since answers arrive at any of them. Engines come here only
//! for a destination that they have no headers for yet, and with frames that are no engine's; they
//! never wait for each other: a set that is in use just now counts as one that knows nothing, and
//! the packet is sent again later.

mod messages;
mod table;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, TryLockError};

use self::messages::{Told, Us};
use self::table::{Known, TICKS_FRESH, Table};
use super::DpdkConfig;
use crate::MacAddress;

/// Answers that all queues together give within a tick.
const ANSWERS_MAX: u32 = 512;

/// Who is on the link of a device.
pub(super) struct Neighbours {
    us: Us,
    /// The network that needs no gateway: its bits, and how many.
    network: (u128, u32),
    gateway: Option<IpAddr>,
    table: Mutex<Table>,
    generation: AtomicU64,
    /// Counted by the device's control thread.
    tick: AtomicU64,
    /// The tick of the last answer in the upper half, and how many it saw in the lower.
    answers: AtomicU64,
}

impl Neighbours {
    pub(super) fn new(mac: MacAddress, config: &DpdkConfig) -> Self {
        let address = config.address.ip();
        Neighbours {
            us: Us { mac, address },
            network: (bits(address), u32::from(config.prefix)),
            gateway: config.gateway,
            table: Mutex::new(Table::new(&config.neighbours)),
            generation: AtomicU64::new(1),
            tick: AtomicU64::new(0),
            answers: AtomicU64::new(0),
        }
    }

    /// Changes whenever an answer of [`Neighbours::resolve`] may have changed.
    #[inline]
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// One tick has passed. Now and then that makes everybody look again who is where, so that
    /// what has become old is asked for.
    pub(super) fn tick(&self) {
        let now = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
        if now.is_multiple_of(TICKS_FRESH / 2) {
            self.change();
        }
    }

    /// The link went down: whoever is there when it comes back may be somebody else.
    pub(super) fn forget(&self) {
        let mut table = self.table.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        table.forget();
        self.change();
    }

    /// The Ethernet address through which `to` is reached, if it is known. If it has to be asked
    /// for, the question is written into `room`, and its length is the second of what is returned.
    pub(super) fn resolve(&self, to: IpAddr, room: &mut [u8]) -> (Option<MacAddress>, usize) {
        let Some(hop) = self.next_hop(to) else { return (None, 0) };
        let now = self.tick.load(Ordering::Relaxed);
        let Some(Known { mac, ask }) = self.with_table(|table| table.look_up(hop, now)) else {
            return (None, 0);
        };
        let asked = if ask { messages::ask(&self.us, hop, mac, room) } else { 0 };
        (mac, asked)
    }

    /// Looks at a frame that is no engine's, without a VLAN tag. Returns whether it was of our
    /// protocols, and how many bytes of an answer were written.
    pub(super) fn take(&self, frame: &[u8], answer: &mut [u8]) -> (bool, usize) {
        let Told { neighbour, answer, ours } = messages::take(&self.us, frame, answer);
        let now = self.tick.load(Ordering::Relaxed);
        if let Some((ip, mac, insert)) = neighbour
            && self.is_on_link(ip)
        {
            let learned = self.with_table(|table| table.learn(ip, mac, insert, now));
            if learned == Some(true) {
                self.change();
            }
        }
        if answer != 0 && !self.may_answer(now) {
            return (ours, 0);
        }
        (ours, answer)
    }

    fn change(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    fn with_table<T>(&self, act: impl FnOnce(&mut Table) -> T) -> Option<T> {
        match self.table.try_lock() {
            Ok(mut table) => Some(act(&mut table)),
            Err(TryLockError::Poisoned(poisoned)) => Some(act(&mut poisoned.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn may_answer(&self, now: u64) -> bool {
        let before = self.answers.load(Ordering::Relaxed);
        let count = if before >> 32 == now & 0xffff_ffff { before as u32 } else { 0 };
        // Two queues at once may count one for two: it is a brake, no account.
        self.answers.store(now << 32 | u64::from(count + 1), Ordering::Relaxed);
        count < ANSWERS_MAX
    }

    fn next_hop(&self, to: IpAddr) -> Option<IpAddr> {
        if to.is_ipv4() != self.us.address.is_ipv4() || to.is_multicast() || to.is_unspecified() {
            return None;
        }
        if self.is_on_link(to) { Some(to) } else { self.gateway }
    }

    pub(super) fn is_on_link(&self, ip: IpAddr) -> bool {
        let (network, prefix) = self.network;
        let width = if self.us.address.is_ipv4() { 32 } else { 128 };
        let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let differing = network ^ bits(ip);
        // A gateway is on the link even if its address is not of the link's network: clouds give
        // hosts a network of their own each.
        ip.is_ipv4() == self.us.address.is_ipv4()
            && (link_local
                || self.gateway == Some(ip)
                || prefix == 0
                || differing >> (width - prefix) == 0)
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbours(address: &str, prefix: u8, gateway: &str) -> Neighbours {
        let mut config = DpdkConfig::new("net_null0", address.parse().unwrap(), prefix);
        config.gateway = Some(gateway.parse().unwrap());
        Neighbours::new(MacAddress([2; 6]), &config)
    }

    #[test]
    fn who_is_not_on_the_link_is_reached_by_the_gateway() {
        let neighbours = neighbours("10.1.2.3:9", 23, "10.1.3.254");
        let hop = |to: &str| neighbours.next_hop(to.parse().unwrap()).map(|hop| hop.to_string());
        assert_eq!(hop("10.1.3.7"), Some("10.1.3.7".into()));
        assert_eq!(hop("10.1.4.7"), Some("10.1.3.254".into()));
        assert_eq!(hop("224.0.0.1"), None);
        assert_eq!(hop("fd00::1"), None);
        let neighbours = self::neighbours("10.1.2.3:9", 32, "10.1.2.1");
        assert_eq!(neighbours.next_hop("10.1.2.4".parse().unwrap()), neighbours.gateway);
        assert_eq!(neighbours.next_hop("10.1.2.1".parse().unwrap()), neighbours.gateway);
        let neighbours = self::neighbours("[fd00::1]:9", 64, "fe80::1");
        let hop = |to: &str| neighbours.next_hop(to.parse().unwrap()).map(|hop| hop.to_string());
        assert_eq!(hop("fd00::7"), Some("fd00::7".into()));
        assert_eq!(hop("fe80::7"), Some("fe80::7".into()));
        assert_eq!(hop("fd01::7"), Some("fe80::1".into()));
    }

    #[test]
    fn two_sides_find_each_other() {
        let left = neighbours("10.0.0.1:9", 24, "10.0.0.9");
        let mut config = DpdkConfig::new("net_null0", "10.0.0.2:9".parse().unwrap(), 24);
        config.neighbours = vec![("10.0.0.7".parse().unwrap(), MacAddress([6; 6]))];
        let right = Neighbours::new(MacAddress([4; 6]), &config);
        let to = "10.0.0.2".parse().unwrap();
        let (mut question, mut answer) = ([0; 128], [0; 128]);
        let (mac, asked) = left.resolve(to, &mut question);
        assert_eq!((mac, asked), (None, 42));
        assert_eq!(left.resolve(to, &mut answer), (None, 0), "asked a moment ago");
        let (ours, answered) = right.take(&question[..asked], &mut answer);
        assert!(ours);
        let before = left.generation();
        assert_eq!(left.take(&answer[..answered], &mut question), (true, 0));
        assert_ne!(left.generation(), before, "headers are made anew");
        assert_eq!(left.resolve(to, &mut question), (Some(MacAddress([4; 6])), 0));
        // The asker was learned, and the configuration is known without asking.
        let known = right.resolve("10.0.0.1".parse().unwrap(), &mut question);
        assert_eq!(known, (Some(MacAddress([2; 6])), 0));
        assert_eq!(right.resolve("10.0.0.7".parse().unwrap(), &mut question).1, 0);
        left.forget();
        assert_eq!(left.resolve(to, &mut question).0, None);
    }

    #[test]
    fn answers_are_limited() {
        let left = neighbours("10.0.0.1:9", 24, "10.0.0.9");
        let right = neighbours("10.0.0.2:9", 24, "10.0.0.9");
        let (mut question, mut answer) = ([0; 128], [0; 128]);
        let (_, asked) = left.resolve("10.0.0.2".parse().unwrap(), &mut question);
        let mut answered = || {
            let takes = 0..2 * ANSWERS_MAX;
            takes.filter(|_| right.take(&question[..asked], &mut answer).1 != 0).count()
        };
        assert_eq!(answered(), ANSWERS_MAX as usize);
        right.tick();
        assert_eq!(answered(), ANSWERS_MAX as usize);
    }
}
