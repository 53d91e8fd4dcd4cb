//! What keeps others away from an engine process, and it away from the rest of the machine.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::geteuid;

use super::{Finding, read};

/// What the daemon asks of the kernel's filter of system calls.
const ACTIONS: [&str; 3] = ["kill_process", "log", "allow"];
/// Permission bits: others, or the group, may write; only owners may remove what lies there.
const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Whether the kernel can filter system calls.
pub(super) fn seccomp(root: &Path) -> Finding {
    let what = "system call filter";
    let known = read(root.join("proc/sys/kernel/seccomp/actions_avail")).unwrap_or_default();
    let known: Vec<&str> = known.split_ascii_whitespace().collect();
    let missing: Vec<&str> = ACTIONS.into_iter().filter(|action| !known.contains(action)).collect();
    if missing.is_empty() {
        return Finding::good(what, "the kernel has one; hardening.seccomp = \"kill\" uses it");
    }
    Finding::bad(
        what,
        format!("the kernel lacks {}: engine processes do not start", missing.join(", ")),
        "printf '[hardening]\\nseccomp = \"off\"\\n' >> nic.toml && nic serve --config nic.toml   \
         (or a kernel with CONFIG_SECCOMP_FILTER)",
    )
}

/// Whether others could put a socket of theirs in the place of the engine's.
pub(super) fn folder(socket: &Path) -> Finding {
    let what = "socket folder";
    let folder = match socket.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let shown = folder.display();
    let Ok(found) = folder.metadata() else {
        // Of a folder that is not there the control socket's finding tells.
        return Finding::good(what, format!("{shown} is not there"));
    };
    let mode = found.mode() & 0o7777;
    if mode & WRITABLE_BY_OTHERS != 0 && mode & STICKY == 0 {
        return Finding::slow(
            what,
            format!("{shown} has mode {mode:o}: others can replace the engine's socket by theirs"),
            format!("chmod go-w {shown}"),
        );
    }
    if ![0, geteuid().as_raw()].contains(&found.uid()) {
        return Finding::slow(
            what,
            format!("{shown} belongs to user {}, who can replace the socket", found.uid()),
            "export NIC_SOCKET=$HOME/nic.sock   (unless the engine is that user's)",
        );
    }
    Finding::good(what, format!("{shown} is its owner's to change"))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::super::Grade;
    use super::*;

    #[test]
    fn a_kernel_without_the_filter_is_told_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("proc/sys/kernel/seccomp/actions_avail");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "kill_process kill_thread trap errno user_notif trace log allow\n")
            .unwrap();
        assert_eq!(seccomp(root.path()).grade, Grade::Good);
        fs::write(&file, "kill_thread trap errno trace allow\n").unwrap();
        let found = seccomp(root.path());
        assert_eq!(found.grade, Grade::Bad);
        assert!(found.found.contains("lacks kill_process, log"), "{}", found.found);
        fs::remove_file(&file).unwrap();
        assert!(seccomp(root.path()).found.contains("kill_process, log, allow"));
    }

    #[test]
    fn a_folder_in_which_others_may_write_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let socket = root.path().join("nic.sock");
        let set = |mode| fs::set_permissions(root.path(), Permissions::from_mode(mode)).unwrap();
        set(0o700);
        assert_eq!(folder(&socket).grade, Grade::Good);
        for mode in [0o777, 0o770, 0o702] {
            set(mode);
            let found = folder(&socket);
            assert_eq!(found.grade, Grade::Slow, "{mode:o}");
            assert_eq!(found.mend, Some(format!("chmod go-w {}", root.path().display())));
        }
        // As /tmp is.
        set(0o1777);
        assert_eq!(folder(&socket).grade, Grade::Good);
        assert_eq!(folder(&root.path().join("missing/nic.sock")).grade, Grade::Good);
    }
}
