//! Disks of a VM as users see them, and which of them a node or a job belongs to.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use domstat_layout::{Name, Word};

use super::VmState;
use crate::contract::DiskInfo;
use crate::qemu::Publisher;
use crate::qemu::decode::{Device, Layer, Node};

impl<P: Publisher> VmState<P> {
    /// Every image with its name: the disk's own, and `disk[n]` for the n-th that backs it.
    pub(super) fn images(&self) -> impl Iterator<Item = (String, &Device, usize, &Layer)> {
        let named = self.devices.iter().zip(&self.names).filter(|(_, name)| !name.is_empty());
        named.flat_map(|(device, name)| {
            let named = move |(n, layer)| (image_name(name, n), device, n, layer);
            device.layers.iter().enumerate().map(named)
        })
    }

    /// Keys of the images: names that are cut to what a record holds, and the device or,
    /// of a backing image, its node.
    pub(super) fn keys(&self) -> Vec<(String, String)> {
        let key = |(name, device, n, layer): (String, &Device, usize, &Layer)| {
            let own =
                if n == 0 { device.qdev.clone() } else { layer.node.clone().unwrap_or_default() };
            (Name::new(&name).as_str().unwrap_or_default().to_owned(), own)
        };
        self.images().map(key).collect()
    }

    /// The nodes of each disk's images.
    pub(super) fn chains(&self) -> Chains {
        let nodes = |d: &Device| d.layers.iter().filter_map(|l| l.node.clone()).collect();
        self.names.iter().cloned().zip(self.devices.iter().map(nodes)).collect()
    }

    fn node(&self, name: Option<&String>) -> Option<&Node> {
        self.nodes.get(name?)
    }

    /// The storage of the image of this name.
    pub(super) fn storage_of(&self, image: &str) -> Option<&str> {
        let found = self.images().find(|(name, ..)| name == image);
        found.and_then(|(.., layer)| layer.storage.as_deref())
    }

    /// Everything that is known of the disks and their backing images.
    pub(in crate::qemu) fn disks(&self) -> Vec<DiskInfo> {
        let info = |(name, device, n, layer): (String, &Device, usize, &Layer)| {
            let slot = self.slots.as_ref().and_then(|r| r.blk_ref(&name));
            let (node, storage) =
                (self.node(layer.node.as_ref()), self.node(layer.storage.as_ref()));
            let text = |s: &String| Some(s.clone()).filter(|s| !s.is_empty());
            DiskInfo {
                backing_index: n,
                source: node.and_then(|n| n.file.clone()),
                node: layer.node.clone(),
                storage_node: layer.storage.clone(),
                device: text(&device.device),
                qdev: text(&device.qdev),
                read_only: node.and_then(|n| n.read_only),
                capacity_bytes: node.and_then(|n| n.virtual_size),
                physical_bytes: physical(node, storage),
                threshold_bytes: storage.map(|n| n.threshold).filter(|t| *t > 0),
                last_exceeded_bytes: slot.and_then(|s| s.last_exceeded),
                threshold_events: slot.and_then(|s| s.extent.threshold_events.value()).unwrap_or(0),
                name,
            }
        };
        self.images().map(info).collect()
    }

    /// The image that a node belongs to; the node's own name if to none.
    pub(super) fn disk_of_node(&self, node: &str) -> String {
        let found = self.images().find(|(.., layer)| layer.nodes().any(|name| name == node));
        found.map_or_else(|| node.to_owned(), |(name, ..)| name)
    }

    /// Takes the sizes and thresholds of every image to its slot.
    pub(super) fn place_extents(&mut self) {
        let mut extents = Vec::new();
        for (name, _, _, layer) in self.images() {
            let (node, storage) =
                (self.node(layer.node.as_ref()), self.node(layer.storage.as_ref()));
            extents.push((
                name,
                Word::from(layer.highest),
                Word::from(node.and_then(|n| n.virtual_size)),
                Word::from(physical(node, storage)),
                Word::from(storage.map(|n| n.threshold)),
            ));
        }
        for (name, allocation, capacity, physical, threshold) in extents {
            if let Some(slot) = self.slots.as_mut().and_then(|r| r.blk(&name)) {
                slot.extent.allocation_bytes = allocation;
                slot.extent.capacity_bytes = capacity;
                slot.extent.physical_bytes = physical;
                slot.extent.threshold_bytes = threshold;
            }
        }
    }
}

/// What the image takes on the host; where QEMU does not say, it is as large as it looks.
fn physical(node: Option<&Node>, storage: Option<&Node>) -> Option<u64> {
    let actual = |n: Option<&Node>| n.and_then(|n| n.actual_size);
    actual(node).or_else(|| actual(storage)).or_else(|| storage.and_then(|n| n.virtual_size))
}

fn image_name(disk: &str, n: usize) -> String {
    if n == 0 { disk.to_owned() } else { format!("{disk}[{n}]") }
}

/// The disk that a job works on, as its nodes say: the one that has most of them, and of several
/// the one that has them nearest to the domain, since a backing image may be that of several disks.
pub(super) fn disk_of_nodes(
    nodes: &BTreeSet<String>,
    names: &[String],
    devices: &[Device],
) -> Option<String> {
    let rank = |device: &Device| {
        let uses = |layer: &Layer| layer.nodes().any(|node| nodes.contains(node));
        let first = device.layers.iter().position(uses)?;
        Some((device.layers.iter().filter(|l| uses(l)).count(), Reverse(first)))
    };
    let ranked = names.iter().zip(devices).filter_map(|(name, d)| Some((rank(d)?, name)));
    // Of equals the first.
    let best = ranked.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map(|(_, name)| name.clone()).filter(|name| !name.is_empty())
}

/// The nodes of each disk's images, the active one's first, by the disk's name.
pub(super) type Chains = BTreeMap<String, Vec<String>>;

/// The disk that a job of this kind changed by its completion, if it is one only: a mirror replaces
/// the active image, commit and stream leave images out.
pub(super) fn disk_of_change(kind: &str, before: &Chains, after: &Chains) -> Option<String> {
    let is_changed = |(name, after): &(&String, &Vec<String>)| {
        let Some(before) = before.get(*name) else { return false };
        match kind {
            "mirror" => before.first().is_some_and(|active| !after.contains(active)),
            "commit" | "stream" => {
                after.len() < before.len() && after.iter().all(|node| before.contains(node))
            }
            _ => false,
        }
    };
    let mut changed = after.iter().filter(is_changed);
    match (changed.next(), changed.next()) {
        (Some((name, _)), None) => Some(name.clone()),
        _ => None,
    }
}

/// The disk that a job's id suggests: the id is the device's without -blockdev, and libvirt puts the
/// disk's name into it; else the only disk.
pub(super) fn disk_of_id(id: &str, names: &[String], devices: &[Device]) -> Option<String> {
    let mut pairs = names.iter().zip(devices);
    let alias =
        |d: &Device| d.qdev.contains(&format!("/{id}/")) || d.qdev.ends_with(&format!("/{id}"));
    let by_id = pairs.clone().find(|(name, d)| *name == id || d.device == id || alias(d));
    let by_libvirt = || pairs.find(|(name, _)| id.split('-').nth(1) == Some(name.as_str()));
    match (by_id.or_else(by_libvirt), names) {
        (Some((name, _)), _) => Some(name.clone()),
        (None, [only]) => Some(only.clone()),
        _ => None,
    }
    .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::decode::devices;

    #[test]
    fn a_job_has_the_disk_of_its_nodes_whatever_its_id() {
        let device = |name: &str, base: &str| {
            serde_json::json!({ "device": "", "qdev": format!("/machine/peripheral/{name}"),
                "node-name": format!("top-{name}"),
                "backing": { "node-name": base, "backing": { "node-name": "shared" } } })
        };
        let reply = serde_json::json!([device("a", "base-a"), device("b", "base-b")]);
        let devices = devices(&reply).items;
        let names = ["vda".to_owned(), "vdb".to_owned()];
        let of = |nodes: &[&str]| {
            let nodes = nodes.iter().map(|n| (*n).to_owned()).collect();
            disk_of_nodes(&nodes, &names, &devices)
        };
        assert_eq!(of(&["filter", "top-b"]).as_deref(), Some("vdb"));
        assert_eq!(of(&["shared", "base-b"]).as_deref(), Some("vdb"));
        assert_eq!(of(&["shared", "top-b", "target"]).as_deref(), Some("vdb"));
        assert_eq!(of(&["target"]), None);
        let chain = |nodes: &[&str]| nodes.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let chains = |a: &[&str], b: &[&str]| {
            Chains::from([("vda".to_owned(), chain(a)), ("vdb".to_owned(), chain(b))])
        };
        let before = chains(&["a1", "a0"], &["b0"]);
        let of = |kind, a: &[&str], b: &[&str]| disk_of_change(kind, &before, &chains(a, b));
        assert_eq!(of("mirror", &["a1", "a0"], &["new"]).as_deref(), Some("vdb"));
        assert_eq!(of("mirror", &["a1", "a0"], &["new", "b0"]), None, "a snapshot");
        assert_eq!(of("mirror", &["x"], &["y"]), None, "two of them");
        assert_eq!(of("commit", &["a0"], &["new", "b0"]).as_deref(), Some("vda"));
        assert_eq!(of("stream", &["a1"], &["b0"]).as_deref(), Some("vda"));
        assert_eq!(of("backup", &["a1"], &["new"]), None);
        assert_eq!(disk_of_id("copy-vdb-x", &names, &devices).as_deref(), Some("vdb"));
        assert_eq!(disk_of_id("mine", &names, &devices), None);
    }
}
