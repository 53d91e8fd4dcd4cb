//! Two ports that know nothing of each other, and what only some pairs can show.

use std::time::{Duration, Instant};

use nic_ports::dpdk::{DpdkConfig, DpdkDevice, DpdkError, Eal};
use nic_ports::{Burst, Port, Share};

use crate::devices::{Address, alone, config, eal, open, until_link};
use crate::harness::{contents, submit};
use crate::network::{Namespace, join, unique};

/// Longer than a pair of devices takes to agree on its queues.
const PATIENCE: Duration = Duration::from_secs(20);

/// Opens two devices without telling them of each other, in a VLAN or none, and has each send to
/// the other until something arrives.
fn find_each_other(devices: [&str; 2], family: Address, vlans: [Option<u16>; 2]) -> bool {
    let addresses = family.pair();
    let mut opened = Vec::new();
    for side in 0..2 {
        let mut config = config(devices[side], addresses[side], &[]);
        config.vlan = vlans[side];
        opened.push(open(&config));
    }
    opened.iter().for_each(|port| until_link(port, true));
    let mut bursts = [Burst::new(8), Burst::new(8)];
    let mut arrived = [false; 2];
    for _ in 0..20_000 {
        for side in 0..2 {
            let port = &mut opened[side];
            if port.available(Share::Request) > 0 {
                submit(port, addresses[1 - side], &contents(side, 200));
            }
            port.transmit();
            port.receive(&mut bursts[side]);
            for view in bursts[side].views() {
                assert_eq!(view.from, addresses[1 - side]);
                assert_eq!(port.view(view), contents(1 - side, 200));
                arrived[side] = true;
            }
            port.release_burst(&mut bursts[side]);
        }
        if arrived == [true; 2] {
            return true;
        }
        std::thread::yield_now();
    }
    assert_eq!(arrived, [false; 2]);
    false
}

fn vhost_devices() -> [String; 2] {
    let number = unique().replace('-', "");
    let path = std::env::temp_dir().join(format!("nic-dpdk-{number}.sock"));
    let path = path.to_str().unwrap();
    [
        format!("net_vhost{number},iface={path},queues=1"),
        format!("net_virtio_user{number},path={path},queues=1"),
    ]
}

#[test]
#[ignore = "needs libdpdk (apt-get install libdpdk-dev) and 300 MB of memory"]
fn two_ports_find_each_other_in_a_vlan_or_none() {
    let _alone = alone();
    for family in [Address::V4, Address::V6] {
        for (vlans, reach) in
            [([None, None], true), ([Some(7), Some(7)], true), ([Some(7), Some(8)], false)]
        {
            let devices = vhost_devices();
            let found = find_each_other([&devices[0], &devices[1]], family, vlans);
            assert_eq!(found, reach, "{vlans:?}");
        }
    }
}

/// The kernel takes tags off before a packet socket sees a frame.
#[test]
#[ignore = "needs root and libdpdk: makes network namespaces; run the tests with sudo"]
fn a_tag_that_was_taken_off_is_known() {
    let _alone = alone();
    let namespace = Namespace::new();
    join(&namespace, &namespace, 1500);
    let number = unique().replace('-', "");
    let device = |name: &str| format!("net_af_packet{number}{name},iface={name}");
    let devices = [device("va"), device("vb")];
    let devices = [devices[0].as_str(), devices[1].as_str()];
    namespace.within(|| {
        assert!(find_each_other(devices, Address::V4, [Some(7); 2]));
        assert!(!find_each_other(devices, Address::V4, [Some(7), None]));
    });
}

#[test]
#[ignore = "needs libdpdk (apt-get install libdpdk-dev) and 300 MB of memory"]
fn what_cannot_be_opened_says_why() {
    let _alone = alone();
    let eal = eal();
    let again = Eal::start(["--no-pci"]);
    assert!(matches!(again, Err(DpdkError::AlreadyStarted)));
    let open = |config: &DpdkConfig, queues| DpdkDevice::open(eal, config, queues).map(|_| ());
    let address = Address::V4.pair()[0];
    let missing = open(&config("0000:ff:1f.7", address, &[]), 1);
    assert!(matches!(missing, Err(DpdkError::NoDevice { .. })), "{missing:?}");
    let wrong = open(&config("net_vhost77", address, &[]), 1);
    assert!(matches!(wrong, Err(DpdkError::NoDevice { .. })), "{wrong:?}");
    let [device, _] = vhost_devices();
    let many = open(&config(&device, address, &[]), 300);
    assert!(matches!(many, Err(DpdkError::Queues { expected: 300, .. })), "{many:?}");
    let mut far = config(&device, address, &[]);
    far.gateway = Some("fd09::7".parse().unwrap());
    let far = open(&far, 1);
    assert!(matches!(far, Err(DpdkError::OffLink { .. })), "{far:?}");
    let mut large = config(&device, address, &[]);
    large.pool = nic_ports::PoolConfig::with_frames(1 << 19);
    let large = open(&large, 1);
    assert!(matches!(large, Err(DpdkError::Memory { .. })), "{large:?}");
    // None of these left anything behind.
    assert!(open(&config(&device, address, &[]), 1).is_ok());
}

/// net_null has frames whenever it is asked, and none is for an engine.
#[test]
#[ignore = "needs libdpdk (apt-get install libdpdk-dev) and 300 MB of memory"]
fn frames_of_others_without_end_do_not_hold_a_port() {
    let _alone = alone();
    let device = format!("net_null{}", unique().replace('-', ""));
    let mut port = open(&config(&device, Address::V4.pair()[0], &[]));
    let mut burst = Burst::new(8);
    for calls in 1..=100 {
        assert_eq!(port.receive(&mut burst), 0);
        let foreign = port.counters().receive_foreign;
        assert!((calls..=64 * calls).contains(&foreign), "{foreign} in {calls} calls");
    }
}

#[test]
#[ignore = "needs libdpdk (apt-get install libdpdk-dev) and 300 MB of memory"]
fn several_engines_have_a_queue_each() {
    let _alone = alone();
    let devices = vhost_devices().map(|device| device.replace("queues=1", "queues=2"));
    let addresses = Address::V4.pair();
    let mut left = DpdkDevice::open(eal(), &config(&devices[0], addresses[0], &[]), 2).unwrap();
    let mut right = DpdkDevice::open(eal(), &config(&devices[1], addresses[1], &[]), 2).unwrap();
    until_link(&left[0], true);
    until_link(&right[0], true);
    assert_eq!(left[1].local_address().port(), left[0].local_address().port() + 1);
    assert!(right[0].capabilities().to_string().contains("steering"), "it cannot, and says so");
    // Every engine reaches every one of the other side, at whichever queue it arrives.
    for from in 0..2 {
        for to in 0..2 {
            let (target, source) = (right[to].local_address(), left[from].local_address());
            let packet = contents(from * 2 + to, 300);
            let mut bursts = [Burst::new(8), Burst::new(8)];
            let mut arrived = false;
            // A queue may be ready some time after the link is.
            let end = Instant::now() + PATIENCE;
            while !arrived && Instant::now() < end {
                if left[from].available(Share::Request) > 0 {
                    submit(&mut left[from], target, &packet);
                }
                left.iter_mut().for_each(Port::transmit);
                let mut none = Burst::new(8);
                for port in &mut left {
                    port.receive(&mut none);
                    port.release_burst(&mut none);
                }
                for (port, burst) in right.iter_mut().zip(&mut bursts) {
                    port.receive(burst);
                    let mut views = burst.views().iter();
                    arrived |= views.any(|view| view.from == source && port.view(view) == packet);
                    port.release_burst(burst);
                    port.transmit();
                }
            }
            assert!(arrived, "from {from} to {to}");
        }
    }
}
