//! Chains against plain vectors.

use alloc::vec::Vec;

use nic_shm::RacyMem;
use nic_wire::{Fate, KernelId, Rkey, Status, Time};

use super::*;
use crate::bench::{ALL, Bench, op};
use crate::chain_append::{self, Outcome};
use crate::chain_read::{self, Verdict};
use crate::random::Random;
use crate::{Access, Builtin, Finish, HOME_REGION, Invocation};

const BUFFER_BYTES: u32 = 128;
const SHORTCUTS: u32 = 4;

/// A pool over three regions, an export of the first that may follow the second and third.
pub(super) struct Store {
    pub(super) bench: Bench<Builtin>,
    pub(super) pool: Pool,
    pub(super) regions: Vec<RacyMem>,
    pub(super) rkey: Rkey,
}

impl Store {
    pub(super) fn new(buffers_per_region: u64) -> Self {
        let length = 64 + 64 + buffers_per_region * u64::from(BUFFER_BYTES);
        let regions: Vec<_> = (0..3).map(|_| RacyMem::allocate(length)).collect();
        let numbered: Vec<_> = (0..).zip(regions.iter().cloned()).collect();
        let pool = Pool::format(&numbered, SHORTCUTS, BUFFER_BYTES).unwrap();
        let (bench, rkey) = bench_of(&regions, ALL, &[1, 2]);
        Store { bench, pool, regions, rkey }
    }

    pub(super) fn read(&mut self, arguments: chain_read::Arguments) -> (Finish, Vec<u8>) {
        self.bench.call(&self.rkey, KernelId::CHAIN_READ, &arguments.encode(), &[])
    }

    /// Appends by the kernel.
    pub(super) fn append(
        &mut self,
        arguments: chain_append::Arguments,
        image: &[u8],
    ) -> (Finish, Vec<u8>) {
        self.bench.call(&self.rkey, KernelId::CHAIN_APPEND, &arguments.encode(), image)
    }

    pub(super) fn image(&self, fresh: Link, value: &[u8]) -> Vec<u8> {
        Image::compose(fresh, BUFFER_BYTES, value).unwrap().bytes().to_vec()
    }
}

/// A bench of its own over the regions of a store.
pub(super) fn bench_of(
    regions: &[RacyMem],
    access: Access,
    follow: &[u8],
) -> (Bench<Builtin>, Rkey) {
    let mut bench = Bench::new(64);
    for region in regions {
        bench.register(region);
    }
    let rkey = bench.memory.export(bench.domain, 0, access, follow, 7).unwrap();
    (bench, rkey)
}

/// What a chain should be.
struct Model {
    chain: Chain,
    /// Links and values, those that were recycled included.
    entries: Vec<(Link, Vec<u8>)>,
    /// The first entry that is not retired, and the first that is not recycled.
    retired: usize,
    recycled: usize,
    /// To which entry the shortcut points.
    shortcut: usize,
}

impl Model {
    /// What a walk finds: hops and whether by the shortcut; `None` if the owner must be asked.
    fn walk(&self, cursor: Option<usize>, after: Option<u16>) -> Option<(u16, bool)> {
        let last = self.entries.len() - 1;
        let from_shortcut = |so_far| {
            (self.shortcut >= self.recycled).then(|| (so_far + (last - self.shortcut) as u16, true))
        };
        match (cursor.filter(|cursor| *cursor >= self.recycled), after) {
            (Some(cursor), Some(after))
                if ((last - cursor) as u16) >= after.max(1) || after == 0 =>
            {
                from_shortcut(after).or(Some(((last - cursor) as u16, false)))
            }
            (Some(cursor), _) => Some(((last - cursor) as u16, false)),
            (None, Some(_)) => from_shortcut(0),
            (None, None) => None,
        }
    }
}

/// Reads a chain by way of a random cursor and the shortcut, and compares with the model.
fn read_and_compare(store: &mut Store, model: &Model, random: &mut Random) {
    let cursor = (random.below(4) != 0).then(|| random.below(model.entries.len() as u64) as usize);
    let after = (cursor.is_none() || random.below(2) == 0).then(|| random.below(5) as u16);
    let link = cursor.map_or(Link::NONE, |cursor| model.entries[cursor].0);
    let mut arguments = chain_read::Arguments::from_cursor(link);
    if let Some(after) = after {
        arguments = arguments.or_shortcut(HOME_REGION, model.chain.shortcut, after);
    }
    let (finish, reply) = store.read(arguments);
    assert_eq!((finish.status, finish.fate), (Status::Ok, Fate::Executed));
    match (chain_read::validate(&reply), model.walk(cursor, after)) {
        (Verdict::Latest { at, value, pending, hops }, Some((expected, by_shortcut))) => {
            let (latest, content) = model.entries.last().unwrap();
            assert_eq!((at, pending), (*latest, false));
            assert_eq!(&reply[value], content);
            assert_eq!(hops, expected, "{cursor:?} {after:?}");
            assert_eq!(reply[1] & chain_read::ReplyHeader::BY_SHORTCUT != 0, by_shortcut);
        }
        (Verdict::Recycled, None) => {}
        (found, expected) => panic!("{found:?} where {expected:?} was to be, from {cursor:?}"),
    }
}

/// Appends to a chain by way of a random cursor.
fn append_and_compare(store: &mut Store, model: &mut Model, random: &mut Random) {
    let Some(fresh) = store.pool.allocate() else { return };
    let value: Vec<u8> = (0..random.below(105)).map(|_| random.next() as u8).collect();
    let cursor = random.below(model.entries.len() as u64) as usize;
    let has_shortcut = random.below(2) == 0;
    let first = random.below(2) == 0;
    let mut arguments = chain_append::Arguments::new(model.entries[cursor].0, fresh);
    if has_shortcut {
        arguments = arguments.with_shortcut(HOME_REGION, model.chain.shortcut, first);
    }
    let image = store.image(fresh, &value);
    let (finish, reply) = store.append(arguments, &image);
    let reply = chain_append::Reply::decode(&reply).expect("a reply");
    assert_eq!((finish.status, finish.fate), (Status::Ok, Fate::Executed));
    let after = has_shortcut.then_some(if first { 0 } else { u16::MAX });
    match (reply.outcome().unwrap(), model.walk(Some(cursor), after)) {
        (Outcome::Linked, Some((hops, _))) => {
            assert_eq!(reply.at(), model.entries.last().unwrap().0);
            assert_eq!((reply.hops.get(), reply.word().next()), (hops, fresh));
            model.entries.push((fresh, value));
            if has_shortcut {
                model.shortcut = model.entries.len() - 1;
            }
        }
        (Outcome::Recycled, None) => store.pool.give_back(fresh),
        (found, expected) => panic!("{found:?} where {expected:?} was to be"),
    }
}

/// Random chains over three regions: every read finds the latest value in the expected number of
/// hops or is told to ask the owner, whatever was recycled.
#[test]
fn chains_agree_with_vectors() {
    for seed in 0..24 {
        let mut random = Random::new(seed);
        let mut store = Store::new(12);
        let mut models: Vec<Model> = (0..SHORTCUTS)
            .map(|number| {
                let value = alloc::vec![number as u8; number as usize];
                let chain = store.pool.create(&value).unwrap();
                let entries = alloc::vec![(chain.first, value)];
                Model { chain, entries, retired: 0, recycled: 0, shortcut: 0 }
            })
            .collect();
        let mut crossings = 0;
        for _ in 0..600 {
            let model = &mut models[random.below(u64::from(SHORTCUTS)) as usize];
            match random.below(8) {
                0..4 => read_and_compare(&mut store, model, &mut random),
                4..6 => append_and_compare(&mut store, model, &mut random),
                6 => {
                    // Mostly the owner keeps the shortcut off what it retires; sometimes it forgets.
                    let last = model.entries.len() - 1;
                    while model.retired < last && random.below(3) != 0 {
                        store.pool.retire(model.entries[model.retired].0);
                        model.retired += 1;
                    }
                    if model.shortcut < model.retired && random.below(4) != 0 {
                        store.pool.set_shortcut(&model.chain, model.entries[last].0);
                        model.shortcut = last;
                    }
                }
                _ => {
                    let marks: Vec<usize> = models.iter().map(|model| model.retired).collect();
                    store.pool.begin_epoch();
                    store.pool.begin_epoch();
                    for (model, mark) in models.iter_mut().zip(marks) {
                        model.recycled = mark;
                    }
                }
            }
            let model = &models[random.below(u64::from(SHORTCUTS)) as usize];
            let (link, value) = model.entries.last().unwrap();
            assert_eq!(store.pool.latest(*link), Some((*link, value.clone())));
            crossings += model
                .entries
                .windows(2)
                .filter(|two| two[0].0.pointer().region != two[1].0.pointer().region)
                .count();
        }
        assert!(crossings > 0, "no chain crossed its region");
    }
}

#[test]
fn a_buffer_that_was_recycled_is_noticed_until_its_version_wraps() {
    let mut store = Store::new(1);
    let chain = store.pool.create(b"old").unwrap();
    let stale = chain.first;
    let mut entry = stale;
    for life in 1..u32::from(layout::VERSIONS) {
        store.pool.give_back(entry);
        // The same buffer again: the one that was freed last is taken first.
        entry = store.pool.allocate().unwrap();
        assert_eq!(entry.pointer(), stale.pointer());
        let image = store.image(entry, b"new");
        store.regions[usize::from(entry.pointer().region)]
            .write(entry.pointer().address, &image)
            .unwrap();
        if life % 512 == 1 || life > 4090 {
            let (finish, reply) = store.read(chain_read::Arguments::from_cursor(stale));
            assert_eq!(finish.status, Status::Ok);
            assert_eq!(chain_read::validate(&reply), Verdict::Recycled, "life {life}");
        }
    }
    assert_eq!(entry.reborn(), stale);
}

#[test]
fn a_walk_ends_at_its_bound_and_goes_on_from_there() {
    let mut store = Store::new(32);
    let chain = store.pool.create(b"0").unwrap();
    let mut last = chain.first;
    for count in 1..40u8 {
        last = store.pool.append(last, &[count]).unwrap();
    }
    let mut arguments = chain_read::Arguments::from_cursor(chain.first).hops_max(10);
    for round in 0..3 {
        let (finish, reply) = store.read(arguments);
        assert_eq!((finish.status, reply.len()), (Status::Continues, 24), "round {round}");
        arguments = chain_read::Arguments::decode(&reply).unwrap();
    }
    let (finish, reply) = store.read(arguments);
    assert_eq!(finish.status, Status::Ok);
    match chain_read::validate(&reply) {
        Verdict::Latest { at, value, hops, .. } => {
            assert_eq!((at, &reply[value], hops), (last, &[39][..], 9));
        }
        other => panic!("{other:?}"),
    }

    // An append goes on without its payload.
    let fresh = store.pool.allocate().unwrap();
    let image = store.image(fresh, b"the end");
    let mut arguments = chain_append::Arguments::new(chain.first, fresh).hops_max(30);
    let (finish, reply) = store.append(arguments, &image);
    assert_eq!((finish.status, reply.len()), (Status::Continues, 28));
    arguments = chain_append::Arguments::decode(&reply).unwrap();
    let (finish, reply) = store.append(arguments, &[]);
    assert_eq!(finish.status, Status::Ok);
    let reply = chain_append::Reply::decode(&reply).unwrap();
    assert_eq!((reply.outcome(), reply.at()), (Some(Outcome::Linked), last));
    assert_eq!(store.pool.latest(chain.first), Some((fresh, b"the end".to_vec())));
}

#[test]
fn a_circle_ends_at_the_bound() {
    let mut store = Store::new(4);
    let chain = store.pool.create(b"head").unwrap();
    let tail = store.pool.append(chain.first, b"tail").unwrap();
    let word = PointerWord::last(tail.version()).followed_by(chain.first, true);
    let memory = &store.regions[usize::from(tail.pointer().region)];
    memory.write(tail.pointer().address, &word.raw().to_le_bytes()).unwrap();
    let arguments = chain_read::Arguments::from_cursor(chain.first).hops_max(u16::MAX);
    let (finish, _) = store.read(arguments);
    assert_eq!(finish.status, Status::Continues);
    assert_eq!(store.pool.append(chain.first, b"x"), Err(AppendError::Recycled), "no end");
}

#[test]
fn an_uncommitted_link_is_not_read_and_not_appended_to() {
    let mut store = Store::new(4);
    let chain = store.pool.create(b"committed").unwrap();
    let fresh = store.pool.allocate().unwrap();
    let arguments = chain_append::Arguments::new(chain.first, fresh)
        .with_shortcut(HOME_REGION, chain.shortcut, false)
        .uncommitted();
    let image = store.image(fresh, b"not yet");
    let (_, reply) = store.append(arguments, &image);
    let linked = chain_append::Reply::decode(&reply).unwrap();
    assert_eq!((linked.outcome(), linked.at()), (Some(Outcome::Linked), chain.first));
    assert_eq!(store.pool.shortcut(&chain), chain.first, "the shortcut is left");

    let read = chain_read::Arguments::from_shortcut(chain.shortcut);
    let (_, reply) = store.read(read);
    match chain_read::validate(&reply) {
        Verdict::Latest { value, pending: true, .. } => assert_eq!(&reply[value], b"committed"),
        other => panic!("{other:?}"),
    }
    let other = store.pool.allocate().unwrap();
    let image = store.image(other, b"behind");
    let behind = chain_append::Arguments::new(chain.first, other);
    let (_, reply) = store.append(behind, &image);
    let refused = chain_append::Reply::decode(&reply).unwrap();
    assert_eq!((refused.outcome(), refused.word()), (Some(Outcome::Pending), linked.word()));
    assert_eq!(store.pool.append(chain.first, b"x"), Err(AppendError::Pending));
    // Whoever asks again for its own link is told that it stands.
    let (_, reply) = store.append(arguments.written(), &[]);
    let again = chain_append::Reply::decode(&reply).unwrap();
    assert_eq!(again.outcome(), Some(Outcome::LinkedBefore));

    let memory = &store.regions[usize::from(linked.at().pointer().region)];
    let word = memory.word64(linked.at().pointer().address).unwrap();
    let (from, to) = (linked.word().raw(), linked.word().committed().raw());
    let relaxed = core::sync::atomic::Ordering::Relaxed;
    word.compare_exchange(from, to, relaxed, relaxed).unwrap();
    let (_, reply) = store.read(read);
    match chain_read::validate(&reply) {
        Verdict::Latest { at, value, pending: false, .. } => {
            assert_eq!((at, &reply[value]), (fresh, &b"not yet"[..]));
        }
        other => panic!("{other:?}"),
    }
    // And again once another stands behind it: it is met on the way.
    let (_, reply) = store.append(behind, &image);
    assert_eq!(chain_append::Reply::decode(&reply).unwrap().outcome(), Some(Outcome::Linked));
    let (_, reply) = store.append(arguments.written(), &[]);
    let again = chain_append::Reply::decode(&reply).unwrap();
    assert_eq!((again.outcome(), again.at()), (Some(Outcome::LinkedBefore), fresh));
}

#[test]
fn values_longer_than_a_cache_line_come_whole() {
    let regions = [RacyMem::allocate(64 << 10)];
    let mut pool = Pool::format(&[(0, regions[0].clone())], 1, 8192).unwrap();
    let (bench, rkey) = bench_of(&regions, ALL, &[]);
    let values: Vec<Vec<u8>> = [0usize, 39, 40, 41, 500, 8168]
        .iter()
        .map(|length| (0..*length).map(|place| (place * 7) as u8).collect())
        .collect();
    let chain = pool.create(&values[0]).unwrap();
    let mut store = Store { bench, pool, regions: regions.to_vec(), rkey };
    for value in &values {
        let fresh = store.pool.allocate().unwrap();
        let image = Image::compose(fresh, 8192, value).unwrap();
        let arguments = chain_append::Arguments::new(chain.first, fresh);
        let (finish, _) = store.append(arguments, image.bytes());
        assert_eq!(finish.status, Status::Ok);
        let (finish, reply) = store.read(chain_read::Arguments::from_cursor(chain.first));
        assert_eq!(finish.reply_length, chain_read::reply_bytes(value.len() as u32));
        match chain_read::validate(&reply) {
            Verdict::Latest { at, value: place, .. } => {
                assert_eq!((at, &reply[place]), (fresh, &value[..]));
            }
            other => panic!("{other:?}"),
        }
    }
    let call = chain_read::Arguments::from_cursor(chain.first).encode();
    let short = Invocation { reply_capacity: 1000, ..op(KernelId::CHAIN_READ, &call) };
    let slot = store.bench.start(&store.rkey, &short).unwrap();
    let over = store.bench.run(Time::ZERO);
    assert_eq!(over[0].2.status, Status::ReplyTooLong);
    store.bench.executor.free(slot, &mut store.bench.memory);
}

#[test]
fn links_are_followed_only_where_the_export_allows() {
    let mut store = Store::new(4);
    let chain = store.pool.create(b"here").unwrap();
    let at = |region, address| Link::new(crate::Pointer { region, address }, 1).unwrap();
    let (mut bench, rkey) = bench_of(&store.regions, Access::READ, &[1]);
    core::mem::swap(&mut store.bench, &mut bench);
    store.rkey = rkey;
    for (link, named, followed) in [
        (at(2, 64), Status::Denied, Status::BadPointer),
        (at(9, 64), Status::Denied, Status::BadPointer),
        (at(1, 1 << 20), Status::OutOfBounds, Status::BadPointer),
        (at(1, layout::ADDRESS_LIMIT - 64), Status::OutOfBounds, Status::BadPointer),
    ] {
        let (finish, _) = store.read(chain_read::Arguments::from_cursor(link));
        assert_eq!((finish.status, finish.fate), (named, Fate::NotExecuted));
        let word = PointerWord::last(chain.first.version()).followed_by(link, true);
        let memory = &store.regions[usize::from(chain.first.pointer().region)];
        memory.write(chain.first.pointer().address, &word.raw().to_le_bytes()).unwrap();
        let (finish, _) = store.read(chain_read::Arguments::from_cursor(chain.first));
        assert_eq!(finish.status, followed);
        store.pool.set_shortcut(&chain, link);
        let (finish, _) = store.read(chain_read::Arguments::from_shortcut(chain.shortcut));
        assert_eq!(finish.status, followed);
    }
}

#[test]
fn every_bad_argument_has_its_status() {
    let mut store = Store::new(4);
    let chain = store.pool.create(b"x").unwrap();
    let fresh = store.pool.allocate().unwrap();
    let read = chain_read::Arguments::from_cursor(chain.first);
    for arguments in [
        chain_read::Arguments::from_cursor(Link::NONE),
        read.hops_max(0),
        chain_read::Arguments { flags: 2.into(), ..read },
        read.or_shortcut(0x100, 64, 0),
    ] {
        assert_eq!(store.read(arguments).0.status, Status::BadArguments, "{arguments:?}");
    }
    let shortcut = |address| chain_read::Arguments::from_shortcut(address);
    assert_eq!(store.read(shortcut(1 << 40)).0.status, Status::OutOfBounds);
    let append = chain_append::Arguments::new(chain.first, fresh);
    let image = store.image(fresh, b"y");
    for (arguments, payload) in [
        (chain_append::Arguments::new(Link::NONE, fresh), &image[..]),
        (chain_append::Arguments::new(fresh, fresh), &image),
        (chain_append::Arguments::new(chain.first, Link::NONE), &image),
        (append.hops_max(0), &image),
        (chain_append::Arguments { flags: 16, ..append }, &image),
        (append, &image[..23]),
        (append, &[]),
        (append.written(), &image),
    ] {
        let (finish, _) = store.append(arguments, payload);
        assert_eq!(finish.status, Status::BadArguments, "{arguments:?}");
    }
}

#[test]
fn pools_that_cannot_be_laid_out_are_refused() {
    let region = RacyMem::allocate(4096);
    let format = |regions: &[(u8, RacyMem)], shortcuts, bytes| {
        Pool::format(regions, shortcuts, bytes).map(|_| ())
    };
    assert_eq!(format(&[], 1, 64), Err(FormatError::NoRegion));
    let one = [(3, region.clone())];
    assert_eq!(format(&one, 1, 100), Err(FormatError::BufferSize { found: 100 }));
    assert_eq!(format(&one, 1, 0), Err(FormatError::BufferSize { found: 0 }));
    let needed = 64 + 512 + 4096;
    let refused = FormatError::RegionSize { region: 3, found: 4096, needed };
    assert_eq!(format(&one, 64, 4096), Err(refused));
    let refused = format(&[(4, region.to_read_only())], 1, 64);
    assert_eq!(refused, Err(FormatError::NotWritable { region: 4 }));
    let mut pool = Pool::format(&one, 1, 2048).unwrap();
    pool.create(b"only").unwrap();
    assert_eq!(pool.create(b"no shortcut"), Err(AppendError::Full));
}

crate::bench::also_on_dma!(
    chains_agree_with_vectors,
    a_walk_ends_at_its_bound_and_goes_on_from_there,
    values_longer_than_a_cache_line_come_whole,
);
