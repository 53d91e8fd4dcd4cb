//! Forks while a session is open, and uses it in the child.

use anyhow::{Context, Result, bail, ensure};
use fork::Fork;
use nic_host::{Endpoint, Nic, NicError, OpError, SubmitError};
use nic_tests::children::ApplicationOptions;
use serde_json::json;

use super::{obey, wait_of};

pub(super) fn run(options: &ApplicationOptions) -> Result<()> {
    let nic = Nic::connect(Endpoint::Path(options.socket.clone()))?;
    let session = nic.session().wait(wait_of(options.waiting)).open()?;
    let data = session.connect(&options.data.parse()?)?;
    session.run(data.read(0..64))?;
    let pending = session.submit(data.read(0..64)).ok().context("an empty session takes an op")?;

    // The process has one thread, so its child may do all that it does.
    let child = match fork::fork().context("fork")? {
        Fork::Child => {
            let is_refused = in_child(&nic, &session, &data);
            drop(pending);
            drop((session, nic));
            std::process::exit(match is_refused {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("in the child: {error:#}");
                    1
                }
            });
        }
        Fork::Parent(child) => child,
    };
    let status = fork::waitpid(child).context("waiting for the child")?;
    // The child has come and gone; the parent's op and session are as they were.
    drop(pending);
    let after = session.run(data.read(64..128))?;
    super::say(Ok(json!({ "child": status, "parent_reads": after.len() })));
    obey(|command| bail!("found the command {command:?}, expected none"))
}

fn in_child(nic: &Nic, session: &nic_host::Session, data: &nic_host::RemoteRegion) -> Result<()> {
    let run = session.run(data.read(0..64));
    ensure!(matches!(run, Err(OpError::Forked)), "run: {run:?}");
    let submitted = session.submit(data.read(0..64));
    let is_refused = matches!(submitted, Err(SubmitError::Invalid(OpError::Forked)));
    ensure!(is_refused, "submit took an op in the child");
    let issued = session.block_on(session.issue(data.read(0..64)));
    ensure!(matches!(issued, Err(OpError::Forked)), "issue: {issued:?}");
    ensure!(matches!(session.poll(), Err(OpError::Forked)), "poll reported ops of the parent");
    let waited = session.wait(std::time::Duration::from_secs(600));
    ensure!(matches!(waited, Err(OpError::Forked)), "wait: {waited:?}");
    ensure!(matches!(session.arm(), Err(OpError::Forked)), "arm told of the parent's ops");
    let answered = session.answer_calls(|_, _, _| Ok(()));
    ensure!(matches!(answered, Err(OpError::Forked)), "answer_calls: {answered:?}");
    let turned = nic.turn();
    ensure!(matches!(turned, Err(NicError::Forked)), "turn: {turned:?}");
    ensure!(matches!(session.serve(9), Err(NicError::Forked)), "serve was asked for");
    let connected = session.connect(data.ticket());
    ensure!(matches!(connected, Err(NicError::Forked)), "connect: {connected:?}");
    let region = nic.region(4096).create();
    ensure!(matches!(region, Err(NicError::Forked)), "create: {:?}", region.err());
    let opened = nic.session().open();
    ensure!(matches!(opened, Err(NicError::Forked)), "open: {:?}", opened.err());
    let status = nic.status();
    ensure!(matches!(status, Err(NicError::Forked)), "status: {status:?}");
    Ok(())
}
