//! With which codes `nic` and `nic-engine` end: those of sysexits.h, where it has one.

use std::io;
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// All is well.
    Ok = 0,
    /// It found something wrong, or failed in a way that has no code of its own.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// A file is not what it should be.
    Data = 65,
    /// Another has what is needed, or nobody answers.
    Unavailable = 69,
    /// An error of this program.
    Software = 70,
    /// The operating system refused.
    System = 71,
    /// A file or socket cannot be made.
    CannotCreate = 73,
    /// Try again later.
    TemporaryFailure = 75,
    /// This user may not.
    NoPermission = 77,
    /// The configuration cannot be used.
    Config = 78,
}

impl Exit {
    /// All of them, in order.
    pub const ALL: [Exit; 11] = [
        Exit::Ok,
        Exit::Failed,
        Exit::Usage,
        Exit::Data,
        Exit::Unavailable,
        Exit::Software,
        Exit::System,
        Exit::CannotCreate,
        Exit::TemporaryFailure,
        Exit::NoPermission,
        Exit::Config,
    ];

    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// When a command ends so.
    pub const fn meaning(self) -> &'static str {
        match self {
            Exit::Ok => "all is well; for an engine process: it was asked to end, and did",
            Exit::Failed => {
                "failed otherwise, or what was looked at is not as it should be (doctor, demo, bench)"
            }
            Exit::Usage => "the command line makes no sense",
            Exit::Data => "a file is not of the expected kind, or is damaged",
            Exit::Unavailable => "no engine answers, or another has the address or the socket",
            Exit::Software => "an error of this program: please report it",
            Exit::System => "the operating system refused something that should work",
            Exit::CannotCreate => "the socket or a file cannot be made where it was to be",
            Exit::TemporaryFailure => "busy, silent or too restless a machine: try again later",
            Exit::NoPermission => "this user may not do that",
            Exit::Config => "the configuration cannot be used",
        }
    }

    /// How an error of the system ends a command: `otherwise`, unless its kind says more.
    pub fn of_io(error: &io::Error, otherwise: Exit) -> Exit {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Exit::NoPermission,
            io::ErrorKind::AddrInUse => Exit::Unavailable,
            io::ErrorKind::AddrNotAvailable => Exit::Config,
            _ => otherwise,
        }
    }

    /// The table as `--help` shows it.
    pub fn table() -> String {
        let line = |exit: &Exit| format!("  {:>2}  {}", exit.code(), exit.meaning());
        let lines: Vec<_> = Exit::ALL.iter().map(line).collect();
        format!("Exit codes:\n{}", lines.join("\n"))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_and_the_table_has_them_all() {
        assert!(Exit::ALL.windows(2).all(|pair| pair[0].code() < pair[1].code()));
        assert_eq!(Exit::table().lines().count(), 1 + Exit::ALL.len());
    }

    /// What operators read is what the program does.
    #[test]
    fn the_documentation_has_the_same_table() {
        let text = include_str!("../../../docs/operations.md");
        for exit in Exit::ALL {
            let row = format!("| {} | {} |", exit.code(), exit.meaning());
            assert!(text.contains(&row), "docs/operations.md lacks the row {row}");
        }
    }
}
