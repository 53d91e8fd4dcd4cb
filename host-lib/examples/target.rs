//! A target application: a table in its memory, which others read while it sleeps.
//!
//! ```text
//! cargo run --release -- serve                                    # the engine, in one terminal
//! cargo run --release -p nic-host --example target                # prints a ticket
//! cargo run --release -p nic-host --example initiator -- TICKET apple
//! ```
use anyhow::Result;
use nic_host::{Access, BucketTable, Endpoint, Geometry, Identity, Nic};

fn main() -> Result<()> {
    let nic = Nic::connect(Endpoint::default())?;
    let geometry = Geometry::for_entries(1_000);
    let index = nic.region(geometry.index_bytes()).create()?;
    let entries = nic.region(Geometry::entries_bytes(1_000, 32, 256)).create()?;
    let identity = Identity { entries_region: entries.number(), ..Identity::default() };
    let mut table = BucketTable::format(index.memory(), entries.memory(), geometry, identity)?;
    for (fruit, colour) in [("apple", "red"), ("lime", "green"), ("plum", "blue")] {
        table.insert(fruit.as_bytes(), colour.as_bytes())?;
    }

    // Remote from here on, until the export is revoked or dropped.
    let export = index.export(Access::READ.follow(&entries))?;
    println!("{}", export.ticket());

    eprintln!("asleep; press Enter to end");
    std::io::stdin().read_line(&mut String::new())?;
    export.revoke()?;
    Ok(())
}
