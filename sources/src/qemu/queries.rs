//! Questions to QEMU: functions that ask over a connection and return decoded values. None of them
//! knows the VM's state; what comes before an answer stays queued in the connection.

use std::collections::BTreeSet;
use std::time::SystemTime;

use domstat_layout::latest::{Balloon, BlkLimits, Memory};
use domstat_layout::{Clock, Group};
use serde_json::{Value, json};
use uuid::Uuid;

use super::decode::{self, Cpu, Device, DeviceLimits, JobInfo, JobNodes, Node, list, text};
use super::limits::Listed;
use super::qmp::{Connection, QmpError};
use super::stats::StatsSchema;
use crate::host::now;

/// vCPUs, from query-cpus-fast.
pub(super) fn cpus(qmp: &mut Connection) -> Result<Listed<Cpu>, QmpError> {
    qmp.ask("query-cpus-fast", &Value::Null).map(|reply| decode::cpus(&reply))
}

/// QEMU's name for the VM, from query-name.
pub(super) fn name(qmp: &mut Connection) -> Result<Option<String>, QmpError> {
    Ok(text(&qmp.ask("query-name", &Value::Null)?["name"]))
}

/// The VM's UUID, from query-uuid; `None` if it was never set.
pub(super) fn uuid(qmp: &mut Connection) -> Result<Option<[u8; 16]>, QmpError> {
    let reply = qmp.ask("query-uuid", &Value::Null)?;
    let uuid = text(&reply["UUID"]).and_then(|u| Uuid::parse_str(&u).ok());
    Ok(uuid.filter(|u| !u.is_nil()).map(Uuid::into_bytes))
}

/// What changes when something is plugged.
pub(super) struct Topology {
    pub(super) cpus: Listed<Cpu>,
    /// The most vCPUs that the VM can have.
    pub(super) max_cpus: u32,
    /// QOM path of the balloon.
    pub(super) balloon: Option<String>,
    /// Thread ids of IOThreads.
    pub(super) iothreads: BTreeSet<i32>,
}

pub(super) fn topology(qmp: &mut Connection) -> Result<Topology, QmpError> {
    let cpus = cpus(qmp)?;
    let most = qmp.ask_lenient("query-hotpluggable-cpus", &Value::Null)?;
    let index = cpus.items.iter().map(|c| c.index.saturating_add(1)).max().unwrap_or(1);
    let max_cpus = decode::max_cpus(&most).max(index);
    let mut balloon = None;
    for path in ["/machine/peripheral", "/machine/peripheral-anon"] {
        let children = qmp.ask_lenient("qom-list", &json!({ "path": path }))?;
        let is_balloon =
            |c: &&Value| c["type"].as_str().is_some_and(|t| t.contains("virtio-balloon"));
        if let Some(name) = list(&children).find(is_balloon).and_then(|b| text(&b["name"])) {
            balloon = Some(format!("{path}/{name}"));
        }
    }
    let iothreads = decode::iothreads(&qmp.ask_lenient("query-iothreads", &Value::Null)?);
    Ok(Topology { cpus, max_cpus, balloon, iothreads })
}

/// Run state, from query-status.
pub(super) struct Status {
    /// QEMU's word.
    pub(super) state: String,
    pub(super) is_running: bool,
}

pub(super) fn status(qmp: &mut Connection) -> Result<Status, QmpError> {
    let reply = qmp.ask("query-status", &Value::Null)?;
    let state = text(&reply["status"]).unwrap_or_else(|| "unknown".to_owned());
    Ok(Status { state, is_running: reply["running"].as_bool().unwrap_or(true) })
}

/// Devices with their counters and chains of images, from query-blockstats.
pub(super) fn devices(qmp: &mut Connection) -> Result<Listed<Device>, QmpError> {
    qmp.ask("query-blockstats", &Value::Null).map(|reply| decode::devices(&reply))
}

/// The QOM type of a device; empty if QEMU refuses.
pub(super) fn device_kind(qmp: &mut Connection, qdev: &str) -> Result<String, QmpError> {
    let path = qdev.trim_end_matches("/virtio-backend");
    let kind = qmp.ask_lenient("qom-get", &json!({ "path": path, "property": "type" }))?;
    Ok(text(&kind).unwrap_or_default())
}

/// Block nodes with sizes and thresholds, from query-named-block-nodes.
pub(super) fn nodes(qmp: &mut Connection) -> Result<Listed<Node>, QmpError> {
    let answer = match qmp.ask("query-named-block-nodes", &json!({ "flat": true })) {
        // QEMU before 5.0 does not know `flat`.
        Err(QmpError::Refused { .. }) => qmp.ask("query-named-block-nodes", &Value::Null)?,
        other => other?,
    };
    Ok(decode::nodes(&answer))
}

/// Block jobs, from query-block-jobs.
pub(super) fn jobs(qmp: &mut Connection) -> Result<Listed<JobInfo>, QmpError> {
    qmp.ask("query-block-jobs", &Value::Null).map(|reply| decode::jobs(&reply))
}

/// The nodes of each block job, from x-debug-query-block-graph; `None` if QEMU does not have it.
pub(super) fn job_nodes(qmp: &mut Connection) -> Result<Option<JobNodes>, QmpError> {
    let reply = qmp.ask_lenient("x-debug-query-block-graph", &Value::Null)?;
    Ok(reply.is_object().then(|| decode::job_nodes(&reply)))
}

/// Sets the write threshold of a node; 0 disarms it.
pub(super) fn set_threshold(
    qmp: &mut Connection,
    node: &str,
    threshold: u64,
) -> Result<(), QmpError> {
    let arguments = json!({ "node-name": node, "write-threshold": threshold });
    qmp.ask("block-set-write-threshold", &arguments).map(|_| ())
}

/// Limits of the devices, from query-block.
pub(super) fn limits(qmp: &mut Connection) -> Result<DeviceLimits, QmpError> {
    qmp.ask("query-block", &Value::Null).map(|reply| decode::limits(&reply))
}

/// Limits of a throttle group, from its object; `None` if there is no object of that name, as for the
/// group of a device's own limits.
pub(super) fn group_limits(
    qmp: &mut Connection,
    group: &str,
) -> Result<Option<BlkLimits>, QmpError> {
    let arguments = json!({ "path": format!("/objects/{group}"), "property": "limits" });
    Ok(decode::group_limits(&qmp.ask_lenient("qom-get", &arguments)?))
}

/// The last migration, from query-migrate.
pub(super) fn migration(qmp: &mut Connection) -> Result<Value, QmpError> {
    qmp.ask_lenient("query-migrate", &Value::Null)
}

/// How often the balloon at this path asks its driver, in seconds; `None` if QEMU does not say.
pub(super) fn balloon_interval(qmp: &mut Connection, path: &str) -> Result<Option<u64>, QmpError> {
    let arguments = json!({ "path": path, "property": BALLOON_INTERVAL });
    Ok(qmp.ask_lenient("qom-get", &arguments)?.as_u64())
}

/// Has it ask this often; false if QEMU refuses.
pub(super) fn set_balloon_interval(
    qmp: &mut Connection,
    path: &str,
    seconds: u64,
) -> Result<bool, QmpError> {
    let arguments = json!({ "path": path, "property": BALLOON_INTERVAL, "value": seconds });
    match qmp.ask("qom-set", &arguments) {
        Ok(_) => Ok(true),
        Err(QmpError::Refused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

const BALLOON_INTERVAL: &str = "guest-stats-polling-interval";

/// Memory sizes and, if there is a balloon at this path, what its driver reported, and when (QEMU's
/// seconds).
pub(super) fn memory(
    qmp: &mut Connection,
    balloon: Option<&str>,
) -> Result<(Memory, Option<(Balloon, u64)>), QmpError> {
    let size = qmp.ask_lenient("query-memory-size-summary", &Value::Null)?;
    let base = size["base-memory"].as_u64();
    let plugged = size["plugged-memory"].as_u64().unwrap_or(0);
    let maximum = base.and_then(|b| b.checked_add(plugged));
    let mut memory = Memory {
        current_bytes: maximum.into(),
        maximum_bytes: maximum.into(),
        ..Memory::NOT_PRODUCED
    };
    let mut reported = None;
    if let Some(path) = balloon {
        let balloon = qmp.ask_lenient("query-balloon", &Value::Null)?;
        if let Some(actual) = balloon["actual"].as_u64() {
            memory.current_bytes = actual.into();
        }
        let arguments = json!({ "path": path, "property": "guest-stats" });
        let guest = qmp.ask_lenient("qom-get", &arguments)?;
        decode::guest_memory(&guest, &mut memory);
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now_s = since_1970.map_or(0, |time| time.as_secs());
        reported = decode::balloon(&guest, now(Clock::Boottime), now_s);
    }
    Ok((memory, reported))
}

/// What query-stats reports of the VM and of a vCPU.
pub(super) struct StatsSchemas {
    pub(super) vm: StatsSchema,
    pub(super) vcpu: StatsSchema,
}

pub(super) fn stats_schemas(qmp: &mut Connection) -> Result<StatsSchemas, QmpError> {
    let schemas = qmp.ask_lenient("query-stats-schemas", &Value::Null)?;
    let mut schema = |target: &str| {
        let sample = qmp.ask_lenient("query-stats", &json!({ "target": target }))?;
        Ok::<_, QmpError>(StatsSchema::new(&schemas, &sample, target))
    };
    Ok(StatsSchemas { vm: schema("vm")?, vcpu: schema("vcpu")? })
}

/// KVM's statistics of the VM and of its vCPUs, from query-stats.
pub(super) struct Stats {
    pub(super) vm: Value,
    pub(super) vcpus: Value,
}

pub(super) fn stats(qmp: &mut Connection) -> Result<Stats, QmpError> {
    let mut of = |target: &str| qmp.ask("query-stats", &json!({ "target": target }));
    Ok(Stats { vm: of("vm")?, vcpus: of("vcpu")? })
}
