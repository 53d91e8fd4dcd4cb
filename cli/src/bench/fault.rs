//! What keeps a bench from being run, and what to do about it.

use nic_host::{BadTicket, OpError};

use super::ops::OpKind;

/// Why a load cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Give another `--size`.
    #[error(
        "--size {found}: {op} takes {least} to {most} bytes ({what})",
        op = op.name, least = op.sizes.least, most = op.sizes.most, what = op.sizes.what
    )]
    Size {
        /// What was asked for.
        found: u64,
        /// Of which op.
        op: &'static OpKind,
    },
    /// Leave `--size` out, or start the target with other values.
    #[error(
        "--size {found}: the target has values of {has} bytes; leave --size out, or start \
         `nic bench target --value-bytes {found}`"
    )]
    ValueSize {
        /// What was asked for.
        found: u64,
        /// What the target has.
        has: u64,
    },
    /// Start a target with less memory.
    #[error(
        "the target's memory reaches {address:#x}, where no version chain can be; start the target \
         with a --region-bytes of at most 128GiB"
    )]
    Unlinked {
        /// Where a buffer was to be.
        address: u64,
    },
    /// Give a smaller `--batch`.
    #[error("--batch {batch}: at most --window ops ({window}) can be submitted together")]
    Batch {
        /// What was asked for.
        batch: u32,
        /// Ops out at once.
        window: u32,
    },
    /// Give fewer `--threads`.
    #[error(
        "--threads {threads}: there are {connections} --connections to drive, one each at least"
    )]
    Threads {
        /// What was asked for.
        threads: u32,
        /// What there is for them.
        connections: u32,
    },
    /// Threads need an engine process.
    #[error(
        "--threads {threads} with --initiator inline: an engine inside the application has one \
         thread; use --initiator process, or one thread"
    )]
    InlineThreads {
        /// What was asked for.
        threads: u32,
    },
    /// Spin, or use more threads.
    #[error(
        "a thread that sleeps watches at most {most} connections, and one would have {found}; use \
         more --threads, or --wait spin"
    )]
    Watched {
        /// Connections of one thread.
        found: usize,
        /// What can be waited for.
        most: usize,
    },
    /// Use smaller ops, or fewer at once.
    #[error(
        "--window {window}: ops of {op_bytes} bytes need {needed} bytes of session memory for each \
         connection; at most {most} can be had, so use a smaller --window or --size"
    )]
    Arena {
        /// Ops out at once.
        window: u32,
        /// What each takes.
        op_bytes: u64,
        /// All of them.
        needed: u64,
        /// What a session can have.
        most: u64,
    },
    /// The ticket is no ticket.
    #[error("--ticket: {0}")]
    Ticket(#[from] BadTicket),
    /// The line was not copied whole.
    #[error(
        "--ticket: {found} tickets between commas; expected one or two, as `nic bench target` prints \
         them in one line: memory,table"
    )]
    Tickets {
        /// How many there are.
        found: usize,
    },
    /// The op needs the second ticket.
    #[error(
        "--op {op}: it works on a table, and --ticket has only the memory's ticket; give the whole \
         line that `nic bench target` printed: memory,table", op = op.name
    )]
    NoTable {
        /// Which op.
        op: &'static OpKind,
    },
    /// The export does not allow the op.
    #[error(
        "--op {op}: the ticket allows {has:?} and {needs:?} is needed; give a ticket that `nic bench \
         target` printed", op = op.name
    )]
    Access {
        /// Which op.
        op: &'static OpKind,
        /// What the ticket allows.
        has: nic_kernels::Access,
        /// What the op needs.
        needs: nic_kernels::Access,
    },
    /// The ticket is of something else.
    #[error(
        "--ticket: the region of {bytes} bytes is no memory of a bench target of this release; give \
         the line that `nic bench target` printed, the memory's ticket first"
    )]
    NoTarget {
        /// The region's length.
        bytes: u64,
    },
    /// The header could not be read.
    #[error("the target's memory cannot be read: {0}; is `nic bench target` still running?")]
    Unreadable(OpError),
    /// Start a larger target.
    #[error(
        "--op {op}: {needed} bytes of the target's memory are needed at once and it has {has} for \
         that; use a smaller --window, --size or --connections, or start the target with \
         --region-bytes {region}", op = op.name
    )]
    Region {
        /// Which op.
        op: &'static OpKind,
        /// What one connection needs.
        needed: u64,
        /// What there is.
        has: u64,
        /// A region that would do.
        region: u64,
    },
    /// Choose another number of bytes.
    #[error("{option} {found}: expected {least} to {most} bytes")]
    Memory {
        /// Which option.
        option: &'static str,
        /// What was asked for.
        found: u64,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
}
