//! The owner's side.

use std::sync::atomic::Ordering;

use anyhow::Result;
use nic_host::RacyMem;
use zerocopy::{FromBytes, IntoBytes};

use crate::layout::{HEAD, LEVELS, NODE_BYTES, Node};

/// A skip list that fills a region from its beginning, whose addresses begin at 0. Others may search
/// it while it grows: a node is whole before anything leads to it, and stays where it is.
#[derive(Debug)]
pub struct SkipList {
    memory: RacyMem,
    end: u64,
}

/// The region has no room for another node; make a larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl std::fmt::Display for Full {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the region is full: make one with more bytes")
    }
}

impl std::error::Error for Full {}

impl SkipList {
    /// An empty list.
    ///
    /// # Errors
    /// Memory that is too short for the head.
    pub fn format(memory: RacyMem) -> Result<Self> {
        memory.fill(HEAD, NODE_BYTES, 0)?;
        Ok(SkipList { memory, end: HEAD + NODE_BYTES })
    }

    /// Adds a key, or gives nothing a second place: a key that is there keeps its value.
    ///
    /// # Errors
    /// [`Full`].
    pub fn insert(&mut self, key: u64, value: u64) -> Result<()> {
        let before = self.before(key)?;
        let next = self.link(before[0], 0)?;
        if next != 0 && self.node(next)?.key.get() == key {
            return Ok(());
        }
        let (at, height) = (self.end, height(key));
        if at + NODE_BYTES > self.memory.len() {
            return Err(Full.into());
        }
        let mut node = Node { key: key.into(), value: value.into(), links: [0.into(); LEVELS] };
        for (level, link) in node.links.iter_mut().enumerate().take(height) {
            *link = self.link(before[level], level)?.into();
        }
        self.memory.write(at, node.as_bytes())?;
        self.end += NODE_BYTES;
        for (level, before) in before.iter().enumerate().take(height) {
            // Whoever sees the link sees what it leads to.
            self.memory.word64(link_at(*before, level))?.store(at, Ordering::Release);
        }
        Ok(())
    }

    /// The last nodes on each level whose keys are below.
    fn before(&self, key: u64) -> Result<[u64; LEVELS]> {
        let (mut at, mut before) = (HEAD, [HEAD; LEVELS]);
        for level in (0..LEVELS).rev() {
            loop {
                let next = self.link(at, level)?;
                if next == 0 || self.node(next)?.key.get() >= key {
                    break;
                }
                at = next;
            }
            before[level] = at;
        }
        Ok(before)
    }

    fn node(&self, at: u64) -> Result<Node> {
        let bytes: [u8; NODE_BYTES as usize] = self.memory.read_array(at)?;
        Node::read_from_bytes(&bytes).map_err(|_| anyhow::anyhow!("a node of another size"))
    }

    fn link(&self, at: u64, level: usize) -> Result<u64> {
        Ok(self.memory.load64(link_at(at, level))?)
    }
}

/// The address of a node's link.
fn link_at(node: u64, level: usize) -> u64 {
    node + 8 * (2 + level as u64)
}

/// On how many levels a key stands: one more in each of four.
fn height(key: u64) -> usize {
    let mixed = (key ^ key >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    1 + ((mixed >> 32).trailing_ones() as usize / 2).min(LEVELS - 1)
}
