//! Packets on their way to the kernel: grouped for segmentation, sent in one call.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::name::SocketName;
use crate::pool::FramePool;
use crate::queue::Queued;

/// Packets that one call sends at most.
const PACKETS_MAX: usize = 256;
/// Segments of one group at most: what every kernel with UDP_SEGMENT takes.
const SEGMENTS_MAX: usize = 64;
/// Bytes of one group at most: a UDP datagram's 65 507, rounded down.
const GROUP_BYTES_MAX: u32 = 65_000;

/// A control message that says into what pieces the kernel is to cut a group.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct SegmentControl {
    header: libc::cmsghdr,
    segment_bytes: u16,
}

const _: () = assert!(size_of::<SegmentControl>() == 24, "CMSG_SPACE(2) on 64-bit Linux");

impl SegmentControl {
    const fn new() -> Self {
        let bytes = size_of::<libc::cmsghdr>() + size_of::<u16>();
        let header = libc::cmsghdr {
            cmsg_len: bytes as _,
            cmsg_level: libc::SOL_UDP,
            cmsg_type: libc::UDP_SEGMENT,
        };
        SegmentControl { header, segment_bytes: 0 }
    }
}

/// What the kernel is handed in one call. Made once; a call fills in only what differs.
pub(super) struct Outgoing {
    vectors: Vec<libc::iovec>,
    names: Vec<SocketName>,
    controls: Vec<SegmentControl>,
    headers: Vec<libc::mmsghdr>,
    /// Packets of each group.
    runs: Vec<u16>,
}

// SAFETY: the raw pointers within are written and used inside one call of `send`; between calls
// nobody follows them.
unsafe impl Send for Outgoing {}

impl Outgoing {
    /// For a socket at `local`, whose family says how long names are.
    pub(super) fn new(local: &SocketAddr) -> Self {
        let vector = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: `mmsghdr` is plain data; all zeroes (null pointers, no lengths) is valid.
        let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        header.msg_hdr.msg_namelen = SocketName::bytes_of(local);
        Outgoing {
            vectors: vec![vector; PACKETS_MAX],
            names: vec![SocketName::EMPTY; PACKETS_MAX],
            controls: vec![SegmentControl::new(); PACKETS_MAX],
            headers: vec![header; PACKETS_MAX],
            runs: vec![0; PACKETS_MAX],
        }
    }

    /// Sends the oldest of the `waiting` packets, in one call, and returns how many left, at
    /// least one. With `segmentation`, runs of equal length leave as one message each.
    ///
    /// # Errors
    /// What the kernel says of the first message, and how many packets that has.
    ///
    /// # Panics
    /// If nothing waits.
    #[inline]
    pub(super) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        pool: &FramePool,
        waiting: &[Queued],
        segmentation: bool,
    ) -> Result<usize, (io::Error, usize)> {
        if let [only] = waiting {
            return self.send_one(socket, pool, only);
        }
        let groups = self.gather(pool, waiting, segmentation);
        let sent = if groups == 1 {
            // SAFETY: the header was filled in by `gather` just now, with pointers into this
            // structure and into frames that the pool keeps; the kernel only reads them.
            let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &self.headers[0].msg_hdr, 0) };
            if sent < 0 { -1 } else { 1 }
        } else {
            // SAFETY: as above, for the first `groups` headers; of each the kernel writes the
            // length sent.
            unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    self.headers.as_mut_ptr(),
                    groups as libc::c_uint,
                    0,
                )
            }
        };
        match usize::try_from(sent) {
            Ok(sent) => Ok(self.runs[..sent].iter().map(|&run| usize::from(run)).sum()),
            Err(_) => Err((io::Error::last_os_error(), usize::from(self.runs[0]))),
        }
    }

    /// The call with the fewest instructions, for a packet that travels alone.
    #[inline]
    fn send_one(
        &mut self,
        socket: BorrowedFd<'_>,
        pool: &FramePool,
        packet: &Queued,
    ) -> Result<usize, (io::Error, usize)> {
        let bytes = &pool.bytes(packet.frame)[..packet.length as usize];
        let name = &mut self.names[0];
        name.set(&packet.to);
        // SAFETY: pointers and lengths describe a live slice and a live name of that length; the
        // kernel only reads them.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                0,
                std::ptr::from_ref(name).cast(),
                SocketName::bytes_of(&packet.to),
            )
        };
        if sent < 0 { Err((io::Error::last_os_error(), 1)) } else { Ok(1) }
    }

    /// Describes the oldest packets to the kernel and returns in how many messages.
    fn gather(&mut self, pool: &FramePool, waiting: &[Queued], segmentation: bool) -> usize {
        let waiting = &waiting[..waiting.len().min(PACKETS_MAX)];
        let (mut groups, mut packets) = (0, 0);
        while packets < waiting.len() {
            let rest = &waiting[packets..];
            let run = if segmentation { run_length(rest) } else { 1 };
            for (vector, packet) in self.vectors[packets..].iter_mut().zip(&rest[..run]) {
                let bytes = &pool.bytes(packet.frame)[..packet.length as usize];
                vector.iov_base = bytes.as_ptr().cast_mut().cast();
                vector.iov_len = bytes.len();
            }
            self.names[groups].set(&rest[0].to);
            let header = &mut self.headers[groups].msg_hdr;
            header.msg_name = (&raw mut self.names[groups]).cast();
            header.msg_iov = &raw mut self.vectors[packets];
            header.msg_iovlen = run as _;
            if run > 1 {
                self.controls[groups].segment_bytes = rest[0].length as u16;
                header.msg_control = (&raw mut self.controls[groups]).cast();
                header.msg_controllen = size_of::<SegmentControl>() as _;
            } else {
                header.msg_control = std::ptr::null_mut();
                header.msg_controllen = 0;
            }
            self.runs[groups] = run as u16;
            groups += 1;
            packets += run;
        }
        groups
    }
}

/// How many of the oldest packets can leave as one message: to one destination, of equal length
/// but for the last, which may be shorter.
#[inline]
fn run_length(waiting: &[Queued]) -> usize {
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
