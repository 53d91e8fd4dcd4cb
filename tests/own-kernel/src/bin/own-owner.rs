//! The target application: a list of squares in its memory. It prints a ticket and sleeps until its
//! input ends.
use anyhow::Result;
use nic_host::{Access, Endpoint, Nic};
use own_kernel::SkipList;

fn main() -> Result<()> {
    let nic = Nic::connect(Endpoint::default())?;
    let region = nic.region(1 << 20).create()?;
    let mut list = SkipList::format(region.memory())?;
    for root in 1..=10_000 {
        list.insert(root * root, root)?;
    }
    let export = region.export(Access::READ)?;
    println!("{}", export.ticket());
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}
