//! What disks are called, and which one a user means.

use std::collections::{BTreeMap, BTreeSet};

use super::decode::Device;
use crate::contract::{ControlError, DiskInfo, ErrorCode};

/// Why a disk is not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDisk {
    /// There is none of that name.
    #[error("there is no disk {asked}; there are: {known}")]
    Unknown {
        /// What was asked for.
        asked: String,
        /// What there is.
        known: String,
    },
    /// More than one disk has that source.
    #[error("{asked} is the source of {all}: say which")]
    Ambiguous {
        /// What was asked for.
        asked: String,
        /// Whose source it is.
        all: String,
    },
}

impl From<NoDisk> for ControlError {
    fn from(error: NoDisk) -> Self {
        Self::new(ErrorCode::NotFound, error.to_string())
    }
}

/// The disk that is meant: by its name (`vda`, `vda[1]`), or by its source if that is of one only.
///
/// # Errors
/// [`NoDisk`].
pub fn find<'d>(disks: &'d [DiskInfo], asked: &str) -> Result<&'d DiskInfo, NoDisk> {
    if let Some(disk) = disks.iter().find(|d| d.name == asked) {
        return Ok(disk);
    }
    let by_source: Vec<&DiskInfo> =
        disks.iter().filter(|d| d.source.as_deref() == Some(asked)).collect();
    let names = |disks: &mut dyn Iterator<Item = &DiskInfo>| {
        disks.map(|d| d.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    match by_source.as_slice() {
        [disk] => Ok(disk),
        [] => Err(NoDisk::Unknown { asked: asked.to_owned(), known: names(&mut disks.iter()) }),
        several => Err(NoDisk::Ambiguous {
            asked: asked.to_owned(),
            all: names(&mut several.iter().copied()),
        }),
    }
}

/// The name of each device: the one that it had, else what libvirt calls it where its alias
/// shows that, else the next free letter of its kind of bus, else QEMU's name. Empty for a
/// device of which `kind_of` does not know yet what it is.
pub(super) fn names(
    devices: &[Device],
    had: impl Fn(&Device) -> Option<String>,
    kind_of: impl Fn(&Device) -> Option<String>,
) -> Vec<String> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    // Where the search for a free letter, or number behind a name, goes on: nothing is given back.
    let mut next_letter: BTreeMap<&'static str, u32> = BTreeMap::new();
    let mut next_number: BTreeMap<String, u32> = BTreeMap::new();
    let mut names: Vec<Option<String>> =
        devices.iter().map(|d| had(d).filter(|n| taken.insert(n.clone()))).collect();
    for (device, name) in devices.iter().zip(&mut names) {
        if name.is_none() {
            *name = by_alias(device).filter(|n| taken.insert(n.clone()));
        }
    }
    for (device, name) in devices.iter().zip(&mut names) {
        if name.is_some() {
            continue;
        }
        let Some(kind) = kind_of(device) else { continue };
        if let Some(prefix) = prefix_of(&kind) {
            let next = next_letter.entry(prefix).or_default();
            let free = (*next..).find(|n| taken.insert(letters(prefix, *n)));
            *next = free.unwrap_or(*next);
            *name = free.map(|n| letters(prefix, n));
        } else {
            let own = own_name(device);
            let next = next_number.entry(own.clone()).or_default();
            let numbered = |n: u32| if n == 0 { own.clone() } else { format!("{own}.{n}") };
            let free = (*next..).find(|n| taken.insert(numbered(*n)));
            *next = free.unwrap_or(*next);
            *name = free.map(numbered);
        }
    }
    names.into_iter().map(Option::unwrap_or_default).collect()
}

/// Whether the kind of the device is of use for its name.
pub(super) fn needs_kind(device: &Device) -> bool {
    by_alias(device).is_none() && !device.qdev.is_empty()
}

/// From aliases that libvirt gives (virtio-disk0, ide0-0-1, scsi0-0-0-2, sata0-0-0), and the
/// names that QEMU gives to -drive (virtio0, ide0-hd0, ide1-cd0, scsi0-hd0, floppy0).
fn by_alias(device: &Device) -> Option<String> {
    let alias = alias_of(&device.qdev).unwrap_or(&device.device);
    let digits = |text: &str| text.parse::<u32>().ok();
    if let Some(n) = alias.strip_prefix("virtio-disk").and_then(digits) {
        return Some(letters("vd", n));
    }
    if let Some(n) = alias.strip_prefix("virtio").and_then(digits) {
        return Some(letters("vd", n));
    }
    if let Some(n) = alias.strip_prefix("floppy").and_then(digits) {
        return Some(letters("fd", n));
    }
    let start = alias.find(|c: char| c.is_ascii_digit())?;
    let (bus, rest) = alias.split_at(start);
    let parts: Vec<&str> = rest.split('-').collect();
    let numbers: Vec<u32> = parts.iter().filter_map(|p| digits(p)).collect();
    let unit = |p: &str| p.strip_prefix("hd").or_else(|| p.strip_prefix("cd")).and_then(digits);
    match (bus, numbers.as_slice(), parts.as_slice()) {
        ("ide", [controller, bus, unit], _) => {
            let first = controller.checked_mul(4)?.checked_add(bus.checked_mul(2)?)?;
            Some(letters("hd", first.checked_add(*unit)?))
        }
        ("ide", [bus], [_, last]) => {
            Some(letters("hd", bus.checked_mul(2)?.checked_add(unit(last)?)?))
        }
        ("sata", [controller, _, unit], _) => {
            Some(letters("sd", controller.checked_mul(6)?.checked_add(*unit)?))
        }
        ("scsi", [controller, _, _, unit], _) => {
            Some(letters("sd", controller.checked_mul(7)?.checked_add(*unit)?))
        }
        ("scsi", [bus], [_, last]) => {
            Some(letters("sd", bus.checked_mul(7)?.checked_add(unit(last)?)?))
        }
        _ => None,
    }
}

/// The user's or libvirt's id of the device in a QOM path: /machine/peripheral/ID/...
fn alias_of(qdev: &str) -> Option<&str> {
    qdev.strip_prefix("/machine/peripheral/")?.split('/').next()
}

fn own_name(device: &Device) -> String {
    let last = device.qdev.rsplit('/').next().unwrap_or_default();
    let name = [alias_of(&device.qdev).unwrap_or_default(), &device.device, last]
        .into_iter()
        .find(|n| !n.is_empty());
    name.unwrap_or("disk").to_owned()
}

/// The letters of a kind of device, from the QOM type.
fn prefix_of(kind: &str) -> Option<&'static str> {
    let kinds = [
        ("virtio-blk", "vd"),
        ("vhost-user-blk", "vd"),
        ("scsi-", "sd"),
        ("usb-", "sd"),
        ("ide-", "hd"),
        ("floppy", "fd"),
    ];
    kinds.iter().find(|(start, _)| kind.starts_with(start)).map(|(_, prefix)| *prefix)
}

/// `vda`, ..., `vdz`, `vdaa`, ...
fn letters(prefix: &str, number: u32) -> String {
    let mut reversed = Vec::new();
    let mut n = number;
    loop {
        reversed.push(char::from(b'a' + u8::try_from(n % 26).unwrap_or(0)));
        match (n / 26).checked_sub(1) {
            Some(next) => n = next,
            None => break,
        }
    }
    prefix.chars().chain(reversed.into_iter().rev()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(device: &str, qdev: &str) -> Device {
        Device { device: device.to_owned(), qdev: qdev.to_owned(), layers: Vec::new() }
    }

    #[test]
    fn disks_have_the_names_that_libvirt_gives_them() {
        let devices = [
            device("", "/machine/peripheral/virtio-disk1/virtio-backend"),
            device("ide1-cd0", "/machine/unattached/device[9]"),
            device("", "/machine/peripheral/ide0-0-1"),
            device("", "/machine/peripheral/scsi0-0-0-2"),
            device("virtio26", ""),
            device("", "/machine/peripheral/mine/virtio-backend"),
            device("", "/machine/peripheral/ide0-0-1/double"),
            device("", "/machine/peripheral/other"),
        ];
        let kind = |d: &Device| {
            Some(if d.qdev.contains("mine") { "virtio-blk-pci" } else { "" }.to_owned())
        };
        let expected = ["vdb", "hdc", "hdb", "sdc", "vdaa", "vda", "ide0-0-1", "other"];
        assert_eq!(names(&devices, |_| None, kind), expected);

        // A device keeps its name when others come.
        let had = |d: &Device| (d.device == "mine").then(|| "vdb".to_owned());
        let devices = [device("", "/machine/peripheral/virtio-disk1/x"), device("mine", "")];
        assert_eq!(names(&devices, had, |_| Some(String::new())), ["virtio-disk1", "vdb"]);
    }

    #[test]
    fn a_device_whose_kind_is_not_known_yet_has_no_name_yet() {
        let devices = [device("", "/machine/unattached/device[1]"), device("virtio0", "")];
        assert_eq!(names(&devices, |_| None, |_| None), ["", "vda"]);
    }

    #[test]
    fn no_number_of_a_device_overflows() {
        for alias in ["ide0-4294967295-0", "ide4294967295-hd1", "ide0-0-4294967295"] {
            let devices = [device(alias, ""), device(&format!("{alias}x"), "")];
            let names = names(&devices, |_| None, |_| Some(String::new()));
            assert!(names.iter().all(|n| !n.is_empty()), "{names:?}");
        }
    }

    #[test]
    fn many_devices_of_one_name_have_names_of_their_own() {
        let devices = vec![device("same", ""); 1024];
        let names = names(&devices, |_| None, |_| Some(String::new()));
        assert_eq!((names[0].as_str(), names[1023].as_str()), ("same", "same.1023"));
    }

    #[test]
    fn letters_go_on_after_z() {
        let names = [0, 25, 26, 701, 702].map(|n| letters("vd", n));
        assert_eq!(names, ["vda", "vdz", "vdaa", "vdzz", "vdaaa"]);
    }

    fn info(name: &str, source: &str) -> DiskInfo {
        DiskInfo {
            name: name.to_owned(),
            backing_index: 0,
            source: Some(source.to_owned()),
            node: None,
            storage_node: None,
            device: None,
            qdev: None,
            read_only: None,
            capacity_bytes: None,
            physical_bytes: None,
            threshold_bytes: None,
            last_exceeded_bytes: None,
            threshold_events: 0,
        }
    }

    #[test]
    fn a_disk_is_found_by_name_or_by_an_unambiguous_source() {
        let disks = [info("vda", "/a"), info("vda[1]", "/base"), info("vdb", "/base")];
        assert_eq!(find(&disks, "vda[1]").unwrap().name, "vda[1]");
        assert_eq!(find(&disks, "/a").unwrap().name, "vda");
        let why = find(&disks, "/base").unwrap_err().to_string();
        assert_eq!(why, "/base is the source of vda[1], vdb: say which");
        let why = find(&disks, "vdc").unwrap_err().to_string();
        assert_eq!(why, "there is no disk vdc; there are: vda, vda[1], vdb");
    }
}
