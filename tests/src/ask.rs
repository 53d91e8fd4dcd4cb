//! Ops as tests ask for them.

use nic_kernels::{HOME_REGION, compare_swap, fetch_add, read, scan_and_read, write};
use nic_wire::{KernelId, Span};

/// One op: what an application would put into a command slot, its payload included.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Which of the session's remotes.
    pub remote: u16,
    /// What to run.
    pub kernel: KernelId,
    /// The kernel's arguments.
    pub arguments: Vec<u8>,
    /// What goes along.
    pub payload: Vec<u8>,
    /// How much room the reply has, in bytes.
    pub reply_capacity: u32,
    /// How long it may take from pickup.
    pub budget: Span,
    /// Whether it waits for the earlier ops of its stream.
    pub fence: bool,
    /// Its stream.
    pub stream: u16,
}

impl Ask {
    /// Any kernel, with arguments as they are.
    pub fn kernel(remote: u16, kernel: KernelId, arguments: &[u8], reply_capacity: u32) -> Self {
        Ask {
            remote,
            kernel,
            arguments: arguments.to_vec(),
            payload: Vec::new(),
            reply_capacity,
            budget: Span::from_ms(1_000),
            fence: false,
            stream: 0,
        }
    }

    /// Read a range of the exported region.
    pub fn read(remote: u16, address: u64, length: u32) -> Self {
        let arguments = read::Arguments::new(HOME_REGION, address, length);
        Ask::kernel(remote, KernelId::READ, &arguments.encode(), length)
    }

    /// Write bytes to the exported region.
    pub fn write(remote: u16, address: u64, payload: &[u8]) -> Self {
        let arguments = write::Arguments::home(address).encode();
        let ask = Ask::kernel(remote, KernelId::WRITE, &arguments, 0);
        Ask { payload: payload.to_vec(), ..ask }
    }

    /// Add to a word of the exported region.
    pub fn fetch_add(remote: u16, address: u64, addend: u64) -> Self {
        let arguments = fetch_add::Arguments::home(address, addend).encode();
        Ask::kernel(remote, KernelId::FETCH_ADD, &arguments, 8)
    }

    /// Replace a word of the exported region if it holds `expected`.
    pub fn compare_swap(remote: u16, address: u64, expected: u64, desired: u64) -> Self {
        let arguments = compare_swap::Arguments::home(address, expected, desired).encode();
        Ask::kernel(remote, KernelId::COMPARE_SWAP, &arguments, 8)
    }

    /// Look a key up in a bucket table.
    pub fn scan_and_read(
        remote: u16,
        arguments: &scan_and_read::Arguments,
        reply_capacity: u32,
    ) -> Self {
        Ask::kernel(remote, KernelId::SCAN_AND_READ, &arguments.encode(), reply_capacity)
    }

    /// Call a service of the target application.
    pub fn call(remote: u16, service: u16, request: &[u8], reply_capacity: u32) -> Self {
        let ask = Ask::kernel(remote, KernelId::CALL, &service.to_le_bytes(), reply_capacity);
        Ask { payload: request.to_vec(), ..ask }
    }

    /// The same, behind all earlier ops of its stream.
    pub fn fenced(self) -> Self {
        Ask { fence: true, ..self }
    }

    /// The same, in another stream.
    pub fn in_stream(self, stream: u16) -> Self {
        Ask { stream, ..self }
    }

    /// The same, with another deadline.
    pub fn within(self, budget: Span) -> Self {
        Ask { budget, ..self }
    }
}
