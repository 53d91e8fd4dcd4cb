//! An engine inside the application: the application's thread runs its turns.

use std::cell::{OnceCell, RefCell};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nic_engine::engine::{Answer, ClientId, Counters, Engine, EngineConfig, Live, Work};
use nic_engine::flusher::{FlushLine, Flusher};
use nic_engine::plane::{self, Context};
use nic_engine::ports::{PortSettings, ReadyPort, open_all};
use nic_engine::{Builtin, LocalEngine, clock};
use nic_kernels::KernelSet;
use nic_ports::Port;
use nic_shm::{Doorbell, DoorbellSet, wait_any};
use nic_wire::Span;
use nic_wire::control::{ControlReply, ControlRequest};

use crate::error::NicError;
use crate::nic::{Backend, Nic, accepted};

/// How an inline engine is made.
#[derive(Clone, Debug, Default)]
pub struct InlineConfig {
    /// Its port: kernel UDP on any port of the loopback, unless said otherwise.
    pub port: PortSettings,
    /// Its sizes and times.
    pub engine: EngineConfig,
}

/// The engine and what its control plane needs.
pub(crate) struct InlineEngine {
    engine: RefCell<Box<dyn LocalEngine>>,
    client: ClientId,
    next_id: std::cell::Cell<u64>,
    /// Where an engine process would hear its applications ring; nobody sleeps on it.
    bells: Arc<DoorbellSet>,
    /// Writes regions to their files, from the first that is kept in one on; and its bell.
    flusher: OnceCell<(Flusher, FlushLine, Arc<Doorbell>)>,
    /// How many ops the engine has at a time.
    ops: usize,
}

impl Nic {
    /// An engine inside this application. The thread that owns the [`Nic`] drives it: inside poll,
    /// wait, run and the like.
    ///
    /// # Errors
    /// The port cannot be had, or the system refuses.
    pub fn inline(config: InlineConfig) -> Result<Self, NicError> {
        let mut opened = open_all::<Builtin>(&config.port, 1)
            .map_err(|refusal| NicError::Inline(refusal.to_string()))?;
        Nic::inline_ready(opened.ports.remove(0), config.engine)
    }

    /// An engine inside this application, on a port and with a kernel set of the caller's.
    ///
    /// # Errors
    /// Settings that cannot be, or the system refuses.
    pub fn inline_on<P, K>(port: P, config: EngineConfig) -> Result<Self, NicError>
    where
        P: Port + 'static,
        K: KernelSet + 'static,
    {
        let ops = usize::from(config.requests());
        let engine = Engine::<P, K>::new(port, config, seed()?, clock::now())
            .map_err(|error| NicError::Inline(error.to_string()))?;
        Nic::inline_engine(Box::new(engine), ops)
    }

    /// An engine inside this application, on a port that was opened by settings.
    ///
    /// # Errors
    /// Settings that cannot be, or the system refuses.
    pub fn inline_ready(port: ReadyPort, config: EngineConfig) -> Result<Self, NicError> {
        let ops = usize::from(config.requests());
        let engine = port
            .engine(config, seed()?, clock::now())
            .map_err(|error| NicError::Inline(error.to_string()))?;
        Nic::inline_engine(engine, ops)
    }

    fn inline_engine(mut engine: Box<dyn LocalEngine>, ops: usize) -> Result<Self, NicError> {
        engine.control(clock::now(), 0, Work::AddClient);
        let client = match engine.next_answer().map(|answered| answered.answer) {
            Some(Answer::Client(client)) => client,
            _ => return Err(NicError::OutOfTurn),
        };
        Nic::new(Backend::Inline(InlineEngine {
            engine: RefCell::new(engine),
            client,
            next_id: std::cell::Cell::new(1),
            bells: DoorbellSet::new()?,
            flusher: OnceCell::new(),
            ops,
        }))
    }
}

fn seed() -> Result<u64, NicError> {
    getrandom::u64().map_err(|error| NicError::Inline(error.to_string()))
}

impl InlineEngine {
    /// Runs one turn.
    #[inline]
    pub(crate) fn turn(&self) {
        self.engine.borrow_mut().poll(clock::now());
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.engine.borrow().address()
    }

    pub(crate) fn port(&self) -> String {
        self.engine.borrow().describe_port()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.engine.borrow().counters()
    }

    /// Carries a control request out, running turns until it is answered.
    pub(crate) fn request(
        &self,
        request: &ControlRequest,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(ControlReply, Vec<OwnedFd>), NicError> {
        let owned: Result<Vec<_>, _> =
            descriptors.iter().map(BorrowedFd::try_clone_to_owned).collect();
        let (client, address) = (self.client, self.address());
        if matches!(request, ControlRequest::RegisterBacked { .. }) {
            self.start_flusher()?;
        }
        let line = self.flusher.get().map(|(_, line, _)| line);
        let translated =
            plane::translate(client, address, request.clone(), owned?, &self.bells, line).map_err(
                |refusal| NicError::Refused { status: refusal.status, reason: refusal.reason },
            )?;
        let answer = self.carry_out(translated.work)?;
        self.finish(translated.context, answer)
    }

    /// Starts the thread that writes regions to their files, unless it runs.
    fn start_flusher(&self) -> Result<(), NicError> {
        if self.flusher.get().is_some() {
            return Ok(());
        }
        let flusher = Flusher::start()?;
        let bell = Doorbell::new().map_err(|error| NicError::Inline(error.to_string()))?;
        let (bell, flushes) = (Arc::new(bell), self.engine.borrow().flushes());
        let line = flusher.line(flushes, Arc::clone(&bell), self.ops);
        let _ = self.flusher.set((flusher, line, bell));
        Ok(())
    }

    fn finish(
        &self,
        context: Context,
        answer: Answer,
    ) -> Result<(ControlReply, Vec<OwnedFd>), NicError> {
        let outgoing = plane::reply(context, answer);
        Ok((accepted(outgoing.reply)?, outgoing.descriptors))
    }

    /// Every piece of work is answered: what waits for a peer gives up by itself.
    fn carry_out(&self, work: Work) -> Result<Answer, NicError> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let mut engine = self.engine.borrow_mut();
        engine.control(clock::now(), id, work);
        loop {
            while let Some(answered) = engine.next_answer() {
                if answered.id == id {
                    return Ok(answered.answer);
                }
            }
            engine.poll(clock::now());
        }
    }

    /// Sleeps until a packet comes or a deadline passes.
    pub(crate) fn sleep(&self, timeout: Duration) {
        let mut engine = self.engine.borrow_mut();
        if !engine.prepare_wait() {
            return;
        }
        let due = engine.next_timeout().since(clock::now()).as_ns();
        let mut timeout = timeout.min(Duration::from_nanos(due));
        if let Some(most) = engine.sleep_max() {
            timeout = timeout.min(most);
        }
        let bell = self.flusher.get().map(|(_, _, bell)| bell);
        // A wait that fails is a short one; the turn that follows finds out why.
        match (engine.wait_descriptor(), bell) {
            (Some(port), None) => drop(wait_any(&[port], Some(timeout))),
            (Some(port), Some(bell)) => drop(wait_any(&[port, bell.as_fd()], Some(timeout))),
            (None, Some(bell)) => drop(wait_any(&[bell.as_fd()], Some(timeout))),
            (None, None) => std::thread::sleep(timeout),
        }
        if let Some(bell) = bell {
            let _ = bell.drain();
        }
        engine.end_wait();
    }

    /// What is live in the engine, as JSON.
    pub(crate) fn ops(&self, older_than_us: u64) -> Result<String, NicError> {
        let older_than = Span::from_us(older_than_us.min(u64::MAX / 1000));
        let live = Box::new(Live::with_room(older_than));
        let Answer::Seen(live) = self.carry_out(Work::Look { live })? else {
            return Err(NicError::OutOfTurn);
        };
        let live = live.to_json().map_err(|error| NicError::Session(error.to_string()))?;
        let (pid, address) = (std::process::id(), self.address());
        Ok(format!(
            "{{\"pid\":{pid},\"engines\":[{{\"engine\":0,\"address\":\"{address}\",\"live\":{live}}}]}}"
        ))
    }

    /// What the engine is doing, as JSON.
    pub(crate) fn status(&self) -> String {
        let counters = self.counters();
        let list = Counters::LIST.iter().zip(counters.values());
        let counts: Vec<String> =
            list.map(|(metric, value)| format!("\"{}\":{value}", metric.name)).collect();
        format!(
            "{{\"pid\":{},\"engines\":[{{\"engine\":0,\"address\":\"{}\",\"counters\":{{{}}}}}]}}",
            std::process::id(),
            self.address(),
            counts.join(",")
        )
    }
}
