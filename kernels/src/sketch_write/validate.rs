//! What an initiator makes of a sketch that it has read.

use super::layout::{HEADER_BYTES, MAGIC, PRECISION_MAX, PRECISION_MIN};

/// Why bytes are no sketch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{length} bytes are no sketch, or not all of one; format one, and read all of it")]
pub struct BadSketch {
    /// How many there are.
    pub length: usize,
}

/// How many different values a sketch has seen, about. It is monotonic, so a copy that was made
/// while it was written is one of something in between.
///
/// # Errors
/// Bytes that are no whole sketch, header included.
pub fn estimate(sketch: &[u8]) -> Result<f64, BadSketch> {
    let bad = BadSketch { length: sketch.len() };
    let (words, _) = sketch.as_chunks::<8>();
    let [magic, precision, ..] = words else { return Err(bad) };
    let precision = u8::try_from(u64::from_le_bytes(*precision)).map_err(|_| bad)?;
    if u64::from_le_bytes(*magic) != MAGIC || !(PRECISION_MIN..=PRECISION_MAX).contains(&precision)
    {
        return Err(bad);
    }
    let registers = sketch.get(HEADER_BYTES as usize..).ok_or(bad)?;
    let count = 1 << precision;
    if registers.len() != count {
        return Err(bad);
    }
    let mut histogram = [0u32; 66];
    let most = 65 - precision;
    registers.iter().for_each(|rank| histogram[usize::from((*rank).min(most))] += 1);
    let count = count as f64;
    // A register at its very end is seen once in 2^52 values or more, and taken for one before.
    let mut sum = f64::from(histogram[usize::from(most)]);
    for ranked in histogram[1..usize::from(most)].iter().rev() {
        sum = (sum + f64::from(*ranked)) / 2.0;
    }
    sum += count * sigma(f64::from(histogram[0]) / count);
    Ok(count * count / (2.0 * core::f64::consts::LN_2 * sum))
}

/// Ertl's sigma: x + x^2 + 2 x^4 + 4 x^8 and so on.
fn sigma(x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut power, mut factor, mut sum) = (x, 1.0, x);
    loop {
        power *= power;
        let before = sum;
        sum += power * factor;
        factor += factor;
        if sum <= before {
            return sum;
        }
    }
}
