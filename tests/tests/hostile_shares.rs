//! Shares of regions that nobody would write: devices that there are not, shares that are the same,
//! groups that one has and another has not, writers that died, slots that are given out all the time.
//! Every read ends, in time that grows with the region, and the reader in C says the same as this one.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domstat_consumer::{Patience, ReadError, Reading, Region, Sample, Shares, Snapshot};
use domstat_layout::header::record;
use domstat_layout::latest::{
    self, BlkDiscards, BlkFailures, BlkIo, BlkIoTimes, BlkQueue, FlLatency, NetIo, RdLatency,
    RdSize, WrLatency, WrSize,
};
use domstat_layout::{GroupDesc, RecordKind};
use domstat_producer::RegionBuilder;
use domstat_tests::golden;
use domstat_tests::skip::skip;
use zerocopy::IntoBytes;

const IMPATIENT: Patience = Patience { spins: 3, yielding: Duration::ZERO };

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The bytes of a region with shares, as its producer leaves it.
fn template(path: &Path, queues: u32, random: &mut fastrand::Rng) -> Vec<u8> {
    let builder = RegionBuilder::new("hostile").blks(random.u32(1..4)).nets(random.u32(1..3));
    let builder = builder.blk_queues(queues).net_queues(queues).blk_histograms(random.bool());
    let _ = std::fs::remove_file(path);
    let created = builder.schema(random.bool()).create_file(path).unwrap();
    let _producer = created.unpublished.publish().unwrap();
    std::fs::read(path).unwrap()
}

/// A word that a counter of a region may be.
fn value(random: &mut fastrand::Rng) -> u64 {
    match random.u8(0..8) {
        0 => u64::MAX,
        1 => u64::MAX - 1,
        2 => u64::MAX / 2 + random.u64(0..3),
        3 => random.u64(..),
        _ => random.u64(0..1000),
    }
}

fn put(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

/// Writes a group into the record at `base`: its words at random, its seq even, seldom odd.
fn fill(bytes: &mut [u8], base: usize, desc: &GroupDesc, odd: bool, random: &mut fastrand::Rng) {
    let at = base + desc.offset;
    put(bytes, at, u64::from(random.u32(0..9) * 2 + u32::from(odd)));
    for word in 1..desc.size / 8 {
        put(bytes, at + word * 8, value(random));
    }
}

/// A region with shares at random: of devices that there are and of others, of generations that last
/// and of others, with any of their groups.
fn hostile(path: &Path, queues: u32, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = template(path, queues, random);
    // Its producer took the file with it.
    std::fs::write(path, &bytes).unwrap();
    let region = Region::open(path).unwrap();
    let geometry = region.geometry();
    // One region in two has writers that died.
    let has_odd = random.bool();
    for (share, device) in
        [(RecordKind::BlkQueue, RecordKind::Blk), (RecordKind::NetQueue, RecordKind::Net)]
    {
        let devices = geometry.array(device);
        for index in 0..devices.nr {
            let base = devices.offset(index).unwrap();
            put(&mut bytes, base + record::GENERATION, random.u64(0..2));
            for desc in latest::REV.groups(device).iter().filter(|desc| desc.twin_of.is_none()) {
                fill(&mut bytes, base, desc, false, random);
            }
            // Without twins, which the reader in C is not asked to read.
            let all = latest::REV.groups(device).iter().filter(|desc| desc.twin_of.is_none());
            let active = all.fold(0, |bits, desc| bits | desc.mask());
            put(&mut bytes, base + record::STATS_ACTIVE, active & random.u64(..));
        }
        let shares = geometry.array(share);
        for index in 0..shares.nr {
            let base = shares.offset(index).unwrap();
            put(&mut bytes, base + record::GENERATION, random.u64(0..3));
            for desc in latest::REV.groups(share) {
                let odd = has_odd && random.u8(0..10) == 0;
                fill(&mut bytes, base, desc, odd, random);
            }
            let of = base + latest::REV.groups(share)[0].offset + 16;
            let numbers = match random.u8(0..8) {
                0 => [u64::from(devices.nr), 0],
                1 => [value(random), value(random)],
                2 => [1 << 32, 0],
                _ => [random.u64(0..u64::from(devices.nr)), random.u64(0..2)],
            };
            numbers.iter().enumerate().for_each(|(i, n)| put(&mut bytes, of + i * 8, *n));
            // Most have most of their groups.
            let active = u64::MAX ^ (random.u64(..) & random.u64(..) & random.u64(..));
            put(&mut bytes, base + record::STATS_ACTIVE, active & 0x7ff);
        }
    }
    std::fs::write(path, &bytes).unwrap();
    bytes
}

/// A sum, in the words of `tests/c/reads.c`.
fn line<G: IntoBytes + zerocopy::Immutable>(
    sum: Result<Reading<Sample<G>>, ReadError>,
    text: &mut String,
) {
    match sum {
        Ok(Reading::Active(sum)) => {
            write!(text, "{} ", sum.updated.0).unwrap();
            for word in sum.group.as_bytes().as_chunks().0 {
                write!(text, "{} ", u64::from_ne_bytes(*word)).unwrap();
            }
        }
        Ok(Reading::Inactive | Reading::Unknown) => text.push_str("none"),
        Err(_) => text.push_str("busy"),
    }
    text.push('\n');
}

/// Every group that devices have shares of, of every device.
fn sums(region: &Region) -> String {
    type Sum = fn(&mut Shares<'_>, u32, &mut String);
    let blk: [Sum; 10] = [
        |shares, i, text| line(shares.blk::<BlkIo>(i), text),
        |shares, i, text| line(shares.blk::<BlkIoTimes>(i), text),
        |shares, i, text| line(shares.blk::<BlkQueue>(i), text),
        |shares, i, text| line(shares.blk::<BlkDiscards>(i), text),
        |shares, i, text| line(shares.blk::<BlkFailures>(i), text),
        |shares, i, text| line(shares.blk::<RdLatency>(i), text),
        |shares, i, text| line(shares.blk::<WrLatency>(i), text),
        |shares, i, text| line(shares.blk::<FlLatency>(i), text),
        |shares, i, text| line(shares.blk::<RdSize>(i), text),
        |shares, i, text| line(shares.blk::<WrSize>(i), text),
    ];
    let (mut text, mut shares) = (String::new(), region.shares());
    for sum in blk {
        (0..region.geometry().array(RecordKind::Blk).nr)
            .for_each(|i| sum(&mut shares, i, &mut text));
    }
    (0..region.geometry().array(RecordKind::Net).nr)
        .for_each(|i| line(shares.net::<NetIo>(i), &mut text));
    text
}

/// Everything that looks at shares; that it returns is the test.
fn every_way(region: &Region) -> u64 {
    let mut snapshot = Snapshot::new();
    region.snapshot_at(None, &mut snapshot);
    sums(region);
    snapshot.share_reads()
}

fn program(out: &Path) -> Option<PathBuf> {
    let program = out.join("reads");
    let output = Command::new("cc")
        .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-pthread", "-I"])
        .arg(root().join("layout/include/domstat"))
        .arg(root().join("tests/c/reads.c"))
        .arg("-o")
        .arg(&program)
        .output();
    let Ok(output) = output else {
        skip("cc", "no C compiler");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(program)
}

#[test]
fn sums_in_c_are_those_in_rust() {
    let out = tempfile::tempdir().unwrap();
    let Some(program) = program(out.path()) else { return };
    let path = out.path().join("region");
    let golden = golden::all()
        .filter(|(_, revision, pages)| revision.number >= 5 && !pages)
        .map(|(name, ..)| std::fs::read(root().join(format!("tests/golden/{name}.bin"))).unwrap());
    let mut random = fastrand::Rng::with_seed(17);
    let mut regions: Vec<_> = golden.collect();
    assert!(!regions.is_empty());
    for _ in 0..400 {
        let queues = random.u32(1..6);
        regions.push(hostile(&path, queues, &mut random));
    }
    let (mut input, mut expected) = (Vec::new(), String::new());
    for bytes in &regions {
        std::fs::write(&path, bytes).unwrap();
        let region = Region::open(&path).unwrap().with_patience(IMPATIENT);
        expected += &(sums(&region) + "\n");
        input.extend((bytes.len() as u64).to_ne_bytes());
        input.extend(bytes);
    }
    // All answers are among them, and words that are not produced and saturated.
    for (answer, least) in [("none\n", 500), ("busy\n", 100), (" 18446744073709551615 ", 500)] {
        let found = expected.matches(answer).count();
        assert!(found > least, "{found} of {answer}");
    }
    let mut command = Command::new(&program);
    command.arg("shares").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let found = String::from_utf8(output.stdout).unwrap();
    let differ = found.lines().zip(expected.lines()).position(|(c, rust)| c != rust);
    if let Some(at) = differ {
        let [c, rust] = [&found, &expected].map(|text| text.lines().nth(at).unwrap());
        panic!("line {at}: in C {c}, in Rust {rust}");
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn as_many_shares_as_there_can_be_that_are_all_in_an_update_are_left_in_time() {
    const NR: u32 = 4_096;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    let builder = RegionBuilder::new("many").blks(2).blk_queues(NR);
    let producer = builder.create_file(&path).unwrap().unpublished.publish().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    drop(producer);
    std::fs::write(&path, &bytes).unwrap();
    let shares = Region::open(&path).unwrap().geometry().array(RecordKind::BlkQueue);
    let groups = latest::REV.groups(RecordKind::BlkQueue);
    for index in 0..NR {
        let base = shares.offset(index).unwrap();
        put(&mut bytes, base + record::STATS_ACTIVE, 0x7ff);
        for desc in groups {
            // Which device it is of can be read of every second one.
            let is_odd = desc.name != "of" || index % 2 == 0;
            put(&mut bytes, base + desc.offset, u64::from(is_odd));
        }
    }
    std::fs::write(&path, &bytes).unwrap();
    let region = Region::open(&path).unwrap();
    // They wait as long as for one writer, all of them together; so this ends at all.
    region.set_patience(Patience { spins: 100, yielding: Duration::from_millis(5) });
    let mut snapshot = Snapshot::new();
    region.snapshot(&mut snapshot);
    let blk = snapshot.blk(0).unwrap();
    assert!(blk.blk_group::<BlkIo>().unwrap_err().stalled().is_some());
    assert_eq!(blk.blk_group::<latest::BlkLimits>().unwrap(), Reading::Inactive);
    assert!(region.shares().blk::<RdLatency>(0).unwrap_err().stalled().is_some());
    assert_eq!(region.shares().blk::<RdLatency>(1).unwrap(), Reading::Unknown, "has no share");
}

#[test]
fn slots_that_are_given_out_all_the_time_do_not_hold_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..20 {
        hostile(&path, 8, &mut random);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let region = Region::open(&path).unwrap().with_patience(IMPATIENT);
        let places: Vec<_> = [RecordKind::Blk, RecordKind::BlkQueue, RecordKind::NetQueue]
            .into_iter()
            .flat_map(|kind| {
                let array = region.geometry().array(kind);
                (0..array.nr).filter_map(move |index| array.offset(index))
            })
            .collect();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut generation = 0u32;
                while !stop.load(Ordering::Relaxed) {
                    generation = generation.wrapping_add(1) % 3;
                    for base in &places {
                        let at = (base + record::GENERATION) as u64;
                        file.write_all_at(&generation.to_le_bytes(), at).unwrap();
                    }
                }
            });
            let nr = u64::from(region.geometry().array(RecordKind::BlkQueue).nr);
            for _ in 0..50 {
                // Eight passes over the shares of both kinds, each of at most eleven groups.
                let reads = every_way(&region);
                assert!(reads <= 2 * 9 * 12 * nr, "{reads} reads of {nr} shares");
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
