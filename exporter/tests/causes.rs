//! Families of revision 5, over a region with known values.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use domstat_exporter::Exporter;
use domstat_exporter::openmetrics::{Format, write};
use domstat_exporter::selection::{Groups, Selection};
use domstat_layout::latest::{
    Balloon, BlkDiscards, BlkExtent, BlkFailures, BlkIdentity, BlkIo, BlkIoTimes, BlkJob,
    BlkLimits, BlkQueue, BlkVbd, Cpu, Exits, Limits, Lineage, Memory, Migration, NetIdentity,
    NetIo, NetLimits, Pressure, REV, Runstate, Sched, Status, Threads,
};
use domstat_layout::{Clock, Group, Name, Ns, Word};
use domstat_producer::{Created, RegionBuilder};

fn text(exporter: &Exporter) -> String {
    text_with(exporter, false)
}

fn text_with(exporter: &Exporter, created: bool) -> String {
    let scrape = exporter.pass();
    let mut text = Vec::new();
    let take = |piece: Vec<u8>| {
        text.extend(piece);
        Ok::<_, ()>(())
    };
    write(&scrape, Format::OpenMetrics, created, take).unwrap();
    exporter.give_back(scrape);
    String::from_utf8(text).unwrap()
}

/// A group whose field number `i` is `base + i`, in units of a second where that is more.
fn counted<G: Group>(base: u64) -> G {
    let words: Vec<u64> = (0..G::DESC.payload_words() as u64).map(|i| base + i).collect();
    G::read_from_bytes(&words.iter().flat_map(|w| w.to_ne_bytes()).collect::<Vec<u8>>()).unwrap()
}

fn domain(clock: Clock) -> Created {
    RegionBuilder::new("d").blks(1).nets(1).clock(clock).create_memfd().unwrap()
}

#[test]
fn every_small_group_has_its_series() {
    let dir = tempfile::tempdir().unwrap();
    let mut created = domain(Clock::Unknown);
    let dom = &mut created.dom;
    let status = Status {
        state: Word::from(7),
        reason: Word::from(8),
        since_ns: Word::from(1),
        device: Word::from(0),
    };
    dom.write(&status, Ns(1));
    dom.write(&counted::<Threads>(100), Ns(1));
    dom.write(&counted::<Limits>(200), Ns(1));
    dom.write(&counted::<Pressure>(300), Ns(1));
    dom.write(&counted::<Balloon>(400), Ns(1));
    let migration = Migration { state: Word::from(2), ..counted::<Migration>(500) };
    dom.write(&migration, Ns(1));
    let lineage = Lineage {
        session: Word::from(0xabc),
        previous_incarnation: Word::NOT_PRODUCED,
        arrivals: Word::from(3),
        cause: Word::from(1),
    };
    dom.write(&lineage, Ns(1));
    let blk = &mut created.blks[0];
    blk.write(&BlkIdentity { name: Name::new("vda") }, Ns(1));
    blk.write(&counted::<BlkQueue>(600), Ns(1));
    blk.write(&counted::<BlkDiscards>(700), Ns(1));
    blk.write(&counted::<BlkFailures>(800), Ns(1));
    blk.write(&counted::<BlkLimits>(900), Ns(1));
    created.nets[0].write(&NetIdentity { name: Name::new("vnet0") }, Ns(1));
    created.nets[0].write(&counted::<NetLimits>(1000), Ns(1));
    let region = created.unpublished.publish().unwrap();
    let _announcement = region.announce(dir.path(), "d").unwrap();
    let all = Selection { groups: "*".parse().unwrap(), ..Selection::default() };
    let text = text(&Exporter::new(dir.path()).with_selection(all));
    // Values are all different: a row with another field's value is found.
    let expected = "\
domain_status domstat_domain_status=\"running\" 0
domain_status domstat_domain_status=\"io_error\" 1
domain_status_reason_info reason=\"no_space\",device=\"vda\" 1
domain_session_info session=\"0000000000000abc\",cause=\"restored\" 1
domain_migration_info state=\"active\" 1
domain_arrivals_total 3
domain_thread_cpu_seconds_total role=\"vcpu\" 0.000000100
domain_thread_cpu_seconds_total role=\"iothread\" 0.000000102
domain_thread_cpu_seconds_total role=\"vhost\" 0.000000104
domain_thread_cpu_seconds_total role=\"worker\" 0.000000106
domain_thread_cpu_seconds_total role=\"other\" 0.000000108
domain_threads role=\"vcpu\" 101
domain_threads role=\"iothread\" 103
domain_threads role=\"vhost\" 105
domain_threads role=\"worker\" 107
domain_threads role=\"other\" 109
domain_cpu_quota_seconds 0.000000200
domain_cpu_period_seconds 0.000000201
domain_cpu_weight 202
domain_cpu_periods_total 203
domain_cpu_throttled_periods_total 204
domain_cpu_throttled_seconds_total 0.000000205
domain_memory_limit_bytes limit=\"max\" 206
domain_memory_limit_bytes limit=\"high\" 207
domain_memory_high_events_total 208
domain_oom_kills_total 209
domain_pressure_some_seconds_total resource=\"cpu\" 0.000000300
domain_pressure_some_seconds_total resource=\"memory\" 0.000000302
domain_pressure_some_seconds_total resource=\"io\" 0.000000304
domain_pressure_full_seconds_total resource=\"cpu\" 0.000000301
domain_pressure_full_seconds_total resource=\"memory\" 0.000000303
domain_pressure_full_seconds_total resource=\"io\" 0.000000305
domain_balloon_disk_caches_bytes 400
domain_balloon_huge_pages_total result=\"allocated\" 401
domain_balloon_huge_pages_total result=\"failed\" 402
domain_balloon_oom_kills_total 403
domain_balloon_alloc_stalls_total 404
domain_balloon_scanned_pages_total by=\"async\" 405
domain_balloon_scanned_pages_total by=\"direct\" 406
domain_balloon_reclaimed_pages_total by=\"async\" 407
domain_balloon_reclaimed_pages_total by=\"direct\" 408
domain_migrations_total 509
domain_migration_duration_seconds 0.000000502
domain_migration_setup_seconds 0.000000503
domain_migration_downtime_seconds 0.000000504
domain_migration_transferred_bytes 505
domain_migration_remaining_bytes 506
domain_migration_dirty_rate_bytes 507
domain_migration_iterations 508
block_busy_seconds_total device=\"vda\" 0.000000600
block_queued_seconds_total device=\"vda\" 0.000000601
block_submitted_total device=\"vda\" 602
block_completed_total device=\"vda\" 603
block_discards_total device=\"vda\" 700
block_discarded_bytes_total device=\"vda\" 701
block_discard_seconds_total device=\"vda\" 0.000000702
block_discards_merged_total device=\"vda\" 703
block_failed_requests_total device=\"vda\",operation=\"read\" 800
block_failed_requests_total device=\"vda\",operation=\"write\" 801
block_failed_requests_total device=\"vda\",operation=\"flush\" 802
block_failed_requests_total device=\"vda\",operation=\"discard\" 803
block_invalid_requests_total device=\"vda\",operation=\"read\" 804
block_invalid_requests_total device=\"vda\",operation=\"write\" 805
block_invalid_requests_total device=\"vda\",operation=\"flush\" 806
block_invalid_requests_total device=\"vda\",operation=\"discard\" 807
block_limit_requests device=\"vda\",direction=\"both\" 900
block_limit_requests device=\"vda\",direction=\"read\" 901
block_limit_requests device=\"vda\",direction=\"write\" 902
block_limit_bytes device=\"vda\",direction=\"both\" 903
block_limit_bytes device=\"vda\",direction=\"read\" 904
block_limit_bytes device=\"vda\",direction=\"write\" 905
block_throttled_requests_total device=\"vda\" 906
block_throttled_seconds_total device=\"vda\" 0.000000907
network_limit_bytes device=\"vnet0\",direction=\"receive\" 1000
network_limit_bytes device=\"vnet0\",direction=\"transmit\" 1004
network_limit_packets device=\"vnet0\",direction=\"receive\" 1001
network_limit_packets device=\"vnet0\",direction=\"transmit\" 1005
network_throttled_packets_total device=\"vnet0\",direction=\"receive\" 1002
network_throttled_packets_total device=\"vnet0\",direction=\"transmit\" 1006
network_throttled_seconds_total device=\"vnet0\",direction=\"receive\" 0.000001003
network_throttled_seconds_total device=\"vnet0\",direction=\"transmit\" 0.000001007";
    for line in expected.lines() {
        let (name, rest) = line.split_once(' ').unwrap();
        let series = match rest.split_once(' ') {
            Some((labels, value)) => format!("domstat_{name}{{domain=\"d\",{labels}}} {value}"),
            None => format!("domstat_{name}{{domain=\"d\"}} {rest}"),
        };
        assert!(text.lines().any(|line| line == series), "{series}\n{text}");
    }
    // On no clock there are no times since.
    assert!(!text.contains("status_age") && !text.contains("balloon_age"), "{text}");
}

#[test]
fn what_is_not_produced_has_no_series_and_what_is_no_limit_neither() {
    let dir = tempfile::tempdir().unwrap();
    let mut created = domain(Clock::Unknown);
    created.dom.write(&Memory { rss_bytes: Word::from(1), ..Memory::NOT_PRODUCED }, Ns(1));
    created.dom.write(&Status::NOT_PRODUCED, Ns(1));
    created.dom.write(&Threads::NOT_PRODUCED, Ns(1));
    let limits = Limits {
        cpu_quota_ns: Word::from(0),
        memory_max_bytes: Word::from(0),
        oom_kills: Word::from(0),
        ..Limits::NOT_PRODUCED
    };
    created.dom.write(&limits, Ns(1));
    created.dom.write(&Pressure::NOT_PRODUCED, Ns(1));
    created.dom.write(&Balloon::NOT_PRODUCED, Ns(1));
    created.dom.write(&Migration { state: Word::from(0), ..Migration::NOT_PRODUCED }, Ns(1));
    created.dom.write(&Lineage::NOT_PRODUCED, Ns(1));
    created.blks[0].write(&BlkQueue::NOT_PRODUCED, Ns(1));
    created.blks[0]
        .write(&BlkLimits { limit_req: Word::from(0), ..BlkLimits::NOT_PRODUCED }, Ns(1));
    let region = created.unpublished.publish().unwrap();
    let _announcement = region.announce(dir.path(), "d").unwrap();
    let text = text(&Exporter::new(dir.path()));
    let series = |line: &&str| {
        ["domstat_domain_", "domstat_block", "domstat_net"].iter().any(|p| line.starts_with(p))
    };
    let known: Vec<&str> = text.lines().filter(series).collect();
    let known = known.iter().filter(|l| !l.contains("state") && !l.contains("_vcpus"));
    let known: Vec<&&str> = known.filter(|l| !l.starts_with("domstat_domain_info")).collect();
    assert_eq!(
        known,
        [
            &"domstat_domain_memory_rss_bytes{domain=\"d\"} 1",
            &"domstat_domain_oom_kills_total{domain=\"d\"} 0"
        ]
    );
}

#[test]
fn times_since_and_of_queues_go_on_to_now() {
    let dir = tempfile::tempdir().unwrap();
    let now = domstat_consumer::clock::now(Clock::Monotonic).unwrap();
    let before = |seconds: u64| Ns(now.0.saturating_sub(seconds * 1_000_000_000));
    let mut created = domain(Clock::Monotonic);
    created.dom.write(&Memory::NOT_PRODUCED, now);
    let status = Status {
        state: Word::from(1),
        since_ns: Word::from(before(100).0),
        ..Status::NOT_PRODUCED
    };
    created.dom.write(&status, now);
    let balloon = Balloon { last_update_ns: Word::from(before(50).0), ..Balloon::NOT_PRODUCED };
    created.dom.write(&balloon, now);
    let queue = BlkQueue {
        busy_ns: Word::from(1_000_000_000),
        queued_ns: Word::from(2_000_000_000),
        submitted: Word::from(5),
        completed: Word::from(3),
    };
    created.blks[0].write(&queue, before(10));
    let region = created.unpublished.publish().unwrap();
    let _announcement = region.announce(dir.path(), "d").unwrap();
    let groups = Groups::default().with("balloon".parse().unwrap());
    let selection = Selection { groups, ..Selection::default() };
    let text = text(&Exporter::new(dir.path()).with_selection(selection));
    let seconds = |series: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(series)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    assert!(seconds("domstat_domain_status_age_seconds{") >= 100.0);
    assert!(seconds("domstat_domain_balloon_age_seconds{") >= 50.0);
    let (busy, queued) =
        (seconds("domstat_block_busy_seconds_total{"), seconds("domstat_block_queued_seconds"));
    assert!(busy >= 11.0, "ten seconds with requests in flight: {busy}");
    assert!((queued - 2.0 - 2.0 * (busy - 1.0)).abs() < 1e-6, "two of them: {busy} {queued}");
}

#[test]
fn a_domain_that_does_not_answer_says_since_when() {
    let dir = tempfile::tempdir().unwrap();
    let mut created = domain(Clock::Monotonic);
    let status = |state, reason| Status {
        state: Word::from(state),
        reason: Word::from(reason),
        since_ns: Word::from(1),
        device: Word::NOT_PRODUCED,
    };
    created.dom.write(&status(0, 1), Ns(1));
    let region = created.unpublished.publish().unwrap();
    let _announcement = region.announce(dir.path(), "d").unwrap();
    let exporter = Exporter::new(dir.path());
    assert!(!text(&exporter).contains("domstat_domain_unanswered_seconds{"));
    created.dom.write(&status(8, 11), Ns(2));
    let text = text(&exporter);
    assert!(text.contains("domstat_domain_unanswered_seconds{"), "{text}");
    assert!(text.contains("domstat_domain_status=\"unknown\"} 1"), "{text}");
}

#[test]
fn by_default_a_domain_of_revision_5_has_no_more_text_than_all_of_revision_4() {
    let dir = tempfile::tempdir().unwrap();
    let builder = RegionBuilder::new("domain-1").vcpus(8).blks(1).nets(1);
    let mut created = builder.create_memfd().unwrap();
    let large = 1_234_567_890_123;
    let Created { dom, vcpus, blks, nets, .. } = &mut created;
    macro_rules! write {
        ($record:expr, $($group:ident)*) => { $($record.write(&counted::<$group>(large), Ns(1));)* };
    }
    write!(dom, Memory Cpu Threads Limits Pressure Balloon);
    dom.write(&Status { state: Word::from(1), ..counted(large) }, Ns(1));
    dom.write(&Migration { state: Word::from(1), ..counted(large) }, Ns(1));
    dom.write(&Lineage { cause: Word::from(1), ..counted(large) }, Ns(1));
    for vcpu in vcpus {
        vcpu.write(&Runstate { state: Word::from(1), ..counted(large) }, Ns(1));
        write!(vcpu, Sched Exits);
    }
    blks[0].write(&BlkIdentity { name: Name::new("vda") }, Ns(1));
    write!(blks[0], BlkIo BlkIoTimes BlkExtent BlkVbd BlkQueue BlkDiscards BlkFailures BlkLimits);
    blks[0].write(&BlkJob { kind: Word::from(1), state: Word::from(1), ..counted(large) }, Ns(1));
    nets[0].write(&NetIdentity { name: Name::new("vnet0") }, Ns(1));
    write!(nets[0], NetIo NetLimits);
    let region = created.unpublished.publish().unwrap();
    let _announcement = region.announce(dir.path(), "domain-1").unwrap();
    // What there is of each domain: descriptions are there once.
    let len = |groups: Groups, created: bool| {
        let selection = Selection { groups, ..Selection::default() };
        let text = text_with(&Exporter::new(dir.path()).with_selection(selection), created);
        text.lines()
            .filter(|line| line.contains("domain="))
            .map(|line| line.len() + 1)
            .sum::<usize>()
    };
    let earlier = REV.all_groups().filter(|desc| desc.since <= 4 && desc.twin_of.is_none());
    let earlier = earlier.map(|desc| format!("{}.{}", desc.record.name(), desc.name).parse());
    let earlier = earlier.fold(Groups::NONE, |all, group| all.with(group.unwrap()));
    for created in [true, false] {
        let sets = [earlier, Groups::default(), "*".parse().unwrap()];
        let [earlier, default, all] = sets.map(|groups| len(groups, created));
        println!("revision 4 {earlier}, default {default}, all {all}");
        assert!(default <= earlier, "{default} of {earlier}");
        assert!(all > earlier, "{all} of {earlier}");
    }
}
