use alloc::vec::Vec;

use zerocopy::IntoBytes;

use super::*;
use crate::bucket_table::entry::compose;

const CONFIG: u64 = 5;
const VERSION: u64 = 9;
const KEY: &[u8] = b"apple";
const VALUE: &[u8] = b"red or green";

/// The reply for a hit, before anything goes wrong with it.
fn hit(overflow: bool) -> Vec<u8> {
    let hash = KeyHash::of(KEY);
    let header = BucketHeader {
        config_id: CONFIG.into(),
        flags: u32::from(overflow).into(),
        used: 0.into(),
    };
    let index = IndexEntry {
        hash: hash.low().into(),
        version: VERSION.into(),
        pointer: 0x1_0000_0004.into(),
    };
    let mut entry = Vec::new();
    compose(&mut entry, hash, VERSION, KEY, VALUE);
    [header.as_bytes(), index.as_bytes(), &entry].concat()
}

fn judge(reply: &[u8]) -> Verdict {
    validate(reply, KEY, KeyHash::of(KEY), CONFIG)
}

/// Writes another data entry into a reply, whole in itself.
fn with_entry(hash: KeyHash, version: u64, key: &[u8]) -> Vec<u8> {
    let mut reply = hit(false);
    reply.truncate(40);
    let mut entry = Vec::new();
    compose(&mut entry, hash, version, key, VALUE);
    reply.extend_from_slice(&entry);
    reply
}

#[test]
fn a_whole_reply_is_a_hit() {
    for overflow in [false, true] {
        let reply = hit(overflow);
        let Verdict::Hit { value, version } = judge(&reply) else { panic!("no hit") };
        assert_eq!((&reply[value], version), (VALUE, VERSION));
    }
    let mut padded = hit(false);
    padded.extend_from_slice(&[0xaa; 15]);
    assert!(matches!(judge(&padded), Verdict::Hit { value, .. } if value.len() == VALUE.len()));
}

#[test]
fn a_bucket_header_alone_is_a_miss() {
    assert_eq!(judge(&hit(false)[..16]), Verdict::Miss);
    assert_eq!(judge(&hit(true)[..16]), Verdict::Overflowed);
}

#[test]
fn another_configuration_is_told_first() {
    for length in [16, hit(true).len()] {
        let verdict = validate(&hit(true)[..length], KEY, KeyHash::of(KEY), CONFIG + 1);
        assert_eq!(verdict, Verdict::WrongConfig { found: CONFIG });
    }
}

#[test]
fn no_cut_reply_is_believed() {
    let whole = hit(false);
    for length in (0..whole.len()).filter(|length| *length != 16) {
        let torn = match length {
            0..80 => Torn::Truncated,
            _ => Torn::Lengths,
        };
        assert_eq!(judge(&whole[..length]), Verdict::Torn(torn), "{length} bytes");
    }
}

#[test]
fn an_index_entry_of_another_key_is_torn() {
    let mut reply = hit(false);
    reply[16] ^= 1;
    assert_eq!(judge(&reply), Verdict::Torn(Torn::IndexHash));
}

#[test]
fn every_changed_byte_of_the_data_entry_is_noticed() {
    let whole = hit(false);
    for place in 40..whole.len() {
        for bit in 0..8 {
            let mut reply = whole.clone();
            reply[place] ^= 1 << bit;
            let verdict = judge(&reply);
            let lengths = 72..80;
            let expected = if lengths.contains(&place) && verdict == Verdict::Torn(Torn::Lengths) {
                Torn::Lengths
            } else {
                Torn::Checksum
            };
            assert_eq!(verdict, Verdict::Torn(expected), "bit {bit} of byte {place}");
        }
    }
}

#[test]
fn an_older_or_newer_data_entry_is_torn() {
    for version in [VERSION - 1, VERSION + 1] {
        let reply = with_entry(KeyHash::of(KEY), version, KEY);
        assert_eq!(judge(&reply), Verdict::Torn(Torn::Version));
    }
}

#[test]
fn another_key_with_the_same_hash_is_a_miss() {
    let same_hash = with_entry(KeyHash::of(KEY), VERSION, b"grape");
    assert_eq!(judge(&same_hash), Verdict::Miss);
    let same_half = with_entry(KeyHash(KeyHash::of(KEY).0 ^ 1 << 64), VERSION, KEY);
    assert_eq!(judge(&same_half), Verdict::Miss);
    let mut overflowed = same_hash;
    overflowed[8] = 1;
    assert_eq!(judge(&overflowed), Verdict::Overflowed);
}
