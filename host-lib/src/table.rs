//! CliqueMap's table, looked into from afar.

use std::time::Instant;

use nic_kernels::bucket_table::layout::{
    BUCKET_HEADER_BYTES, BucketHeader, ENTRY_HEADER_BYTES, EntryHeader, INDEX_ENTRY_BYTES,
};
use nic_kernels::bucket_table::{
    BadTable, Bucket, KEY_BYTES_MAX, KeyHash, TableView, VALUE_BYTES_MAX, Verdict, validate,
    validate_entry,
};
use nic_kernels::{read, scan_and_read};
use nic_wire::ticket::Ticket;
use nic_wire::{Fate, KernelId, Status};
use zerocopy::{FromBytes, IntoBytes};

use crate::error::{NicError, OpError};
use crate::operation::{Ask, DEFAULT_DEADLINE, Facts, Judgement, Op, Operation, Reply};
use crate::ops::{Bytes, Read};
use crate::remote::RemoteRegion;
use crate::session::{Answer, ServeError, Session};

/// What the owner of a table answers with before the value: {found u8, zero x 7, version u64}.
const ANSWER_HEADER_BYTES: usize = 16;

/// Why a table cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no way to the region.
    #[error(transparent)]
    Connect(#[from] NicError),
    /// The region's start cannot be read.
    #[error("the table's header cannot be read: {0}")]
    Read(#[from] OpError),
    /// It is no table of this layout.
    #[error(transparent)]
    Table(#[from] BadTable),
}

/// A table in the memory of an application of another host.
#[derive(Clone, Debug)]
pub struct RemoteTable {
    region: RemoteRegion,
    view: TableView,
    /// The longest value that lookups have room for, in bytes.
    value_bytes_max: u32,
}

/// What a lookup found.
#[derive(Debug)]
pub enum Lookup {
    /// The key is there.
    Hit(Entry),
    /// It is not.
    Miss,
    /// The bucket has overflowed: ask the owner ([`RemoteTable::get`] does).
    Overflowed,
}

/// An entry as it was read: whole, and of the key asked for.
#[derive(Debug)]
pub struct Entry {
    bytes: Bytes,
    value: std::ops::Range<usize>,
    version: u64,
}

impl Entry {
    /// Its value.
    #[inline]
    pub fn value(&self) -> &[u8] {
        &self.bytes[self.value.clone()]
    }

    /// Its version: grows with every change of the table.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version
    }
}

impl RemoteTable {
    /// Opens the table that a ticket's region begins with: the flow is up afterwards, versions and
    /// layout are checked.
    ///
    /// # Errors
    /// No way there, or no such table.
    pub fn open(session: &Session, ticket: &Ticket) -> Result<Self, OpenError> {
        let region = session.connect(ticket)?;
        let header =
            session.run(region.read(ticket.base..ticket.base + TableView::HEADER_BYTES as u64))?;
        Ok(RemoteTable { region, view: TableView::parse(&header)?, value_bytes_max: 1024 })
    }

    /// Lookups have room for values up to so many bytes (1024 unless set).
    #[must_use]
    pub fn with_values_up_to(self, bytes: u32) -> Self {
        RemoteTable { value_bytes_max: bytes.min(VALUE_BYTES_MAX as u32), ..self }
    }

    /// The region that the table begins.
    pub fn region(&self) -> &RemoteRegion {
        &self.region
    }

    /// Scan-and-Read: the bucket is scanned next to the memory and the entry comes back with it,
    /// in one round trip.
    #[inline]
    pub fn scan_and_read<'k>(&self, key: &'k [u8]) -> Op<ScanAndRead<'k>> {
        let hash = KeyHash::of(key);
        Op::new(ScanAndRead {
            remote: self.region.remote(),
            arguments: self.view.scan_and_read(hash),
            key,
            hash,
            config_id: self.view.config_id,
            reply_capacity: scan_and_read::reply_bytes(key.len() as u32, self.value_bytes_max),
        })
    }

    /// Looks a key up by two plain READs, bucket and entry: what RDMA would do (CliqueMap's 2xR).
    /// What is torn is read again, for as long as an op may take unless it is told otherwise.
    ///
    /// # Errors
    /// How a READ failed, or the table changed, or what was read stayed torn.
    pub fn two_reads(&self, session: &Session, key: &[u8]) -> Result<Lookup, OpError> {
        let hash = KeyHash::of(key);
        let mut torn_since = None;
        'again: loop {
            let bucket = session
                .run(Op::new(Read::of(self.region.remote(), self.view.read_bucket(hash))))?;
            let header = BucketHeader::read_from_prefix(&bucket).map_err(|_| OpError::BadReply)?.0;
            let parsed = Bucket::parse(&bucket).ok_or(OpError::BadReply)?;
            for (index, pointer) in parsed.candidates(hash) {
                let ask: read::Arguments = TableView::read_entry(pointer);
                let entry = session.run(Op::new(Read::of(self.region.remote(), ask)))?;
                let verdict =
                    validate_entry(&header, index, &entry, key, hash, self.view.config_id);
                match verdict {
                    Verdict::Hit { value, version } => {
                        return Ok(Lookup::Hit(Entry { bytes: entry, value, version }));
                    }
                    Verdict::Torn(_) => {
                        let since = *torn_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= DEFAULT_DEADLINE {
                            let (status, fate) = (Status::Torn, Fate::NotExecuted);
                            return Err(OpError::failed(status, fate));
                        }
                        continue 'again;
                    }
                    Verdict::WrongConfig { found } => return Err(OpError::WrongConfig { found }),
                    // A neighbour with the same low half of the hash: the next candidate.
                    Verdict::Miss | Verdict::Overflowed => {}
                }
            }
            return absent(&header, self.view.config_id);
        }
    }

    /// Asks the owner by CALL, as for a key of an overflowed bucket. `into` receives the value.
    ///
    /// # Errors
    /// How the call failed; the owner may serve no calls.
    pub fn ask_owner(
        &self,
        session: &Session,
        key: &[u8],
    ) -> Result<Option<(u64, Bytes)>, OpError> {
        let capacity = ANSWER_HEADER_BYTES as u32 + self.value_bytes_max;
        let service = self.view.service.unwrap_or(u16::MAX);
        let answer = session.run(self.region.call(service, key, capacity))?;
        owner_answer(answer)
    }

    /// Looks a key up by Scan-and-Read, and asks the owner if the key's bucket has overflowed.
    ///
    /// # Errors
    /// How an op failed, or the table changed.
    pub fn get(&self, session: &Session, key: &[u8]) -> Result<Option<Vec<u8>>, OpError> {
        match session.run(self.scan_and_read(key))? {
            Lookup::Hit(entry) => Ok(Some(entry.value().to_vec())),
            Lookup::Miss => Ok(None),
            Lookup::Overflowed => {
                let answer = self.ask_owner(session, key)?;
                Ok(answer.map(|(_, bytes)| bytes[ANSWER_HEADER_BYTES..].to_vec()))
            }
        }
    }

    /// The call that asks the owner for a key; its answer is read by [`owner_answer`].
    #[inline]
    pub fn call_owner<'k>(&self, key: &'k [u8]) -> Op<crate::ops::Call<'k>> {
        let capacity = ANSWER_HEADER_BYTES as u32 + self.value_bytes_max;
        self.region.call(self.view.service.unwrap_or(u16::MAX), key, capacity)
    }
}

/// Reads the owner's answer: version, and the answer whose bytes from 16 on are the value.
///
/// # Errors
/// The answer is not of this kind.
#[inline]
pub fn owner_answer(answer: Bytes) -> Result<Option<(u64, Bytes)>, OpError> {
    let header: [u8; ANSWER_HEADER_BYTES] = answer
        .get(..ANSWER_HEADER_BYTES)
        .and_then(|h| h.try_into().ok())
        .ok_or(OpError::BadReply)?;
    if header[0] == 0 {
        return Ok(None);
    }
    let mut version = [0; 8];
    version.copy_from_slice(&header[8..]);
    Ok(Some((u64::from_le_bytes(version), answer)))
}

/// The value in an owner's answer.
#[inline]
pub fn owner_value(answer: &Bytes) -> &[u8] {
    answer.get(ANSWER_HEADER_BYTES..).unwrap_or_default()
}

/// Writes the owner's answer to a call that asks for a key: `found` is its version and value.
///
/// # Errors
/// The answer has no room for the value.
pub fn answer_for_owner(
    found: Option<(u64, &[u8])>,
    answer: &mut Answer<'_>,
) -> Result<(), ServeError> {
    let mut header = [0; ANSWER_HEADER_BYTES];
    let (version, value) = found.unwrap_or_default();
    header[0] = u8::from(found.is_some());
    header[8..].copy_from_slice(version.as_bytes());
    answer.append(&header)?;
    answer.append(value)
}

fn absent(header: &BucketHeader, config_id: u64) -> Result<Lookup, OpError> {
    match nic_kernels::bucket_table::validate::absent(header, config_id) {
        Verdict::WrongConfig { found } => Err(OpError::WrongConfig { found }),
        Verdict::Overflowed => Ok(Lookup::Overflowed),
        _ => Ok(Lookup::Miss),
    }
}

/// A lookup by Scan-and-Read.
#[derive(Clone, Copy, Debug)]
pub struct ScanAndRead<'k> {
    remote: u16,
    arguments: scan_and_read::Arguments,
    key: &'k [u8],
    hash: KeyHash,
    config_id: u64,
    reply_capacity: u32,
}

fn kept(hash: KeyHash, config_id: u64) -> Facts {
    [hash.low(), hash.high(), config_id]
}

fn judged(facts: &Facts, key: &[u8], reply: &[u8]) -> Verdict {
    let hash = KeyHash(u128::from(facts[1]) << 64 | u128::from(facts[0]));
    validate(reply, key, hash, facts[2])
}

impl Operation for ScanAndRead<'_> {
    type Output = Lookup;

    #[inline]
    fn ask(&self) -> Ask<'_> {
        Ask::new(KernelId::SCAN_AND_READ, self.remote, self.arguments.as_bytes())
            .note(self.key)
            .reply(self.reply_capacity)
            .facts(kept(self.hash, self.config_id))
    }

    #[inline]
    fn judge(facts: &Facts, key: &[u8], reply: &[u8]) -> Judgement {
        match judged(facts, key, reply) {
            Verdict::Torn(_) => Judgement::Again,
            _ => Judgement::Keep,
        }
    }

    #[inline]
    fn result(facts: &Facts, reply: Reply) -> Result<Lookup, OpError> {
        // What judge kept is whole, and nobody has changed it since: here only its parts are found.
        let bytes = reply.bytes();
        let (header, _) = BucketHeader::ref_from_prefix(bytes).map_err(|_| OpError::BadReply)?;
        let before = BUCKET_HEADER_BYTES + INDEX_ENTRY_BYTES;
        let config_fits = header.config_id.get() == facts[2];
        let Some(Ok((entry, rest))) = bytes.get(before..).map(EntryHeader::ref_from_prefix) else {
            return absent(header, facts[2]);
        };
        let key_length = usize::from(entry.key_length.get());
        if !config_fits || rest.get(..key_length) != Some(reply.note()) {
            return absent(header, facts[2]);
        }
        let start = before + ENTRY_HEADER_BYTES + key_length;
        let value = start..start + entry.value_length.get() as usize;
        let version = entry.version.get();
        Ok(Lookup::Hit(Entry { bytes: Bytes(reply), value, version }))
    }
}

/// The longest key in bytes.
pub const KEY_MAX: usize = KEY_BYTES_MAX;
