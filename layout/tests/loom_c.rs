//! Models of the writer in C: the atomic operations that `write.h` takes, next to a reader of this
//! crate, under every interleaving: `ci/loom.sh`.
//!
//! The operations are those of `c_steps.txt`, which `tests/c/steps.c` prints from `write.h` as it
//! stands; `tests/tests/c_writer.rs` compares the two. Of the words `updated_ns` and
//! the last are taken.
#![allow(unexpected_cfgs, reason = "loom is not a cfg that Cargo knows")]
#![cfg(loom)]
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use loom::thread;
use seqlock::{load_words, published, read_begin, read_retry};
use sync::{AtomicU32, AtomicU64, Ordering, fence};
use twins::{Busy, ReadCopy, TwinCopy, Twins};

#[allow(dead_code, reason = "the readers' half is used")]
#[path = "../src/seqlock.rs"]
pub mod seqlock;
#[path = "../src/twins.rs"]
pub mod twins;

/// What `src/sync.rs` is for the crate.
pub mod sync {
    pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
}

const STEPS: &str = include_str!("c_steps.txt");
const MAGIC: u32 = u32::from_le_bytes(*b"DOM\x01");
/// The bits of the group and of its twin.
const BITS: [u64; 2] = [1, 8];

#[derive(Clone, Copy, Debug)]
enum Place {
    Seq(usize),
    Word(usize, usize),
    Active,
    Generation,
    Magic,
    State,
    Notify,
    /// A fence is at no place.
    Nowhere,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    what: &'static str,
    place: Place,
    value: u64,
    order: Ordering,
}

impl Step {
    /// `None` for a word that the model leaves out.
    fn parse(line: &'static str) -> Option<Self> {
        let parts: Vec<&str> = line.split(' ').collect();
        let [what, place, value, order] = parts[..] else { panic!("{line}") };
        let order = match order {
            "relaxed" => Ordering::Relaxed,
            "release" => Ordering::Release,
            _ => panic!("{line}"),
        };
        let place = match place {
            "first.seq" => Place::Seq(0),
            "second.seq" => Place::Seq(1),
            "first.updated" => Place::Word(0, 0),
            "first.offline" => Place::Word(0, 1),
            "second.updated" => Place::Word(1, 0),
            "second.offline" => Place::Word(1, 1),
            "active" => Place::Active,
            "generation" => Place::Generation,
            "magic" => Place::Magic,
            "state" => Place::State,
            "notify" => Place::Notify,
            "-" => Place::Nowhere,
            other if other.contains('.') => return None,
            _ => panic!("{line}"),
        };
        Some(Self { what, place, value: value.parse().unwrap(), order })
    }
}

/// The steps of the part of this name.
fn part(name: &str) -> Vec<Step> {
    let steps = STEPS.split("# ").find_map(|part| part.strip_prefix(name)?.strip_prefix('\n'));
    steps.unwrap_or_else(|| panic!("no part {name}")).lines().filter_map(Step::parse).collect()
}

/// The steps of all parts before the part of this name.
fn before(name: &str) -> Vec<Step> {
    let end = STEPS.find(&format!("# {name}\n")).unwrap();
    STEPS[..end].lines().filter(|line| !line.starts_with('#')).filter_map(Step::parse).collect()
}

struct Copy {
    seq: AtomicU32,
    words: [AtomicU64; 2],
}

impl ReadCopy for &Copy {
    fn try_read<T>(
        &self,
        to: &mut [u64],
        guarded: impl FnOnce() -> T,
    ) -> Result<(u32, u64, T), Busy> {
        let begin = read_begin(&self.seq).ok_or(Busy { seq: 1 })?;
        load_words(&self.words, to);
        let guarded = guarded();
        if read_retry(&self.seq, begin) {
            Err(Busy { seq: begin })
        } else {
            Ok((begin, 0, guarded))
        }
    }
    fn try_read_word<T>(&self, _: usize, _: impl FnOnce() -> T) -> Result<(Option<u64>, T), Busy> {
        unreachable!("no model reads single words")
    }
}

/// What a read may find: the number that the whole group was written with, and its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Busy,
    NotProduced,
    Value { n: u64, generation: u32 },
}
use Found::{Busy as BUSY, NotProduced, Value};

/// A region of one vCPU, as `domstat_init` leaves it.
struct Region {
    copies: [Copy; 2],
    active: AtomicU64,
    generation: AtomicU32,
    magic: AtomicU32,
    state: AtomicU32,
    notify: AtomicU32,
}

impl Region {
    fn new() -> Self {
        let copy = || Copy { seq: AtomicU32::new(1), words: [0; 2].map(AtomicU64::new) };
        let word = || AtomicU32::new(0);
        let (active, copies) = (AtomicU64::new(0), [copy(), copy()]);
        Self { copies, active, generation: word(), magic: word(), state: word(), notify: word() }
    }

    /// A region after these steps.
    fn after(steps: &[Step]) -> Arc<Self> {
        let region = Self::new();
        region.take(steps);
        Arc::new(region)
    }

    fn take(&self, steps: &[Step]) {
        for step in steps {
            let (value, order) = (step.value, step.order);
            let word = |word: &AtomicU32| word.store(u32::try_from(value).unwrap(), order);
            match (step.what, step.place) {
                ("fence", Place::Nowhere) => fence(order),
                ("or", Place::Active) => drop(self.active.fetch_or(value, order)),
                ("and", Place::Active) => drop(self.active.fetch_and(value, order)),
                ("add", Place::Notify) => drop(self.notify.fetch_add(1, order)),
                ("store", Place::Seq(copy)) => word(&self.copies[copy].seq),
                ("store", Place::Word(copy, i)) => self.copies[copy].words[i].store(value, order),
                ("store", Place::Generation) => word(&self.generation),
                ("store", Place::Magic) => word(&self.magic),
                ("store", Place::State) => word(&self.state),
                _ => panic!("{step:?}"),
            }
        }
    }

    fn read(&self) -> Found {
        let guarded = |copy| {
            let bit = BITS[usize::from(copy == TwinCopy::Second)];
            let active = self.active.load(Ordering::Relaxed) & bit != 0;
            active.then(|| self.generation.load(Ordering::Relaxed))
        };
        let twins = Twins { first: &self.copies[0], second: Some(&self.copies[1]) };
        let mut words = [0; 2];
        match twins.try_read(&mut words, guarded) {
            Err(_) => BUSY,
            Ok(None) => NotProduced,
            Ok(Some((_, _, generation))) => {
                assert!(words.iter().all(|word| *word == words[0]), "torn: {words:?}");
                Value { n: words[0], generation }
            }
        }
    }
}

/// Runs the steps of these parts next to `reader`, in every execution with at most so many
/// preemptions, and returns what it returned, each outcome once.
fn beside<T: Ord + Debug + Send + 'static>(
    parts: &[&str],
    preemptions: usize,
    reader: impl Fn(&Region) -> T + Clone + Send + Sync + 'static,
) -> BTreeSet<T> {
    let before = before(parts[0]);
    let steps: Vec<Step> = parts.iter().flat_map(|name| part(name)).collect();
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let collected = Arc::clone(&seen);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        let region = Region::after(&before);
        let (written, steps) = (Arc::clone(&region), steps.clone());
        let writer = thread::spawn(move || written.take(&steps));
        let reader = reader.clone();
        let reader = thread::spawn(move || reader(&region));
        writer.join().unwrap();
        collected.lock().unwrap().insert(reader.join().unwrap());
    });
    let reached = std::mem::take(&mut *seen.lock().unwrap());
    println!("{parts:?}: reached {reached:?}");
    reached
}

fn assert_reached<T: Ord + Debug>(reached: BTreeSet<T>, expected: impl IntoIterator<Item = T>) {
    assert_eq!(reached, expected.into_iter().collect(), "reached (left) and expected (right)");
}

const fn value(n: u64, generation: u32) -> Found {
    Value { n, generation }
}

#[test]
fn a_group_is_activated() {
    let reached = beside(&["activate"], 3, Region::read);
    assert_reached(reached, [BUSY, NotProduced, value(1, 0)]);
}

#[test]
fn a_group_with_a_twin_is_written() {
    // Both copies may look busy: the updates are not ordered against each other for a reader.
    let reached = beside(&["write"], 3, Region::read);
    assert_reached(reached, [BUSY, value(1, 0), value(2, 0)]);
}

#[test]
fn a_group_is_deactivated_and_activated_again() {
    let reached = beside(&["deactivate", "activate again"], 2, Region::read);
    assert_reached(reached, [BUSY, NotProduced, value(2, 0), value(3, 0)]);
}

#[test]
fn tenants_of_a_slot_are_not_mixed() {
    let reached = beside(&["renew", "write of the next tenant"], 2, Region::read);
    assert_reached(reached, [BUSY, NotProduced, value(3, 0), value(4, 1)]);
}

#[test]
fn what_is_live_has_its_header() {
    let reached = beside(&["go live"], 3, |region| {
        (published(&region.magic) == MAGIC).then(|| region.state.load(Ordering::Relaxed))
    });
    assert_reached(reached, [None, Some(1)]);
}

#[test]
fn who_sees_the_end_sees_the_last_value() {
    let reached = beside(&["write of the next tenant", "end"], 2, |region| {
        let notified = published(&region.notify) == 1;
        let retired = published(&region.state) == 2;
        assert!(retired || !notified, "the event was announced before it happened");
        retired.then(|| region.read())
    });
    assert_reached(reached, [None, Some(value(4, 1))]);
}
