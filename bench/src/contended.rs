//! A reader next to a writer, each on a CPU of its own.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::harness::{Effort, Spread, nr_cpus, pin};
use crate::mmap_sync_peer::MmapSync;
use crate::peers::{self, Peer, Read, Write};
use crate::report::{Report, number};

/// Words of the value: 128 bytes.
const N: usize = 16;
/// CPUs of the two sides.
const READER: usize = 0;
const WRITER: usize = 1;

/// How often the writer writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    FlatOut,
    Every(Duration),
}

/// What one run of a reader next to a writer found.
struct Duel {
    reads_per_s: f64,
    retries_per_read: f64,
    most_retries: u64,
    latency: Histogram<u64>,
}

/// Fills the report.
pub fn run(effort: Effort, report: &mut Report) {
    if nr_cpus() < 2 {
        report.section("A reader next to a writer", "Not measured: it needs two CPUs.", &[""]);
        return;
    }
    let noise = noise(effort);
    for (pace, title) in [
        (Pace::FlatOut, "A reader next to a writer that never rests"),
        (Pace::Every(Duration::from_micros(1)), "A reader next to a writer at 1 MHz"),
        (Pace::Every(Duration::from_millis(1)), "A reader next to a writer at 1 kHz"),
    ] {
        let mut all: Vec<(&str, Vec<Duel>)> = Vec::new();
        for _ in 0..effort.rounds {
            for (i, (name, duel)) in one_run(effort, pace).into_iter().enumerate() {
                match all.get_mut(i) {
                    Some((_, duels)) => duels.push(duel),
                    None => all.push((name, vec![duel])),
                }
            }
        }
        table(report, title, &all);
        figures(report, pace, &all, &noise);
    }
    report.section("The machine's own noise", NOISE, &["p50", "p99", "p99.9", "max"]);
    report.row(quantiles(&noise));
    writers(effort, report);
}

/// Every subject in turn, several times; what a run found is the median of its slices.
fn one_run(effort: Effort, pace: Pace) -> Vec<(&'static str, Duel)> {
    let mut slices: Vec<(&str, Vec<Duel>)> = Vec::new();
    for _ in 0..effort.duels {
        #[allow(unused_mut, reason = "one more with a feature")]
        let mut each = vec![
            duel::<peers::Torn>(effort, pace),
            duel::<peers::Domstat>(effort, pace),
            duel::<peers::DomstatTwins>(effort, pace),
            duel::<peers::SeqLock>(effort, pace),
            duel::<peers::Crossbeam>(effort, pace),
            duel::<peers::ParkingLot>(effort, pace),
            duel::<peers::StdRwLock>(effort, pace),
            duel::<peers::Swap>(effort, pace),
            duel::<peers::SwapCache>(effort, pace),
            duel::<MmapSync>(effort, pace),
        ];
        #[cfg(feature = "iceoryx2")]
        each.push(duel::<crate::blackboard::Blackboard>(effort, pace));
        for (i, (name, duel)) in each.into_iter().enumerate() {
            match slices.get_mut(i) {
                Some((_, duels)) => duels.push(duel),
                None => slices.push((name, vec![duel])),
            }
        }
    }
    let median = |duels: &[Duel], of: fn(&Duel) -> f64| {
        Spread::of(&duels.iter().map(of).collect::<Vec<_>>()).median
    };
    let runs = slices.into_iter().map(|(name, duels)| {
        let run = Duel {
            reads_per_s: median(&duels, |duel| duel.reads_per_s),
            retries_per_read: median(&duels, |duel| duel.retries_per_read),
            most_retries: duels.iter().map(|duel| duel.most_retries).max().unwrap_or(0),
            latency: merged(&duels),
        };
        (name, run)
    });
    runs.collect()
}

const DUELS: &str = "128 bytes, the writer on one CPU and the reader on another. Reads/s of a \
reader that does nothing else, as median of the runs; then single reads, about a microsecond apart, \
timed with the clock's own cost of some 25 ns in them, of all runs together. The p50 of the torn \
copy says how long a cache line takes from one CPU to the other; where that is 150 ns and not 40 \
(a host may place a virtual machine's CPUs differently at each run) a reader that checks a \
sequence number loses more against one that does not.";
const NOISE: &str = "How long a thread on the reader's CPU that only reads the clock is away \
between two looks, for as long as one run above: interrupts and whatever else the machine does.";

fn quantiles(h: &Histogram<u64>) -> Vec<String> {
    let at = |q| human_ns(h.value_at_quantile(q));
    vec![at(0.5), at(0.99), at(0.999), human_ns(h.max())]
}

fn human_ns(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{} us", number(ns as f64 / 1e3)),
        _ => format!("{} ms", number(ns as f64 / 1e6)),
    }
}

fn merged(duels: &[Duel]) -> Histogram<u64> {
    let mut all = histogram();
    duels.iter().for_each(|duel| all.add(&duel.latency).expect("equal histograms"));
    all
}

fn rates(duels: &[Duel]) -> Vec<f64> {
    duels.iter().map(|duel| duel.reads_per_s).collect()
}

fn table(report: &mut Report, title: &str, all: &[(&str, Vec<Duel>)]) {
    let heads = [
        "",
        "M reads/s",
        "x torn memcpy",
        "retries per read",
        "most retries",
        "p50",
        "p99",
        "p99.9",
        "max",
    ];
    report.section(title, DUELS, &heads);
    let floor = rates(&all[0].1);
    for (name, duels) in all {
        let retries: Vec<f64> = duels.iter().map(|duel| duel.retries_per_read).collect();
        let most = duels.iter().map(|duel| duel.most_retries).max().unwrap_or(0);
        let mut row = vec![
            (*name).to_owned(),
            number(Spread::of(&rates(duels)).median / 1e6),
            number(Spread::ratio(&rates(duels), &floor).median),
            format!("{:.3}", Spread::of(&retries).median),
            most.to_string(),
        ];
        row.extend(quantiles(&merged(duels)));
        report.row(row);
    }
}

fn figures(report: &mut Report, pace: Pace, all: &[(&str, Vec<Duel>)], noise: &Histogram<u64>) {
    let [(_, torn), (_, one), (_, twins), peers @ ..] = all else { return };
    match pace {
        Pace::Every(period) if period < Duration::from_micros(10) => {
            let ours = rates(one);
            report
                .ratio("reads_beside_1mhz_writer_over_memcpy", Spread::ratio(&ours, &rates(torn)));
            let best: Vec<f64> = (0..ours.len())
                .map(|i| peers.iter().map(|(_, duels)| duels[i].reads_per_s).fold(0.0, f64::max))
                .collect();
            report.ratio("reads_beside_1mhz_writer_over_best_peer", Spread::ratio(&ours, &best));
        }
        Pace::FlatOut => {
            let us = |ns: u64| ns as f64 / 1e3;
            let each = |q: f64| -> Vec<f64> {
                twins.iter().map(|duel| us(duel.latency.value_at_quantile(q))).collect()
            };
            report.ratio("twins_full_speed_p999_us", Spread::of(&each(0.999)));
            let over: Vec<f64> = each(1.0).iter().map(|worst| worst - us(noise.max())).collect();
            report.ratio("twins_full_speed_worst_over_noise_us", Spread::of(&over));
        }
        Pace::Every(_) => {}
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits")
}

fn record(times: &mut Histogram<u64>, time: Duration) {
    let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    times.record(ns).expect("the histogram grows");
}

/// Waits a moment without giving up the CPU.
fn spin_until(when: Instant) {
    while Instant::now() < when {
        std::hint::spin_loop();
    }
}

fn duel<P: Peer<N>>(effort: Effort, pace: Pace) -> (&'static str, Duel) {
    let (mut writer, mut reader) = P::pair();
    let stop = AtomicBool::new(false);
    let duel = thread::scope(|scope| {
        scope.spawn(|| {
            pin(WRITER);
            let mut value = [0; N];
            let mut next = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                value = [value[0] + 1; N];
                writer.write(black_box(&value));
                if let Pace::Every(period) = pace {
                    next += period;
                    spin_until(next);
                }
            }
        });
        let reading = scope.spawn(|| {
            pin(READER);
            thread::sleep(Duration::from_micros(500));
            read_beside(effort, &mut reader)
        });
        let duel = reading.join();
        stop.store(true, Ordering::Relaxed);
        duel.expect("the reader ends")
    });
    (P::NAME, duel)
}

fn read_beside(effort: Effort, reader: &mut impl Read<N>) -> Duel {
    let mut to = [0; N];
    let (mut reads, mut retries, mut most_retries) = (0u64, 0, 0);
    let begin = Instant::now();
    while begin.elapsed() < effort.duel {
        for _ in 0..64 {
            let again = reader.read(black_box(&mut to));
            retries += again;
            most_retries = most_retries.max(again);
        }
        reads += 64;
    }
    let reads_per_s = reads as f64 / begin.elapsed().as_secs_f64();
    let mut latency = histogram();
    let begin = Instant::now();
    while begin.elapsed() < effort.duel {
        let start = Instant::now();
        let again = reader.read(black_box(&mut to));
        let end = Instant::now();
        most_retries = most_retries.max(again);
        record(&mut latency, end - start);
        spin_until(end + Duration::from_nanos(900));
    }
    Duel { reads_per_s, retries_per_read: retries as f64 / reads as f64, most_retries, latency }
}

fn noise(effort: Effort) -> Histogram<u64> {
    let look = || {
        pin(READER);
        let mut gaps = histogram();
        let begin = Instant::now();
        let mut last = begin;
        while last - begin < effort.duel * 2 {
            let now = Instant::now();
            record(&mut gaps, now - last);
            last = now;
        }
        gaps
    };
    thread::scope(|scope| scope.spawn(look).join()).expect("the thread ends")
}

const WRITES: &str = "Single writes of 128 bytes, timed as the reads above, while so many readers \
read without pause on another CPU (two share it). A writer never waits for a reader; what is left \
is the cost of taking the cache lines back, and the noise.";

/// The writer's side, next to 0, 1 and 2 readers that never rest.
fn writers(effort: Effort, report: &mut Report) {
    report.section(
        "A writer next to readers that never rest",
        WRITES,
        &["", "readers", "p50", "p99", "p99.9", "max"],
    );
    for nr_readers in 0..3 {
        written::<peers::Domstat>(effort, nr_readers, report);
        written::<peers::DomstatTwins>(effort, nr_readers, report);
    }
}

fn written<P: Peer<N>>(effort: Effort, nr_readers: usize, report: &mut Report)
where
    P::Reader: Clone,
{
    let (mut writer, reader) = P::pair();
    let stop = AtomicBool::new(false);
    let mut times = histogram();
    thread::scope(|scope| {
        for _ in 0..nr_readers {
            let (mut reader, stop) = (reader.clone(), &stop);
            scope.spawn(move || {
                pin(READER);
                let mut to = [0; N];
                while !stop.load(Ordering::Relaxed) {
                    black_box(reader.read(black_box(&mut to)));
                }
            });
        }
        scope.spawn(|| {
            pin(WRITER);
            thread::sleep(Duration::from_micros(500));
            let (begin, mut value) = (Instant::now(), [0; N]);
            while begin.elapsed() < effort.duel {
                value = [value[0] + 1; N];
                let start = Instant::now();
                writer.write(black_box(&value));
                record(&mut times, start.elapsed());
                spin_until(start + Duration::from_nanos(900));
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
    let mut row = vec![P::NAME.to_owned(), nr_readers.to_string()];
    row.extend(quantiles(&times));
    report.row(row);
}
