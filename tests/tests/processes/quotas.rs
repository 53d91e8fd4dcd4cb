//! What a user may have: so much, and no more by any trick.

use nic_host::{NicError, Status};
use nic_shm::{ControlSocket, Incoming, Pages, SharedMemory};
use nic_wire::control::{self, ControlReply, ControlRequest, MAX_CONTROL_BYTES};
use nic_wire::session::LAYOUT_VERSION;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::fstat;

use super::Place;

const QUOTA: &str = "\n[quota]\nregions = 3\nsessions = 2\nops = 64\nbytes = 1_048_576";

/// Why something was refused.
fn refused<T>(result: Result<T, NicError>) -> String {
    match result {
        Err(NicError::Refused { status: Status::Busy, reason }) => reason,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was granted"),
    }
}

#[test]
fn a_user_has_so_many_regions_and_sessions_and_so_much_memory() {
    let place = Place::new();
    let _engine = place.daemon("target", QUOTA);
    let (nic, other) = (place.nic("target"), place.nic("target"));
    let small = |nic: &nic_host::Nic| nic.region(4096).create();
    let mut regions = vec![small(&nic).unwrap(), small(&nic).unwrap(), small(&other).unwrap()];
    let said = refused(small(&other));
    assert!(said.contains("has 3 regions") && said.contains("quota.regions"), "{said}");
    // What is given up may be had again, by whichever of the user's applications.
    regions.remove(0);
    regions.push(small(&other).unwrap());
    refused(small(&nic));
    regions.clear();

    let said = refused(nic.region(1 << 20).create().and_then(|_kept| {
        let _more = small(&other)?;
        Ok(())
    }));
    assert!(said.contains("has 1048576 bytes") && said.contains("quota.bytes"), "{said}");
    let said = refused(nic.region((1 << 20) + 1).create());
    assert!(said.contains("asks for 1052672 more"), "{said}");

    let open = |nic: &nic_host::Nic| nic.session().depth(2).arena(4096).open();
    let sessions = [open(&nic).unwrap(), open(&other).unwrap()];
    let said = refused(open(&nic));
    assert!(said.contains("has 2 sessions") && said.contains("quota.sessions"), "{said}");
    // A session is refused whole if its ops could be too many.
    drop(sessions);
    let depth = |depth| nic.session().depth(depth).arena(4096).open();
    let half = depth(32).unwrap();
    let said = refused(depth(64));
    assert!(said.contains("has 32 ops and asks for 64 more; the most is 64"), "{said}");
    assert!(said.contains("quota.ops"), "{said}");
    let sessions = [half, depth(32).unwrap()];
    // Sessions take memory as well.
    let said = refused(nic.region(1 << 20).create());
    assert!(said.contains("quota.bytes"), "{said}");
    drop(sessions);
    let _large = nic.region(1 << 20).create().unwrap();
}

#[test]
fn what_a_gone_application_had_is_its_users_again() {
    let place = Place::new();
    let _engine = place.daemon("target", QUOTA);
    let memory = SharedMemory::create("kept", 4096, Pages::Small).unwrap();
    let register = ControlRequest::Register { length: 4096, base: 0 };
    let is_granted = |raw: &Raw| match raw.ask(&register, &[memory.as_fd()]) {
        ControlReply::Region { .. } => true,
        ControlReply::Refused { reason, .. } => {
            assert!(reason.contains("quota.regions"), "{reason}");
            false
        }
        other => panic!("{other:?}"),
    };
    for _ in 0..20 {
        let raw = Raw::connect(&place, "target");
        for _ in 0..3 {
            // The engine learns by and by of the end of the application before.
            while !is_granted(&raw) {}
        }
        assert!(!is_granted(&raw));
    }
}

/// An application that says what it likes.
struct Raw {
    socket: ControlSocket,
}

impl Raw {
    fn connect(place: &Place, name: &str) -> Raw {
        let raw = Raw { socket: ControlSocket::connect(&place.socket(name)).unwrap() };
        let name = "raw".to_owned();
        let layout_version = LAYOUT_VERSION;
        let hello = ControlRequest::Hello { layout_version, name, engine: None };
        assert!(matches!(raw.ask(&hello, &[]), ControlReply::Welcome { .. }));
        raw
    }

    fn ask(&self, request: &ControlRequest, descriptors: &[BorrowedFd<'_>]) -> ControlReply {
        let mut buffer = vec![0; MAX_CONTROL_BYTES];
        let length = control::encode(request, &mut buffer).unwrap();
        self.socket.send(&buffer[..length], descriptors).unwrap();
        match self.socket.receive(&mut buffer).unwrap() {
            Incoming::Message { len, .. } => control::decode(&buffer[..len]).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn only_the_stated_length_of_a_memory_is_made() {
    let place = Place::new();
    let _engine = place.daemon("target", QUOTA);
    let raw = Raw::connect(&place, "target");
    // A terabyte of which nothing is there. The engine's machine has less.
    let sparse = SharedMemory::create("sparse", 1 << 40, Pages::Small).unwrap();
    let made = || fstat(sparse.as_fd()).unwrap().st_blocks as u64 * 512;
    let register = |length| ControlRequest::Register { length, base: 0 };
    let reply = raw.ask(&register(8192), &[sparse.as_fd()]);
    assert!(matches!(reply, ControlReply::Region { .. }), "{reply:?}");
    assert_eq!(made(), 8192);
    // Nor is it made whole for being asked for.
    for length in [1 << 40, 1 << 21, u64::MAX] {
        match raw.ask(&register(length), &[sparse.as_fd()]) {
            ControlReply::Refused { reason, .. } => {
                assert!(reason.contains("quota.bytes"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(made(), 8192);
    let short = SharedMemory::create("short", 4096, Pages::Small).unwrap();
    match raw.ask(&register(4097), &[short.as_fd()]) {
        ControlReply::Refused { reason, .. } => {
            assert!(reason.contains("4096 bytes") && reason.contains("4097"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    // What was refused is not booked: two more regions, and all of the memory that is left.
    for length in [4096, (1 << 20) - 8192 - 4096] {
        let reply = raw.ask(&register(length), &[sparse.as_fd()]);
        assert!(matches!(reply, ControlReply::Region { .. }), "{reply:?}");
    }
}
