//! Coming and going: attaching to regions, and a pass over all the domains of a host.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use domstat_consumer::{Region, Snapshot};
use domstat_layout::latest::{DOM_SIZE, VCPU_SIZE};
use domstat_layout::{Clock, Ns};
use domstat_producer::RegionBuilder;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::{Effort, Spread, again, pin, race, unpin};
use crate::mem::Floor;
use crate::report::{Report, spread};
use crate::uncontended::runstate;

const NR_DOMAINS: usize = 10_000;
const NR_VCPUS: u32 = 8;

const ABOUT: &str = "Regions in files on a tmpfs, 8 vCPUs each. Attaching opens, maps, validates \
and touches a region. A pass takes a snapshot of every domain into one buffer, beside copying the \
same bytes of the same files.";

/// Fills the report.
pub fn run(effort: Effort, report: &mut Report) {
    let nr_domains = if effort.rounds == 1 { NR_DOMAINS / 100 } else { NR_DOMAINS };
    let needed = nr_domains as u64 + 100;
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if maximum.is_some_and(|maximum| maximum < needed) {
        let why = "Not measured: the limit of open files (`ulimit -Hn`) is too low.";
        report.section("10,000 domains", why, &[""]);
        return;
    }
    pin(0);
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let directory = directory.expect("a directory");
    let path = |i: usize| directory.path().join(format!("{i}.region"));
    let paths: Vec<PathBuf> = (0..nr_domains).map(path).collect();
    create(&paths);

    let (mut attach, mut detach) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let begin = Instant::now();
        let regions: Vec<Region> = paths.iter().map(|path| open(path)).collect();
        attach.push(begin.elapsed().as_secs_f64() * 1e3);
        let begin = Instant::now();
        drop(regions);
        detach.push(begin.elapsed().as_secs_f64() * 1e3);
    }

    let regions: Vec<Region> = paths.iter().map(|path| open(path)).collect();
    let files = regions.iter().flat_map(|region| region.files());
    let floors: Vec<Floor> = files.map(|file| Floor::of(&file).expect("a region")).collect();
    let mut snapshot = Snapshot::new();
    let mut dom = [[0u8; DOM_SIZE]; 1];
    let mut vcpus = [[0u8; VCPU_SIZE]; NR_VCPUS as usize];
    let geometry = regions[0].geometry();
    let runs = race(
        effort,
        &mut [
            again(|| {
                let now = domstat_consumer::now(Clock::Monotonic);
                let snapshot = black_box(&mut snapshot);
                regions.iter().for_each(|region| region.snapshot_at(now, snapshot));
            }),
            again(|| {
                for floor in &floors {
                    floor.copy_records(0, 0, black_box(&mut dom));
                    let (offs, stride) = (geometry.vcpu_offs(), geometry.vcpu_stride());
                    floor.copy_records(offs, stride, black_box(&mut vcpus));
                }
            }),
        ],
    );
    let ms = |runs: &[f64]| spread(Spread::of(&runs.iter().map(|ns| ns / 1e6).collect::<Vec<_>>()));
    report.section(format!("{nr_domains} domains of {NR_VCPUS} vCPUs"), ABOUT, &["", "ms"]);
    report.row(vec!["attach to all".into(), spread(Spread::of(&attach))]);
    report.row(vec!["detach from all".into(), spread(Spread::of(&detach))]);
    report.row(vec!["a pass over all".into(), ms(&runs[0])]);
    report.row(vec!["memcpy of the same bytes".into(), ms(&runs[1])]);
    let ratio = Spread::ratio(&runs[0], &runs[1]);
    report.row(vec!["pass over memcpy".into(), format!("{}x", spread(ratio))]);
    if nr_domains == NR_DOMAINS {
        report.ratio("attach_10000_domains_ms", Spread::of(&attach));
        report.ratio("pass_80000_vcpus_over_memcpy", ratio);
    }
    unpin();
}

/// One domain's region as a file, and as many more with the same bytes as there are paths left.
fn create(paths: &[PathBuf]) {
    let builder = RegionBuilder::new("bench").vcpus(NR_VCPUS).clock(Clock::Monotonic);
    let mut created = builder.create_file(&paths[0]).expect("a file");
    created.vcpus.iter_mut().for_each(|vcpu| vcpu.write(&runstate(), Ns(1)));
    let producer = created.unpublished.publish().expect("a region");
    let bytes = std::fs::read(&paths[0]).expect("a region");
    // Its file goes with it.
    drop(producer);
    paths.iter().for_each(|path| std::fs::write(path, &bytes).expect("room for it"));
}

fn open(path: &Path) -> Region {
    Region::open(path).expect("our own region")
}
