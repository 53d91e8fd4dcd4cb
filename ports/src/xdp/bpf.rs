//! The three things that are asked of bpf(2): a map of sockets, a program, and its attachment.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::assembler::Instruction;

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEMENT: libc::c_long = 2;
const PROGRAM_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;

const MAP_TYPE_SOCKETS: u32 = 17;
const PROGRAM_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;

/// Bytes of the verifier's log that are kept.
const LOG_BYTES: usize = 64 << 10;

/// Where in the receive path a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attachment {
    /// In the kernel's generic path, behind every driver.
    Generic = 1 << 1,
    /// In the driver.
    Native = 1 << 2,
}

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries_max: u32,
    flags: u32,
    inner_map: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C)]
struct MapUpdate {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    device: u32,
    attach_type: u32,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    device: u32,
    attach_type: u32,
    flags: u32,
}

/// Makes a map from queue numbers below `queues` to sockets.
pub(super) fn create_socket_map(queues: u32) -> io::Result<OwnedFd> {
    let mut attributes = MapCreate {
        kind: MAP_TYPE_SOCKETS,
        key_bytes: 4,
        value_bytes: 4,
        entries_max: queues,
        flags: 0,
        inner_map: 0,
        numa_node: 0,
        name: *b"nic_sockets\0\0\0\0\0",
    };
    // SAFETY: the attributes are those of this command; they point nowhere.
    unsafe { descriptor(MAP_CREATE, &mut attributes) }
}

/// Puts a bound socket into the map. It leaves by itself when it is closed.
pub(super) fn put_socket(
    map: BorrowedFd<'_>,
    queue: u32,
    socket: BorrowedFd<'_>,
) -> io::Result<()> {
    let value = socket.as_raw_fd();
    let mut attributes = MapUpdate {
        map: raw(map),
        padding: 0,
        key: (&raw const queue).expose_provenance() as u64,
        value: (&raw const value).expose_provenance() as u64,
        flags: 0,
    };
    // SAFETY: the attributes are those of this command; key and value are live and of the sizes
    // that the map was made with.
    unsafe { call(MAP_UPDATE_ELEMENT, &mut attributes) }.map(drop)
}

/// Loads a program; refused, it comes with what the kernel's verifier says.
pub(super) fn load_program(instructions: &[Instruction]) -> Result<OwnedFd, (io::Error, String)> {
    // Without a log first: the verifier is faster, and a log that is too short is no failure.
    match load_with_log(instructions, &mut []) {
        Ok(program) => Ok(program),
        Err(error) => {
            let mut log = vec![0; LOG_BYTES];
            // Should it succeed now, the reason was of the moment.
            if let Ok(program) = load_with_log(instructions, &mut log) {
                return Ok(program);
            }
            let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
            Err((error, String::from_utf8_lossy(&log[..end]).trim().to_owned()))
        }
    }
}

fn load_with_log(instructions: &[Instruction], log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut attributes = ProgramLoad {
        kind: PROGRAM_TYPE_XDP,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: c"Dual MIT/GPL".as_ptr().expose_provenance() as u64,
        log_level: u32::from(!log.is_empty()),
        log_bytes: log.len() as u32,
        log: if log.is_empty() { 0 } else { log.as_mut_ptr().expose_provenance() as u64 },
        kernel_version: 0,
        flags: 0,
        name: *b"nic_engine\0\0\0\0\0\0",
        device: 0,
        attach_type: ATTACH_TYPE_XDP,
    };
    // SAFETY: the attributes are those of this command; instructions and licence are live and
    // only read, the log is live, writable and as long as said.
    unsafe { descriptor(PROGRAM_LOAD, &mut attributes) }
}

/// Attaches a program to a device for as long as the descriptor, or a copy of it, is open.
pub(super) fn attach(
    program: BorrowedFd<'_>,
    device: u32,
    attachment: Attachment,
) -> io::Result<OwnedFd> {
    let mut attributes = LinkCreate {
        program: raw(program),
        device,
        attach_type: ATTACH_TYPE_XDP,
        flags: attachment as u32,
    };
    // SAFETY: the attributes are those of this command; they point nowhere.
    unsafe { descriptor(LINK_CREATE, &mut attributes) }
}

fn raw(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().cast_unsigned()
}

/// # Safety
/// As for [`call`], and the command must answer with a new descriptor.
unsafe fn descriptor<Attributes>(
    command: libc::c_long,
    attributes: &mut Attributes,
) -> io::Result<OwnedFd> {
    // SAFETY: the caller keeps the promise.
    let descriptor = unsafe { call(command, attributes)? };
    // SAFETY: the kernel made the descriptor just now and nobody else knows of it. The kernel
    // sets close-on-exec on all that bpf(2) makes.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}

/// # Safety
/// The attributes must be laid out as the command's, and their addresses valid for it.
unsafe fn call<Attributes>(
    command: libc::c_long,
    attributes: &mut Attributes,
) -> io::Result<libc::c_long> {
    let bytes = size_of::<Attributes>() as libc::c_long;
    // SAFETY: the caller keeps the promise; the length is that of the attributes.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, bytes) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
