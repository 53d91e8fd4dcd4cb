//! A daemon that runs a kernel of one's own.
use clap::Parser;
use nic_engine::daemon::{Arguments, DaemonError, serve};

nic_kernels::kernel_set! {
    enum Mine {
        Read(nic_kernels::read::Read),
        Write(nic_kernels::write::Write),
        LowerBound(own_kernel::LowerBound),
    }
}

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    arguments: Arguments,
}

fn main() -> Result<(), DaemonError> {
    serve::<Mine>(&Command::parse().arguments)
}
