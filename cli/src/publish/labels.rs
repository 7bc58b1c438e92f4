//! Labels of regions, from the command line and from a file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use domstat_layout::labels::{LabelError, LabelText};

use crate::error::Failure;
use crate::output::printable;

/// Longest file of labels in bytes: a region holds 1,023, and comments take some.
const MAX_FILE: u64 = 64 << 10;

/// Labels that fit into a region, keys and values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Labels(Vec<(String, String)>);

impl Labels {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// These labels, and of the source's those that are legal, have another key, and still fit.
    pub(super) fn and<'l>(&'l self, of_source: &'l [(String, String)]) -> Vec<(&'l str, &'l str)> {
        let mut all: Vec<_> = self.pairs().collect();
        for (key, value) in of_source {
            all.push((key, value));
            if LabelText::new(all.iter().copied()).is_err() {
                all.pop();
            }
        }
        all
    }
}

/// What the operator calls the domains by.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct LabelArgs {
    /// Label the domain, such as tenant=acme; may be repeated. Keys have a-z, 0-9, . and _
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Label the domain with the lines of this file: KEY=VALUE, or # and a comment
    #[arg(long, value_name = "FILE")]
    labels_file: Option<PathBuf>,
}

impl LabelArgs {
    /// All labels, those of the file first.
    pub(crate) fn all(&self) -> Result<Labels, Failure> {
        let mut labels = Vec::new();
        if let Some(path) = &self.labels_file {
            labels = in_file(path)?;
        }
        labels.extend(self.labels.iter().cloned());
        let pairs = labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let why = match LabelText::new(pairs) {
            Ok(_) => return Ok(Labels(labels)),
            Err(LabelError::Twice { index }) => {
                let key = labels.get(index).map_or("?", |(key, _)| key);
                format!("the key {key} is given twice")
            }
            Err(error) => error.to_string(),
        };
        Err(Failure::Labels { why })
    }
}

fn in_file(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    let failed = |why: String| Failure::Config { path: path.to_owned(), why };
    let mut text = String::new();
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    file.take(MAX_FILE).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    let mut labels = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            labels.push(label(line).map_err(|why| failed(format!("line {number}: {why}")))?);
        }
    }
    Ok(labels)
}

/// One label, as it is written.
fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("expected KEY=VALUE, found {}", printable(text)))?;
    match LabelText::new([(key, value)]) {
        Ok(_) => Ok((key.to_owned(), value.to_owned())),
        Err(LabelError::Key { .. }) if key.is_empty() => Err("the key is empty".to_owned()),
        Err(LabelError::Key { .. }) => {
            Err(format!("a key has a-z, 0-9, _ and . only, and this one is {}", printable(key)))
        }
        Err(LabelError::Value { .. }) => Err("a value has no control characters".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(labels: &[&str], file: Option<&Path>) -> LabelArgs {
        let labels = labels.iter().map(|text| label(text).unwrap()).collect();
        LabelArgs { labels, labels_file: file.map(Path::to_owned) }
    }

    #[test]
    fn labels_of_the_file_come_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels");
        std::fs::write(&path, "# whose\ntenant=acme\n\n  project=a=b c \n").unwrap();
        let labels = args(&["service=web"], Some(&path)).all().unwrap();
        let expected = [("tenant", "acme"), ("project", "a=b c"), ("service", "web")];
        assert!(labels.pairs().eq(expected), "{labels:?}");
        assert_eq!(args(&[], None).all().unwrap().pairs().count(), 0);
    }

    #[test]
    fn labels_of_the_source_follow_as_far_as_they_fit() {
        let of_source = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let own = args(&["tenant=acme"], None).all().unwrap();
        let long = "x".repeat(1000);
        let more = of_source(&[
            ("nova.name", "web"),
            ("tenant", "of the source"),
            ("Not legal", "x"),
            ("long", &long),
            ("nova.user", "alice"),
        ]);
        let expected = [("tenant", "acme"), ("nova.name", "web"), ("nova.user", "alice")];
        assert_eq!(own.and(&more), expected);
    }

    #[test]
    fn what_is_not_legal_is_named() {
        for (text, why) in [
            ("tenant", "expected KEY=VALUE, found tenant"),
            ("=x", "the key is empty"),
            ("Tenant=x", "a key has a-z, 0-9, _ and . only, and this one is Tenant"),
            ("a=\u{7}", "a value has no control characters"),
        ] {
            assert_eq!(label(text).unwrap_err(), why);
        }
        let long = format!("a={}", "x".repeat(2000));
        assert!(label(&long).unwrap_err().contains("2003 bytes"));
        let error = args(&["a=1", "b=2", "a=3"], None).all().unwrap_err();
        assert_eq!(error.to_string(), "labels: the key a is given twice");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("labels");
        std::fs::write(&path, "a=1\nB=2\n").unwrap();
        let error = args(&[], Some(&path)).all().unwrap_err().to_string();
        assert!(error.contains("line 2: a key has"), "{error}");
    }
}
