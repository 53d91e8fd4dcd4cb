//! A region's memory and the model of each part of it.

use nic_shm::RacyMem;
use nic_tests::fenced;
use nic_wire::Time;

use super::extent::{View, written};
use super::{Chain, Counter, Extent, Order, Tick};

/// Words that are counted up, from address 0.
pub const COUNTERS: u64 = 6;
/// Words that are swapped, behind them.
pub const CHAINS: u64 = 6;
/// The lengths of the extents, which lie behind the words.
pub const EXTENTS: [u32; 10] = [8, 64, 64, 200, 1024, 1024, 3000, 6000, 20_000, 65_536];
/// Where the first of them begins.
const EXTENTS_AT: u64 = 512;
/// What the chains begin with: no tag of an op.
const FIRST: u64 = 1 << 60;

/// See the module's description.
pub struct Region {
    /// The memory itself, to look at.
    pub memory: RacyMem,
    pub counters: Vec<Counter>,
    pub chains: Vec<Chain>,
    pub extents: Vec<Extent>,
    /// What it held when the last right to it had ended.
    frozen: Option<Vec<u8>>,
    /// Words compared with the model.
    pub words_seen: u64,
}

impl Region {
    /// New memory between pages that fault, filled with what the models begin with.
    pub fn new() -> Self {
        let mut extents = Vec::new();
        let mut at = EXTENTS_AT;
        for bytes in EXTENTS {
            extents.push(Extent::new(at, bytes));
            at += u64::from(bytes.next_multiple_of(64));
        }
        let memory = fenced(at);
        let chains: Vec<Chain> = (0..CHAINS).map(|chain| Chain::new(FIRST + chain)).collect();
        for (place, chain) in (0..).zip(&chains) {
            let at = Region::chain_at(place);
            memory.write(at, &chain.known(0).to_le_bytes()).unwrap();
        }
        for extent in &extents {
            memory.write(extent.at, &written(0, 0, extent.bytes)).unwrap();
        }
        let counters = (0..COUNTERS).map(|_| Counter::default()).collect();
        Region { memory, counters, chains, extents, frozen: None, words_seen: 0 }
    }

    /// A counter's address.
    pub fn counter_at(place: usize) -> u64 {
        place as u64 * 8
    }

    /// A chain's address.
    pub fn chain_at(place: usize) -> u64 {
        (COUNTERS + place as u64) * 8
    }

    /// How many words there are of both kinds, from address 0.
    pub fn words() -> usize {
        (COUNTERS + CHAINS) as usize
    }

    /// What each word has reached, in order of their addresses.
    pub fn floors(&self) -> Vec<u64> {
        let counters = self.counters.iter().map(Counter::floor);
        counters.chain(self.chains.iter().map(Chain::floor)).collect()
    }

    /// Compares words from one on with what they may have held.
    pub fn read_words(&mut self, first: usize, floors: &[u64], bytes: &[u8], order: Option<Order>) {
        let (words, rest) = bytes.as_chunks::<8>();
        assert!(rest.is_empty(), "whole words are read");
        for ((place, word), floor) in (first..).zip(words).zip(floors) {
            let value = u64::from_le_bytes(*word);
            let chain = place.checked_sub(self.counters.len());
            match (chain, order) {
                (None, Some(order)) => self.counters[place].read(*floor, value, order),
                (None, None) => self.counters[place].observed(*floor, value),
                (Some(chain), Some(order)) => self.chains[chain].read(*floor, value, order),
                (Some(chain), None) => {
                    self.chains[chain].observed(*floor, value);
                }
            }
        }
        self.words_seen += words.len() as u64;
    }

    /// Looks at all of the memory itself.
    pub fn audit(&mut self, tick: Tick, now: Time) {
        let mut bytes = vec![0; Region::words() * 8];
        self.memory.read(0, &mut bytes).unwrap();
        let floors = self.floors();
        self.read_words(0, &floors, &bytes, None);
        for place in 0..self.extents.len() {
            self.audit_extent(place, tick, now);
        }
    }

    /// Looks at one extent in the memory itself.
    pub fn audit_extent(&mut self, place: usize, tick: Tick, now: Time) {
        let extent = &mut self.extents[place];
        let mut bytes = vec![0; extent.bytes as usize];
        self.memory.read(extent.at, &mut bytes).unwrap();
        let view = View { from: 0, begun: tick, over: tick, order: None };
        self.words_seen += extent.look(&view, &bytes, now);
    }

    /// Nobody has a right to the memory any more: from now on it must stay as it is.
    pub fn freeze(&mut self) {
        if self.frozen.is_none() {
            self.frozen = Some(self.bytes());
        }
    }

    /// Somebody gets a right to the memory.
    pub fn thaw(&mut self) {
        if let Some(frozen) = self.frozen.take() {
            assert!(frozen == self.bytes(), "memory that nobody had a right to has changed");
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.memory.len() as usize];
        self.memory.read(0, &mut bytes).unwrap();
        bytes
    }
}
