//! Two engines and the processes around them, started by this program itself: what `nic demo` and
//! `nic bench` share.

mod child;
mod cores;
mod engine_process;
mod engines;
mod port;

pub use child::{Child, Link};
pub use cores::{CORES_FOR_ALL, Cores, Drive};
pub use engine_process::{ENGINE_COMMAND, run as engine_process};
pub use engines::{EngineStart, await_engine, connect, start_engine};
pub use port::{End, Ends, PairPort, PortOrder};
