//! What the initiator believes of a reply.

use core::ops::Range;

use zerocopy::FromBytes;

use super::layout::{Outcome, REPLY_HEADER_BYTES, ReplyHeader};
use crate::version_chain::layout::{HEADER_BYTES, Link};
use crate::version_chain::{EntryState, check_entry};

/// What a reader may conclude.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The latest committed entry.
    Latest {
        /// Its link: the next cursor.
        at: Link,
        /// Where in the reply its value is.
        value: Range<usize>,
        /// Whether an entry follows whose link is not committed.
        pending: bool,
        /// How many links were followed.
        hops: u16,
    },
    /// The chain is not where it was: ask the owner for a new cursor.
    Recycled,
    /// What was read is not whole: its buffer was recycled meanwhile. Read again.
    Torn,
    /// No CHAIN_READ answers so.
    Malformed,
}

/// Judges the reply of a CHAIN_READ whose status is [`Ok`](nic_wire::Status::Ok).
pub fn validate(reply: &[u8]) -> Verdict {
    let Ok((header, entry)) = ReplyHeader::ref_from_prefix(reply) else {
        return Verdict::Malformed;
    };
    match header.outcome() {
        Some(Outcome::Recycled) => Verdict::Recycled,
        Some(Outcome::Latest) => {
            let at = Link::from_raw(header.at.get());
            match check_entry(at, entry) {
                EntryState::Whole { length } => Verdict::Latest {
                    at,
                    value: Range {
                        start: REPLY_HEADER_BYTES + HEADER_BYTES,
                        end: REPLY_HEADER_BYTES + HEADER_BYTES + length,
                    },
                    pending: header.flags & ReplyHeader::PENDING != 0,
                    hops: header.hops.get(),
                },
                EntryState::Torn => Verdict::Torn,
            }
        }
        None => Verdict::Malformed,
    }
}
