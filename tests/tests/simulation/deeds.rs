//! Ops as the oracle knows them: what each will have done, and what its end proves.

use nic_ports::Random;
use nic_tests::{Ask, Done};
use nic_wire::{Fate, Span, Status, Time};

use crate::oracle::calls::{self, Calls};
use crate::oracle::extent::{View, written};
use crate::oracle::{EXTENTS, KEYS, Lookups, Order, Region, Tick};

/// What an op does.
#[derive(Clone, Debug)]
pub enum Deed {
    Add { counter: usize, floor: u64 },
    Swap { chain: usize, floor: u64, expected: u64, desired: u64 },
    Write { extent: usize, tag: u64 },
    ReadWords { first: usize, floors: Vec<u64> },
    Read { extent: usize, from: u32 },
    Lookup { key: u64 },
    Call { tag: u64 },
}

/// An op that is out.
#[derive(Clone, Debug)]
pub struct Issued {
    pub deed: Deed,
    /// On whose memory.
    pub target: usize,
    pub order: Order,
    pub begun: Tick,
    pub budget: Span,
    /// How long the engine had stood still before.
    pub paused: Span,
}

/// What ops work on: one engine's regions, and the calls of all.
pub struct Ground<'a> {
    pub region: &'a mut Region,
    pub lookups: &'a mut Lookups,
    pub calls: &'a mut Calls,
}

/// Which op is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub remote: u16,
    pub order: Order,
    pub begun: Tick,
    /// The most payload or reply, in bytes.
    pub room: u32,
    /// A number that no other op has.
    pub tag: u64,
    pub bulk: bool,
}

impl Deed {
    /// What an op that takes only plain words and ranges does, and the op.
    pub fn draw(random: &mut Random, wish: &Wish, ground: &mut Ground<'_>) -> (Deed, Ask) {
        match random.below(100) {
            0..20 => Deed::add(random, wish, ground.region),
            20..40 => Deed::swap(random, wish, ground.region),
            40..62 => Deed::write(random, wish, ground.region),
            62..70 => Deed::read_words(random, wish, ground.region),
            70..92 => Deed::read(random, wish, ground.region),
            _ => {
                let (tag, capacity) = (wish.tag, if random.below(20) == 0 { 7 } else { 1000 });
                ground.calls.ask(tag);
                let request = calls::request(tag);
                (Deed::Call { tag }, Ask::call(wish.remote, SERVICE, &request, capacity))
            }
        }
    }

    /// A lookup in the target's table.
    pub fn lookup(random: &mut Random, wish: &Wish, lookups: &Lookups) -> (Deed, Ask) {
        let key = random.below(KEYS);
        let capacity = 4096.min(wish.room);
        let ask = Ask::scan_and_read(wish.remote, &lookups.arguments(key), capacity);
        (Deed::Lookup { key }, ask)
    }

    /// An add to one of the region's counters.
    pub fn add(random: &mut Random, wish: &Wish, region: &mut Region) -> (Deed, Ask) {
        // The lower ones are sought after.
        let bound = 1 + random.below(region.counters.len() as u64);
        let counter = random.below(bound) as usize;
        let floor = region.counters[counter].ask();
        let ask = Ask::fetch_add(wish.remote, Region::counter_at(counter), 1);
        (Deed::Add { counter, floor }, ask)
    }

    fn swap(random: &mut Random, wish: &Wish, region: &mut Region) -> (Deed, Ask) {
        let chain = random.below(region.chains.len() as u64) as usize;
        let down = if random.below(4) == 0 { 1 + random.below(4) as usize } else { 0 };
        let (expected, desired) = (region.chains[chain].known(down), wish.tag << 16);
        let floor = region.chains[chain].ask(expected, desired);
        let ask = Ask::compare_swap(wish.remote, Region::chain_at(chain), expected, desired);
        (Deed::Swap { chain, floor, expected, desired }, ask)
    }

    fn write(random: &mut Random, wish: &Wish, region: &mut Region) -> (Deed, Ask) {
        let (extent, from, to) = range(random, wish);
        let at = region.extents[extent].at + u64::from(from);
        region.extents[extent].ask(wish.tag, from, to, wish.begun, wish.order);
        let ask = Ask::write(wish.remote, at, &written(wish.tag, from, to));
        (Deed::Write { extent, tag: wish.tag }, ask)
    }

    fn read_words(random: &mut Random, wish: &Wish, region: &mut Region) -> (Deed, Ask) {
        let first = random.below(Region::words() as u64) as usize;
        let most = (Region::words() - first) as u64;
        let count = if random.below(2) == 0 { 1 } else { 1 + random.below(most) as usize };
        let floors = region.floors()[first..first + count].to_vec();
        let ask = Ask::read(wish.remote, first as u64 * 8, count as u32 * 8);
        (Deed::ReadWords { first, floors }, ask)
    }

    fn read(random: &mut Random, wish: &Wish, region: &mut Region) -> (Deed, Ask) {
        let (extent, from, to) = range(random, wish);
        let at = region.extents[extent].at + u64::from(from);
        (Deed::Read { extent, from }, Ask::read(wish.remote, at, to - from))
    }

    /// The name under which it is counted.
    pub fn kernel(&self) -> &'static str {
        match self {
            Deed::Add { .. } => "FETCH_ADD",
            Deed::Swap { .. } => "COMPARE_SWAP",
            Deed::Write { .. } => "WRITE",
            Deed::ReadWords { .. } | Deed::Read { .. } => "READ",
            Deed::Lookup { .. } => "SCAN_AND_READ",
            Deed::Call { .. } => "CALL",
        }
    }

    /// Whether it only looks.
    fn only_reads(&self) -> bool {
        matches!(self, Deed::ReadWords { .. } | Deed::Read { .. } | Deed::Lookup { .. })
    }
}

/// The service that owners serve.
pub const SERVICE: u16 = 3;

/// An extent and a range in it that begins at a word.
fn range(random: &mut Random, wish: &Wish) -> (usize, u32, u32) {
    let small = EXTENTS.iter().filter(|bytes| **bytes <= 1024).count();
    let choices = if wish.bulk { EXTENTS.len() } else { small };
    let mut extent = random.below(choices as u64) as usize;
    while EXTENTS[extent] > wish.room {
        extent -= 1;
    }
    let bytes = EXTENTS[extent];
    if random.below(4) != 0 {
        return (extent, 0, bytes);
    }
    let from = 8 * random.below(u64::from(bytes / 8)) as u32;
    (extent, from, from + 1 + random.below(u64::from(bytes - from)) as u32)
}

/// An op's end, and when it was seen.
pub struct End<'a> {
    pub done: &'a Done,
    pub tick: Tick,
    pub now: Time,
    /// No op that is out began before.
    pub horizon: Tick,
    /// When a request of it can no longer run.
    pub gone_at: Time,
}

impl Issued {
    /// Tells the oracle how the op has ended.
    pub fn end(&self, end: &End<'_>, ground: &mut Ground<'_>) {
        match end.done.fate {
            Fate::Executed if end.done.status == Status::Ok => self.executed(end, ground),
            Fate::Executed => match self.deed {
                Deed::Call { tag } => ground.calls.executed(tag),
                // What was found is lost with a memory that went away; there is nothing to learn.
                _ => assert!(self.deed.only_reads(), "{self:?} failed after it had run"),
            },
            Fate::NotExecuted => self.refused(ground),
            Fate::Unknown => self.unknown(end.gone_at, ground),
        }
    }

    fn executed(&self, end: &End<'_>, ground: &mut Ground<'_>) {
        let (reply, order) = (&end.done.reply, self.order);
        match &self.deed {
            Deed::Add { counter, floor } => {
                ground.region.counters[*counter].executed(*floor, end.done.word(), order);
            }
            Deed::Swap { chain, floor, expected, desired } => {
                let swap = (*expected, *desired);
                ground.region.chains[*chain].executed(*floor, swap, end.done.word(), order);
            }
            Deed::Write { extent, tag } => {
                ground.region.extents[*extent].executed(*tag, end.tick, end.horizon);
            }
            Deed::ReadWords { first, floors } => {
                assert_eq!(reply.len(), floors.len() * 8);
                ground.region.read_words(*first, floors, reply, Some(order));
            }
            Deed::Read { extent, from } => {
                let (begun, over) = (self.begun, end.tick);
                let view = View { from: *from, begun, over, order: Some(order) };
                let seen = ground.region.extents[*extent].look(&view, reply, end.now);
                ground.region.words_seen += seen;
            }
            Deed::Lookup { key } => ground.lookups.look(*key, self.begun, end.tick, reply),
            Deed::Call { tag } => {
                assert!(*reply == calls::answer(&calls::request(*tag)), "answer to {tag:#x}");
                ground.calls.executed(*tag);
            }
        }
    }

    fn refused(&self, ground: &mut Ground<'_>) {
        match &self.deed {
            Deed::Add { counter, .. } => ground.region.counters[*counter].refused(),
            Deed::Swap { chain, desired, .. } => ground.region.chains[*chain].refused(*desired),
            Deed::Write { extent, tag } => ground.region.extents[*extent].refused(*tag),
            Deed::Call { tag } => ground.calls.refused(*tag),
            Deed::ReadWords { .. } | Deed::Read { .. } | Deed::Lookup { .. } => {}
        }
    }

    /// It may have run, or may run until some moment.
    pub fn unknown(&self, gone_at: Time, ground: &mut Ground<'_>) {
        match &self.deed {
            Deed::Write { extent, tag } => ground.region.extents[*extent].unknown(*tag, gone_at),
            Deed::Call { tag } => ground.calls.unknown(*tag, gone_at),
            // Adds and swaps that nobody answers for stay possible for good.
            _ => {}
        }
    }
}
