//! A port of any kind that waits for its engine.

use std::marker::PhantomData;

use nic_kernels::KernelSet;
use nic_ports::{Capabilities, Port};
use nic_transport::ConfigError;
use nic_wire::Time;

use crate::engine::{Engine, EngineConfig};
use crate::local::LocalEngine;

/// A port that has been opened, and the kernels that its engine will run; of which kind they are
/// matters only to the engine, which is compiled for each.
pub struct ReadyPort {
    waiting: Box<dyn Waits>,
}

trait Waits: Send {
    fn capabilities(&self) -> &Capabilities;

    fn engine(
        self: Box<Self>,
        config: EngineConfig,
        seed: u64,
        now: Time,
    ) -> Result<Box<dyn LocalEngine + Send>, ConfigError>;
}

struct Of<P, K> {
    port: P,
    // As a function's result: what is not there need be neither Send nor Sync.
    kernels: PhantomData<fn() -> K>,
}

impl ReadyPort {
    /// A port for an engine with kernels of this set.
    pub fn new<P, K>(port: P) -> Self
    where
        P: Port + Send + 'static,
        K: KernelSet + Send + 'static,
    {
        ReadyPort { waiting: Box::new(Of::<P, K> { port, kernels: PhantomData }) }
    }

    /// What the port can do.
    pub fn capabilities(&self) -> &Capabilities {
        self.waiting.capabilities()
    }

    /// The engine on it; see [`Engine::new`].
    ///
    /// # Errors
    /// Settings with which no flow can work.
    pub fn engine(
        self,
        config: EngineConfig,
        seed: u64,
        now: Time,
    ) -> Result<Box<dyn LocalEngine + Send>, ConfigError> {
        self.waiting.engine(config, seed, now)
    }
}

impl<P, K> Waits for Of<P, K>
where
    P: Port + Send + 'static,
    K: KernelSet + Send + 'static,
{
    fn capabilities(&self) -> &Capabilities {
        self.port.capabilities()
    }

    fn engine(
        self: Box<Self>,
        config: EngineConfig,
        seed: u64,
        now: Time,
    ) -> Result<Box<dyn LocalEngine + Send>, ConfigError> {
        Ok(Box::new(Engine::<P, K>::new(self.port, config, seed, now)?))
    }
}
