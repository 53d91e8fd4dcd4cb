//! Typed calls.

use nic_host::rpc::{Procedure, Rpc};
use nic_host::{Answer, Op, RemoteRegion, ServeError};
use serde::{Deserialize, Serialize};

use super::{Ground, Judged, Work};
use crate::bench::pattern::Pattern;
use crate::bench::site::RPC_SERVICE;

/// The most bytes that are asked for: with their length they are one packet.
pub const BYTES_MAX: u32 = 1000;

/// Asks for so many bytes of the pattern of a number.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ask {
    number: u64,
    size: u32,
}

impl Procedure for Ask {
    const SERVICE: u16 = RPC_SERVICE;
    type Answer = Vec<u8>;
}

/// What the target's application does with one.
///
/// # Errors
/// The request is none of a bench, or the caller has no place for the answer.
pub fn answer(request: &[u8], answer: &mut Answer<'_>) -> Result<(), ServeError> {
    let Ask { number, size } = postcard::from_bytes(request).map_err(|_| ServeError)?;
    if size > BYTES_MAX {
        return Err(ServeError);
    }
    let mut bytes = [0; BYTES_MAX as usize];
    let bytes = &mut bytes[..size as usize];
    Pattern::of(number).fill(bytes);
    let mut room = [0; BYTES_MAX as usize + 8];
    let encoded = postcard::to_slice(&*bytes, &mut room).map_err(|_| ServeError)?;
    answer.append(encoded)
}

/// Typed calls, one number after the other.
pub struct Rpcs<'s> {
    region: &'s RemoteRegion,
    size: u32,
    next: u64,
    /// By place: the number that is asked for.
    asked: Vec<u64>,
}

impl<'s> Rpcs<'s> {
    /// To the site's application.
    pub fn new(ground: Ground<'s>) -> Self {
        Rpcs {
            region: &ground.site.memory,
            size: ground.size,
            next: 0,
            asked: vec![0; ground.load.window as usize],
        }
    }
}

impl Work for Rpcs<'_> {
    type Operation = Rpc<Ask>;

    #[inline]
    fn next(&mut self, place: u32) -> Op<Rpc<Ask>> {
        let number = self.next;
        self.next += 1;
        self.asked[place as usize] = number;
        let op = self.region.rpc(&Ask { number, size: self.size });
        op.expect("two numbers have room in a request")
    }

    #[inline]
    fn judge(&mut self, place: u32, answer: Vec<u8>) -> Judged {
        let number = self.asked[place as usize];
        match answer.len() == self.size as usize && Pattern::of(number).is(&answer) {
            true => Judged::Right { bytes: u64::from(self.size) },
            false => Judged::Wrong(format!("another answer to {number}")),
        }
    }
}
