//! How AF_XDP ports are opened: modes, privileges, launchers, and what is said if it fails.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use nic_ports::Port;
use nic_ports::xdp::{XdpConfig, XdpError, XdpMode, XdpParts, XdpPort};
use nic_shm::ControlSocket;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use crate::harness::submit;
use crate::lab::{self, DEVICE, Linked, Namespace};
use crate::xdp::{config, expect, expect_heard, heard, open, send_until};

fn refused(host: &Namespace, config: &XdpConfig) -> XdpError {
    host.enter(|| XdpPort::open(config).err()).expect("it must be refused")
}

/// Calls a function on a thread within that has these capabilities and no others.
fn with_capabilities<T: Send>(
    host: &Namespace,
    capabilities: CapabilitySet,
    work: impl FnOnce() -> T + Send,
) -> T {
    host.enter(|| {
        let inheritable = CapabilitySet::empty();
        let sets = CapabilitySets { effective: capabilities, permitted: capabilities, inheritable };
        set_capabilities(None, sets).unwrap();
        work()
    })
}

#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_takes_the_fastest_mode_and_says_why_no_faster_one() {
    let lab = Linked::new(1);
    let host = &lab.hosts[0];
    let with = |mode| config(&lab::ipv4(1), mode);
    let port = open(host, &with(XdpMode::Auto));
    let capabilities = port.capabilities();
    assert_eq!(capabilities.mode, format!("native, copy, {DEVICE} queue 0"));
    assert!(!capabilities.zero_copy);
    let [reason] = &capabilities.reasons[..] else { panic!("{capabilities}") };
    assert!(reason.contains("zero-copy off") && reason.contains("ethtool"), "{reason}");
    drop(port);

    let error = refused(host, &with(XdpMode::ZeroCopy));
    assert!(matches!(error, XdpError::Mode { mode: XdpMode::ZeroCopy, .. }), "{error}");

    // Too long for the driver, so that only the generic mode is left.
    for host in &lab.hosts {
        host.ip(&format!("link set {DEVICE} mtu 9000"));
    }
    let error = refused(host, &with(XdpMode::Native));
    assert!(matches!(error, XdpError::Mode { mode: XdpMode::Native, .. }), "{error}");
    assert!(error.to_string().contains("mtu 1500"), "{error}");
    let port = open(host, &with(XdpMode::Auto));
    let capabilities = port.capabilities();
    assert_eq!(capabilities.mode, format!("generic, copy, {DEVICE} queue 0"));
    let [_, native, runs] = &capabilities.reasons[..] else { panic!("{capabilities}") };
    assert!(native.contains("native off") && native.contains("mtu 1500"), "{native}");
    assert!(runs.contains("tx-udp-segmentation off"), "{runs}");
}

#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_says_what_is_wrong() {
    let lab = Linked::new(1);
    let host = &lab.hosts[0];
    let usual = || config(&lab::ipv4(1), XdpMode::Auto);
    let change = |change: fn(&mut XdpConfig)| {
        let mut config = usual();
        change(&mut config);
        refused(host, &config)
    };
    let errors = [
        change(|config| config.device = "nic7".to_owned()),
        change(|config| config.device = "lo".to_owned()),
        change(|config| config.address.set_ip(lab::ipv4(9).parse().unwrap())),
        change(|config| config.queue = 3),
        change(|config| config.address.set_port(0)),
        change(|config| config.ports = 0),
        change(|config| config.vlan = Some(4095)),
        change(|config| config.receive_chunks = 100),
        change(|config| config.pool.control_frames = 0),
    ];
    for (number, error) in errors.iter().enumerate() {
        eprintln!("{error}");
        let is_right = match number {
            0 => matches!(error, XdpError::NoDevice { .. }),
            1 => matches!(error, XdpError::NotEthernet { .. }),
            2 => matches!(error, XdpError::NotOnDevice { .. }),
            3 => matches!(error, XdpError::NoSuchQueue { queue: 3, .. }),
            8 => matches!(error, XdpError::Pool(_)),
            _ => matches!(error, XdpError::Configuration { .. }),
        };
        assert!(is_right, "{number}: {error}");
    }

    let other = host.enter(|| UdpSocket::bind(usual().address)).unwrap();
    let error = refused(host, &usual());
    assert!(matches!(error, XdpError::AddressInUse { .. }), "{error}");
    drop(other);

    let port = open(host, &usual());
    host.enter(|| XdpPort::probe(&usual())).expect("a probe takes nothing");
    let mut second = usual();
    second.address.set_port(4800);
    let error = refused(host, &second);
    assert!(matches!(error, XdpError::ProgramInPlace { .. }), "{error}");
    drop(port);

    host.ip(&format!("link set {DEVICE} down"));
    let error = refused(host, &usual());
    assert!(matches!(error, XdpError::Down { .. }), "{error}");
}

#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_needs_these_capabilities_and_no_others() {
    let lab = Linked::new(1);
    let host = &lab.hosts[0];
    let mut config = config(&lab::ipv4(1), XdpMode::Native);
    // More than may be locked without the capability, on machines with the usual limit.
    config.receive_chunks = 1 << 16;
    // An address that nobody has: who probes so wants to hear of everything else.
    let mut elsewhere = config.clone();
    elsewhere.address.set_ip(lab::ipv4(9).parse().unwrap());
    let all = CapabilitySet::NET_RAW
        | CapabilitySet::NET_ADMIN
        | CapabilitySet::BPF
        | CapabilitySet::IPC_LOCK;
    with_capabilities(host, all, || XdpPort::open(&config).map(drop)).unwrap();
    let probed = with_capabilities(host, all, || XdpPort::probe(&elsewhere));
    assert!(matches!(probed, Err(XdpError::NotOnDevice { .. })), "{probed:?}");
    for (missing, named) in [
        (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::BPF, "CAP_BPF"),
        (CapabilitySet::IPC_LOCK, "CAP_IPC_LOCK"),
    ] {
        let errors = with_capabilities(host, all - missing, || {
            [
                XdpPort::open(&config).err(),
                XdpPort::probe(&config).err(),
                XdpPort::probe(&elsewhere).err(),
            ]
        });
        for error in errors {
            let error = error.expect("a capability is missing").to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}

/// Set in the launcher, which is this test run again, within the first host and with its end of the
/// socket as standard input.
const LAUNCHER: &str = "NIC_PORTS_XDP_LAUNCHER";

fn launch(mode: XdpMode) {
    let socket = ControlSocket::from_fd(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let parts = XdpPort::prepare(&config(&lab::ipv4(1), mode), 1).unwrap();
    assert_eq!(parts[0].description().mode, mode);
    parts[0].send(&socket).unwrap();
}

fn launcher(host: &Namespace, mode: XdpMode) -> ControlSocket {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let (here, there) = socketpair(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    let status = host.enter(|| {
        Command::new(std::env::current_exe().unwrap())
            .args(["xdp_runs_unprivileged_from", "--include-ignored"])
            .env(LAUNCHER, mode.to_string())
            .stdin(Stdio::from(there))
            .stdout(Stdio::null())
            .status()
            .unwrap()
    });
    assert!(status.success());
    ControlSocket::from_fd(here)
}

/// A launcher opens everything, passes it on and ends; the engine has no privilege at all.
#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_runs_unprivileged_from_what_a_launcher_opened() {
    match std::env::var(LAUNCHER).as_deref() {
        Ok("native") => return launch(XdpMode::Native),
        Ok(_) => return launch(XdpMode::Generic),
        Err(_) => {}
    }
    for mode in [XdpMode::Generic, XdpMode::Native] {
        let lab = Linked::new(1);
        let [one, two] = &lab.hosts;
        let socket = launcher(one, mode);
        assert!(one.has_program(), "it is on its way");

        let to = lab::address(&lab::ipv4(2), 7000);
        let peer = two.enter(|| UdpSocket::bind(to)).unwrap();
        with_capabilities(one, CapabilitySet::empty(), || {
            let refused = XdpPort::open(&config(&lab::ipv4(1), mode)).err();
            assert!(refused.is_some(), "this thread has no privileges");
            let mut port = XdpPort::from_parts(XdpParts::receive(&socket).unwrap()).unwrap();
            // The neighbour is unknown: finding it needs no privilege either.
            send_until(&mut port, to, b"unprivileged", || heard(&peer).is_some());
            while heard(&peer).is_some() {}
            for round in 0..1000u16 {
                let packet = round.to_le_bytes();
                peer.send_to(&packet, port.local_address()).unwrap();
                assert_eq!(expect(&mut port), (to, packet.to_vec()));
                submit(&mut port, to, &packet);
                port.transmit();
                assert_eq!(expect_heard(&peer), (port.local_address(), packet.to_vec()));
            }
        });
        one.assert_no_program();
        let error = XdpParts::receive(&socket).err().unwrap();
        assert!(matches!(error, XdpError::NotParts { .. }), "{error}");
    }
}

#[test]
fn xdp_parts_are_not_mistaken() {
    let (launcher, engine) = ControlSocket::pair().unwrap();
    for message in [&b"something else"[..], b"xdp1", b"xdp1\x04nic0\x01\x01\x00"] {
        launcher.send(message, &[]).unwrap();
        let error = XdpParts::receive(&engine).err().unwrap();
        assert!(matches!(error, XdpError::NotParts { .. }), "{error}");
    }
}
