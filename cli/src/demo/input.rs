//! The pairs of `--input FILE`: a key, a TAB and a value on every line.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nic_kernels::bucket_table::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

use super::pairs::Pairs;

/// Pairs beyond this number are more than a demonstration is for.
const PAIRS_MAX: usize = 1 << 26;

/// Why a file cannot be used.
#[derive(Debug)]
pub enum BadInput {
    /// It cannot be read.
    Unreadable { path: PathBuf, error: io::Error },
    /// It holds nothing.
    Empty { path: PathBuf },
    /// It holds too much.
    TooMany { path: PathBuf },
    /// A line of it is not key TAB value.
    Line { path: PathBuf, line: usize, fault: Fault },
}

/// What is wrong with a line.
#[derive(Debug, PartialEq)]
pub enum Fault {
    NoTab,
    EmptyKey,
    KeyTooLong { found: usize },
    ValueTooLong { found: usize },
    Duplicate { first: usize },
}

impl std::error::Error for BadInput {}

impl std::fmt::Display for BadInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BadInput::Unreadable { path, error } => {
                write!(f, "cannot read the input file {}: {error}", path.display())
            }
            BadInput::Empty { path } => write!(
                f,
                "the input file {} is empty; each of its lines is to be a key, a TAB and a value",
                path.display()
            ),
            BadInput::TooMany { path } => write!(
                f,
                "the input file {} has more than {PAIRS_MAX} lines; give a part of it",
                path.display()
            ),
            BadInput::Line { path, line, fault } => {
                write!(f, "{}, line {line}: {fault}", path.display())
            }
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::NoTab => write!(f, "there is no TAB; a line is a key, a TAB and a value"),
            Fault::EmptyKey => write!(f, "the key is empty; it has 1 to {KEY_BYTES_MAX} bytes"),
            Fault::KeyTooLong { found } => {
                write!(f, "the key has {found} bytes; it may have at most {KEY_BYTES_MAX}")
            }
            Fault::ValueTooLong { found } => {
                write!(f, "the value has {found} bytes; it may have at most {VALUE_BYTES_MAX}")
            }
            Fault::Duplicate { first } => {
                write!(f, "the key stands in line {first} already; each key may appear once")
            }
        }
    }
}

/// Reads a file of pairs.
pub fn read(path: &Path) -> Result<Pairs, BadInput> {
    let text =
        fs::read(path).map_err(|error| BadInput::Unreadable { path: path.to_path_buf(), error })?;
    parse(&text, path)
}

fn parse(text: &[u8], path: &Path) -> Result<Pairs, BadInput> {
    let own = || path.to_path_buf();
    // The line feed at the end of the last line begins no further line.
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    if text.is_empty() {
        return Err(BadInput::Empty { path: own() });
    }
    let mut pairs = Pairs::default();
    let mut seen: HashMap<&[u8], usize> = HashMap::new();
    for (index, content) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = index + 1;
        let (key, value) =
            split(content).map_err(|fault| BadInput::Line { path: own(), line, fault })?;
        if let Some(first) = seen.insert(key, line) {
            return Err(BadInput::Line { path: own(), line, fault: Fault::Duplicate { first } });
        }
        if line > PAIRS_MAX {
            return Err(BadInput::TooMany { path: own() });
        }
        pairs.push(key, value);
    }
    Ok(pairs)
}

fn split(content: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let tab = content.iter().position(|byte| *byte == b'\t').ok_or(Fault::NoTab)?;
    let (key, value) = (&content[..tab], &content[tab + 1..]);
    if key.is_empty() {
        return Err(Fault::EmptyKey);
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(Fault::KeyTooLong { found: key.len() });
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(Fault::ValueTooLong { found: value.len() });
    }
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &[u8]) -> String {
        parse(text, Path::new("words.tsv")).unwrap_err().to_string()
    }

    #[test]
    fn lines_are_keys_and_values() {
        let pairs = parse(b"a\tred\nbc\t\nd\te\tf", Path::new("x")).unwrap();
        let all: Vec<_> = (0..pairs.len()).map(|place| pairs.get(place)).collect();
        let expected: [(&[u8], &[u8]); 3] = [(b"a", b"red"), (b"bc", b""), (b"d", b"e\tf")];
        assert_eq!(all, expected);
    }

    #[test]
    fn faults_are_told_with_their_line() {
        assert!(message(b"a\tb\nno tab\n").starts_with("words.tsv, line 2: there is no TAB"));
        assert!(message(b"a\tb\n\nc\td\n").contains("line 2: there is no TAB"));
        assert!(message(b"\tb\n").contains("line 1: the key is empty"));
        assert!(message(b"a\tb\nc\td\na\te\n").contains("line 3: the key stands in line 1"));
        let long = [vec![b'k'; 513], b"\tv".to_vec()].concat();
        assert!(message(&long).contains("line 1: the key has 513 bytes; it may have at most 512"));
        let long = [b"k\t".to_vec(), vec![b'v'; VALUE_BYTES_MAX + 1]].concat();
        assert!(message(&long).contains("line 1: the value has 1048577 bytes"));
        assert!(message(b"").contains("is empty") && message(b"\n").contains("is empty"));
    }
}
