//! PARTITION_WRITE: distributes records over partitions by a key of theirs.

use nic_kernels::partition_write::{Answer, Arguments};
use nic_wire::KernelId;
use zerocopy::IntoBytes;

use crate::error::OpError;
use crate::operation::{Ask, Facts, Op, Operation, Reply};
use crate::remote::RemoteRegion;

impl RemoteRegion {
    /// Distributes records over the [partitions](crate::partition_write) at an address of the
    /// region, in one round trip: each behind what its partition has already. The export must allow
    /// reads, writes and atomics.
    ///
    /// The payload is copied when the op is submitted; it has whole records and at most 1 MiB and
    /// 4 KiB. If a partition has no room for its records, partitions from that one on get none, and
    /// the answer [says so](crate::partition_write::Answer::rest_from).
    ///
    /// ```
    /// use nic_host::partition_write::{By, Partitions, Shape};
    /// use nic_host::{Access, InlineConfig, Nic};
    ///
    /// // The owner: four partitions of up to a thousand 8-byte keys, by the keys' lowest bits.
    /// let nic = Nic::inline(InlineConfig::default())?;
    /// let by = By::Radix { shift: 0 };
    /// let shape = Shape { bits: 2, record_bytes: 8, key_offset: 0, by, capacity: 1000 };
    /// let region = nic.region(shape.bytes().ok_or("too large")?).create()?;
    /// let partitions = Partitions::format(region.memory().clone(), 0, shape)?;
    /// let export = region.export(Access::READ.and(Access::WRITE).and(Access::ATOMIC))?;
    ///
    /// let session = nic.session().open()?;
    /// let remote = session.connect(&export.ticket())?;
    /// let keys: Vec<u8> = (0..100u64).flat_map(u64::to_le_bytes).collect();
    /// let answer = session.run(remote.partition_write(0, &keys))?;
    /// assert_eq!((answer.rest_from(), answer.records()), (None, 100));
    ///
    /// assert_eq!(partitions.counters(3).whole(), Some(25));
    /// let mut first = [0; 16];
    /// partitions.read(3, 0, &mut first)?;
    /// assert_eq!(first, [3u64, 7].map(u64::to_le_bytes).as_flattened());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn partition_write<'a>(&self, header: u64, records: &'a [u8]) -> Op<PartitionWrite<'a>> {
        let arguments = Arguments::home(header);
        Op::new(PartitionWrite { remote: self.remote(), arguments, records })
    }
}

/// Distributes records over partitions.
#[derive(Clone, Copy, Debug)]
pub struct PartitionWrite<'a> {
    remote: u16,
    arguments: Arguments,
    records: &'a [u8],
}

impl Op<PartitionWrite<'_>> {
    /// Goes on with records of which those of partitions below this one are written: where
    /// [`Answer::rest_from`] says that an op has stopped.
    #[must_use]
    pub fn from_partition(mut self, partition: u16) -> Self {
        self.operation.arguments = self.operation.arguments.from_partition(partition);
        self
    }
}

impl Operation for PartitionWrite<'_> {
    type Output = Answer;

    #[inline]
    fn ask(&self) -> Ask<'_> {
        Ask::new(KernelId::PARTITION_WRITE, self.remote, self.arguments.as_bytes())
            .payload(self.records)
            .reply(Answer::BYTES)
    }

    #[inline]
    fn result(_: &Facts, reply: Reply) -> Result<Answer, OpError> {
        Answer::decode(reply.bytes()).ok_or(OpError::BadReply)
    }
}
