//! Receives messages and looks whether they are what and in the order they should be, or sends
//! them as it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nic_host::messages::{MESSAGE_BYTES_MAX, Receiver, Sender};
use nic_host::{Access, Endpoint, Nic};
use nic_shm::ControlSocket;
use nic_tests::children::{MessagesEngine, MessagesOptions};
use nic_tests::messages::{MESSAGES, STREAMS, message, on_ring};
use serde_json::{Value, json};

use super::{obey, say};

/// So long that nobody wakes by it in a test.
const EVER: Duration = Duration::from_secs(3600);

/// What a receiver has seen: good messages, wrong ones, failures.
#[derive(Default)]
struct Seen {
    good: AtomicU64,
    wrong: AtomicU64,
    failed: AtomicU64,
}

pub(super) fn run(options: MessagesOptions) -> Result<()> {
    if let Some(ticket) = &options.receiver {
        return send(&options, ticket);
    }
    let (seen, (tell, told)) = (Arc::new(Seen::default()), mpsc::channel());
    let its_seen = Arc::clone(&seen);
    let receiving = move || {
        if let Err(error) = receive(&options, &its_seen, &tell) {
            eprintln!("{error:#}");
            std::process::exit(1);
        }
    };
    std::thread::Builder::new().name("receiving".to_owned()).spawn(receiving)?;
    say(told.recv().context("the receiving thread ended"));
    obey(|command| match command {
        "seen" => {
            let [good, wrong, failed] =
                [&seen.good, &seen.wrong, &seen.failed].map(|count| count.load(Ordering::Relaxed));
            Ok(json!({ "good": good, "wrong": wrong, "failed": failed }))
        }
        other => bail!("found the command {other:?}, expected seen"),
    })
}

fn nic(engine: &MessagesEngine) -> Result<Nic> {
    match engine {
        MessagesEngine::Daemon(socket) => Ok(Nic::connect(Endpoint::Path(socket.clone()))?),
        MessagesEngine::Ring(socket) => on_ring(&ControlSocket::connect(socket)?, false),
    }
}

fn receive(options: &MessagesOptions, seen: &Seen, tell: &mpsc::Sender<Value>) -> Result<()> {
    let nic = nic(&options.engine)?;
    let region = nic.region(4096).create()?;
    let export = region.export(Access::CALL)?;
    let session = nic.session().receive_buffers(32, 2048).open()?;
    let mut receiver = Receiver::open(&session, MESSAGES)?;
    // One of the greatest length, and some for what comes beside it.
    for length in [1 << 20; 7].into_iter().chain([MESSAGE_BYTES_MAX as usize]) {
        let posted = receiver.post(vec![0; length]);
        anyhow::ensure!(posted.is_ok(), "a receiver takes some buffers");
    }
    tell.send(json!({ "ticket": export.ticket().to_string() }))?;
    let mut next = [0_u64; STREAMS as usize];
    loop {
        receiver.wait(EVER)?;
        let arrived: Vec<_> = receiver.poll()?.collect();
        if arrived.is_empty() {
            // Woken for nothing: the engine is gone, or is about to say why.
            nic.status()?;
        }
        for received in arrived {
            let Ok(received) = received else {
                seen.failed.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let next = &mut next[usize::from(received.stream)];
            let expected = message(received.stream, *next, received.bytes().len());
            let count = if received.bytes() == expected { &seen.good } else { &seen.wrong };
            count.fetch_add(1, Ordering::Relaxed);
            *next += 1;
            let posted = receiver.post(received.into_buffer());
            anyhow::ensure!(posted.is_ok(), "its place is free again");
        }
    }
}

fn send(options: &MessagesOptions, ticket: &str) -> Result<()> {
    let nic = nic(&options.engine)?;
    let session = nic.session().open()?;
    let remote = session.connect(&ticket.parse()?)?;
    let mut sender = Sender::open(&session, &remote, MESSAGES, STREAMS, MESSAGE_BYTES_MAX)?;
    say(Ok(json!({})));
    obey(|command| {
        let length = command.strip_prefix("send ").context("expected send LENGTH")?.parse()?;
        sender.deliver(0, &message(0, 0, length), EVER)?;
        Ok(json!({}))
    })
}
