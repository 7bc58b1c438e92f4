//! Snapshots of whole domains.

use std::hint::black_box;
use std::time::Instant;

use domstat_consumer::{Region, Snapshot};
use domstat_layout::latest::VCPU_SIZE;
use domstat_layout::{Clock, Ns};
use domstat_producer::{Placement, RegionBuilder, VcpuWriter};

use crate::harness::{Effort, Spread, again, pin, race, unpin};
use crate::mem::Floor;
use crate::report::{Report, number, spread};
use crate::uncontended::runstate;

/// A region with every vCPU written once.
struct Domain {
    _writers: Vec<VcpuWriter>,
    producer: domstat_producer::Region,
}

impl Domain {
    fn new(nr_vcpus: u32, placement: Placement) -> Self {
        let builder = RegionBuilder::new("bench").vcpus(nr_vcpus).placement(placement);
        Self::of(builder)
    }

    fn of(builder: RegionBuilder) -> Self {
        let mut created = builder.clock(Clock::Monotonic).create_memfd().expect("a memfd");
        created.vcpus.iter_mut().for_each(|vcpu| vcpu.write(&runstate(), Ns(1)));
        let producer = created.unpublished.publish().expect("a memfd can be sealed");
        Self { _writers: created.vcpus, producer }
    }

    fn attach(&self) -> Region {
        let fd =
            self.producer.as_fd().expect("a memfd").try_clone_to_owned().expect("a descriptor");
        Region::from_fd(fd).expect("our own region")
    }
}

const ABOUT: &str = "Nanoseconds per vCPU for a snapshot of the whole domain into a buffer that is \
used again, compared with copying the same bytes of each vCPU's record, with the same stride, out of the \
same pages. The ratio is one of bandwidths: 1 is the speed of memory. Cold is attaching to the \
region and taking the first snapshot, page faults and all.";

/// Fills the report.
pub fn run(effort: Effort, report: &mut Report) {
    pin(0);
    let heads = ["placement", "vCPUs", "snapshot", "memcpy", "bandwidth over memcpy", "cold"];
    report.section("Snapshots", ABOUT, &heads);
    let mut packed = Vec::new();
    for (name, placement) in
        [("packed", Placement::Packed), ("page-granular", Placement::PageGranular)]
    {
        let (mut ours, mut floor) = (Vec::new(), Vec::new());
        for nr_vcpus in [1, 8, 64, 512, 4096, 16_384, 65_536] {
            if effort.quick && placement == Placement::PageGranular && nr_vcpus > 16_384 {
                continue;
            }
            let (snapshot, memcpy, cold) = measure(effort, nr_vcpus, placement);
            let per_vcpu = |runs: &[f64]| Spread::of(runs).median / f64::from(nr_vcpus);
            let bandwidth = Spread::ratio(&memcpy, &snapshot);
            report.row(vec![
                name.into(),
                nr_vcpus.to_string(),
                format!("{} ns", number(per_vcpu(&snapshot))),
                format!("{} ns", number(per_vcpu(&memcpy))),
                spread(bandwidth),
                format!("{} ns", number(per_vcpu(&cold))),
            ]);
            ours.push((f64::from(nr_vcpus), per_vcpu(&snapshot)));
            floor.push((f64::from(nr_vcpus), per_vcpu(&memcpy)));
            match (nr_vcpus, placement) {
                (4096, Placement::Packed) => {
                    report.ratio("snapshot_4096_packed_bandwidth_over_memcpy", bandwidth);
                    packed = over(&snapshot, &memcpy);
                }
                (4096, Placement::PageGranular) => {
                    report.ratio("snapshot_4096_page_bandwidth_over_memcpy", bandwidth);
                }
                (65_536, Placement::Packed) => {
                    let ratio = Spread::ratio(&over(&snapshot, &memcpy), &packed);
                    report.ratio("snapshot_growth_to_65536_over_memcpy", ratio);
                }
                _ => {}
            }
        }
        report.by_vcpus.push((format!("snapshot, {name}"), ours));
        report.by_vcpus.push((format!("memcpy, {name}"), floor));
    }
    unpin();
}

const DISTRIBUTIONS: &str = "A snapshot of 4,096 vCPUs, packed, of a region that has distributions \
of every vCPU, next to one of revision 4, which has none: they lie apart, and a reader that does not \
ask for them does not touch them.";

/// What distributions cost a reader that does not ask for them.
pub fn distributions(effort: Effort, report: &mut Report) {
    pin(0);
    let builder = || RegionBuilder::new("bench").vcpus(4096);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let domains = [builder().vcpu_histograms(true), builder().revision(4)].map(Domain::of);
        let regions = domains.each_ref().map(Domain::attach);
        let mut subjects = regions.each_ref().map(|region| {
            let mut snapshot = Snapshot::new();
            again(move || region.snapshot(black_box(&mut snapshot)))
        });
        let runs = race(Effort { rounds: 1, ..effort }, &mut subjects);
        with.push(runs[0][0]);
        without.push(runs[1][0]);
    }
    report.section("Distributions that nobody asks for", DISTRIBUTIONS, &["", "ns per vCPU"]);
    for (name, runs) in [("with distributions", &with), ("revision 4", &without)] {
        report.row(vec![name.into(), number(Spread::of(runs).median / 4096.0)]);
    }
    report.ratio("snapshot_4096_over_revision_4", Spread::ratio(&with, &without));
    unpin();
}

/// `a[i] / b[i]`.
fn over(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a / b).collect()
}

/// Nanoseconds per snapshot, per copy of the same bytes, and per first snapshot.
///
/// Each run has a region and buffers of its own: which physical pages they get decides what fits
/// into the caches.
fn measure(effort: Effort, nr_vcpus: u32, placement: Placement) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut ours, mut floor, mut cold) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let domain = Domain::new(nr_vcpus, placement);
        let begin = Instant::now();
        let region = domain.attach();
        let mut snapshot = Snapshot::new();
        region.snapshot(&mut snapshot);
        black_box(&snapshot);
        cold.push(begin.elapsed().as_secs_f64() * 1e9);
        let runs = one_run(effort, &domain, &region, snapshot);
        ours.push(runs[0]);
        floor.push(runs[1]);
    }
    (ours, floor, cold)
}

fn one_run(effort: Effort, domain: &Domain, region: &Region, mut snapshot: Snapshot) -> [f64; 2] {
    let geometry = region.geometry();
    let floor = Floor::of(&domain.producer.as_fd().expect("a memfd")).expect("our own file");
    let mut to = vec![[0u8; VCPU_SIZE]; geometry.nr_vcpus() as usize];
    let mut subjects = [
        again(|| region.snapshot(black_box(&mut snapshot))),
        again(|| {
            let (offs, stride) = (geometry.vcpu_offs(), geometry.vcpu_stride());
            floor.copy_records(offs, stride, black_box(&mut to));
        }),
    ];
    let runs = race(Effort { rounds: 1, ..effort }, &mut subjects);
    [runs[0][0], runs[1][0]]
}
