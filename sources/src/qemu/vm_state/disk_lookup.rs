//! Disks of a VM as users see them, and which of them a node or a job belongs to.

use domstat_layout::{Name, Word};

use super::VmState;
use crate::contract::DiskInfo;
use crate::qemu::Publisher;
use crate::qemu::decode::{Device, Layer, Node};

impl<P: Publisher> VmState<P> {
    /// Every image with its name: the disk's own, and `disk[n]` for the n-th that backs it.
    pub(super) fn images(&self) -> impl Iterator<Item = (String, &Device, usize, &Layer)> {
        self.devices.iter().zip(&self.names).flat_map(|(device, name)| {
            let named = move |(n, layer)| (image_name(name, n), device, n, layer);
            device.layers.iter().enumerate().map(named)
        })
    }

    /// What tells the images apart: names that are cut to what a record holds, and the device or,
    /// of a backing image, its node.
    pub(super) fn keys(&self) -> Vec<(String, String)> {
        let key = |(name, device, n, layer): (String, &Device, usize, &Layer)| {
            let own =
                if n == 0 { device.qdev.clone() } else { layer.node.clone().unwrap_or_default() };
            (Name::new(&name).as_str().unwrap_or_default().to_owned(), own)
        };
        self.images().map(key).collect()
    }

    fn node(&self, name: Option<&String>) -> Option<&Node> {
        self.nodes.iter().find(|n| Some(&n.name) == name)
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
        let is = |name: &Option<String>| name.as_deref() == Some(node);
        let found = self.images().find(|(.., layer)| is(&layer.storage) || is(&layer.node));
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

/// The disk that a job works on: by its id, which is the device's without -blockdev and has the
/// disk's name in it if libvirt gave it; else by the nodes that it uses; else the only one.
pub(super) fn disk_of_job(
    id: &str,
    names: &[String],
    devices: &[Device],
    nodes: &[String],
) -> Option<String> {
    let mut pairs = names.iter().zip(devices);
    let alias =
        |d: &Device| d.qdev.contains(&format!("/{id}/")) || d.qdev.ends_with(&format!("/{id}"));
    let by_id = pairs.clone().find(|(name, d)| *name == id || d.device == id || alias(d));
    let by_libvirt = || pairs.clone().find(|(name, _)| id.split('-').nth(1) == Some(name.as_str()));
    let uses = |d: &Device| {
        d.layers
            .iter()
            .any(|l| l.node.as_ref().or(l.storage.as_ref()).is_some_and(|n| nodes.contains(n)))
    };
    let found = by_id.or_else(by_libvirt).or_else(|| pairs.find(|(_, d)| uses(d)));
    match (found, names) {
        (Some((name, _)), _) => Some(name.clone()),
        (None, [only]) => Some(only.clone()),
        _ => None,
    }
}
