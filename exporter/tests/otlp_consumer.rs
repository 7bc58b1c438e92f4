//! Histograms pushed to a receiver that is not of this project: OpenTelemetry's own Python classes
//! decode them, bucket by bucket.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure is a failed test")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use domstat_exporter::Exporter;
use domstat_exporter::otlp::Collector;
use domstat_exporter::selection::Selection;
use domstat_layout::latest::{BlkIdentity, RdLatency, RdSize, Wait};
use domstat_layout::{HistogramGroup, Name, Ns};
use domstat_producer::RegionBuilder;

#[path = "../../tests/src/skip.rs"]
mod skip;

fn recorded<G: HistogramGroup>(values: &[u64]) -> G {
    let mut group = G::EMPTY;
    values.iter().for_each(|value| group.record(*value));
    group
}

/// The parts of a point that the receiver printed, which is a line of JSON.
#[derive(serde::Deserialize)]
struct Point {
    name: String,
    unit: String,
    kind: String,
    cumulative: bool,
    count: u64,
    sum: f64,
    max: Option<f64>,
    /// Lower and upper bound, and how many are above the lower and not above the upper.
    buckets: Vec<(Option<f64>, Option<f64>, u64)>,
}

#[test]
fn another_decoder_finds_every_value_in_its_bucket() {
    let python = std::env::var("DOMSTAT_TEST_OTLP_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let receiver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/receiver.py");
    let mut command = Command::new(python);
    let child = command.arg(receiver).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else { return skip::skip("otlp", "there is no python3") };
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let Some(port) = lines.next() else {
        child.wait().unwrap();
        return skip::skip("otlp", "python3 has no opentelemetry-proto: see ci/otlp.sh");
    };

    let dir = tempfile::tempdir().unwrap();
    let builder = RegionBuilder::new("web1").vcpus(1).blks(1);
    let builder = builder.vcpu_histograms(true).blk_histograms(true);
    let mut created = builder.create_memfd().unwrap();
    created.blks[0].write(&BlkIdentity { name: Name::new("vda") }, Ns(1));
    // Not whole powers of 2, which the two put into different buckets, except for sizes.
    let reads =
        [0, 0, 3, 999, 1_000, 65_537, 99_000, 120_000, 3_000_000, 3_000_001, 200_000_000_000];
    let sizes = [512, 4096, 4096, 65_536, 10_000];
    let waits = [5_000, 6_000, 7_000_000];
    created.blk_hists[0].write(&recorded::<RdLatency>(&reads), Ns(1));
    created.blk_hists[0].write(&recorded::<RdSize>(&sizes), Ns(1));
    created.vcpu_hists[0].write(&recorded::<Wait>(&waits), Ns(1));
    let region = created.unpublished.publish().unwrap();
    let _announcement = region.announce(dir.path(), "web1").unwrap();
    let selection = Selection { groups: "*_hist".parse().unwrap(), ..Selection::default() };
    let scrape = Exporter::new(dir.path()).with_selection(selection).pass();
    let address = format!("http://127.0.0.1:{}/v1/metrics", port.unwrap());
    Collector::new(&address).unwrap().push(&scrape, &[]).unwrap();

    let points: Vec<Point> =
        lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert!(child.wait().unwrap().success());
    let judge = |name: &str, kind: &str, unit: &str, values: &[u64]| {
        let point = points.iter().find(|point| point.name == name).unwrap();
        assert_eq!((point.kind.as_str(), point.unit.as_str()), (kind, unit), "{name}");
        assert!(point.cumulative, "{name}");
        let as_float = |value: u64| value as f64;
        assert_eq!(point.count, values.len() as u64, "{name}");
        assert_eq!(point.sum, as_float(values.iter().sum()), "{name}");
        assert_eq!(point.max, values.iter().max().copied().map(as_float), "{name}");
        for (lower, upper, count) in &point.buckets {
            let is_in = |value: &&u64| {
                let value = as_float(**value);
                // The bucket of zeros has both bounds 0.
                (lower.is_none_or(|lower| value > lower) || (value, *upper) == (0.0, Some(0.0)))
                    && upper.is_none_or(|upper| value <= upper)
            };
            let found = values.iter().filter(is_in).count() as u64;
            assert_eq!(*count, found, "{name}: {lower:?} to {upper:?}");
        }
        assert_eq!(point.buckets.iter().map(|b| b.2).sum::<u64>(), point.count, "{name}");
    };
    judge("domstat.block.read.latency", "exponential_histogram", "ns", &reads);
    judge("domstat.vcpu.wait", "exponential_histogram", "ns", &waits);
    judge("domstat.block.read.size", "histogram", "By", &sizes);
    assert_eq!(points.len(), 3, "and no others");
}
