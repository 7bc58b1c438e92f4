//! The bench runs through, and writes what it promises. What it measures is not looked at.

use std::fs;
use std::process::Command;

/// Figures that others may rely on by name.
const NAMES: &[&str] = &[
    "read_128_over_memcpy",
    "read_128_baseline_over_memcpy",
    "read_128_portable_over_memcpy",
    "write_128_over_memcpy",
    "write_128_portable_over_memcpy",
    "one_field_update_ns",
    "vcpu_read_ns",
    "record_over_one_field_update",
    "device_request_ns",
    "snapshot_4096_over_revision_4",
    "vcpu_read_over_group_read",
    "vcpu_write_over_two_group_writes",
    "snapshot_4096_packed_bandwidth_over_memcpy",
    "snapshot_4096_page_bandwidth_over_memcpy",
    "snapshot_growth_to_65536_over_memcpy",
    "schedstat_over_read",
];

/// Figures of two threads, which need two CPUs.
const BESIDE: &[&str] = &[
    "reads_beside_1mhz_writer_over_memcpy",
    "reads_beside_1mhz_writer_over_best_peer",
    "twins_full_speed_p999_us",
    "twins_full_speed_worst_over_noise_us",
];

#[test]
fn tables_plots_and_figures_are_written() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("figures.json");
    let output = Command::new(env!("CARGO_BIN_EXE_domstat-bench"))
        .args(["--smoke", "--json"])
        .arg(&json)
        .arg("--docs")
        .arg(directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let figures: serde_json::Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let two = std::thread::available_parallelism().unwrap().get() > 1;
    for name in NAMES.iter().chain(if two { BESIDE } else { &[] }) {
        for figures in [&figures, &figures["min"], &figures["max"]] {
            let figure = figures[name].as_f64();
            assert!(figure.is_some_and(f64::is_finite), "{name}: {figures:#}");
        }
    }
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    let page = read("performance.md");
    assert!(page.contains("cargo run --release -p domstat-bench") && page.contains("| memcpy |"));
    for plot in ["performance-read.svg", "performance-write.svg", "performance-vcpus.svg"] {
        assert!(page.contains(plot));
        assert!(read(plot).contains("<polyline"), "{plot} has lines");
    }

    // The rows about the public calls alone, in the page that was just written.
    let path = directory.path().join("performance.md");
    fs::write(&path, page.replace("`vcpu.write(&runstate)`", "stale")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_domstat-bench"))
        .args(["--smoke", "--calls", "--docs"])
        .arg(directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let renewed = read("performance.md");
    assert!(renewed.contains("`vcpu.write(&runstate)`") && !renewed.contains("stale"));
    let sections = |page: &str| {
        page.lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(sections(&renewed), sections(&page));
    assert_eq!(renewed.lines().count(), page.lines().count());
}
