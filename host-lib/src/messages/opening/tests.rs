use std::time::Duration;

use super::super::receiver::Receiver;
use super::*;
use crate::region::{Access, Export, Region};
use crate::session::Session;

const SERVICE: u16 = 3;
const LONG: Duration = Duration::from_secs(60);

/// An application that sends messages to itself.
struct Scene {
    receiving: Session,
    session: Session,
    remote: RemoteRegion,
    _export: Export,
    _region: Region,
    nic: Nic,
}

fn scene() -> Scene {
    let nic = Nic::inline(Default::default()).unwrap();
    let region = nic.region(4096).create().unwrap();
    let export = region.export(Access::CALL).unwrap();
    let receiving = nic.session().receive_buffers(16, 2048).open().unwrap();
    let session = nic.session().open().unwrap();
    let remote = session.connect(&export.ticket()).unwrap();
    Scene { receiving, session, remote, _export: export, _region: region, nic }
}

impl Scene {
    fn begin(&self) -> Opening<'_> {
        Sender::begin(&self.session, &self.remote, SERVICE, 4, 1 << 20).unwrap()
    }

    /// Runs turns until nothing is out.
    fn settle(&self, receiver: &mut Receiver<'_>) {
        let mut idle = 0;
        for _ in 0..10_000 {
            if idle == 50 {
                return;
            }
            assert_eq!(receiver.poll().unwrap().filter(|arrival| arrival.is_ok()).count(), 0);
            assert_eq!(self.session.poll().unwrap().count(), 0);
            let is_idle = self.session.in_use() + self.receiving.in_use() == 0;
            idle = if is_idle { idle + 1 } else { 0 };
        }
        panic!("something stays out");
    }

    fn call(&self, head: &Head, rest: &[u8], receiver: &mut Receiver<'_>) -> Code {
        let request = [head.as_bytes(), rest].concat();
        let call = self.remote.call(SERVICE, &request, VERDICT_BYTES).deadline(LONG);
        let token = self.session.start(&call, false).unwrap().unwrap();
        loop {
            self.session.progress().unwrap();
            assert_eq!(receiver.poll().unwrap().count(), 0);
            if let Some(heard) = heard(&self.session, token) {
                return heard.unwrap().0;
            }
        }
    }
}

/// Wherever its request is when an opening is dropped: on neither side anything is left of it.
#[test]
fn an_opening_that_is_dropped_leaves_nothing_behind() {
    for turns in 0..8 {
        for is_heard in [false, true] {
            let scene = scene();
            let mut receiver = Receiver::open(&scene.receiving, SERVICE).unwrap();
            let mut opening = Some(scene.begin());
            for _ in 0..turns {
                scene.nic.turn().unwrap();
                if is_heard {
                    assert_eq!(receiver.poll().unwrap().count(), 0);
                }
                match opening.take().unwrap().poll().unwrap() {
                    Err(still) => opening = Some(still),
                    // It was quicker.
                    Ok(sender) => {
                        drop(sender);
                        break;
                    }
                }
            }
            let Some(opening) = opening else { continue };
            drop(opening);
            scene.settle(&mut receiver);
            assert!(receiver.channel.is_none(), "after {turns} turns");
            assert_eq!(scene.nic.counters().unwrap().ops_out, 0);
            // Another opens as if nothing had been.
            let mut opening = scene.begin();
            let mut sender = loop {
                assert_eq!(receiver.poll().unwrap().count(), 0);
                match opening.poll().unwrap() {
                    Ok(sender) => break sender,
                    Err(still) => opening = still,
                }
            };
            receiver.post(vec![0; 64]).unwrap();
            let message = loop {
                assert_eq!(receiver.poll().unwrap().count() + sender.poll().unwrap().count(), 0);
                if let Ok(message) = sender.send(0, b"hello", LONG) {
                    break message;
                }
            };
            let mut sent = Vec::new();
            while sent.is_empty() {
                assert!(receiver.poll().unwrap().all(|arrival| arrival.is_ok()));
                sent.extend(sender.poll().unwrap());
            }
            assert_eq!((sent[0].message, sent[0].outcome), (message, Ok(())));
        }
    }
}

#[test]
fn an_opening_that_comes_after_it_was_given_up_opens_nothing() {
    let scene = scene();
    let mut receiver = Receiver::open(&scene.receiving, SERVICE).unwrap();
    let engine = Engine::at(scene.nic.address());
    let open = |channel| {
        let mut head = Head::new(OPEN, channel);
        head.stream = 1.into();
        head
    };
    assert_eq!(scene.call(&open(1), engine.as_bytes(), &mut receiver), Code::Done);
    // Channel 2 is closed before it is opened: the other goes on.
    assert_eq!(scene.call(&Head::new(CLOSE, 2), &[], &mut receiver), Code::Closed);
    assert_eq!(scene.call(&open(2), engine.as_bytes(), &mut receiver), Code::Closed);
    assert_eq!(receiver.channel.as_ref().map(|channel| channel.id), Some(1));
    assert_eq!(scene.call(&open(3), engine.as_bytes(), &mut receiver), Code::Done);
    assert_eq!(scene.call(&Head::new(CLOSE, 1), &[], &mut receiver), Code::Closed);
    assert_eq!(receiver.channel.as_ref().map(|channel| channel.id), Some(3));
    assert_eq!(scene.call(&Head::new(CLOSE, 3), &[], &mut receiver), Code::Closed);
    assert!(receiver.channel.is_none());
}
