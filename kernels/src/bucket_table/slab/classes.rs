//! Piece lengths: multiples of 16 up to 128 bytes, then four to every doubling, so that less than
//! a fifth of a piece is wasted.

/// How many classes there are in the longest slabs.
pub(super) const CLASS_COUNT_MAX: usize = 40;
/// The shortest piece: a header, one byte of key.
const SHORTEST: u64 = 48;
/// Classes up to 128 bytes.
const FINE_CLASSES: u8 = 6;

/// The class whose pieces hold `bytes` with the least waste; `None` if a slab would not hold two.
pub(super) fn class_of(bytes: u64, slab_bytes: u64) -> Option<u8> {
    let class = if bytes <= 128 {
        bytes.saturating_sub(SHORTEST).div_ceil(16) as u8
    } else if bytes <= slab_bytes {
        let doubling = (bytes - 1).ilog2();
        let step = 1u64 << (doubling - 2);
        let quarter = (bytes - 1 - (1 << doubling)) / step;
        FINE_CLASSES + (doubling as u8 - 7) * 4 + quarter as u8
    } else {
        return None;
    };
    (class_bytes(class) * 2 <= slab_bytes).then_some(class)
}

/// The length of a class's pieces in bytes.
pub(super) const fn class_bytes(class: u8) -> u64 {
    if class < FINE_CLASSES {
        return SHORTEST + class as u64 * 16;
    }
    let (doubling, quarter) = ((class - FINE_CLASSES) / 4 + 7, (class - FINE_CLASSES) % 4);
    (1 << doubling) + ((quarter as u64 + 1) << (doubling - 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_has_the_tightest_class() {
        let slab = 64 << 10;
        for bytes in 1..=slab / 2 {
            let class = class_of(bytes, slab).unwrap();
            let piece = class_bytes(class);
            assert!(usize::from(class) < CLASS_COUNT_MAX);
            assert!(piece >= bytes && piece.is_multiple_of(16), "{bytes} in {piece}");
            assert!(class == 0 || class_bytes(class - 1) < bytes, "{bytes} in {piece}");
            assert!(bytes < 48 || piece * 4 <= bytes * 5 + 64, "{bytes} in {piece}");
        }
        assert_eq!(class_of(slab / 2 + 1, slab), None);
        assert_eq!(class_of(1 << 20, slab), None);
    }
}
