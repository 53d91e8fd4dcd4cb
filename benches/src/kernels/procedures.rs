//! What the serving application is asked, and how it answers: by walking its own memory.

use std::cell::RefCell;

use nic_figures::Chase;
use nic_host::consistent_read::{Arguments, Checksum};
use nic_host::rpc::{Procedure, Services};
use nic_host::version_chain::Link;
use nic_kernels::version_chain::layout::{HEADER_BYTES, PointerWord};
use nic_shm::RacyMem;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::store::{CHAIN_VALUE_BYTES, Store};

/// The longest answer: what a packet holds with its headers.
pub(super) const ANSWER_BYTES_MAX: usize = 1024;
/// Bytes of an encoded answer besides its value.
const ANSWER_ROOM: u32 = ANSWER_BYTES_MAX as u32 + 8;
/// How often a torn object is read again.
const RETRIES: u32 = 16;

/// A value, or nothing; without memory from the heap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    length: u16,
    bytes: [u8; ANSWER_BYTES_MAX],
}

impl Found {
    const NOTHING: Found = Found { length: 0, bytes: [0; ANSWER_BYTES_MAX] };

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// So many bytes of some memory.
    fn read(memory: &RacyMem, address: u64, length: usize) -> Option<Found> {
        let mut found = Found { length: u16::try_from(length).ok()?, ..Found::NOTHING };
        memory.read(address, found.bytes.get_mut(..length)?).ok()?;
        Some(found)
    }
}

impl Serialize for Found {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.bytes())
    }
}

impl<'de> Deserialize<'de> for Found {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Found;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, "at most {ANSWER_BYTES_MAX} bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Found, E> {
                let mut found = Found::NOTHING;
                let room = found.bytes.get_mut(..bytes.len());
                room.ok_or_else(|| E::invalid_length(bytes.len(), &self))?.copy_from_slice(bytes);
                found.length = bytes.len() as u16;
                Ok(found)
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// Walks a list until a key is found, and answers with the value there.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct WalkList {
    pub(super) start: u64,
    pub(super) key: u64,
    pub(super) length: u16,
}

/// Looks a key of the hash table up.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Get {
    pub(super) key: u64,
    pub(super) length: u16,
}

/// Reads an object that its checksum proves.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ReadObject {
    pub(super) address: u64,
    pub(super) length: u16,
}

/// Walks a version chain from an entry to the latest.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Latest {
    pub(super) cursor: u64,
}

/// Chases the lists by plain loads, so many chains at once; answers how long a load takes, in
/// picoseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Loads {
    pub(super) chains: u16,
    pub(super) steps: u32,
}

impl Procedure for WalkList {
    const SERVICE: u16 = 1;
    const ANSWER_BYTES_MAX: u32 = ANSWER_ROOM;
    type Answer = Found;
}

impl Procedure for Get {
    const SERVICE: u16 = 2;
    const ANSWER_BYTES_MAX: u32 = ANSWER_ROOM;
    type Answer = Found;
}

impl Procedure for ReadObject {
    const SERVICE: u16 = 3;
    const ANSWER_BYTES_MAX: u32 = ANSWER_ROOM;
    type Answer = Found;
}

impl Procedure for Latest {
    const SERVICE: u16 = 4;
    const ANSWER_BYTES_MAX: u32 = ANSWER_ROOM;
    type Answer = Found;
}

impl Procedure for Loads {
    const SERVICE: u16 = 5;
    const ANSWER_BYTES_MAX: u32 = 16;
    type Answer = u64;
}

/// All of them, over the application's own memory.
pub(super) fn services<'m>(
    store: Store,
    memory: &'m RacyMem,
    chains: &'m RacyMem,
) -> anyhow::Result<Services<'m>> {
    let chase = RefCell::new(Chase::along(store.lists.words(memory)?, 1)?);
    let mut services = Services::new();
    services.add(move |asked: WalkList| walk(memory, asked).unwrap_or(Found::NOTHING));
    services.add(move |asked: Get| get(&store, memory, asked).unwrap_or(Found::NOTHING));
    services.add(move |asked: ReadObject| read_object(memory, asked).unwrap_or(Found::NOTHING));
    services.add(move |asked: Latest| latest(chains, asked).unwrap_or(Found::NOTHING));
    services.add(move |Loads { chains, steps }| {
        let (mut chase, steps) = (chase.borrow_mut(), steps as usize);
        let ns = match chains {
            0 | 1 => chase.run(steps),
            _ => chase.run_interleaved(chains.into(), steps),
        };
        (ns * 1e3) as u64
    });
    Ok(services)
}

fn walk(memory: &RacyMem, asked: WalkList) -> Option<Found> {
    let mut at = asked.start;
    while memory.load64(at).ok()? != asked.key {
        at = memory.load64(at + 8).ok()?;
    }
    Found::read(memory, memory.load64(at + 16).ok()?, asked.length.into())
}

fn get(store: &Store, memory: &RacyMem, asked: Get) -> Option<Found> {
    let mut at = store.bucket(asked.key);
    while at != 0 {
        for place in [0, 16, 32] {
            if memory.load64(at + place).ok()? == asked.key {
                let value = memory.load64(at + place + 8).ok()?;
                return Found::read(memory, value, asked.length.into());
            }
        }
        at = memory.load64(at + 48).ok()?;
    }
    None
}

fn read_object(memory: &RacyMem, asked: ReadObject) -> Option<Found> {
    let arguments = Arguments::trailing(asked.address, asked.length, Checksum::Xxh3);
    (0..=RETRIES)
        .filter_map(|_| Found::read(memory, asked.address, asked.length.into()))
        .find(|found| arguments.is_whole(found.bytes()))
}

fn latest(chains: &RacyMem, asked: Latest) -> Option<Found> {
    let mut at = Link::from_raw(asked.cursor);
    loop {
        let address = at.pointer().address;
        let word = PointerWord::from_raw(chains.load64(address).ok()?);
        if word.version() != at.version() {
            return None;
        }
        if word.is_latest() {
            return Found::read(chains, address + HEADER_BYTES as u64, CHAIN_VALUE_BYTES);
        }
        at = word.next();
    }
}
