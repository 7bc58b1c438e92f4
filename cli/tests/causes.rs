//! What revision 5 says of a domain, as `show` and `--format domstats` print it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

mod common;

use common::made_up::MadeUp;
use common::{output, stdout, wait_for};

#[test]
fn show_says_status_limits_pressure_and_queues() {
    let dir = tempfile::tempdir().unwrap();
    let _domain = MadeUp::start(dir.path(), "web1", "web1");
    let text = stdout(&output(dir.path(), &["show", "web1"]));
    for part in [
        "status  running  reason started  since",
        "threads  2 vcpu",
        "3 other",
        "exits  total ",
        "  io ",
        "hypercalls ",
        "limits  cpu 150.0%  throttled in 10.0% of periods",
        "pressure  cpu some",
        "balloon  disk caches 64.0M",
        "migration  active  left 1.00M",
        "in flight 2",
        "read p50 <=132us p99 <=1.05ms",
        "write p50 <=4.20ms p99 <=4.20ms",
        "WAIT-P99",
        "<=32.8us",
        "labels  tenant=acme  zone.a=1",
        "limit 100/s write 1.00MB/s",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    // No limit, and what is not produced, are not there.
    for absent in ["memory max", "memory high", "vhost", "weight", "session", "emulated"] {
        assert!(!text.contains(absent), "{absent}\n{text}");
    }
    // Between two samples there are shares.
    let watch = ["show", "web1", "--watch", "--interval", "0.2", "--count", "2"];
    let text = wait_for("shares", || {
        let text = stdout(&output(dir.path(), &watch));
        text.contains("queue ").then_some(text)
    });
    let exits = text.lines().rfind(|line| line.starts_with("exits  ")).unwrap();
    assert!(exits.contains("/s  total "), "{exits}");
    assert!(text.contains("busy ") && text.contains("throttled 0.0"), "{text}");
    assert!(text.contains("cpu some 0.0% full 0.0%"), "{text}");
}

#[test]
fn domstats_has_the_keys_of_libvirt() {
    let dir = tempfile::tempdir().unwrap();
    let _domain = MadeUp::start(dir.path(), "web1", "web1");
    let text = stdout(&output(dir.path(), &["show", "web1", "--format", "domstats"]));
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='));
        line.map(str::to_owned)
    };
    assert_eq!(value("state.state").as_deref(), Some("1"), "{text}");
    assert_eq!(value("state.reason").as_deref(), Some("1"));
    assert_eq!(value("balloon.disk_caches").as_deref(), Some("65536"), "KiB");
    assert_eq!(value("balloon.hugetlb_pgalloc").as_deref(), Some("3"));
    assert_eq!(value("balloon.hugetlb_pgfail"), None, "not produced");
    let bin = |operation: &str, rest: &str| {
        value(&format!("block.0.latency_histogram.{operation}.bin.{rest}"))
    };
    assert_eq!(bin("read", "count").as_deref(), Some("40"));
    assert_eq!(bin("read", "17.start").as_deref(), Some("65536"), "100 us is in here");
    let of_100_us = bin("read", "17.value").unwrap().parse::<u64>().unwrap();
    let of_1_ms = bin("read", "20.value").unwrap().parse::<u64>().unwrap();
    assert_eq!(of_100_us, 3 * of_1_ms);
    assert_eq!(bin("flush", "count"), None, "not produced");
    let last: u64 = value("balloon.last-update").unwrap().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(now.as_secs().abs_diff(last) < 60, "{last}");
}

#[test]
fn json_has_labels_and_distributions() {
    let dir = tempfile::tempdir().unwrap();
    let _domain = MadeUp::start(dir.path(), "web1", "web1");
    let json = common::show(dir.path(), "web1");
    assert_eq!(json["labels"]["tenant"], "acme");
    let reads = &json["blk_hists"][0]["groups"]["rd_latency"]["fields"];
    assert_eq!(reads["max_ns"], 1_000_000);
    assert_eq!(reads["ns"].as_array().unwrap().len(), 40);
    assert_eq!(json["blk_hists"][0]["groups"]["fl_latency"]["status"], "inactive");
    assert_eq!(json["vcpu_hists"][1]["groups"]["wait"]["fields"]["ns"][15].as_u64(), {
        json["vcpu_hists"][1]["groups"]["wait"]["fields"]["sum_ns"].as_u64().map(|sum| sum / 20_000)
    });
    let row = stdout(&output(dir.path(), &["top", "-b", "-n", "1"]));
    let words: Vec<&str> = row.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words[..2], ["web1", "running"], "{row}");
}
