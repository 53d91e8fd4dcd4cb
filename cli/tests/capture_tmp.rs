#![allow(clippy::unwrap_used, clippy::panic)]
mod nic;
use nic::*;
use nic_host::{Access, Endpoint, Nic};
use std::time::Duration;
#[test]
fn capture() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.sock"), folder.path().join("b.sock"));
    let (pa, pb) = (a.to_str().unwrap().to_owned(), b.to_str().unwrap().to_owned());
    let mut _ea = Running::start(&["serve", "--socket", &pa]);
    let mut _eb = Running::start(&["serve", "--socket", &pb]);
    for p in [&pa, &pb] { await_true("no", || nic(&["status", "--socket", p]).status.success()); }
    let owner = Nic::connect(Endpoint::Path(b)).unwrap();
    let region = owner.region(1 << 20).create().unwrap();
    let export = region.export(Access::READ.and(Access::WRITE).and(Access::CALL)).unwrap();
    let serving = owner.session().receive_buffers(4, 1024).open().unwrap();
    serving.serve(7).unwrap();
    let ticket = export.ticket();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let its = stop.clone();
    let thread = std::thread::spawn(move || {
        let app = Nic::connect(Endpoint::Path(a)).unwrap();
        let session = app.session().open().unwrap();
        let remote = session.connect(&ticket).unwrap();
        let call = session.submit(remote.call(7, b"?", 64).deadline(Duration::from_secs(3600))).unwrap();
        while !its.load(std::sync::atomic::Ordering::Relaxed) {
            session.run(remote.read(0..64)).unwrap();
        }
        drop(call);
    });
    let file = std::fs::File::create("/tmp/cap2.txt").unwrap();
    use std::io::Write;
    let mut file = file;
    for command in [&["top", "--once"][..], &["status"], &["ops"]] {
        for p in [&pa, &pb] {
            let out = succeed(&[command, &["--socket", p]].concat()).stdout;
            writeln!(file, "== {command:?} {p}\n{}", String::from_utf8(out).unwrap()).unwrap();
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    thread.join().unwrap();
}
