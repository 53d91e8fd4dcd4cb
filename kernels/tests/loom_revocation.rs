//! Revocation under every interleaving that loom finds (bounded preemption): a control thread asks
//! through the mailbox, the engine answers when no access holds the export any more, and from the
//! answer on nobody touches the region.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p nic-kernels --release --test loom_revocation`
//!
//! Memory and mailbox are the real ones. That the region is touched, and that it is unmapped, is
//! told to a loom cell, which fails the test if both can happen at once. The accesses take a turn
//! or two, as those of a DMA engine would: such a one cannot be stopped, only waited for.

#![cfg(loom)]
// Loom lends the content of its cells as raw pointers.
#![allow(unsafe_code)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use nic_kernels::mapped::{MappedMemory, Tables};
use nic_kernels::{Access, AccessError, Extent, Grant, Memory, Request};
use nic_shm::{Mailbox, RacyMem};
use nic_wire::Rkey;

/// The pages of a region, as far as loom is concerned.
struct Pages(UnsafeCell<bool>);

impl Pages {
    fn touch(&self) {
        // SAFETY: loom checks that nobody unmaps them meanwhile.
        assert!(self.0.with(|mapped| unsafe { *mapped }), "an access after the revocation");
    }

    fn unmap(&self) {
        // SAFETY: loom checks that nobody touches them meanwhile.
        self.0.with_mut(|mapped| unsafe { *mapped = false });
    }
}

/// The wish of a control thread, and its answer.
struct Revoke {
    export: u16,
    generation: u16,
}

/// One engine with one region.
struct Engine {
    memory: MappedMemory,
    grant: Grant,
    pages: Arc<Pages>,
    mailbox: Arc<Mailbox<Revoke>>,
    /// Whether revocations wait for accesses under way.
    waits: bool,
}

fn engine(pages: &Arc<Pages>, mailbox: &Arc<Mailbox<Revoke>>, waits: bool) -> (Engine, Rkey) {
    let mut memory = MappedMemory::new(Tables { domains: 1, regions: 1, exports: 1 });
    let domain = memory.add_domain().expect("an empty table");
    let home = memory.register(domain, RacyMem::allocate(64), 0).expect("an empty table");
    let rkey = memory.export(domain, home, Access::all(), &[], 77).expect("an empty table");
    let grant = memory.admit(&rkey).expect("a fresh export");
    let (pages, mailbox) = (Arc::clone(pages), Arc::clone(mailbox));
    (Engine { memory, grant, pages, mailbox, waits }, rkey)
}

impl Engine {
    /// Takes turns until the revocation has been answered and no access is left. Accesses begin as
    /// long as they are let.
    fn run(mut self) {
        let request = Request::Read(Extent::named(self.grant.home(), 0, 8));
        let (mut parked, mut answered, mut pending) = (None, false, None);
        for turn in 0.. {
            if let Some(work) = self.mailbox.take() {
                let revoked = self.memory.revoke(work.export, work.generation);
                assert_eq!(revoked, Ok(u32::from(pending.is_some())));
                let refused = self.memory.submit(self.grant, &request).err();
                assert_eq!(refused, Some(AccessError::Revoked), "new steps fail at once");
                parked = Some(work);
            }
            if let Some(work) = parked.take() {
                if self.waits && self.memory.holds(work.export, work.generation) > 0 {
                    parked = Some(work);
                } else {
                    self.mailbox.answer(work);
                    answered = true;
                }
            }
            match pending.take() {
                Some(access) => {
                    self.pages.touch();
                    if turn % 3 == 2 {
                        let _ = self.memory.poll(&access, &mut [0; 8]);
                    } else {
                        pending = Some(access);
                    }
                }
                None if answered => return,
                None => pending = self.memory.submit(self.grant, &request).ok(),
            }
            thread::yield_now();
        }
    }
}

fn revoke(waits: bool) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let pages = Arc::new(Pages(UnsafeCell::new(true)));
        let mailbox = Arc::new(Mailbox::new());
        let (engine, rkey) = engine(&pages, &mailbox, waits);
        let engine = thread::spawn(move || engine.run());
        let (export, generation) = (rkey.export.get(), rkey.generation.get());
        let posted = mailbox.post(Box::new(Revoke { export, generation }));
        assert!(posted.is_ok(), "the mailbox is new");
        while mailbox.collect().is_none() {
            thread::yield_now();
        }
        pages.unmap();
        engine.join().expect("the engine succeeds");
    });
}

#[test]
fn after_a_revocation_nobody_touches_the_region() {
    revoke(true);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn answered_at_once_it_is_touched_still() {
    revoke(false);
}
