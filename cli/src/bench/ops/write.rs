//! WRITE.

use nic_host::{Fate, Op, OpError, RemoteRegion, Session, ops};

use super::{Ground, Judged, Work};
use crate::bench::layout::LINE_BYTES;
use crate::bench::pattern::{Pattern, WORD_BYTES};

/// How many different payloads there are, each a word further in one long filling.
pub const PAYLOADS: u64 = 4096;
/// The number of their pattern.
pub const PAYLOAD: u64 = 0x3717e;

/// WRITEs of so many bytes, each op out to a place of its own.
pub struct Writes<'s> {
    region: &'s RemoteRegion,
    payloads: &'s [u8],
    size: usize,
    first: u64,
    places: Vec<Place>,
}

/// What is known of a place at the target.
#[derive(Clone, Copy, Default)]
struct Place {
    /// WRITEs so far, the one that is out among them.
    count: u64,
    /// The payload of the last one that was good.
    left: Option<u64>,
    /// Whether one has failed of which nobody knows whether it ran, or may run still.
    is_unknown: bool,
}

/// How far apart places lie, in bytes.
pub fn pitch(size: u64) -> u64 {
    size.next_multiple_of(LINE_BYTES)
}

impl<'s> Writes<'s> {
    /// The stock has payloads of the size.
    pub fn new(ground: Ground<'s>) -> Self {
        Writes {
            region: &ground.site.memory,
            payloads: &ground.stock.payloads,
            size: ground.size as usize,
            first: ground.own,
            places: vec![Place::default(); ground.load.window as usize],
        }
    }

    fn address(&self, place: u32) -> u64 {
        self.first + u64::from(place) * pitch(self.size as u64)
    }
}

/// Which payload the WRITE of this number has: neighbours in place and in time have different ones.
#[inline]
pub(super) fn payload(place: u32, count: u64) -> u64 {
    (u64::from(place).wrapping_mul(31)).wrapping_add(count.wrapping_mul(17)) % PAYLOADS
}

impl<'s> Work for Writes<'s> {
    type Operation = ops::Write<'s>;

    #[inline]
    fn next(&mut self, place: u32) -> Op<ops::Write<'s>> {
        let state = &mut self.places[place as usize];
        state.count += 1;
        let start = payload(place, state.count) as usize * WORD_BYTES;
        let bytes = &self.payloads[start..start + self.size];
        self.region.write(self.address(place), bytes)
    }

    #[inline]
    fn judge(&mut self, place: u32, (): ()) -> Judged {
        let state = &mut self.places[place as usize];
        state.left = Some(payload(place, state.count));
        Judged::Right { bytes: self.size as u64 }
    }

    fn failed(&mut self, place: u32, fate: Fate) {
        self.places[place as usize].is_unknown |= fate != Fate::NotExecuted;
    }

    fn left(&mut self, session: &Session, place: u32) -> Result<Option<Judged>, OpError> {
        let Place { left: Some(left), is_unknown: false, .. } = self.places[place as usize] else {
            return Ok(None);
        };
        let at = self.address(place);
        let bytes = session.run(self.region.read(at..at + self.size as u64))?;
        let is_right = Pattern::of(PAYLOAD).after(left).is(&bytes);
        Ok(Some(match is_right && bytes.len() == self.size {
            true => Judged::Right { bytes: self.size as u64 },
            false => Judged::Wrong(format!("what was written at {at:#x} is not there")),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_place_and_time_have_different_payloads() {
        for place in 0..100 {
            assert_ne!(payload(place, 5), payload(place + 1, 5));
            assert_ne!(payload(place, 5), payload(place, 6));
        }
        assert_eq!((pitch(1), pitch(64), pitch(65)), (64, 64, 128));
    }
}
