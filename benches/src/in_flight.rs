//! Ops of the executor alone, many at once: no packets, no other process.

use anyhow::{Result, bail};
use nic_kernels::mapped::MappedMemory;
use nic_kernels::{Answer, Budget, Builtin, Executor, Grant, Invocation, Limits};
use nic_wire::{KernelId, Status, Time};

/// The most ops in flight.
pub const WINDOW_MAX: usize = 128;

/// An executor beside some memory.
pub struct InFlight {
    memory: MappedMemory,
    executor: Executor<Builtin, MappedMemory>,
    grant: Grant,
    reply: [u8; 512],
}

impl InFlight {
    /// Runs ops that have been granted this.
    pub fn new(memory: MappedMemory, grant: Grant) -> Self {
        InFlight {
            memory,
            executor: Executor::new(WINDOW_MAX as u32, Limits::default()),
            grant,
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

    /// Runs all of them, `window` ops, to their ends, and copies each reply out as it is made, as
    /// into a packet.
    ///
    /// # Errors
    /// An op failed, or `is_right` did not like its reply.
    pub fn finish(
        &mut self,
        window: usize,
        mut is_right: impl FnMut(u64, &[u8]) -> bool,
    ) -> Result<()> {
        let InFlight { executor, memory, reply, .. } = self;
        let budget = Budget { rounds: u32::MAX, cost: u64::MAX };
        let (mut good, mut right) = (0, 0);
        executor.run_answering(memory, Time::ZERO, budget, &mut |ended| {
            let length = ended.finish.reply_length as usize;
            let is_whole = ended.finish.status == Status::Ok
                && reply.get_mut(..length).is_some_and(|reply| ended.copy_reply(0, reply).is_ok());
            good += usize::from(is_whole);
            right += usize::from(is_whole && is_right(ended.owner, &reply[..length]));
            Answer::Made
        });
        if good != window {
            bail!("{good} of {window} ops came to a good end, with at most 512 bytes of reply");
        }
        if right != window {
            bail!("{} ops found something else than what is there", window - right);
        }
        Ok(())
    }
}

fn failed(status: Status) -> anyhow::Error {
    anyhow::anyhow!("an op failed: {status}")
}
