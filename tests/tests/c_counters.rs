//! Counters of a VMM in C: requests, distributions, times of threads and KVM's exits become the numbers,
//! and where they lie in a region the bytes, that the producer in Rust makes of the same calls.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use domstat_consumer::Region;
use domstat_layout::latest::{BlkQueue, Exits, Wait};
use domstat_layout::runstate_estimator::{Activity, RUN_AHEAD_NS, Reading, RunstateEstimator};
use domstat_layout::{Clock, Group, Ns, RecordKind, Word};
use domstat_producer::{BlkDevice, BlkOp, KvmExits, RegionBuilder, RequestTracker};
use domstat_tests::skip::skip;
use zerocopy::IntoBytes;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// `tests/c/counters.c` as each compiler that is installed makes it, as C11 and C++17.
fn programs() -> &'static [PathBuf] {
    static PROGRAMS: LazyLock<(tempfile::TempDir, Vec<PathBuf>)> = LazyLock::new(|| {
        let out = tempfile::tempdir().unwrap();
        let programs = compile(out.path());
        (out, programs)
    });
    &PROGRAMS.1
}

fn compile(out: &Path) -> Vec<PathBuf> {
    let mut programs = Vec::new();
    let languages = [(["gcc", "clang"], "gnu11", "c"), (["g++", "clang++"], "gnu++17", "c++")];
    for (compilers, standard, language) in languages {
        for cc in compilers {
            if !Command::new(cc).arg("--version").output().is_ok_and(|o| o.status.success()) {
                skip("cc", &format!("no {cc}"));
                continue;
            }
            let program = out.join(cc);
            let output = Command::new(cc)
                .args([
                    "-O2",
                    "-Wall",
                    "-Wextra",
                    "-Wpedantic",
                    "-Werror",
                    "-pthread",
                    "-x",
                    language,
                ])
                .arg(format!("-std={standard}"))
                .arg("-I")
                .arg(root().join("layout/include/domstat"))
                .arg(root().join("tests/c/counters.c"))
                .arg("-o")
                .arg(&program)
                .output()
                .unwrap();
            assert!(output.status.success(), "{cc} {}", String::from_utf8_lossy(&output.stderr));
            programs.push(program);
        }
    }
    programs
}

/// Runs a program with this input; its output.
fn run(program: &Path, args: &[&str], input: Vec<u8>) -> String {
    let child =
        Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that does not read its input to the end closes it.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{program:?} {args:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Requests at random: the packets that the program in C reads, and what the producer in Rust makes of
/// the same calls in the words of the program.
fn requests(random: &mut fastrand::Rng) -> (Vec<u8>, String) {
    const OPS: [BlkOp; 3] = [BlkOp::Read, BlkOp::Write, BlkOp::Flush];
    let builder = RegionBuilder::new("requests").clock(Clock::Monotonic);
    let builder = builder.blks(1).blk_histograms(true).vcpu_histograms(true);
    let mut created = builder.create_memfd().unwrap();
    let device = BlkDevice { blk: created.blks.remove(0), hist: Some(created.blk_hists.remove(0)) };
    let mut tracker = RequestTracker::device(device, Ns(0));
    let (mut in_flight, mut packets) = (Vec::new(), Vec::new());
    let mut now = 0u64;
    for _ in 0..random.usize(0..1_000) {
        now = match random.u8(0..20) {
            0 => now.saturating_sub(random.u64(0..500)),
            1 => now.saturating_add(random.u64(..) >> 4),
            _ => now.saturating_add(random.u64(0..1_000)),
        };
        let value = random.u64(..) >> random.u32(0..64);
        match random.u8(0..8) {
            0 => {
                packets.push([5, now, value, 0]);
                created.vcpu_hists[0].record::<Wait>(value, Ns(now));
            }
            1..=3 => {
                packets.push([0, now, 0, 0]);
                in_flight.push((tracker.submit(Ns(now)), now));
            }
            // A completion of what is not in flight is in C alone: in Rust it cannot be written.
            _ if in_flight.is_empty() => packets.push([4, now, 0, 0]),
            way => {
                let (request, submitted) = in_flight.swap_remove(random.usize(0..in_flight.len()));
                if way == 4 {
                    packets.push([4, now, 0, 0]);
                    tracker.fail(request, OPS[random.usize(0..3)], Ns(now));
                } else {
                    let op = random.usize(0..3);
                    packets.push([1 + op as u64, now, now.saturating_sub(submitted), value]);
                    tracker.complete(request, OPS[op], value, Ns(now));
                }
            }
        }
    }
    let producer = created.unpublished.publish().unwrap();
    let fd = || producer.as_fd().unwrap().try_clone_to_owned().unwrap();
    let mut bytes = Vec::new();
    std::fs::File::from(fd()).read_to_end(&mut bytes).unwrap();
    let region = Region::from_fd(fd()).unwrap();
    region.beyond_header().unwrap();
    let geometry = region.geometry();
    let record = |kind| {
        let array = geometry.array(kind);
        &bytes[array.offs..][..array.size]
    };
    let queue = &record(RecordKind::Blk)[BlkQueue::DESC.offset..];
    let parts =
        [&queue[..BlkQueue::DESC.size], record(RecordKind::BlkHist), record(RecordKind::VcpuHist)];
    let lines: String = parts.map(|part| hex(part) + "\n").concat();
    (packets.as_bytes().to_vec(), format!("{lines}{}\n", in_flight.len()))
}

#[test]
fn sums_are_those_of_words() {
    let edges = [0, 1, 7, 1 << 63, u64::MAX - 2, u64::MAX - 1, u64::MAX];
    let pairs = edges.iter().flat_map(|a| edges.map(|b| [*a, b])).collect::<Vec<_>>();
    let expected: String = pairs
        .iter()
        .map(|pair| pair.map(|raw| Word::from_raw(raw.to_le())))
        .map(|[a, b]| format!("{}\n", u64::from_le(a.plus(b).to_raw())))
        .collect();
    for program in programs() {
        assert_eq!(run(program, &["sums"], pairs.as_bytes().to_vec()), expected, "{program:?}");
    }
}

#[test]
fn requests_and_distributions_are_the_same_bytes() {
    let mut random = fastrand::Rng::with_seed(11);
    for round in 0..50 {
        let (input, expected) = requests(&mut random);
        for program in programs() {
            let found = run(program, &["requests"], input.clone());
            assert_eq!(found, expected, "{program:?}, round {round}");
        }
    }
}

#[test]
fn times_of_threads_are_distributed_alike() {
    const ACTIVITIES: [Activity; 3] = [Activity::Wants, Activity::Waits, Activity::Stopped];
    let mut random = fastrand::Rng::with_seed(12);
    for _ in 0..25 {
        let (mut input, mut expected) = (Vec::new(), String::new());
        let mut estimator = None;
        let (mut now, mut last) = (random.u64(0..1 << 40), [0u64; 3]);
        for _ in 0..800 {
            now = match random.u8(0..24) {
                0 => now.saturating_sub(random.u64(0..50_000_000)),
                1 => now.saturating_add(random.u64(..) >> 8),
                _ => now.saturating_add(random.u64(0..60_000_000)),
            };
            for counter in &mut last {
                *counter = match random.u8(0..48) {
                    0 => counter.saturating_sub(random.u64(0..50_000_000)),
                    1 => random.u64(..),
                    2..16 => *counter,
                    _ => counter.saturating_add(random.u64(0..60_000_000)),
                };
            }
            if estimator.is_none() {
                last = [0; 3];
            }
            let activity = random.usize(0..3);
            let [run_ns, wait_ns, timeslices] = last;
            let reading = Reading { run_ns, wait_ns, timeslices, activity: ACTIVITIES[activity] };
            let estimator = match &mut estimator {
                Some(estimator) => {
                    RunstateEstimator::advance(estimator, reading, Ns(now));
                    estimator
                }
                none => none.insert(RunstateEstimator::new(Ns(now), reading, Ns(now))),
            };
            let words = [now, run_ns, wait_ns, timeslices, activity as u64];
            input.extend(words.as_bytes());
            let found = estimator.runstate();
            let times = [found.running_ns, found.runnable_ns, found.blocked_ns, found.offline_ns];
            let times = times.map(|time| u64::from_le(time.to_raw()).to_string()).join(" ");
            let is_entered = found.state_entry_ns == Word::NOT_PRODUCED;
            expected +=
                &format!("{} {} {times}\n", found.state.value().unwrap(), u8::from(is_entered));
        }
        for program in programs() {
            let found = run(program, &["estimator"], input.clone());
            assert_eq!(found, expected, "{program:?}");
        }
    }
}

#[test]
fn lines_of_proc_are_parsed_whatever_a_thread_is_called() {
    let cases = [
        ("10 20 3", "7 (a) R b) S 1 7 7 0", "10 20 3 1"),
        ("18446744073709551615 0 1", "7 (CPU 0/KVM) R 1", "18446744073709551615 0 1 0"),
        ("1 2 3", "7 (a) T 1", "1 2 3 2"),
        ("1 2 3", "7 (a) t 1", "1 2 3 2"),
        ("1 2 3", "7 (a) D 1", "1 2 3 1"),
        ("", "7 (a) S 1", "refused"),
        ("1 2", "7 (a) S 1", "refused"),
        ("1 2 18446744073709551616", "7 (a) S 1", "refused"),
        ("1 2 3", "7 a S", "refused"),
        ("1 2 3", "7 (a)", "refused"),
    ];
    let input: String =
        cases.iter().map(|(schedstat, stat, _)| format!("{schedstat}\n{stat}\n")).collect();
    for program in programs() {
        let found = run(program, &["parse"], input.clone().into());
        assert_eq!(found.lines().collect::<Vec<_>>(), cases.map(|(_, _, expected)| expected));
    }
}

#[test]
fn exits_are_found_by_their_names() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("stats");
    let known = ["exits", "io_exits", "mmio_exits", "halt_exits", "irq_exits", "signal_exits"];
    let others = ["hypercalls", "insn_emulation", "exits_more", "pf_fixed", "io_exit"];
    let mut random = fastrand::Rng::with_seed(13);
    for _ in 0..25 {
        let mut names = [&known[..], &others[..]].concat();
        random.shuffle(&mut names);
        names.truncate(random.usize(0..names.len()));
        let name_len: u32 = [16, 48, 64][random.usize(0..3)];
        let nr = u32::try_from(names.len()).unwrap();
        let data = 32 + nr * (16 + name_len);
        let mut bytes = [0, name_len, nr, 24, 32, data, 0, 0].as_bytes().to_vec();
        for (i, name) in (0u32..).zip(&names) {
            bytes.extend([0, 1 << 16, 8 * i, 0].as_bytes());
            let mut name = name.as_bytes().to_vec();
            name.resize(name_len as usize, 0);
            bytes.extend(name);
        }
        bytes.extend(names.iter().flat_map(|_| (random.u64(..) >> 1).to_ne_bytes()));
        std::fs::write(&path, &bytes).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let exits: Exits = KvmExits::open(file.into()).unwrap().sample().unwrap();
        for program in programs() {
            let found = run(program, &["kvm", path.to_str().unwrap()], Vec::new());
            assert_eq!(found.trim(), hex(exits.as_bytes()), "{program:?} {names:?}");
        }
    }
    // Not a descriptor of statistics, or one that promises too much.
    let too_many = [0, 48, u32::MAX, 24, 32, 32, 0, 0];
    for bytes in [&[][..], too_many.as_bytes()] {
        std::fs::write(&path, bytes).unwrap();
        assert!(KvmExits::open(std::fs::File::open(&path).unwrap().into()).is_err());
        for program in programs() {
            assert_eq!(run(program, &["kvm", path.to_str().unwrap()], Vec::new()), "refused\n");
        }
    }
}

#[test]
fn times_are_those_of_the_kernels_books() {
    let Some(program) = programs().first() else { return };
    let text = run(program, &["thread"], Vec::new());
    if text == "refused\n" {
        return skip("schedstat", "the kernel has no scheduler statistics");
    }
    let lines: Vec<Vec<u64>> = text
        .lines()
        .take(2)
        .map(|line| line.split(' ').map(|number| number.parse().unwrap()).collect())
        .collect();
    let slack = RUN_AHEAD_NS + 5_000_000;
    for line in &lines {
        let [elapsed, ran, running, runnable, blocked, offline, time] = line[..] else {
            panic!("{text}")
        };
        assert_eq!(running + runnable + blocked + offline, elapsed, "{text}");
        assert!(running.abs_diff(ran) <= slack && time.abs_diff(ran) <= slack, "{text}");
    }
    let [running, paused] = &lines[..] else { panic!("{text}") };
    let [_, _, _, _, blocked, offline, _] = running[..] else { panic!("{text}") };
    assert!(blocked + slack >= 200_000_000 && offline == 0, "{text}");
    assert!(paused[4] <= blocked + slack, "{text}");
    assert!(paused[5] + slack >= 200_000_000, "asleep in a paused domain is offline: {text}");
    // One that was closed has no numbers.
    assert_eq!(text.lines().last(), Some("-1"));
}
