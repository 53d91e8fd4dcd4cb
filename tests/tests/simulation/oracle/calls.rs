//! Calls: which may be delivered, and which were.

use std::collections::BTreeMap;

use nic_tests::sample::pattern;
use nic_wire::Time;

/// What is known of a call that may still arrive, or has arrived.
#[derive(Clone, Copy, Debug)]
struct Known {
    deliveries: u32,
    gone_at: Time,
}

/// The calls that initiators have made and been told of.
#[derive(Default)]
pub struct Calls {
    known: BTreeMap<u64, Known>,
    /// Calls that were delivered to an application.
    pub delivered: u64,
}

/// A call's request: its tag and as many bytes as follow from it.
pub fn request(tag: u64) -> Vec<u8> {
    let length = 8 + (pattern(tag) % 500) as usize;
    let bytes = pattern(tag + 1).to_le_bytes().into_iter().cycle();
    tag.to_le_bytes().into_iter().chain(bytes).take(length).collect()
}

/// The answer to a request.
pub fn answer(request: &[u8]) -> Vec<u8> {
    request.iter().rev().map(|byte| !byte).collect()
}

impl Calls {
    /// A call leaves.
    pub fn ask(&mut self, tag: u64) {
        self.known.insert(tag, Known { deliveries: 0, gone_at: Time::NEVER });
    }

    /// An application was given a request.
    pub fn deliver(&mut self, bytes: &[u8], now: Time) {
        let tag = bytes.first_chunk().copied().map_or(u64::MAX, u64::from_le_bytes);
        assert!(bytes == request(tag), "{tag:#x} is no call's request as it was sent");
        let known = self.known.get_mut(&tag);
        let known = known.unwrap_or_else(|| panic!("call {tag:#x} is delivered after its end"));
        known.deliveries += 1;
        assert_eq!(known.deliveries, 1, "call {tag:#x} is delivered again");
        assert!(now <= known.gone_at, "call {tag:#x} is delivered long after its deadline");
        self.delivered += 1;
    }

    /// Its completion said that it ran.
    pub fn executed(&mut self, tag: u64) {
        let known = self.known.remove(&tag).expect("the call is known until it ends");
        assert_eq!(known.deliveries, 1, "call {tag:#x} is said to have run");
    }

    /// Its completion said that it has not run.
    pub fn refused(&mut self, tag: u64) {
        let known = self.known.remove(&tag).expect("the call is known until it ends");
        assert_eq!(known.deliveries, 0, "call {tag:#x} is said not to have run");
    }

    /// It may have run, or may run until some moment.
    pub fn unknown(&mut self, tag: u64, gone_at: Time) {
        let known = self.known.get_mut(&tag).expect("the call is known until it ends");
        known.gone_at = gone_at;
    }
}
