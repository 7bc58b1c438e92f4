//! Reference of the exporter's metrics.

use domstat_exporter::families::FAMILIES;
use domstat_exporter::family::{Computed, Family, From, Kind, Row};

const HEAD: &str = "
# Metrics

What `domstat export` serves at `/metrics`. Every series of a domain has the labels `domain` and,
if the domain has one, `uuid`; those of a vCPU `vcpu`, those of a device `device` (its name, or `#`
and the slot's number), and those below. Absent is never 0: what is not produced, saturated, not
active, or was not readable in time has no series. Units are seconds and bytes.

A counter never decreases while its `_created` stays; that moves when the domain's producer is
started anew, and when a slot is seen to be given to another vCPU or device. A domain that is gone
has no series from the next scrape on. One whose producer died and left its entry behind has
`domstat_up` 0 and nothing else but what is counted about reading it.

Whoever accepts `application/openmetrics-text` gets OpenMetrics 1.0; others get the older text
format, which has no `_created`, and where states and infos are gauges.

| series | kind | labels | from | |
|---|---|---|---|---|";

pub(crate) fn print() {
    println!("{HEAD}");
    for family in FAMILIES.into_iter().flatten() {
        let Family { name, kind, help, from, .. } = family;
        let (suffix, kind) = match kind {
            Kind::Counter => ("_total", "counter"),
            Kind::Gauge => ("", "gauge"),
            Kind::StateSet => ("", "state set"),
            Kind::Info => ("_info", "info"),
        };
        let (labels, fields) = match from {
            From::Dom(rows) => rows_of("", rows),
            From::Vcpu(rows) => rows_of("vcpu", rows),
            From::Blk(rows) | From::Net(rows) => rows_of("device", rows),
            From::Computed(computed) => computed_of(*computed),
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
        Computed::Up => ("", "whether it can be attached, state, lock on a file"),
        Computed::State => ("domstat_domain_state", "state of the header"),
        Computed::Vcpus => ("", "vCPU records whose runstate is active"),
        Computed::VcpusMaximum => ("", "nr_vcpus of the header"),
        Computed::StateSeconds => ("vcpu; state", "vcpu.runstate, the time since the write added"),
        Computed::StealSeconds => ("vcpu", "vcpu.sched.delay_ns, else vcpu.runstate.runnable_ns"),
        Computed::Online => ("vcpu", "vcpu.runstate.state"),
        Computed::Age => ("group", "updated_ns of each group"),
        Computed::Retries => ("", "reads"),
        Computed::Failures => ("reason; no domain: directory, duplicate", "reads, attachments"),
        Computed::Saturated => ("", "every field"),
        Computed::Build => ("version; no domain", "this program"),
        Computed::Refused => ("no domain", "this program"),
    };
    (labels.to_owned(), from.to_owned())
}
