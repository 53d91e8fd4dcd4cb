use super::*;
use crate::{Pages, Ready, SharedMemory, wait_any};
use core::time::Duration;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::{FdFlags, fcntl_getfd};
use std::env;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::vec::Vec;
use std::{format, fs, process, vec};

/// Set to a socket's path when a test runs itself as the other process.
const CHILD_SOCKET: &str = "NIC_SHM_TEST_SOCKET";

/// A directory that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("nic-shm-{}-{name}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("nic.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn lock_of(socket: &Path) -> PathBuf {
    socket.with_file_name("nic.sock.lock")
}

fn message(socket: &ControlSocket, buffer: &mut [u8]) -> (usize, Vec<rustix::fd::OwnedFd>) {
    match socket.receive(buffer).unwrap() {
        Incoming::Message { len, descriptors } => (len, descriptors),
        other => panic!("expected a message, found {other:?}"),
    }
}

#[test]
fn messages_keep_their_boundaries() {
    let (one, other) = ControlSocket::pair().unwrap();
    one.send(b"first", &[]).unwrap();
    one.send(b"second one", &[]).unwrap();
    let mut buffer = [0; 64];
    let (len, descriptors) = message(&other, &mut buffer);
    assert_eq!((&buffer[..len], descriptors.len()), (&b"first"[..], 0));
    let (len, _) = message(&other, &mut buffer);
    assert_eq!(&buffer[..len], b"second one");
}

#[test]
fn descriptors_arrive_in_order_and_close_on_exec() {
    let (one, other) = ControlSocket::pair().unwrap();
    let memories: Vec<SharedMemory> = (0..DESCRIPTORS_MAX as u64)
        .map(|number| {
            let memory = SharedMemory::create("passed", 4096, Pages::Small).unwrap();
            memory.memory().word64(0).unwrap().store(number, core::sync::atomic::Ordering::Release);
            memory
        })
        .collect();
    let descriptors: Vec<BorrowedFd<'_>> = memories.iter().map(AsFd::as_fd).collect();
    one.send(b"x", &descriptors).unwrap();

    let (_, received) = message(&other, &mut [0; 8]);
    assert_eq!(received.len(), DESCRIPTORS_MAX);
    for (number, fd) in received.into_iter().enumerate() {
        assert!(fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
        let memory = SharedMemory::open(fd, 4096).unwrap();
        assert_eq!(memory.memory().load64(0), Ok(number as u64));
    }
}

#[test]
fn the_end_is_not_an_empty_message() {
    let (one, other) = ControlSocket::pair().unwrap();
    assert!(matches!(one.send(b"", &[]), Err(SendError::Empty)));
    one.send(b"last", &[]).unwrap();
    drop(one);
    assert_eq!(message(&other, &mut [0; 8]).0, 4);
    assert!(matches!(other.receive(&mut [0; 8]).unwrap(), Incoming::EndOfFile));
    assert!(matches!(other.send(b"too late", &[]), Err(SendError::Closed)));
}

#[test]
fn a_peer_that_closes_unread_is_an_end_too() {
    let (one, other) = ControlSocket::pair().unwrap();
    other.send(b"never read", &[]).unwrap();
    drop(one);
    assert!(matches!(other.receive(&mut [0; 8]).unwrap(), Incoming::EndOfFile));
}

#[test]
fn without_blocking_nothing_and_a_full_peer_are_told() {
    let (one, other) = ControlSocket::pair().unwrap();
    one.set_nonblocking(true).unwrap();
    assert!(matches!(one.receive(&mut [0; 8]).unwrap(), Incoming::Nothing));
    let sent = (0..1_000_000).take_while(|_| one.send(&[0; 1024], &[]).is_ok()).count();
    assert!(sent > 0 && sent < 1_000_000);
    assert!(matches!(one.send(&[0; 1024], &[]), Err(SendError::WouldBlock)));
    assert_eq!(message(&other, &mut [0; 1024]).0, 1024);
}

#[test]
fn what_is_too_much_is_refused() {
    let (one, other) = ControlSocket::pair().unwrap();
    one.send(&[1; 9], &[]).unwrap();
    let refused = other.receive(&mut [0; 8]).unwrap_err();
    assert!(matches!(refused, ReceiveError::MessageTruncated { capacity: 8 }));

    let nine = [one.as_fd(); DESCRIPTORS_MAX + 1];
    let refused = one.send(b"x", &nine).unwrap_err();
    assert!(matches!(refused, SendError::TooManyDescriptors { found: 9 }));
    let refused = one.send(&vec![0; 64 << 20], &[]).unwrap_err();
    assert!(matches!(refused, SendError::TooLarge { .. }));
    // The connection goes on.
    one.send(b"well", &[]).unwrap();
    assert_eq!(message(&other, &mut [0; 8]).0, 4);
}

#[test]
fn a_peer_that_passes_too_many_descriptors_is_refused_and_they_are_closed() {
    use core::mem::MaybeUninit;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let (one, other) = ControlSocket::pair().unwrap();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let many = vec![writer.as_fd(); 40];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(40))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&many)));
    let parts = [rustix::io::IoSlice::new(b"x")];
    sendmsg(&one, &parts, &mut control, SendFlags::empty()).unwrap();
    drop(writer);

    let refused = other.receive(&mut [0; 8]).unwrap_err();
    assert!(matches!(refused, ReceiveError::DescriptorsTruncated));
    // All copies of the pipe's writing end are gone, or this would wait for ever.
    assert_eq!(rustix::io::read(&reader, &mut [0_u8; 1]), Ok(0));
}

#[test]
fn two_processes_share_memory_and_notice_death() {
    let folder = Folder::new("processes");
    let listener = ControlListener::bind(&folder.socket(), 0o600).unwrap();
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "os::socket::tests::the_other_process", "--nocapture"])
        .env(CHILD_SOCKET, folder.socket())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();

    let connection = listener.accept().unwrap().expect("the listener blocks");
    let credentials = connection.peer_credentials().unwrap();
    assert_eq!(credentials.pid, child.id());
    assert_eq!(credentials.uid, rustix::process::geteuid().as_raw());
    let process = connection.peer_process().unwrap();
    assert!(!process.has_exited().unwrap());

    let (len, mut descriptors) = message(&connection, &mut [0; 64]);
    assert_eq!((len, descriptors.len()), (6, 1));
    let memory = SharedMemory::open(descriptors.remove(0), 4096).unwrap();
    assert_eq!(&memory.memory().read_array::<14>(100).unwrap(), b"from the child");
    memory.memory().write(200, b"from the parent").unwrap();
    connection.send(b"look", &[]).unwrap();

    let mut answer = [0; 64];
    let (len, _) = message(&connection, &mut answer);
    assert_eq!(&answer[..len], b"from the parent");

    child.kill().unwrap();
    assert!(wait_any(&[process.as_fd()], None).unwrap().contains(0));
    assert!(process.has_exited().unwrap());
    assert!(matches!(connection.receive(&mut [0; 8]).unwrap(), Incoming::EndOfFile));
    child.wait().unwrap();
}

/// The child of the test above; by itself it has nothing to do.
#[test]
fn the_other_process() {
    let Some(path) = env::var_os(CHILD_SOCKET) else { return };
    let socket = ControlSocket::connect(Path::new(&path)).unwrap();
    let memory = SharedMemory::create("child", 4096, Pages::Small).unwrap();
    memory.memory().write(100, b"from the child").unwrap();
    socket.send(b"memory", &[memory.fd()]).unwrap();
    assert_eq!(message(&socket, &mut [0; 8]).0, 4);
    let seen = memory.memory().read_array::<15>(200).unwrap();
    socket.send(&seen, &[]).unwrap();
    // Until it is killed.
    let _ = socket.receive(&mut [0; 8]);
}

#[test]
fn a_path_has_one_living_owner() {
    let folder = Folder::new("owner");
    let path = folder.socket();
    let listener = ControlListener::bind(&path, 0o600).unwrap();
    let refused = ControlListener::bind(&path, 0o600).unwrap_err();
    assert!(matches!(&refused, BindError::InUse { pid, .. } if *pid == process::id()));
    assert!(format!("{refused}").contains(&format!("pid {}", process::id())));
    ControlSocket::connect(listener.path()).unwrap();

    drop(listener);
    assert!(!path.exists() && !lock_of(&path).exists(), "nothing is left behind");
    let refused = ControlSocket::connect(&path).unwrap_err();
    assert!(matches!(refused, ConnectError::NotFound { .. }));
    drop(ControlListener::bind(&path, 0o600).unwrap());
}

#[test]
fn a_dead_owners_path_is_reclaimed() {
    let folder = Folder::new("dead");
    let path = folder.socket();
    // As a kill leaves them: the socket's path, and a lock file that nobody locks.
    let listener = ControlListener::bind(&path, 0o600).unwrap();
    let copy = folder.0.join("copy.sock");
    fs::hard_link(&path, &copy).unwrap();
    drop(listener);
    fs::rename(&copy, &path).unwrap();
    fs::write(lock_of(&path), "4194304999999999999999999\n").unwrap();
    let refused = ControlSocket::connect(&path).unwrap_err();
    assert!(matches!(refused, ConnectError::NotListening { .. }));

    let listener = ControlListener::bind(&path, 0o600).unwrap();
    ControlSocket::connect(&path).unwrap();
    let content = fs::read_to_string(lock_of(&path)).unwrap();
    assert_eq!(content, format!("{}\n", process::id()));
    drop(listener);
}

#[test]
fn the_path_has_the_mode_asked_for() {
    let folder = Folder::new("mode");
    for mode in [0o600, 0o660, 0o666] {
        let listener = ControlListener::bind(&folder.socket(), mode).unwrap();
        let found = fs::metadata(listener.path()).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o777, mode);
        let lock = fs::metadata(lock_of(listener.path())).unwrap();
        assert_eq!(lock.permissions().mode() & 0o077, 0);
    }
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let folder = Folder::new("file");
    fs::write(folder.socket(), "precious").unwrap();
    let refused = ControlListener::bind(&folder.socket(), 0o600).unwrap_err();
    assert!(matches!(refused, BindError::NotSocket { .. }));
    assert_eq!(fs::read_to_string(folder.socket()).unwrap(), "precious");

    let long = folder.0.join("x".repeat(200));
    let refused = ControlListener::bind(&long, 0o600).unwrap_err();
    assert!(matches!(refused, BindError::PathTooLong { found, .. } if found > 200));
    let refused = ControlSocket::connect(&long).unwrap_err();
    assert!(matches!(refused, ConnectError::PathTooLong { .. }));
    let nowhere = folder.0.join("missing").join("nic.sock");
    assert!(matches!(ControlListener::bind(&nowhere, 0o600), Err(BindError::Lock { .. })));
}

#[test]
fn accepting_can_be_without_waiting() {
    let folder = Folder::new("accept");
    let listener = ControlListener::bind(&folder.socket(), 0o600).unwrap();
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().unwrap().is_none());
    let client = ControlSocket::connect(listener.path()).unwrap();
    let ready = wait_any(&[listener.as_fd()], Some(Duration::ZERO)).unwrap();
    assert!(ready != Ready::NONE);
    let server = listener.accept().unwrap().expect("a connection waits");
    client.send(b"hello", &[]).unwrap();
    assert_eq!(message(&server, &mut [0; 8]).0, 5);
}

#[test]
fn the_peers_groups_are_told() {
    let (one, _other) = ControlSocket::pair().unwrap();
    let mut found = one.peer_groups().unwrap();
    let own = rustix::process::getgroups().unwrap();
    let mut own: Vec<u32> = own.into_iter().map(|group| group.as_raw()).collect();
    found.sort_unstable();
    own.sort_unstable();
    assert_eq!(found, own);
}
