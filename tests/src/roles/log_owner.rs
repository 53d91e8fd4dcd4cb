//! The owner of a log that is kept in a file. Once it has said what is in it, it does nothing.

use anyhow::Result;
use nic_host::{Access, Endpoint, Nic};
use nic_tests::children::LogOwnerOptions;
use serde_json::{Value, json};

use super::{obey, say};

pub(super) fn run(options: &LogOwnerOptions) -> Result<()> {
    let nic = Nic::connect(Endpoint::Path(options.socket.clone()))?;
    let region = nic.region(options.bytes).backed_by(&options.file).create()?;
    let (log, found) = region.durable_log(0, options.bytes)?;
    let (mut records, mut buffer, mut position) = (Vec::new(), Vec::new(), log.head());
    while position < log.watermark() {
        let (record, next) = log.read(position, &mut buffer)?;
        if let Some(record) = record {
            let is_whole =
                record.payload == record.tag.to_le_bytes().repeat(record.payload.len() / 8);
            anyhow::ensure!(is_whole, "record {} at {position} is another's", record.tag);
            records.push(json!([position, record.tag]));
        }
        position = next;
    }
    anyhow::ensure!(records.len() as u64 == found.records, "{} records, {found:?}", records.len());
    let export = region.export(Access::READ.and(Access::WRITE).and(Access::ATOMIC))?;
    say(Ok(json!({ "ticket": export.ticket().to_string(), "records": records })));
    obey(|_| Ok(Value::Null))
}
