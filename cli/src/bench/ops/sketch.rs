//! SKETCH_WRITE.

use anyhow::Result;
use nic_host::sketch_write::{Sketch, estimate, sketch_bytes};
use nic_host::{Fate, Op, OpError, RacyMem, RemoteRegion, Session, ops};

use super::write::{PAYLOAD, PAYLOADS, payload};
use super::{Ground, Judged, Work};
use crate::bench::fault::Fault;
use crate::bench::layout::LINE_BYTES;
use crate::bench::pattern::{Pattern, WORD_BYTES};

/// The logarithm of how many registers a sketch has.
const PRECISION: u8 = 12;

/// How far apart places lie, in bytes: each has a sketch, and values behind it.
pub fn pitch(size: u64) -> u64 {
    sketch_bytes(PRECISION) + size.next_multiple_of(LINE_BYTES)
}

/// SKETCH_WRITEs, each op out to a place and a sketch of its own.
pub struct SketchWrites<'s> {
    region: &'s RemoteRegion,
    payloads: &'s [u8],
    /// Whole values of an op, in bytes.
    size: usize,
    pitch: u64,
    first: u64,
    places: Vec<Place>,
}

/// What is known of a place at the target.
#[derive(Clone)]
struct Place {
    /// Ops so far, the one that is out among them.
    count: u64,
    /// The payload of the last one that was good.
    left: Option<u64>,
    /// Of which payloads the sketch has seen the values.
    seen: Box<[bool]>,
    /// Whether one has failed of which nobody knows whether it ran, or may run still.
    is_unknown: bool,
}

impl<'s> SketchWrites<'s> {
    /// Lays an empty sketch out at every place. The stock has payloads of the size.
    pub fn new(ground: Ground<'s>) -> Result<Self> {
        let seen = vec![false; PAYLOADS as usize].into_boxed_slice();
        let place = Place { count: 0, left: None, seen, is_unknown: false };
        let writes = SketchWrites {
            region: &ground.site.memory,
            payloads: &ground.stock.payloads,
            size: ground.size as usize / WORD_BYTES * WORD_BYTES,
            pitch: pitch(ground.size.into()),
            first: ground.own,
            places: vec![place; ground.load.window as usize],
        };
        let memory = RacyMem::allocate(sketch_bytes(PRECISION));
        Sketch::format(memory.clone(), 0, PRECISION)?;
        let mut empty = vec![0; memory.len() as usize];
        memory.read(0, &mut empty)?;
        for place in 0..ground.load.window {
            let written = ground.session.run(writes.region.write(writes.sketch(place), &empty));
            written.map_err(Fault::Unreadable)?;
        }
        Ok(writes)
    }

    fn sketch(&self, place: u32) -> u64 {
        self.first + u64::from(place) * self.pitch
    }

    fn values(&self, place: u32) -> u64 {
        self.sketch(place) + sketch_bytes(PRECISION)
    }
}

/// How many different values there are in payloads of so many, each of which begins a value behind
/// the one before.
fn different(seen: &[bool], values: u64) -> u64 {
    let (mut different, mut end) = (0, 0);
    for (start, _) in (0..).zip(seen).filter(|(_, seen)| **seen) {
        different += start + values - end.max(start);
        end = start + values;
    }
    different
}

/// Whether an estimate is within six standard errors, or a few where there are few.
fn is_near(estimate: f64, different: u64) -> bool {
    let different = different as f64;
    (estimate - different).abs() <= different * 6.0 * 1.04 / f64::from(1 << (PRECISION / 2)) + 3.0
}

impl<'s> Work for SketchWrites<'s> {
    type Operation = ops::SketchWrite<'s>;

    #[inline]
    fn next(&mut self, place: u32) -> Op<ops::SketchWrite<'s>> {
        let state = &mut self.places[place as usize];
        state.count += 1;
        let start = payload(place, state.count) as usize * WORD_BYTES;
        let values = &self.payloads[start..start + self.size];
        self.region.sketch_write(self.values(place), self.sketch(place), PRECISION, values)
    }

    #[inline]
    fn judge(&mut self, place: u32, raised: u32) -> Judged {
        let state = &mut self.places[place as usize];
        let number = payload(place, state.count);
        state.left = Some(number);
        let is_new = !std::mem::replace(&mut state.seen[number as usize], true);
        // What has been seen raises nothing.
        let most = if is_new { (self.size / WORD_BYTES).min(1 << PRECISION) } else { 0 };
        match raised as usize <= most {
            true => Judged::Right { bytes: self.size as u64 },
            false => Judged::Wrong(format!("payload {number} raised {raised} registers")),
        }
    }

    fn failed(&mut self, place: u32, fate: Fate) {
        self.places[place as usize].is_unknown |= fate != Fate::NotExecuted;
    }

    fn left(&mut self, session: &Session, place: u32) -> Result<Option<Judged>, OpError> {
        let Place { left: Some(left), seen, is_unknown: false, .. } = &self.places[place as usize]
        else {
            return Ok(None);
        };
        let (sketch, values) = (self.sketch(place), self.values(place));
        let registers = session.run(self.region.read(sketch..values))?;
        let bytes = session.run(self.region.read(values..values + self.size as u64))?;
        let different = different(seen, (self.size / WORD_BYTES) as u64);
        let found = estimate(&registers).unwrap_or(f64::NAN);
        let is_right = Pattern::of(PAYLOAD).after(*left).is(&bytes) && bytes.len() == self.size;
        Ok(Some(match (is_right, is_near(found, different)) {
            (true, true) => Judged::Right { bytes: self.size as u64 },
            (false, _) => Judged::Wrong(format!("what was written at {values:#x} is not there")),
            (true, false) => Judged::Wrong(format!(
                "the sketch at {sketch:#x} has seen {found} values, not {different}"
            )),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_payloads_share_count_once() {
        let mut seen = [false; 20];
        assert_eq!(different(&seen, 5), 0);
        for (start, expected) in [(3, 5), (0, 8), (10, 13), (4, 14), (19, 19)] {
            seen[start] = true;
            assert_eq!(different(&seen, 5), expected, "from {start} on");
        }
        assert!(is_near(1050.0, 1000) && is_near(2.0, 3) && !is_near(1200.0, 1000));
    }
}
