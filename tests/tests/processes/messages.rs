//! Messages between real processes: in order, whole, and with an end for each when a side is killed.

use std::path::PathBuf;
use std::time::Duration;

use nic_host::messages::{MESSAGE_BYTES_MAX, ReceiveError, Receiver, SendError, Sender};
use nic_host::{Access, Fate, Nic, Session, Status};
use nic_shm::ControlListener;
use nic_tests::children::{self, Child, MessagesEngine, MessagesOptions, Role};
use nic_tests::messages::{MESSAGES, STREAMS, message, on_ring};
use rustix::process::Signal;

use super::{LONG, PROGRAM, Place};

/// How the two sides reach each other.
#[derive(Clone, Copy, Debug)]
enum By {
    /// A daemon each, on UDP.
    Udp,
    /// An engine inside each application, joined by a ring.
    Ring,
}

/// A receiver in a process of its own, and what a sender here needs.
struct Scene {
    receiver: Child,
    nic: Nic,
    session: Session,
    ticket: String,
    _daemons: Vec<Child>,
    place: Place,
}

fn scene(by: By) -> Scene {
    let place = Place::new();
    let messenger = |engine| {
        let options = MessagesOptions { engine, receiver: None };
        Child::start(PROGRAM, &Role::Messages(options))
    };
    let (mut receiver, nic, _daemons) = match by {
        By::Udp => {
            let daemons = ["target", "initiator"].map(|name| place.daemon(name, ""));
            let receiver = messenger(MessagesEngine::Daemon(place.socket("target")));
            (receiver, place.nic("initiator"), daemons.into())
        }
        By::Ring => {
            let path: PathBuf = place.socket("ring");
            let listener = ControlListener::bind(&path, 0o600).unwrap();
            let receiver = messenger(MessagesEngine::Ring(path));
            let socket = loop {
                if let Some(socket) = listener.accept().unwrap() {
                    break socket;
                }
            };
            (receiver, on_ring(&socket, true).unwrap(), Vec::new())
        }
    };
    let ticket = receiver.answer()["ticket"].as_str().unwrap().to_owned();
    let session = nic.session().open().unwrap();
    Scene { receiver, nic, session, ticket, _daemons, place }
}

impl Scene {
    fn sender(&self) -> Sender<'_> {
        let remote = self.session.connect(&self.ticket.parse().unwrap()).unwrap();
        Sender::open(&self.session, &remote, MESSAGES, STREAMS, MESSAGE_BYTES_MAX).unwrap()
    }

    /// How many requests have reached the engine on this side.
    fn requests_received(&self) -> u64 {
        match self.nic.counters() {
            Some(counters) => counters.requests_received,
            None => self.place.counter("initiator", "requests_received"),
        }
    }
}

fn messages_arrive(by: By) {
    let mut scene = scene(by);
    let mut sender = scene.sender();
    // One after the other, of all sizes, the longest included.
    let mut numbers = [0_u64; STREAMS as usize];
    let mut next = |stream: u16| {
        let number = &mut numbers[usize::from(stream)];
        *number += 1;
        *number - 1
    };
    for length in [8, 1000, 1024, 1025, 1400, 5000, 1 << 20, MESSAGE_BYTES_MAX as usize] {
        let bytes = message(0, next(0), length);
        sender.deliver(0, &bytes, LONG).unwrap();
    }
    // Many at a time in several streams, with no more credit than buffers.
    let (mut sent, mut over) = (0, 0);
    while over < 400 {
        while sent < 400 {
            let stream = (sent % u64::from(STREAMS)) as u16;
            let number = numbers[usize::from(stream)];
            let length = if sent % 7 == 0 { 300_000 } else { 8 + (sent as usize * 37) % 3000 };
            match sender.send(stream, &message(stream, number, length), LONG) {
                Ok(_) => (numbers[usize::from(stream)], sent) = (number + 1, sent + 1),
                Err(error) => {
                    assert_eq!(error, SendError::Full);
                    break;
                }
            }
        }
        sender.wait(LONG).unwrap();
        for done in sender.poll().unwrap() {
            assert_eq!(done.outcome, Ok(()));
            over += 1;
        }
    }
    drop(sender);
    // Its application looks at a message a moment after it has been received.
    let counts = loop {
        let seen = scene.receiver.ask("seen");
        let counts = ["good", "wrong", "failed"].map(|name| seen[name].as_u64().unwrap());
        if counts.iter().sum::<u64>() >= 408 {
            break counts;
        }
        std::thread::yield_now();
    };
    assert_eq!(counts, [408, 0, 0], "{by:?}");
}

#[test]
fn messages_arrive_whole_and_in_order_over_udp() {
    messages_arrive(By::Udp);
}

#[test]
fn messages_arrive_whole_and_in_order_over_a_ring() {
    messages_arrive(By::Ring);
}

fn killed_receiver(by: By) {
    let scene = scene(by);
    let mut sender = scene.sender();
    let before = scene.requests_received();
    let bytes = message(0, 0, MESSAGE_BYTES_MAX as usize);
    let deadline = Duration::from_secs(3);
    let long = sender.send(0, &bytes, deadline).unwrap();
    let behind = sender.send(0, b"behind", deadline).unwrap();
    // Some of its pieces have been read.
    while scene.requests_received() < before + 40 {
        assert_eq!(sender.poll().unwrap().count(), 0);
    }
    scene.receiver.stop();
    assert_eq!(sender.poll().unwrap().count(), 0, "64 MiB take longer than 40 pieces");
    scene.receiver.signal(Signal::KILL);
    let mut over = Vec::new();
    while over.len() < 2 {
        sender.wait(LONG).unwrap();
        over.extend(sender.poll().unwrap());
    }
    for message in [long, behind] {
        let ends: Vec<_> = over.iter().filter(|sent| sent.message == message).collect();
        let [sent] = ends[..] else { panic!("a message ends once, found {ends:?}") };
        let Err(SendError::Failed { status, fate }) = sent.outcome else { panic!("{sent:?}") };
        let known = [Status::ServiceFailed, Status::PeerLost, Status::Expired];
        assert!(known.contains(&status), "{status}");
        assert_eq!(fate, Fate::Unknown);
    }
    // Nothing reads the memory any more: it is the sender's again.
    assert!(sender.draft(MESSAGE_BYTES_MAX as u32).is_some());
    // It says so when more is sent, at once or when the deadline has passed.
    let refused = sender.deliver(0, b"to nobody", Duration::from_millis(100));
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn a_receiver_killed_in_the_middle_of_64_mib_over_udp_is_told_to_its_sender() {
    killed_receiver(By::Udp);
}

#[test]
fn a_receiver_killed_in_the_middle_of_64_mib_over_a_ring_is_told_to_its_sender() {
    killed_receiver(By::Ring);
}

#[test]
fn a_sender_killed_in_the_middle_of_64_mib_is_told_to_its_receiver_and_another_goes_on() {
    let place = Place::new();
    let _daemons = ["target", "initiator"].map(|name| place.daemon(name, ""));
    let nic = place.nic("target");
    let region = nic.region(4096).create().unwrap();
    let export = region.export(Access::CALL).unwrap();
    let session = nic.session().receive_buffers(16, 2048).open().unwrap();
    let mut receiver = Receiver::open(&session, MESSAGES).unwrap();
    receiver.post(vec![0; MESSAGE_BYTES_MAX as usize]).unwrap();
    let start = |receiver: &mut Receiver<'_>| {
        let options = MessagesOptions {
            engine: MessagesEngine::Daemon(place.socket("initiator")),
            receiver: Some(export.ticket().to_string()),
        };
        let mut child = Child::start(PROGRAM, &Role::Messages(options));
        // Its channel is opened while this side looks.
        while child.has_said_nothing() {
            assert_eq!(receiver.poll().unwrap().count(), 0);
        }
        child.answer();
        child
    };
    let mut first = start(&mut receiver);
    let before = children::engine_counters(&nic)["requests_sent"].as_u64().unwrap();
    first.tell(&format!("send {MESSAGE_BYTES_MAX}"));
    while children::engine_counters(&nic)["requests_sent"].as_u64().unwrap() < before + 40 {
        assert_eq!(receiver.poll().unwrap().count(), 0);
    }
    first.kill();
    let failed = loop {
        receiver.wait(LONG).unwrap();
        if let Some(arrival) = receiver.poll().unwrap().next() {
            break arrival.unwrap_err();
        }
    };
    let ReceiveError::Unread { stream: 0, status } = failed else { panic!("{failed:?}") };
    assert!(matches!(status, Status::Revoked | Status::BadRkey), "{status}");
    assert_eq!(receiver.posted(), 1, "its buffer is posted again");

    let mut second = start(&mut receiver);
    second.tell("send 1000000");
    let received = loop {
        receiver.wait(LONG).unwrap();
        if let Some(arrival) = receiver.poll().unwrap().next() {
            break arrival.unwrap();
        }
    };
    assert!(received.bytes() == message(0, 0, 1_000_000));
    while second.has_said_nothing() {
        assert_eq!(receiver.poll().unwrap().count(), 0);
    }
    second.answer();
}
