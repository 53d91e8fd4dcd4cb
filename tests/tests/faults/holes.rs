//! Owners that take pages away from under their engine.

use std::os::fd::BorrowedFd;
use std::path::Path;

use nic_host::{Fate, Nic, OpError, RemoteRegion, Status};
use nic_kernels::Access;
use nic_shm::{ControlSocket, Incoming, Pages, SharedMemory};
use nic_tests::children::{Child, Role, TargetOptions, Waiting};
use nic_tests::sample;
use nic_wire::Rkey;
use nic_wire::control::{self, ControlReply, ControlRequest, MAX_CONTROL_BYTES};
use nic_wire::session::LAYOUT_VERSION;
use nic_wire::ticket::Ticket;
use rustix::fs::{FallocateFlags, fallocate};

use super::engines::Engines;
use super::residue::{free_huge_pages, until};
use super::{PROGRAM, machine};

const HUGE: u64 = 2 << 20;

/// An application that keeps its region's descriptor, as none of host-lib's does.
struct Owner {
    socket: ControlSocket,
    memory: SharedMemory,
}

impl Owner {
    /// Offers a memory of ones on an engine.
    fn new(engine: &Path, length: u64, pages: Pages) -> (Owner, Ticket) {
        let memory = SharedMemory::create("nic-holes", length, pages).unwrap();
        memory.memory().fill(0, length, 1).unwrap();
        let owner = Owner { socket: ControlSocket::connect(engine).unwrap(), memory };
        let hello = ControlRequest::Hello {
            layout_version: LAYOUT_VERSION,
            name: "owner".to_owned(),
            engine: None,
        };
        owner.ask(&hello, &[]);
        let register = ControlRequest::Register { length, base: 0 };
        let ControlReply::Region { region } = owner.ask(&register, &[owner.memory.fd()]) else {
            panic!("the region is not taken");
        };
        let access = Access::all().bits();
        let export = ControlRequest::Export { region, access, follow: Vec::new() };
        let ControlReply::Exported { engine, rkey: (export, generation, secret) } =
            owner.ask(&export, &[])
        else {
            panic!("the region is not exported");
        };
        let rkey = Rkey::new(export, generation, secret);
        (owner, Ticket { engine, rkey, base: 0, length, access })
    }

    fn ask(&self, request: &ControlRequest, descriptors: &[BorrowedFd<'_>]) -> ControlReply {
        let mut buffer = vec![0; MAX_CONTROL_BYTES];
        let length = control::encode(request, &mut buffer).unwrap();
        self.socket.send(&buffer[..length], descriptors).unwrap();
        match self.socket.receive(&mut buffer).unwrap() {
            Incoming::Message { len, .. } => control::decode(&buffer[..len]).unwrap(),
            other => panic!("found {other:?}, expected an answer"),
        }
    }

    fn punch(&self, offset: u64, length: u64) {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(self.memory.fd(), flags, offset, length).unwrap();
    }
}

/// An engine with an honest target, and an initiator of another engine.
struct Place {
    engines: Engines,
    _target: Child,
    honest: Ticket,
    nic: Nic,
}

impl Place {
    fn new() -> Place {
        let engines = Engines::start(|_| {});
        let socket = engines.socket(1);
        let options = TargetOptions { socket, waiting: Waiting::Adaptive, keys: 1 };
        let mut target = Child::start(PROGRAM, &Role::Target(options));
        let honest = target.answer()["data"].as_str().unwrap().parse().unwrap();
        let nic = engines.nic(0).unwrap();
        Place { engines, _target: target, honest, nic }
    }

    fn owner(&self, length: u64, pages: Pages) -> (Owner, Ticket) {
        Owner::new(&self.engines.socket(1), length, pages)
    }
}

fn is_filled(session: &nic_host::Session, region: &RemoteRegion, at: u64, byte: u8) -> bool {
    session.run(region.read(at..at + 64)).unwrap().iter().all(|found| *found == byte)
}

#[test]
fn a_hole_in_small_pages_reads_as_zeros() {
    let _machine = machine();
    let place = Place::new();
    let (owner, ticket) = place.owner(1 << 16, Pages::Small);
    let session = place.nic.session().open().unwrap();
    let region = session.connect(&ticket).unwrap();
    assert!(is_filled(&session, &region, 4096, 1));
    owner.punch(4096, 8192);
    assert!(is_filled(&session, &region, 0, 1));
    assert!(is_filled(&session, &region, 4096, 0));
    // The engine fills the hole as ops need it.
    session.run(region.write(8192, &[7; 64])).unwrap();
    assert!(is_filled(&session, &region, 8192, 7));
    let mut written = [0; 64];
    owner.memory.memory().read(8192, &mut written).unwrap();
    assert_eq!(written, [7; 64]);
}

/// Takes all huge pages that are free now.
fn all_huge_pages() -> Vec<SharedMemory> {
    let page = || SharedMemory::create("nic-taker", HUGE, Pages::Huge).ok();
    let mut taken: Vec<_> = std::iter::from_fn(page).collect();
    taken.iter_mut().for_each(|memory| memory.populate().unwrap());
    taken
}

/// Huge pages that the machine keeps for the time of a test, where it has too few and lets us.
struct ReservedHugePages(Option<String>);

const HUGE_PAGES: &str = "/proc/sys/vm/nr_hugepages";

impl ReservedHugePages {
    fn at_least(pages: u64) -> Self {
        if free_huge_pages() >= pages {
            return ReservedHugePages(None);
        }
        let before = std::fs::read_to_string(HUGE_PAGES).unwrap();
        let _ = std::fs::write(HUGE_PAGES, pages.to_string());
        ReservedHugePages(Some(before))
    }
}

impl Drop for ReservedHugePages {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = std::fs::write(HUGE_PAGES, before);
        }
    }
}

#[test]
#[ignore = "needs root or huge pages: echo 64 > /proc/sys/vm/nr_hugepages as root"]
fn a_hole_in_huge_pages_ends_the_region_and_not_the_engine() {
    let _machine = machine();
    let _reserved = ReservedHugePages::at_least(16);
    let before = free_huge_pages();
    assert!(before >= 4, "{before} huge pages are free: echo 64 > /proc/sys/vm/nr_hugepages");
    let place = Place::new();
    let session = place.nic.session().open().unwrap();
    let honest = session.connect(&place.honest).unwrap();

    let (owner, ticket) = place.owner(2 * HUGE, Pages::Huge);
    let region = session.connect(&ticket).unwrap();
    assert!(is_filled(&session, &region, HUGE, 1));
    owner.punch(HUGE, HUGE);
    let taken = all_huge_pages();
    assert_eq!(free_huge_pages(), 0, "somebody else gives huge pages back meanwhile");

    // Whoever touches the hole has SIGBUS. The op had been done but for its reply's last copy.
    let lost = |fate| Err(OpError::Failed { status: Status::MemoryLost, fate, refusal: None });
    let read = session.run(region.read(HUGE..HUGE + 64)).map(|_| ());
    assert_eq!(read, lost(Fate::Executed));
    // From then on the region is dead as a whole.
    let lost = lost(Fate::NotExecuted);
    assert_eq!(session.run(region.read(0..64)).map(|_| ()), lost);
    assert_eq!(session.run(region.write(HUGE, &[7; 64])), lost);
    assert_eq!(session.run(region.fetch_add(0, 1)).map(|_| ()), lost);
    let found = session.run(honest.read(0..64)).unwrap();
    assert!(sample::is_pattern(0, &found), "others are served as before");

    // Each way of touching such a hole first.
    drop((taken, region));
    for way in 0..4 {
        let (owner, ticket) = place.owner(2 * HUGE, Pages::Huge);
        let region = session.connect(&ticket).unwrap();
        owner.punch(0, HUGE);
        let _taken = all_huge_pages();
        let outcome = match way {
            0 => session.run(region.write(64, &[7; 4096])),
            1 => session.run(region.write(64, &vec![7; 100_000])),
            2 => session.run(region.fetch_add(64, 1)).map(|_| ()),
            _ => session.run(region.read(64..100_064)).map(|_| ()),
        };
        let Err(OpError::Failed { status: Status::MemoryLost, .. }) = outcome else {
            panic!("way {way}: {outcome:?}");
        };
        session.run(honest.read(0..64)).unwrap();
    }
    drop(owner);
    drop(place);
    // The kernel lets go of the packet memory of a dead process a little later.
    until("huge pages are free again", || free_huge_pages() >= before);
}
