//! Regions whose memory was taken away by its owner while they were registered.

use core::sync::atomic::{Ordering, fence};

use nic_shm::RacyMem;

use super::tables::{MappedMemory, Region};
use crate::memory::AccessError;

impl MappedMemory {
    /// Looks which regions are lost, if any may be: every further access to one fails with
    /// [`AccessError::MemoryLost`]. To be called now and then, such as once a turn; an access that
    /// itself meets the loss fails in any case.
    #[inline]
    pub fn notice_faults(&mut self) {
        if nic_shm::faults() != self.faults_seen {
            self.mark_lost();
        }
    }

    #[cold]
    fn mark_lost(&mut self) {
        self.faults_seen = nic_shm::faults();
        // Another thread's fault: what its handler wrote down before it counted is seen below.
        fence(Ordering::Acquire);
        self.epoch = self.epoch.wrapping_add(1);
        for region in &mut self.regions {
            if region.memory.as_ref().is_some_and(RacyMem::is_lost) {
                region.lost = region.memory.take();
            }
        }
    }

    /// Whether an access that has just been made was one to memory that is there.
    #[inline(always)]
    pub(super) fn check_there(&self, memory: &RacyMem) -> Result<(), AccessError> {
        if nic_shm::faults() != self.faults_seen && memory.is_lost() {
            return Err(AccessError::MemoryLost);
        }
        Ok(())
    }
}

impl Region {
    /// Whether it may be given out.
    pub(super) fn is_vacant(&self) -> bool {
        self.memory.is_none() && self.lost.is_none()
    }

    /// Why it has no memory: it was lost, or `otherwise`.
    #[cold]
    pub(super) fn missing(&self, otherwise: AccessError) -> AccessError {
        if self.lost.is_some() { AccessError::MemoryLost } else { otherwise }
    }
}

#[cfg(test)]
#[cfg(not(any(miri, loom)))]
mod tests {
    use nic_shm::Places;
    use nic_wire::Status;

    use super::*;
    use crate::kernel::Extent;
    use crate::mapped::Tables;
    use crate::memory::{Access, Done, Memory, Request, View};

    /// Lengths of the region and its file in bytes.
    const LENGTH: u64 = 8192;

    /// A region on a file that will be cut short, and one that stays.
    fn two_regions(name: &str) -> (MappedMemory, crate::memory::Grant, impl Fn() + use<>) {
        let (file, cut) = crate::bench::file_to_cut(name, LENGTH);
        let mut memory = MappedMemory::new(Tables::default());
        let domain = memory.add_domain().unwrap();
        let home = memory.register(domain, file, 0).unwrap();
        let other = memory.register(domain, RacyMem::allocate(64), 0).unwrap();
        let rkey = memory.export(domain, home, Access::all(), &[other], 7).unwrap();
        let grant = memory.admit(&rkey).unwrap();
        (memory, grant, cut)
    }

    #[test]
    fn every_access_that_meets_the_loss_fails() {
        let requests = [
            Request::Read(Extent::named(0, 64, 64)),
            Request::Store(Extent::named(0, 64, 8), 1),
            Request::FetchAdd(Extent::named(0, 64, 8), 1),
        ];
        for (number, request) in requests.iter().enumerate() {
            let (mut memory, grant, cut) = two_regions(&std::format!("poll-{number}"));
            let pending = memory.submit(grant, request).unwrap();
            cut();
            let outcome = memory.poll(&pending, &mut [0; 64]);
            assert_eq!(outcome, Err(AccessError::MemoryLost), "{request:?}");
        }
        type Touch = fn(&mut MappedMemory, &super::super::Pending) -> Result<(), AccessError>;
        let touches: [(&str, Touch); 4] = [
            ("copy_out", |memory, pending| memory.copy_out(pending, 0, &mut [0; 64])),
            ("place", |memory, pending| memory.place(pending, 0, &[1; 64])),
            ("place_whole", |memory, pending| memory.place_whole(pending, &[1; 64])),
            ("place_last_word", |memory, pending| memory.place_last_word(pending, [1; 8])),
        ];
        for (name, touch) in touches {
            let (mut memory, grant, cut) = two_regions(name);
            let payload = Request::Payload(Extent::named(0, 64, 64));
            let pending = memory.submit(grant, &payload).unwrap();
            cut();
            assert_eq!(touch(&mut memory, &pending), Err(AccessError::MemoryLost), "{name}");
        }
    }

    #[test]
    fn what_is_looked_at_without_a_request_is_never_missing_pages() {
        let (mut memory, grant, cut) = two_regions("viewed");
        let [lost, other] = [0, 1].map(|number| memory.view(grant, number).unwrap());
        fn words(view: &View, memory: &MappedMemory) -> Option<[u64; 2]> {
            let words = memory.words(view, &memory.seen(view), 0, &Places::new(24, [0, 8])?);
            words.filter(|_| memory.is_whole())
        }
        let mut copy = [0; 24];
        assert_eq!(words(&lost, &memory), Some([0, 0]));
        assert!(memory.copy(&lost, 0, &mut copy));
        cut();
        assert_eq!(words(&lost, &memory), None, "zeros are no words");
        assert!(!memory.copy(&lost, 0, &mut copy));
        assert!(memory.copy(&other, 0, &mut copy), "the other is whole");
        // Views are of before, and what is looked up anew is whole.
        memory.notice_faults();
        assert_eq!([lost, other].map(|view| words(&view, &memory)), [None, None]);
        let again = memory.view(grant, 1).unwrap();
        assert_eq!(words(&again, &memory), Some([0, 0]));
    }

    #[test]
    fn a_lost_region_is_dead_as_a_whole_and_the_others_live() {
        let (mut memory, grant, cut) = two_regions("dead");
        let far = Request::Read(Extent::named(0, 4096, 64));
        let other = Request::Read(Extent::named(1, 0, 64));
        let under_way = memory.submit(grant, &far).unwrap();
        cut();
        let first = memory.submit(grant, &Request::Read(Extent::named(0, 0, 64))).unwrap();
        assert_eq!(memory.poll(&first, &mut [0; 64]), Err(AccessError::MemoryLost));
        memory.notice_faults();
        // Where no page was touched, too.
        assert_eq!(memory.poll(&under_way, &mut [0; 64]), Err(AccessError::MemoryLost));
        assert_eq!(memory.submit(grant, &far).err(), Some(AccessError::MemoryLost));
        assert_eq!(AccessError::MemoryLost.status(), Status::MemoryLost);
        let pending = memory.submit(grant, &other).unwrap();
        assert_eq!(memory.poll(&pending, &mut [0; 64]), Ok(Some(Done::Fetched(64))));

        // Its owner gives it up like any other, and its place is free again.
        let domain = memory.domain_of(0).unwrap();
        assert!(memory.deregister(domain, 0).unwrap().is_lost());
        assert_eq!(memory.register(domain, RacyMem::allocate(64), 0), Ok(0));
        assert!(memory.region(domain, 0).is_ok_and(|found| !found.is_lost()));
    }
}
