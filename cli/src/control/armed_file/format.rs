//! Text of the file of armed thresholds, and what a damaged one still says.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use domstat_sources::contract::{Armed, ArmedThresholds};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Kept;

/// The version of the file's format.
const VERSION: u64 = 2;
/// Largest file that is read: as many thresholds as a VM may have nodes, for hundreds of VMs.
const MAX_FILE: u64 = 64 << 20;

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    version: u64,
    /// The kernel's id of the host's start: process ids of another one mean nothing.
    boot: String,
    /// How many lines follow: of a file that was cut, some are missing.
    records: u64,
}

/// Each further line: a threshold.
#[derive(Serialize, Deserialize)]
struct Record {
    address: String,
    domain: String,
    process: Option<(i32, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    away_since: Option<u64>,
    #[serde(flatten)]
    armed: Armed,
}

/// What a file says.
#[derive(Default)]
pub(super) struct Found {
    pub(super) boot: String,
    pub(super) vms: BTreeMap<String, Kept>,
    pub(super) unreadable: Vec<Unreadable>,
}

/// Records that cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// The domain, as far as the record says.
    pub(super) domain: String,
    /// The VM's address, if the record says it.
    pub(super) address: Option<String>,
    pub(super) records: Option<u64>,
    pub(super) error: String,
}

impl Found {
    fn lose(&mut self, records: Option<u64>, error: impl ToString) {
        let error = error.to_string();
        self.unreadable.push(Unreadable { records, error, ..Unreadable::default() });
    }

    /// One record is lost; `of` is what is left of it.
    fn lose_one(&mut self, of: &Value, error: &serde_json::Error) {
        let text = |key: &str| of.get(key).and_then(Value::as_str).map(str::to_owned);
        self.unreadable.push(Unreadable {
            domain: text("domain").unwrap_or_default(),
            address: text("address"),
            records: Some(1),
            error: error.to_string(),
        });
    }

    fn add(&mut self, record: Record) {
        let Record { address, domain, process, away_since, armed } = record;
        let vm = self.vms.entry(address).or_default();
        vm.away_since = away_since;
        (vm.thresholds.domain, vm.thresholds.process) = (domain, process);
        vm.thresholds.armed.push(armed);
    }
}

/// Reads the file, if it is there and ours.
pub(super) fn read(path: &Path) -> Found {
    match bytes(path) {
        Ok(Some(bytes)) => parse(&bytes),
        Ok(None) => Found::default(),
        Err(error) => {
            let mut found = Found::default();
            found.lose(None, error);
            found
        }
    }
}

fn bytes(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut options = File::options();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match options.read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("it is not a file of this user"));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write it"));
    }
    if metadata.len() > MAX_FILE {
        return Err(io::Error::other("it is too long"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

pub(super) fn parse(bytes: &[u8]) -> Found {
    let mut found = Found::default();
    let mut lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let Some(first) = lines.next() else {
        found.lose(None, "it is empty");
        return found;
    };
    // All that is asked of the first line of an unknown version is its version.
    let first: Value = serde_json::from_slice(first).unwrap_or_default();
    let head: Option<Head> = serde_json::from_value(first.clone()).ok();
    match first.get("version").and_then(Value::as_u64) {
        Some(1) => return parse_version_1(&first),
        Some(version) if version != VERSION => {
            found.lose(None, format_args!("its version {version} is not known"));
            return found;
        }
        _ => {}
    }
    let mut records = 0;
    for line in lines {
        records += 1;
        match serde_json::from_slice::<Record>(line) {
            Ok(record) => found.add(record),
            Err(error) => {
                let rest: Value = serde_json::from_slice(line).unwrap_or_default();
                found.lose_one(&rest, &error);
            }
        }
    }
    match head {
        // Without it, what the lines say is taken, with processes of an unknown start of the host.
        None => found.lose(None, "its first line is damaged"),
        Some(head) => {
            found.boot = head.boot;
            let missing = head.records.saturating_sub(records);
            if missing > 0 {
                found.lose(Some(missing), "it was cut short");
            }
        }
    }
    found
}

/// Version 1 was one value with all VMs.
fn parse_version_1(file: &Value) -> Found {
    let boot = file.get("boot").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut found = Found { boot, ..Found::default() };
    let vms = file.get("vms").and_then(Value::as_object);
    for (address, vm) in vms.into_iter().flatten() {
        match serde_json::from_value::<ArmedThresholds>(vm.clone()) {
            Ok(thresholds) => {
                let vm = Kept { thresholds, away_since: None };
                found.vms.insert(address.clone(), vm);
            }
            Err(error) => {
                let of = serde_json::json!({ "address": address });
                found.lose_one(&of, &error);
            }
        }
    }
    found
}

/// The text of a file that says this.
pub(super) fn to_text(boot: &str, vms: &BTreeMap<String, Kept>) -> Vec<u8> {
    let records = vms.values().map(|vm| vm.thresholds.armed.len() as u64).sum();
    let head = Head { version: VERSION, boot: boot.to_owned(), records };
    let mut text = domstat_sources::control::line(&head);
    for (address, Kept { thresholds, away_since }) in vms {
        for armed in &thresholds.armed {
            text += &domstat_sources::control::line(&Record {
                address: address.clone(),
                domain: thresholds.domain.clone(),
                process: thresholds.process,
                away_since: *away_since,
                armed: armed.clone(),
            });
        }
    }
    text.into_bytes()
}
