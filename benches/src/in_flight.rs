//! Ops of the executor alone, many at once: no packets, no other process.

use anyhow::{Result, bail};
use nic_kernels::mapped::MappedMemory;
use nic_kernels::{Budget, Builtin, Executor, Grant, Invocation, Limits, SlotId};
use nic_wire::{KernelId, Status, Time};

/// The most ops in flight.
pub const WINDOW_MAX: usize = 128;

/// An executor beside some memory.
pub struct InFlight {
    memory: MappedMemory,
    executor: Executor<Builtin, MappedMemory>,
    grant: Grant,
    over: Vec<(u64, SlotId)>,
    reply: [u8; 512],
}

impl InFlight {
    /// Runs ops that have been granted this.
    pub fn new(memory: MappedMemory, grant: Grant) -> Self {
        InFlight {
            memory,
            executor: Executor::new(WINDOW_MAX as u32, Limits::default()),
            grant,
            over: Vec::with_capacity(WINDOW_MAX),
            reply: [0; 512],
        }
    }

    /// Starts an op under a name of the caller's.
    ///
    /// # Errors
    /// It cannot be started: more than [`WINDOW_MAX`] are in flight, or its arguments are refused.
    #[inline]
    pub fn start(&mut self, owner: u64, kernel: KernelId, arguments: &[u8]) -> Result<()> {
        let invocation = Invocation {
            owner,
            kernel,
            arguments,
            payload_length: 0,
            reply_capacity: 4096,
            deadline: Time::NEVER,
        };
        let started = self.executor.start(&mut self.memory, Time::ZERO, self.grant, &invocation);
        started.map(drop).map_err(failed)
    }

    /// Runs all of them, `window` ops, to their ends, and copies each reply out, as into a packet.
    ///
    /// # Errors
    /// An op failed, or `is_right` did not like its reply.
    pub fn finish(
        &mut self,
        window: usize,
        mut is_right: impl FnMut(u64, &[u8]) -> bool,
    ) -> Result<()> {
        let InFlight { executor, memory, over, reply, .. } = self;
        let budget = Budget { rounds: u32::MAX, cost: u64::MAX };
        executor.run(memory, Time::ZERO, budget, &mut |slot, owner, finish| {
            if finish.status == Status::Ok {
                over.push((owner, slot));
            }
        });
        if over.len() != window {
            bail!("{} of {window} ops came to a good end", over.len());
        }
        for (owner, slot) in over.drain(..) {
            let length = executor.reply_length(slot) as usize;
            let Some(reply) = reply.get_mut(..length) else {
                bail!("a reply has {length} bytes, and no more than 512 were expected");
            };
            executor.copy_reply(slot, memory, 0, reply).map_err(failed)?;
            executor.free(slot, memory);
            if !is_right(owner, reply) {
                bail!("an op found something else than what is there");
            }
        }
        Ok(())
    }
}

fn failed(status: Status) -> anyhow::Error {
    anyhow::anyhow!("an op failed: {status}")
}
