use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use nic_transport::Frames;

use super::*;

/// Runs something in a thread that has nothing but the calls of the filter; others fail with EPERM,
/// so that each can be tried. The thread ends with it: a filter cannot be taken off.
fn filtered<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let programs = strict(SeccompAction::Errno(libc::EPERM as u32)).unwrap();
    let thread = std::thread::spawn(move || {
        programs.iter().for_each(|program| seccompiler::apply_filter(program).unwrap());
        body()
    });
    thread.join().unwrap()
}

fn is_refused<T>(result: std::io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

#[test]
fn what_an_intruder_would_want_is_refused() {
    use rustix::process::{Pid, Signal, kill_process};
    let refused = filtered(|| {
        vec![
            ("open a file", is_refused(File::open("/dev/null"))),
            ("make a file", is_refused(File::create("/tmp/nic-made-by-an-intruder"))),
            ("run a program", is_refused(Command::new("/bin/true").spawn())),
            ("start a thread", is_refused(std::thread::Builder::new().spawn(|| ()))),
            ("connect", is_refused(TcpStream::connect("127.0.0.1:9"))),
            ("listen", is_refused(UdpSocket::bind("127.0.0.1:0"))),
            ("rename", is_refused(std::fs::rename("/nowhere", "/elsewhere"))),
            ("list a folder", is_refused(std::fs::read_dir("/"))),
            (
                "signal others",
                kill_process(Pid::INIT, Signal::CONT) == Err(rustix::io::Errno::PERM),
            ),
            ("change its root", is_refused(std::os::unix::fs::chroot("/"))),
            (
                "change its user",
                rustix::thread::set_thread_uid(rustix::process::Uid::ROOT).is_err(),
            ),
        ]
    });
    for (what, is_refused) in refused {
        assert!(is_refused, "the filter lets a daemon {what}");
    }
}

#[test]
fn a_port_over_io_uring_goes_on_and_no_ring_is_made() {
    use nic_ports::uring::{UringConfig, UringPort, probe};
    use nic_ports::{Burst, Port, Share};
    let open = || UringPort::bind(UringConfig::new(([127, 0, 0, 1], 0).into())).unwrap();
    let (mut left, mut right) = (open(), open());
    let (received, address) = filtered(move || {
        let frame = left.allocate(Share::Request).unwrap();
        left.bytes_mut(frame)[..5].copy_from_slice(b"hello");
        left.submit(frame, 5, right.local_address());
        left.transmit();
        left.release(frame);
        let mut burst = Burst::new(4);
        while right.receive(&mut burst) == 0 {
            if right.prepare_wait() {
                nic_shm::wait_any(&[right.wait_descriptor().unwrap()], None).unwrap();
            }
            right.end_wait();
        }
        let received = right.view(&burst.views()[0]).to_vec();
        right.release_burst(&mut burst);
        (received, right.local_address())
    });
    assert_eq!(received, b"hello");
    // The ports went with the filter on, and let go of their sockets at once.
    UdpSocket::bind(address).unwrap();
    assert!(filtered(|| probe().is_err()));
}

#[test]
fn what_a_daemon_does_is_not_refused() {
    let done = filtered(|| {
        let (mut one, mut other) = UnixStream::pair()?;
        one.set_nonblocking(true)?;
        other.set_read_timeout(Some(std::time::Duration::from_secs(60)))?;
        one.write_all(b"woken")?;
        let mut heard = [0; 5];
        other.read_exact(&mut heard)?;
        let mut memory = nic_shm::SharedMemory::create("filtered", 1 << 16, nic_shm::Pages::Small)
            .map_err(std::io::Error::other)?;
        memory.populate().map_err(std::io::Error::other)?;
        let copy = memory.as_fd().try_clone_to_owned()?;
        let again = nic_shm::SharedMemory::open(copy, 1 << 16);
        again.map(|_| heard).map_err(std::io::Error::other)
    });
    assert_eq!(&done.unwrap(), b"woken");
}

/// Set in the process in which the filter is to kill.
const DOOMED: &str = "NIC_TEST_OF_THE_FILTER";

/// Runs something under the filter that kills, as the test of this name, which is run again, alone in
/// a process of its own: how that ends. It has ended when this returns there.
fn under_the_killer(test: &str, body: impl FnOnce() + Send + 'static) -> std::process::Output {
    if std::env::var_os(DOOMED).is_some() {
        // A thread has an allocator's blocks of its own, as an engine has.
        let doomed = std::thread::spawn(move || {
            for program in programs(Seccomp::Kill).unwrap() {
                seccompiler::apply_filter_all_threads(&program).unwrap();
            }
            body();
            std::process::exit(0);
        });
        let _ = doomed.join();
    }
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("daemon::hardening::filter::tests::{test}")])
        .args(["--test-threads=1", "--nocapture"])
        .env(DOOMED, "1")
        .output()
        .unwrap()
}

#[test]
fn a_refused_call_ends_the_process() {
    let doomed = under_the_killer("a_refused_call_ends_the_process", || {
        let _ = UdpSocket::bind("127.0.0.1:0");
    });
    assert_eq!(doomed.status.signal(), Some(libc::SIGSYS), "{doomed:?}");
}

/// The C library opens a file when a thread's memory shrinks, and a backtrace opens several.
#[test]
fn what_libraries_try_in_vain_does_not_end_the_process() {
    let alive = under_the_killer("what_libraries_try_in_vain_does_not_end_the_process", || {
        drop((0..8192).map(|_| Box::new([1_u64; 64])).collect::<Vec<_>>());
        let backtrace = std::backtrace::Backtrace::force_capture().to_string();
        println!("{} lines", backtrace.lines().count());
    });
    assert_eq!(alive.status.code(), Some(0), "{alive:?}");
    assert!(String::from_utf8_lossy(&alive.stdout).contains(" lines"), "{alive:?}");
}

#[test]
fn no_call_stands_twice() {
    let mut calls = CALLS.to_vec();
    calls.extend(ways(1).iter().map(|(call, _)| *call));
    let all = calls.len() - ways(1).len() + FUTILE.len();
    let distinct: std::collections::BTreeSet<_> = CALLS.iter().chain(FUTILE).collect();
    assert_eq!(distinct.len(), all);
    assert!(ways(1).iter().all(|(call, _)| !distinct.contains(call)), "a condition has no effect");
}

#[test]
fn no_filter_is_made_when_it_is_off() {
    assert!(programs(Seccomp::Off).unwrap().is_empty());
    assert_ne!(programs(Seccomp::Kill).unwrap(), programs(Seccomp::Log).unwrap());
}
