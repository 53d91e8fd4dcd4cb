//! Two engine processes, targets and initiators on both, all of which may be killed.

use std::path::PathBuf;

use nic_engine::daemon::WaitMode;
use nic_host::{Access, Endpoint, Nic};
use nic_ports::Random;
use nic_tests::children::{self, Child, LoadOptions, Role, TargetOptions, Waiting};
use nic_tests::wire::{Wire, WireKind};
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
/// By engine, its name and how it waits.
const ENGINES: [(&str, WaitMode); 2] = [("left", WaitMode::Adaptive), ("right", WaitMode::Block)];

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
    /// By engine, what it has open while it serves nobody.
    idle: Vec<Residue>,
    wire: Wire,
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
            idle: Vec::new(),
            wire: Wire::new(WireKind::of_environment()),
        };
        // One may wait for the other before it answers.
        scene.engines = (0..ENGINES.len()).map(|engine| scene.spawn_engine(engine)).collect();
        for engine in 0..ENGINES.len() {
            scene.await_engine(engine);
        }
        meet(&scene.nic(0), &scene.nic(1));
        scene.idle = (0..ENGINES.len()).map(|engine| scene.idle_engine(engine)).collect();
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

    fn spawn_engine(&self, engine: usize) -> Child {
        let (name, wait) = ENGINES[engine];
        let file = self.folder.path().join(format!("{name}.toml"));
        let config = self.wire.config(engine, &self.socket(engine), wait);
        self.wire.start(engine, PROGRAM, &file, &config)
    }

    fn await_engine(&mut self, engine: usize) {
        let socket = self.socket(engine);
        drop(children::connect(&mut self.engines[engine], &socket));
    }

    fn start_engine(&mut self, engine: usize) {
        self.engines[engine] = self.spawn_engine(engine);
        self.await_engine(engine);
    }

    /// What an engine has open once it has forgotten whoever was there.
    fn idle_engine(&self, engine: usize) -> Residue {
        let nic = self.nic(engine);
        while nic.status().unwrap().matches("\"pid\"").count() > 2 {}
        Residue::of(&self.engines[engine])
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
        for target in (0..self.targets.len()).filter(|target| self.reaches(load, *target)) {
            child.ask(&self.ticket_line(target));
        }
        child
    }

    fn ticket_line(&self, target: usize) -> String {
        let ticket = |name: &str| self.targets[target].tickets[name].as_str().unwrap();
        format!("target {target} {} {}", ticket("data"), ticket("table"))
    }

    /// Whether a load can use a target.
    fn reaches(&self, load: usize, target: usize) -> bool {
        self.wire.kind.reaches_itself() || LOADS[load].0 != TARGETS[target]
    }

    /// What a load is told to complete some ops on each of these targets that it reaches, if it
    /// reaches any.
    fn pulse_line(&self, load: usize, on: &[usize]) -> Option<String> {
        let reached = on.iter().filter(|target| self.reaches(load, **target));
        let places: Vec<_> = reached.map(usize::to_string).collect();
        (!places.is_empty()).then(|| format!("pulse {}", places.join(",")))
    }

    /// Has every load but the `absent` complete some ops on each of these targets.
    pub fn pulse(&mut self, on: &[usize], absent: &[usize]) {
        let present = (0..self.loads.len()).filter(|load| !absent.contains(load));
        let told: Vec<_> =
            present.filter_map(|load| Some((load, self.pulse_line(load, on)?))).collect();
        for (load, line) in &told {
            self.loads[*load].tell(line);
        }
        for (load, _) in told {
            let account = self.loads[load].answer();
            self.tally.add(&account);
        }
    }

    /// Lets some ops be done, so that what comes next meets any point of them.
    pub fn some_load(&mut self) {
        for _ in 0..self.random.below(3) {
            let load = self.random.below(self.loads.len() as u64) as usize;
            let others: Vec<_> = (0..self.loads.len()).filter(|other| *other != load).collect();
            self.pulse(&all_targets(), &others);
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
                    self.tell_all(*target, &format!("gone {target}"));
                }
                self.start_engine(engine);
                of.iter().for_each(|target| self.hear_all(*target));
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
    /// one at once, one in good order. What is left is the folder's, and the wire.
    pub fn end_all(mut self) -> (TempDir, Wire, Tally) {
        self.loads.drain(..).for_each(Child::kill);
        self.targets.drain(..).for_each(|target| target.child.kill());
        for engine in 0..ENGINES.len() {
            let nic = self.nic(engine);
            self.idle[engine].wait_for(&self.engines[engine], &nic);
        }
        let right = self.engines.pop().unwrap();
        right.kill();
        let mut left = self.engines.pop().unwrap();
        left.signal(Signal::TERM);
        assert!(left.end().success());
        (self.folder, self.wire, self.tally)
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
        self.tell_all(target, &line);
        self.hear_all(target);
    }

    /// Tells each load that reaches a target.
    fn tell_all(&mut self, target: usize, line: &str) {
        for load in (0..LOADS.len()).filter(|load| self.reaches(*load, target)).collect::<Vec<_>>()
        {
            self.loads[load].tell(line);
        }
    }

    /// Takes an answer from each load that reaches a target.
    fn hear_all(&mut self, target: usize) {
        for load in (0..LOADS.len()).filter(|load| self.reaches(*load, target)).collect::<Vec<_>>()
        {
            self.loads[load].answer();
        }
    }
}

/// Has two engines exchange an op, after which each has all open that it needs for the other.
fn meet(left: &Nic, right: &Nic) {
    let region = right.region(4096).create().unwrap();
    let export = region.export(Access::READ).unwrap();
    let session = left.session().open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    session.run(remote.read(0..64)).unwrap();
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
