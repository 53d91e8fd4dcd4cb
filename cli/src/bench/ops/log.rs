//! APPEND and FETCH.

use anyhow::Result;
use nic_host::log::{Batch, HEADER_BYTES, record_bytes};
use nic_host::ops::{self, Fetched};
use nic_host::{Appended, Op, OpError, RemoteRegion, Session};
use nic_kernels::log::layout::{HEAD, MAGIC};

use super::write::{PAYLOAD, payload};
use super::{Ground, Judged, Work};
use crate::bench::fault::Fault;
use crate::bench::layout::LINE_BYTES;
use crate::bench::pattern::{Pattern, WORD_BYTES};
use crate::bench::structures::Structures;
use crate::random::Random;

/// FETCHes of single records from random positions of the site's log.
pub struct Fetches<'s> {
    region: &'s RemoteRegion,
    structures: Structures,
    log: u64,
    random: Random,
    /// By place: the record that is fetched.
    asked: Vec<u64>,
}

impl<'s> Fetches<'s> {
    /// Of the site's log.
    pub fn new(ground: Ground<'s>) -> Self {
        let structures = ground.site.structures();
        Fetches {
            region: &ground.site.memory,
            log: ground.site.base() + structures.log(),
            structures,
            random: Random::new(ground.seed),
            asked: vec![0; ground.load.window as usize],
        }
    }
}

impl Work for Fetches<'_> {
    type Operation = ops::Fetch;

    #[inline]
    fn next(&mut self, place: u32) -> Op<ops::Fetch> {
        let number = self.random.below(self.structures.logged());
        self.asked[place as usize] = number;
        let length = self.structures.logged_bytes();
        // Room for that record alone.
        self.region.fetch(self.log, number * length, length as u32)
    }

    #[inline]
    fn judge(&mut self, place: u32, fetched: Fetched) -> Judged {
        let number = self.asked[place as usize];
        let length = self.structures.value_bytes();
        match is_record(&fetched, number, length, Structures::logged_value(number)) {
            true => Judged::Right { bytes: length },
            false => Judged::Wrong(format!("another record than number {number}")),
        }
    }
}

/// Whether one record was fetched, with that tag and payload.
fn is_record(fetched: &Fetched, tag: u64, length: u64, payload: Pattern) -> bool {
    let Ok(Batch::Records(mut records)) = fetched.batch() else { return false };
    let is_it = records.next().is_some_and(|record| {
        record.tag == tag && record.payload.len() as u64 == length && payload.is(record.payload)
    });
    is_it && records.next().is_none()
}

/// How many records the log of a connection holds.
fn capacity(window: u32, record: u64) -> u64 {
    (4 * u64::from(window)).max((4 << 20) / record).min(2048.max(4 * u64::from(window)))
}

/// Bytes that a connection's log takes, with so many appends out.
pub fn log_bytes(window: u32, size: u64) -> u64 {
    // At most 64 KiB.
    let record = record_bytes(size as u32);
    (HEADER_BYTES + capacity(window, record) * record).next_multiple_of(LINE_BYTES)
}

/// APPENDs to a log of the connection's own, which it trims at half.
pub struct LogAppends<'s> {
    session: &'s Session,
    region: &'s RemoteRegion,
    payloads: &'s [u8],
    log: u64,
    size: usize,
    /// Bytes of a record and of the ring.
    record: u64,
    ring: u64,
    /// Where the log began, begins, and where the last known record ends.
    origin: u64,
    head: u64,
    end: u64,
    count: u64,
    places: Vec<Place>,
}

/// What is known of a place of the window.
#[derive(Clone, Copy, Default)]
struct Place {
    /// The number of the append that is out, or was the last.
    number: u64,
    /// The number of the last good one, and where its record stands.
    left: Option<(u64, u64)>,
}

impl<'s> LogAppends<'s> {
    /// Lays the log out, empty, at positions where no former one had records.
    pub fn new(ground: Ground<'s>) -> Result<Self> {
        let window = ground.load.window;
        let record = record_bytes(ground.size);
        let ring = capacity(window, record) * record;
        let origin = (Random::new(ground.seed).below(1 << 24) + 1) * ring;
        let words = [MAGIC, ring, origin, origin, origin, 0, 0, 0].map(u64::to_le_bytes);
        let region = &ground.site.memory;
        let header = region.write(ground.own, words.as_flattened());
        ground.session.run(header).map_err(Fault::Unreadable)?;
        Ok(LogAppends {
            session: ground.session,
            region,
            payloads: &ground.stock.payloads,
            log: ground.own,
            size: ground.size as usize,
            record,
            ring,
            origin,
            head: origin,
            end: origin,
            count: 0,
            places: vec![Place::default(); window as usize],
        })
    }

    /// Gives the room of the older half back, once the other is used.
    fn trim(&mut self) -> Result<(), OpError> {
        if self.end - self.head < self.ring / 2 {
            return Ok(());
        }
        self.session.run(self.region.write(self.log + HEAD, &self.end.to_le_bytes()))?;
        self.head = self.end;
        Ok(())
    }

    fn payload(&self, number: u64) -> usize {
        payload(0, number) as usize * WORD_BYTES
    }
}

impl<'s> Work for LogAppends<'s> {
    type Operation = ops::Append<'s>;

    #[inline]
    fn next(&mut self, place: u32) -> Op<ops::Append<'s>> {
        self.count += 1;
        self.places[place as usize].number = self.count;
        let start = self.payload(self.count);
        self.region.append(self.log, self.count, &self.payloads[start..start + self.size])
    }

    #[inline]
    fn judge(&mut self, place: u32, appended: Appended) -> Judged {
        let Appended::At { position, next } = appended else {
            return Judged::Wrong(format!("the log is full: {appended:?}"));
        };
        let is_right = position >= self.origin
            && (position - self.origin).is_multiple_of(self.record)
            && next == position + self.record
            && self.places[place as usize].left.is_none_or(|(_, before)| position > before);
        if !is_right {
            return Judged::Wrong(format!("a record was appended at {position}, up to {next}"));
        }
        let Place { number, left } = &mut self.places[place as usize];
        *left = Some((*number, position));
        self.end = self.end.max(next);
        match self.trim() {
            Ok(()) => Judged::Right { bytes: self.size as u64 },
            Err(error) => Judged::Wrong(format!("the log could not be trimmed: {error}")),
        }
    }

    fn left(&mut self, session: &Session, place: u32) -> Result<Option<Judged>, OpError> {
        let Place { left: Some((number, position)), .. } = self.places[place as usize] else {
            return Ok(None);
        };
        if position < self.head {
            return Ok(None);
        }
        let fetched = session.run(self.region.fetch(self.log, position, self.record as u32))?;
        let expected = Pattern::of(PAYLOAD).after(payload(0, number));
        let is_right = is_record(&fetched, number, self.size as u64, expected);
        Ok(Some(match is_right {
            true => Judged::Right { bytes: self.size as u64 },
            false => Judged::Wrong(format!("what was appended at {position} is not there")),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_at_least_twice_what_is_out_before_it_is_trimmed() {
        for window in [1, 64, 4096] {
            for size in [1, 64, 64 << 10] {
                let record = record_bytes(size);
                assert!(capacity(window, record) >= 4 * u64::from(window));
                assert!(log_bytes(window, size.into()) >= 64 + capacity(window, record) * record);
            }
        }
        assert_eq!(log_bytes(1, 64), 64 + 2048 * 96);
    }
}
