//! Attaching to regions, and a pass over all the domains of a host.

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use domstat_consumer::{Region, Snapshot};
use domstat_layout::directory::REGION_SUFFIX;
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

const ABOUT: &str = "Regions in the sealed memory of another process, 8 vCPUs each, found in a \
directory. Attaching opens, maps, validates and touches a region. A pass takes a snapshot of every domain into one buffer, compared with copying the \
same bytes of the same files.";

/// Fills the report.
pub fn run(effort: Effort, report: &mut Report) {
    let nr_domains = if effort.rounds == 1 { NR_DOMAINS / 100 } else { NR_DOMAINS };
    let needed = nr_domains as u64 + 100;
    let maximum = raise_limit_of_files();
    if maximum.is_some_and(|maximum| maximum < needed) {
        let why = "Not measured: the limit of open files (`ulimit -Hn`) is too low.";
        report.section("10,000 domains", why, &[""]);
        return;
    }
    pin(0);
    let directory = tempfile::tempdir().expect("a directory");
    let path = |i: usize| directory.path().join(format!("{i}{REGION_SUFFIX}"));
    let paths: Vec<PathBuf> = (0..nr_domains).map(path).collect();
    let _producer = Producer::start(directory.path(), nr_domains);

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
                let now = domstat_consumer::clock::now(Clock::Monotonic);
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

/// As many descriptors as are allowed, and how many that are.
fn raise_limit_of_files() -> Option<u64> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    maximum
}

/// The domains, in a process of their own: it has a descriptor for each, and so has this one.
struct Producer(Child);

impl Producer {
    fn start(directory: &Path, nr_domains: usize) -> Self {
        let program = std::env::current_exe().expect("this program");
        let child = Command::new(program)
            .arg("--publish")
            .arg(directory)
            .args(["--domains", &nr_domains.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut producer = Self(child.expect("this program once more"));
        let mut line = String::new();
        let out = producer.0.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("its answer");
        assert_eq!(line, "ready\n", "the domains were not published");
        producer
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Publishes domains in sealed memory until the standard input ends.
pub fn publish(directory: &Path, nr_domains: usize) -> Result<(), Box<dyn Error>> {
    raise_limit_of_files();
    let mut kept = Vec::new();
    for i in 0..nr_domains {
        let name = i.to_string();
        let builder = RegionBuilder::new(&name).vcpus(NR_VCPUS).clock(Clock::Monotonic);
        let mut created = builder.create_memfd()?;
        created.vcpus.iter_mut().for_each(|vcpu| vcpu.write(&runstate(), Ns(1)));
        let region = created.unpublished.publish()?;
        kept.push((region.announce(directory, &name)?, region));
    }
    println!("ready");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

fn open(path: &Path) -> Region {
    Region::open(path).expect("our own region")
}
