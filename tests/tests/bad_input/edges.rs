//! Regions between pages that fault: no kernel touches a byte beyond either edge, not even to read
//! it. One that did would end this process.

use nic_kernels::bucket_table::{BucketTable, Geometry, Identity, KeyHash, TableView};
use nic_kernels::{Access, scan_and_read};
use nic_ports::Random;
use nic_shm::{Edge, FencedMemory, RacyMem};
use nic_tests::{AppSession, Ask, World};
use nic_wire::{Fate, KernelId, Status};

use crate::GEOMETRY;

/// A session with ways to regions of other hosts.
struct Edges {
    world: World,
    session: AppSession,
}

fn fenced(length: u64, edge: Edge) -> RacyMem {
    FencedMemory::new(length, edge).unwrap().memory()
}

/// A session and, in their order, ways to these memories, each of which may be followed into the
/// others.
fn edges(seed: u64, memories: &[RacyMem]) -> (Edges, Vec<u16>) {
    let mut world = World::new(seed);
    let (initiator, target) = (world.add_host(), world.add_host());
    let owner = world.add_client(target);
    let regions: Vec<u8> = memories.iter().map(|m| world.register(target, owner, m)).collect();
    let session = world.add_session(initiator, GEOMETRY);
    let connect = |region: &u8| {
        let rkey = world.export(target, owner, *region, Access::all(), &regions);
        world.connect(&session, target, rkey)
    };
    let remotes = regions.iter().map(connect).collect();
    (Edges { world, session }, remotes)
}

impl Edges {
    fn run(&mut self, ask: &Ask) -> (Status, Fate) {
        self.world.run(&mut self.session, ask).ended()
    }

    fn is_within(&mut self, ask: &Ask) {
        assert_eq!(self.run(ask), (Status::Ok, Fate::Executed), "{ask:?}");
    }

    fn is_beyond(&mut self, ask: &Ask) {
        assert_eq!(self.run(ask), (Status::OutOfBounds, Fate::NotExecuted), "{ask:?}");
    }
}

#[test]
fn plain_ops_end_where_the_region_ends() {
    for (length, edge) in [(16, Edge::End), (80, Edge::Start), (4112, Edge::End), (8000, Edge::End)]
    {
        let (mut edges, remotes) = edges(150, &[fenced(length, edge)]);
        let remote = remotes[0];
        let pieces = (0..=33).chain([63, 64, 65, 255, 1399, 1400, 1401, 4000]);
        for piece in pieces.filter(|piece| *piece <= length) {
            let bytes = vec![piece as u8; piece as usize];
            for at in [0, length - piece] {
                edges.is_within(&Ask::write(remote, at, &bytes));
                edges.is_within(&Ask::read(remote, at, piece as u32));
            }
            if piece > 0 {
                edges.is_beyond(&Ask::write(remote, length - piece + 1, &bytes));
                edges.is_beyond(&Ask::read(remote, length - piece + 1, piece as u32));
                let before = 0u64.wrapping_sub(1);
                edges.is_beyond(&Ask::read(remote, before, piece as u32));
                edges.is_beyond(&Ask::write(remote, before, &bytes));
            }
        }
        for word in [0, length - 8] {
            edges.is_within(&Ask::fetch_add(remote, word, 1));
            edges.is_within(&Ask::compare_swap(remote, word, 0, 1));
        }
        for word in [length, length - 4, 0u64.wrapping_sub(8)] {
            edges.is_beyond(&Ask::fetch_add(remote, word, 1));
            edges.is_beyond(&Ask::compare_swap(remote, word, 0, 1));
        }
    }
}

/// A full table whose index and entries fill their regions.
#[test]
fn lookups_stay_within_both_regions() {
    const KEYS: u64 = 60;
    let geometry = Geometry::for_entries(KEYS);
    let index = fenced(geometry.index_bytes(), Edge::End);
    let entries = fenced(Geometry::entries_bytes(KEYS, 8, 200), Edge::End);
    let (mut edges, remotes) = edges(151, &[index.clone(), entries.clone()]);
    let identity = Identity { entries_region: 1, ..Identity::default() };
    let mut table = BucketTable::format(index, entries, geometry, identity).unwrap();
    let mut stored = 0;
    // Until nothing fits any more, so that entries lie at the very end.
    for number in 0..4 * KEYS {
        let value = vec![number as u8; 200 - number as usize % 7];
        stored += u64::from(table.insert(&number.to_le_bytes(), &value).is_ok());
    }
    assert!(stored >= KEYS);
    let header = Ask::read(remotes[0], 0, TableView::HEADER_BYTES as u32);
    let header = edges.world.run(&mut edges.session, &header);
    let view = TableView::parse(&header.reply).unwrap();
    for number in 0..4 * KEYS {
        let arguments = view.scan_and_read(KeyHash::of(&number.to_le_bytes()));
        edges.is_within(&Ask::scan_and_read(remotes[0], &arguments, 1024));
    }
}

/// Buckets at the edge full of pointers to the edge, and lookups that begin anywhere.
#[test]
fn pointers_lead_nowhere_else() {
    const BYTES: u64 = 512;
    let memories = [fenced(BYTES, Edge::End), fenced(BYTES, Edge::Start)];
    let (mut edges, remotes) = edges(152, &memories);
    let mut random = Random::new(152);
    let (mut followed, mut refused) = (0, 0);
    for _ in 0..3_000 {
        // Words near the edges, in every place where an entry might have its hash or its pointer.
        let hash = random.below(4);
        for memory in &memories {
            for place in (0..BYTES).step_by(8) {
                let near = BYTES - random.below(80);
                let word = match random.below(5) {
                    0 => hash,
                    1 => random.below(2) << 56 | near,
                    2 => near << random.below(40) | random.below(2) << 48,
                    3 => random.below(64),
                    _ => random.next(),
                };
                memory.write(place, &word.to_le_bytes()).unwrap();
            }
        }
        let bucket = [0, 64, BYTES - 64, BYTES - 256, BYTES, BYTES - 128][random.below(6) as usize];
        let bucket_bytes = 64 * (1 + random.below(4)) as u16;
        let arguments =
            scan_and_read::Arguments::new(bucket, KeyHash(hash.into()), bucket_bytes).encode();
        let remote = remotes[random.below(2) as usize];
        let ask = Ask::kernel(remote, KernelId::SCAN_AND_READ, &arguments, 2048);
        match edges.run(&ask).0 {
            Status::Ok | Status::Continues => followed += 1,
            Status::OutOfBounds | Status::BadPointer | Status::ReplyTooLong => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(followed > 50 && refused > 50, "{followed} and {refused}");
}
