//! Selected groups, and sums over vCPUs.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::path::Path;

use domstat_exporter::Exporter;
use domstat_exporter::openmetrics::{Format, write};
use domstat_exporter::selection::{Groups, Selection, Vcpus};
use domstat_layout::latest::{BlkIo, Cpu, Exits, Memory, Runstate, Sched};
use domstat_layout::{Clock, Group, Ns, Word};
use domstat_producer::{Created, RegionBuilder};

fn text(exporter: &Exporter) -> String {
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

fn exporter(dir: &Path, selection: Selection) -> Exporter {
    Exporter::new(dir).with_selection(selection)
}

fn summing(dir: &Path) -> Exporter {
    let groups = Groups::default().with("exits".parse().unwrap());
    exporter(dir, Selection { groups, vcpus: Vcpus::Sum, ..Selection::default() })
}

fn value(text: &str, series: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(series))?;
    line.rsplit_once(' ').map(|(_, value)| value.to_owned())
}

fn runstate(ns: u64) -> Runstate {
    let [running_ns, runnable_ns, blocked_ns, offline_ns] =
        [1, 2, 3, 4].map(|n| Word::from(n * ns));
    Runstate {
        state: Word::from(2),
        state_entry_ns: Word::from(0),
        running_ns,
        runnable_ns,
        blocked_ns,
        offline_ns,
    }
}

/// A domain on no clock, so that its times are as written: three vCPU slots, two of them used.
fn domain() -> Created {
    let mut created = RegionBuilder::new("d").vcpus(3).blks(1).create_memfd().unwrap();
    let memory = Memory { rss_bytes: Word::from(5), ..Memory::NOT_PRODUCED };
    created.dom.write(&memory, Ns(1));
    created.dom.write(&Cpu { user_ns: Word::from(7), ..Cpu::NOT_PRODUCED }, Ns(1));
    created.blks[0].write(&BlkIo { rd_req: Word::from(8), ..BlkIo::NOT_PRODUCED }, Ns(1));
    for (vcpu, n) in created.vcpus.iter_mut().zip([1, 10]) {
        vcpu.write(&runstate(n * 1_000_000_000), Ns(1));
        let exits = Exits {
            io_exits: Word::from(n),
            exits: Word::from(n),
            hypercalls: if n == 1 { Word::from(1) } else { Word::NOT_PRODUCED },
            ..Exits::NOT_PRODUCED
        };
        vcpu.write(&exits, Ns(1));
    }
    created
}

#[test]
fn the_sum_of_vcpus_is_one_series_of_each_domain() {
    let dir = tempfile::tempdir().unwrap();
    let Created { unpublished, mut vcpus, .. } = domain();
    let region = unpublished.publish().unwrap();
    let _announcement = region.announce(dir.path(), "d").unwrap();
    let summing = summing(dir.path());
    let groups = Groups::default().with("exits".parse().unwrap());
    let each = exporter(dir.path(), Selection { groups, ..Selection::default() });
    let first = text(&summing);
    let number = |text: &str, series: &str| value(text, series);
    let running = "domstat_vcpu_state_seconds_total{domain=\"d\",state=\"running\"}";
    let io = "domstat_vcpu_exits_total{domain=\"d\",reason=\"io\"}";
    assert_eq!(number(&first, running).as_deref(), Some("11.000000000"), "{first}");
    let steal = number(&first, "domstat_vcpu_steal_seconds_total{domain=\"d\"}");
    assert_eq!(steal.as_deref(), Some("22.000000000"));
    assert_eq!(number(&first, io).as_deref(), Some("11"));
    assert!(!first.contains("vcpu=\"") && !first.contains("domstat_vcpu_online"), "{first}");
    // What one vCPU does not produce has no sum; nor has what none does.
    assert!(!first.contains("hypercall") && !first.contains("reason=\"halt\""), "{first}");
    let all = text(&each);
    assert!(all.contains("vcpu=\"0\",reason=\"hypercall\"") && all.contains("vcpu=\"1\""), "{all}");
    let about_vcpus = |text: &str| text.lines().filter(|l| l.starts_with("domstat_vcpu_")).count();
    assert!(about_vcpus(&all) > about_vcpus(&first));
    let others = |text: &str| -> Vec<String> {
        let other = |line: &&str| line.starts_with("domstat_d") || line.starts_with("domstat_b");
        text.lines().filter(other).filter(|l| !l.contains("_created")).map(str::to_owned).collect()
    };
    assert_eq!(others(&all), others(&first), "all other series are the same");

    // A vCPU leaves its slot, another one comes, and a third slot is used: the sum goes on.
    vcpus[1].deactivate::<Runstate>();
    vcpus[1].deactivate::<Exits>();
    let left = text(&summing);
    assert_eq!(number(&left, running).as_deref(), Some("11.000000000"), "{left}");
    assert_eq!(number(&left, io).as_deref(), Some("11"));
    let hypercalls = "domstat_vcpu_exits_total{domain=\"d\",reason=\"hypercall\"}";
    assert_eq!(number(&left, hypercalls).as_deref(), Some("1"), "no vCPU lacks it now");
    vcpus[1].renew();
    vcpus[1].write(&runstate(2_000_000_000), Ns(2));
    vcpus[2].write(&runstate(100_000_000_000), Ns(2));
    let more = text(&summing);
    assert_eq!(number(&more, running).as_deref(), Some("113.000000000"), "{more}");
    assert_eq!(number(&more, io), None, "two vCPUs do not count their exits");
    let created = "domstat_vcpu_state_seconds_created{domain=\"d\",state=\"running\"}";
    assert_eq!(number(&more, created), number(&first, created), "it did not start again");
    vcpus[0].deactivate::<Runstate>();
    let one_less = text(&summing);
    assert_eq!(number(&one_less, running), None, "one vCPU has exits and no runstate");
}

#[test]
fn series_of_selected_groups_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut created = domain();
    created.vcpus[0].write(&Sched { delay_ns: Word::from(3), ..Sched::NOT_PRODUCED }, Ns(1));
    let region = created.unpublished.publish().unwrap();
    let _announcement = region.announce(dir.path(), "d").unwrap();
    let families = |groups: Groups| {
        let text = text(&exporter(dir.path(), Selection { groups, ..Selection::default() }));
        let lines = text.lines().filter(|l| l.starts_with("domstat_") && !l.contains("_created"));
        let names = lines.map(|line| line.split(['{', ' ']).next().unwrap().to_owned());
        let about = ["domstat_domain_c", "domstat_domain_m", "domstat_vcpu", "domstat_block"];
        let mut names: Vec<String> =
            names.filter(|name| about.iter().any(|about| name.starts_with(about))).collect();
        names.dedup();
        names
    };
    let parse = |text: &str| text.parse::<Groups>().unwrap();
    assert_eq!(families(parse("dom.memory")), ["domstat_domain_memory_rss_bytes"]);
    assert_eq!(
        families(parse("blk").with(parse("sched"))),
        ["domstat_vcpu_steal_seconds_total", "domstat_block_reads_total"]
    );
    let rest = families(parse("default").without(parse("vcpu")).without(parse("dom.cpu")));
    assert_eq!(rest, ["domstat_domain_memory_rss_bytes", "domstat_block_reads_total"]);
    assert!(families(Groups::NONE).is_empty());
    // Selection never changes a value: steal is the scheduler's where it is produced.
    for groups in ["runstate", "sched", "default"] {
        let selection = Selection { groups: parse(groups), ..Selection::default() };
        let text = text(&exporter(dir.path(), selection));
        let steal = value(&text, "domstat_vcpu_steal_seconds_total{domain=\"d\",vcpu=\"0\"}");
        assert_eq!(steal.as_deref(), Some("0.000000003"), "{groups}");
    }
}

#[test]
fn ages_of_selected_groups_only() {
    let dir = tempfile::tempdir().unwrap();
    let now = domstat_consumer::clock::now(Clock::Monotonic).unwrap();
    let mut created = RegionBuilder::new("d").clock(Clock::Monotonic).create_memfd().unwrap();
    created.dom.write(&Memory::NOT_PRODUCED, now);
    created.dom.write(&Cpu::NOT_PRODUCED, now);
    let region = created.unpublished.publish().unwrap();
    let _announcement = region.announce(dir.path(), "d").unwrap();
    let groups = "*".parse::<Groups>().unwrap().without("cpu".parse().unwrap());
    let text = text(&exporter(dir.path(), Selection { groups, ..Selection::default() }));
    assert!(text.contains("group=\"dom.memory\"") && !text.contains("group=\"dom.cpu\""), "{text}");
}
