//! The end of a run: everything is mended, everything comes to rest, and is looked at.

use nic_wire::{Span, Time};

use crate::plan::Kind;
use crate::scene::Scene;

/// Ops may find that their flow has ended; then the next one works.
const ATTEMPTS: u32 = 4;
const LIMIT: Span = Span::from_ms(20_000);

impl Scene {
    /// Mends everything and waits until all ops have ended; then every way must work, no engine may
    /// have kept anything, and the memory is compared with its models.
    pub fn close(&mut self) {
        self.is_ending = true;
        self.mend();
        self.rest();
        for place in 0..self.places.len() {
            for index in 0..self.places[place].initiators.len() {
                for way in 0..self.places[place].initiators[index].ways.len() {
                    self.prove(place, index, way);
                }
            }
        }
        self.rest();
        self.tick += 1;
        let (tick, now) = (self.tick, self.world.now());
        for place in 0..self.places.len() {
            self.places[place].region.audit(tick, now);
            self.count_engine(place);
            self.count_place(place);
        }
        self.tally.add("calls delivered", "", self.calls.delivered);
        self.count_network();
    }

    fn mend(&mut self) {
        let end = self.world.now() + LIMIT;
        loop {
            self.end_faults(Time::NEVER);
            let mut all = true;
            for place in 0..self.places.len() {
                all &= self.keep_ways_open(place) && self.places[place].owner.is_some();
            }
            if all {
                return;
            }
            assert!(self.world.now() < end, "not all ways are open again");
            self.turn();
        }
    }

    /// Waits until no op is out.
    fn rest(&mut self) {
        let end = self.world.now() + LIMIT;
        while !self.is_at_rest() {
            assert!(self.world.now() < end, "engines keep ops in hand: {:?}", self.left());
            self.turn();
        }
    }

    fn is_at_rest(&self) -> bool {
        let mut initiators = self.places.iter().flat_map(|place| &place.initiators);
        initiators.all(|initiator| initiator.session.out() == 0)
            && self.left().iter().all(|(out, received)| {
                // Replies to the dead are kept until their flow is given up.
                *out == 0 && (*received == 0 || self.plan.kind == Kind::Deaths)
            })
    }

    /// The ops that each engine has out, and in hand.
    fn left(&self) -> Vec<(u64, u64)> {
        let counters = self.places.iter().map(|place| self.world.counters(place.host));
        counters.map(|counters| (counters.ops_out, counters.ops_in)).collect()
    }

    /// An op on a way must succeed.
    fn prove(&mut self, place: usize, index: usize, way: usize) {
        for _ in 0..ATTEMPTS {
            let before = self.tally.of("ops", "Ok, Executed");
            let budget = Span::from_ms(10_000);
            assert!(self.submit_on(place, index, way, budget, true), "all ways are open");
            self.rest();
            if self.tally.of("ops", "Ok, Executed") > before {
                return;
            }
        }
        panic!("way {way} of initiator {index} at {place} does not work, though nothing is wrong");
    }

    /// What an engine has counted, at its end.
    pub fn count_engine(&mut self, place: usize) {
        let counters = self.world.counters(self.places[place].host);
        assert_eq!(counters.malformed_frames, 0, "engines make no malformed frames");
        assert_eq!(counters.bad_commands, 0, "applications keep the rules");
        assert_eq!(counters.ring_violations, 0, "applications keep the rules");
        let turned_up = [
            ("retransmissions", counters.retransmissions),
            ("duplicates", counters.duplicates),
            ("corrupted packets", counters.corrupted_packets),
            ("packets left unacknowledged for want of room", counters.unplaced_packets),
            ("parts of payloads without a place", counters.unplaced_parts),
            ("requests that had expired on arrival", counters.expired_on_arrival),
            ("requests that waited for a fence", counters.fenced),
            ("late replies", counters.late_replies),
            ("late answers", counters.late_answers),
            ("packets forwarded to another engine", counters.forwarded),
            ("flows lost", counters.flows_lost),
            ("sleeps", counters.sleeps),
        ];
        for (what, count) in turned_up {
            self.tally.add("engines", what, count);
        }
    }

    fn count_place(&mut self, place: usize) {
        let place = &self.places[place];
        let (region, lookups) = (&place.region, &place.lookups);
        let counted = region.counters.iter().map(|counter| counter.compared());
        let compared: u64 = counted.chain(region.chains.iter().map(|chain| chain.compared())).sum();
        let fenced_out: u64 = region.extents.iter().map(|extent| extent.fenced_out).sum();
        let swaps = region.chains.iter().map(|chain| chain.floor()).sum();
        let adds = region.counters.iter().map(|counter| counter.floor()).sum();
        let found = [
            ("words compared with the model", region.words_seen),
            ("pairs of atomics ordered by a fence", compared),
            ("writes ruled out by a fence", fenced_out),
            ("swaps in effect", swaps),
            ("adds in effect", adds),
            ("lookups that hit", lookups.hits),
            ("lookups that missed", lookups.misses),
            ("lookups to be repeated", lookups.torn),
        ];
        for (what, count) in found {
            self.tally.add("oracle", what, count);
        }
    }

    fn count_network(&mut self) {
        let network = self.world.network.counters();
        let packets = [
            ("lost", network.lost),
            ("doubled", network.duplicated),
            ("reordered", network.reordered),
            ("changed", network.corrupted),
            ("at a cut", network.partitioned),
            ("to the dead", network.unreachable),
            ("that found a queue full", network.overflowed),
        ];
        for (what, count) in packets {
            self.tally.add("packets spoilt", what, count);
        }
        self.tally.add("packets sent", "", network.sent);
    }
}
