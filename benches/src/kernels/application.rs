//! How the serving application partitions and sketches streams that were written to its memory.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use nic_host::consistent_read::Checksum;
use nic_host::partition_write::Partitions;
use nic_host::rpc::{Procedure, Services};
use nic_host::sketch_write::{Sketch, estimate};
use nic_shm::RacyMem;
use serde::{Deserialize, Serialize};

use super::streams::{PRECISION, Places, RECORD_BYTES};

/// Of the records in the partitions, every so many are looked at.
const LOOKED_AT: u64 = 61;

/// Distributes so many bytes of the stream; answers how many records that were.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct PartitionThis {
    pub(super) length: u64,
}

/// Sketches so many bytes of the stream; answers how many values that were. Nothing: answers how
/// many different ones there have been, about.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct SketchThis {
    pub(super) length: u64,
}

/// Looks at the records in the kernel's partitions, or the application's, and empties them. Answers
/// how many there were; nothing if one was in a wrong place.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) own: bool,
}

impl Procedure for PartitionThis {
    const SERVICE: u16 = 6;
    const ANSWER_BYTES_MAX: u32 = 16;
    type Answer = u64;
}

impl Procedure for SketchThis {
    const SERVICE: u16 = 7;
    const ANSWER_BYTES_MAX: u32 = 16;
    type Answer = u64;
}

impl Procedure for Tally {
    const SERVICE: u16 = 8;
    const ANSWER_BYTES_MAX: u32 = 16;
    type Answer = Option<u64>;
}

/// Lays empty partitions and sketches in the memory, and serves all of this over it.
pub(super) fn add<'m>(
    services: &mut Services<'m>,
    places: Places,
    memory: &'m RacyMem,
) -> Result<()> {
    let format = move |own| {
        let address = if own { places.own } else { 0 };
        Partitions::format(memory.clone(), address, places.shape)
    };
    format(false)?;
    format(true)?;
    Sketch::format(memory.clone(), places.sketch, PRECISION)?;
    let ends = vec![0; usize::from(places.shape.count())];
    let partitioner = Rc::new(RefCell::new(Partitioner { places, memory, ends }));
    let tallied = Rc::clone(&partitioner);
    let mut sketch = OwnSketch::new(memory, places)?;
    services.add(move |PartitionThis { length }| {
        partitioner.borrow_mut().partition(length).unwrap_or(0)
    });
    services.add(move |SketchThis { length }| match length {
        0 => sketch.estimate().unwrap_or(0),
        _ => sketch.add(length).unwrap_or(0),
    });
    services.add(move |Tally { own }| {
        let mut partitioner = tallied.borrow_mut();
        let found = partitioner.tally(own);
        if own {
            partitioner.ends.fill(0);
        }
        format(own).ok().and(found)
    });
    Ok(())
}

/// Scatters records, each straight to its place.
struct Partitioner<'m> {
    places: Places,
    memory: &'m RacyMem,
    /// How many records each of its partitions has.
    ends: Vec<u64>,
}

impl Partitioner<'_> {
    fn partition(&mut self, length: u64) -> Option<u64> {
        let Places { shape, own, stream, .. } = self.places;
        for at in (stream..stream + length).step_by(RECORD_BYTES as usize) {
            let record = self.memory.load64(at).ok()?;
            let partition = shape.partition_of(&record.to_le_bytes());
            let end = self.ends.get_mut(usize::from(partition))?;
            if *end == shape.capacity {
                return None;
            }
            let to = self.memory.word64(own + shape.place(partition, *end)).ok()?;
            to.store(record, Ordering::Relaxed);
            *end += 1;
        }
        Some(length / RECORD_BYTES)
    }

    fn tally(&self, own: bool) -> Option<u64> {
        let Places { shape, own: own_address, .. } = self.places;
        let mut count = 0;
        for partition in 0..shape.count() {
            let (there, address) = if own {
                (self.ends[usize::from(partition)], own_address)
            } else {
                (self.counters(partition)?, 0)
            };
            for record in (0..there).step_by(LOOKED_AT as usize) {
                let record = self.memory.load64(address + shape.place(partition, record)).ok()?;
                (shape.partition_of(&record.to_le_bytes()) == partition).then_some(())?;
            }
            count += there;
        }
        Some(count)
    }

    fn counters(&self, partition: u16) -> Option<u64> {
        let mut header = vec![0; self.places.shape.counters_bytes() as usize];
        self.memory.read(0, &mut header).ok()?;
        nic_host::partition_write::Counters::parse(&header, partition)?.whole()
    }
}

/// A sketch as the kernel makes it.
struct OwnSketch<'m> {
    memory: &'m RacyMem,
    places: Places,
    /// Header and registers.
    bytes: Vec<u8>,
    header: usize,
}

impl<'m> OwnSketch<'m> {
    fn new(memory: &'m RacyMem, places: Places) -> Result<Self> {
        let header = nic_host::sketch_write::HEADER_BYTES as usize;
        let mut bytes = vec![0; header + (1 << PRECISION)];
        memory.read(places.sketch, &mut bytes).context("it was formatted")?;
        Ok(OwnSketch { memory, places, bytes, header })
    }

    fn add(&mut self, length: u64) -> Option<u64> {
        let stream = self.places.stream;
        let registers = &mut self.bytes[self.header..];
        for at in (stream..stream + length).step_by(RECORD_BYTES as usize) {
            let value = self.memory.load64(at).ok()?;
            let hash = Checksum::Xxh3.of(&value.to_le_bytes());
            let register = &mut registers[(hash >> (64 - PRECISION)) as usize];
            let rest = hash << PRECISION | 1 << (PRECISION - 1);
            *register = (*register).max(rest.leading_zeros() as u8 + 1);
        }
        Some(length / RECORD_BYTES)
    }

    fn estimate(&self) -> Option<u64> {
        Some(estimate(&self.bytes).ok()? as u64)
    }
}
