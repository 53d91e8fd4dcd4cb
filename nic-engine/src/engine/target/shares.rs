//! How long ops of others share the engine's time, with each other and with what is short.
//!
//! An account is a stream of a flow: a session has one or more of its own. Where long ops of several
//! accounts are under way, or those of one beside short ops of others, they stand aside between turns
//! and go on by turns (`nic_kernels`' executor), so that who has many out is no better off, and what
//! comes next does not wait until all of them have moved.

use nic_kernels::{Budget, KernelSet};
use nic_wire::{Span, Time};

use super::TargetTable;
use crate::engine::core::Core;
use crate::engine::streams::Streams;

/// What long ops may cost in a turn while short ones of others come, as the executor counts: about
/// as much time as it takes to receive and answer what is short.
const COST_BESIDE: u64 = 64;

/// The same while there are several accounts of long ones and nothing else. More would be of use to
/// those only who have many out.
const COST_SHARED: u64 = 128;

/// Rounds of a turn in which long ops are shared.
const ROUNDS: u32 = 8;

/// For how long after a short op they make room for the next.
const MEMORY: Span = Span::from_us(100);

/// An op that took no longer was a short one.
const SHORT_MAX: Span = Span::from_us(500);

/// How often it is looked whose long ops there are, while they are not shared.
const LOOK: Span = Span::from_us(50);

/// In place of an account: there are no long ops, or none is known of.
const NOBODY: u32 = u32::MAX;

/// In place of an account: there are long ops of several.
const SEVERAL: u32 = u32::MAX - 1;

/// So many accounts have so many flows.
pub(in crate::engine) fn accounts(flows: u16) -> usize {
    usize::from(flows) * Streams::MAX
}

/// Whose long ops are under way, and who is beside them.
pub(in crate::engine) struct Sharing {
    /// Their account, [`NOBODY`] or [`SEVERAL`].
    long: u32,
    /// Whether they stand aside between turns.
    is_shared: bool,
    /// Until when others count as being there.
    until: Time,
    next_look: Time,
}

impl Sharing {
    pub(in crate::engine) fn new() -> Self {
        Sharing { long: NOBODY, is_shared: false, until: Time::ZERO, next_look: Time::ZERO }
    }

    /// Who notices short ops beside the long ones.
    #[inline]
    pub(super) fn witness(&self) -> Witness {
        Witness { long: self.long, is_anyone_beside: false }
    }
}

/// Looks at ops that are answered.
pub(super) struct Witness {
    long: u32,
    is_anyone_beside: bool,
}

impl Witness {
    /// An op is answered.
    #[inline(always)]
    pub(super) fn answered(&mut self, target: &TargetTable, index: u32, now: Time) {
        if self.long != NOBODY {
            let is_others = target.account(index) != self.long;
            let is_short = now.since(target.ops[index as usize].arrived) <= SHORT_MAX;
            self.is_anyone_beside |= is_others && is_short;
        }
    }
}

impl TargetTable {
    /// Whose an op is.
    fn account(&self, index: u32) -> u32 {
        let op = &self.ops[index as usize];
        let streams = Streams::MAX as u32;
        u32::from(op.link) * streams + u32::from(op.stream) % streams
    }
}

impl<K: KernelSet> Core<K> {
    /// What this turn may spend; long ops that stand aside go on for it.
    #[inline]
    pub(super) fn spend(&mut self) -> Budget {
        if self.executor.aside() == 0 { self.config.budget } else { self.take_up() }
    }

    #[cold]
    fn take_up(&mut self) -> Budget {
        let cost = match self.executor.accounts_aside() {
            _ if self.now < self.sharing.until => COST_BESIDE,
            1 => u64::MAX,
            _ => COST_SHARED,
        };
        self.executor.take_up(cost);
        self.sharing.is_shared = cost < u64::MAX;
        let rounds = if self.sharing.is_shared { ROUNDS } else { self.config.budget.rounds };
        Budget { rounds, ..self.config.budget }
    }

    /// Sets long ops aside that are ready after a turn, if they are to be shared.
    #[inline]
    pub(super) fn share(&mut self, witness: &Witness, ready: u32) {
        if ready > 0 || self.sharing.long != NOBODY {
            self.share_long(witness);
        }
    }

    #[cold]
    fn share_long(&mut self, witness: &Witness) {
        let Core { executor, sharing, target, counters, now, .. } = self;
        if witness.is_anyone_beside {
            sharing.until = *now + MEMORY;
        }
        let account = |owner: u64| target.account(owner as u32);
        if !(sharing.is_shared || *now < sharing.until) && *now < sharing.next_look {
            if executor.ready() == 0 {
                sharing.long = NOBODY;
            }
            return;
        }
        sharing.next_look = *now + LOOK;
        let [first, other] = executor.long_accounts(account);
        if sharing.is_shared || *now < sharing.until || other.is_some() {
            executor.set_aside(account);
            sharing.is_shared = executor.aside() > 0;
            counters.set_aside += u64::from(sharing.is_shared);
        }
        sharing.long = match (first, other, executor.accounts_aside()) {
            (_, Some(_), _) | (_, _, 2..) => SEVERAL,
            (Some(first), None, _) => first,
            // Those that did not go on in this turn are still there.
            (None, None, 1) => sharing.long,
            (None, None, _) => NOBODY,
        };
    }
}
