//! The program that runs next to the list.

use nic_kernels::{BadArguments, Call, Continuation, Event, Extent, Kernel, Pointer, Reply, Step};
use nic_wire::{KernelId, Status};
use zerocopy::{FromBytes, IntoBytes};

use crate::layout::{Arguments, LEVELS, NODE_BYTES, Node};

/// Finds the first node whose key is not below a given one.
#[derive(Clone, Copy, Debug)]
pub struct LowerBound {
    key: u64,
    region: u8,
    /// The last node known to lie before the one wanted, its key, and where it leads.
    from: u64,
    passed: Option<u64>,
    links: [u64; LEVELS],
    /// The level on which the search goes on.
    level: u8,
    /// The node that is being fetched, unless it is the first.
    next: Option<u64>,
}

impl Kernel for LowerBound {
    const ID: KernelId = KernelId(0x8001);

    fn begin(call: &Call<'_>) -> Result<Self, BadArguments> {
        let (found, expected) = (call.arguments.len(), size_of::<Arguments>());
        let arguments = Arguments::read_from_bytes(call.arguments)
            .map_err(|_| BadArguments::Length { found, expected })?;
        if usize::from(arguments.level) >= LEVELS {
            return Err(BadArguments::Value { field: "level" });
        }
        if arguments.reserved != [0; 5] {
            return Err(BadArguments::Value { field: "reserved" });
        }
        Ok(LowerBound {
            key: arguments.key.get(),
            region: call.region(arguments.region.get())?,
            from: arguments.from.get(),
            passed: None,
            links: [0; LEVELS],
            level: arguments.level,
            next: None,
        })
    }

    fn step(&mut self, event: Event<'_>, reply: &mut Reply<'_>) -> Step {
        match event {
            Event::Start => Step::Fetch(Extent::named(self.region, self.from, NODE_BYTES as u32)),
            Event::Fetched(bytes) => match Node::read_from_bytes(bytes) {
                Ok(node) => self.look(&node, reply),
                Err(_) => Step::UNEXPECTED,
            },
            _ => Step::UNEXPECTED,
        }
    }

    fn resume_point(&self) -> Option<Continuation> {
        let arguments = Arguments {
            from: self.from.into(),
            region: u16::from(self.region).into(),
            level: self.level,
            ..Arguments::new(self.key)
        };
        Some(Continuation::new(arguments.as_bytes()))
    }
}

impl LowerBound {
    /// Looks at a node: it lies before the one wanted, or it is that one, or one beyond it.
    fn look(&mut self, node: &Node, reply: &mut Reply<'_>) -> Step {
        let key = node.key.get();
        match self.next {
            // The first; what its key is does not matter.
            None => self.links = node.links.map(|link| link.get()),
            Some(address) if key < self.key => {
                // Without this, a list that leads back would be walked until a bound is reached.
                if self.passed.is_some_and(|passed| key <= passed) {
                    return Step::fail(Status::BadPointer);
                }
                (self.from, self.passed) = (address, Some(key));
                self.links = node.links.map(|link| link.get());
            }
            Some(_) if self.level > 0 => self.level -= 1,
            Some(_) => {
                let found = [node.key, node.value];
                return reply.append(found.as_bytes()).map_or_else(Step::from, |()| Step::DONE);
            }
        }
        self.go_on()
    }

    /// Fetches the next node on the highest level that has one.
    fn go_on(&mut self) -> Step {
        loop {
            let address = self.links[usize::from(self.level)];
            if address != 0 {
                self.next = Some(address);
                let at = Pointer { region: self.region, address };
                return Step::Fetch(Extent::followed(at, NODE_BYTES as u32));
            }
            if self.level == 0 {
                // An empty reply: all keys are below.
                return Step::DONE;
            }
            self.level -= 1;
        }
    }
}
