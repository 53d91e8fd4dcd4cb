//! Fairness among the sessions that share a flow: deficit round robin by cost.

use std::collections::VecDeque;

use nic_wire::Span;

use super::ops::{OpQueue, OpTable};

/// What an op costs, in units of 256 bytes: one for itself, and its payload and the room for its
/// reply.
pub(super) type Cost = u16;

/// Bytes of a unit of cost.
const UNIT_BYTES: u64 = 256;

/// What a lane may spend each time its turn comes, in units: 16 KiB.
const QUANTUM: u32 = 64;

/// What a session may have out while a polite one is served, in units: 1 KiB, or a single op.
pub(super) const SHARE: u32 = 4;

/// While a polite one is served, ops of a session leave at least this far apart: what each costs, two
/// packets and the turns that move them, is waited for by the polite one as well.
pub(super) const PACE: Span = Span::from_us(16);

/// A session that has its share out may let one more go after so long without any: what it has out
/// may be long in ending.
pub(super) const PATIENCE: Span = Span::from_ms(1);

/// What an op of these lengths costs.
#[inline]
pub(super) fn cost(payload_length: u32, reply_capacity: u32) -> Cost {
    let bytes = u64::from(payload_length) + u64::from(reply_capacity);
    Cost::try_from(1 + bytes / UNIT_BYTES).unwrap_or(Cost::MAX)
}

/// The ops of one session that have something still to be put into packets of a flow.
struct Lane {
    session: u16,
    queue: OpQueue,
    deficit: u32,
    /// Whether it cannot go on in this pass.
    is_held: bool,
}

/// The lanes of a flow that have ops, in the order in which they are served; the first is being
/// served.
pub(super) struct Lanes {
    lanes: VecDeque<Lane>,
    /// How many of them cannot go on in this pass.
    held: usize,
}

impl Lanes {
    /// None, with room for as many sessions.
    pub(super) fn new(sessions: usize) -> Self {
        Lanes { lanes: VecDeque::with_capacity(sessions), held: 0 }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// What could not go on in the pass before may be able to now.
    #[inline]
    pub(super) fn begin_pass(&mut self) {
        if self.held > 0 {
            self.held = 0;
            self.lanes.iter_mut().for_each(|lane| lane.is_held = false);
        }
    }

    /// Appends an op to its session's lane.
    #[inline]
    pub(super) fn enqueue(&mut self, ops: &mut OpTable, session: u16, slot: u16) {
        if let Some(place) = self.place(session) {
            return ops.enqueue(&mut self.lanes[place].queue, slot);
        }
        let mut queue = OpQueue::EMPTY;
        ops.enqueue(&mut queue, slot);
        self.lanes.push_back(Lane { session, queue, deficit: QUANTUM, is_held: false });
    }

    /// Takes an op out of its session's lane, if it stands there.
    #[inline]
    pub(super) fn dequeue(&mut self, ops: &mut OpTable, session: u16, slot: u16) {
        if !ops.is_queued(slot) {
            return;
        }
        let Some(place) = self.place(session) else { return };
        ops.dequeue(&mut self.lanes[place].queue, slot);
        if self.lanes[place].queue.first().is_none() {
            self.held -= usize::from(self.lanes[place].is_held);
            self.lanes.remove(place);
        }
    }

    /// The op whose turn it is; `None` if no lane can go on. A lane that cannot pay for its first op
    /// gets its quantum and goes to the end.
    #[inline]
    pub(super) fn next(&mut self, ops: &OpTable) -> Option<u16> {
        loop {
            let able = self.lanes.len() - self.held;
            if able == 0 {
                return None;
            }
            let is_alone = able == 1;
            let lane = self.lanes.front_mut()?;
            if lane.is_held {
                self.lanes.rotate_left(1);
                continue;
            }
            let slot = lane.queue.first()?;
            let cost = u32::from(ops.cost(slot));
            // One for which nobody waits saves nothing up and owes nothing.
            if is_alone || lane.deficit >= cost {
                return Some(slot);
            }
            lane.deficit += QUANTUM;
            self.lanes.rotate_left(1);
        }
    }

    /// The op of [`Lanes::next`] has left.
    #[inline]
    pub(super) fn served(&mut self, ops: &mut OpTable, slot: u16) {
        let Some(lane) = self.lanes.front_mut() else { return };
        lane.deficit = lane.deficit.saturating_sub(ops.cost(slot).into());
        ops.dequeue(&mut lane.queue, slot);
        if lane.queue.first().is_none() {
            self.lanes.pop_front();
        }
    }

    /// The lane of [`Lanes::next`] cannot go on in this pass; others may.
    #[inline]
    pub(super) fn hold(&mut self) {
        let Some(lane) = self.lanes.front_mut() else { return };
        lane.is_held = true;
        self.held += 1;
        self.lanes.rotate_left(1);
    }

    #[inline]
    fn place(&self, session: u16) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.session == session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ops of (session, cost), queued in this order; the order in which they leave.
    fn order(asked: &[(u16, Cost)]) -> Vec<u16> {
        let (mut ops, mut lanes) = (OpTable::new(64), Lanes::new(8));
        for (session, cost) in asked {
            let slot = ops.next_slot();
            assert!(ops.claim(slot));
            ops.get(slot).session = *session;
            ops.get(slot).cost = *cost;
            lanes.enqueue(&mut ops, *session, slot);
        }
        let mut order = Vec::new();
        while let Some(slot) = lanes.next(&ops) {
            order.push(ops.get(slot).session);
            lanes.served(&mut ops, slot);
        }
        assert!(lanes.is_empty());
        order
    }

    #[test]
    fn a_lone_session_is_served_in_order_and_without_limit() {
        assert_eq!(order(&[(3, Cost::MAX), (3, 1), (3, 5000)]), [3, 3, 3]);
    }

    #[test]
    fn a_cheap_op_overtakes_what_a_greedy_session_has_queued() {
        let mut asked = vec![(1, 20); 10];
        asked.push((2, 1));
        let order = order(&asked);
        // The quantum lets three of the first ones go.
        assert_eq!(order.iter().position(|session| *session == 2), Some(3));
    }

    #[test]
    fn sessions_get_equal_shares_by_cost_and_the_longest_op_gets_through() {
        let mut asked = vec![(1, 1000), (2, 1000)];
        asked.extend([(3, 10); 40]);
        let order = order(&asked);
        assert_eq!(order.len(), 42);
        // 400 units of the third session are less than 1000: all of them leave before the long ones.
        assert_eq!(order[40..], [1, 2]);
    }

    #[test]
    fn an_op_that_ends_early_leaves_its_lane() {
        let (mut ops, mut lanes) = (OpTable::new(4), Lanes::new(8));
        let slots = [0, 1].map(|session| {
            let slot = ops.next_slot();
            assert!(ops.claim(slot));
            lanes.enqueue(&mut ops, session, slot);
            slot
        });
        lanes.dequeue(&mut ops, 0, slots[0]);
        lanes.dequeue(&mut ops, 0, slots[0]);
        assert_eq!((lanes.lanes.len(), lanes.next(&ops)), (1, Some(slots[1])));
    }

    #[test]
    fn a_dear_op_leaves_beside_sessions_that_cannot_go_on() {
        let (mut ops, mut lanes) = (OpTable::new(4), Lanes::new(8));
        let slots = [(0, 1), (1, 5000), (2, 1)].map(|(session, cost)| {
            let slot = ops.next_slot();
            assert!(ops.claim(slot));
            ops.get(slot).cost = cost;
            lanes.enqueue(&mut ops, session, slot);
            slot
        });
        for _ in 0..2 {
            lanes.begin_pass();
            let held = [(); 2].map(|()| {
                let held = lanes.next(&ops);
                lanes.hold();
                held
            });
            assert!(held.contains(&Some(slots[0])) && held.contains(&Some(slots[2])), "{held:?}");
            assert_eq!(lanes.next(&ops), Some(slots[1]), "however long it would have to save up");
        }
        lanes.served(&mut ops, slots[1]);
        assert_eq!((lanes.next(&ops), lanes.is_empty()), (None, false));
        lanes.dequeue(&mut ops, 0, slots[0]);
        lanes.begin_pass();
        assert_eq!(lanes.next(&ops), Some(slots[2]));
    }
}
