//! Models of the protocol, run under every interleaving and every stale value that the memory
//! model allows: `ci/loom.sh`.
//!
//! The very files that the crate ships, `src/seqlock.rs` and `src/twins.rs`, are compiled here
//! against loom's atomics. What lies around them (which store comes when) is copied from
//! `src/mem.rs`, from the producer's `RecordCore` and from the consumer's reads, step by step.
//!
//! Every model says what may be seen, and that all of it was seen: a model that never meets the
//! writer in mid-update proves nothing.
//!
//! Loom reads stores in the order in which they are made in the program (no load buffering), and
//! its `compare_exchange_weak` never fails for no reason.
#![allow(unexpected_cfgs, reason = "loom is not a cfg that Cargo knows")]
#![cfg(loom)]
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test")]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use loom::thread;
use seqlock::{
    SeqBatch, announce, load_words, publish, published, read_begin, read_begin_each, read_retry,
    store_words, write_begin, write_end,
};
use sync::{AtomicU32, AtomicU64, Ordering};
use twins::{Busy, ReadCopy, Twins, WriteCopy};

#[path = "../src/seqlock.rs"]
pub mod seqlock;
#[path = "../src/twins.rs"]
pub mod twins;

/// What `src/sync.rs` is for the crate.
pub mod sync {
    pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
}

/// Runs `model` in every execution with at most `preemptions` of them, and returns what it
/// returned, each outcome once. Prints how many executions there were.
fn outcomes<T: Ord + Debug + Send + 'static>(
    preemptions: impl Into<Option<usize>>,
    model: impl Fn() -> T + Send + Sync + 'static,
) -> BTreeSet<T> {
    let begin = Instant::now();
    let seen = Arc::new(Mutex::new((0, BTreeSet::new())));
    let collected = Arc::clone(&seen);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions.into();
    builder.check(move || {
        let outcome = model();
        let mut seen = collected.lock().unwrap();
        seen.0 += 1;
        seen.1.insert(outcome);
    });
    let (executions, reached) = std::mem::take(&mut *seen.lock().unwrap());
    let current = std::thread::current();
    let (name, time) = (current.name().unwrap_or("model"), begin.elapsed());
    println!("{name}: {executions} executions in {time:.1?}, reached {reached:?}");
    reached
}

/// Panics unless exactly these outcomes were reached.
fn assert_reached<T: Ord + Debug>(reached: &BTreeSet<T>, expected: impl IntoIterator<Item = T>) {
    let expected: BTreeSet<T> = expected.into_iter().collect();
    assert_eq!(*reached, expected, "reached (left) and expected (right)");
}

/// Runs both threads, the second with what it returns.
fn beside<T: 'static>(writer: impl FnOnce() + 'static, reader: impl FnOnce() -> T + 'static) -> T {
    let writer = thread::spawn(writer);
    let reader = thread::spawn(reader);
    writer.join().unwrap();
    reader.join().unwrap()
}

/// One group: `seq`, and the words that it guards.
struct Group<const N: usize> {
    seq: AtomicU32,
    words: [AtomicU64; N],
}

impl<const N: usize> Group<N> {
    /// As the pages are: never written.
    fn zero() -> Self {
        Self::at(0, 0)
    }

    /// At rest, holding number `n`.
    fn at(seq: u32, n: u64) -> Self {
        Self { seq: AtomicU32::new(seq), words: [n; N].map(AtomicU64::new) }
    }

    /// As `WriteGroup::write`.
    fn write(&self, n: u64) {
        let odd = write_begin(&self.seq);
        store_words(&self.words, &[n; N]);
        write_end(&self.seq, odd);
    }

    /// As `WriteGroup::suspend`.
    fn suspend(&self) {
        if self.seq.load(Ordering::Relaxed) & 1 == 0 {
            write_begin(&self.seq);
        }
    }

    /// As `ReadGroup::try_read`: the words, which may be torn, and what `guarded` returned.
    fn try_read<T>(&self, guarded: impl FnOnce() -> T) -> Option<([u64; N], T)> {
        let begin = read_begin(&self.seq)?;
        let mut words = [0; N];
        load_words(&self.words, &mut words);
        let guarded = guarded();
        (!read_retry(&self.seq, begin)).then_some((words, guarded))
    }

    /// The number that the group holds, or `None` if a writer was met. Panics if it is torn.
    fn read(&self) -> Option<u64> {
        self.try_read(|| ()).map(|(words, ())| whole(words))
    }
}

fn whole<const N: usize>(words: [u64; N]) -> u64 {
    assert!(words.iter().all(|word| *word == words[0]), "torn: {words:?}");
    words[0]
}

/// The last even number before `seq` wraps around.
const LAST: u32 = u32::MAX - 1;

#[test]
fn group_read_beside_one_write() {
    let reached = outcomes(None, || {
        let group = Arc::new(Group::<2>::at(2, 1));
        let writer = Arc::clone(&group);
        beside(move || writer.write(2), move || group.read())
    });
    assert_reached(&reached, [None, Some(1), Some(2)]);
}

#[test]
fn group_reads_beside_two_writes() {
    // `seq` wraps around to 0 on the way. The reader reads twice: it never goes back.
    let reached = outcomes(3, || {
        let group = Arc::new(Group::<2>::at(LAST, 1));
        let writer = Arc::clone(&group);
        beside(
            move || {
                writer.write(2);
                writer.write(3);
            },
            move || {
                let (first, second) = (group.read(), group.read());
                if let (Some(first), Some(second)) = (first, second) {
                    assert!(first <= second, "went back from {first} to {second}");
                }
                (first, second)
            },
        )
    });
    // Who was busy saw the first write begin, and who saw the last one end is never busy again.
    let expected = [
        (None, None),
        (None, Some(2)),
        (None, Some(3)),
        (Some(1), None),
        (Some(1), Some(1)),
        (Some(1), Some(2)),
        (Some(1), Some(3)),
        (Some(2), None),
        (Some(2), Some(2)),
        (Some(2), Some(3)),
        (Some(3), Some(3)),
    ];
    assert_reached(&reached, expected);
}

impl<const N: usize> ReadCopy for &Group<N> {
    fn try_read<T>(
        &self,
        to: &mut [u64],
        guarded: impl FnOnce() -> T,
    ) -> Result<(u32, u64, T), Busy> {
        let (words, value) = Group::try_read(self, guarded).ok_or(Busy { seq: 0 })?;
        to.copy_from_slice(&words);
        Ok((0, 0, value))
    }
    fn try_read_word<T>(
        &self,
        index: usize,
        guarded: impl FnOnce() -> T,
    ) -> Result<(Option<u64>, T), Busy> {
        let (words, value) = Group::try_read(self, guarded).ok_or(Busy { seq: 0 })?;
        Ok((words.get(index).copied(), value))
    }
}

/// A copy whose writer is killed after some steps, of whichever copies it writes.
#[derive(Clone, Copy)]
struct Killed<'a, const N: usize> {
    group: &'a Group<N>,
    /// Steps that are left.
    steps: &'a Cell<usize>,
}

impl<const N: usize> Killed<'_, N> {
    /// Whether the writer gets to take one more step.
    fn step(&self) -> bool {
        let left = self.steps.get();
        self.steps.set(left.saturating_sub(1));
        left > 0
    }
}

impl<const N: usize> WriteCopy for Killed<'_, N> {
    /// As `WriteGroup::write`, step by step.
    fn write(&mut self, _: u64, from: &[u64]) {
        if !self.step() {
            return;
        }
        let odd = write_begin(&self.group.seq);
        for (word, from) in self.group.words.iter().zip(from) {
            if !self.step() {
                return;
            }
            store_words(std::slice::from_ref(word), std::slice::from_ref(from));
        }
        if self.step() {
            write_end(&self.group.seq, odd);
        }
    }
    fn write_word(&mut self, _: u64, index: usize, raw: u64) {
        let odd = write_begin(&self.group.seq);
        store_words(std::slice::from_ref(&self.group.words[index]), &[raw]);
        write_end(&self.group.seq, odd);
    }
    /// As `WriteGroup::write_words`.
    fn write_words<const W: usize>(&mut self, _: u64, at: [usize; W], raw: [u64; W]) {
        let odd = write_begin(&self.group.seq);
        for (at, raw) in at.into_iter().zip(raw) {
            store_words(std::slice::from_ref(&self.group.words[at]), &[raw]);
        }
        write_end(&self.group.seq, odd);
    }
    /// As `WriteGroup::own_words`.
    fn own_words<const W: usize>(&self, at: [usize; W]) -> Option<[u64; W]> {
        Some(at.map(|at| self.group.words[at].load(Ordering::Relaxed)))
    }
    fn suspend(&mut self) {
        self.group.suspend();
    }
}

/// Two copies of a group, which are reached through the type that producer and consumer use.
struct TwoCopies<const N: usize> {
    first: Group<N>,
    second: Group<N>,
}

impl<const N: usize> TwoCopies<N> {
    fn at(n: u64) -> Self {
        Self { first: Group::at(2, n), second: Group::at(2, n) }
    }

    fn twins<'a, C>(&'a self, copy: impl Fn(&'a Group<N>) -> C) -> Twins<C, Option<C>> {
        Twins { first: copy(&self.first), second: Some(copy(&self.second)) }
    }

    fn write(&self, n: u64) {
        self.write_until(usize::MAX, n);
    }

    /// The first `nr_steps` steps of a write, after which the writer is killed.
    fn write_until(&self, nr_steps: usize, n: u64) {
        let steps = Cell::new(nr_steps);
        self.twins(|group| Killed { group, steps: &steps }).write(0, &[n; N]);
    }

    fn write_word(&self, n: u64) {
        let steps = Cell::new(usize::MAX);
        self.twins(|group| Killed { group, steps: &steps }).write_word(0, 0, n);
    }

    /// Adds 1 to every word.
    fn add_one(&self) {
        let steps = Cell::new(usize::MAX);
        let mut twins = self.twins(|group| Killed { group, steps: &steps });
        twins
            .change(0, std::array::from_fn::<_, N, _>(|at| at), |words| words.map(|word| word + 1));
    }

    fn read(&self) -> Option<u64> {
        let mut words = [0; N];
        let read = self.twins(|group| group).try_read(&mut words, |_| Some(())).ok()?;
        read.map(|_| whole(words))
    }

    fn read_word(&self) -> Option<u64> {
        let read = self.twins(|group| group).try_read_word(0, |_| Some(())).ok()?;
        read.map(|(word, ())| word)
    }
}

/// Steps of a write of one copy of two words, and of both.
const COPY_STEPS: usize = 2 + 2;
const TWINS_STEPS: usize = 2 * COPY_STEPS;

#[test]
fn twins_beside_one_write() {
    // A reader is turned away by both copies only if the writer moves on between the two attempts.
    // Back at the first copy it may be turned away once more: nothing says that who sees the
    // second copy begin sees the first one end.
    let reached = outcomes(3, || {
        let twins = Arc::new(TwoCopies::<2>::at(1));
        let writer = Arc::clone(&twins);
        beside(move || writer.write(2), move || twins.read().ok_or_else(|| twins.first.read()))
    });
    assert_reached(&reached, [Ok(1), Ok(2), Err(Some(2)), Err(None)]);
}

#[test]
fn twins_beside_two_writes_never_go_back() {
    // Of one word each, to keep the model small.
    let reached = outcomes(2, || {
        let twins = Arc::new(TwoCopies::<1>::at(1));
        let writer = Arc::clone(&twins);
        beside(
            move || {
                writer.write(2);
                writer.write(3);
            },
            move || {
                let (first, second) = (twins.read(), twins.read());
                if let (Some(first), Some(second)) = (first, second) {
                    assert!(first <= second, "went back from {first} to {second}");
                }
                second
            },
        )
    });
    assert_reached(&reached, [None, Some(1), Some(2), Some(3)]);
}

#[test]
fn one_word_of_twins_never_goes_back() {
    let reached = outcomes(2, || {
        let twins = Arc::new(TwoCopies::<1>::at(1));
        let writer = Arc::clone(&twins);
        beside(
            move || {
                writer.write_word(2);
                writer.write_word(3);
            },
            move || {
                let (first, second) = (twins.read_word(), twins.read_word());
                if let (Some(first), Some(second)) = (first, second) {
                    assert!(first <= second, "went back from {first} to {second}");
                }
                second
            },
        )
    });
    assert_reached(&reached, [None, Some(1), Some(2), Some(3)]);
}

#[test]
fn words_of_twins_change_together() {
    let reached = outcomes(3, || {
        let twins = Arc::new(TwoCopies::<2>::at(1));
        let writer = Arc::clone(&twins);
        beside(move || writer.add_one(), move || twins.read())
    });
    assert_reached(&reached, [None, Some(1), Some(2)]);
}

#[test]
fn words_of_twins_never_go_back() {
    // Of one word each, to keep the model small.
    let reached = outcomes(2, || {
        let twins = Arc::new(TwoCopies::<1>::at(1));
        let writer = Arc::clone(&twins);
        beside(
            move || {
                writer.add_one();
                writer.add_one();
            },
            move || {
                let (first, second) = (twins.read(), twins.read());
                if let (Some(first), Some(second)) = (first, second) {
                    assert!(first <= second, "went back from {first} to {second}");
                }
                second
            },
        )
    });
    assert_reached(&reached, [None, Some(1), Some(2), Some(3)]);
}

#[test]
fn twins_of_a_killed_writer() {
    for nr_steps in 0..=TWINS_STEPS {
        // Next to the writer, and after it has ended: what a second read returns.
        let reached = outcomes(3, move || {
            let twins = Arc::new(TwoCopies::<2>::at(1));
            let (writer, reader) = (Arc::clone(&twins), Arc::clone(&twins));
            let beside = beside(move || writer.write_until(nr_steps, 2), move || reader.read());
            (beside, twins.first.read(), twins.second.read(), twins.read())
        });
        // Of one copy: whole as it was, lost, whole as written.
        let copy = |steps_before: usize| match nr_steps.saturating_sub(steps_before) {
            0 => Some(1),
            COPY_STEPS.. => Some(2),
            _ => None,
        };
        let (first, second) = (copy(0), copy(COPY_STEPS));
        assert!(first.is_some() || second.is_some(), "one copy is whole after {nr_steps} steps");
        for found in &reached {
            assert_eq!((found.1, found.2), (first, second), "killed after {nr_steps} steps");
            assert_eq!(found.3, first.or(second), "killed after {nr_steps} steps");
        }
        // Until the writer begins the second copy, no reader is turned away.
        let turned_away = reached.iter().any(|found| found.0.is_none());
        assert_eq!(turned_away, nr_steps > COPY_STEPS, "busy beside {nr_steps} steps");
        let old = reached.iter().any(|found| found.0 == Some(1));
        let new = reached.iter().any(|found| found.0 == Some(2));
        assert_eq!((old, new), (true, nr_steps >= COPY_STEPS), "old and new, {nr_steps} steps");
    }
}

const MAGIC: u32 = 7;
const INITIALIZING: u32 = 0;
const LIVE: u32 = 1;
const RETIRED: u32 = 2;

/// What is there of a record: header words, and one group.
struct Record {
    magic: AtomicU32,
    state: AtomicU32,
    size: AtomicU32,
    generation: AtomicU32,
    active: AtomicU64,
    group: Group<2>,
}

/// What a reader found in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Inactive,
    Busy,
    Active { generation: u32, n: u64 },
}

impl Record {
    /// As the pages are: zero.
    fn zero() -> Self {
        Self {
            magic: AtomicU32::new(0),
            state: AtomicU32::new(INITIALIZING),
            size: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            active: AtomicU64::new(0),
            group: Group::zero(),
        }
    }

    /// Live, the group active and holding number 10: tenant 0.
    fn live() -> Self {
        Self {
            magic: AtomicU32::new(MAGIC),
            state: AtomicU32::new(LIVE),
            size: AtomicU32::new(1),
            generation: AtomicU32::new(0),
            active: AtomicU64::new(1),
            group: Group::at(2, 10),
        }
    }

    /// As the producer's `RecordCore::new`, after the header is in place.
    fn create(&self) {
        publish(&self.size, 1);
        self.group.suspend();
    }

    /// As `Unpublished::publish`.
    fn publish(&self) {
        publish(&self.state, LIVE);
        publish(&self.magic, MAGIC);
    }

    /// As `RecordCore::write`.
    fn write(&self, n: u64) {
        if self.active.load(Ordering::Relaxed) & 1 == 0 {
            self.set_bits(1);
        }
        self.group.write(n);
    }

    /// As `WriteMem::set_bits`.
    fn set_bits(&self, bits: u64) {
        self.active.fetch_or(bits, Ordering::Release);
    }

    /// As `WriteMem::clear_bits`.
    fn clear_bits(&self, bits: u64) {
        self.active.fetch_and(!bits, Ordering::Release);
    }

    /// As `RecordCore::deactivate`.
    fn deactivate(&self) {
        if self.active.load(Ordering::Relaxed) & 1 == 0 {
            return;
        }
        self.group.suspend();
        self.clear_bits(1);
    }

    /// As `VcpuWriter::renew`.
    fn renew(&self) {
        self.deactivate();
        let next = self.generation.load(Ordering::Relaxed) + 1;
        publish(&self.generation, next);
    }

    /// One attempt of the consumer's `Record::copy`.
    fn read(&self) -> Found {
        if self.active.load(Ordering::Relaxed) & 1 == 0 {
            return Found::Inactive;
        }
        let guarded =
            || (self.active.load(Ordering::Relaxed), self.generation.load(Ordering::Relaxed));
        match self.group.try_read(guarded) {
            None => Found::Busy,
            Some((_, (active, _))) if active & 1 == 0 => Found::Inactive,
            Some((words, (_, generation))) => Found::Active { generation, n: whole(words) },
        }
    }

    /// As `read`, and what is found is of the tenant that it says.
    fn read_of_tenant(&self) -> Found {
        let found = self.read();
        if let Found::Active { generation, n } = found {
            assert_eq!(n / 10, u64::from(generation) + 1, "taken for another's");
        }
        found
    }
}

#[test]
fn magic_is_stored_last() {
    let reached = outcomes(None, || {
        let record = Arc::new(Record::zero());
        let writer = Arc::clone(&record);
        beside(
            move || {
                writer.create();
                writer.write(10);
                writer.publish();
            },
            move || {
                if published(&record.magic) != MAGIC {
                    return None;
                }
                let state = record.state.load(Ordering::Relaxed);
                let size = record.size.load(Ordering::Relaxed);
                assert_eq!((state, size), (LIVE, 1), "the header is filled");
                Some(record.read_of_tenant())
            },
        )
    });
    assert_reached(&reached, [None, Some(Found::Active { generation: 0, n: 10 })]);
}

#[test]
fn a_group_that_was_never_written_is_not_read() {
    // Published without the group, which is activated while the reader reads.
    let reached = outcomes(3, || {
        let record = Arc::new(Record::zero());
        let writer = Arc::clone(&record);
        beside(
            move || {
                writer.create();
                writer.publish();
                writer.write(10);
            },
            move || (published(&record.magic) == MAGIC).then(|| record.read_of_tenant()),
        )
    });
    let published = [Found::Inactive, Found::Busy, Found::Active { generation: 0, n: 10 }];
    assert_reached(&reached, published.into_iter().map(Some).chain([None]));
}

#[test]
fn tenants_are_not_mixed() {
    let reached = outcomes(3, || {
        let record = Arc::new(Record::live());
        let writer = Arc::clone(&record);
        beside(
            move || {
                writer.renew();
                writer.write(20);
            },
            move || record.read_of_tenant(),
        )
    });
    let active = |generation, n| Found::Active { generation, n };
    assert_reached(&reached, [Found::Inactive, Found::Busy, active(0, 10), active(1, 20)]);
}

#[test]
fn three_tenants_are_not_mixed() {
    let reached = outcomes(2, || {
        let record = Arc::new(Record::live());
        let writer = Arc::clone(&record);
        beside(
            move || {
                writer.renew();
                writer.write(20);
                writer.renew();
                writer.write(30);
            },
            move || record.read_of_tenant(),
        )
    });
    let active = |generation, n| Found::Active { generation, n };
    assert_reached(
        &reached,
        [Found::Inactive, Found::Busy, active(0, 10), active(1, 20), active(2, 30)],
    );
}

#[test]
fn a_group_that_is_switched_off_and_on() {
    let reached = outcomes(3, || {
        let record = Arc::new(Record::live());
        let writer = Arc::clone(&record);
        beside(
            move || {
                writer.deactivate();
                writer.write(11);
            },
            move || record.read_of_tenant(),
        )
    });
    let active = |n| Found::Active { generation: 0, n };
    assert_reached(&reached, [Found::Inactive, Found::Busy, active(10), active(11)]);
}

/// A record with two groups, which are copied at once.
struct Pair {
    generation: AtomicU32,
    active: AtomicU64,
    groups: [Group<1>; 2],
}

impl Pair {
    /// As the producer's `VcpuWriter::renew`.
    fn renew(&self) {
        for (bit, group) in self.groups.iter().enumerate() {
            group.suspend();
            let active = self.active.load(Ordering::Relaxed);
            self.active.store(active & !(1 << bit), Ordering::Release);
        }
        publish(&self.generation, self.generation.load(Ordering::Relaxed) + 1);
    }

    /// As the producer's `RecordCore::write`, of a group that is not active.
    fn write(&self, bit: usize, n: u64) {
        let active = self.active.load(Ordering::Relaxed);
        self.active.store(active | 1 << bit, Ordering::Release);
        self.groups[bit].write(n);
    }

    /// As `ReadMem::copy_records`: the generation, and what each group that is active holds.
    fn copy(&self) -> Option<(u32, [Option<u64>; 2])> {
        let seqs = self.groups.each_ref().map(|group| &group.seq);
        let begins = read_begin_each(seqs);
        let active = self.active.load(Ordering::Relaxed);
        let generation = self.generation.load(Ordering::Relaxed);
        let mut words = [[0]; 2];
        for (group, words) in self.groups.iter().zip(&mut words) {
            load_words(&group.words, words);
        }
        let masks = [0, 1].map(|bit| u32::from(active & 1 << bit != 0));
        let mut looks = SeqBatch::default();
        looks.read_end_each(seqs, begins, masks);
        let found = [0, 1].map(|bit: usize| (masks[bit] != 0).then_some(words[bit][0]));
        looks.whole().then_some((generation, found))
    }
}

#[test]
fn tenants_are_not_mixed_in_a_record_copied_at_once() {
    let reached = outcomes(3, || {
        let record = Arc::new(Pair {
            generation: AtomicU32::new(0),
            active: AtomicU64::new(0b11),
            groups: [Group::at(2, 10), Group::at(2, 10)],
        });
        let writer = Arc::clone(&record);
        beside(
            move || {
                writer.renew();
                writer.write(0, 20);
                writer.write(1, 20);
            },
            move || {
                let (generation, found) = record.copy()?;
                for n in found.into_iter().flatten() {
                    assert_eq!(n / 10, u64::from(generation) + 1, "taken for another's");
                }
                Some(found)
            },
        )
    });
    let (old, new) = (Some(10), Some(20));
    assert_reached(
        &reached,
        [
            None,
            Some([old, old]),
            Some([None, old]),
            Some([None, None]),
            Some([new, None]),
            Some([new, new]),
        ],
    );
}

#[test]
fn retired_says_that_nothing_changes_any_more() {
    let reached = outcomes(None, || {
        let record = Arc::new(Record::live());
        let writer = Arc::clone(&record);
        beside(
            move || {
                writer.write(11);
                publish(&writer.state, RETIRED);
            },
            move || {
                let state = published(&record.state);
                let found = record.read_of_tenant();
                if state == RETIRED {
                    assert_eq!(found, Found::Active { generation: 0, n: 11 }, "the last write");
                }
                (state, found)
            },
        )
    });
    let active = |n| Found::Active { generation: 0, n };
    assert_reached(
        &reached,
        [(LIVE, Found::Busy), (LIVE, active(10)), (LIVE, active(11)), (RETIRED, active(11))],
    );
}

#[test]
fn who_sees_the_announcement_sees_the_event() {
    let reached = outcomes(None, || {
        let shared = Arc::new((AtomicU32::new(u32::MAX), AtomicU64::new(0)));
        let writer = Arc::clone(&shared);
        beside(
            move || {
                writer.1.store(1, Ordering::Relaxed);
                announce(&writer.0);
            },
            move || {
                let notify = published(&shared.0);
                let event = shared.1.load(Ordering::Relaxed);
                assert!(notify == u32::MAX || event == 1, "announced and not there");
                (notify, event)
            },
        )
    });
    assert_reached(&reached, [(u32::MAX, 0), (u32::MAX, 1), (0, 1)]);
}

#[test]
fn no_announcement_is_lost() {
    let reached = outcomes(None, || {
        let notify = Arc::new(AtomicU32::new(0));
        let events = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
        let writers = [0, 1].map(|index: usize| {
            let (notify, events) = (Arc::clone(&notify), Arc::clone(&events));
            thread::spawn(move || {
                events[index].store(1, Ordering::Relaxed);
                announce(&notify);
            })
        });
        let reader = {
            let (notify, events) = (Arc::clone(&notify), Arc::clone(&events));
            thread::spawn(move || {
                let seen = published(&notify);
                let there: u64 = events.iter().map(|event| event.load(Ordering::Relaxed)).sum();
                assert!(there >= u64::from(seen), "{seen} announced, {there} there");
                seen
            })
        };
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!(published(&notify), 2, "both announcements count");
        reader.join().unwrap()
    });
    assert_reached(&reached, [0, 1, 2]);
}
