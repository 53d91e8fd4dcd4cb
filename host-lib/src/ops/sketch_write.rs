//! SKETCH_WRITE: stores values and counts, in passing, the different ones.

use nic_kernels::sketch_write::{Arguments, decode_reply};
use nic_wire::KernelId;
use zerocopy::IntoBytes;

use crate::error::OpError;
use crate::operation::{Ask, Facts, Op, Operation, Reply};
use crate::remote::RemoteRegion;

/// Length of a reply in bytes.
const REPLY_BYTES: u32 = 8;

impl RemoteRegion {
    /// Writes 8-byte values to an address of the region, as WRITE does, and counts the different
    /// ones in passing: in the [sketch](crate::sketch_write) at another address, of that precision.
    /// Says how many of the sketch's registers were raised. The export must allow reads, writes and
    /// atomics.
    ///
    /// The payload is copied when the op is submitted; at most 1 MiB.
    ///
    /// ```
    /// use nic_host::sketch_write::{Sketch, estimate, sketch_bytes};
    /// use nic_host::{Access, InlineConfig, Nic};
    ///
    /// // The owner: a sketch of 2^10 registers, and room for values.
    /// let nic = Nic::inline(InlineConfig::default())?;
    /// let region = nic.region(64 << 10).create()?;
    /// let sketch = Sketch::format(region.memory().clone(), 0, 10)?;
    /// let export = region.export(Access::READ.and(Access::WRITE).and(Access::ATOMIC))?;
    ///
    /// let session = nic.session().open()?;
    /// let remote = session.connect(&export.ticket())?;
    /// let values: Vec<u8> = (0..4000u64).flat_map(|n| (n % 500).to_le_bytes()).collect();
    /// assert!(session.run(remote.sketch_write(4096, 0, 10, &values))? > 300);
    /// assert!((450.0..550.0).contains(&sketch.estimate()?));
    ///
    /// // Anybody who may read it sees the same.
    /// let bytes = session.run(remote.read(0..sketch_bytes(10)))?;
    /// assert_eq!(estimate(&bytes)?, sketch.estimate()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn sketch_write<'a>(
        &self,
        address: u64,
        sketch: u64,
        precision: u8,
        values: &'a [u8],
    ) -> Op<SketchWrite<'a>> {
        let arguments = Arguments::home(address, sketch, precision);
        Op::new(SketchWrite { remote: self.remote(), arguments, values })
    }
}

/// Stores values and counts the different ones.
#[derive(Clone, Copy, Debug)]
pub struct SketchWrite<'a> {
    remote: u16,
    arguments: Arguments,
    values: &'a [u8],
}

impl Operation for SketchWrite<'_> {
    type Output = u32;

    #[inline]
    fn ask(&self) -> Ask<'_> {
        Ask::new(KernelId::SKETCH_WRITE, self.remote, self.arguments.as_bytes())
            .payload(self.values)
            .reply(REPLY_BYTES)
    }

    #[inline]
    fn result(_: &Facts, reply: Reply) -> Result<u32, OpError> {
        decode_reply(reply.bytes()).ok_or(OpError::BadReply)
    }
}
