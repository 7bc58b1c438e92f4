//! Reads and writes of one thread that nothing disturbs.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use domstat_layout::latest::Runstate;
use domstat_layout::{CopyWidth, seqlock};

use crate::harness::{Effort, Spread, Subject, pin, race, unpin};
use crate::mem::Shared;
use crate::mmap_sync_peer::MmapSync;
use crate::peers::{self, FIRST, HEADER, OneCopy, OneCopyReader, Peer, TwinsReader, TwinsWriter};
use crate::report::{Report, number};

/// Everything that is read or written at one size, in the order of the table.
struct Lane {
    name: String,
    runs: Vec<f64>,
}

/// Fills the report.
pub fn run(effort: Effort, report: &mut Report) {
    pin(0);
    let reads = [
        sized_reads::<8>(effort),
        sized_reads::<16>(effort),
        sized_reads::<32>(effort),
        sized_reads::<64>(effort),
    ];
    let writes = [
        sized_writes::<8>(effort),
        sized_writes::<16>(effort),
        sized_writes::<32>(effort),
        sized_writes::<64>(effort),
    ];
    table(report, "Read a group, alone", READS, &reads);
    table(report, "Write a group, alone", WRITES, &writes);
    for (verb, lanes) in [("read", &reads), ("write", &writes)] {
        for (i, lane) in lanes[0].iter().enumerate() {
            let points = [64.0, 128.0, 256.0, 512.0].into_iter().zip(lanes);
            let points = points.map(|(size, lanes)| (size, Spread::of(&lanes[i].runs).median));
            if lane.name.starts_with("domstat") || lane.name == "memcpy" {
                report.by_size.push((format!("{verb}: {}", lane.name), points.collect()));
            }
        }
    }
    let over_memcpy = |lanes: &[Lane], name: &str| {
        let lane = lanes.iter().find(|lane| lane.name == name).expect("a lane by this name");
        Spread::ratio(&lane.runs, &lanes[0].runs)
    };
    let widest = format!("domstat, {}", CopyWidth::widest().name());
    report.ratio("read_64_over_memcpy", over_memcpy(&reads[0], &widest));
    report.ratio("read_128_over_memcpy", over_memcpy(&reads[1], &widest));
    report.ratio("read_256_over_memcpy", over_memcpy(&reads[2], &widest));
    report.ratio("read_512_over_memcpy", over_memcpy(&reads[3], &widest));
    let baseline = format!("domstat, {}", CopyWidth::BASELINE.name());
    report.ratio("read_128_baseline_over_memcpy", over_memcpy(&reads[1], &baseline));
    report.ratio("read_128_portable_over_memcpy", over_memcpy(&reads[1], "domstat, words"));
    report.ratio("read_128_twins_over_memcpy", over_memcpy(&reads[1], "domstat, twins"));
    report.ratio("write_128_over_memcpy", over_memcpy(&writes[1], "domstat"));
    report.ratio("write_128_portable_over_memcpy", over_memcpy(&writes[1], "domstat, words"));
    report.ratio("write_128_twins_over_memcpy", over_memcpy(&writes[1], "domstat, twins"));
    unpin();
}

const READS: &str = "Nanoseconds for one read of a group's fields out of memory that a writer \
shares, median of the runs, and in brackets as a multiple of copying the same bytes without any \
protocol. domstat's forms differ in how many bytes one load moves; the consumer takes the widest \
that the CPU has for groups of this size, and 16-byte for shorter ones. `arc-swap Cache` does not copy: its readers hold on to the last allocation.";
const WRITES: &str = "Nanoseconds for one write of the same fields. `words` is the portable form. \
A writer of twins writes every field twice.";

fn table(report: &mut Report, title: &str, about: &'static str, sizes: &[Vec<Lane>; 4]) {
    report.section(title, about, &["", "64 B", "128 B", "256 B", "512 B"]);
    for (i, lane) in sizes[0].iter().enumerate() {
        let mut row = vec![lane.name.clone()];
        for lanes in sizes {
            let median = Spread::of(&lanes[i].runs).median;
            let ratio = Spread::ratio(&lanes[i].runs, &lanes[0].runs).median;
            row.push(format!("{} ({}x)", number(median), number(ratio)));
        }
        report.row(row);
    }
}

/// Runs the subjects and names what they took.
fn lanes(effort: Effort, subjects: Vec<(String, Subject<'_>)>) -> Vec<Lane> {
    let (names, mut subjects): (Vec<_>, Vec<_>) = subjects.into_iter().unzip();
    let runs = race(effort, &mut subjects);
    names.into_iter().zip(runs).map(|(name, runs)| Lane { name, runs }).collect()
}

fn peer_reads<P: Peer<N>, const N: usize>() -> (String, Subject<'static>) {
    let (mut writer, reader) = P::pair();
    peers::Write::write(&mut writer, &[1; N]);
    (P::NAME.to_owned(), peers::reads(reader))
}

fn peer_writes<P: Peer<N>, const N: usize>() -> (String, Subject<'static>) {
    (P::NAME.to_owned(), peers::writes(P::pair().0))
}

/// The floor of a reader: the same bytes, copied by the compiler.
struct Copy(Shared);

impl<const N: usize> peers::Read<N> for Copy {
    #[inline(always)]
    fn read(&mut self, to: &mut [u64; N]) -> u64 {
        self.0.copy(FIRST + HEADER, to);
        0
    }
}

/// The floor of a writer.
impl<const N: usize> peers::Write<N> for Copy {
    #[inline(always)]
    fn write(&mut self, from: &[u64; N]) {
        self.0.fill(FIRST + HEADER, from);
    }
}

fn sized_reads<const N: usize>(effort: Effort) -> Vec<Lane>
where
    MmapSync: Peer<N>,
{
    let page = Shared::new();
    peers::Write::write(&mut TwinsWriter(page.write()), &[2; N]);
    let mut subjects = vec![("memcpy".to_owned(), peers::reads::<N>(Copy(page)))];
    for form in CopyWidth::all() {
        let reader = OneCopyReader(page.read().with_form(form));
        subjects.push((format!("domstat, {}", form.name()), peers::reads::<N>(reader)));
    }
    let twins = TwinsReader(page.read().with_form(CopyWidth::widest()));
    subjects.push(("domstat, twins".to_owned(), peers::reads::<N>(twins)));
    subjects.push(peer_reads::<peers::SeqLock, N>());
    subjects.push(peer_reads::<peers::Crossbeam, N>());
    subjects.push(peer_reads::<peers::ParkingLot, N>());
    subjects.push(peer_reads::<peers::StdRwLock, N>());
    subjects.push(peer_reads::<peers::Swap, N>());
    subjects.push(peer_reads::<peers::SwapCache, N>());
    subjects.push(peer_reads::<MmapSync, N>());
    #[cfg(feature = "iceoryx2")]
    subjects.push(peer_reads::<crate::blackboard::Blackboard, N>());
    lanes(effort, subjects)
}

/// A group that is written in the portable form.
#[repr(C, align(64))]
struct PortableGroup<const N: usize> {
    seq: AtomicU32,
    updated_ns: AtomicU64,
    words: [AtomicU64; N],
}

impl<const N: usize> peers::Write<N> for Box<PortableGroup<N>> {
    /// As `WriteGroup::write`.
    #[inline(always)]
    fn write(&mut self, from: &[u64; N]) {
        let odd = seqlock::write_begin(&self.seq);
        // ORDERING: relaxed; one of the words that seq guards.
        self.updated_ns.store(1, Ordering::Relaxed);
        seqlock::store_words(&self.words, from);
        seqlock::write_end(&self.seq, odd);
    }
}

fn sized_writes<const N: usize>(effort: Effort) -> Vec<Lane>
where
    MmapSync: Peer<N>,
{
    let page = Shared::new();
    let portable = Box::new(PortableGroup {
        seq: 0.into(),
        updated_ns: 0.into(),
        words: [const { AtomicU64::new(0) }; N],
    });
    #[allow(unused_mut, reason = "one more with a feature")]
    let mut subjects = vec![
        ("memcpy".to_owned(), peers::writes::<N>(Copy(page))),
        ("domstat".to_owned(), peers::writes::<N>(OneCopy(page.write()))),
        ("domstat, words".to_owned(), peers::writes::<N>(portable)),
        ("domstat, twins".to_owned(), peers::writes::<N>(TwinsWriter(page.write()))),
        peer_writes::<peers::SeqLock, N>(),
        peer_writes::<peers::Crossbeam, N>(),
        peer_writes::<peers::ParkingLot, N>(),
        peer_writes::<peers::StdRwLock, N>(),
        peer_writes::<peers::Swap, N>(),
        peer_writes::<MmapSync, N>(),
    ];
    #[cfg(feature = "iceoryx2")]
    subjects.push(peer_writes::<crate::blackboard::Blackboard, N>());
    lanes(effort, subjects)
}

/// The running time of [`runstate`].
pub const RUNNING_NS: u64 = 2;

/// A runstate with a number in every field.
pub fn runstate() -> Runstate {
    Runstate {
        state: 0.into(),
        state_entry_ns: 1.into(),
        running_ns: RUNNING_NS.into(),
        runnable_ns: 3.into(),
        blocked_ns: 4.into(),
        offline_ns: 5.into(),
    }
}
