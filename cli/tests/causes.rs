//! What revision 5 says of a domain, as `show` and `--format domstats` print it.

#![allow(clippy::unwrap_used, reason = "a failure is a failed test")]

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
        "limits  cpu 150.0%  throttled in 10.0% of periods",
        "pressure  cpu some",
        "balloon  disk caches 64.0M",
        "migration  active  left 1.00M",
        "in flight 2",
        "limit 100/s write 1.00MB/s",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    // No limit, and what is not produced, are not there.
    for absent in ["memory max", "memory high", "vhost", "weight", "session"] {
        assert!(!text.contains(absent), "{absent}\n{text}");
    }
    // Between two samples there are shares.
    let watch = ["show", "web1", "--watch", "--interval", "0.2", "--count", "2"];
    let text = wait_for("shares", || {
        let text = stdout(&output(dir.path(), &watch));
        text.contains("queue ").then_some(text)
    });
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
    let last: u64 = value("balloon.last-update").unwrap().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(now.as_secs().abs_diff(last) < 60, "{last}");
}
