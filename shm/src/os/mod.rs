//! What needs the operating system (Linux).

mod doorbell;
pub(crate) mod fault;
mod fenced;
mod file;
mod mapping;
mod memory;
mod process;
mod socket;
mod wait;
mod wake;

pub use doorbell::{Doorbell, DoorbellError};
pub use fault::survive_faults;
pub use fenced::{Edge, FencedMemory};
pub use file::MappedFile;
pub use memory::{MemoryError, PageKind, Pages, SharedMemory};
pub use process::{ForkGuard, Pidfd};
pub use socket::{
    AcceptError, BindError, ConnectError, ControlListener, ControlSocket, DESCRIPTORS_MAX,
    Incoming, PeerCredentials, ReceiveError, SendError,
};
pub use wait::{Ready, WAIT_DESCRIPTORS_MAX, WaitError, wait_any};
pub use wake::{DoorbellSet, WakeReceiver, WakeSender, WatchedDoorbell};
