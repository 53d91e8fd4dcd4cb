//! Runs of packets that leave as one message, which the kernel or the device cuts (UDP_SEGMENT).

use crate::queue::Queued;

/// Segments of one group at most: what every kernel with UDP_SEGMENT takes.
pub(crate) const SEGMENTS_MAX: usize = 64;
/// Bytes of one group at most: a UDP datagram's 65 507, rounded down.
const GROUP_BYTES_MAX: u32 = 65_000;

/// A control message that says into what pieces the kernel is to cut a group.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(crate) struct SegmentControl {
    header: libc::cmsghdr,
    segment_bytes: u16,
}

const _: () = assert!(size_of::<SegmentControl>() == 24, "CMSG_SPACE(2) on 64-bit Linux");

impl SegmentControl {
    pub(crate) const fn new() -> Self {
        let bytes = size_of::<libc::cmsghdr>() + size_of::<u16>();
        let header = libc::cmsghdr {
            cmsg_len: bytes as _,
            cmsg_level: libc::SOL_UDP,
            cmsg_type: libc::UDP_SEGMENT,
        };
        SegmentControl { header, segment_bytes: 0 }
    }

    /// Has a group cut into pieces of that many bytes.
    #[inline]
    pub(crate) fn cut_into(&mut self, segment_bytes: u32) {
        self.segment_bytes = segment_bytes as u16;
    }
}

/// How many of the oldest packets can leave as one message: to one destination, of equal length
/// but for the last, which may be shorter.
#[inline]
pub(crate) fn run_length(waiting: &[Queued]) -> usize {
    let first = &waiting[0];
    let mut bytes = first.length;
    let mut run = 1;
    for next in &waiting[1..waiting.len().min(SEGMENTS_MAX)] {
        bytes += next.length;
        if next.length > first.length || bytes > GROUP_BYTES_MAX || next.to != first.to {
            break;
        }
        run += 1;
        if next.length < first.length {
            break;
        }
    }
    run
}

#[cfg(test)]
mod tests {
    use super::*;
    use nic_transport::FrameId;

    #[test]
    fn control_message_has_the_kernels_layout() {
        let control = SegmentControl::new();
        // SAFETY: these only compute with their argument.
        let (length, space) = unsafe { (libc::CMSG_LEN(2), libc::CMSG_SPACE(2)) };
        assert_eq!(control.header.cmsg_len as u32, length);
        assert_eq!(size_of::<SegmentControl>() as u32, space);
        assert_eq!(std::mem::offset_of!(SegmentControl, segment_bytes), 16);
    }

    fn packets(lengths: &[(u32, u16)]) -> Vec<Queued> {
        lengths
            .iter()
            .map(|&(length, port)| Queued {
                frame: FrameId(0),
                length,
                to: ([127, 0, 0, 1], port).into(),
            })
            .collect()
    }

    #[test]
    fn runs_end_where_the_kernel_could_not_cut_them() {
        let run = |lengths: &[(u32, u16)]| run_length(&packets(lengths));
        assert_eq!(run(&[(100, 1)]), 1);
        assert_eq!(run(&[(100, 1), (100, 1), (100, 1)]), 3);
        assert_eq!(run(&[(100, 1), (100, 1), (40, 1), (40, 1)]), 3, "ends after a shorter one");
        assert_eq!(run(&[(100, 1), (101, 1)]), 1, "ends before a longer one");
        assert_eq!(run(&[(100, 1), (100, 2)]), 1, "ends before another destination");
        assert_eq!(run(&vec![(64, 1); 200]), SEGMENTS_MAX);
        assert_eq!(run(&vec![(2048, 1); 64]), 31, "ends before the largest datagram");
    }
}
