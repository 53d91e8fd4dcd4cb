//! All ops.

use anyhow::Result;
use nic_engine::engine::OP_BYTES_MAX;
use nic_kernels::Access;
use nic_kernels::bucket_table::VALUE_BYTES_MAX;

use super::{ANSWER_BYTES_MAX, Ground, OpKind, Open, Own, Prepared, Sizes};
use super::{
    batch, call, log, lookup, object, partition, prism, read, records, rpc, sketch, version, walk,
    word, write,
};
use crate::bench::lane::OpLane;
use crate::bench::structures::{self, POINTED_BYTES_MAX, RECORD_BYTES};

const WORD: Sizes = Sizes { usual: 8, least: 8, most: 8, what: "a word" };
/// Of values that the target has laid out.
const LAID_OUT: Sizes =
    up_to(structures::VALUE_BYTES_MAX, "the value's bytes, as the target has laid them out");
/// What ops need that write, and link or count what they have written.
const CHANGES: Access = Access::READ.union(Access::WRITE).union(Access::ATOMIC);

/// Whole words, for streams.
const fn words_up_to(most: u32) -> Sizes {
    Sizes { usual: 64, least: 8, most, what: "the bytes written, whole words" }
}

/// Any length from a byte on.
const fn up_to(most: u32, what: &'static str) -> Sizes {
    Sizes { usual: 64, least: 1, most, what }
}

/// An op that reads one value and borrows nothing: the others say what they do besides.
const fn op(name: &'static str, meaning: &'static str, sizes: Sizes, open: Open) -> OpKind {
    OpKind {
        name,
        meaning,
        sizes,
        access: Access::READ,
        on_table: false,
        is_laid_out: false,
        values: 1,
        own: Own::Nothing,
        prepare: nothing,
        open,
    }
}

/// For ops that borrow nothing.
fn nothing(_: &Ground<'_>) -> Result<Prepared> {
    Ok(Prepared::default())
}

/// All of them.
pub static OPS: [OpKind; 18] = [
    op(
        "read",
        "READ at a random address; every byte is compared",
        up_to(OP_BYTES_MAX, "the bytes read"),
        |ground| OpLane::boxed(ground, read::Reads::new(ground)),
    ),
    OpKind {
        access: Access::WRITE,
        own: Own::Place(write::pitch),
        ..op(
            "write",
            "WRITE, each op out to a place of its own; what is left is read and compared at the end",
            up_to(OP_BYTES_MAX, "the bytes written"),
            |ground| OpLane::boxed(ground, write::Writes::new(ground)),
        )
    },
    OpKind {
        access: Access::ATOMIC,
        own: Own::Word,
        ..op("cas", "COMPARE_SWAP of a word; the old value is compared", WORD, |ground| {
            OpLane::boxed(ground, word::Words::<word::Swap>::new(ground)?)
        })
    },
    OpKind {
        access: Access::ATOMIC,
        own: Own::Word,
        ..op("faa", "FETCH_ADD to a word; the old value is compared", WORD, |ground| {
            OpLane::boxed(ground, word::Words::<word::Add>::new(ground)?)
        })
    },
    OpKind {
        on_table: true,
        is_laid_out: true,
        ..op(
            "scar",
            "SCAN_AND_READ of a random key of a CliqueMap table; the value is compared",
            up_to(VALUE_BYTES_MAX as u32, "the value's bytes"),
            |ground| OpLane::boxed(ground, lookup::Lookups::new(ground)?),
        )
    },
    OpKind {
        values: batch::LOOKUPS as u32,
        ..op(
            "indirect-read",
            "INDIRECT_READ of 16 random entries of a table of pointers; the values are compared",
            up_to(4096, "the bytes of each value"),
            |ground| OpLane::boxed(ground, batch::Batches::new(ground)),
        )
    },
    op(
        "traverse",
        "TRAVERSE of a random list of 8 elements to its end, and the value there, which is compared",
        up_to(POINTED_BYTES_MAX, "the value's bytes"),
        |ground| OpLane::boxed(ground, walk::Walks::new(ground)),
    ),
    OpKind {
        is_laid_out: true,
        ..op(
            "consistent-read",
            "CONSISTENT_READ of a random object with a CRC-64, which is compared",
            LAID_OUT,
            |ground| OpLane::boxed(ground, object::Objects::new(ground)),
        )
    },
    OpKind {
        is_laid_out: true,
        ..op(
            "chain-read",
            "CHAIN_READ of a random version chain from the first of its 4 entries; the last is compared",
            LAID_OUT,
            |ground| OpLane::boxed(ground, version::Latest::new(ground)),
        )
    },
    OpKind {
        access: CHANGES,
        own: Own::Place(version::pitch),
        prepare: version::prepare,
        ..op(
            "chain-append",
            "CHAIN_APPEND, each op out to a chain of its own; what is left is read and compared at the end",
            up_to(4096, "the value's bytes"),
            |ground| OpLane::boxed(ground, version::Appends::new(ground)?),
        )
    },
    OpKind {
        prepare: prism::prepare,
        ..op(
            "prism",
            "PRISM: a pointer is read, and what it points to; the value is compared",
            up_to(POINTED_BYTES_MAX, "the value's bytes"),
            |ground| OpLane::boxed(ground, prism::Primitives::new(ground)),
        )
    },
    op(
        "scan",
        "SCAN of a run of records of 64 B; count and sum of those that match are compared",
        Sizes {
            usual: 4096,
            least: RECORD_BYTES as u32,
            most: records::SCANNED_BYTES_MAX,
            what: "the bytes scanned, whole records",
        },
        |ground| OpLane::boxed(ground, records::Scans::new(ground)),
    ),
    OpKind {
        access: CHANGES,
        own: Own::Place(partition::pitch),
        ..op(
            "partition-write",
            "PARTITION_WRITE of 8-byte records, each op out to 16 partitions of its own, emptied by a WRITE when one is full; what is left is compared at the end",
            words_up_to(64 << 10),
            |ground| OpLane::boxed(ground, partition::PartitionWrites::new(ground)?),
        )
    },
    OpKind {
        access: CHANGES,
        own: Own::Place(sketch::pitch),
        ..op(
            "sketch-write",
            "SKETCH_WRITE of 8-byte values, each op out to a place and a HyperLogLog of 4096 registers of its own; what is left is compared, and the estimate, at the end",
            words_up_to(OP_BYTES_MAX),
            |ground| OpLane::boxed(ground, sketch::SketchWrites::new(ground)?),
        )
    },
    OpKind {
        access: CHANGES,
        own: Own::Shared(log::log_bytes),
        ..op(
            "append",
            "APPEND to a log of the connection's own, trimmed by a WRITE at half; what is left is compared at the end",
            up_to(64 << 10, "the record's payload"),
            |ground| OpLane::boxed(ground, log::LogAppends::new(ground)?),
        )
    },
    OpKind {
        is_laid_out: true,
        ..op(
            "fetch",
            "FETCH of a record at a random position of a log; it is compared",
            LAID_OUT,
            |ground| OpLane::boxed(ground, log::Fetches::new(ground)),
        )
    },
    OpKind {
        access: Access::CALL,
        ..op(
            "call",
            "CALL to the target application, which is woken; the answer is compared",
            up_to(ANSWER_BYTES_MAX, "the answer's bytes"),
            |ground| OpLane::boxed(ground, call::Calls::new(ground)),
        )
    },
    OpKind {
        access: Access::CALL,
        ..op(
            "rpc",
            "a typed CALL, encoded and decoded on both sides; the answer is compared",
            up_to(rpc::BYTES_MAX, "the answer's bytes"),
            |ground| OpLane::boxed(ground, rpc::Rpcs::new(ground)),
        )
    },
];
