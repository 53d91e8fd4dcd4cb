//! How often user space copies the payload of a READ, both engines and the application together.
//!
//! Every copy stores every byte once, whatever function makes it and however wide it stores. So the
//! bytes that all stores of a run write are counted, and two runs that differ in the length of the
//! READs alone are compared: the difference, by the payload that one has more than the other.

use anyhow::{Context, Result};
use nic_figures::Figure;

use super::{Asked, Join, Options, valgrind};

/// Lengths of the READs of the two runs, in bytes. Their replies are as many packets, so that all
/// that is stored beside the payload is the same.
pub(super) const READ_BYTES: [u32; 2] = [4096, 5120];

/// One at a time: of several, replies would share packets.
const WINDOW: u32 = 1;
const BATCHES: u32 = 400;

/// The types of stores that valgrind tells apart, and their bytes.
const STORES: [(&str, u64); 7] =
    [("I8", 1), ("I16", 2), ("I32", 4), ("I64", 8), ("I128", 16), ("V128", 16), ("V256", 32)];

/// Copies of each byte; very nearly a whole number.
pub(super) fn figure(join: Join) -> Result<Option<Figure>> {
    let stored = READ_BYTES.map(|read_bytes| {
        stored_bytes(&Options {
            join,
            asked: Asked::Read,
            read_bytes,
            window: WINDOW,
            batches: BATCHES,
        })
    });
    let [short, long] = stored;
    let payload = u64::from(READ_BYTES[1] - READ_BYTES[0]) * u64::from(WINDOW * BATCHES);
    let copies = (long? as f64 - short? as f64) / payload as f64;
    Ok(Figure::of(format!("payload_copies_per_read_{}", join.name()), "copies", &[copies]))
}

/// What all stores of one run write together, in bytes.
fn stored_bytes(options: &Options) -> Result<u64> {
    let said = valgrind(&["--tool=lackey", "--basic-counts=no", "--detailed-counts=yes"], options)?;
    STORES.iter().try_fold(0, |sum, (name, bytes)| {
        let stores = stores(&said, name)
            .with_context(|| format!("valgrind told no stores of type {name}: {said}"))?;
        Ok(sum + stores * bytes)
    })
}

/// The third word of the line that begins with the type's name: it, loads, stores, other uses.
fn stores(said: &str, name: &str) -> Option<u64> {
    said.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        (words.next() == Some(name)).then(|| words.nth(1)?.replace(',', "").parse().ok())?
    })
}
