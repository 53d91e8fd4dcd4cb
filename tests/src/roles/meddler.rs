//! An application that spoils what it shares with its engine: every descriptor is made to block,
//! and every eventfd is kept full.

use std::io::Write;

use anyhow::{Context, Result, bail};
use nic_host::Endpoint;
use nic_tests::children::ApplicationOptions;
use rustix::fd::OwnedFd;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use serde_json::json;

use super::{obey, wait_of};

pub(super) fn run(options: &ApplicationOptions) -> Result<()> {
    let nic = nic_host::Nic::connect(Endpoint::Path(options.socket.clone()))?;
    let session = nic.session().wait(wait_of(options.waiting)).open()?;
    let data = session.connect(&options.data.parse()?)?;
    session.run(data.read(0..64))?;
    obey(|command| match command {
        // Whoever reads an empty bell, or writes a full one, stands still from here on.
        "block" => {
            let shared = shared_descriptors()?;
            for (descriptor, _) in &shared {
                fcntl_setfl(descriptor, fcntl_getfl(descriptor)? - OFlags::NONBLOCK)?;
            }
            Ok(json!({ "blocking": shared.len() }))
        }
        "fill" => {
            let bells = shared_descriptors()?.into_iter().filter(|(_, is_bell)| *is_bell);
            let count = bells.map(|(bell, _)| keep_full(bell)).count();
            Ok(json!({ "full": count }))
        }
        "op" => Ok(json!({ "read": session.run(data.read(0..64))?.len() })),
        other => bail!("found the command {other:?}, expected block, fill or op"),
    })
}

/// Writes for ever; each write waits until all that is in the counter has been read.
fn keep_full(bell: OwnedFd) {
    let mut bell = std::fs::File::from(bell);
    std::thread::spawn(move || while bell.write_all(&(u64::MAX - 1).to_ne_bytes()).is_ok() {});
}

/// The process's eventfds and sockets, as further descriptors of the same files, and whether each
/// is an eventfd.
fn shared_descriptors() -> Result<Vec<(OwnedFd, bool)>> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // The folder's own descriptor is on the list, and gone by now.
        let Ok(link) = std::fs::read_link(entry.path()) else { continue };
        let link = link.to_string_lossy().into_owned();
        let is_bell = link == "anon_inode:[eventfd]";
        if is_bell || link.starts_with("socket:") {
            let name = entry.file_name();
            let number = name.to_str().context("descriptors are numbers")?.parse()?;
            found.push((pidfd_getfd(&own, number, PidfdGetfdFlags::empty())?, is_bell));
        }
    }
    Ok(found)
}
