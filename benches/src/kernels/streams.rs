//! Streams that are partitioned or sketched: on their way into memory by a kernel, or after a WRITE
//! by the application, which is then called.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::Result;
use nic_benches::mixed;
use nic_host::partition_write::{By, Shape};
use nic_host::rpc::Procedure;
use nic_host::sketch_write::{estimate, sketch_bytes};
use nic_host::{RemoteRegion, Ticket};

use super::application::{PartitionThis, SketchThis, Tally};
use super::client::Client;

/// Lengths of the streams that are written at once, in bytes.
pub(super) const SIZES: [u64; 4] = [4 << 10, 16 << 10, 64 << 10, 256 << 10];
const SIZE_MAX: u64 = SIZES[3];
/// Length of a record, which is its key, and of a value.
pub(super) const RECORD_BYTES: u64 = 8;
/// Registers of the sketch, as a logarithm.
pub(super) const PRECISION: u8 = 12;
/// How far an estimate may be off: four times its standard error.
const ERROR_MAX: f64 = 4.0 * 1.04 / 64.0;

/// Where things are in a region of their own: partitions of the kernel's, partitions of the
/// application's, the sketch, and where streams are stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) shape: Shape,
    pub(super) own: u64,
    pub(super) sketch: u64,
    pub(super) stream: u64,
}

impl Places {
    pub(super) fn new(is_small: bool) -> Result<Self> {
        let capacity = if is_small { 1 << 14 } else { 1 << 20 };
        // StRoM's: by a radix, into as many as there are buffers on its NIC for.
        let by = By::Radix { shift: 0 };
        let shape = Shape { bits: 4, record_bytes: 8, key_offset: 0, by, capacity };
        let length = shape.bytes().unwrap_or(u64::MAX / 4).next_multiple_of(64);
        let (own, sketch) = (length, 2 * length);
        let stream = (sketch + sketch_bytes(PRECISION)).next_multiple_of(4096);
        Ok(Places { shape, own, sketch, stream })
    }

    /// Length of the region.
    pub(super) fn bytes(&self) -> u64 {
        self.stream + SIZE_MAX
    }
}

/// The stream: one record differs from all others.
fn records() -> Vec<u8> {
    (0..SIZE_MAX / RECORD_BYTES).flat_map(|number| mixed(number).to_le_bytes()).collect()
}

pub(super) struct Streams {
    region: RemoteRegion,
    places: Places,
    records: Vec<u8>,
    /// Records in the kernel's partitions, and in the application's.
    there: [Cell<u64>; 2],
}

impl Streams {
    pub(super) fn open(client: &Client, ticket: &Ticket, is_small: bool) -> Result<Streams> {
        let region = client.session.connect(ticket)?;
        let (places, there) = (Places::new(is_small)?, Default::default());
        Ok(Streams { region, places, records: records(), there })
    }

    /// A stream that the kernel distributes.
    pub(super) fn partition_write(&self, client: &Client, length: u64) -> Result<Duration> {
        self.make_room(client, 0, length)?;
        let stream = &self.records[..length as usize];
        let begun = Instant::now();
        let answer = client.run(self.region.partition_write(0, stream))?;
        let taken = begun.elapsed();
        client.judge(answer.rest_from().is_none() && answer.records() == length / RECORD_BYTES);
        Ok(taken)
    }

    /// A stream that is stored and then distributed by the application.
    pub(super) fn call_partition(&self, client: &Client, length: u64) -> Result<Duration> {
        self.make_room(client, 1, length)?;
        self.write_and_call(client, length, &PartitionThis { length })
    }

    /// A stream that the kernel sketches.
    pub(super) fn sketch_write(&self, client: &Client, length: u64) -> Result<Duration> {
        let (stream, Places { sketch, stream: at, .. }) =
            (&self.records[..length as usize], self.places);
        let begun = Instant::now();
        client.run(self.region.sketch_write(at, sketch, PRECISION, stream))?;
        Ok(begun.elapsed())
    }

    /// A stream that is stored and then sketched by the application.
    pub(super) fn call_sketch(&self, client: &Client, length: u64) -> Result<Duration> {
        self.write_and_call(client, length, &SketchThis { length })
    }

    fn write_and_call<P: Procedure<Answer = u64>>(
        &self,
        client: &Client,
        length: u64,
        asked: &P,
    ) -> Result<Duration> {
        let stream = &self.records[..length as usize];
        let begun = Instant::now();
        client.run(self.region.write(self.places.stream, stream))?;
        let done = client.call(asked)?;
        let taken = begun.elapsed();
        client.judge(done == length / RECORD_BYTES);
        Ok(taken)
    }

    /// Partitions that have not three quarters of their room left are looked at and emptied.
    fn make_room(&self, client: &Client, which: usize, length: u64) -> Result<()> {
        let shape = &self.places.shape;
        let there = self.there[which].get() + length / RECORD_BYTES;
        if there > shape.capacity * u64::from(shape.count()) / 4 * 3 {
            self.tally(client, which)?;
        }
        self.there[which].update(|there| there + length / RECORD_BYTES);
        Ok(())
    }

    /// Looks at what is in the partitions, and empties them.
    fn tally(&self, client: &Client, which: usize) -> Result<()> {
        let found = client.call(&Tally { own: which == 1 })?;
        client.judge(found == Some(self.there[which].replace(0)));
        Ok(())
    }

    /// Looks at all that the streams have left behind.
    pub(super) fn check(&self, client: &Client) -> Result<()> {
        (0..2).try_for_each(|which| self.tally(client, which))?;
        let sketch = self.places.sketch..self.places.sketch + sketch_bytes(PRECISION);
        let sketch = client.run(self.region.read(sketch))?;
        let different = (SIZE_MAX / RECORD_BYTES) as f64;
        let is_near = |estimate: f64| (estimate / different - 1.0).abs() < ERROR_MAX;
        client.judge(is_near(estimate(&sketch)?));
        client.judge(is_near(client.call(&SketchThis { length: 0 })? as f64));
        Ok(())
    }
}
