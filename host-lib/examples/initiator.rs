//! An initiator application: looks keys up in the table of another process, with its own engine
//! inside. See the `target` example for how to run both.
use anyhow::{Context, Result};
use nic_host::{InlineConfig, Lookup, Nic, RemoteTable};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let ticket = arguments.next().context("give the ticket that the target printed, then keys")?;

    let nic = Nic::inline(InlineConfig::default())?;
    let session = nic.session().open()?;
    let table = RemoteTable::open(&session, &ticket.parse()?)?;
    for key in arguments {
        match session.run(table.scan_and_read(key.as_bytes()))? {
            Lookup::Hit(entry) => println!("{key}: {}", String::from_utf8_lossy(entry.value())),
            Lookup::Miss => println!("{key}: not there"),
            Lookup::Overflowed => println!("{key}: only its owner knows"),
        }
    }
    Ok(())
}
