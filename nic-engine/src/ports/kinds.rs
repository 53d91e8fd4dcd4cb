//! Each kind of port, opened by settings.

use nic_kernels::KernelSet;
use nic_ports::Port;
use nic_ports::udp::{UdpConfig, UdpError, UdpPort};

use super::open::{PortFault, Refused};
use super::{PortKind, PortSettings, ReadyPort};

/// Opens a port of this kind for each of `count` engines.
pub(super) fn open_kind<K: KernelSet + Send + 'static>(
    kind: PortKind,
    settings: &PortSettings,
    count: usize,
) -> Result<Vec<ReadyPort>, Refused> {
    match kind {
        PortKind::Udp => ready::<_, K>((0..count).map(|engine| udp(settings, engine)).collect()),
        #[cfg(feature = "uring")]
        PortKind::Uring => {
            ready::<_, K>((0..count).map(|engine| uring(settings, engine)).collect())
        }
        #[cfg(feature = "xdp")]
        PortKind::Xdp => ready::<_, K>(xdp(settings, count)),
        #[cfg(feature = "dpdk")]
        PortKind::Dpdk => ready::<_, K>(dpdk(settings, count)),
        #[allow(unreachable_patterns, reason = "unless a kind is left out of the build")]
        _ => Err(Refused {
            reason: format!(
                "this build has no port {kind}; build it with `--features {kind}`, or choose \
                 another kind"
            ),
            fault: PortFault::System,
        }),
    }
}

fn ready<P, K>(ports: Result<Vec<P>, Refused>) -> Result<Vec<ReadyPort>, Refused>
where
    P: Port + Send + 'static,
    K: KernelSet + Send + 'static,
{
    Ok(ports?.into_iter().map(ReadyPort::new::<P, K>).collect())
}

fn udp(settings: &PortSettings, engine: usize) -> Result<UdpPort, Refused> {
    let mut config = UdpConfig::new(settings.address_of(engine));
    config.pool.frames = settings.frames;
    UdpPort::bind(config)
        .map_err(|error| Refused { fault: of_udp(&error), reason: error.to_string() })
}

fn of_udp(error: &UdpError) -> PortFault {
    match error {
        UdpError::AddressInUse { .. } => PortFault::Taken,
        UdpError::NoSuchAddress { .. } | UdpError::Pool(_) => PortFault::Settings,
        UdpError::Permission { .. } => PortFault::Permission,
        UdpError::Socket { source, .. } => PortFault::of_io(source),
    }
}

#[cfg(feature = "uring")]
fn uring(settings: &PortSettings, engine: usize) -> Result<nic_ports::uring::UringPort, Refused> {
    use nic_ports::uring::{UringConfig, UringError, UringPort};
    let mut config = UringConfig::new(settings.address_of(engine));
    config.pool.frames = settings.frames;
    UringPort::bind(config).map_err(|error| {
        let fault = match &error {
            UringError::Udp(error) => of_udp(error),
            UringError::SwitchedOff { .. } | UringError::Denied => PortFault::Permission,
            UringError::Step { source, .. } => PortFault::of_io(source),
            UringError::Absent | UringError::TooOld { .. } | UringError::NoMemory => {
                PortFault::System
            }
        };
        Refused { reason: error.to_string(), fault }
    })
}

/// The device that a kind cannot do without.
#[cfg(any(feature = "xdp", feature = "dpdk"))]
fn device<'s>(settings: &'s PortSettings, such_as: &str) -> Result<&'s str, Refused> {
    settings.device.as_deref().ok_or_else(|| Refused {
        reason: format!("port.device is not set; it names the device, such as {such_as:?}"),
        fault: PortFault::Settings,
    })
}

#[cfg(any(feature = "xdp", feature = "dpdk"))]
fn queues(count: usize) -> Result<u16, Refused> {
    u16::try_from(count).map_err(|_| Refused {
        reason: format!("{count} engines want a queue each; no device has so many"),
        fault: PortFault::Settings,
    })
}

#[cfg(feature = "xdp")]
fn xdp(settings: &PortSettings, count: usize) -> Result<Vec<nic_ports::xdp::XdpPort>, Refused> {
    use nic_ports::xdp::{XdpConfig, XdpError, XdpMode, XdpPort};

    use super::settings::XdpModeSetting;
    let mut config = XdpConfig::new(device(settings, "eth0")?, settings.address);
    config.queue = settings.queue;
    config.vlan = settings.vlan;
    config.pool.frames = settings.frames;
    config.mode = match settings.xdp_mode {
        XdpModeSetting::Auto => XdpMode::Auto,
        XdpModeSetting::ZeroCopy => XdpMode::ZeroCopy,
        XdpModeSetting::Native => XdpMode::Native,
        XdpModeSetting::Generic => XdpMode::Generic,
    };
    XdpPort::open_all(&config, queues(count)?).map_err(|error| {
        let fault = match &error {
            XdpError::AddressInUse { .. }
            | XdpError::ProgramInPlace { .. }
            | XdpError::QueueInUse { .. } => PortFault::Taken,
            XdpError::Privilege { .. } | XdpError::LockedMemory { .. } => PortFault::Permission,
            XdpError::System { source, .. } => PortFault::of_io(source),
            XdpError::NoKernelSupport | XdpError::Program { .. } | XdpError::Memory(_) => {
                PortFault::System
            }
            _ => PortFault::Settings,
        };
        Refused { reason: error.to_string(), fault }
    })
}

#[cfg(feature = "dpdk")]
fn dpdk(settings: &PortSettings, count: usize) -> Result<Vec<nic_ports::dpdk::DpdkPort>, Refused> {
    use nic_ports::dpdk::{DpdkConfig, DpdkDevice, DpdkError};
    let refused = |error: DpdkError| {
        let fault = match &error {
            DpdkError::Start { source, .. } | DpdkError::NoDevice { source, .. } => {
                PortFault::of_io(source)
            }
            DpdkError::Argument { .. }
            | DpdkError::Queues { .. }
            | DpdkError::Address { .. }
            | DpdkError::Prefix { .. }
            | DpdkError::OffLink { .. }
            | DpdkError::Vlan { .. }
            | DpdkError::Mtu { .. }
            | DpdkError::Pool(_) => PortFault::Settings,
            _ => PortFault::System,
        };
        Refused { reason: error.to_string(), fault }
    };
    let whole = if settings.address.is_ipv4() { 24 } else { 64 };
    let prefix = settings.prefix.unwrap_or(whole);
    let mut config = DpdkConfig::new(device(settings, "0000:03:00.0")?, settings.address, prefix);
    config.gateway = settings.gateway;
    config.vlan = settings.vlan;
    config.mtu = settings.mtu;
    config.pool.frames = settings.frames;
    config.neighbours = settings.neighbours.iter().map(|known| (known.ip, known.mac)).collect();
    let queues = queues(count)?;
    let eal = eal(&settings.eal).map_err(refused)?;
    DpdkDevice::open(&eal, &config, queues).map_err(refused)
}

/// DPDK's environment, which a process starts once: a second call with the same arguments gets the
/// one that runs.
///
/// # Errors
/// It does not start, or runs with other arguments.
#[cfg(feature = "dpdk")]
pub fn eal(arguments: &[String]) -> Result<nic_ports::dpdk::Eal, nic_ports::dpdk::DpdkError> {
    use std::sync::Mutex;

    use nic_ports::dpdk::Eal;
    static RUNNING: Mutex<Option<(Vec<String>, Eal)>> = Mutex::new(None);
    let mut running = RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((with, eal)) = running.as_ref()
        && with == arguments
    {
        return Ok(eal.clone());
    }
    let eal = Eal::start(arguments.iter().cloned())?;
    *running = Some((arguments.to_vec(), eal.clone()));
    Ok(eal)
}
