//! Real daemons and applications, each a process of its own: waiting, deadlines, and every kind of
//! death.
//!
//! Nothing here waits by the clock: what is waited for is looked for, and what is asserted are
//! statuses, fates and counts.

// Helpers of tests fail like the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

mod admission;
mod answers;
mod control;
mod deaths;
mod draining;
mod handles;
mod meddling;
mod messages;
mod persistence;
mod quotas;
mod refusals;
mod waiting;

use std::path::PathBuf;
use std::time::Duration;

use nic_host::{Endpoint, Fate, Nic, OpError, RemoteRegion, RemoteTable, Session, Status};
use nic_tests::children::{self, ApplicationOptions, Child, Role, TargetOptions, Waiting};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_nic-tests");
const KEYS: u64 = 1_000;
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(3_000);

/// Daemons and applications in a folder of their own.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.sock"))
    }

    /// A configuration file.
    fn config(&self, name: &str, engine: &str) -> PathBuf {
        let path = self.folder.path().join(format!("{name}.toml"));
        let text = format!("socket = {:?}\n\n[engine]\n{engine}\n", self.socket(name));
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A daemon that answers. `engine` is its configuration's table of that name.
    fn daemon(&self, name: &str, engine: &str) -> Child {
        let mut daemon = Child::start(PROGRAM, &Role::Daemon(self.config(name, engine)));
        drop(children::connect(&mut daemon, &self.socket(name)));
        daemon
    }

    fn nic(&self, name: &str) -> Nic {
        Nic::connect(Endpoint::Path(self.socket(name))).unwrap()
    }

    /// A target application on a daemon, and its tickets.
    fn target(&self, name: &str, waiting: Waiting) -> (Child, Tickets) {
        let options = TargetOptions { socket: self.socket(name), waiting, keys: KEYS };
        let mut target = Child::start(PROGRAM, &Role::Target(options));
        let tickets = Tickets(target.answer());
        (target, tickets)
    }

    fn application(&self, name: &str, waiting: Waiting, tickets: &Tickets) -> Child {
        Child::start(PROGRAM, &Role::Application(self.options(name, waiting, tickets)))
    }

    fn options(&self, name: &str, waiting: Waiting, tickets: &Tickets) -> ApplicationOptions {
        ApplicationOptions { socket: self.socket(name), waiting, data: tickets.data().to_owned() }
    }

    fn counter(&self, name: &str, counter: &str) -> u64 {
        children::engine_counters(&self.nic(name))[counter].as_u64().unwrap()
    }
}

/// What a target application has exported.
struct Tickets(Value);

impl Tickets {
    fn data(&self) -> &str {
        self.0["data"].as_str().unwrap()
    }

    fn region(&self, session: &Session) -> RemoteRegion {
        session.connect(&self.data().parse().unwrap()).unwrap()
    }

    fn table(&self, session: &Session) -> RemoteTable {
        RemoteTable::open(session, &self.0["table"].as_str().unwrap().parse().unwrap()).unwrap()
    }
}

/// How an op failed.
fn failure<T: std::fmt::Debug>(result: Result<T, OpError>) -> (Status, Fate) {
    match result {
        Err(OpError::Failed { status, fate, .. }) => (status, fate),
        other => panic!("expected a failed op, found {other:?}"),
    }
}

/// Whether every thread of a process sleeps.
fn sleeps(child: &Child) -> bool {
    child.states().iter().all(|state| *state == 'S')
}
