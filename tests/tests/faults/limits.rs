//! Every table, ring and pool filled: what is too much is refused by name, and what was there
//! before goes on.

use nic_engine::daemon::Config;
use nic_host::{Access, Export, Nic, NicError, Region, RemoteRegion, Session, SubmitError};
use nic_tests::wire::WireKind;
use nic_wire::ticket::Ticket;

use super::engines::Engines;
use super::machine;

/// Makes the tables small.
fn narrow(config: &mut Config) {
    config.engine.clients = 6;
    config.engine.sessions = 5;
    config.engine.flows = 4;
    config.quota.regions = 7;
}

/// The engine whose tables are filled, and another that has room.
struct Place(Engines);

impl Place {
    fn new() -> Place {
        Place(Engines::start(narrow))
    }

    fn nic(&self) -> Result<Nic, NicError> {
        self.0.nic(1)
    }
}

/// Takes until it is refused; what was taken, and why there is no more.
fn fill<T>(mut take: impl FnMut() -> Result<T, NicError>) -> (Vec<T>, String) {
    let mut taken = Vec::new();
    loop {
        match take() {
            Ok(one) => taken.push(one),
            Err(NicError::Refused { reason, .. }) => return (taken, reason),
            Err(error) => panic!("found {error}, expected a refusal after {}", taken.len()),
        }
        assert!(taken.len() < 100_000, "nothing is ever refused");
    }
}

/// The application that was there before, and has to go on.
struct First {
    session: Session,
    remote: RemoteRegion,
    added: u64,
    /// Of the region that it uses, which is the other engine's.
    ticket: Ticket,
    /// Its own.
    region: Region,
    nic: Nic,
    _used: (Export, Region, Nic),
}

impl First {
    fn new(place: &Place) -> First {
        let other = place.0.nic(0).unwrap();
        let used = other.region(1 << 16).create().unwrap();
        let all = Access::READ.and(Access::WRITE).and(Access::ATOMIC);
        let export = used.export(all).unwrap();
        let ticket = export.ticket();
        let nic = place.nic().unwrap();
        let region = nic.region(1 << 16).create().unwrap();
        let session = nic.session().depth(8).arena(64 << 10).open().unwrap();
        let remote = session.connect(&ticket).unwrap();
        First { session, remote, added: 0, ticket, region, nic, _used: (export, used, other) }
    }

    fn goes_on(&mut self) {
        for _ in 0..100 {
            assert_eq!(self.session.run(self.remote.fetch_add(0, 1)), Ok(self.added));
            self.added += 1;
        }
    }
}

#[test]
fn full_tables_refuse_by_name_and_are_emptied_again() {
    let _machine = machine();
    let place = Place::new();
    let mut first = First::new(&place);
    first.goes_on();
    for _ in 0..3 {
        let (regions, reason) = fill(|| first.nic.region(4096).create());
        assert_eq!(regions.len(), 6, "{reason}");
        assert!(reason.contains("quota.regions"), "{reason}");
        first.goes_on();

        let (exports, reason) = fill(|| first.region.export(Access::READ));
        assert!(reason.contains("exports"), "{reason}");
        first.goes_on();

        let (sessions, reason) = fill(|| first.nic.session().open());
        assert_eq!(sessions.len(), 4, "{reason}");
        assert!(reason.contains("engine.sessions"), "{reason}");
        first.goes_on();

        let (ways, reason) = fill(|| sessions[0].connect(&first.ticket));
        assert!(reason.contains("ways to other hosts"), "{} ways: {reason}", ways.len());
        first.goes_on();

        let (nics, reason) = fill(|| place.nic());
        assert_eq!(nics.len(), 5, "{reason}");
        assert!(reason.contains("engine.clients"), "{reason}");
        first.goes_on();
        drop((regions, exports, ways, sessions, nics));
        // What was dropped is given back in order, before the next is asked for; but who
        // disconnects is not waited for.
        while first.nic.status().unwrap().matches("\"pid\"").count() > 2 {}
    }
    first.goes_on();
}

#[test]
fn full_sessions_hand_ops_back_and_go_on() {
    let _machine = machine();
    let place = Place::new();
    let mut first = First::new(&place);
    for _ in 0..100 {
        // First there is no slot, then no memory.
        for length in [64, 32 << 10] {
            let mut out = Vec::new();
            let full = loop {
                match first.session.submit(first.remote.read(0..length)) {
                    Ok(pending) => out.push(pending),
                    Err(error) => break error,
                }
                assert!(out.len() <= 8, "more ops are out than there are slots");
            };
            assert!(matches!(full, SubmitError::Full(_)), "{full}");
            drop(out);
            while first.session.in_use() > 0 {
                first.session.poll().unwrap().for_each(drop);
            }
        }
    }
    first.goes_on();
}

#[test]
fn full_flow_tables_refuse_by_name() {
    if WireKind::of_environment() != WireKind::Udp {
        println!("skipped: this needs more engines than the two of a wire");
        return;
    }
    let _machine = machine();
    let place = Place::new();
    let mut first = First::new(&place);
    let others: Vec<_> = (0..4).map(|_| Place::new()).collect();
    let mut ways = Vec::new();
    let mut refused = 0;
    for other in &others {
        // The flow is opened before anyone asks what the ticket is worth.
        let engine = other.nic().unwrap().address();
        match first.session.connect(&Ticket { engine, ..first.ticket }) {
            Ok(way) => ways.push(way),
            Err(NicError::Refused { reason, .. }) => {
                refused += 1;
                assert!(reason.contains("engine.flows"), "{reason}");
            }
            Err(error) => panic!("{error}"),
        }
        first.goes_on();
    }
    assert!(!ways.is_empty() && refused > 0, "{} ways, {refused} refused", ways.len());
}
