//! Opening and closing flows: INIT, RETRY, ACCEPT, VERSIONS and RESET.
//!
//! The beginning of these packets is the same in every wire version, so that strangers can tell
//! each other which versions they speak: of the header the kind and the connection id, of INIT
//! all until its list of versions, and VERSIONS whole. An INIT is written in the format of the
//! lowest version that it offers.

mod cookie;
mod initiator;
mod packets;
mod reset;
mod target;

use core::hash::Hasher;
use core::net::SocketAddr;

use nic_wire::handshake::{Init, MAX_VERSIONS, ResetReason};
use nic_wire::{ConnectionId, Span, Time};
use siphasher::sip::SipHasher24;
use zerocopy::IntoBytes;

use crate::config::Config;
use crate::endpoint::FlowHandle;

pub(crate) use cookie::Cookies;
pub use packets::CONTROL_BYTES_MAX;

/// In an INIT: any engine of the process will do.
pub(crate) const ANY_ENGINE: u16 = 0xffff;
/// So many cookies are answered by an INIT at once; further ones wait for the timer. Without this
/// a target that rejects its own cookies would keep both sides busy.
const PROMPT_INITS: u8 = 3;

/// A packet to be made when there is room for it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Control {
    Init(FlowHandle),
    Accept(FlowHandle),
    Retry { to: SocketAddr, initiator: ConnectionId },
    Versions { to: SocketAddr, initiator: ConnectionId },
    Reset(ResetOf),
}

/// A RESET to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResetOf {
    pub(crate) to: SocketAddr,
    /// The addressee's name for the flow, where it is known.
    pub(crate) connection: ConnectionId,
    /// Our own name for it.
    pub(crate) answered: ConnectionId,
    pub(crate) reason: ResetReason,
}

/// What an initiator keeps until its flow is open.
#[derive(Clone, Debug)]
pub(crate) struct Connecting {
    cookie: [u8; 16],
    wanted_engine: Option<u8>,
    give_up_at: Time,
    retry_at: Time,
    interval: Span,
    /// When the INIT with this cookie was sent first, and how often since.
    sent_at: Time,
    sent: u32,
    cookies_taken: u8,
}

/// What a timer of a connecting flow asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectTurn {
    Wait,
    Again,
    GiveUp,
}

impl Connecting {
    pub(crate) fn new(now: Time, wanted_engine: Option<u8>, config: &Config) -> Self {
        Connecting {
            cookie: [0; 16],
            wanted_engine,
            give_up_at: now + config.connect_timeout,
            retry_at: now + config.connect_retry,
            interval: config.connect_retry,
            sent_at: now,
            sent: 0,
            cookies_taken: 0,
        }
    }

    pub(crate) fn deadline(&self) -> Time {
        self.retry_at.min(self.give_up_at)
    }

    pub(crate) fn on_timeout(&mut self, now: Time, interval_max: Span) -> ConnectTurn {
        if self.give_up_at <= now {
            return ConnectTurn::GiveUp;
        }
        if self.retry_at > now {
            return ConnectTurn::Wait;
        }
        self.interval = self.interval.times(2).min(interval_max.max(self.interval));
        self.retry_at = now + self.interval;
        ConnectTurn::Again
    }

    /// Takes a cookie over. Whether the INIT is to be repeated at once.
    fn take_cookie(&mut self, now: Time, cookie: [u8; 16], interval: Span) -> bool {
        if self.cookie == cookie {
            return false;
        }
        self.cookie = cookie;
        self.sent = 0;
        self.cookies_taken = self.cookies_taken.saturating_add(1);
        if self.cookies_taken > PROMPT_INITS {
            return false;
        }
        self.interval = interval;
        self.retry_at = now + interval;
        true
    }

    fn note_sent(&mut self, now: Time) {
        if self.sent == 0 {
            self.sent_at = now;
        }
        self.sent = self.sent.saturating_add(1);
    }

    /// The round trip of the handshake, if it cannot be that of another INIT.
    fn round_trip(&self, now: Time) -> Option<Span> {
        (self.sent == 1).then(|| now.since(self.sent_at))
    }
}

/// What both ends saw of the INIT. The cookie is left out: several INITs that differ in it alone
/// may be under way, and it is the target's own word.
fn transcript(init: &Init) -> u64 {
    let init = Init { cookie: [0; 16], ..*init };
    let mut hasher = SipHasher24::new_with_keys(0, 0);
    hasher.write(init.as_bytes());
    hasher.finish()
}

/// The highest of our versions that is also one of theirs.
fn common_version(ours: &[u8; MAX_VERSIONS], theirs: &[u8; MAX_VERSIONS]) -> Option<u8> {
    ours.iter().copied().find(|version| *version != 0 && theirs.contains(version))
}

/// The lowest version of a list: that in whose format an INIT is written.
fn lowest_version(versions: &[u8; MAX_VERSIONS]) -> u8 {
    versions.iter().copied().filter(|version| *version != 0).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn versions_are_chosen_from_the_highest_down() {
        let list = |versions: &[u8]| {
            let mut list = [0; MAX_VERSIONS];
            list[..versions.len()].copy_from_slice(versions);
            list
        };
        assert_eq!(common_version(&list(&[3, 2, 1]), &list(&[4, 2, 1])), Some(2));
        assert_eq!(common_version(&list(&[3]), &list(&[4, 2, 1])), None);
        assert_eq!(lowest_version(&list(&[3, 2])), 2);
    }

    #[test]
    fn the_transcript_covers_the_offer_and_not_the_cookie() {
        let init = Init::new_zeroed();
        let same = Init { cookie: [7; 16], ..init };
        let mut other = init;
        other.versions[0] = 1;
        assert_eq!(transcript(&init), transcript(&same));
        assert_ne!(transcript(&init), transcript(&other));
    }

    #[test]
    fn inits_back_off_and_end() {
        let config = Config::default();
        let mut connecting = Connecting::new(Time::ZERO, None, &config);
        let (mut sendings, mut last) = (0, Time::ZERO);
        let mut gap = Span::ZERO;
        loop {
            let now = connecting.deadline();
            match connecting.on_timeout(now, config.timeout_max) {
                ConnectTurn::Again => {
                    assert!(now.since(last) >= gap && now.since(last) <= config.timeout_max);
                    (gap, last, sendings) = (now.since(last), now, sendings + 1);
                }
                ConnectTurn::GiveUp => break assert_eq!(now, Time::ZERO + config.connect_timeout),
                ConnectTurn::Wait => panic!("nothing was due"),
            }
        }
        assert!((8..20).contains(&sendings), "{sendings}");
    }

    #[test]
    fn ever_new_cookies_do_not_cause_a_storm() {
        let config = Config::default();
        let mut connecting = Connecting::new(Time::ZERO, None, &config);
        let interval = config.connect_retry;
        let prompt = (1..=100).filter(|i| connecting.take_cookie(Time::ZERO, [*i; 16], interval));
        assert_eq!(prompt.count(), usize::from(PROMPT_INITS));
    }
}
