//! What applications ask of their engine process: answered, however long the answer is, or refused
//! in time.

use std::time::{Duration, Instant};

use nic_host::{Endpoint, Nic, NicError};
use nic_shm::ControlSocket;
use nic_tests::children::{Child, Waiting};
use nic_wire::control::{self, ControlRequest};
use nic_wire::session::LAYOUT_VERSION;
use rustix::fd::OwnedFd;
use rustix::fs::FileType;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use serde_json::Value;

use super::{LONG, Place};

fn status(nic: &Nic) -> Value {
    serde_json::from_str(&nic.status().unwrap()).unwrap()
}

#[test]
fn a_stopped_engine_keeps_nobody_for_ever_and_goes_on_where_it_was() {
    let place = Place::new();
    let engine = place.daemon("target", "");
    let (_target, tickets) = place.target("target", Waiting::Adaptive);
    let patience = Duration::from_millis(50);
    let nic = place.nic("target").patience(LONG);
    let session = nic.session().open().unwrap();
    let dropped = nic.session().open().unwrap();
    let data = tickets.region(&session);
    let nic = nic.patience(patience);

    engine.stop();
    let begin = Instant::now();
    for _ in 0..3 {
        let silent = nic.status().unwrap_err();
        assert!(matches!(silent, NicError::EngineSilent { waited } if waited == patience));
    }
    assert!(begin.elapsed() >= 3 * patience);
    drop(dropped);
    let opened = nic.session().open().map(drop);
    assert!(matches!(opened, Err(NicError::EngineSilent { .. })), "{opened:?}");

    engine.resume();
    // The answers that nobody waited for come first, and are taken for no others'.
    let nic = nic.patience(LONG);
    let again = nic.session().open().unwrap();
    assert_eq!(tickets.region(&again).ticket(), data.ticket());
    session.run(data.read(0..64)).unwrap();
    again.run(tickets.region(&again).read(0..64)).unwrap();
    assert!(!session.is_lost() && !again.is_lost());
    let own = u64::from(std::process::id());
    let applications = status(&nic);
    let mut applications = applications["applications"].as_array().unwrap().iter();
    let entry = applications.find(|entry| entry["pid"] == own).unwrap();
    // This one, the one opened after, and the one whose answer came too late.
    assert_eq!(entry["sessions"], 3, "the one that was dropped is closed: {entry}");
}

/// An answer that comes late makes the socket readable, as the end of the engine would.
#[test]
fn a_late_answer_is_not_the_end() {
    let place = Place::new();
    let engine = place.daemon("target", "");
    let (_target, tickets) = place.target("target", Waiting::Adaptive);
    let nic = place.nic("target");
    let session = nic.session().wait(nic_host::Wait::Block).open().unwrap();
    let data = tickets.region(&session);
    let nic = nic.patience(Duration::from_millis(20));
    engine.stop();
    assert!(matches!(nic.status(), Err(NicError::EngineSilent { .. })));
    engine.resume();
    for _ in 0..100 {
        session.run(data.read(0..64).deadline(LONG)).unwrap();
    }
    assert!(!session.is_lost());
}

/// Copies of all sockets of a process: as a child has them that it forked.
fn sockets_of(child: &Child) -> Vec<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(child.pid()).unwrap()).unwrap();
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let folder = std::fs::read_dir(format!("/proc/{}/fd", child.pid())).unwrap();
    let numbers = folder.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap());
    let copies = numbers.filter_map(|number: i32| {
        let copy = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok()?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&copy).unwrap().st_mode);
        (kind == FileType::Socket).then_some(copy)
    });
    copies.collect()
}

#[test]
fn a_dead_engine_is_noticed_though_its_sockets_live() {
    let place = Place::new();
    let engine = place.daemon("target", "");
    let nic = place.nic("target").patience(LONG);
    let session = nic.session().open().unwrap();
    let heirs = sockets_of(&engine);
    assert!(heirs.len() >= 2, "its listener and our connection");
    engine.kill();
    assert!(matches!(nic.status(), Err(NicError::EngineLost)));
    assert!(session.wait(LONG).unwrap() && session.is_lost());
    let opened = nic.session().open().map(drop);
    assert!(matches!(opened, Err(NicError::EngineLost)), "{opened:?}");
    drop(session);
    drop(heirs);
}

/// Applications that hang up before their hello is answered leave nothing behind in the engine.
#[test]
fn who_hangs_up_at_once_takes_no_place() {
    let place = Place::new();
    // An engine that sleeps takes its time to answer.
    let _engine = place.daemon("target", "wait = \"block\"\nclients = 4");
    let layout_version = LAYOUT_VERSION;
    let hello = ControlRequest::Hello { layout_version, name: "gone".to_owned(), engine: None };
    let mut message = [0; 64];
    let length = control::encode(&hello, &mut message).unwrap();
    for _ in 0..200 {
        let socket = ControlSocket::connect(&place.socket("target")).unwrap();
        socket.send(&message[..length], &[]).unwrap();
        drop(socket);
    }
    // The last of them may still be on their way out.
    let begin = Instant::now();
    let nic = loop {
        assert!(begin.elapsed() < Duration::from_secs(60), "the places of the gone are taken");
        match Nic::connect(Endpoint::Path(place.socket("target"))) {
            Ok(nic) => break nic,
            Err(NicError::Refused { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    };
    while status(&nic)["applications"].as_array().unwrap().len() > 1 {}
    let _others: Vec<Nic> = (0..3).map(|_| place.nic("target")).collect();
}

#[test]
fn the_status_is_told_however_long_it_is() {
    let place = Place::new();
    let _engine = place.daemon("target", "clients = 200\nsessions = 200");
    let nics: Vec<Nic> = (0..130).map(|_| place.nic("target")).collect();
    let open = |nic: &Nic| nic.session().depth(2).arena(4096).open().unwrap();
    let sessions: Vec<_> = nics.iter().take(64).map(open).collect();
    let text = nics[0].status().unwrap();
    assert!(text.len() > 16 * 1024, "{} bytes fit one message", text.len());
    let status: Value = serde_json::from_str(&text).unwrap();
    let applications = status["applications"].as_array().unwrap();
    assert_eq!(applications.len(), nics.len());
    let with_session = applications.iter().filter(|one| one["sessions"] == 1).count();
    assert_eq!(with_session, sessions.len());
    let own = rustix::process::geteuid().as_raw();
    assert!(applications.iter().all(|one| one["user"] == own && one["regions"] == 0));
}
