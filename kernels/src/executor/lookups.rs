//! Lookups: the strands of an op, where each of them reads a pointer and replies with what it leads
//! to.
//!
//! A strand has a slot, a kernel, events and steps, which cost many times as much as the two copies
//! that a lookup is. Where all goes well, the op's lookups are therefore looked up in a row, first
//! all pointers, then all values, and each part of the reply is copied from memory when the packets
//! are made.
//!
//! Lookups decide nothing. Where anything is wrong with one of them (bounds, a right, a missing
//! page), all of the op's are made anew as strands, each of which finds out for itself.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use nic_shm::Places;
use nic_wire::{Fate, Status};

use super::apart::{Apart, Facilities};
use super::slot::{LOOKED_UP, Op, Slot, State};
use super::step::Turn;
use super::strands::{self, STRANDS_MAX, StrandHeader};
use super::{Budget, Executor, Finish};
use crate::kernel::Kernel;
use crate::lookups::Lookups;
use crate::memory::{Memory, View};
use crate::pointer_form::PointerForm;
use crate::set::KernelSet;

/// A pointer, as a word of its own.
const POINTER: Places<1> = Places::new(8, [0]).expect("a word is 8 bytes");
/// Steps that a strand takes for a lookup: it begins, hears of the pointer, and of its reply.
const STEPS: u32 = 3;
// The pointers of an op's lookups stand where other ops gather.
const _: () = assert!(8 * STRANDS_MAX <= crate::GATHER_BYTES_MAX);

/// The lookups of one op.
#[derive(Clone, Copy, Debug)]
struct Batch {
    /// Of the pointers.
    table: View,
    /// Of the value that was asked for last.
    values: View,
    form: PointerForm,
    /// Length of a value.
    length: u32,
}

impl Batch {
    /// In place of one.
    const NONE: Batch =
        Batch { table: View::NONE, values: View::NONE, form: PointerForm::Tagged, length: 0 };
}

/// Lookups by the slots of their ops, and the ops whose pointers are to be read.
#[derive(Debug)]
pub(super) struct LookupTable {
    by_slot: Box<[Batch]>,
    /// In order; each at most once.
    pub(super) queue: Vec<u32>,
}

impl LookupTable {
    /// For so many slots. All memory is taken here.
    pub(super) fn new(slots: usize) -> Self {
        LookupTable { by_slot: vec![Batch::NONE; slots].into(), queue: Vec::with_capacity(slots) }
    }

    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl<P: Copy> Op<P> {
    /// Asks for the pointers of all lookups of an op that is split. Whether that is possible.
    #[inline(always)]
    pub(super) fn begin_lookups<K: Kernel, M: Memory<Pending = P>>(
        &mut self,
        kernel: &K,
        lookups: &Lookups,
        turn: &mut Turn<'_, M>,
    ) -> bool {
        let is_bounded = turn.limits.steps < STEPS || turn.limits.bytes < 8;
        let Some(table) = turn.memory.view(self.grant(), lookups.region) else { return false };
        let longest = self.strands.stride - StrandHeader::BYTES as u32;
        if is_bounded || self.is_strand() || lookups.length > longest {
            return false;
        }
        let seen = turn.memory.seen(&table);
        let pointers = self.gather.bytes_mut().as_chunks_mut::<8>().0;
        for (place, pointer) in (0..self.strands.count).zip(pointers) {
            let address = kernel.lookup(place);
            *pointer = address.to_ne_bytes();
            // Where there is none, reading it finds that out.
            let _ = seen.ask(address, 8);
        }
        let Lookups { form, length, .. } = *lookups;
        let of_slot = &mut turn.facilities.lookups;
        of_slot.by_slot[self.slot as usize] = Batch { table, values: table, form, length };
        of_slot.queue.push(self.slot);
        self.state = State::LookingUp;
        true
    }

    /// Reads the pointers, and asks for the values. Whether nothing is wrong with any of them.
    #[inline(always)]
    fn read_pointers<M: Memory<Pending = P>>(&mut self, batch: &mut Batch, memory: &M) -> bool {
        let pointers = self.gather.bytes_mut().as_chunks_mut::<8>().0;
        let (table, mut values) = (memory.seen(&batch.table), memory.seen(&batch.values));
        for pointer in &mut pointers[..usize::from(self.strands.count)] {
            let address = u64::from_ne_bytes(*pointer);
            let Some([word]) = memory.words(&batch.table, &table, address, &POINTER) else {
                return false;
            };
            *pointer = word.to_ne_bytes();
            let Some(at) = batch.form.follow(word) else { continue };
            if at.region != batch.values.number {
                if !batch.enter(at.region, memory) {
                    return false;
                }
                values = memory.seen(&batch.values);
            }
            if !values.ask(at.address, batch.length) {
                return false;
            }
        }
        memory.is_whole()
    }

    /// Copies a part of a reply of lookups.
    pub(super) fn copy_lookups(
        &self,
        memory: &impl Memory<Pending = P>,
        apart: &Apart<P>,
        offset: u32,
        into: &mut [u8],
    ) -> Result<(), Status> {
        let mut batch = apart.facilities.lookups.by_slot[self.slot as usize];
        let pointers = self.gather.bytes().as_chunks::<8>().0;
        self.strands.each_part(offset, into, |place, within, part| {
            batch.copy(memory, u64::from_ne_bytes(pointers[place]), within, part)
        })
    }
}

impl Batch {
    /// Whether values may be looked at in a region.
    #[inline(always)]
    fn see<M: Memory>(&mut self, region: u8, memory: &M) -> bool {
        region == self.values.number || self.enter(region, memory)
    }

    #[cold]
    fn enter<M: Memory>(&mut self, region: u8, memory: &M) -> bool {
        let view = memory.view(self.table.grant, region);
        self.values = view.unwrap_or(View::NONE);
        view.is_some()
    }

    /// Copies a part of what one lookup has in its op's reply.
    #[inline(always)]
    fn copy<M: Memory>(
        &mut self,
        memory: &M,
        pointer: u64,
        within: usize,
        into: &mut [u8],
    ) -> Result<(), Status> {
        let found = self.form.follow(pointer);
        let length = if found.is_some() { self.length } else { 0 };
        let (offset, value) = strands::around(Status::Ok, length, within, into);
        let Some(at) = found.filter(|_| !value.is_empty()) else { return Ok(()) };
        let address = at.address.wrapping_add(offset.into());
        let is_copied = self.see(at.region, memory) && memory.copy(&self.values, address, value);
        // Somebody's rights have ended since, or pages are missing.
        if is_copied || self.enter(at.region, memory) && memory.copy(&self.values, address, value) {
            return Ok(());
        }
        let may_read = memory.view(self.table.grant, at.region).is_some();
        Err(if may_read { Status::MemoryLost } else { Status::Revoked })
    }
}

impl<K: KernelSet, M: Memory> Executor<K, M> {
    /// Reads the pointers of ops that have asked for them. Whatever others have spent, they get a
    /// quarter of a budget.
    #[inline(never)]
    pub(super) fn advance_lookups(&mut self, memory: &mut M, budget: Budget) {
        let cost_max = budget.cost.max(self.cost + 1 + budget.cost / 4);
        let mut count = 0;
        while let Some(index) = self.apart.facilities.lookups.queue.get(count).copied() {
            if self.cost >= cost_max {
                break;
            }
            count += 1;
            let Executor { slots, apart, cost, ready, .. } = self;
            let Slot { op, .. } = &mut slots[index as usize];
            let Facilities { lookups, now, .. } = &mut apart.facilities;
            if matches!(op.state, State::Cancelled) {
                ready.push(index);
                continue;
            }
            if *now >= op.deadline {
                op.finish(Status::Expired, false);
                ready.push(index);
                continue;
            }
            // A pointer and a value each. Those who begin pay nothing ahead: others would not be heard.
            *cost += 2 * u64::from(op.strands.count);
            op.steps += STEPS - 1;
            if op.read_pointers(&mut lookups.by_slot[index as usize], memory) {
                // No more than the op's room for a reply, which is 32 bits wide.
                let reply_length = op.strands.reply_bytes() as u32;
                op.end = Finish { status: Status::Ok, fate: Fate::Executed, reply_length };
                op.ranges = LOOKED_UP;
                op.state = State::Finished;
                ready.push(index);
            } else {
                op.state = State::Waiting;
                self.await_strands(index);
            }
        }
        self.apart.facilities.lookups.queue.drain(..count);
    }
}
