//! What is refused: forked children, revoked regions, daemons that cannot be.

use std::path::Path;
use std::process::Command;

use nic_engine::daemon::Exit;
use nic_host::{
    Access, Ask, Export, Facts, Fate, KernelId, Nic, Op, OpError, Operation, Region, RemoteRegion,
    Reply, Session, Status,
};
use nic_tests::children::{Child, Role, Waiting};

use super::{PROGRAM, Place, failure};

#[test]
fn a_forked_child_is_refused_and_its_parent_goes_on() {
    let place = Place::new();
    let _daemon = place.daemon("target", "");
    let (_target, tickets) = place.target("target", Waiting::Adaptive);
    let options = place.options("target", Waiting::Adaptive, &tickets);
    let mut forker = Child::start(PROGRAM, &Role::Forker(options));
    let outcome = forker.answer();
    assert_eq!(outcome["child"], 0, "the child was refused everything: {outcome}");
    assert_eq!(outcome["parent_reads"], 64, "{outcome}");
}

/// An op of a kernel that the daemon was not built with.
struct Foreign {
    remote: u16,
    kernel: KernelId,
}

impl Operation for Foreign {
    type Output = ();

    fn ask(&self) -> Ask<'_> {
        Ask::new(self.kernel, self.remote, &[7; 24]).payload(b"payload").reply(64)
    }

    fn result(_: &Facts, _: Reply) -> Result<(), OpError> {
        Ok(())
    }
}

/// A region that its owner has exported for reading and writing, and a way to it from another engine.
struct Exported {
    region: Region,
    export: Export,
    session: Session,
    remote: RemoteRegion,
    _nics: [Nic; 2],
    _daemon: Child,
    _place: Place,
}

fn exported() -> Exported {
    let place = Place::new();
    let daemon = place.daemon("target", "");
    let owner = place.nic("target");
    let region = owner.region(1 << 16).create().unwrap();
    let export = region.export(Access::READ.and(Access::WRITE)).unwrap();
    let nic = Nic::inline(Default::default()).unwrap();
    let session = nic.session().open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    let (_nics, _daemon, _place) = ([owner, nic], daemon, place);
    Exported { region, export, session, remote, _nics, _daemon, _place }
}

#[test]
fn a_kernel_that_the_target_was_not_built_with_is_refused() {
    let Exported { session, remote, .. } = &exported();
    for number in [0x8000, 0x8001, 0xffff, 31, 0x7fff] {
        let op = Op::new(Foreign { remote: remote.remote(), kernel: KernelId(number) });
        let outcome = failure(session.run(op));
        assert_eq!(outcome, (Status::UnknownKernel, Fate::NotExecuted), "{number:#x}");
        session.run(remote.write(0, &number.to_le_bytes())).unwrap();
    }
}

#[test]
fn a_revoked_region_is_out_of_reach_when_revoke_returns() {
    // All of it stays to the end.
    let Exported { region, export, session, remote, _nics, _daemon, _place } = exported();
    session.run(remote.write(0, b"before")).unwrap();

    // Ops are under way when the owner takes its region back.
    let under_way: Vec<_> =
        (0..64u64).map(|_| session.submit(remote.write(64, &[7; 64])).unwrap()).collect();
    session.poll().unwrap().for_each(drop);
    export.revoke().unwrap();
    let mut after = [0; 64];
    region.memory().read(64, &mut after).unwrap();
    assert_eq!(
        failure(session.run(remote.write(64, &[9; 64]))),
        (Status::Revoked, Fate::NotExecuted)
    );
    assert_eq!(failure(session.run(remote.read(0..8))), (Status::Revoked, Fate::NotExecuted));
    // Since revoke returned, no byte has changed, whatever was under way.
    let mut later = [0; 64];
    region.memory().read(64, &mut later).unwrap();
    assert_eq!(after, later);
    drop(under_way);

    // The region may be exported again; the old ticket stays dead.
    let again = region.export(Access::READ).unwrap();
    let fresh = session.connect(&again.ticket()).unwrap();
    assert_eq!(&*session.run(fresh.read(0..6)).unwrap(), b"before");
    assert_eq!(failure(session.run(remote.read(0..6))).0, Status::Revoked);
    assert_eq!(failure(session.run(fresh.write(0, b"x"))).1, Fate::NotExecuted);
}

/// Starts a daemon that must not start; what it says, and with which code it ends.
pub(super) fn refusal(config: &Path, exit: Exit) -> String {
    let role = serde_json::to_string(&Role::Daemon(config.to_owned())).unwrap();
    // Its input stays open: it is not the end of that which ends the daemon.
    let (input, _open) = std::io::pipe().unwrap();
    let output = Command::new(PROGRAM).arg(role).stdin(input).output().unwrap();
    assert_eq!(output.status.code(), Some(exit.code().into()), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_socket_in_use_is_refused_and_its_owner_undisturbed() {
    let place = Place::new();
    let _daemon = place.daemon("target", "");
    let (_target, tickets) = place.target("target", Waiting::Adaptive);
    let said = refusal(&place.config("target", ""), Exit::Unavailable);
    assert!(said.contains("target.sock"), "{said}");
    let nic = place.nic("target");
    let session = nic.session().open().unwrap();
    session.run(tickets.region(&session).read(0..64)).unwrap();
}

#[test]
fn an_address_in_use_is_refused() {
    let place = Place::new();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = place.config("second", &format!("\n[port]\naddress = \"{address}\""));
    let said = refusal(&config, Exit::Unavailable);
    assert!(said.contains(&address.to_string()) && said.contains("in use"), "{said}");
}

#[test]
fn an_unknown_config_key_is_refused_by_name_and_line() {
    let place = Place::new();
    let said = refusal(&place.config("typo", "wiat = \"spin\""), Exit::Config);
    assert!(said.contains("wiat") && said.contains("typo.toml"), "{said}");
    assert!(said.contains("line 4"), "{said}");
}
