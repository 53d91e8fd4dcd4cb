//! The configuration explained: every option with its meaning and its default, taken from the types
//! that it is read into.

use documented::DocumentedFields;
use toml::{Table, Value};

use super::config::{
    Config, EngineSettings, HardeningSettings, MetricsSettings, QuotaSettings, RegionSettings,
};
use crate::ports::PortSettings;

impl Config {
    /// A configuration file that says what is so anyway, each option under its meaning.
    ///
    /// # Errors
    /// None that a test would not have found: the defaults can be written.
    pub fn described() -> Result<String, toml::ser::Error> {
        let defaults = Table::try_from(Config::default())?;
        let mut text = options::<Config>(&defaults);
        for (name, value) in &defaults {
            let Value::Table(settings) = value else { continue };
            text.push_str(&format!("\n{}[{name}]\n\n", comment(doc::<Config>(name))));
            text.push_str(&match name.as_str() {
                "port" => options::<PortSettings>(settings),
                "engine" => options::<EngineSettings>(settings),
                "regions" => options::<RegionSettings>(settings),
                "quota" => options::<QuotaSettings>(settings),
                "metrics" => options::<MetricsSettings>(settings),
                "hardening" => options::<HardeningSettings>(settings),
                _ => String::new(),
            });
        }
        Ok(text)
    }
}

/// The options of one table that are no tables themselves, in the order in which they are declared.
fn options<T: DocumentedFields>(defaults: &Table) -> String {
    let mut text = String::new();
    for name in T::FIELD_NAMES {
        let line = match defaults.get(*name) {
            Some(Value::Table(_)) => continue,
            Some(Value::Integer(bits)) if name.ends_with("_mode") => format!("{name} = 0o{bits:o}"),
            Some(value) => format!("{name} = {value}"),
            None => format!("# {name} ="),
        };
        let gap = if text.is_empty() { "" } else { "\n" };
        text.push_str(&format!("{gap}{}{line}\n", comment(doc::<T>(name))));
    }
    text
}

fn doc<T: DocumentedFields>(name: &str) -> &'static str {
    T::get_field_docs(name).unwrap_or_default()
}

fn comment(doc: &str) -> String {
    doc.lines().map(|line| format!("# {}\n", line.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_described_is_the_default() {
        let text = Config::described().unwrap();
        assert_eq!(Config::parse(&text, "described").unwrap(), Config::default(), "{text}");
    }

    /// Every key that a file may have stands there, with what it means above it.
    #[test]
    fn every_option_is_described() {
        let text = Config::described().unwrap();
        let unknown = Config::parse("x = 1", "text").unwrap_err().to_string();
        let names = ["port", "engine", "regions", "quota", "metrics", "hardening"];
        let tables = [("", unknown)].into_iter().chain(names.map(|table| {
            let text = format!("[{table}]\nx = 1");
            (table, Config::parse(&text, "text").unwrap_err().to_string())
        }));
        let mut keys = 0;
        for (table, said) in tables {
            // The parser itself says which keys there are.
            let (_, known) = said.split_once("expected").unwrap();
            for key in known.split('`').skip(1).step_by(2) {
                let heads = [format!("{key} ="), format!("# {key} ="), format!("[{key}]")];
                let lines: Vec<&str> = text.lines().collect();
                let at = lines.iter().position(|line| heads.iter().any(|h| line.starts_with(h)));
                let at = at.unwrap_or_else(|| panic!("{table} {key} is missing in {text}"));
                assert!(at > 0 && lines[at - 1].starts_with("# "), "{key} is not explained");
                keys += 1;
            }
        }
        assert!(keys >= 20, "{keys} keys were looked for");
    }
}
