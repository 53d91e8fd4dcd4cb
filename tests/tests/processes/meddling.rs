//! Applications that spoil what they share with their engine harm nobody but themselves.

use std::time::Duration;

use nic_host::Nic;
use nic_tests::children::{Child, Role, Waiting};
use nic_tests::sample::WORDS;

use super::{PROGRAM, Place};

#[test]
fn bells_that_were_made_to_block_stop_no_engine() {
    let place = Place::new();
    // It sleeps after every turn, so that it is woken for every op.
    let _daemon = place.daemon("target", "wait = \"block\"");
    let (_target, tickets) = place.target("target", Waiting::Block);
    let options = place.options("target", Waiting::Block, &tickets);
    let mut meddler = Child::start(PROGRAM, &Role::Meddler(options));

    let (local, remote) = (place.nic("target"), Nic::inline(Default::default()).unwrap());
    let sessions = [&local, &remote].map(|nic| nic.session().open().unwrap());
    let work = |count| {
        for session in &sessions {
            let data = tickets.region(session);
            for _ in 0..count {
                let op = data.fetch_add(WORDS.0, 1).deadline(Duration::from_secs(20));
                session.run(op).expect("the engine goes on");
            }
        }
    };
    work(10);
    assert!(meddler.ask("block")["blocking"].as_u64().unwrap() >= 3);
    work(100);
    assert!(meddler.ask("fill")["full"].as_u64().unwrap() >= 1);
    // Its own op may never end: its thread stands at a bell that it has filled.
    meddler.tell("op");
    work(100);
}
