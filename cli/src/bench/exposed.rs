//! What a target application offers: memory, a table, a service; and how it waits.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Result, bail};
use nic_host::{
    Access, Answer, BucketTable, Export, Geometry, Identity, Nic, Region, ServeError, Session, Wait,
};
use nic_kernels::bucket_table::VALUE_BYTES_MAX;
use nic_shm::wait_any;
use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::layout::{Areas, Header, REGION_BYTES_MIN};
use super::ops::{self, ANSWER_BYTES_MAX, KEY_BYTES};
use super::site::{RPC_SERVICE, SERVICE, Tickets};
use super::structures::Structures;

/// The largest memory in bytes, and the most entries: more than any machine has.
const REGION_BYTES_MAX: u64 = 1 << 42;
const ENTRIES_MAX: u64 = 1 << 32;
/// What a table takes, at most, unless it is said how many entries it has, in bytes.
const TABLE_BYTES: u64 = 256 << 20;
/// How many entries it has at most unless it is said.
const ENTRIES: u64 = 100_000;
/// The memory's length unless it is said, in bytes.
pub const REGION_BYTES: u64 = 64 << 20;
/// Calls that may wait to be served.
const CALLS: u32 = 1024;
/// How long to sleep until the engine is looked after.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// How long a target that does not block waits at a time.
const MOMENT: Duration = Duration::from_millis(100);
/// Entries after which progress is told.
const STEP: u64 = 1 << 14;

/// How much is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The memory's length.
    pub region_bytes: u64,
    /// Keys in the table.
    pub entries: u64,
    /// The length of each value.
    pub value_bytes: u64,
}

impl Shape {
    /// With as many entries as go well with the length of their values, unless it is said.
    pub fn new(region_bytes: u64, entries: Option<u64>, value_bytes: u64) -> Result<Self, Fault> {
        let within = |option, found, least, most| match (least..=most).contains(&found) {
            true => Ok(()),
            false => Err(Fault::Memory { option, found, least, most }),
        };
        within("--region-bytes", region_bytes, REGION_BYTES_MIN, REGION_BYTES_MAX)?;
        within("--value-bytes", value_bytes, 1, VALUE_BYTES_MAX as u64)?;
        let usual = (TABLE_BYTES / (value_bytes + 64)).min(ENTRIES);
        let entries = entries.unwrap_or(usual);
        within("--entries", entries, 1, ENTRIES_MAX)?;
        Ok(Shape { region_bytes, entries, value_bytes })
    }
}

/// It is there as long as this value is.
pub struct Exposed {
    session: Session,
    exports: [Export; 2],
    /// The memory, the table's index, its entries.
    regions: [Region; 3],
}

impl Exposed {
    /// Makes and fills it; `filled` is told now and then that it goes on.
    pub fn make(
        nic: &Nic,
        shape: &Shape,
        wait: Wait,
        filled: impl Fn() -> Result<()>,
    ) -> Result<Self> {
        let Shape { region_bytes, entries: count, value_bytes } = *shape;
        let memory = nic.region(region_bytes).create()?;
        let header = Header::new(memory.number(), count, value_bytes);
        let Some(areas) = Areas::of(region_bytes) else { bail!("the memory is too short") };
        Structures::new(&areas, value_bytes).fill(&memory.memory(), memory.number())?;
        areas.fill(&memory.memory(), &header)?;
        filled()?;
        let geometry = Geometry::for_entries(count);
        let index = nic.region(geometry.index_bytes()).create()?;
        let entry_bytes = Geometry::entries_bytes(count, KEY_BYTES as u64, value_bytes);
        let entries = nic.region(entry_bytes).create()?;
        let identity = Identity { entries_region: entries.number(), ..Identity::default() };
        let mut table = BucketTable::format(index.memory(), entries.memory(), geometry, identity)?;
        let mut value = vec![0; value_bytes as usize];
        for number in 0..count {
            let key = ops::key(number);
            ops::value(&key).fill(&mut value);
            table.insert(&key, &value)?;
            if number.is_multiple_of(STEP) {
                filled()?;
            }
        }
        let session = nic.session().receive_buffers(CALLS, ANSWER_BYTES_MAX).wait(wait).open()?;
        session.serve(SERVICE)?;
        session.serve(RPC_SERVICE)?;
        let all = Access::READ.and(Access::WRITE).and(Access::ATOMIC).and(Access::CALL);
        let exports = [memory.export(all)?, index.export(Access::READ.follow(&entries))?];
        Ok(Exposed { session, exports, regions: [memory, index, entries] })
    }

    /// What initiators need.
    pub fn tickets(&self) -> Tickets {
        let [memory, table] = &self.exports;
        Tickets { memory: memory.ticket(), table: Some(table.ticket()) }
    }

    /// What pages memory, index and entries got.
    pub fn pages(&self) -> [String; 3] {
        self.regions.each_ref().map(|region| region.page_kind().to_string())
    }

    /// Answers calls, and sleeps between them as the session does, until `is_over` says so once one
    /// of the descriptors has something.
    ///
    /// # Errors
    /// The engine is gone.
    pub fn serve(
        &self,
        wait: Wait,
        ends: &[BorrowedFd<'_>],
        mut is_over: impl FnMut() -> bool,
    ) -> Result<()> {
        let session = &self.session;
        let mut handler =
            |service: u16, request: &[u8], answer: &mut Answer<'_>| -> Result<(), ServeError> {
                match service {
                    RPC_SERVICE => ops::answer_rpc(request, answer),
                    _ => ops::answer_call(request, answer),
                }
            };
        let mut watched = ends.to_vec();
        watched.push(session.as_fd());
        loop {
            session.answer_calls(&mut handler)?;
            let is_ended = match wait {
                Wait::Block if session.arm()? => {
                    let ready = wait_any(&watched, Some(LOOK_AFTER))?;
                    if ready.is_empty() {
                        // This notices an engine that is gone.
                        session.wait(Duration::from_micros(1))?;
                    }
                    (0..ends.len()).any(|end| ready.contains(end))
                }
                Wait::Block => !wait_any(ends, Some(Duration::ZERO))?.is_empty(),
                Wait::Spin | Wait::Adaptive => {
                    session.wait(MOMENT)?;
                    !wait_any(ends, Some(Duration::ZERO))?.is_empty()
                }
            };
            if is_ended && is_over() {
                return Ok(());
            }
            if session.is_lost() {
                bail!(nic_host::NicError::EngineLost);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_long_values_have_few_entries_unless_it_is_said() {
        let entries = |value_bytes| Shape::new(1 << 20, None, value_bytes).unwrap().entries;
        assert_eq!((entries(64), entries(1 << 20)), (100_000, 255));
        let said = |error: Fault| error.to_string();
        let short = said(Shape::new(1000, None, 64).unwrap_err());
        assert_eq!(short, "--region-bytes 1000: expected 1048576 to 4398046511104 bytes");
        assert!(said(Shape::new(1 << 20, Some(0), 64).unwrap_err()).contains("--entries 0"));
        assert!(said(Shape::new(1 << 20, None, 0).unwrap_err()).contains("--value-bytes 0"));
    }
}
