//! Decoding of QEMU's replies. What a reply lacks is `None`; nothing fails.

use std::collections::{BTreeMap, BTreeSet};

use domstat_layout::latest::{
    Balloon, BlkDiscards, BlkFailures, BlkIo, BlkIoTimes, BlkLimits, Memory,
};
use domstat_layout::{Group, Ns, Word};
use serde_json::Value;

use super::latency::{Latency, latencies};
use super::limits::{
    Listed, MAX_CPUS, MAX_DEVICES, MAX_IMAGES, MAX_IOTHREADS, MAX_JOBS, MAX_NODES, MAX_TEXT,
};

/// Deepest backing chain that is followed.
const MAX_CHAIN: usize = 64;
/// Most filters of a chain that are looked through: a reply is nested no deeper than that.
const MAX_NESTING: usize = 128;

/// A vCPU, from query-cpus-fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpu {
    pub(crate) index: u32,
    pub(crate) tid: Option<i32>,
    pub(crate) qom_path: String,
}

pub(super) fn cpus(reply: &Value) -> Listed<Cpu> {
    let cpu = |v: &Value| {
        Some(Cpu {
            index: u32::try_from(v["cpu-index"].as_u64()?).ok()?,
            tid: v["thread-id"].as_i64().and_then(|tid| i32::try_from(tid).ok()),
            qom_path: text(&v["qom-path"]).unwrap_or_default(),
        })
    };
    let (mut items, beyond): (Vec<Cpu>, Vec<Cpu>) =
        list(reply).filter_map(cpu).partition(|cpu| cpu.index < MAX_CPUS);
    items.sort_by_key(|cpu| cpu.index);
    let listed = items.len();
    // An index is a slot, and a slot shows one vCPU.
    items.dedup_by_key(|cpu| cpu.index);
    let omitted = beyond.len().saturating_add(listed - items.len());
    Listed { items, omitted }
}

/// The most vCPUs that the VM can have, from query-hotpluggable-cpus.
pub(super) fn max_cpus(reply: &Value) -> u32 {
    let count = |v: &Value| v["vcpus-count"].as_u64().unwrap_or(0);
    let sum = list(reply).map(count).fold(0, u64::saturating_add);
    u32::try_from(sum).unwrap_or(u32::MAX).min(MAX_CPUS)
}

/// A device with its chain of images, from query-blockstats.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Device {
    /// Name of the block backend; empty with -blockdev.
    pub(super) device: String,
    /// QOM path of the device.
    pub(super) qdev: String,
    /// The active image first, then its backing images.
    pub(super) layers: Vec<Layer>,
}

/// One image of a chain.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layer {
    /// The node of the image's format.
    pub(super) node: Option<String>,
    /// The node of its storage, below the format: where offsets and thresholds are.
    pub(super) storage: Option<String>,
    /// The nodes of filters on top of it, which change no offset.
    pub(super) filters: Vec<String>,
    pub(super) io: BlkIo,
    pub(super) times: BlkIoTimes,
    pub(super) discards: BlkDiscards,
    pub(super) failures: BlkFailures,
    /// Histograms of reads, writes and flushes.
    pub(super) latencies: [Latency; 3],
    /// Highest byte that was written.
    pub(super) highest: Option<u64>,
}

impl Layer {
    /// Every node that an offset of the image's storage, or a job on the image, may be of.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &str> {
        let own = [&self.storage, &self.node].into_iter().flatten();
        own.chain(&self.filters).map(String::as_str)
    }
}

/// Devices, and how many devices and images were omitted.
pub(super) fn devices(reply: &Value) -> Listed<Device> {
    let is_device = |v: &&Value| ["device", "qdev"].iter().any(|key| text(&v[*key]).is_some());
    let mut room = MAX_IMAGES;
    let mut images_omitted = 0usize;
    let device = |v: &Value| {
        let layers = layers(v);
        let fits = layers.len().min(room);
        room -= fits;
        images_omitted = images_omitted.saturating_add(layers.len() - fits);
        let name = |key: &str| text(&v[key]).unwrap_or_default();
        let layers = layers.into_iter().take(fits).map(layer).collect();
        Device { device: name("device"), qdev: name("qdev"), layers }
    };
    let mut listed = Listed::first(list(reply).filter(is_device).map(device), MAX_DEVICES);
    listed.omitted = listed.omitted.max(images_omitted);
    listed
}

/// One image of a chain as QEMU reports it.
struct Image<'v> {
    /// What has the counters of requests: a filter, if one is on top of the image.
    top: &'v Value,
    /// The image itself, below its filters.
    own: &'v Value,
    /// Nodes of filters on top of it.
    filters: Vec<String>,
    /// Its storage, below the filters there.
    storage: &'v Value,
}

/// The chain of a device, the active image first.
fn layers(device: &Value) -> Vec<Image<'_>> {
    let mut layers = Vec::new();
    let mut next = device;
    let mut steps = 0..MAX_NESTING;
    while next.is_object() && layers.len() < MAX_CHAIN {
        let (top, mut filters) = (next, Vec::new());
        while is_filter(next) && steps.next().is_some() {
            filters.extend(text(&next["node-name"]));
            next = &next["backing"];
        }
        let mut storage = &next["parent"];
        while is_filter(storage) && steps.next().is_some() {
            storage = &storage["backing"];
        }
        layers.push(Image { top, own: next, filters, storage });
        next = &next["backing"];
    }
    layers
}

/// Whether this is a filter (throttle, copy-on-read, ...): QEMU lists its one child both as its
/// storage and as its backing image. The backing image of an image is never its storage.
fn is_filter(v: &Value) -> bool {
    let child = &v["backing"]["node-name"];
    child.is_string() && *child == v["parent"]["node-name"]
}

fn layer(image: Image<'_>) -> Layer {
    let stats = &image.top["stats"];
    let node = text(&image.own["node-name"]);
    let parent = image.storage;
    let number = |key: &str| Word::from(stats[key].as_u64());
    let failed = ["failed_rd_operations", "failed_wr_operations", "failed_flush_operations"];
    let errs = failed.iter().try_fold(0u64, |sum, key| sum.checked_add(stats[*key].as_u64()?));
    // QEMU before 3.1 does not know discards, before 8.1 not the appends to zones.
    let failed_later = ["failed_unmap_operations", "failed_zone_append_operations"];
    let errs = errs.map(|errs| {
        let later = failed_later.iter().filter_map(|key| stats[*key].as_u64());
        later.fold(errs, u64::saturating_add)
    });
    let highest = if parent.is_object() { parent } else { image.own };
    Layer {
        storage: text(&parent["node-name"]).or_else(|| node.clone()),
        node,
        filters: image.filters,
        io: BlkIo {
            rd_req: number("rd_operations"),
            rd_bytes: number("rd_bytes"),
            wr_req: number("wr_operations"),
            wr_bytes: number("wr_bytes"),
            errs: errs.into(),
            in_flight: Word::NOT_PRODUCED,
        },
        times: BlkIoTimes {
            rd_total_ns: number("rd_total_time_ns"),
            wr_total_ns: number("wr_total_time_ns"),
            flush_req: number("flush_operations"),
            flush_total_ns: number("flush_total_time_ns"),
        },
        discards: BlkDiscards {
            dis_req: number("unmap_operations"),
            dis_bytes: number("unmap_bytes"),
            dis_total_ns: number("unmap_total_time_ns"),
            dis_merged: number("unmap_merged"),
        },
        failures: BlkFailures {
            rd_failed: number("failed_rd_operations"),
            wr_failed: number("failed_wr_operations"),
            flush_failed: number("failed_flush_operations"),
            dis_failed: number("failed_unmap_operations"),
            rd_invalid: number("invalid_rd_operations"),
            wr_invalid: number("invalid_wr_operations"),
            flush_invalid: number("invalid_flush_operations"),
            dis_invalid: number("invalid_unmap_operations"),
        },
        latencies: latencies(stats),
        highest: highest["stats"]["wr_highest_offset"].as_u64(),
    }
}

/// Limits of a device, from query-block, by its name and its path.
pub(super) type DeviceLimits = BTreeMap<(String, String), BlkLimits>;

/// Limits of a throttle group, from the property `limits` of its object.
pub(super) fn group_limits(reply: &Value) -> Option<BlkLimits> {
    let limits = reply.as_object()?;
    let number = |key: &str| Word::from(limits.get(key).and_then(Value::as_u64));
    Some(BlkLimits {
        limit_req: number("iops-total"),
        rd_limit_req: number("iops-read"),
        wr_limit_req: number("iops-write"),
        limit_bytes: number("bps-total"),
        rd_limit_bytes: number("bps-read"),
        wr_limit_bytes: number("bps-write"),
        ..BlkLimits::NOT_PRODUCED
    })
}

/// What stands where both do: the lower limit of each kind, where 0 is none. A kind of limit that one
/// of them does not tell is not known.
pub(super) fn tightest(one: &BlkLimits, other: &BlkLimits) -> BlkLimits {
    let lower = |one: Word, other: Word| {
        let lower = match (one.value()?, other.value()?) {
            (0, limit) | (limit, 0) => limit,
            (one, other) => one.min(other),
        };
        Some(lower)
    };
    BlkLimits {
        limit_req: lower(one.limit_req, other.limit_req).into(),
        rd_limit_req: lower(one.rd_limit_req, other.rd_limit_req).into(),
        wr_limit_req: lower(one.wr_limit_req, other.wr_limit_req).into(),
        limit_bytes: lower(one.limit_bytes, other.limit_bytes).into(),
        rd_limit_bytes: lower(one.rd_limit_bytes, other.rd_limit_bytes).into(),
        wr_limit_bytes: lower(one.wr_limit_bytes, other.wr_limit_bytes).into(),
        ..BlkLimits::NOT_PRODUCED
    }
}

/// The group of a throttle node, which QEMU tells in the description of the node's file only.
fn throttle_group(v: &Value) -> Option<String> {
    let file = text(&v["file"])?;
    let file: Value = serde_json::from_str(file.strip_prefix("json:")?).ok()?;
    text(&file["throttle-group"])
}

/// The limits that QEMU's own throttling has for each device that holds an image.
pub(super) fn limits(reply: &Value) -> DeviceLimits {
    let of_device = |v: &Value| {
        let inserted = v["inserted"].as_object()?;
        let number = |key: &str| Word::from(inserted.get(key).and_then(Value::as_u64));
        let limits = BlkLimits {
            limit_req: number("iops"),
            rd_limit_req: number("iops_rd"),
            wr_limit_req: number("iops_wr"),
            limit_bytes: number("bps"),
            rd_limit_bytes: number("bps_rd"),
            wr_limit_bytes: number("bps_wr"),
            ..BlkLimits::NOT_PRODUCED
        };
        let name = |key: &str| text(&v[key]).unwrap_or_default();
        Some(((name("device"), name("qdev")), limits))
    };
    list(reply).filter_map(of_device).take(MAX_DEVICES).collect()
}

/// A block node, from query-named-block-nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) file: Option<String>,
    pub(super) driver: Option<String>,
    /// Of a throttle node, as far as QEMU tells it.
    pub(super) throttle_group: Option<String>,
    pub(super) read_only: Option<bool>,
    pub(super) virtual_size: Option<u64>,
    pub(super) actual_size: Option<u64>,
    pub(super) threshold: u64,
}

pub(super) fn nodes(reply: &Value) -> Listed<Node> {
    let node = |v: &Value| {
        Some(Node {
            name: text(&v["node-name"])?,
            file: text(&v["file"]),
            driver: text(&v["drv"]),
            throttle_group: throttle_group(v).filter(|_| v["drv"] == "throttle"),
            read_only: v["ro"].as_bool(),
            virtual_size: v["image"]["virtual-size"].as_u64(),
            actual_size: v["image"]["actual-size"].as_u64(),
            threshold: v["write_threshold"].as_u64().unwrap_or(0),
        })
    };
    Listed::first(list(reply).filter_map(node), MAX_NODES)
}

/// A block job, from query-block-jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JobInfo {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) paused: bool,
    pub(super) ready: bool,
    pub(super) offset: Option<u64>,
    pub(super) len: Option<u64>,
    pub(super) speed: Option<u64>,
    pub(super) error: Option<String>,
}

pub(super) fn jobs(reply: &Value) -> Listed<JobInfo> {
    let job = |v: &Value| {
        Some(JobInfo {
            id: text(&v["device"])?,
            kind: text(&v["type"]).unwrap_or_default(),
            // QEMU before 2.12 does not say.
            status: text(&v["status"]).unwrap_or_else(|| "running".to_owned()),
            paused: v["paused"].as_bool().unwrap_or(false),
            ready: v["ready"].as_bool().unwrap_or(false),
            offset: v["offset"].as_u64(),
            len: v["len"].as_u64(),
            speed: v["speed"].as_u64(),
            error: text(&v["error"]),
        })
    };
    Listed::first(list(reply).filter_map(job), MAX_JOBS)
}

/// The names of nodes, by the ids of jobs.
pub(super) type JobNodes = BTreeMap<String, BTreeSet<String>>;

/// The nodes that each block job works on, by the job's id, from x-debug-query-block-graph: QEMU
/// reports it nowhere else, and calls this one unstable, so what is not as expected is left out.
pub(super) fn job_nodes(reply: &Value) -> JobNodes {
    let mut names = BTreeMap::new();
    let mut jobs = Vec::new();
    for node in list(&reply["nodes"]) {
        let (Some(id), Some(name)) = (node["id"].as_u64(), text(&node["name"])) else { continue };
        if node["type"] == "block-job" {
            jobs.push((id, name));
        } else {
            names.insert(id, name);
        }
    }
    let mut children: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for edge in list(&reply["edges"]) {
        if let (Some(parent), Some(child)) = (edge["parent"].as_u64(), edge["child"].as_u64()) {
            children.entry(parent).or_default().insert(child);
        }
    }
    let below = |id: &u64| children.get(id).into_iter().flatten().copied();
    let nodes_of = |id: u64| {
        let own: BTreeSet<u64> = below(&id).take(MAX_NODES).collect();
        // A filter that the job put on top of the device leads to the device's own node.
        let all = own.iter().copied().chain(own.iter().flat_map(below).take(MAX_NODES));
        all.filter_map(|id| names.get(&id).cloned()).collect()
    };
    jobs.into_iter().take(MAX_JOBS).map(|(id, name)| (name, nodes_of(id))).collect()
}

/// The balloon's numbers that the guest's driver reports, from guest-stats of the device.
pub(super) fn guest_memory(reply: &Value, memory: &mut Memory) {
    let stats = &reply["stats"];
    // The driver has not reported yet, or does not know: all bits set.
    let word = |key: &str| Word::from(stats[key].as_u64().filter(|v| *v < u64::MAX / 2));
    if reply["last-update"].as_u64().unwrap_or(0) == 0 {
        return;
    }
    memory.swap_in_bytes = word("stat-swap-in");
    memory.swap_out_bytes = word("stat-swap-out");
    memory.major_faults = word("stat-major-faults");
    memory.minor_faults = word("stat-minor-faults");
    memory.unused_bytes = word("stat-free-memory");
    memory.available_bytes = word("stat-total-memory");
    memory.usable_bytes = word("stat-available-memory");
}

/// What the guest's driver reports beyond that; `None` if it has not reported yet. `now` is the
/// region's clock and `now_s` the host's, in seconds since 1970, at one moment.
pub(super) fn balloon(reply: &Value, now: Ns, now_s: u64) -> Option<(Balloon, u64)> {
    let stats = &reply["stats"];
    let word = |key: &str| Word::from(stats[key].as_u64().filter(|v| *v < u64::MAX / 2));
    let last_update = reply["last-update"].as_u64().filter(|s| *s > 0)?;
    // The host's clock may have been set back since.
    let age_ns = now_s.saturating_sub(last_update).checked_mul(1_000_000_000);
    let balloon = Balloon {
        disk_caches_bytes: word("stat-disk-caches"),
        hugetlb_pgalloc: word("stat-htlb-pgalloc"),
        hugetlb_pgfail: word("stat-htlb-pgfail"),
        oom_kills: word("stat-oom-kills"),
        alloc_stalls: word("stat-alloc-stalls"),
        async_scan: word("stat-async-scans"),
        direct_scan: word("stat-direct-scans"),
        async_reclaim: word("stat-async-reclaims"),
        direct_reclaim: word("stat-direct-reclaims"),
        last_update_ns: age_ns.and_then(|age| now.0.checked_sub(age)).into(),
    };
    Some((balloon, last_update))
}

/// Thread ids of IOThreads, from query-iothreads.
pub(super) fn iothreads(reply: &Value) -> BTreeSet<i32> {
    let tid = |v: &Value| i32::try_from(v["thread-id"].as_i64()?).ok();
    list(reply).filter_map(tid).take(MAX_IOTHREADS).collect()
}

pub(super) fn list(v: &Value) -> impl Iterator<Item = &Value> {
    v.as_array().into_iter().flatten()
}

/// Text that is neither empty nor too long.
pub(super) fn text(v: &Value) -> Option<String> {
    v.as_str().filter(|s| (1..=MAX_TEXT).contains(&s.len())).map(str::to_owned)
}

#[cfg(test)]
mod tests;
