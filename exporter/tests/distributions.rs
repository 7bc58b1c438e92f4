//! Histograms and labels of domains.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::path::Path;

use domstat_exporter::Exporter;
use domstat_exporter::domain_labels::Keys;
use domstat_exporter::histogram::Bounds;
use domstat_exporter::openmetrics::{Format, write};
use domstat_exporter::selection::{Groups, Selection, Vcpus};
use domstat_layout::latest::{
    BlkIdentity, BlkQueueOf, BlkQueueRdLatency, RdLatency, Runstate, Wait, WrLatency, WrSize,
};
use domstat_layout::{Group, HistogramGroup, Name, Ns, Share, Word};
use domstat_producer::{Created, RegionBuilder};

fn text(dir: &Path, selection: Selection) -> String {
    text_of(&Exporter::new(dir).with_selection(selection))
}

fn text_of(exporter: &Exporter) -> String {
    let scrape = exporter.pass();
    let mut text = Vec::new();
    let take = |piece: Vec<u8>| {
        text.extend(piece);
        Ok::<_, ()>(())
    };
    write(&scrape, Format::OpenMetrics, true, take).unwrap();
    exporter.give_back(scrape);
    String::from_utf8(text).unwrap()
}

fn groups(text: &str) -> Groups {
    text.parse().unwrap()
}

fn value(text: &str, series: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(series))?;
    line.rsplit_once(' ').map(|(_, value)| value.to_owned())
}

fn recorded<G: HistogramGroup>(values: &[u64]) -> G {
    let mut group = G::EMPTY;
    values.iter().for_each(|value| group.record(*value));
    group
}

fn domain() -> RegionBuilder {
    RegionBuilder::new("d").vcpus(2).blks(2).vcpu_histograms(true).blk_histograms(true)
}

#[test]
fn histograms_are_exported_when_they_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut created = domain().create_memfd().unwrap();
    created.blks[0].write(&BlkIdentity { name: Name::new("vda") }, Ns(1));
    let reads = [0, 1_000, 1_023, 1_024, 70_000, 3_000_000_000];
    created.blk_hists[0].write(&recorded::<RdLatency>(&reads), Ns(1));
    created.blk_hists[0].write(&recorded::<WrSize>(&[512, 4096, 4096]), Ns(1));
    // One bucket is not produced: there is no histogram.
    let mut writes = recorded::<WrLatency>(&[5]);
    writes.ns.0[7] = Word::NOT_PRODUCED;
    created.blk_hists[0].write(&writes, Ns(1));
    created.vcpu_hists[1].write(&recorded::<Wait>(&[9_000]), Ns(1));
    let region = created.unpublished.publish().unwrap();
    let _announcement = region.announce(dir.path(), "d").unwrap();

    let default = text(dir.path(), Selection::default());
    for absent in ["latency", "_size_", "vcpu_wait", "longest", "labels"] {
        assert!(!default.contains(absent), "{absent}\n{default}");
    }
    let selection = Selection { groups: groups("*_hist"), ..Selection::default() };
    let few = text(dir.path(), selection.clone());
    let bucket = |text: &str, le: &str| {
        let series = format!(
            "domstat_block_read_latency_seconds_bucket{{domain=\"d\",device=\"vda\",le=\"{le}\"}} "
        );
        value(text, &series).map(|n| n.parse::<u64>().unwrap())
    };
    assert_eq!(bucket(&few, "0.000001023"), Some(3), "{few}");
    assert_eq!(bucket(&few, "0.000004095"), Some(4));
    assert_eq!(bucket(&few, "0.000002047"), None, "every second bound");
    assert_eq!(bucket(&few, "17.179869183"), Some(6));
    assert_eq!(bucket(&few, "+Inf"), Some(6));
    let of_vda =
        |name: &str| value(&few, &format!("domstat_{name}{{domain=\"d\",device=\"vda\"}} "));
    let sum: u64 = reads.iter().sum();
    let sum = format!("{}.{:09}", sum / 1_000_000_000, sum % 1_000_000_000);
    assert_eq!(of_vda("block_read_latency_seconds_sum"), Some(sum));
    assert_eq!(of_vda("block_read_latency_seconds_count").as_deref(), Some("6"));
    assert_eq!(of_vda("block_longest_read_seconds").as_deref(), Some("3.000000000"));
    assert_eq!(of_vda("block_write_size_bytes_sum").as_deref(), Some("8704"));
    let size = "domstat_block_write_size_bytes_bucket{domain=\"d\",device=\"vda\",le=\"2047.0\"}";
    assert_eq!(value(&few, size).as_deref(), Some("1"), "512 and not 4096");
    assert!(!few.contains("write_latency") && !few.contains("flush"), "{few}");
    assert!(!few.contains("device=\"#1\""), "the other disk has no histogram: {few}");
    let wait = "domstat_vcpu_wait_seconds_count{domain=\"d\",vcpu=\"1\"}";
    assert_eq!(value(&few, wait).as_deref(), Some("1"));
    assert!(!few.contains("vcpu=\"0\""), "{few}");
    assert!(few.contains("domstat_block_read_latency_seconds_created{domain=\"d\""), "{few}");

    let all = text(dir.path(), Selection { bounds: Bounds::All, ..selection });
    assert_eq!((bucket(&all, "0.0"), bucket(&all, "0.000002047")), (Some(1), Some(4)), "{all}");
}

#[test]
fn the_histogram_of_a_device_is_the_sum_of_its_shares() {
    let dir = tempfile::tempdir().unwrap();
    let mut created = domain().blk_queues(4).create_memfd().unwrap();
    created.blks[0].write(&BlkIdentity { name: Name::new("vda") }, Ns(1));
    // The device's own is as of some time ago.
    created.blk_hists[0].write(&recorded::<RdLatency>(&[1]), Ns(1));
    let of = |device: u64, generation: u64, queue: u64| BlkQueueOf {
        device: Word::from(device),
        generation: Word::from(generation),
        queue: Word::from(queue),
        pid: Word::NOT_PRODUCED,
    };
    let share = |values: &[u64]| BlkQueueRdLatency::share(recorded::<RdLatency>(values));
    let Created { unpublished, mut blk_queues, .. } = created;
    for (slot, (of, values)) in [
        (of(0, 0, 0), [5, 700].as_slice()),
        (of(0, 0, 1), &[900]),
        // Of another device, and of an earlier one in the slot.
        (of(1, 0, 0), &[1, 2, 3, 4]),
        (of(0, 7, 0), &[1, 2, 3, 4, 5]),
    ]
    .into_iter()
    .enumerate()
    {
        blk_queues[slot].write(&of, Ns(1));
        blk_queues[slot].write(&share(values), Ns(1));
    }
    let region = unpublished.publish().unwrap();
    let _announcement = region.announce(dir.path(), "d").unwrap();
    let exporter = Exporter::new(dir.path())
        .with_selection(Selection { groups: groups("rd_latency"), ..Selection::default() });
    let series = |name: &str, device: &str| {
        let series = format!("domstat_block_{name}{{domain=\"d\",device=\"{device}\"}}");
        value(&text_of(&exporter), &series)
    };
    assert_eq!(series("read_latency_seconds_count", "vda").as_deref(), Some("3"));
    assert_eq!(series("read_latency_seconds_sum", "vda").as_deref(), Some("0.000001605"));
    assert_eq!(series("longest_read_seconds", "vda").as_deref(), Some("0.000000900"));
    assert_eq!(series("read_latency_seconds_count", "#1").as_deref(), Some("4"));
    // A share that does not produce it makes the sum absent.
    blk_queues[1].deactivate::<BlkQueueRdLatency>();
    assert_eq!(series("read_latency_seconds_count", "vda"), None);
    blk_queues[0].deactivate::<BlkQueueRdLatency>();
    let own = series("read_latency_seconds_count", "vda");
    assert_eq!(own.as_deref(), Some("1"), "no share has one: the device's own");
}

#[test]
fn waits_of_all_vcpus_in_sum() {
    let dir = tempfile::tempdir().unwrap();
    let mut created = domain().create_memfd().unwrap();
    for (vcpu, values) in [[10, 20].as_slice(), &[3_000]].into_iter().enumerate() {
        created.vcpus[vcpu].write(&Runstate::NOT_PRODUCED, Ns(1));
        created.vcpu_hists[vcpu].write(&recorded::<Wait>(values), Ns(1));
    }
    let Created { unpublished, mut vcpus, mut vcpu_hists, .. } = created;
    let region = unpublished.publish().unwrap();
    let _announcement = region.announce(dir.path(), "d").unwrap();
    let (groups, vcpus_in_sum) = (groups("wait"), Vcpus::Sum);
    let selection = Selection { groups, vcpus: vcpus_in_sum, ..Selection::default() };
    let exporter = Exporter::new(dir.path()).with_selection(selection);
    let series =
        |name: &str| value(&text_of(&exporter), &format!("domstat_vcpu_{name}{{domain=\"d\"}}"));
    assert_eq!(series("wait_seconds_count").as_deref(), Some("3"));
    assert_eq!(series("wait_seconds_sum").as_deref(), Some("0.000003030"));
    assert_eq!(series("longest_wait_seconds").as_deref(), Some("0.000003000"));
    // An unplugged vCPU stays in the sum.
    vcpus[1].deactivate::<Runstate>();
    vcpu_hists[1].deactivate::<Wait>();
    assert_eq!(series("wait_seconds_count").as_deref(), Some("3"));
    vcpus[1].write(&Runstate::NOT_PRODUCED, Ns(2));
    assert_eq!(series("wait_seconds_count"), None, "a vCPU that has none");
}

#[test]
fn labels_are_one_series_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let labels = [("tenant", "ac\"me"), ("zone.a", "1"), ("zone_a", "2")];
    let created = domain().labels(labels).unwrap().create_memfd().unwrap();
    let region = created.unpublished.publish().unwrap();
    let _announcement = region.announce(dir.path(), "d").unwrap();
    let series = |selection| {
        let text = text(dir.path(), selection);
        let mut lines = text.lines().filter(|line| line.starts_with("domstat_domain_labels{"));
        let line = lines.next().map(str::to_owned);
        assert_eq!(lines.next(), None);
        line
    };
    assert_eq!(series(Selection::default()), None);
    let all = "domstat_domain_labels{domain=\"d\",label_tenant=\"ac\\\"me\",\
               label_zone_a_conflict1=\"1\",label_zone_a_conflict2=\"2\"} 1";
    let by_group = Selection { groups: groups("labels"), ..Selection::default() };
    assert_eq!(series(by_group).as_deref(), Some(all));
    let keys = Keys::These(["zone_a".to_owned(), "unknown".to_owned()].into());
    let one = series(Selection { keys, ..Selection::default() });
    assert_eq!(
        one.as_deref(),
        Some("domstat_domain_labels{domain=\"d\",label_zone_a_conflict2=\"2\"} 1")
    );
    let keys = Keys::These(["unknown".to_owned()].into());
    assert_eq!(series(Selection { keys, ..Selection::default() }), None);
}
