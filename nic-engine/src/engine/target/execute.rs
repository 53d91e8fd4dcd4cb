//! Ops run, and are answered as soon as they are over.

use nic_kernels::mapped::MappedMemory;
use nic_kernels::{Answer, Ended, KernelSet};
use nic_ports::Port;
use nic_transport::{Endpoint, Protection};
use nic_wire::frame::{self, REPLY_BYTES};
use nic_wire::{Fate, Status, Time};

use super::replies::SHORT_MEMORY;
use super::shares::Witness;
use super::{TargetTable, answer_ready};
use crate::engine::core::Core;
use crate::engine::counters::Counters;
use crate::engine::links::{Link, NoRoom};

impl<K: KernelSet> Core<K> {
    /// Runs ops of others. The reply of one that is over goes into a packet at once, unless others
    /// wait before it or it is long: then it waits for the transmit pass.
    #[inline]
    pub(in crate::engine) fn execute<P: Port>(&mut self, port: &mut P) {
        self.acknowledged.release(port);
        if self.cancels.due() <= self.now {
            self.end_given_up();
        }
        if !self.executor.is_idle() {
            let budget = self.spend();
            let witness = self.sharing.witness();
            let Core { executor, memory, target, links, touched, counters, now, .. } = self;
            let (endpoint, protection) = (&mut self.endpoint, &mut self.protection);
            let now = *now;
            let mut answering = Answering {
                port,
                endpoint,
                protection,
                target,
                links,
                touched,
                counters,
                now,
                witness,
            };
            let mut is_short = false;
            let progress = executor.run_answering(memory, now, budget, &mut |ended| {
                let answer = answering.answer(&ended);
                is_short |= answer == Answer::Made;
                answer
            });
            let witness = answering.witness;
            if is_short {
                self.short_replies_until = now + SHORT_MEMORY;
            }
            self.counters.executor_cost += progress.cost;
            self.share(&witness, progress.ready);
        }
        self.sweep_orphans();
    }
}

/// What it takes to answer while the executor runs.
struct Answering<'a, P, C> {
    port: &'a mut P,
    endpoint: &'a mut Endpoint,
    protection: &'a mut C,
    target: &'a mut TargetTable,
    links: &'a mut [Link],
    touched: &'a mut Vec<u16>,
    counters: &'a mut Counters,
    now: Time,
    witness: Witness,
}

impl<P: Port, C: Protection> Answering<'_, P, C> {
    /// Answers an op that is over, or has its reply wait.
    #[inline(always)]
    fn answer(&mut self, ended: &Ended<'_, MappedMemory>) -> Answer {
        let index = ended.owner as u32;
        self.witness.answered(self.target, index, self.now);
        if self.answer_now(index, ended).is_ok() {
            return Answer::Made;
        }
        let finish = ended.finish;
        self.target.finished(index, finish.status, finish.fate, finish.reply_length);
        let link = &mut self.links[usize::from(self.target.link(index))];
        answer_ready(self.target, link, self.touched, index, self.counters);
        Answer::Later
    }

    /// Puts a short reply into the packet being filled and lets go of its op.
    #[inline(always)]
    fn answer_now(&mut self, index: u32, ended: &Ended<'_, MappedMemory>) -> Result<(), NoRoom> {
        let op = &self.target.ops[index as usize];
        let link = &mut self.links[usize::from(op.link)];
        let total = ended.finish.reply_length;
        let room = frame::reply_bytes(total as usize);
        if op.orphaned || !link.is_next_reply() {
            return Err(NoRoom);
        }
        if link.room() < room {
            // What was lost goes before what is new.
            let repeats = link.flow(self.endpoint).is_none_or(|flow| flow.wants_to_repeat());
            if repeats || total as usize > link.packet_room() - REPLY_BYTES {
                return Err(NoRoom);
            }
            link.make_room(room, self.now, self.endpoint, self.port, self.protection)?;
        }
        let reply = frame::Reply {
            op: op.op,
            status: ended.finish.status,
            fate: ended.finish.fate,
            offset: 0,
            total,
            service_ns: self.now.since(op.arrived).saturated_ns(),
        };
        // If the memory has gone away, the reply says so.
        let _ =
            link.put_reply(&reply, total as usize, self.port, |into| ended.copy_reply(0, into))?;
        self.counters.replies_sent += 1;
        self.counters.ended(reply.status, reply.fate);
        if link.streams.finish(op.stream, op.sequence).is_err() {
            self.counters.malformed_frames += 1;
        }
        link.in_hand -= 1;
        if !link.touched {
            link.touched = true;
            self.touched.push(op.link);
        }
        self.target.remove(index);
        Ok(())
    }
}

impl Counters {
    /// Counts an op of another host that is over.
    #[inline(always)]
    pub(super) fn ended(&mut self, status: Status, fate: Fate) {
        match (status, fate) {
            (Status::Ok | Status::Continues, _) => self.executed += 1,
            (_, Fate::NotExecuted) => self.refused += 1,
            _ => self.failed += 1,
        }
    }
}
