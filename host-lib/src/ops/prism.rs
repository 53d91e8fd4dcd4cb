//! PRISM's primitives, up to four in one op.

use nic_kernels::prism::{Chain, Report, reply_bytes};
use nic_wire::KernelId;

use crate::error::OpError;
use crate::operation::{Ask, Facts, Op, Operation, Reply};
use crate::remote::RemoteRegion;

impl RemoteRegion {
    /// Runs a chain of up to four primitives, each of which may depend on the one before. `payload`
    /// is what the chain's one [`Write`](nic_kernels::prism::Primitive::Write) writes; empty if it
    /// has none.
    ///
    /// ```
    /// use nic_host::prism::{Chain, CompareSwap, Comparison, FreeList, Operand, Primitive, Target};
    /// use nic_host::{Access, HOME_REGION, InlineConfig, Nic, Pointer};
    ///
    /// // The owner: a list of free buffers at 0, and at 512 a pointer to a value, none yet.
    /// let nic = Nic::inline(InlineConfig::default())?;
    /// let region = nic.region(64 << 10).create()?;
    /// let mut free = FreeList::format(region.memory(), 0, 16)?;
    /// free.post(Pointer { region: region.number(), address: 4096 })?;
    /// let export = region.export(Access::READ.and(Access::WRITE).and(Access::ATOMIC))?;
    ///
    /// // Take a buffer, write a value there, and point to it if nothing was pointed to.
    /// let session = nic.session().depth(16).open()?;
    /// let remote = session.connect(&export.ticket())?;
    /// let install = CompareSwap::new(
    ///     Target::home(512), Comparison::Equal, Operand::Word(0), Operand::Output,
    /// );
    /// let put = Chain::first(Primitive::Allocate { region: HOME_REGION, list: 0 })
    ///     .then(Primitive::Write { target: Target::output(0) })?
    ///     .then(Primitive::CompareSwap(install))?;
    /// let done = session.run(remote.prism(&put, b"apple"))?;
    /// assert!(done.report().succeeded(2));
    ///
    /// // Read through the pointer.
    /// let get = Chain::first(Primitive::Read { target: Target::home(512).indirect(), length: 5 });
    /// let done = session.run(remote.prism(&get, &[]))?;
    /// assert_eq!(done.report().reads(), b"apple");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn prism<'a>(&self, chain: &'a Chain, payload: &'a [u8]) -> Op<Prism<'a>> {
        Op::new(Prism { remote: self.remote(), chain, payload })
    }
}

/// Runs a chain of primitives.
#[derive(Clone, Copy, Debug)]
pub struct Prism<'a> {
    remote: u16,
    chain: &'a Chain,
    payload: &'a [u8],
}

/// What became of the primitives, in the session's arena; dropping it frees its place.
#[derive(Debug)]
pub struct PrismDone(Reply);

impl PrismDone {
    /// What became of each.
    #[inline]
    pub fn report(&self) -> Report<'_> {
        Report::decode(self.0.bytes()).expect("it was decoded when the op was over")
    }
}

impl Operation for Prism<'_> {
    type Output = PrismDone;

    #[inline]
    fn ask(&self) -> Ask<'_> {
        Ask::new(KernelId::PRISM, self.remote, self.chain.arguments())
            .payload(self.payload)
            .reply(reply_bytes(self.chain.read_bytes()))
    }

    #[inline]
    fn result(_: &Facts, reply: Reply) -> Result<PrismDone, OpError> {
        match Report::decode(reply.bytes()) {
            Some(_) => Ok(PrismDone(reply)),
            None => Err(OpError::BadReply),
        }
    }
}
