//! The initiator application: prints the next square and its root for each number. Its engine is a
//! built-in one: it only carries the op.
use anyhow::{Context, Result};
use nic_host::{InlineConfig, Nic};
use own_kernel::{Arguments, Bound, FindLowerBound};

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let ticket = words.next().context("give the ticket that the owner printed, then numbers")?;
    let nic = Nic::inline(InlineConfig::default())?;
    let session = nic.session().open()?;
    let region = session.connect(&ticket.parse()?)?;
    for word in words {
        let mut arguments = Arguments::new(word.parse()?);
        loop {
            match session.run(FindLowerBound::new(&region, arguments))? {
                Bound::Found { key, value } => println!("{word}: {key} is {value} squared"),
                Bound::Beyond => println!("{word}: no square is as great"),
                Bound::Continues(further) => {
                    arguments = further;
                    continue;
                }
            }
            break;
        }
    }
    Ok(())
}
