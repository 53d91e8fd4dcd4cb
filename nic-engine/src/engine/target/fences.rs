//! Requests that wait for a fence to open.

use nic_kernels::KernelSet;
use nic_wire::frame::RequestFrame;
use nic_wire::packet::MAX_PACKET_BYTES;

use crate::engine::core::Core;
use crate::engine::links::NoRoom;

impl<K: KernelSet> Core<K> {
    /// Whether a request with a fence has to wait, for which it is then kept.
    #[inline(never)]
    pub(super) fn waits_for_fence(
        &mut self,
        link: u16,
        age_us: u32,
        frame: RequestFrame<'_>,
    ) -> bool {
        let streams = &mut self.links[usize::from(link)].streams;
        match streams.may_start(frame.stream(), frame.sequence()) {
            Ok(true) => false,
            Ok(false) => {
                if self.holds.hold(link, self.now, age_us, frame) {
                    self.counters.fenced += 1;
                    self.links[usize::from(link)].held += 1;
                } else {
                    self.counters.unplaced_packets += 1;
                }
                true
            }
            Err(_) => {
                self.counters.malformed_frames += 1;
                false
            }
        }
    }

    /// Starts requests whose fence has opened, as far as there are slots for them.
    pub(in crate::engine) fn release_fences(&mut self, link_slot: u16) -> Result<(), NoRoom> {
        let mut bytes = [0; MAX_PACKET_BYTES];
        let mut index = 0;
        while index < self.holds.len() {
            let held = self.holds.get(index);
            if held.link != link_slot {
                index += 1;
                continue;
            }
            let request = held.request;
            let link = &mut self.links[usize::from(link_slot)];
            // One whose budget is spent waits no longer: it is refused.
            let may_start = held.is_expired(self.now)
                || link.streams.may_start(request.stream, request.sequence) != Ok(false);
            if !may_start {
                index += 1;
                continue;
            }
            if self.target.free() == 0 {
                return Err(NoRoom);
            }
            if let Some((held, frame)) = self.holds.release(index, &mut bytes) {
                link.held -= 1;
                let here_us = u32::try_from(self.now.since(held.arrived).as_us());
                let waited_us = held.age_us.saturating_add(here_us.unwrap_or(u32::MAX));
                self.start(link_slot, held.arrived, waited_us, frame);
            }
        }
        Ok(())
    }
}
