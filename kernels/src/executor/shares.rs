//! Long ops share the executor by account, not by number.
//!
//! A round advances every op once, so that who has a hundred long walks out has a hundred times the
//! steps of who has one. Where several compete, their caller sets long ops aside between two runs
//! and has some go on in each: deficit round robin over accounts, by what their ops have cost. What
//! is short never stands aside. Whose op is whose only the caller knows.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;

use nic_wire::Time;

use super::Executor;
use super::advance::must_end;
use super::slot::{HOLDS, Op, Slot, State};
use super::walks::Walks;
use crate::memory::Memory;
use crate::set::KernelSet;

/// An op that has cost more than this is a long one; counted as [`Budget::cost`](super::Budget::cost)
/// is, and every step as one. Lookups and short ranges never do.
const LONG_COST: u64 = 32;

/// What an op that goes on is expected to cost until it stands aside again: a few rounds, of a fetch
/// each. What it has cost in fact is known then.
const ADVANCE: i64 = 8;

/// The most that an account owes: what its ops have cost while nobody else was there is not held
/// against it for long.
const DEBT_MAX: i64 = 16 << 10;

/// No op.
const NONE: u32 = u32::MAX;

/// The long ops of one account that stand aside, in their order.
#[derive(Clone, Copy, Debug)]
struct Account {
    first: u32,
    last: u32,
    /// What it may spend; below zero, what it has spent too much.
    deficit: i64,
    /// Whether it is among those that have turns.
    is_active: bool,
}

/// What is known of the op in a slot while it stands aside, and until it does so again.
#[derive(Clone, Copy, Debug)]
struct Standing {
    /// Which of the slot's ops.
    generation: u32,
    /// What of its cost its account has paid for.
    paid: u64,
    /// Whose it is; [`NONE`]: it does not stand aside.
    account: u32,
    /// Who stands before and behind it.
    before: u32,
    next: u32,
}

/// The accounts, and who stands aside.
#[derive(Debug)]
pub(super) struct Shares {
    accounts: Box<[Account]>,
    standing: Box<[Standing]>,
    /// Accounts of which ops stand aside, in the order of their turns.
    active: VecDeque<u32>,
    aside: usize,
    /// None of them has to go on earlier.
    deadline: Time,
}

impl Shares {
    /// None: nothing is ever set aside.
    pub(super) fn none() -> Self {
        Shares {
            accounts: Box::default(),
            standing: Box::default(),
            active: VecDeque::new(),
            aside: 0,
            deadline: Time::NEVER,
        }
    }

    fn new(accounts: usize, slots: usize) -> Self {
        let account = Account { first: NONE, last: NONE, deficit: 0, is_active: false };
        let standing =
            Standing { generation: u32::MAX, paid: 0, account: NONE, before: NONE, next: NONE };
        Shares {
            accounts: vec![account; accounts].into(),
            standing: vec![standing; slots].into(),
            active: VecDeque::with_capacity(accounts.min(slots)),
            aside: 0,
            deadline: Time::NEVER,
        }
    }

    /// How many ops stand aside.
    #[inline(always)]
    pub(super) fn aside(&self) -> usize {
        self.aside
    }

    /// When an op that stands aside has to go on at the latest.
    #[inline(always)]
    pub(super) fn deadline(&self) -> Time {
        self.deadline
    }

    /// Has an op stand aside behind those of its account, which pays for what the op has cost.
    fn add<P>(&mut self, op: &Op<P>, cost: u64, account: u32) {
        let Account { first, last, deficit, is_active } = &mut self.accounts[account as usize];
        let Standing { generation, paid, .. } = self.standing[op.slot as usize];
        let (advanced, paid) = if generation == op.generation { (ADVANCE, paid) } else { (0, 0) };
        let spent = i64::try_from(cost - paid).unwrap_or(i64::MAX);
        *deficit = (*deficit + advanced).saturating_sub(spent).max(-DEBT_MAX);
        if !*is_active {
            *is_active = true;
            self.active.push_back(account);
        }
        let before = *last;
        *last = op.slot;
        match before {
            NONE => *first = op.slot,
            before => self.standing[before as usize].next = op.slot,
        }
        let generation = op.generation;
        let standing = Standing { generation, paid: cost, account, before, next: NONE };
        self.standing[op.slot as usize] = standing;
        self.aside += 1;
        self.deadline = self.deadline.min(op.deadline);
    }

    /// Takes the op of a slot from those that stand aside; whether it did.
    pub(super) fn remove(&mut self, slot: u32) -> bool {
        let Some(standing) = self.standing.get_mut(slot as usize) else { return false };
        let Standing { account, before, next, .. } = *standing;
        if account == NONE {
            return false;
        }
        standing.account = NONE;
        let account = &mut self.accounts[account as usize];
        match before {
            NONE => account.first = next,
            before => self.standing[before as usize].next = next,
        }
        match next {
            NONE => account.last = before,
            next => self.standing[next as usize].before = before,
        }
        self.aside -= 1;
        true
    }

    /// The next that goes on, in the order of accounts; `None`: no more of the account whose turn it
    /// is.
    fn take(&mut self, account: u32) -> Option<u32> {
        let Account { first, deficit, .. } = &mut self.accounts[account as usize];
        if *first == NONE || *deficit <= 0 {
            return None;
        }
        *deficit -= ADVANCE;
        let slot = *first;
        self.remove(slot);
        Some(slot)
    }
}

/// What an op has cost that fetches or walks, if it is a long one. One whose payload is to come is
/// not: it is looked for in the rounds when it comes.
#[inline]
fn long_cost<P>(op: &Op<P>, walks: &Walks) -> Option<u64> {
    let walked = match op.state {
        State::Fetching(_) => 0,
        State::Walking => walks.cost(op.slot),
        _ => return None,
    };
    if op.payload.received < op.payload.length && op.marks & HOLDS == 0 {
        return None;
    }
    let cost = u64::from(op.steps) + (op.bytes >> 6) + walked;
    (cost > LONG_COST).then_some(cost)
}

impl<K: KernelSet, M: Memory> Executor<K, M> {
    /// From now on long ops can be shared among so many accounts. All memory is taken here.
    pub fn share_among(&mut self, accounts: usize) {
        self.shares = Shares::new(accounts, self.slots.len());
    }

    /// How many long ops stand aside.
    #[inline]
    pub fn aside(&self) -> usize {
        self.shares.aside()
    }

    /// How many accounts have long ops that stand aside.
    pub fn accounts_aside(&self) -> usize {
        self.shares.active.len()
    }

    /// The accounts of two long ops that are ready: of the first one, and of one of another account
    /// if there is any. `account` tells that of an op by its owner.
    #[cold]
    pub fn long_accounts(&self, account: impl Fn(u64) -> u32) -> [Option<u32>; 2] {
        let walks = &self.apart.facilities.walks;
        let ops = self.ready.iter().chain(&walks.queue);
        let ops = ops.map(|index| &self.slots[*index as usize].op);
        let long = ops.filter(|op| long_cost(op, walks).is_some());
        let mut accounts = long.map(|op| account(op.owner));
        let first = accounts.next();
        [first, accounts.find(|other| Some(*other) != first)]
    }

    /// Sets the long ops that are ready aside. `account` tells that of an op by its owner, below the
    /// number of [`share_among`](Self::share_among).
    #[cold]
    pub fn set_aside(&mut self, account: impl Fn(u64) -> u32) {
        let Executor { ready, slots, shares, apart, .. } = self;
        let walks = &mut apart.facilities.walks;
        let mut queue = core::mem::take(&mut walks.queue);
        let mut stays = |index: &u32| {
            let Slot { op, kernel } = &mut slots[*index as usize];
            let Some(cost) = long_cost(op, walks) else { return true };
            // Others wait for what such an op has begun.
            if must_end(kernel) {
                return true;
            }
            shares.add(op, cost, account(op.owner));
            false
        };
        ready.retain(&mut stays);
        queue.retain(&mut stays);
        walks.queue = queue;
    }

    /// Has ops go on that stand aside, for `cost` altogether or for a little more. Accounts share that
    /// equally; what one does not use is nobody's, for it has all its ops under way. While there is
    /// anything else to do, those wait that have spent too much.
    #[cold]
    pub fn take_up(&mut self, cost: u64) {
        let cost = i64::try_from(cost).unwrap_or(i64::MAX);
        let mut left = cost;
        let mut is_first = true;
        let Executor { shares, ready, slots, apart, .. } = self;
        let walks = &mut apart.facilities.walks;
        while shares.aside > 0 && (is_first || ready.is_empty() && walks.is_empty()) {
            is_first = false;
            let count = shares.active.len();
            let share = (cost / count as i64).max(ADVANCE);
            for _ in 0..count {
                let Some(account) = shares.active.pop_front() else { return };
                let deficit = &mut shares.accounts[account as usize].deficit;
                *deficit = deficit.saturating_add(share).min(share);
                while let Some(index) = shares.take(account) {
                    match slots[index as usize].op.state {
                        State::Walking => walks.go_on(index),
                        _ => ready.push(index),
                    }
                    left = left.saturating_sub(ADVANCE);
                }
                let Account { first, is_active, .. } = &mut shares.accounts[account as usize];
                *is_active = *first != NONE;
                if *is_active {
                    shares.active.push_back(account);
                }
                if left <= 0 {
                    return;
                }
            }
        }
    }

    /// Ops that stand aside go on whose deadline has passed, to end there.
    #[cold]
    pub(super) fn take_up_late(&mut self, now: Time) {
        let Executor { shares, ready, slots, apart, .. } = self;
        shares.deadline = Time::NEVER;
        for slot in 0..shares.standing.len() as u32 {
            if shares.standing[slot as usize].account == NONE {
                continue;
            }
            let op = &slots[slot as usize].op;
            if now < op.deadline {
                shares.deadline = shares.deadline.min(op.deadline);
                continue;
            }
            shares.remove(slot);
            match op.state {
                State::Walking => apart.facilities.walks.go_on(slot),
                _ => ready.push(slot),
            }
        }
    }
}
