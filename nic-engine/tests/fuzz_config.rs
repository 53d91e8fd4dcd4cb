//! Arbitrary and changed configuration files: each is understood or refused with a message, and
//! what is understood means the same when it is written and read again.
// The functions that tests share fail by panicking, too.
#![allow(clippy::unwrap_used)]

use nic_engine::daemon::Config;

const ITERATIONS: usize = 2_000;

/// A configuration with all keys but the lists' members: from it changes reach every value.
fn full() -> String {
    let mut config = Config { socket: Some("/run/nic.sock".into()), ..Config::default() };
    config.engine.cores = vec![1, 3];
    config.quota.bytes = Some(1 << 30);
    config.metrics.listen = Some(([127, 0, 0, 1], 9464).into());
    toml::to_string(&config).unwrap()
}

fn examine(text: &str) -> bool {
    match Config::parse(text, "nic.toml") {
        Ok(config) => {
            if let Err(fault) = config.check() {
                assert!(!fault.to_string().is_empty());
            }
            let again = toml::to_string(&config).unwrap();
            assert_eq!(Config::parse(&again, "nic.toml").unwrap(), config, "{text}");
            true
        }
        Err(fault) => {
            assert!(fault.to_string().contains("nic.toml"), "the message says where");
            false
        }
    }
}

#[test]
fn bytes_as_configurations() {
    bolero::check!().with_iterations(ITERATIONS).for_each(|bytes: &[u8]| {
        examine(&String::from_utf8_lossy(bytes));
    });
}

/// One change of a text.
#[derive(Clone, Copy, Debug, bolero::TypeGenerator)]
enum Change {
    Byte { place: u16, byte: u8 },
    Digit { place: u16, digit: u8 },
    DropLine { line: u8 },
    DoubleLine { line: u8 },
    Truncate { place: u16 },
}

fn changed(mut text: String, changes: &[Change]) -> String {
    for change in changes {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.is_empty() {
            break;
        }
        match *change {
            Change::Byte { place, byte } => text = with_byte(&text, place, byte),
            Change::Digit { place, digit } => {
                let digits = || text.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_digit());
                let count = digits().count().max(1);
                if let Some((at, _)) = digits().nth(usize::from(place) % count) {
                    text = with_byte(&text, at as u16, b'0' + digit % 10);
                }
            }
            Change::DropLine { line } => {
                let dropped = usize::from(line) % lines.len();
                let kept = lines.iter().enumerate().filter(|(index, _)| *index != dropped);
                text = kept.map(|(_, line)| format!("{line}\n")).collect();
            }
            Change::DoubleLine { line } => {
                text.push_str(&lines[usize::from(line) % lines.len()]);
                text.push('\n');
            }
            Change::Truncate { place } => {
                let at = usize::from(place) % (text.len() + 1);
                text = String::from_utf8_lossy(&text.as_bytes()[..at]).into_owned();
            }
        }
    }
    text
}

fn with_byte(text: &str, place: u16, byte: u8) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let count = bytes.len().max(1);
    if let Some(place) = bytes.get_mut(usize::from(place) % count) {
        *place = byte;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn changed_configurations() {
    let full = full();
    assert!(examine(&full), "the text that is changed is right");
    let input = bolero::check!().with_iterations(ITERATIONS).with_type::<Vec<Change>>();
    input.for_each(|changes| {
        examine(&changed(full.clone(), changes));
    });
}
