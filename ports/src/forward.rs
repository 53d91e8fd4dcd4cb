//! What a port around a port hands on unchanged.

/// Implements the parts of `Frames` that no wrapper changes, by `self.inner`.
macro_rules! forward_frames {
    () => {
        #[inline]
        fn bytes(&self, frame: ::nic_transport::FrameId) -> &[u8] {
            self.inner.bytes(frame)
        }

        #[inline]
        fn bytes_mut(&mut self, frame: ::nic_transport::FrameId) -> &mut [u8] {
            self.inner.bytes_mut(frame)
        }

        #[inline]
        fn retain(&mut self, frame: ::nic_transport::FrameId) {
            self.inner.retain(frame);
        }

        #[inline]
        fn release(&mut self, frame: ::nic_transport::FrameId) {
            self.inner.release(frame);
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

pub(crate) use {forward_frames, forward_port};
