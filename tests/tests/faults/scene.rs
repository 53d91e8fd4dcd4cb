//! Two engine processes, targets and initiators on both, all of which may be killed.

use std::path::PathBuf;

use nic_host::{Endpoint, Nic};
use nic_ports::Random;
use nic_tests::children::{self, Child, LoadOptions, Role, TargetOptions, Waiting};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;
use tempfile::TempDir;

use super::PROGRAM;
use super::residue::Residue;
use super::tally::Tally;

/// Keys in each target's table.
const KEYS: u64 = 100;
/// By target, the engine of its application.
const TARGETS: [usize; 3] = [1, 1, 0];
/// By load, its engine and what it does while it waits.
const LOADS: [(usize, Waiting); 3] =
    [(0, Waiting::Adaptive), (0, Waiting::Block), (1, Waiting::Adaptive)];
/// By engine, its name and how it waits. The right one receives packets at the same address again
/// when it was restarted.
const ENGINES: [(&str, &str); 2] = [("left", "adaptive"), ("right", "block")];

/// A target application and its tickets.
struct Target {
    child: Child,
    tickets: Value,
}

/// See the module.
pub struct Scene {
    pub folder: TempDir,
    pub random: Random,
    pub tally: Tally,
    engines: Vec<Child>,
    targets: Vec<Target>,
    loads: Vec<Child>,
    loads_started: u64,
    /// What an engine has open that serves nobody.
    idle: Residue,
    /// Where the right engine receives packets.
    port: u16,
}

/// A process whose parent was killed. It goes when its input does, or this.
pub struct Orphan {
    pid: i32,
    _parent: Child,
}

impl Drop for Orphan {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.pid).expect("a child's number is not zero");
        let process = pidfd_open(pid, PidfdFlags::empty()).expect("the orphan lived until now");
        kill_process(pid, Signal::KILL).expect("it is ours");
        poll(&mut [PollFd::new(&process, PollFlags::IN)], None).expect("its end can be waited for");
    }
}

/// Who something is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Engine(usize),
    Target(usize),
    Load(usize),
}

impl Scene {
    pub fn new(seed: u64) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let mut scene = Scene {
            folder,
            random: Random::new(seed),
            tally: Tally::default(),
            engines: Vec::new(),
            targets: Vec::new(),
            loads: Vec::new(),
            loads_started: 0,
            idle: Residue::default(),
            port: free_port(),
        };
        for engine in 0..ENGINES.len() {
            let child = scene.start_engine(engine);
            scene.engines.push(child);
        }
        let _probe = scene.nic(0);
        scene.idle = Residue::of(&scene.engines[0]);
        for target in 0..TARGETS.len() {
            let started = scene.start_target(target);
            scene.targets.push(started);
        }
        for load in 0..LOADS.len() {
            let started = scene.start_load(load);
            scene.loads.push(started);
        }
        scene.pulse(&all_targets(), &[]);
        scene
    }

    fn socket(&self, engine: usize) -> PathBuf {
        self.folder.path().join(format!("{}.sock", ENGINES[engine].0))
    }

    pub fn nic(&self, engine: usize) -> Nic {
        Nic::connect(Endpoint::Path(self.socket(engine))).unwrap()
    }

    fn start_engine(&mut self, engine: usize) -> Child {
        let (name, wait) = ENGINES[engine];
        let config = self.folder.path().join(format!("{name}.toml"));
        let socket = self.socket(engine);
        let port = if engine == 1 { self.port } else { 0 };
        let text = format!(
            "socket = {socket:?}\nport.address = \"127.0.0.1:{port}\"\nengine.wait = \"{wait}\"\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Child::start(PROGRAM, &Role::Daemon(config));
        drop(children::connect(&mut child, &socket));
        child
    }

    fn start_target(&self, target: usize) -> Target {
        let socket = self.socket(TARGETS[target]);
        let options = TargetOptions { socket, waiting: Waiting::Adaptive, keys: KEYS };
        let mut child = Child::start(PROGRAM, &Role::Target(options));
        let tickets = child.answer();
        Target { child, tickets }
    }

    fn start_load(&mut self, load: usize) -> Child {
        let (engine, waiting) = LOADS[load];
        let id = self.loads_started;
        self.loads_started += 1;
        let (socket, seed) = (self.socket(engine), self.random.below(u64::MAX));
        let options = LoadOptions { socket, waiting, id, seed, keys: KEYS };
        let mut child = Child::start(PROGRAM, &Role::Load(options));
        for target in 0..self.targets.len() {
            child.ask(&self.ticket_line(target));
        }
        child
    }

    fn ticket_line(&self, target: usize) -> String {
        let ticket = |name: &str| self.targets[target].tickets[name].as_str().unwrap();
        format!("target {target} {} {}", ticket("data"), ticket("table"))
    }

    /// Has every load but the `absent` complete some ops on each of these targets.
    pub fn pulse(&mut self, on: &[usize], absent: &[usize]) {
        let places: Vec<_> = on.iter().map(usize::to_string).collect();
        let line = format!("pulse {}", places.join(","));
        let present = |load: &usize| !absent.contains(load);
        for load in (0..self.loads.len()).filter(present) {
            self.loads[load].tell(&line);
        }
        for load in (0..self.loads.len()).filter(present) {
            let account = self.loads[load].answer();
            self.tally.add(&account);
        }
    }

    /// Lets some ops be done, so that what comes next meets any point of them.
    pub fn some_load(&mut self) {
        for _ in 0..self.random.below(3) {
            let load = self.random.below(self.loads.len() as u64) as usize;
            let account = self.loads[load].ask("pulse 0,1,2");
            self.tally.add(&account);
        }
    }

    /// Someone to do something to.
    pub fn anyone(&mut self) -> Who {
        match self.random.below(10) {
            0..4 => Who::Load(self.random.below(LOADS.len() as u64) as usize),
            4..7 => Who::Target(self.random.below(TARGETS.len() as u64) as usize),
            _ => Who::Engine(self.random.below(ENGINES.len() as u64) as usize),
        }
    }

    /// Kills someone by a signal, has the others go on without, and starts a successor.
    pub fn kill(&mut self, who: Who, signal: Signal) {
        match who {
            Who::Load(load) => {
                self.end(who, signal);
                self.pulse(&all_targets(), &[load]);
                self.loads[load] = self.start_load(load);
            }
            Who::Target(target) => {
                self.end(who, signal);
                self.pulse(&others(target), &[]);
                self.targets[target] = self.start_target(target);
                self.tell_of(target);
            }
            Who::Engine(engine) => {
                self.end(who, signal);
                // Those of the other engine have all that they need.
                let (of, elsewhere): (Vec<_>, Vec<_>) =
                    (0..TARGETS.len()).partition(|target| TARGETS[*target] == engine);
                let lonely: Vec<_> = (0..LOADS.len()).filter(|l| LOADS[*l].0 == engine).collect();
                self.pulse(&elsewhere, &lonely);
                for target in &of {
                    // Those without an engine hear of it before they use a new one.
                    self.tell_all(&format!("gone {target}"));
                }
                self.engines[engine] = self.start_engine(engine);
                self.hear_all(of.len());
                for target in of {
                    // It has ended with its engine, or will: its regions are worth nothing.
                    self.targets[target] = self.start_target(target);
                    self.tell_of(target);
                }
            }
        }
        self.pulse(&all_targets(), &[]);
    }

    /// Stops someone for as long as the others need to go on without.
    pub fn stop(&mut self, who: Who) {
        self.tally.fault(&format!("stop of {}", kind(who)));
        let lenient: Vec<_> = match who {
            Who::Engine(engine) => (0..LOADS.len()).filter(|l| LOADS[*l].0 == engine).collect(),
            Who::Load(load) => vec![load],
            Who::Target(_) => Vec::new(),
        };
        for load in &lenient {
            self.loads[*load].ask("lenient");
        }
        let child = self.child(who);
        child.stop();
        let on = match who {
            Who::Engine(engine) => {
                (0..TARGETS.len()).filter(|target| TARGETS[*target] != engine).collect()
            }
            Who::Load(_) | Who::Target(_) => all_targets(),
        };
        self.pulse(&on, &lenient);
        self.child(who).resume();
        for load in &lenient {
            self.loads[*load].ask("strict");
        }
        self.pulse(&all_targets(), &[]);
    }

    /// Has a load fork, kills it, and returns its child, which lives on with all that the parent
    /// had open.
    pub fn orphan(&mut self, load: usize) -> Orphan {
        let pid = self.loads[load].ask("fork")["child"].as_i64().unwrap() as i32;
        self.tally.fault("fork of an initiator application");
        self.end(Who::Load(load), Signal::KILL);
        self.pulse(&all_targets(), &[load]);
        let successor = self.start_load(load);
        let parent = std::mem::replace(&mut self.loads[load], successor);
        self.pulse(&all_targets(), &[]);
        Orphan { pid, _parent: parent }
    }

    /// Has all loads end their ops, and look whether what they added is there.
    pub fn settle(&mut self) {
        for load in 0..self.loads.len() {
            let account = self.loads[load].ask("settle");
            self.tally.add(&account);
        }
    }

    /// Ends all applications, waits until their engines have forgotten them, and ends the engines:
    /// one at once, one in good order. What is left is the folder's.
    pub fn end_all(mut self) -> (TempDir, Tally) {
        self.loads.drain(..).for_each(Child::kill);
        self.targets.drain(..).for_each(|target| target.child.kill());
        for engine in 0..ENGINES.len() {
            let nic = self.nic(engine);
            self.idle.wait_for(&self.engines[engine], &nic);
        }
        let right = self.engines.pop().unwrap();
        right.kill();
        let mut left = self.engines.pop().unwrap();
        left.signal(Signal::TERM);
        assert!(left.end().success());
        (self.folder, self.tally)
    }

    fn child(&self, who: Who) -> &Child {
        match who {
            Who::Engine(engine) => &self.engines[engine],
            Who::Target(target) => &self.targets[target].child,
            Who::Load(load) => &self.loads[load],
        }
    }

    fn end(&mut self, who: Who, signal: Signal) {
        let how = if signal == Signal::KILL { "kill -9" } else { "end in good order" };
        self.tally.fault(&format!("{how} of {}", kind(who)));
        let child = match who {
            Who::Engine(engine) => &mut self.engines[engine],
            Who::Target(target) => &mut self.targets[target].child,
            Who::Load(load) => &mut self.loads[load],
        };
        child.signal(signal);
        child.end();
    }

    fn tell_of(&mut self, target: usize) {
        let line = self.ticket_line(target);
        self.tell_all(&line);
        self.hear_all(1);
    }

    fn tell_all(&mut self, line: &str) {
        self.loads.iter_mut().for_each(|load| load.tell(line));
    }

    /// Takes so many answers from each load.
    fn hear_all(&mut self, count: usize) {
        for load in &mut self.loads {
            (0..count).for_each(|_| drop(load.answer()));
        }
    }
}

/// A UDP port that nobody has, below those that the system gives to whoever asks for any.
fn free_port() -> u16 {
    let is_free = |port: &u16| std::net::UdpSocket::bind(("127.0.0.1", *port)).is_ok();
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    (first..first + 1_000).find(is_free).expect("some port is free")
}

fn kind(who: Who) -> &'static str {
    match who {
        Who::Engine(_) => "an engine",
        Who::Target(_) => "a target application",
        Who::Load(_) => "an initiator application",
    }
}

fn all_targets() -> Vec<usize> {
    (0..TARGETS.len()).collect()
}

fn others(target: usize) -> Vec<usize> {
    (0..TARGETS.len()).filter(|other| *other != target).collect()
}
