//! Packets on their way to the kernel: grouped for segmentation, sent in one call.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::name::SocketName;
use super::segments::{SegmentControl, run_length};
use crate::pool::FramePool;
use crate::queue::Queued;

/// Packets that one call sends at most.
const PACKETS_MAX: usize = 256;
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
                self.controls[groups].cut_into(rest[0].length);
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
