//! DPDK's environment (EAL), started once per process.

use std::collections::VecDeque;
use std::ffi::{CString, c_char, c_int};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use dpdk_sys as sys;

use super::DpdkError;

/// Lines of EAL's log that are kept for error messages.
const LINES_KEPT: usize = 6;

static STARTED: AtomicBool = AtomicBool::new(false);
static LINES: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// EAL at work. It stays so until the process ends; copies are handles of the same one.
#[derive(Clone, Debug)]
pub struct Eal {
    huge_pages: bool,
    /// Only [`Eal::start`] makes one.
    _started: (),
}

impl Eal {
    /// Starts EAL with these arguments: `--in-memory` with huge pages, `--no-shconf --no-huge -m
    /// 256` without, `--no-pci` if there are only virtual devices. net_virtio_user wants
    /// `--single-file-segments` where there are huge pages.
    ///
    /// It pins no thread of the caller's and starts none that polls: unless the arguments say
    /// otherwise (`-l`, `-c`, `--lcores`), EAL has one logical core, whose thread ends at once.
    /// Its log goes to `tracing` (target `dpdk`), from the level warning on unless `--log-level`
    /// says otherwise.
    ///
    /// # Errors
    /// See [`DpdkError`]. After the first call, whatever came of it, every other fails.
    pub fn start<A: Into<String>>(
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Eal, DpdkError> {
        if !sys::AVAILABLE {
            return Err(DpdkError::NoLibrary);
        }
        let given: Vec<String> = arguments.into_iter().map(Into::into).collect();
        let whole = complete(&given);
        let strings: Vec<CString> =
            whole.iter().map(|argument| c_string(argument)).collect::<Result<_, _>>()?;
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(DpdkError::AlreadyStarted);
        }
        // EAL pins the thread that starts it, and makes it its own: it gets one that ends.
        let thread = std::thread::Builder::new().name("dpdk-start".into());
        let starting = thread.spawn(move || start(strings)).map_err(DpdkError::Thread)?;
        let answer = starting.join().unwrap_or(-libc::EFAULT);
        if answer < 0 {
            let (source, said) = (error(answer), last_words());
            return Err(DpdkError::Start { arguments: given, source, said });
        }
        // SAFETY: EAL runs.
        let huge_pages = unsafe { sys::has_hugepages() } != 0;
        Ok(Eal { huge_pages, _started: () })
    }

    /// Whether its memory lies in huge pages.
    pub fn has_huge_pages(&self) -> bool {
        self.huge_pages
    }
}

fn start(strings: Vec<CString>) -> c_int {
    // EAL sorts the pointers and keeps some: all of it stays for ever.
    let mut pointers: Vec<*mut c_char> = strings.into_iter().map(CString::into_raw).collect();
    pointers.push(std::ptr::null_mut());
    let pointers = pointers.leak();
    let count = pointers.len() as c_int - 1;
    // SAFETY: the arguments stay for ever, and this is the only call.
    unsafe { sys::start(count, pointers.as_mut_ptr(), log_line) }
}

/// The arguments, with what is not said in them.
fn complete(given: &[String]) -> Vec<String> {
    let mut whole = vec!["nic-engine".to_owned(), "--log-level=warning".to_owned()];
    let names_cores = |argument: &String| {
        ["-l", "-c", "--lcores"].iter().any(|option| argument.starts_with(option))
    };
    if !given.iter().any(names_cores) {
        // One logical core, on any CPU that we may use, starts no thread for the others.
        let cpus = rustix::thread::sched_getaffinity(None).unwrap_or_default();
        let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|cpu| cpus.is_set(*cpu));
        whole.push(format!("--lcores=0@{}", first.unwrap_or_default()));
    }
    whole.extend_from_slice(given);
    whole
}

extern "C" fn log_line(text: *const c_char, length: usize) {
    // SAFETY: the shim hands over so many bytes, which stay until this returns.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length) };
    for line in String::from_utf8_lossy(bytes).lines().filter(|line| !line.trim().is_empty()) {
        tracing::warn!(target: "dpdk", "{line}");
        let mut lines = LINES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if lines.len() == LINES_KEPT {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }
}

/// What EAL logged last; taken, so that the next error has words of its own.
pub(super) fn last_words() -> String {
    let mut lines = LINES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let words: Vec<String> = lines.drain(..).collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join("; ") }
}

/// A negative errno value as an error.
pub(super) fn error(answer: c_int) -> io::Error {
    io::Error::from_raw_os_error(answer.saturating_neg())
}

pub(super) fn c_string(text: &str) -> Result<CString, DpdkError> {
    CString::new(text).map_err(|_| DpdkError::Argument { found: text.to_owned() })
}
