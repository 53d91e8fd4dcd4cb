//! INDIRECT_READs, many lookups in each and many of them out.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nic_host::ops::IndirectRead;
use nic_host::{Pending, SubmitError, indirect_read};

use super::client::{Client, DEPTH};

/// Ops that are out.
const WINDOW: usize = 32;
/// Lookups of each: as many as fit.
pub(super) const LOOKUPS: usize = indirect_read::INDICES_MAX;

type One<'s> = (Pending<'s, IndirectRead>, [u32; LOOKUPS]);

/// Lookups of values of a length, a second, in millions. Of each op one value is compared, another
/// one each time; and each has to have its length.
pub(super) fn rate(client: &Client, length: u32, time: Duration) -> Result<f64> {
    let mut pending: Vec<Option<One<'_>>> = Vec::new();
    pending.resize_with(DEPTH as usize, || None);
    let (begun, mut out, mut done) = (Instant::now(), 0, 0_u64);
    let mut is_over = false;
    while !is_over || out > 0 {
        is_over |= begun.elapsed() >= time;
        while !is_over && out < WINDOW {
            let asked = std::array::from_fn(|_| client.store.table_entry(client.draw()));
            let arguments = indirect_read::Arguments::new(client.store.table, length, &asked)?;
            match client.session.submit(client.region.indirect_read(arguments)) {
                Ok(one) => {
                    let slot = one.slot();
                    pending[slot] = Some((one, asked));
                    out += 1;
                }
                Err(SubmitError::Full(_)) => break,
                Err(SubmitError::Invalid(error)) => return Err(error.into()),
            }
        }
        for over in client.session.poll()? {
            let Some((one, asked)) = pending[over.slot()].take() else {
                bail!("an op ended twice")
            };
            let found = one.take(over)?;
            let chosen = done as usize % LOOKUPS;
            let at = client.store.value(asked[chosen].into());
            let values = found.iter().enumerate().all(|(place, value)| match value {
                Ok(value) => {
                    value.len() == length as usize
                        && (place != chosen || client.store.is_value(at, value))
                }
                Err(_) => false,
            });
            client.judge(values && found.iter().len() == LOOKUPS);
            out -= 1;
            done += 1;
        }
    }
    Ok((done * LOOKUPS as u64) as f64 / begun.elapsed().as_secs_f64() / 1e6)
}
