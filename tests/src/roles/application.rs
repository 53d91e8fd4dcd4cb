//! An application that runs single ops as it is told.

use anyhow::{Result, bail};
use nic_host::{Endpoint, Nic, RemoteRegion, Session};
use nic_tests::children::ApplicationOptions;
use nic_tests::sample::{self, INVERT, PATTERN, WORDS};
use serde_json::{Value, json};

use super::{obey, wait_of};

pub(super) fn run(options: &ApplicationOptions) -> Result<()> {
    let nic = Nic::connect(Endpoint::Path(options.socket.clone()))?;
    let session = nic.session().wait(wait_of(options.waiting)).open()?;
    let data = session.connect(&options.data.parse()?)?;
    obey(|command| ops(&session, &data, command))
}

fn ops(session: &Session, data: &RemoteRegion, command: &str) -> Result<Value> {
    match command {
        // A hundred ops, one after the other.
        "ops" => {
            for number in 0..50u64 {
                let bytes = session.run(data.read(number * 64..number * 64 + 64))?;
                anyhow::ensure!(sample::is_pattern(number * 64, &bytes), "other bytes came");
                session.run(data.fetch_add(WORDS.0, 1))?;
            }
            Ok(json!({ "ops": 100, "in_use": session.in_use() }))
        }
        "call" => {
            let answer = session.run(data.call(INVERT, b"wake up", 16).deadline(LONG))?;
            Ok(json!({ "answer": answer.iter().map(|byte| !byte).collect::<Vec<u8>>() }))
        }
        // So many calls with answers of 1 MiB, one after the other.
        other => {
            let Some(count) = other.strip_prefix("long ") else {
                bail!("found the command {other:?}, expected ops, call or long COUNT")
            };
            for _ in 0..count.parse()? {
                let words = (1_u64 << 17).to_le_bytes();
                let call = data.call(PATTERN, &words, 1 << 20).deadline(LONG);
                let answer = session.run(call)?;
                anyhow::ensure!(answer.len() == 1 << 20, "{} bytes came", answer.len());
                anyhow::ensure!(sample::is_pattern(0, &answer), "other bytes came");
            }
            Ok(json!({}))
        }
    }
}

/// Longer than any test waits.
const LONG: std::time::Duration = std::time::Duration::from_secs(600);
