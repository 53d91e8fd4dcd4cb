//! What ports hand on unchanged, to a port within or to their pool.

/// Implements `Frames` by a field: a port within, or a pool. With `except is_queued`, all but that.
macro_rules! forward_frames {
    ($field:ident) => {
        $crate::forward::forward_frames!($field, except is_queued);

        #[inline]
        fn is_queued(&self, frame: ::nic_transport::FrameId) -> bool {
            self.$field.is_queued(frame)
        }
    };
    ($field:ident, except is_queued) => {
        #[inline]
        fn bytes(&self, frame: ::nic_transport::FrameId) -> &[u8] {
            self.$field.bytes(frame)
        }

        #[inline]
        fn bytes_mut(&mut self, frame: ::nic_transport::FrameId) -> &mut [u8] {
            self.$field.bytes_mut(frame)
        }

        #[inline]
        fn retain(&mut self, frame: ::nic_transport::FrameId) {
            self.$field.retain(frame);
        }

        #[inline]
        fn release(&mut self, frame: ::nic_transport::FrameId) {
            self.$field.release(frame);
        }
    };
}

/// Implements the parts of `Port` in which ports with a pool are alike: by the pool's field, and
/// by `capabilities` and `local`.
macro_rules! pooled_port {
    ($pool:ident) => {
        fn capabilities(&self) -> &$crate::Capabilities {
            &self.capabilities
        }

        fn local_address(&self) -> ::std::net::SocketAddr {
            self.local
        }

        #[inline]
        fn available(&self, share: $crate::Share) -> usize {
            self.$pool.available(share)
        }
    };
}

/// Implements the parts of `Port` that no wrapper changes, by `self.inner`.
macro_rules! forward_port {
    () => {
        fn capabilities(&self) -> &$crate::Capabilities {
            self.inner.capabilities()
        }

        fn local_address(&self) -> ::std::net::SocketAddr {
            self.inner.local_address()
        }

        #[inline]
        fn available(&self, share: $crate::Share) -> usize {
            self.inner.available(share)
        }

        fn wait_descriptor(&self) -> Option<::std::os::fd::BorrowedFd<'_>> {
            self.inner.wait_descriptor()
        }

        fn sleep_max(&self) -> Option<::std::time::Duration> {
            self.inner.sleep_max()
        }

        fn end_wait(&mut self) {
            self.inner.end_wait();
        }

        fn fault(&self) -> Option<$crate::PortFault> {
            self.inner.fault()
        }

        fn counters(&self) -> $crate::PortCounters {
            self.inner.counters()
        }
    };
}

pub(crate) use {forward_frames, forward_port, pooled_port};
