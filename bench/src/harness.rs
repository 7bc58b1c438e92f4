//! Timing in rounds, so that a figure comes with its spread, and subjects in turn, so that what
//! disturbs the machine disturbs all of them.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// How much time is spent on each figure.
#[derive(Clone, Copy)]
pub struct Effort {
    /// Runs, of which the median is reported with the smallest and the largest.
    pub rounds: usize,
    /// Slices of a run; the run's figure is their median.
    pub slices: usize,
    /// Length of a slice.
    pub slice: Duration,
    /// Slices of a run of two threads side by side.
    pub duels: usize,
    /// Length of such a slice.
    pub duel: Duration,
    /// Whether the large cases are left out.
    pub quick: bool,
}

impl Effort {
    /// A few minutes in all.
    pub const FULL: Self = Self {
        rounds: 7,
        slices: 15,
        slice: Duration::from_millis(2),
        duels: 5,
        duel: Duration::from_millis(40),
        quick: false,
    };
    /// Less than half a minute in all.
    pub const QUICK: Self = Self {
        rounds: 5,
        slices: 5,
        slice: Duration::from_micros(500),
        duels: 1,
        duel: Duration::from_millis(30),
        quick: true,
    };
    /// Only to see that everything runs.
    pub const SMOKE: Self = Self {
        rounds: 1,
        slices: 1,
        slice: Duration::from_micros(20),
        duels: 1,
        duel: Duration::from_millis(2),
        quick: true,
    };
}

/// Median, smallest and largest of several runs.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of at least one run.
    pub fn of(runs: &[f64]) -> Self {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else {
            return Self { median: f64::NAN, min: f64::NAN, max: f64::NAN };
        };
        Self { median: sorted[sorted.len() / 2], min, max }
    }

    /// Of `a[i] / b[i]`: two subjects in the same runs.
    pub fn ratio(a: &[f64], b: &[f64]) -> Self {
        Self::of(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>())
    }
}

/// Something to be timed: repeats its work a given number of times.
pub type Subject<'a> = Box<dyn FnMut(u64) + 'a>;

/// A subject that does one thing again and again.
pub fn again<'a, T>(mut once: impl FnMut() -> T + 'a) -> Subject<'a> {
    Box::new(move |n| {
        for _ in 0..n {
            black_box(once());
        }
    })
}

/// Times the subjects in turn; for each of them, nanoseconds per iteration in every run.
pub fn race(effort: Effort, subjects: &mut [Subject<'_>]) -> Vec<Vec<f64>> {
    let iterations: Vec<u64> = subjects.iter_mut().map(|s| calibrate(effort.slice, s)).collect();
    let mut runs = vec![Vec::new(); subjects.len()];
    for _ in 0..effort.rounds {
        let mut slices = vec![Vec::new(); subjects.len()];
        for _ in 0..effort.slices {
            for ((subject, &n), slices) in subjects.iter_mut().zip(&iterations).zip(&mut slices) {
                slices.push(time(subject, n).as_secs_f64() * 1e9 / n as f64);
            }
        }
        for (runs, slices) in runs.iter_mut().zip(&slices) {
            runs.push(Spread::of(slices).median);
        }
    }
    runs
}

fn time(subject: &mut Subject<'_>, n: u64) -> Duration {
    let begin = Instant::now();
    subject(n);
    begin.elapsed()
}

/// How many iterations take about as long as a slice.
fn calibrate(slice: Duration, subject: &mut Subject<'_>) -> u64 {
    let mut n = 1;
    loop {
        let taken = time(subject, n);
        if taken * 4 >= slice || n > 1 << 40 {
            let per_slice = slice.as_secs_f64() / taken.as_secs_f64().max(1e-9);
            return ((n as f64 * per_slice) as u64).max(1);
        }
        n *= 2;
    }
}

/// Keeps the calling thread on one CPU; where that is not possible the figures are noisier.
pub fn pin(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu % nr_cpus());
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

/// Lets the calling thread run on every CPU again.
pub fn unpin() {
    let mut set = rustix::thread::CpuSet::new();
    (0..nr_cpus()).for_each(|cpu| set.set(cpu));
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

/// CPUs of the machine.
pub fn nr_cpus() -> usize {
    use std::sync::OnceLock;
    static NR: OnceLock<usize> = OnceLock::new();
    *NR.get_or_init(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}
