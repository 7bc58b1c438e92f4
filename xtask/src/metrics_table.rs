//! Reference of the exporter's metrics.

use domstat_exporter::families::FAMILIES;
use domstat_exporter::family::{Computed, Family, Kind, Origin, Row};
use domstat_layout::RecordKind;

const HEAD: &str = "
# Metrics

`domstat export` serves these series at `/metrics`. Every series of a domain has the label `domain`
and, if the domain has a UUID, `uuid`. Series of a vCPU have `vcpu`, those of a device `device` (its
name, or `#` and the slot's number); the table lists the other labels. Absent is never 0: a value
that is not produced, saturated, inactive or not readable in time has no series. Units are seconds
and bytes.

A counter never decreases while its `_created` stays the same. `_created` changes when the domain's
producer starts again, and when a slot is seen to have a new vCPU or device. A removed domain has no
series from the next scrape on. A domain whose producer died without removing its entry has
`domstat_up` 0 and otherwise only the counters of reads.

Clients that accept `application/openmetrics-text` get OpenMetrics 1.0. Others get the older text
format without `_created`, in which states and infos are gauges.

| series | kind | labels | from | |
|---|---|---|---|---|";

pub(crate) fn print() {
    println!("{HEAD}");
    for family in FAMILIES.into_iter().flatten() {
        let Family { name, kind, help, origin, .. } = family;
        let (suffix, kind) = match kind {
            Kind::Counter => ("_total", "counter"),
            Kind::Gauge => ("", "gauge"),
            Kind::StateSet => ("", "state set"),
            Kind::Info => ("_info", "info"),
            Kind::Histogram => ("", "histogram"),
        };
        let (labels, fields) = match origin {
            Origin::Dom(rows) => rows_of("", rows),
            Origin::Vcpu(rows) => rows_of("vcpu", rows),
            Origin::Blk(rows) | Origin::Net(rows) => rows_of("device", rows),
            Origin::Histogram(group) | Origin::Largest(group) => {
                let slot = if group.record == RecordKind::VcpuHist { "vcpu" } else { "device" };
                (slot.to_owned(), format!("{}.{}", group.record.name(), group.name))
            }
            Origin::Computed(computed) => computed_of(*computed),
        };
        println!("| `{name}{suffix}` | {kind} | {labels} | {fields} | {help} |");
    }
}

fn rows_of(slot: &str, rows: &[Row]) -> (String, String) {
    let own: Vec<&str> = rows.iter().filter_map(|r| r.label.map(|(_, value)| value)).collect();
    let mut labels: Vec<String> = Vec::new();
    if !slot.is_empty() {
        labels.push(slot.to_owned());
    }
    if let Some((name, _)) = rows.first().and_then(|r| r.label) {
        labels.push(format!("{name}: {}", own.join(", ")));
    }
    let fields: Vec<String> = rows
        .iter()
        .map(|r| {
            let group = r.field.group;
            format!("{}.{}.{}", group.record.name(), group.name, r.field.name())
        })
        .collect();
    (labels.join("; "), fields.join(", "))
}

fn computed_of(computed: Computed) -> (String, String) {
    let (labels, from) = match computed {
        Computed::Info => ("domid, incarnation, revision", "header, dom.identity"),
        Computed::Up => ("", "as domstat_domain_state: live, stale or stalled"),
        Computed::State => {
            ("domstat_domain_state", "attachment, producer, state of the header, newest write")
        }
        Computed::Vcpus => ("", "vCPU records whose runstate is active"),
        Computed::VcpusMaximum => ("", "nr_vcpus of the header"),
        Computed::StateSeconds => ("vcpu; state", "vcpu.runstate, extrapolated to now"),
        Computed::StealSeconds => ("vcpu", "vcpu.sched.delay_ns, else vcpu.runstate.runnable_ns"),
        Computed::Online => ("vcpu", "vcpu.runstate.state"),
        Computed::Labels => ("label_KEY of each selected key", "labels.labels"),
        Computed::Status => ("domstat_domain_status", "dom.status.state"),
        Computed::StatusReason => ("reason, device", "dom.status.reason, device"),
        Computed::StatusSeconds => ("", "dom.status.since_ns"),
        Computed::Unanswered => ("", "dom.status.since_ns, if unknown by host_error"),
        Computed::Session => ("session, cause, previous_incarnation", "dom.lineage"),
        Computed::MigrationState => ("state", "dom.migration.state, unless none"),
        Computed::BalloonAge => ("", "dom.balloon.last_update_ns"),
        Computed::BlkBusy => ("device", "blk.queue.busy_ns, extrapolated to now"),
        Computed::BlkQueued => ("device", "blk.queue.queued_ns, extrapolated to now"),
        Computed::Age => ("group", "updated_ns of each group"),
        Computed::Retries => ("", "reads"),
        Computed::Failures => {
            ("reason; no domain: directory, duplicate, limit", "reads, attachments")
        }
        Computed::Saturated => ("", "every field"),
        Computed::Build => ("version; no domain", "this program"),
        Computed::Refused
        | Computed::PassSeconds
        | Computed::ProcessCpu
        | Computed::ProcessResident
        | Computed::ProcessVirtual
        | Computed::ProcessOpenFds
        | Computed::ProcessMaxFds
        | Computed::ProcessStart => ("no domain", "this program"),
    };
    (labels.to_owned(), from.to_owned())
}
