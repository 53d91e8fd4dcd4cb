//! CHAIN_READ and CHAIN_APPEND: Clover's version chains.

use std::ops::Range;

use nic_kernels::chain_append::{self, Outcome};
use nic_kernels::chain_read::{self, Verdict};
use nic_kernels::version_chain::{Image, Link, PointerWord};
use nic_wire::{KernelId, Status};
use zerocopy::IntoBytes;

use crate::error::OpError;
use crate::operation::{Ask, Facts, Judgement, Op, Operation, Reply};
use crate::remote::RemoteRegion;

impl RemoteRegion {
    /// Reads the latest entry of a [version chain](nic_kernels::version_chain), from a cursor, a
    /// shortcut or both, with room for a value of `value_bytes_max` bytes. What is torn is read
    /// again.
    ///
    /// ```
    /// use nic_host::ops::{ChainAppended, ChainEnd};
    /// use nic_host::version_chain::{Image, Pool};
    /// use nic_host::{Access, HOME_REGION, InlineConfig, Nic, chain_append, chain_read};
    ///
    /// // The owner: a pool of 256-byte buffers with a chain in it, and a fresh buffer to give away.
    /// let nic = Nic::inline(InlineConfig::default())?;
    /// let region = nic.region(64 << 10).create()?;
    /// let mut pool = Pool::format(&[(region.number(), region.memory())], 8, 256)?;
    /// let chain = pool.create(b"red")?;
    /// let fresh = pool.allocate().ok_or("no buffer is free")?;
    /// let export = region.export(Access::READ.and(Access::WRITE).and(Access::ATOMIC))?;
    ///
    /// // A writer that knows the first entry: write and link in one round trip.
    /// let session = nic.session().depth(16).open()?;
    /// let remote = session.connect(&export.ticket())?;
    /// let image = Image::compose(fresh, 256, b"green")?;
    /// let append = chain_append::Arguments::new(chain.first, fresh)
    ///     .with_shortcut(HOME_REGION, chain.shortcut, false);
    /// let appended = session.run(remote.chain_append(append, &image))?;
    /// assert!(matches!(appended, ChainAppended::Linked { behind, .. } if behind == chain.first));
    ///
    /// // A reader whose cursor is as old: the walk takes place beside the memory.
    /// let read = chain_read::Arguments::from_cursor(chain.first);
    /// match session.run(remote.chain_read(read, 256))? {
    ///     ChainEnd::Latest(entry) => {
    ///         assert_eq!((entry.value(), entry.at(), entry.hops()), (&b"green"[..], fresh, 1));
    ///     }
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn chain_read(
        &self,
        arguments: chain_read::Arguments,
        value_bytes_max: u32,
    ) -> Op<ChainRead> {
        Op::new(ChainRead { remote: self.remote(), arguments, value_bytes_max })
    }

    /// Writes an image into its fresh buffer and links it behind the latest entry of a chain; the
    /// image says which buffer. See [`chain_read`](Self::chain_read) for an example.
    #[inline]
    pub fn chain_append<'a>(
        &self,
        arguments: chain_append::Arguments,
        image: &'a Image,
    ) -> Op<ChainAppend<'a>> {
        let arguments = chain_append::Arguments { fresh: image.fresh().raw().into(), ..arguments };
        Op::new(ChainAppend { remote: self.remote(), arguments, image: image.bytes() })
    }

    /// Links an entry that is written already: goes on with what [`ChainAppended::Bound`] holds, or asks
    /// after an append whose fate is unknown.
    #[inline]
    pub fn chain_link(&self, arguments: chain_append::Arguments) -> Op<ChainAppend<'static>> {
        Op::new(ChainAppend { remote: self.remote(), arguments: arguments.written(), image: &[] })
    }
}

/// Walks a version chain to its latest entry, and reads it.
#[derive(Clone, Copy, Debug)]
pub struct ChainRead {
    remote: u16,
    arguments: chain_read::Arguments,
    value_bytes_max: u32,
}

/// Where a walk ended.
#[derive(Debug)]
pub enum ChainEnd {
    /// At the latest committed entry.
    Latest(ChainEntry),
    /// At a buffer that was recycled: ask the owner for a new cursor.
    Recycled,
    /// At its bound: go on from there with another CHAIN_READ.
    Bound(chain_read::Arguments),
}

/// An entry of a chain, in the session's arena; dropping it frees its place.
#[derive(Debug)]
pub struct ChainEntry {
    reply: Reply,
    value: Range<usize>,
    at: Link,
    pending: bool,
    hops: u16,
}

impl ChainEntry {
    /// Its value.
    #[inline]
    pub fn value(&self) -> &[u8] {
        &self.reply.bytes()[self.value.clone()]
    }

    /// Its link: the cursor for the next time.
    #[inline]
    pub fn at(&self) -> Link {
        self.at
    }

    /// Whether an entry follows whose link is not committed.
    #[inline]
    pub fn is_pending(&self) -> bool {
        self.pending
    }

    /// How many links were followed.
    #[inline]
    pub fn hops(&self) -> u16 {
        self.hops
    }
}

impl Operation for ChainRead {
    type Output = ChainEnd;

    #[inline]
    fn ask(&self) -> Ask<'_> {
        Ask::new(KernelId::CHAIN_READ, self.remote, self.arguments.as_bytes())
            .reply(chain_read::reply_bytes(self.value_bytes_max))
    }

    #[inline]
    fn judge(_: &Facts, _: &[u8], reply: &[u8]) -> Judgement {
        // No other reply has the length of a continuation.
        let is_continuation = reply.len() == chain_read::Arguments::BYTES;
        match is_continuation || chain_read::validate(reply) != Verdict::Torn {
            true => Judgement::Keep,
            false => Judgement::Again,
        }
    }

    #[inline]
    fn result(_: &Facts, reply: Reply) -> Result<ChainEnd, OpError> {
        if reply.status() == Status::Continues {
            let rest = chain_read::Arguments::decode(reply.bytes());
            return rest.map(ChainEnd::Bound).map_err(|_| OpError::BadReply);
        }
        match chain_read::validate(reply.bytes()) {
            Verdict::Latest { at, value, pending, hops } => {
                Ok(ChainEnd::Latest(ChainEntry { reply, value, at, pending, hops }))
            }
            Verdict::Recycled => Ok(ChainEnd::Recycled),
            Verdict::Torn | Verdict::Malformed => Err(OpError::BadReply),
        }
    }
}

/// Writes an entry into its fresh buffer, and links it behind the latest of a chain.
#[derive(Clone, Copy, Debug)]
pub struct ChainAppend<'a> {
    remote: u16,
    arguments: chain_append::Arguments,
    image: &'a [u8],
}

/// What became of an entry that was to be appended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ChainAppended {
    /// It follows another.
    Linked {
        /// The entry that it follows.
        behind: Link,
        /// That entry's pointer word as it is now: to be committed, if it is not.
        word: PointerWord,
        /// How many links were followed.
        hops: u16,
    },
    /// It had been linked before.
    LinkedBefore,
    /// Nothing: the walk ended at a buffer that was recycled. Ask the owner for a new cursor.
    Recycled,
    /// Nothing: another writer's link is not committed. Try again, or commit it in its place.
    Pending {
        /// The entry behind which it is.
        at: Link,
        /// That entry's pointer word.
        word: PointerWord,
    },
    /// It is written and not linked: go on with these arguments and no image.
    Bound(chain_append::Arguments),
}

impl Operation for ChainAppend<'_> {
    type Output = ChainAppended;

    #[inline]
    fn ask(&self) -> Ask<'_> {
        Ask::new(KernelId::CHAIN_APPEND, self.remote, self.arguments.as_bytes())
            .payload(self.image)
            .reply(chain_append::Arguments::BYTES as u32)
    }

    #[inline]
    fn result(_: &Facts, reply: Reply) -> Result<ChainAppended, OpError> {
        if reply.status() == Status::Continues {
            let rest = chain_append::Arguments::decode(reply.bytes());
            return rest.map(ChainAppended::Bound).map_err(|_| OpError::BadReply);
        }
        let reply = chain_append::Reply::decode(reply.bytes()).ok_or(OpError::BadReply)?;
        let (at, word, hops) = (reply.at(), reply.word(), reply.hops.get());
        Ok(match reply.outcome().ok_or(OpError::BadReply)? {
            Outcome::Linked => ChainAppended::Linked { behind: at, word, hops },
            Outcome::LinkedBefore => ChainAppended::LinkedBefore,
            Outcome::Recycled => ChainAppended::Recycled,
            Outcome::Pending => ChainAppended::Pending { at, word },
        })
    }
}
