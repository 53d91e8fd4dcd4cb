//! The owner of a structure that it changes all the time, while kernels of others work on it.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use nic_host::consistent_read::{self, Checksum};
use nic_host::log::{Log, LogError};
use nic_host::partition_write::{By, Partitions, Shape};
use nic_host::sketch_write::Sketch;
use nic_host::version_chain::Pool;
use nic_host::{Access, Endpoint, Nic, Pointer, RacyMem};
use nic_kernels::PointerForm;
use nic_kernels::consistent_read::writer::seal;
use nic_kernels::indirect_read::writer::Table;
use nic_kernels::prism::FreeList;
use nic_ports::Random;
use nic_tests::children::{RacerOptions, Structure};
use nic_tests::racing::{self, KEYS, STEADY, VALUE_BYTES, places};
use serde_json::{Value, json};

use super::{change_without_pause, say};

/// Changes the structure once, or makes sure of what others have changed.
type Change = Box<dyn FnMut(u64) -> Result<()>>;

/// A region, by its number and its memory.
type Region = (u8, RacyMem);

pub(super) fn run(options: &RacerOptions) -> Result<()> {
    let nic = Nic::connect(Endpoint::Path(options.socket.clone()))?;
    let region = nic.region(places::REGION_BYTES).create()?;
    let lay = match options.structure {
        Structure::List => list,
        Structure::Table => table,
        Structure::Object => object,
        Structure::Chain => chain,
        Structure::FreeList => free_list,
        Structure::Log => log,
        Structure::Records => records,
        Structure::Partitions => partitions,
        Structure::Sketch => sketch,
    };
    let (told, change) = lay((region.number(), region.memory()))?;
    let export = region.export(Access::READ.and(Access::WRITE).and(Access::ATOMIC))?;
    say(Ok(json!({ "ticket": export.ticket().to_string(), "told": told })));

    change_without_pause(options.core, change)
}

/// Values in few slots, which are used again at once.
struct Slots {
    memory: RacyMem,
    next: u64,
}

impl Slots {
    /// Writes a value into the slot that was not used for longest; returns its address.
    fn write(&mut self, number: u64, count: u64) -> Result<u64> {
        let at = places::SLOTS + self.next * VALUE_BYTES as u64;
        self.next = (self.next + 1) % places::SLOT_COUNT;
        self.memory.write(at, &racing::value(number, count))?;
        Ok(at)
    }
}

/// A list of all keys; the last ones are unlinked and linked again, values move.
fn list((number, memory): Region) -> Result<(Value, Change)> {
    let form = PointerForm::Plain { region: number };
    let word = move |address| form.word(Pointer { region: number, address }).context("an address");
    let mut slots = Slots { memory: memory.clone(), next: 0 };
    let element = |key: u64| places::LIST + key * 64;
    for key in 0..KEYS {
        let next = if key + 1 < KEYS { word(element(key + 1))? } else { 0 };
        // Keys are not zero.
        let words = [key + 1, next, word(slots.write(key, 0)?)?];
        memory.write(element(key), words.map(u64::to_le_bytes).as_flattened())?;
    }
    let mut random = Random::new(1);
    let change = move |count| {
        let key = random.below(KEYS);
        let value = word(slots.write(key, count)?)?;
        memory.word64(element(key) + 16)?.store(value, Ordering::Release);
        let last = STEADY - 1 + random.below(KEYS - STEADY);
        let next = if random.below(2) == 0 { 0 } else { word(element(last + 1))? };
        memory.word64(element(last) + 8)?.store(next, Ordering::Release);
        Ok(())
    };
    Ok((json!(null), Box::new(change)))
}

/// Values behind an indirection table, whose entries move and are emptied.
fn table((number, memory): Region) -> Result<(Value, Change)> {
    let table = Table::new(memory.clone(), 0, PointerForm::Plain { region: number });
    let mut slots = Slots { memory, next: 0 };
    let mut random = Random::new(2);
    let mut change = move |count| {
        let key = if count <= KEYS { count - 1 } else { random.below(KEYS) };
        let to = if count > KEYS && key >= STEADY && random.below(3) == 0 {
            None
        } else {
            Some(Pointer { region: number, address: slots.write(key, count)? })
        };
        ensure!(table.publish(key as u32, to)?, "every place has a pointer");
        Ok(())
    };
    (1..=KEYS).try_for_each(&mut change)?;
    Ok((json!(null), Box::new(change)))
}

/// A sealed object, written over without a pause.
fn object((_, memory): Region) -> Result<(Value, Change)> {
    let arguments = consistent_read::Arguments::trailing(0, places::OBJECT_BYTES, Checksum::Xxh3);
    let change = move |count| {
        let mut object = racing::value(0, count).to_vec();
        object.resize(places::OBJECT_BYTES.into(), 0);
        ensure!(seal(&arguments, &mut object), "the arguments fit the object");
        memory.write(0, &object)?;
        Ok(())
    };
    change(0)?;
    Ok((json!(null), Box::new(change)))
}

/// A version chain that grows at its end and is recycled from its start.
fn chain((number, memory): Region) -> Result<(Value, Change)> {
    let mut pool = Pool::format(&[(number, memory)], 1, places::BUFFER_BYTES)?;
    let chain = pool.create(&racing::value(0, 0))?;
    let fresh: Vec<u64> =
        (0..places::FRESH).filter_map(|_| pool.allocate()).map(|link| link.raw()).collect();
    let told = json!({
        "first": chain.first.raw(),
        "shortcut": chain.shortcut,
        "fresh": fresh,
    });
    let (mut tail, mut old) = (chain.first, Vec::new());
    let change = move |count| {
        pool.append(tail, &racing::value(0, count))?;
        // Others append as well: all that is passed is old.
        let (latest, _) = pool.latest(tail).context("nothing is recycled that is not old")?;
        while tail != latest {
            old.push(tail);
            tail = pool.next(tail).context("as above")?;
        }
        pool.set_shortcut(&chain, tail);
        // None of the last few goes, so that cursors lead somewhere for a while.
        while old.len() > places::KEPT {
            let entry = old.remove(0);
            // The one that everybody knows stays.
            if entry != chain.first || pool.free() < 4 {
                pool.retire(entry);
            }
        }
        pool.begin_epoch();
        Ok(())
    };
    Ok((told, Box::new(change)))
}

/// A free list that is filled with numbers, each once, and taken from by the owner as well.
fn free_list((number, memory): Region) -> Result<(Value, Change)> {
    let mut list = FreeList::format(memory.clone(), 0, 64)?;
    let mut posted = 0_u64;
    let change = move |count| {
        while list.len() < 32 {
            // Buffers of 64 bytes that stand for their numbers.
            posted += 1;
            list.post(Pointer { region: number, address: posted * 64 })?;
        }
        if count % 4 == 0
            && let Some(taken) = list.take()
        {
            // Says that the owner has it; whoever has it too finds that.
            let word =
                memory.word64(places::TAKEN + taken.address / 64 % places::TAKEN_COUNT * 8)?;
            word.store(taken.address, Ordering::Release);
        }
        Ok(())
    };
    Ok((json!(null), Box::new(change)))
}

/// A log that its owner appends to and trims.
fn log((_, memory): Region) -> Result<(Value, Change)> {
    let log = Log::format(memory, 0, places::LOG_BYTES)?;
    let change = move |count: u64| {
        let payload = racing::value(0, count);
        match log.append(0, &payload[..8 + (count % 500) as usize]) {
            Ok(_) => {}
            Err(LogError::Full { .. }) => {
                // Half of it goes, at a record's start.
                let (goal, mut buffer) = (log.head() + places::LOG_BYTES / 2, Vec::new());
                let mut at = log.head();
                while at < goal && at < log.watermark() {
                    (_, at) = log.read(at, &mut buffer)?;
                }
                log.trim(at)?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    };
    Ok((json!(null), Box::new(change)))
}

/// Records {state, amount}: their state and amount are one word, which changes at once.
fn records((_, memory): Region) -> Result<(Value, Change)> {
    let mut random = Random::new(3);
    let change = move |_| {
        let record = random.below(places::RECORDS);
        // The upper half follows from the lower one.
        let low = random.below(100) as u32;
        let word = u64::from(low) | u64::from(!low) << 32;
        memory.word64(record * 16)?.store(word, Ordering::Release);
        memory.word64(record * 16 + 8)?.store(record, Ordering::Release);
        Ok(())
    };
    Ok((json!(null), Box::new(change)))
}

/// Partitions that others write: what is counted as written is whole and belongs there.
fn partitions((_, memory): Region) -> Result<(Value, Change)> {
    let by = By::Radix { shift: 0 };
    let shape = Shape { bits: 2, record_bytes: 64, key_offset: 0, by, capacity: places::CAPACITY };
    let partitions = Partitions::format(memory, 0, shape)?;
    let mut seen = [0; 4];
    let change = move |count| {
        let partition = (count % 4) as u16;
        let seen = &mut seen[usize::from(partition)];
        let Some(whole) = partitions.counters(partition).whole() else { return Ok(()) };
        ensure!(whole >= *seen, "partition {partition} has lost records");
        while *seen < whole {
            let mut record = [0; 64];
            partitions.read(partition, *seen, &mut record)?;
            let words = record.as_chunks::<8>().0;
            let key = u64::from_le_bytes(words[0]);
            ensure!(key % 4 == u64::from(partition), "{key} is in partition {partition}");
            ensure!(words.iter().all(|word| *word == words[0]), "{key} is torn");
            *seen += 1;
        }
        Ok(())
    };
    Ok((json!(null), Box::new(change)))
}

/// A sketch that others raise: it only grows.
fn sketch((_, memory): Region) -> Result<(Value, Change)> {
    let sketch = Sketch::format(memory, 0, 10)?;
    let mut before = 0.0;
    let change = move |_| {
        let estimate = sketch.estimate()?;
        ensure!(estimate >= before, "the estimate fell from {before} to {estimate}");
        before = estimate;
        Ok(())
    };
    Ok((json!(null), Box::new(change)))
}
