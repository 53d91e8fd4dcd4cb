//! Who may use an engine process.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nic_tests::children::{self, Child, Role};

use super::{PROGRAM, Place, Waiting};

/// A user and a group that nothing here belongs to.
const STRANGER: u32 = 65_533;

#[test]
fn the_socket_is_its_owners_alone_unless_told_otherwise() {
    let place = Place::new();
    let _engine = place.daemon("target", "");
    let mode = std::fs::metadata(place.socket("target")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// A daemon whose socket anybody may reach, and who else may use it.
fn open_daemon(place: &Place, allow: &str) -> Child {
    let config = place.folder.path().join("open.toml");
    let socket = place.socket("open");
    let text = format!("socket = {socket:?}\nsocket_mode = 0o666\n{allow}\n");
    std::fs::write(&config, text).unwrap();
    let anybody = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(place.folder.path(), anybody).unwrap();
    let mut daemon = Child::start(PROGRAM, &Role::Daemon(config));
    drop(children::connect(&mut daemon, &socket));
    daemon
}

/// What an application of another user says on standard error before it ends.
fn stranger(place: &Place, tickets: &super::Tickets, user: u32, group: u32) -> String {
    // Where the program was built nobody else may look.
    let program = place.folder.path().join("program");
    if !program.exists() {
        // By another process: a child that some other test starts meanwhile would inherit the
        // file as one that is being written, and such a file cannot be run.
        assert!(Command::new("cp").arg(PROGRAM).arg(&program).status().unwrap().success());
    }
    let options = place.options("open", Waiting::Block, tickets);
    let role = serde_json::to_string(&Role::Application(options)).unwrap();
    let mut command = Command::new(program);
    command.arg(role).stdin(Stdio::null()).uid(user).gid(group);
    String::from_utf8(command.output().unwrap().stderr).unwrap()
}

#[test]
#[ignore = "needs root: sudo -E cargo test -p nic-tests --test processes -- --include-ignored"]
fn other_users_are_let_in_only_if_the_configuration_says_so() {
    assert!(rustix::process::geteuid().is_root(), "this test takes on other users' identities");
    let place = Place::new();
    let daemon = open_daemon(&place, "");
    let (_target, tickets) = place.target("open", Waiting::Block);
    let said = stranger(&place, &tickets, STRANGER, STRANGER);
    assert!(said.contains("user 65533 may not use this engine"), "{said}");
    assert!(said.contains("allow_users") && said.contains("allow_groups"), "{said}");
    drop(daemon);

    for allow in ["allow_users = [65533]", "allow_groups = [65533]"] {
        let place = Place::new();
        let _daemon = open_daemon(&place, allow);
        let (_target, tickets) = place.target("open", Waiting::Block);
        let said = stranger(&place, &tickets, STRANGER, STRANGER);
        assert_eq!(said, "", "{allow}");
        let said = stranger(&place, &tickets, STRANGER - 1, STRANGER - 1);
        assert!(said.contains("user 65532 may not use this engine"), "{allow}: {said}");
    }
    // A supplementary group does as well.
    let place = Place::new();
    let _daemon = open_daemon(&place, "allow_groups = [\"root\"]");
    let (_target, tickets) = place.target("open", Waiting::Block);
    assert_eq!(stranger(&place, &tickets, STRANGER, 0), "");
}

#[test]
fn a_name_that_nobody_has_is_refused() {
    let place = Place::new();
    let path = place.folder.path().join("typo.toml");
    std::fs::write(&path, "allow_users = [\"no-such-user\"]\n").unwrap();
    let said = super::refusals::refusal(&path, nic_engine::daemon::Exit::Config);
    assert!(said.contains("allow_users") && said.contains("no-such-user"), "{said}");
}
