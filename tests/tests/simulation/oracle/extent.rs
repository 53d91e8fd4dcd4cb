//! A range that WRITEs fill with words that name them.

use nic_wire::Time;

use super::{Order, Tick};

/// A WRITE that may have left something in the extent.
#[derive(Clone, Debug)]
struct Writing {
    /// What its words carry.
    tag: u64,
    /// Which bytes of the extent it covers.
    from: u32,
    to: u32,
    /// It was submitted.
    begun: Tick,
    /// It has run or will never run; `Tick::MAX` while it still may.
    over: Tick,
    /// From then on it will never run, whether it has or not.
    gone_at: Time,
    /// Its completion said that it ran.
    is_done: bool,
    /// Some of its words were seen.
    is_seen: bool,
    order: Order,
}

/// Bytes that were all of one WRITE when they were looked at.
#[derive(Clone, Copy, Debug)]
struct Sight {
    tag: u64,
    from: u32,
    to: u32,
    begun: Tick,
    over: Tick,
}

/// A look at some bytes of the extent.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// The first byte, at a word.
    pub from: u32,
    /// Not before.
    pub begun: Tick,
    /// Not after.
    pub over: Tick,
    /// The op that looked, unless it was the test itself.
    pub order: Option<Order>,
}

/// See the module's description.
#[derive(Debug)]
pub struct Extent {
    /// Its address.
    pub at: u64,
    /// Its length.
    pub bytes: u32,
    writings: Vec<Writing>,
    sights: Vec<Sight>,
    /// How many times a WRITE was ruled out by a fence alone.
    pub fenced_out: u64,
}

/// The word of a WRITE at a place of the extent. Each of its bytes follows from all of both: a mixture
/// of two WRITEs looks like no third.
pub(super) fn word(tag: u64, index: u32) -> u64 {
    let mixed = (tag << 16 | u64::from(index)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// The bytes of a WRITE from one place of the extent to another; the first is at a word.
pub fn written(tag: u64, from: u32, to: u32) -> Vec<u8> {
    let words = (from / 8..to.div_ceil(8)).flat_map(|index| word(tag, index).to_le_bytes());
    words.take((to - from) as usize).collect()
}

const SIGHTS_MAX: usize = 8;

impl Extent {
    /// An extent that is filled with the words of tag 0.
    pub fn new(at: u64, bytes: u32) -> Self {
        let writing = Writing {
            tag: 0,
            from: 0,
            to: bytes,
            begun: 0,
            over: 0,
            gone_at: Time::NEVER,
            is_done: true,
            is_seen: true,
            order: Order { stream: (0, 0, usize::MAX), sequence: 0, fence: false },
        };
        Extent { at, bytes, writings: vec![writing], sights: Vec::new(), fenced_out: 0 }
    }

    /// A WRITE leaves.
    pub fn ask(&mut self, tag: u64, from: u32, to: u32, begun: Tick, order: Order) {
        self.writings.push(Writing {
            tag,
            from,
            to,
            begun,
            over: Tick::MAX,
            gone_at: Time::NEVER,
            is_done: false,
            is_seen: false,
            order,
        });
    }

    /// It has run. No look that is still under way began before `horizon`.
    pub fn executed(&mut self, tag: u64, tick: Tick, horizon: Tick) {
        let writing = self.find(tag);
        (writing.over, writing.is_done) = (tick, true);
        self.forget(horizon);
    }

    /// It has not run and never will.
    pub fn refused(&mut self, tag: u64) {
        let is_seen = self.find(tag).is_seen;
        assert!(!is_seen, "WRITE {tag:#x} was seen, and is said not to have run");
        self.writings.retain(|writing| writing.tag != tag);
    }

    /// It may have run, or may run until some moment.
    pub fn unknown(&mut self, tag: u64, gone_at: Time) {
        self.find(tag).gone_at = gone_at;
    }

    /// Compares bytes with what may have been there. Returns how many words they are.
    pub fn look(&mut self, view: &View, bytes: &[u8], now: Time) -> u64 {
        self.let_go(view.over, now);
        let (from, to) = (view.from, view.from + bytes.len() as u32);
        let possible = self.possible(view, from, to);
        let (words, rest) = bytes.as_chunks::<8>();
        let mut last: Option<usize> = None;
        let mut sole = Some(usize::MAX);
        for (index, found) in (from / 8..).zip(words) {
            let found = u64::from_le_bytes(*found);
            let holds = |place: &usize| {
                let writing = &self.writings[*place];
                word(writing.tag, index) == found
                    && (writing.from <= index * 8 && index * 8 + 8 <= writing.to)
            };
            last = last.filter(holds).or_else(|| possible.iter().copied().find(holds));
            match last {
                Some(place) => {
                    self.writings[place].is_seen = true;
                    sole = sole.filter(|only| *only == usize::MAX || *only == place).and(last);
                }
                None => {
                    sole = None;
                    self.look_at_bytes(view, &possible, index * 8, &found.to_le_bytes());
                }
            }
        }
        self.look_at_bytes(view, &possible, to - rest.len() as u32, rest);
        if let Some(place) = sole.filter(|place| *place != usize::MAX && rest.is_empty()) {
            self.sighted(Sight {
                tag: self.writings[place].tag,
                from,
                to,
                begun: view.begun,
                over: view.over,
            });
        }
        words.len() as u64
    }

    /// A word that no single WRITE explains: where one ends within it, others show.
    fn look_at_bytes(&self, view: &View, possible: &[usize], at: u32, bytes: &[u8]) {
        for (place, byte) in (at..).zip(bytes) {
            let explains = |writing: &Writing| {
                let word = word(writing.tag, place / 8).to_le_bytes();
                (writing.from..writing.to).contains(&place) && word[place as usize % 8] == *byte
            };
            if !possible.iter().any(|writing| explains(&self.writings[*writing])) {
                panic!(
                    "byte {place} of the extent at {:#x}, seen by {view:?}, is {byte:#04x} of \
                     {bytes:02x?}; possible were {:#?}; there are {:#?} and {:#?}",
                    self.at,
                    possible.iter().map(|place| &self.writings[*place]).collect::<Vec<_>>(),
                    self.writings,
                    self.sights,
                );
            }
        }
    }

    /// The WRITEs that a look may have found something of.
    fn possible(&mut self, view: &View, from: u32, to: u32) -> Vec<usize> {
        let mut possible = Vec::new();
        for (place, writing) in self.writings.iter().enumerate() {
            let (start, end) = (writing.from.max(from), writing.to.min(to));
            if start >= end || writing.over < view.begun && self.is_buried(writing, view) {
                continue;
            }
            let is_out = self.writings.iter().any(|later| {
                let covers = later.is_done && later.from <= start && end <= later.to;
                let is_later = writing.over < later.begun
                    || writing.is_done && writing.order.is_before(&later.order);
                let is_before_view = later.over < view.begun
                    || view.order.is_some_and(|order| later.order.is_before(&order));
                covers && is_later && is_before_view
            });
            self.fenced_out += u64::from(is_out && writing.over >= view.begun);
            if !is_out {
                possible.push(place);
            }
        }
        possible
    }

    /// Whether others were seen in a WRITE's place after it was over, and before the view. The
    /// bytes of a part of a word need not tell who wrote them.
    fn is_buried(&self, writing: &Writing, view: &View) -> bool {
        self.sights.iter().any(|sight| {
            let covers = sight.from <= writing.from && writing.to <= sight.to;
            let covers = covers && writing.to.is_multiple_of(8);
            let is_between = writing.over < sight.begun && sight.over < view.begun;
            sight.tag != writing.tag && covers && is_between
        })
    }

    fn sighted(&mut self, sight: Sight) {
        if self.sights.len() == SIGHTS_MAX {
            self.sights.remove(0);
        }
        self.sights.push(sight);
    }

    /// Drops what no look that begins from `horizon` on can find.
    fn forget(&mut self, horizon: Tick) {
        let view = View { from: 0, begun: horizon, over: horizon, order: None };
        let possible = self.possible(&view, 0, self.bytes);
        let mut place = 0;
        self.writings.retain(|writing| {
            place += 1;
            writing.over == Tick::MAX || possible.binary_search(&(place - 1)).is_ok()
        });
    }

    /// Notes which WRITEs cannot run any more.
    fn let_go(&mut self, tick: Tick, now: Time) {
        for writing in &mut self.writings {
            if writing.over == Tick::MAX && writing.gone_at < now {
                writing.over = tick;
            }
        }
    }

    fn find(&mut self, tag: u64) -> &mut Writing {
        let found = self.writings.iter_mut().find(|writing| writing.tag == tag);
        found.expect("a WRITE that is under way is in the list")
    }
}
