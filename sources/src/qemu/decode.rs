//! Decoding of QEMU's replies. What a reply lacks is `None`; nothing fails.

use domstat_layout::Word;
use domstat_layout::latest::{BlkIo, BlkIoTimes, Memory};
use serde_json::Value;

/// Deepest backing chain that is followed.
const MAX_CHAIN: usize = 64;

/// A vCPU, from query-cpus-fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cpu {
    pub(super) index: u32,
    pub(super) tid: Option<i32>,
    pub(super) qom_path: String,
}

pub(super) fn cpus(reply: &Value) -> Vec<Cpu> {
    let cpu = |v: &Value| {
        Some(Cpu {
            index: u32::try_from(v["cpu-index"].as_u64()?).ok()?,
            tid: v["thread-id"].as_i64().and_then(|tid| i32::try_from(tid).ok()),
            qom_path: text(&v["qom-path"]).unwrap_or_default(),
        })
    };
    let mut cpus: Vec<Cpu> = list(reply).filter_map(cpu).collect();
    cpus.sort_by_key(|cpu| cpu.index);
    cpus
}

/// The most vCPUs that the VM can have, from query-hotpluggable-cpus.
pub(super) fn max_cpus(reply: &Value) -> u32 {
    let count = |v: &Value| v["vcpus-count"].as_u64().unwrap_or(0);
    u32::try_from(list(reply).map(count).fold(0, u64::saturating_add)).unwrap_or(u32::MAX)
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
    pub(super) io: BlkIo,
    pub(super) times: BlkIoTimes,
    /// Highest byte that was written.
    pub(super) highest: Option<u64>,
}

pub(super) fn devices(reply: &Value) -> Vec<Device> {
    list(reply).map(device).filter(|d| !d.device.is_empty() || !d.qdev.is_empty()).collect()
}

fn device(v: &Value) -> Device {
    let mut layers = Vec::new();
    let mut next = v;
    while next.is_object() && layers.len() < MAX_CHAIN {
        layers.push(layer(next));
        next = &next["backing"];
    }
    let name = |key: &str| text(&v[key]).unwrap_or_default();
    Device { device: name("device"), qdev: name("qdev"), layers }
}

fn layer(v: &Value) -> Layer {
    let stats = &v["stats"];
    let node = text(&v["node-name"]);
    let parent = &v["parent"];
    let number = |key: &str| Word::from(stats[key].as_u64());
    let failed = ["failed_rd_operations", "failed_wr_operations", "failed_flush_operations"];
    let errs = failed.iter().try_fold(0u64, |sum, key| sum.checked_add(stats[*key].as_u64()?));
    let highest = if parent.is_object() { parent } else { v };
    Layer {
        storage: text(&parent["node-name"]).or_else(|| node.clone()),
        node,
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
        highest: highest["stats"]["wr_highest_offset"].as_u64(),
    }
}

/// A block node, from query-named-block-nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) file: Option<String>,
    pub(super) virtual_size: Option<u64>,
    pub(super) actual_size: Option<u64>,
    pub(super) threshold: u64,
}

pub(super) fn nodes(reply: &Value) -> Vec<Node> {
    let node = |v: &Value| {
        Some(Node {
            name: text(&v["node-name"])?,
            file: text(&v["file"]),
            virtual_size: v["image"]["virtual-size"].as_u64(),
            actual_size: v["image"]["actual-size"].as_u64(),
            threshold: v["write_threshold"].as_u64().unwrap_or(0),
        })
    };
    list(reply).filter_map(node).collect()
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

pub(super) fn jobs(reply: &Value) -> Vec<JobInfo> {
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
    list(reply).filter_map(job).collect()
}

/// The nodes that each block job works on, from x-debug-query-block-graph: QEMU says it nowhere
/// else, and calls this one unstable, so what is not as expected is left out.
pub(super) fn job_nodes(reply: &Value, job: &str) -> Vec<String> {
    let nodes: Vec<(u64, &str, &str)> = list(&reply["nodes"])
        .filter_map(|n| Some((n["id"].as_u64()?, n["type"].as_str()?, n["name"].as_str()?)))
        .collect();
    let Some(id) = nodes.iter().find(|(_, kind, name)| *kind == "block-job" && *name == job) else {
        return Vec::new();
    };
    let children = list(&reply["edges"]).filter(|e| e["parent"].as_u64() == Some(id.0));
    let child = |e: &Value| e["child"].as_u64();
    let reached: Vec<u64> = children.filter_map(child).collect();
    // A filter that the job put on top of the device leads to the device's own node.
    let below = list(&reply["edges"])
        .filter(|e| e["parent"].as_u64().is_some_and(|p| reached.contains(&p)))
        .filter_map(child);
    let wanted: Vec<u64> = reached.iter().copied().chain(below).collect();
    let found = |id: &u64| nodes.iter().find(|n| n.0 == *id).map(|n| n.2.to_owned());
    wanted.iter().filter_map(found).collect()
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

pub(super) fn list(v: &Value) -> impl Iterator<Item = &Value> {
    v.as_array().into_iter().flatten()
}

/// Text that is not empty.
pub(super) fn text(v: &Value) -> Option<String> {
    v.as_str().filter(|s| !s.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests;
