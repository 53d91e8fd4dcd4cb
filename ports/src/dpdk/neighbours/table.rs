//! Who has which address on the link: a bounded table. Its time are ticks, which are handed in.

use std::net::IpAddr;

use hashbrown::HashMap;

use crate::MacAddress;

/// Entries at most.
pub(super) const NEIGHBOURS_MAX: usize = 1024;
/// Ticks after which an answer is asked for again, while it is still used.
pub(super) const TICKS_FRESH: u64 = 300;
/// Ticks after which it is no longer believed.
const TICKS_BELIEVED: u64 = 900;
/// Ticks between two questions for the same address.
const TICKS_BETWEEN: u64 = 3;
/// Questions for all addresses together within a tick.
const QUESTIONS_MAX: u32 = 64;

#[derive(Clone, Copy, Debug)]
struct Entry {
    mac: Option<MacAddress>,
    /// The tick at which the answer came.
    answered: u64,
    /// The tick from which on it may be asked for again.
    ask_from: u64,
    /// Told by configuration: always believed, never asked for.
    fixed: bool,
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Its Ethernet address, as far as it is known.
    pub(super) mac: Option<MacAddress>,
    /// Whether to ask for it now.
    pub(super) ask: bool,
}

#[derive(Debug)]
pub(super) struct Table {
    entries: HashMap<IpAddr, Entry>,
    /// The tick whose questions are counted, and how many there were.
    questions: (u64, u32),
}

impl Table {
    /// A table that knows these for ever. Memory for all entries is taken now.
    pub(super) fn new(fixed: &[(IpAddr, MacAddress)]) -> Self {
        let mut entries = HashMap::with_capacity(NEIGHBOURS_MAX);
        for (ip, mac) in fixed.iter().take(NEIGHBOURS_MAX) {
            let entry = Entry { mac: Some(*mac), answered: 0, ask_from: 0, fixed: true };
            entries.insert(*ip, entry);
        }
        Table { entries, questions: (0, 0) }
    }

    /// Looks an address up that a packet is to be sent to.
    pub(super) fn look_up(&mut self, ip: IpAddr, now: u64) -> Known {
        if !self.entries.contains_key(&ip) && !self.add(ip, now) {
            return Known { mac: None, ask: false };
        }
        let Some(entry) = self.entries.get_mut(&ip) else {
            return Known { mac: None, ask: false };
        };
        if entry.fixed {
            return Known { mac: entry.mac, ask: false };
        }
        let age = now.saturating_sub(entry.answered);
        if age >= TICKS_BELIEVED {
            entry.mac = None;
        }
        let due = entry.mac.is_none() || age >= TICKS_FRESH;
        if self.questions.0 != now {
            self.questions = (now, 0);
        }
        let ask = due && now >= entry.ask_from && self.questions.1 < QUESTIONS_MAX;
        if ask {
            entry.ask_from = now + TICKS_BETWEEN;
            self.questions.1 += 1;
        }
        Known { mac: entry.mac, ask }
    }

    /// Notes what a neighbour told. Only those that were asked for, or that want something of us,
    /// get an entry by it. True: something else was known before.
    pub(super) fn learn(&mut self, ip: IpAddr, mac: MacAddress, insert: bool, now: u64) -> bool {
        let has_entry = self.entries.contains_key(&ip) || insert && self.add(ip, now);
        if !has_entry {
            return false;
        }
        let Some(entry) = self.entries.get_mut(&ip) else { return false };
        if entry.fixed {
            return false;
        }
        entry.answered = now;
        entry.mac.replace(mac) != Some(mac)
    }

    /// Forgets all that was learned.
    pub(super) fn forget(&mut self) {
        self.entries.retain(|_, entry| entry.fixed);
    }

    /// Makes an entry; when the table is full, in place of one without an answer or the oldest.
    fn add(&mut self, ip: IpAddr, now: u64) -> bool {
        if self.entries.len() >= NEIGHBOURS_MAX {
            let learned = self.entries.iter().filter(|(_, entry)| !entry.fixed);
            let oldest = learned.min_by_key(|(_, entry)| (entry.mac.is_some(), entry.answered));
            let Some(oldest) = oldest.map(|(ip, _)| *ip) else { return false };
            self.entries.remove(&oldest);
        }
        self.entries.insert(ip, Entry { mac: None, answered: now, ask_from: now, fixed: false });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 7]);

    fn ip(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + number).into()
    }

    #[test]
    fn who_is_not_known_is_asked_for_now_and_then() {
        let mut table = Table::new(&[]);
        let asked: Vec<u64> = (0..9).filter(|now| table.look_up(ip(1), *now).ask).collect();
        assert_eq!(asked, [0, 3, 6]);
        assert!(table.learn(ip(1), MAC, true, 9));
        assert!(!table.learn(ip(1), MAC, true, 10), "nothing new");
        assert_eq!(table.look_up(ip(1), 11), Known { mac: Some(MAC), ask: false });
        // What is old is asked for again, and believed for a while without an answer.
        let old = 10 + TICKS_FRESH;
        assert_eq!(table.look_up(ip(1), old), Known { mac: Some(MAC), ask: true });
        assert_eq!(table.look_up(ip(1), old + 1), Known { mac: Some(MAC), ask: false });
        assert_eq!(table.look_up(ip(1), 10 + TICKS_BELIEVED), Known { mac: None, ask: true });
    }

    #[test]
    fn announcements_change_entries_and_make_none() {
        let mut table = Table::new(&[(ip(9), MAC)]);
        assert!(!table.learn(ip(1), MAC, false, 0));
        table.look_up(ip(1), 0);
        assert!(table.learn(ip(1), MAC, false, 0));
        let other = MacAddress([2; 6]);
        assert!(table.learn(ip(1), other, false, 0));
        assert!(!table.learn(ip(9), other, true, 0), "configuration is not overruled");
        table.forget();
        assert_eq!(table.look_up(ip(9), 1 << 40), Known { mac: Some(MAC), ask: false });
        assert_eq!(table.look_up(ip(1), 5).mac, None);
    }

    #[test]
    fn the_table_is_bounded_and_so_are_questions() {
        let mut table = Table::new(&[(ip(0), MAC)]);
        table.look_up(ip(1), 0);
        table.learn(ip(1), MAC, true, 5);
        let asked = (2..5000).filter(|number| table.look_up(ip(*number), 6).ask).count();
        assert_eq!(asked, QUESTIONS_MAX as usize);
        assert_eq!(table.entries.len(), NEIGHBOURS_MAX);
        assert_eq!(table.look_up(ip(1), 7).mac, Some(MAC), "known ones outlive unknown ones");
        assert_eq!(table.look_up(ip(0), 7).mac, Some(MAC));
    }
}
