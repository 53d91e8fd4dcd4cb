//! READ.

use nic_host::{Op, RemoteRegion, ops};

use super::{Ground, Judged, Work};
use crate::bench::layout::{Areas, LINE_BYTES};
use crate::random::Random;

/// READs of so many bytes at random lines of the data area.
pub struct Reads<'s> {
    region: &'s RemoteRegion,
    /// The address of the data area.
    data: u64,
    size: u64,
    /// Lines at which a READ can begin.
    lines: u64,
    random: Random,
    /// By place: where in the area its READ begins.
    offsets: Vec<u64>,
}

impl<'s> Reads<'s> {
    /// The site has room for the size.
    pub fn new(ground: Ground<'s>) -> Self {
        let Ground { site, load, size, seed, .. } = ground;
        let size = u64::from(size);
        let length = site.areas.data.end - site.areas.data.start;
        Reads {
            region: &site.memory,
            data: site.base() + site.areas.data.start,
            size,
            lines: (length - size) / LINE_BYTES + 1,
            random: Random::new(seed),
            offsets: vec![0; load.window as usize],
        }
    }
}

impl Work for Reads<'_> {
    type Operation = ops::Read;

    #[inline]
    fn next(&mut self, place: u32) -> Op<ops::Read> {
        let offset = self.random.below(self.lines) * LINE_BYTES;
        self.offsets[place as usize] = offset;
        let at = self.data + offset;
        self.region.read(at..at + self.size)
    }

    #[inline]
    fn judge(&mut self, place: u32, bytes: ops::Bytes) -> Judged {
        let offset = self.offsets[place as usize];
        let is_right = bytes.len() as u64 == self.size && Areas::data_pattern(offset).is(&bytes);
        match is_right {
            true => Judged::Right { bytes: self.size },
            false => Judged::Wrong(format!(
                "READ of {} bytes at {:#x} brought others",
                self.size,
                self.data + offset
            )),
        }
    }
}
