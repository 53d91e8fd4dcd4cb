//! A device: found or made, configured, started, and closed with its last port.

use std::net::IpAddr;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dpdk_sys as sys;

use super::eal::{c_string, error, last_words};
use super::frames::{FRAME_BYTES, FrameTable};
use super::incoming::LENT_MAX;
use super::neighbours::Neighbours;
use super::outgoing::DriverHabits;
use super::port::{DpdkPort, Parts};
use super::watch::Watch;
use super::{DpdkConfig, DpdkError, Eal, capabilities, sockets};
use crate::MacAddress;

/// Mbufs that a pool keeps at hand for a thread; with what it lets grow over, for two threads.
const CACHE: u32 = 256;
const CACHED_MAX: u32 = 2 * CACHE * 3 / 2;
/// Mbufs for messages between neighbours.
const ANSWERS: u32 = 64;
/// net_af_xdp hands the kernel so many buffers, whatever the queue's length.
const AF_XDP_BUFFERS: u32 = 2 * 2048;

/// Pools have names; each has another.
static POOLS: AtomicU32 = AtomicU32::new(0);

/// Devices of DPDK.
#[derive(Clone, Copy, Debug)]
pub struct DpdkDevice;

impl DpdkDevice {
    /// Opens a device with so many queues: one port for each, the engine of which has the UDP port
    /// of the configuration's address plus the queue's number. The device is closed when the last
    /// of the ports is dropped.
    ///
    /// Each port keeps EAL's memory for its own frames, for those that arrive, and as many again
    /// as the device's queue holds. It may be driven by any one thread.
    ///
    /// # Errors
    /// See [`DpdkError`].
    pub fn open(eal: &Eal, config: &DpdkConfig, queues: u16) -> Result<Vec<DpdkPort>, DpdkError> {
        config.check(queues)?;
        let mut device = Device::find(config)?;
        let traits = device.configure(config, queues)?;
        let mac = device.mac(config.address.ip());
        let neighbours = Arc::new(Neighbours::new(mac, config));
        check_links(config, &neighbours)?;
        let mut tables = Vec::with_capacity(queues.into());
        for queue in 0..queues {
            tables.push(device.set_queue_up(queue, config, traits)?);
        }
        device.step("starting it", |port| {
            // SAFETY: the device is configured, and all its queues are set up.
            unsafe { sys::start_device(port) }
        })?;
        let steering = device.steer(config, queues);
        device.watch = Some(Watch::start(device.port, Arc::clone(&neighbours))?);
        // SAFETY: the device is open.
        let mtu = unsafe { sys::mtu(device.port) };
        let capabilities = capabilities::of(eal, config, &device, mtu, steering);
        let device = Arc::new(device);
        let ports = (0..queues).zip(tables).map(|(queue, frames)| {
            DpdkPort::new(Parts {
                device: Arc::clone(&device),
                queue,
                queues,
                frames,
                mac,
                neighbours: Arc::clone(&neighbours),
                habits: traits.habits(device.driver()),
                capabilities: capabilities.clone(),
                config,
            })
        });
        Ok(ports.collect())
    }
}

/// Gateways and neighbours are on the link.
fn check_links(config: &DpdkConfig, neighbours: &Neighbours) -> Result<(), DpdkError> {
    let mut hops = config.gateway.into_iter().chain(config.neighbours.iter().map(|(ip, _)| *ip));
    match hops.find(|hop| !neighbours.is_on_link(*hop)) {
        None => Ok(()),
        Some(found) => {
            let (address, prefix) = (config.address.ip(), config.prefix);
            Err(DpdkError::OffLink { found, address, prefix })
        }
    }
}

/// How queues and engines were brought together, or why not.
pub(super) enum Steering {
    /// There is one queue.
    Single,
    /// Each engine's UDP port arrives at its queue.
    Ports,
    /// Flows are spread by a hash; the device refused to steer.
    Hash(std::io::Error),
    /// Neither: all may arrive at one queue.
    Nothing(std::io::Error),
}

/// What a device was configured to do.
#[derive(Clone, Copy, Debug)]
struct Traits {
    device_sums: bool,
}

impl Traits {
    fn habits(self, driver: &str) -> DriverHabits {
        DriverHabits { looks_at_empty_bursts: driver == "net_af_xdp", prepare: self.device_sums }
    }
}

/// A device that is open.
pub(super) struct Device {
    pub(super) port: u16,
    name: String,
    information: sys::Information,
    pools: Vec<NonNull<sys::Pool>>,
    watch: Option<Watch>,
}

// SAFETY: the pools are only touched in `drop`, when no port is left that uses them.
unsafe impl Send for Device {}
// SAFETY: as above; all else is plain data.
unsafe impl Sync for Device {}

impl Device {
    /// The device that the configuration names, made if it has to be.
    fn find(config: &DpdkConfig) -> Result<Self, DpdkError> {
        let name = config.device.split(',').next().unwrap_or_default().to_owned();
        let (c_name, c_whole) = (c_string(&name)?, c_string(&config.device)?);
        // SAFETY: EAL runs, as its handle says; the text ends with a zero.
        let mut found = unsafe { sys::find_device(c_name.as_ptr()) };
        if found < 0 {
            sockets::remove_stale(&config.device);
            // SAFETY: as above.
            found = unsafe { sys::add_device(c_whole.as_ptr()) };
        }
        let Ok(port) = u16::try_from(found) else {
            let (source, said) = (error(found), last_words());
            return Err(DpdkError::NoDevice { device: config.device.clone(), source, said });
        };
        let information = sys::Information::default();
        let mut device = Device { port, name, information, pools: Vec::new(), watch: None };
        let mut information = sys::Information::default();
        device.step("asking what it is", |port| unsafe {
            // SAFETY: the room is of the shim's own form.
            sys::information(port, &raw mut information)
        })?;
        device.information = information;
        Ok(device)
    }

    fn configure(&mut self, config: &DpdkConfig, queues: u16) -> Result<Traits, DpdkError> {
        let information = self.information;
        let found = information.rx_queues_max.min(information.tx_queues_max);
        if queues > found {
            let device = self.name.clone();
            return Err(DpdkError::Queues { device, found, expected: queues });
        }
        let mtu = config.mtu.unwrap_or(information.mtu);
        let hash = queues > 1 && information.can_hash_udp != 0;
        // Longer packets than a frame holds come in pieces, or the driver will not start.
        let frames_max = usize::from(FRAME_BYTES).saturating_sub(64);
        let scatter = usize::from(mtu) > frames_max && information.can_scatter != 0;
        let device_sums = information.can_checksum_udp != 0 && config.address.is_ipv6();
        let asked = |device: &Device, answer| match config.mtu {
            Some(asked) if answer < 0 => {
                Err(DpdkError::Mtu { device: device.name.clone(), asked, source: error(answer) })
            }
            _ => Ok(()),
        };
        // SAFETY: the device is open and stopped.
        let answer = unsafe {
            let [hash, scatter, sums] = [hash, scatter, device_sums].map(i32::from);
            sys::configure(self.port, queues, mtu, hash, scatter, sums)
        };
        if answer == -libc::EINVAL {
            asked(self, answer)?;
        }
        self.step("configuring it", |_| answer)?;
        if config.mtu.is_some() {
            // SAFETY: as above.
            let answer = unsafe { sys::set_mtu(self.port, mtu) };
            // Virtual devices have none to change.
            if answer != -libc::ENOTSUP {
                asked(self, answer)?;
            }
        }
        Ok(Traits { device_sums })
    }

    fn set_queue_up(
        &mut self,
        queue: u16,
        config: &DpdkConfig,
        traits: Traits,
    ) -> Result<FrameTable, DpdkError> {
        let (mut rx, mut tx) = (config.receive_descriptors, config.transmit_descriptors);
        self.step("asking for its queues' lengths", |port| unsafe {
            // SAFETY: two words of ours.
            sys::adjust_descriptors(port, &raw mut rx, &raw mut tx)
        })?;
        let pool = self.make_pool(config.pool.frames, rx, tx)?;
        let port = self.port;
        // SAFETY: the pool lives until the device is closed.
        let set_up = |tx, threshold| unsafe {
            sys::setup_queue(port, queue, rx, tx, threshold, pool.as_ptr())
        };
        let answer = if self.driver().starts_with("net_virtio") {
            // It looks for what has left when fewer than so many entries are free: nearly always.
            // How many entries there are it does not say; more than that it refuses.
            let lengths = std::iter::successors(Some(tx), |tx| Some(tx / 2));
            let lengths = lengths.take_while(|tx| *tx >= 32);
            // The first that is taken is the longest; each further one would shorten the queue.
            lengths
                .map(|tx| set_up(tx, tx - 4))
                .find(|answer| *answer >= 0)
                .unwrap_or(-libc::EINVAL)
        } else {
            set_up(tx, 0)
        };
        self.step("setting a queue up", |_| answer)?;
        // SAFETY: the pool has room for the frames, and lives as long as the device, which each
        // port owns a part of.
        let table = unsafe { FrameTable::new(pool, config.pool, traits.device_sums)? };
        table.ok_or_else(|| self.no_memory(config.pool.frames, -libc::ENOMEM))
    }

    fn make_pool(
        &mut self,
        frames: u32,
        rx: u16,
        tx: u16,
    ) -> Result<NonNull<sys::Pool>, DpdkError> {
        let drivers = if self.driver() == "net_af_xdp" { AF_XDP_BUFFERS } else { 0 };
        // What waits in both queues, what bursts hold, and what the driver does not give back.
        let whole = frames
            + u32::from(rx)
            + 2 * u32::from(tx)
            + LENT_MAX as u32
            + sys::BURST_MAX as u32
            + ANSWERS
            + CACHED_MAX
            + drivers;
        let number = POOLS.fetch_add(1, Ordering::Relaxed);
        let name = c_string(&format!("nic-frames-{number}"))?;
        let mut answer = 0;
        // SAFETY: EAL runs; the text ends with a zero.
        let pool =
            unsafe { sys::make_pool(name.as_ptr(), whole, CACHE, FRAME_BYTES, &raw mut answer) };
        let pool = NonNull::new(pool).ok_or_else(|| self.no_memory(whole, answer))?;
        self.pools.push(pool);
        Ok(pool)
    }

    fn steer(&self, config: &DpdkConfig, queues: u16) -> Steering {
        if queues == 1 {
            return Steering::Single;
        }
        let is_ipv4 = config.address.is_ipv4().into();
        for queue in 0..queues {
            // SAFETY: the device runs.
            let answer =
                unsafe { sys::steer(self.port, queue, is_ipv4, config.address.port() + queue) };
            if answer < 0 {
                let reason = error(answer);
                return match self.information.can_hash_udp {
                    0 => Steering::Nothing(reason),
                    _ => Steering::Hash(reason),
                };
            }
        }
        Steering::Ports
    }

    /// Takes a step that should work.
    fn step(
        &self,
        step: &'static str,
        act: impl FnOnce(u16) -> libc::c_int,
    ) -> Result<(), DpdkError> {
        let answer = act(self.port);
        if answer >= 0 {
            return Ok(());
        }
        let (device, source, said) = (self.name.clone(), error(answer), last_words());
        Err(DpdkError::Device { device, step, source, said })
    }

    fn no_memory(&self, frames: u32, answer: libc::c_int) -> DpdkError {
        DpdkError::Memory { device: self.name.clone(), frames, source: error(answer) }
    }

    /// Its own Ethernet address, or one made of the IP address if it has none.
    fn mac(&self, address: IpAddr) -> MacAddress {
        if self.information.mac != [0; 6] {
            return MacAddress(self.information.mac);
        }
        let [a, b, c, d] = match address {
            IpAddr::V4(ip) => ip.octets(),
            IpAddr::V6(ip) => (u128::from(ip) as u32).to_be_bytes(),
        };
        // Locally administered.
        MacAddress([2, 0, a, b, c, d])
    }

    pub(super) fn driver(&self) -> &str {
        let bytes = &self.information.driver;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        std::str::from_utf8(&bytes[..end]).unwrap_or("unknown")
    }

    pub(super) fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.watch = None;
        // SAFETY: the last port is gone; nobody asks the device for anything any more, and with
        // it closed nothing refers to the pools.
        unsafe {
            sys::remove_device(self.port);
            self.pools.iter().for_each(|pool| sys::free_pool(pool.as_ptr()));
        }
    }
}
