//! Opening a port: facts, claims, memory; then the fastest mode that works.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nic_shm::SharedMemory;

use super::bpf::{self, Attachment};
use super::neighbours::{self, Asker, Link};
use super::parts::{XdpDescription, XdpParts};
use super::program::Steering;
use super::umem::Shape;
use super::{XdpConfig, XdpError, XdpMode, claim, ethtool, socket};
use crate::FrameLedger;

/// Opens the parts of `count` ports on consecutive queues of one device, port `i` with the UDP
/// port `i` further. Needs privileges; what is made of the parts does not.
pub(super) fn open_parts(config: &XdpConfig, count: u32) -> Result<Vec<XdpParts>, XdpError> {
    let shape = check(config, count)?;
    let (device, network) = find(config)?;
    let address = |number: u32| {
        let port = config.address.port() + number as u16;
        SocketAddr::new(config.address.ip(), port)
    };
    let claims = (0..count)
        .map(|number| claim::claim(address(number), &network))
        .collect::<Result<Vec<_>, _>>()?;
    let memories = (0..count).map(|_| shape.create(config.pages)).collect::<Result<Vec<_>, _>>()?;
    let mut reasons = remarks(config, count, &claims[0], [&device, &network]);
    let opened = open_some_mode(config, &device, shape, &memories, &mut reasons)?;
    if opened.mode == XdpMode::Generic && device.is_veth {
        reasons.push(Cow::from(format!(
            "runs of packets that a peer's kernel would leave to its device to cut (GSO) arrive \
             whole over {} and are dropped; `ethtool -K PEER tx-udp-segmentation off` at its other \
             end",
            device.name
        )));
    }
    let parts = opened.sockets.into_iter().zip(memories).zip(claims).zip(0..);
    parts
        .map(|(((socket, memory), claim), number)| {
            Ok(XdpParts {
                description: XdpDescription {
                    device: device.name.clone(),
                    device_index: device.index,
                    network_index: network.index,
                    queue: config.queue + number,
                    address: address(number),
                    vlan: config.vlan,
                    mode: opened.mode,
                    pool: [
                        config.pool.frames,
                        config.pool.reply_frames,
                        config.pool.control_frames,
                    ],
                    chunks: shape.chunks,
                    reasons: reasons.clone(),
                },
                link: opened.link.try_clone().map_err(XdpError::system("dup(2)"))?,
                socket,
                memory,
                claim,
            })
        })
        .collect()
}

/// Everything that opening does short of touching the device and taking the address. Device and
/// address come last: who asks whether this process could open a port at all names any.
pub(super) fn probe(config: &XdpConfig) -> Result<(), XdpError> {
    let shape = check(config, 1)?;
    let memory = shape.create(config.pages)?;
    socket::open(&memory, shape)?;
    load(config, 1)?;
    find(config).map(drop)
}

/// What can be said of a configuration without looking at the machine.
fn check(config: &XdpConfig, count: u32) -> Result<Shape, XdpError> {
    let wrong =
        |what, found: String, expected| Err(XdpError::Configuration { what, found, expected });
    let (address, ports) = (config.address, config.ports);
    if address.ip().is_unspecified() || address.ip().is_multicast() {
        let expected = "one address of the device";
        return wrong("the address", address.ip().to_string(), expected);
    }
    if address.port() == 0 {
        return wrong("the UDP port", "0".to_owned(), "a number from 1 to 65535");
    }
    let last = u32::from(address.port()) + u32::from(ports);
    if count == 0 || u32::from(ports) < count || last > 65_536 {
        let expected = "as many as engines at least, and none above 65535";
        return wrong("the number of UDP ports", ports.to_string(), expected);
    }
    if let Some(vlan) = config.vlan.filter(|vlan| !(1..=4094).contains(vlan)) {
        return wrong("the VLAN", vlan.to_string(), "a number from 1 to 4094");
    }
    let chunks = config.receive_chunks;
    if !chunks.is_power_of_two() || !(64..=1 << 16).contains(&chunks) {
        let expected = "a power of two from 64 to 65536";
        return wrong("the number of receive chunks", chunks.to_string(), expected);
    }
    // Only to hear whether the pool's size is possible.
    FrameLedger::new(config.pool)?;
    Ok(Shape { frames: config.pool.frames, chunks })
}

/// The device, and the one that has the address: the VLAN's, or the same.
fn find(config: &XdpConfig) -> Result<(Link, Link), XdpError> {
    let mut asker = Asker::open().map_err(XdpError::system("opening netlink"))?;
    let links =
        neighbours::links(&mut asker).map_err(XdpError::system("listing network devices"))?;
    let device = config.device.clone();
    let Some(link) = links.iter().find(|link| link.name == device).cloned() else {
        return Err(XdpError::NoDevice { device });
    };
    if link.mac.is_none() {
        return Err(XdpError::NotEthernet { device });
    }
    if !link.is_up {
        return Err(XdpError::Down { device });
    }
    let addresses =
        neighbours::addresses(&mut asker).map_err(XdpError::system("listing addresses"))?;
    let address: IpAddr = config.address.ip();
    let has_it = |link: &Link| addresses.contains(&(link.index, address));
    let Some(vlan) = config.vlan else {
        return if has_it(&link) {
            Ok((link.clone(), link))
        } else {
            Err(XdpError::NotOnDevice { address, device })
        };
    };
    match links.iter().find(|found| found.vlan_of == Some((link.index, vlan))) {
        Some(network) if has_it(network) => Ok((link, network.clone())),
        Some(network) => Err(XdpError::NotOnDevice { address, device: network.name.clone() }),
        // Somebody may keep neighbours by hand; `remarks` says so.
        None if has_it(&link) => Ok((link.clone(), link)),
        None => Err(XdpError::NoVlanDevice { device, vlan }),
    }
}

/// What an operator should know of the device's settings.
fn remarks(
    config: &XdpConfig,
    count: u32,
    any_socket: &OwnedFd,
    [device, network]: [&Link; 2],
) -> Vec<Cow<'static, str>> {
    let mut remarks = Vec::new();
    let name = &device.name;
    let queues = ethtool::receive_queues(any_socket.as_fd(), name).unwrap_or(count);
    if queues > count {
        remarks.push(Cow::from(format!(
            "{name} receives on {queues} queues, of which {count} have an engine: packets on the \
             others are lost to it; `ethtool -L {name} combined {count}`, or steer them with \
             `ethtool -N {name} flow-type udp4 dst-port {} action {}`",
            config.address.port(),
            config.queue
        )));
    }
    if let Some(vlan) = config.vlan.filter(|_| device.index == network.index) {
        remarks.push(Cow::from(format!(
            "{name} has no device for VLAN {vlan}, so that the kernel finds no neighbours in it: \
             `ip link add link {name} name {name}.{vlan} type vlan id {vlan}` and give it the \
             address, or name them by `ip neighbour replace IP lladdr MAC dev {name}`"
        )));
    }
    if config.vlan.is_some() && ethtool::takes_tags_off(any_socket.as_fd(), name) {
        remarks.push(Cow::from(format!(
            "{name} takes VLAN tags off before they are looked at, so that tagged packets may not \
             be found; `ethtool -K {name} rxvlan off`"
        )));
    }
    remarks
}

/// Sockets in a mode that works.
struct Opened {
    mode: XdpMode,
    sockets: Vec<OwnedFd>,
    link: OwnedFd,
}

/// Why a mode does not work: itself, or something that no other mode would mend.
enum Failure {
    Mode(String),
    Other(XdpError),
}

impl From<XdpError> for Failure {
    fn from(error: XdpError) -> Self {
        Failure::Other(error)
    }
}

fn open_some_mode(
    config: &XdpConfig,
    device: &Link,
    shape: Shape,
    memories: &[SharedMemory],
    reasons: &mut Vec<Cow<'static, str>>,
) -> Result<Opened, XdpError> {
    let candidates: &[XdpMode] = match config.mode {
        XdpMode::Auto => &[XdpMode::ZeroCopy, XdpMode::Native, XdpMode::Generic],
        XdpMode::ZeroCopy => &[XdpMode::ZeroCopy],
        XdpMode::Native => &[XdpMode::Native],
        XdpMode::Generic => &[XdpMode::Generic],
    };
    let mut last = (config.mode, String::new());
    for &mode in candidates {
        match open_mode(config, device, shape, memories, mode) {
            Ok(opened) => return Ok(opened),
            Err(Failure::Other(error)) => return Err(error),
            Err(Failure::Mode(reason)) => {
                reasons.push(Cow::from(format!("{mode} off: {reason}")));
                last = (mode, reason);
            }
        }
    }
    let (mode, reason) = last;
    Err(XdpError::Mode { device: device.name.clone(), mode, reason })
}

/// First the program, then the sockets: some drivers give a queue to a socket only while they run
/// a program.
fn open_mode(
    config: &XdpConfig,
    device: &Link,
    shape: Shape,
    memories: &[SharedMemory],
    mode: XdpMode,
) -> Result<Opened, Failure> {
    let count = memories.len() as u32;
    // Made first: what misses here is missing in every mode.
    let sockets =
        memories.iter().map(|memory| socket::open(memory, shape)).collect::<Result<Vec<_>, _>>()?;
    let (map, program) = load(config, count)?;
    let attachment = match mode {
        XdpMode::Generic => Attachment::Generic,
        _ => Attachment::Native,
    };
    let attach = || bpf::attach(program.as_fd(), device.index, attachment);
    let link =
        socket::patiently("the device", attach).map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY | libc::EEXIST) => {
                Failure::Other(XdpError::ProgramInPlace { device: device.name.clone() })
            }
            Some(libc::EPERM | libc::EACCES) => {
                not_allowed(error, "attaching an XDP program").into()
            }
            _ => Failure::Mode(attach_reason(&error, &device.name)),
        })?;
    for (socket, queue) in sockets.iter().zip(config.queue..) {
        let zero_copy = mode == XdpMode::ZeroCopy;
        socket::bind(socket, device.index, queue, zero_copy)
            .map_err(|error| bind_failure(error, &device.name, queue, zero_copy))?;
        bpf::put_socket(map.as_fd(), queue, socket.as_fd())
            .map_err(|error| not_allowed(error, "putting a socket into its map"))?;
    }
    Ok(Opened { mode, sockets, link })
}

/// Loads the program, and the map that it looks sockets up in.
fn load(config: &XdpConfig, count: u32) -> Result<(OwnedFd, OwnedFd), XdpError> {
    let map = bpf::create_socket_map(config.queue + count)
        .map_err(|error| not_allowed(error, "a map of sockets"))?;
    let steering = Steering {
        address: config.address.ip(),
        first_port: config.address.port(),
        ports: config.ports,
        vlan: config.vlan,
    };
    let instructions = steering.assemble(map.as_raw_fd());
    let program =
        bpf::load_program(&instructions).map_err(|(source, log)| match source.raw_os_error() {
            Some(libc::EPERM) => not_allowed(source, "loading an XDP program"),
            _ => XdpError::Program { source, log },
        })?;
    Ok((map, program))
}

fn not_allowed(error: io::Error, step: &'static str) -> XdpError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            XdpError::Privilege { step, capabilities: "CAP_BPF and CAP_NET_ADMIN" }
        }
        _ => XdpError::System { step, source: error },
    }
}

/// Why a driver refuses a program, and what would change that.
fn attach_reason(error: &io::Error, device: &str) -> String {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => format!(
            "the driver of {device} runs no XDP programs, or not with its receive offloads \
             (`ethtool -i {device}` names it; try `ethtool -K {device} lro off gro-hw off`)"
        ),
        Some(libc::ERANGE | libc::EINVAL) => format!(
            "the driver of {device} refuses ({error}), mostly because packets may be too long; \
             `ip link set dev {device} mtu 1500`, on virtual links at both ends"
        ),
        Some(libc::ENOSPC | libc::ENOMEM) => format!(
            "the driver of {device} refuses ({error}), mostly because it wants more queues to \
             itself; `ethtool -L {device} combined N` with half of what `ethtool -l {device}` \
             shows, on virtual links fewer transmit queues at the peer"
        ),
        _ => format!("the driver of {device} refuses to run an XDP program ({error})"),
    }
}

fn bind_failure(error: io::Error, device: &str, queue: u32, zero_copy: bool) -> Failure {
    let device = device.to_owned();
    match error.raw_os_error() {
        Some(libc::EBUSY) => Failure::Other(XdpError::QueueInUse { device, queue }),
        Some(libc::ENETDOWN) => Failure::Other(XdpError::Down { device }),
        _ if zero_copy => Failure::Mode(format!(
            "the driver of {device} gives no zero copy on queue {queue} ({error}); `ethtool -i \
             {device}` names it, and docs/ports.md which drivers have it"
        )),
        Some(libc::EINVAL) => Failure::Other(XdpError::NoSuchQueue { device, queue }),
        _ => {
            Failure::Other(XdpError::System { step: "bind(2) of an AF_XDP socket", source: error })
        }
    }
}
