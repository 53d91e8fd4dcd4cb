//! What the initiator makes of replies.

use super::layout::{Arguments, Kind};

/// Length of a reply that is a number, in bytes.
pub(super) const NUMBER_BYTES: usize = 24;

/// A reply, taken apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer<'a> {
    /// How many records matched.
    pub matched: u64,
    /// Their sum, least or greatest; 0 if none matched, or for other kinds.
    pub number: i128,
    /// The parts of those that matched, if rows were asked for, one behind the other.
    pub rows: &'a [u8],
    /// The arguments with which another op goes on; `None` if all records were looked at.
    pub rest: Option<Arguments>,
}

impl<'a> Answer<'a> {
    /// Takes the reply to a scan apart. `stopped`: its status was
    /// [`Continues`](nic_wire::Status::Continues). `None` if no SCAN with such arguments answers so.
    pub fn decode(arguments: &Arguments, stopped: bool, reply: &'a [u8]) -> Option<Self> {
        let kind = Kind::from_code(arguments.answer)?;
        Self::decode_parts(kind, arguments.part_length.get(), stopped, reply)
    }

    /// The same where of the arguments only these are known.
    pub fn decode_parts(
        kind: Kind,
        part_length: u16,
        stopped: bool,
        reply: &'a [u8],
    ) -> Option<Self> {
        let (found, rest) = if stopped {
            let (found, rest) =
                reply.split_at_checked(reply.len().checked_sub(Arguments::BYTES)?)?;
            (found, Some(Arguments::decode(rest).ok()?))
        } else {
            (reply, None)
        };
        if kind == Kind::Rows {
            let length = usize::from(part_length);
            let is_whole = length != 0 && found.len().is_multiple_of(length);
            let matched = is_whole.then(|| (found.len() / length) as u64)?;
            return Some(Answer { matched, number: 0, rows: found, rest });
        }
        let found: &[u8; NUMBER_BYTES] = found.try_into().ok()?;
        let (matched, number) = (found.first_chunk()?, found.last_chunk()?);
        let (matched, number) = (u64::from_le_bytes(*matched), i128::from_le_bytes(*number));
        Some(Answer { matched, number, rows: &[], rest })
    }
}
