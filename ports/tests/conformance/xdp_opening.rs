//! How AF_XDP ports are opened: modes, privileges, launchers, and what is said if it fails.

use std::net::UdpSocket;

use nic_ports::Port;
use nic_ports::xdp::{XdpConfig, XdpError, XdpMode, XdpParts, XdpPort};
use nic_shm::ControlSocket;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use crate::lab::{self, DEVICE, Linked, Namespace};
use crate::xdp::{config, heard, open, receive, send_until};

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
    let all = CapabilitySet::NET_RAW
        | CapabilitySet::NET_ADMIN
        | CapabilitySet::BPF
        | CapabilitySet::IPC_LOCK;
    with_capabilities(host, all, || XdpPort::open(&config).map(drop)).unwrap();
    for (missing, named) in [
        (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
        (CapabilitySet::BPF, "CAP_BPF"),
        (CapabilitySet::IPC_LOCK, "CAP_IPC_LOCK"),
    ] {
        let error = with_capabilities(host, all - missing, || XdpPort::open(&config).err());
        let error = error.expect("a capability is missing").to_string();
        assert!(error.contains(named), "{error}");
    }
}

/// A launcher opens everything and passes it on; the engine has no privilege at all.
#[test]
#[ignore = "needs root: network namespaces and XDP programs; `sudo -E cargo test -- --ignored`"]
fn xdp_runs_unprivileged_from_what_a_launcher_opened() {
    for mode in [XdpMode::Generic, XdpMode::Native] {
        let lab = Linked::new(1);
        let [one, two] = &lab.hosts;
        let (launcher, engine) = ControlSocket::pair().unwrap();
        one.enter(|| {
            let parts = XdpPort::prepare(&config(&lab::ipv4(1), mode), 1).unwrap();
            assert_eq!(parts[0].description().mode, mode);
            parts[0].send(&launcher).unwrap();
        });
        assert!(one.has_program(), "it is on its way");

        let to = lab::address(&lab::ipv4(2), 7000);
        let peer = two.enter(|| UdpSocket::bind(to)).unwrap();
        with_capabilities(one, CapabilitySet::empty(), || {
            let refused = XdpPort::open(&config(&lab::ipv4(1), mode)).err();
            assert!(refused.is_some(), "this thread has no privileges");
            let parts = XdpParts::receive(&engine).unwrap();
            let mut port = XdpPort::from_parts(parts).unwrap();
            // The neighbour is unknown: finding it needs no privilege either.
            send_until(&mut port, to, b"unprivileged", || heard(&peer).is_some());
            while heard(&peer).is_some() {}
            peer.send_to(b"back", port.local_address()).unwrap();
            assert_eq!(receive(&mut port), Some((to, b"back".to_vec())));
        });
        one.assert_no_program();

        launcher.send(b"something else", &[]).unwrap();
        let error = XdpParts::receive(&engine).err().unwrap();
        assert!(matches!(error, XdpError::NotParts { .. }), "{error}");
    }
}
