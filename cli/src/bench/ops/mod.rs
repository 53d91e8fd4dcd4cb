//! The ops that a bench can drive. Another kernel is one more entry of [`OPS`], and a file with its
//! [`Work`].

mod batch;
mod call;
mod list;
mod log;
mod lookup;
mod object;
mod partition;
mod prism;
mod read;
mod records;
mod rpc;
mod sketch;
mod version;
mod walk;
mod word;
mod write;

pub use call::{REQUEST_BYTES, answer as answer_call, request};
pub use list::OPS;
pub use lookup::{KEY_BYTES, key, value};
pub use rpc::answer as answer_rpc;
pub use write::{PAYLOAD, PAYLOADS};

use anyhow::Result;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use nic_host::prism::Chain;
use nic_host::version_chain::Image;
use nic_host::{Fate, Op, Operation, Session};
use nic_kernels::Access;

use super::lane::Lane;
use super::load::Load;
use super::site::{Site, Stock};

/// The longest answer to a call, in bytes: one packet, as calls are compared with other ops.
pub const ANSWER_BYTES_MAX: u32 = 1024;

/// A kind of op.
#[derive(Debug)]
pub struct OpKind {
    /// Its name on the command line and in output.
    pub name: &'static str,
    /// What it does, for `--help`.
    pub meaning: &'static str,
    /// How much it may move.
    pub sizes: Sizes,
    /// What the export has to allow.
    pub access: Access,
    /// Whether it works on the table.
    pub on_table: bool,
    /// Whether the target has laid out what it moves, so that its length is the target's.
    pub is_laid_out: bool,
    /// How many values an op moves, each of its size.
    pub values: u32,
    /// What of the target's memory each op out has to itself.
    pub own: Own,
    /// Makes what a connection's ops borrow.
    pub prepare: fn(&Ground<'_>) -> Result<Prepared>,
    /// Makes what issues it.
    pub open: Open,
}

/// Makes what issues ops.
pub type Open = fn(Ground<'_>) -> Result<Box<dyn Lane + '_>>;

/// What `--size` may be.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Unless it is said.
    pub usual: u32,
    /// The least.
    pub least: u32,
    /// The most.
    pub most: u32,
    /// What it is the length of.
    pub what: &'static str,
}

/// What of the target's memory an op out has to itself, so that what it does can be verified.
#[derive(Clone, Copy, Debug)]
pub enum Own {
    /// Nothing: it changes nothing.
    Nothing,
    /// A word.
    Word,
    /// A place of so many bytes, for its size.
    Place(fn(u64) -> u64),
    /// A part of what its connection has: so many bytes, for its window and size.
    Shared(fn(u32, u64) -> u64),
}

/// What the ops of a connection borrow.
#[derive(Default)]
pub struct Prepared {
    /// Entries of version chains.
    pub images: Vec<Image>,
    /// Chains of primitives.
    pub chains: Vec<Chain>,
}

/// What a connection issues ops with.
#[derive(Clone, Copy)]
pub struct Ground<'s> {
    /// Its session.
    pub session: &'s Session,
    /// The target's memory, opened by the session.
    pub site: &'s Site,
    /// What was made beforehand.
    pub stock: &'s Stock,
    /// What was made beforehand for the connection alone.
    pub prepared: &'s Prepared,
    /// How much, how many.
    pub load: &'s Load,
    /// Bytes an op moves.
    pub size: u32,
    /// The address of the first of its own words or places.
    pub own: u64,
    /// Of its random numbers.
    pub seed: u64,
}

/// What makes ops of a kind and judges what comes of them. Places are those of a window: each holds
/// one op at a time.
pub trait Work {
    /// What is issued.
    type Operation: Operation;

    /// The next op, at a place that is free. It may be asked again if the op was not taken.
    fn next(&mut self, place: u32) -> Op<Self::Operation>;

    /// Judges what a good op brought.
    fn judge(&mut self, place: u32, output: <Self::Operation as Operation>::Output) -> Judged;

    /// An op has failed.
    fn failed(&mut self, _place: u32, _fate: Fate) {}

    /// Looks at what the ops at a place have left behind; nothing if there is nothing to look at.
    ///
    /// # Errors
    /// How the look failed.
    fn left(
        &mut self,
        _session: &Session,
        _place: u32,
    ) -> Result<Option<Judged>, nic_host::OpError> {
        Ok(None)
    }
}

/// What came of a good op.
#[derive(Debug)]
pub enum Judged {
    /// As expected; so many bytes were moved.
    Right {
        /// The bytes that count.
        bytes: u64,
    },
    /// The key's bucket has overflowed: whoever wants it asks the owner. A good op all the same.
    Overflowed,
    /// Something else than was expected.
    Wrong(String),
}

/// For command lines.
pub fn parser() -> impl TypedValueParser<Value = &'static OpKind> {
    let values = OPS.iter().map(|op| PossibleValue::new(op.name).help(op.meaning));
    PossibleValuesParser::new(values).try_map(|name| {
        OPS.iter().find(|op| op.name == name).ok_or_else(|| format!("there is no op {name}"))
    })
}

/// The table of ops as `--help` shows it.
pub fn table() -> String {
    let line = |op: &OpKind| {
        let Sizes { usual, least, most, what } = op.sizes;
        let size = match least == most {
            true => format!("{what}: {most}"),
            false => format!("{what}: {least} to {most}, {usual} unless said"),
        };
        format!("  {:15}  {}\n                   --size is {size}", op.name, op.meaning)
    };
    let lines: Vec<_> = OPS.iter().map(line).collect();
    format!("Ops:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_op_has_a_name_of_its_own_and_a_usual_size() {
        for op in &OPS {
            assert_eq!(OPS.iter().filter(|other| other.name == op.name).count(), 1);
            assert!((op.sizes.least..=op.sizes.most).contains(&op.sizes.usual), "{}", op.name);
            assert!(table().contains(op.meaning));
        }
    }
}
