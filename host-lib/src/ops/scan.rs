//! SCAN: a predicate over a range of records.

use nic_kernels::scan::{self, Answer, Kind};
use nic_wire::{KernelId, Status};
use zerocopy::IntoBytes;

use crate::error::OpError;
use crate::operation::{Ask, Facts, Op, Operation, Reply};
use crate::remote::RemoteRegion;

/// The longest reply in bytes: what a kernel may gather.
const REPLY_BYTES_MAX: u32 = 512;

impl RemoteRegion {
    /// Scans a range of fixed-size records near memory: how many match, the sum, least or greatest
    /// of a field of theirs, or a part of each.
    ///
    /// ```
    /// use nic_host::scan::{Arguments, Comparison, Field};
    /// use nic_host::{Access, InlineConfig, Nic};
    ///
    /// // The owner: a thousand records of 16 bytes, {number u64, square u64}.
    /// let nic = Nic::inline(InlineConfig::default())?;
    /// let region = nic.region(16 << 10).create()?;
    /// let memory = region.memory();
    /// for number in 0..1000u64 {
    ///     memory.write(number * 16, &number.to_le_bytes())?;
    ///     memory.write(number * 16 + 8, &(number * number).to_le_bytes())?;
    /// }
    /// let export = region.export(Access::READ)?;
    ///
    /// let session = nic.session().depth(16).open()?;
    /// let remote = session.connect(&export.ticket())?;
    /// let (number, square) = (Field::unsigned(0, 8), Field::unsigned(8, 8));
    /// let below_ten = Arguments::home(0, 16, 1000).only(number, Comparison::Less, 10);
    /// let sum = session.run(remote.scan(below_ten.sum(square)))?;
    /// assert_eq!((sum.matched(), sum.number()), (10, 285));
    ///
    /// // The squares themselves; more than a reply holds would be gone on with from `rest`.
    /// let rows = session.run(remote.scan(below_ten.rows(8, 8)))?;
    /// assert_eq!(rows.rows().nth(9), Some(&81u64.to_le_bytes()[..]));
    /// assert!(rows.rest().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn scan(&self, arguments: scan::Arguments) -> Op<Scan> {
        Op::new(Scan { remote: self.remote(), arguments })
    }
}

/// Scans a range of records.
#[derive(Clone, Copy, Debug)]
pub struct Scan {
    remote: u16,
    arguments: scan::Arguments,
}

/// What a scan found, in the session's arena; dropping it frees its place.
#[derive(Debug)]
pub struct Scanned {
    reply: Reply,
    matched: u64,
    number: i128,
    /// Length of the rows together, and of each; not zero.
    rows: usize,
    row: usize,
    rest: Option<scan::Arguments>,
}

impl Scanned {
    /// How many records matched.
    #[inline]
    pub fn matched(&self) -> u64 {
        self.matched
    }

    /// Their sum, least or greatest; 0 if none matched.
    #[inline]
    pub fn number(&self) -> i128 {
        self.number
    }

    /// The parts of those that matched, if rows were asked for.
    #[inline]
    pub fn rows(&self) -> std::slice::ChunksExact<'_, u8> {
        self.reply.bytes()[..self.rows].chunks_exact(self.row)
    }

    /// The scan of the records that were not looked at: there was no room for more rows, or the
    /// target's engine gives no op so much. What it finds is to be added.
    #[inline]
    pub fn rest(&self) -> Option<scan::Arguments> {
        self.rest
    }
}

impl Operation for Scan {
    type Output = Scanned;

    #[inline]
    fn ask(&self) -> Ask<'_> {
        let (kind, part) = (self.arguments.answer, self.arguments.part_length.get());
        Ask::new(KernelId::SCAN, self.remote, self.arguments.as_bytes())
            .reply(REPLY_BYTES_MAX)
            .facts([kind.into(), part.into(), 0])
    }

    #[inline]
    fn result(facts: &Facts, reply: Reply) -> Result<Scanned, OpError> {
        let is_rows = facts[0] == Kind::Rows as u64;
        let kind = if is_rows { Kind::Rows } else { Kind::Count };
        let stopped = reply.status() == Status::Continues;
        // It is what was asked for, which has 16 bits.
        let part = facts[1] as u16;
        let Answer { matched, number, rows, rest } =
            Answer::decode_parts(kind, part, stopped, reply.bytes()).ok_or(OpError::BadReply)?;
        let (rows, row) = (rows.len(), usize::from(part.max(1)));
        Ok(Scanned { reply, matched, number, rows, row, rest })
    }
}
