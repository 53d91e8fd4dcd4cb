//! The owner of a small table that it changes all the time, reusing freed places at once.

use anyhow::{Context, Result};
use nic_host::{Access, BucketTable, Endpoint, Geometry, Identity, Nic};
use nic_ports::Random;
use nic_tests::children::WriterOptions;
use nic_tests::racing::{self, KEYS, STEADY};
use serde_json::json;

use super::{change_without_pause, say};

pub(super) fn run(options: &WriterOptions) -> Result<()> {
    let nic = Nic::connect(Endpoint::Path(options.socket.clone()))?;
    let geometry = Geometry::of(2, 256).context("two buckets of 256 bytes are possible")?;
    let index = nic.region(geometry.index_bytes()).create()?;
    // Room for few more entries than there are keys: what is freed is taken again at once.
    let entries = nic.region(racing::ENTRIES_BYTES).create()?;
    let identity = Identity { entries_region: entries.number(), ..Identity::default() };
    let mut table = BucketTable::format(index.memory(), entries.memory(), geometry, identity)?;
    for number in 0..KEYS {
        table.insert(&racing::key(number), &racing::value(number, 0))?;
    }
    let table_export = index.export(Access::READ.follow(&entries))?;
    let entries_export = entries.export(Access::READ)?;
    say(Ok(json!({
        "table": table_export.ticket().to_string(),
        "entries": entries_export.ticket().to_string(),
    })));

    let mut random = Random::new(options.seed);
    change_without_pause(options.core, move |count| {
        let number = random.below(KEYS);
        if number >= STEADY && random.below(2) == 0 {
            table.erase(&racing::key(number));
        } else {
            let value = racing::value(number, count);
            table.upsert(&racing::key(number), &value).context("the table has room")?;
        }
        Ok(())
    })
}
