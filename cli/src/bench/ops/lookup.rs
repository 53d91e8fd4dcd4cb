//! SCAN_AND_READ.

use anyhow::Result;
use nic_host::{Lookup, Op, RemoteTable, ScanAndRead};

use super::{Ground, Judged, Work};
use crate::bench::fault::Fault;
use crate::bench::pattern::Pattern;

/// Length of a key in bytes.
pub const KEY_BYTES: usize = 16;
/// The second half of every key.
const KEY_END: [u8; 8] = *b"-nicbnch";

/// The key of a number.
pub fn key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&number.to_le_bytes());
    key[8..].copy_from_slice(&KEY_END);
    key
}

/// What the value of a key is.
#[inline]
pub fn value(key: &[u8; KEY_BYTES]) -> Pattern {
    let [a, b, c, d, e, f, g, h, ..] = *key;
    Pattern::of(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

/// Lookups of keys in the order in which they were laid out, which is random.
pub struct Lookups<'s> {
    table: &'s RemoteTable,
    keys: &'s [[u8; KEY_BYTES]],
    next: usize,
    size: usize,
    /// By place: the key that is looked up.
    asked: Vec<&'s [u8; KEY_BYTES]>,
}

impl<'s> Lookups<'s> {
    /// The site has a table, and the stock keys.
    pub fn new(ground: Ground<'s>) -> Result<Self> {
        let keys = ground.stock.keys.as_slice();
        let no_table = Fault::NoTable { op: ground.load.op };
        let (Some(table), Some(first)) = (&ground.site.table, keys.first()) else {
            return Err(no_table.into());
        };
        Ok(Lookups {
            table,
            keys,
            next: (ground.seed % keys.len() as u64) as usize,
            size: ground.size as usize,
            asked: vec![first; ground.load.window as usize],
        })
    }
}

impl<'s> Work for Lookups<'s> {
    type Operation = ScanAndRead<'s>;

    #[inline]
    fn next(&mut self, place: u32) -> Op<ScanAndRead<'s>> {
        let key = &self.keys[self.next];
        self.next = if self.next + 1 == self.keys.len() { 0 } else { self.next + 1 };
        self.asked[place as usize] = key;
        self.table.scan_and_read(key)
    }

    #[inline]
    fn judge(&mut self, place: u32, found: Lookup) -> Judged {
        let key = self.asked[place as usize];
        match found {
            Lookup::Hit(entry) => {
                let found = entry.value();
                match found.len() == self.size && value(key).is(found) {
                    true => Judged::Right { bytes: found.len() as u64 },
                    false => Judged::Wrong(format!("another value for the key {key:02x?}")),
                }
            }
            Lookup::Overflowed => Judged::Overflowed,
            Lookup::Miss => Judged::Wrong(format!("no value for the key {key:02x?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_tell_their_value() {
        assert_ne!(key(1), key(1 << 32));
        assert_eq!(value(&key(77)), Pattern::of(77));
    }
}
