//! The table of flows. Its size is fixed at the start; a flow's place in it is part of the
//! connection id, so that a packet finds its flow by an index and a comparison.

use alloc::boxed::Box;

use nic_wire::ConnectionId;

use crate::flow::{Flow, Role};
use crate::slots::SlotQueue;

use super::event::End;

/// Names a flow of one endpoint. A handle to a removed flow finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowHandle {
    slot: u16,
    generation: u32,
}

impl FlowHandle {
    /// The flow's place, below `Config::flows_max`: for tables that run beside the endpoint's.
    #[inline]
    pub const fn slot(self) -> u16 {
        self.slot
    }

    /// Which of the place's successive flows it is.
    #[inline]
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

#[derive(Debug)]
struct Slot<C> {
    generation: u32,
    opened: Option<Role>,
    ended: Option<End>,
    /// Ended, and not yet removed.
    to_be_removed: bool,
    flow: Option<Flow<C>>,
}

#[derive(Debug)]
pub(crate) struct Slab<C> {
    slots: Box<[Slot<C>]>,
    free: SlotQueue,
    to_be_removed: usize,
}

impl<C> Slab<C> {
    pub(crate) fn new(slots: u16) -> Self {
        let mut free = SlotQueue::new(slots);
        (0..slots).for_each(|slot| free.push(slot));
        let vacant =
            |_| Slot { generation: 0, opened: None, ended: None, to_be_removed: false, flow: None };
        Slab { slots: (0..slots).map(vacant).collect(), free, to_be_removed: 0 }
    }

    /// Takes the slot that has been free for longest.
    pub(crate) fn take_slot(&mut self) -> Option<u16> {
        self.free.pop()
    }

    /// Puts a flow into a slot that was taken for it.
    pub(crate) fn put(&mut self, slot: u16, flow: Flow<C>) {
        self.slots[usize::from(slot)].flow = Some(flow);
    }

    pub(crate) fn handle(&self, slot: u16) -> FlowHandle {
        FlowHandle { slot, generation: self.slots[usize::from(slot)].generation }
    }

    #[inline]
    pub(crate) fn at(&self, slot: u16) -> Option<&Flow<C>> {
        self.slots.get(usize::from(slot))?.flow.as_ref()
    }

    #[inline]
    pub(crate) fn at_mut(&mut self, slot: u16) -> Option<&mut Flow<C>> {
        self.slots.get_mut(usize::from(slot))?.flow.as_mut()
    }

    /// The flow that a packet names, with its handle.
    #[inline]
    pub(crate) fn find(&mut self, id: ConnectionId) -> Option<(FlowHandle, &mut Flow<C>)> {
        let slot = self.slots.get_mut(usize::from(id.slot()))?;
        let handle = FlowHandle { slot: id.slot(), generation: slot.generation };
        let flow = slot.flow.as_mut().filter(|flow| flow.local_id == id)?;
        Some((handle, flow))
    }

    #[inline]
    pub(crate) fn get(&self, handle: FlowHandle) -> Option<&Flow<C>> {
        let slot = self.slots.get(usize::from(handle.slot))?;
        if slot.generation == handle.generation { slot.flow.as_ref() } else { None }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, handle: FlowHandle) -> Option<&mut Flow<C>> {
        let slot = self.slots.get_mut(usize::from(handle.slot))?;
        if slot.generation == handle.generation { slot.flow.as_mut() } else { None }
    }

    /// Frees the slot, and makes its handles find nothing.
    pub(crate) fn remove(&mut self, handle: FlowHandle) -> Option<Flow<C>> {
        let slot = self.slots.get_mut(usize::from(handle.slot))?;
        if slot.generation != handle.generation {
            return None;
        }
        let flow = slot.flow.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.opened = None;
        slot.ended = None;
        if core::mem::take(&mut slot.to_be_removed) {
            self.to_be_removed -= 1;
        }
        self.free.push(handle.slot);
        Some(flow)
    }

    pub(crate) fn set_opened(&mut self, slot: u16, role: Role) {
        self.slots[usize::from(slot)].opened = Some(role);
    }

    pub(crate) fn set_ended(&mut self, slot: u16, end: Option<End>) {
        let slot = &mut self.slots[usize::from(slot)];
        slot.ended = end;
        if !core::mem::replace(&mut slot.to_be_removed, true) {
            self.to_be_removed += 1;
        }
    }

    pub(crate) fn take_opened(&mut self, slot: u16) -> Option<Role> {
        self.slots[usize::from(slot)].opened.take()
    }

    pub(crate) fn take_ended(&mut self, slot: u16) -> Option<End> {
        self.slots[usize::from(slot)].ended.take()
    }

    /// Whether some flow has ended and only waits to be removed.
    pub(crate) fn any_to_be_removed(&self) -> bool {
        self.to_be_removed > 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &Flow<C>)> {
        (0..).zip(&self.slots).filter_map(|(index, slot)| Some((index, slot.flow.as_ref()?)))
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
