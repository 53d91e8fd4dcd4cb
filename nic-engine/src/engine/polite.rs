//! Who is polite: a session, or a peer, that waits for its few ops before it asks for more. While one is
//! served, the others may not put so much before it that it waits for them.

use nic_wire::{Span, Time};

/// The most commands that a polite session has ready at once.
const COMMANDS_MAX: u32 = 4;

/// For how long others are limited after its ops have ended.
const MEMORY: Span = Span::from_us(100);

/// And while they are out, which may be long: an op may wait for an application. Also for a peer,
/// whose ops are not followed to their ends.
const MEMORY_OUT: Span = Span::from_ms(10);

/// Whether somebody who has so many ops out is not polite.
#[inline]
pub(super) fn is_crowd(ops: u32) -> bool {
    ops > COMMANDS_MAX
}

/// Who was polite last: a session or a flow, by its slot.
#[derive(Default)]
pub(super) struct Polite {
    slot: u16,
    until: Time,
}

impl Polite {
    /// Notes that ops were taken from somebody who had so many out before and after.
    #[inline]
    pub(super) fn picked_up(&mut self, slot: u16, before: u32, after: u32, now: Time) {
        if before == 0 && (1..=COMMANDS_MAX).contains(&after) {
            *self = Polite { slot, until: now + MEMORY_OUT };
        }
    }

    /// Notes that an op of somebody has ended.
    #[inline]
    pub(super) fn ended(&mut self, slot: u16, now: Time) {
        if self.slot == slot && now < self.until {
            self.until = now + MEMORY;
        }
    }

    /// When nobody is limited any more; never, if nobody is now.
    pub(super) fn end(&self, now: Time) -> Time {
        if now < self.until { self.until } else { Time::NEVER }
    }

    /// Whether somebody is limited for another's sake.
    #[inline]
    pub(super) fn limits(&self, slot: u16, now: Time) -> bool {
        self.slot != slot && now < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_with_little_out_limits_others_for_a_while() {
        let (mut polite, start) = (Polite::default(), Time::ZERO + Span::from_ms(1));
        assert!(!polite.limits(1, start));
        for (before, after) in [(0, 0), (0, 5), (1, 2), (200, 202)] {
            polite.picked_up(7, before, after, start);
            assert!(!polite.limits(1, start), "{before} out before, {after} after");
        }
        polite.picked_up(7, 0, 1, start);
        assert!(polite.limits(1, start) && !polite.limits(7, start));
        let end = start + Span::from_ms(2);
        assert!(polite.limits(1, end), "an op of it is still out");
        polite.ended(7, end);
        assert!(polite.limits(1, end) && !polite.limits(1, end + MEMORY));
        polite.ended(7, end + MEMORY);
        assert!(!polite.limits(1, end + MEMORY), "it has been polite once, not for ever");
    }
}
