//! CALL.

use nic_host::{Answer, Op, RemoteRegion, ServeError, ops};

use super::{ANSWER_BYTES_MAX, Ground, Judged, Work};
use crate::bench::pattern::Pattern;
use crate::bench::site::SERVICE;

/// Length of a request in bytes.
pub const REQUEST_BYTES: usize = 16;

/// A request for so many bytes of the pattern of a number.
pub fn request(number: u64, size: u32) -> [u8; REQUEST_BYTES] {
    let mut request = [0; REQUEST_BYTES];
    request[..8].copy_from_slice(&number.to_le_bytes());
    request[8..].copy_from_slice(&u64::from(size).to_le_bytes());
    request
}

/// The number and the length that a request names; `None` if it is none.
fn parse(request: &[u8]) -> Option<(u64, usize)> {
    let request: [u8; REQUEST_BYTES] = request.try_into().ok()?;
    let word = |at: usize| request[at..].first_chunk().copied().map(u64::from_le_bytes);
    let size = usize::try_from(word(8)?).ok()?;
    (size <= ANSWER_BYTES_MAX as usize).then_some((word(0)?, size))
}

/// What the target's application does with a call.
///
/// # Errors
/// The request is none of a bench, or the caller has no place for the answer.
pub fn answer(request: &[u8], answer: &mut Answer<'_>) -> Result<(), ServeError> {
    let (number, size) = parse(request).ok_or(ServeError)?;
    let mut bytes = [0; ANSWER_BYTES_MAX as usize];
    Pattern::of(number).fill(&mut bytes[..size]);
    answer.append(&bytes[..size])
}

/// Calls with the requests of the stock, one after the other.
pub struct Calls<'s> {
    region: &'s RemoteRegion,
    requests: &'s [[u8; REQUEST_BYTES]],
    size: u32,
    next: usize,
    /// By place: the request that is out.
    asked: Vec<u64>,
}

impl<'s> Calls<'s> {
    /// The stock has requests of the size.
    pub fn new(ground: Ground<'s>) -> Self {
        Calls {
            region: &ground.site.memory,
            requests: &ground.stock.requests,
            size: ground.size,
            next: 0,
            asked: vec![0; ground.load.window as usize],
        }
    }
}

impl<'s> Work for Calls<'s> {
    type Operation = ops::Call<'s>;

    #[inline]
    fn next(&mut self, place: u32) -> Op<ops::Call<'s>> {
        let number = self.next;
        self.next = if number + 1 == self.requests.len() { 0 } else { number + 1 };
        self.asked[place as usize] = number as u64;
        self.region.call(SERVICE, &self.requests[number], self.size)
    }

    #[inline]
    fn judge(&mut self, place: u32, answer: ops::Bytes) -> Judged {
        let number = self.asked[place as usize];
        match answer.len() == self.size as usize && Pattern::of(number).is(&answer) {
            true => Judged::Right { bytes: u64::from(self.size) },
            false => Judged::Wrong(format!("another answer to request {number}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_back_and_foreign_ones_are_refused() {
        assert_eq!(parse(&request(9, 64)), Some((9, 64)));
        assert_eq!(parse(&request(9, ANSWER_BYTES_MAX + 1)), None);
        assert_eq!(parse(b"hello"), None);
    }
}
