//! The configuration file of the screen: $XDG_CONFIG_HOME/domstat/top.toml.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::columns::domain_column;
use crate::error::Failure;
use crate::output::paint::When;

/// What the file may say; what it does not say is as without it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Seconds between two samples.
    pub(super) interval: Option<f64>,
    /// Seconds without a write after which a domain is stale.
    pub(super) stale: Option<f64>,
    pub(super) sort: Option<String>,
    pub(super) reverse: Option<bool>,
    pub(super) color: Option<When>,
    /// Columns of domains, in their order.
    pub(super) columns: Option<Vec<String>>,
}

impl Config {
    /// Where the file is; `None` without a home directory.
    pub(super) fn path() -> Option<PathBuf> {
        let absolute =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
        let dir =
            absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
        Some(dir.join("domstat/top.toml"))
    }

    /// Reads the file; without one everything is as usual.
    pub(super) fn load() -> Result<Self, Failure> {
        let Some(path) = Self::path() else { return Ok(Self::default()) };
        let bad = |why: String| Failure::Config { path: path.clone(), why };
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).map_err(bad),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(bad(e.to_string())),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        let names = config.columns.iter().flatten().chain(&config.sort);
        if let Some(unknown) = names.into_iter().find(|name| domain_column(name).is_none()) {
            return Err(format!("there is no column {unknown:?}"));
        }
        for seconds in [config.interval, config.stale].into_iter().flatten() {
            if !(0.01..=86_400.0).contains(&seconds) {
                return Err(format!("{seconds} is not from 0.01 to 86400 seconds"));
            }
        }
        Ok(config)
    }

    /// Writes the file, and returns where.
    pub(super) fn save(&self) -> Result<PathBuf, String> {
        let path = Self::path().ok_or("there is no home directory")?;
        let text = toml::to_string(self).map_err(|e| e.to_string())?;
        let write = || {
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir)?;
            }
            std::fs::write(&path, text)
        };
        write().map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        Ok(path)
    }

    pub(super) fn interval(&self) -> Option<Duration> {
        self.interval.map(Duration::from_secs_f64)
    }

    pub(super) fn stale(&self) -> Option<Duration> {
        self.stale.map(Duration::from_secs_f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_what_is_wrong_is_named() {
        let config = Config {
            interval: Some(0.5),
            sort: Some("steal".to_owned()),
            columns: Some(vec!["name".to_owned(), "steal".to_owned()]),
            ..Config::default()
        };
        let text = toml::to_string(&config).expect("it has a form in TOML");
        assert_eq!(Config::parse(&text), Ok(config));
        for (text, why) in [
            ("sort = 'speed'", "no column \"speed\""),
            ("columns = ['name', 'x']", "no column \"x\""),
            ("interval = 0", "from 0.01"),
            ("interval = 'fast'", "interval"),
            ("colour = 'auto'", "colour"),
        ] {
            let error = Config::parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
