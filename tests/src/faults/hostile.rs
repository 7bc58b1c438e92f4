//! Producers that mean harm, and a reader that never rests.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use domstat_consumer::{AttachError, Patience, Region, Snapshot};
use domstat_layout::header::{DOM_HEADER_LEN, dom};

use super::report::Row;
use super::took::Timer;
use super::value::{Found, Pass, Way, Writers, builder};
use super::{Fallible, GRACE, Place, Writer, impatient};

/// Lets one thread change the file in some way without rest, while `work` is done.
fn beside<T>(
    change: impl Fn() -> Fallible<()> + Sync,
    work: impl FnOnce(&AtomicU64) -> T,
) -> Fallible<T> {
    let (done, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let changing = scope.spawn(|| -> Fallible<()> {
            while !done.load(Ordering::Relaxed) {
                change()?;
                changes.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let result = work(&changes);
        done.store(true, Ordering::Relaxed);
        changing.join().map_err(|_| "the producer panicked")??;
        Ok(result)
    })
}

/// A number that is meant to do harm.
fn harmful() -> u32 {
    match fastrand::u8(0..6) {
        0 => 0,
        1 => u32::MAX,
        2 => 0x8000_0000,
        3 => u32::MAX - fastrand::u32(0..256),
        4 => fastrand::u32(0..8192),
        _ => fastrand::u32(..),
    }
}

/// The producer changes every word of the header but `stats_active` after it was validated: no
/// reader that attached before may see anything of it but `same_incarnation` and `state`.
///
/// # Errors
/// If the harness itself cannot go on.
pub fn header_flips(place: &Place, passes: u64) -> Fallible<Row> {
    let path = place.path("flips");
    let mut row = Row::new("header flipped after validation");
    let (unpublished, mut writers) = Writers::of(builder().create_file(&path)?);
    let _producer = unpublished.publish()?;
    let region = Region::open(&path)?;
    let geometry = region.geometry();
    let file = File::options().write(true).open(&path)?;
    let flip = || {
        let at = fastrand::usize(0..DOM_HEADER_LEN / 4) * 4;
        if !(dom::STATS_ACTIVE..dom::STATS_ACTIVE + 8).contains(&at) {
            file.write_all_at(&harmful().to_le_bytes(), at as u64)?;
        }
        Ok(())
    };
    let mut snapshot = Snapshot::new();
    let (flips, renamed) = beside(flip, |flips| {
        let mut renamed = 0u64;
        let mut n = 1;
        while n < passes || flips.load(Ordering::Relaxed) < passes {
            n += 1;
            writers.write(n, false);
            for way in [Way::Direct(&region), Way::Snapshot(&region, &mut snapshot)] {
                let pass = Pass::read(way);
                row.values += pass.numbers().count() as u64;
                row.wrong += pass.count(Found::Wrong);
                // Nobody else writes: each value is the one that was just written.
                row.lost += pass.numbers().filter(|(_, found)| *found != n).count() as u64;
                row.stalled += pass.count(Found::Stalled);
                row.longest = row.longest.max(Some(pass.longest));
            }
            renamed += u64::from(!region.status().same_incarnation);
        }
        (flips.load(Ordering::Relaxed), renamed)
    })?;
    row.faults = flips;
    row.expect(region.geometry() == geometry, || "the geometry changed".to_owned());
    row.expect(renamed > 0, || "another incarnation was not noticed".to_owned());
    row.note =
        format!("{} groups at a time, directly and by snapshot", geometry.nr_vcpus() * 3 + 4);
    Ok(row)
}

/// The producer writes anything anywhere, while readers attach, read, and read what the schema
/// describes: every call ends in time with a value or an error. Values can be lies here.
///
/// # Errors
/// If the harness itself cannot go on.
pub fn anything_anywhere(place: &Place, attaches: u64) -> Fallible<Row> {
    let path = place.path("anything");
    let mut row = Row::new("any byte written at any time");
    let (unpublished, _writers) = Writers::of(builder().create_file(&path)?);
    let _producer = unpublished.publish()?;
    let good = std::fs::read(&path)?;
    let file = File::options().write(true).open(&path)?;
    let write = || {
        if fastrand::u8(..) == 0 {
            // Now and then a region that can be attached, so that more than the header is met.
            file.write_all_at(&good, 0)?;
        }
        let near = if fastrand::bool() { DOM_HEADER_LEN } else { good.len() };
        let at = fastrand::usize(0..near / 4) * 4;
        Ok(file.write_all_at(&harmful().to_le_bytes(), at as u64)?)
    };
    let mut snapshot = Snapshot::new();
    let (mut attached, mut refused) = (0u64, 0u64);
    let writes = beside(write, |writes| {
        while attached + refused < attaches || attached == 0 {
            let timer = Timer::start();
            let region = match Region::open(&path) {
                Ok(region) => region.with_patience(impatient()),
                Err(AttachError::Geometry { .. }) => {
                    refused += 1;
                    continue;
                }
                Err(error) => {
                    row.broken.push(format!("cannot attach: {error}"));
                    break;
                }
            };
            attached += 1;
            for way in [Way::Direct(&region), Way::Snapshot(&region, &mut snapshot)] {
                row.values += Pass::read(way).found.len() as u64;
            }
            let schema = region.copy_schema().unwrap_or_default();
            let mut reader = region.schema_reader();
            if let Ok(schema) = domstat_layout::Schema::parse(&schema) {
                for group in schema.groups() {
                    for record in schema.records().filter(|r| r.kind == group.record) {
                        for index in 0..record.nr.min(8) {
                            let _ = reader.read(&record, index, &group);
                            row.values += 1;
                        }
                    }
                }
            }
            let _ = (region.status(), region.now());
            row.longest = row.longest.max(Some(timer.took()));
        }
        writes.load(Ordering::Relaxed)
    })?;
    row.faults = writes;
    let longest = row.longest.unwrap_or_default();
    row.expect(longest.own() < GRACE, || format!("one reader took {longest}"));
    row.note = format!(
        "{attached} attaches, {refused} refused; values may be lies, longest call is all of a reader's"
    );
    Ok(row)
}

/// A reader that spins at full speed: the writer goes on as if alone.
///
/// # Errors
/// If the harness itself cannot go on.
pub fn spinning_reader(place: &Place, time: Duration) -> Fallible<Row> {
    let path = place.path("spin");
    let mut row = Row::new("a reader that never rests");
    let writer = Writer::start(&path, "")?;
    let region = Region::open(&path)?;
    let number = || {
        let pass = Pass::read(Way::Direct(&region));
        pass.numbers().map(|(_, n)| n).max().unwrap_or(0)
    };
    let begin = number();
    thread::sleep(time);
    let alone = number() - begin;
    let (begin, since) = (number(), Instant::now());
    let mut last = begin;
    while since.elapsed() < time {
        let pass = Pass::read(Way::Direct(&region));
        row.values += pass.numbers().count() as u64;
        row.wrong += pass.count(Found::Wrong);
        row.lost += pass.lost();
        row.stalled += pass.count(Found::Stalled);
        row.longest = row.longest.max(Some(pass.longest));
        last = pass.numbers().map(|(_, n)| n).max().unwrap_or(last);
    }
    drop(writer);
    let beside = last - begin;
    row.expect(alone > 0 && beside > 0, || format!("{alone} rounds alone, {beside} with a reader"));
    let rate = |rounds: u64| rounds as f64 / time.as_secs_f64();
    row.note = format!(
        "rounds of {} groups a second: {:.0} alone, {:.0} with the reader",
        row_groups(),
        rate(alone),
        rate(beside)
    );
    let deadline = Patience::default().yielding + GRACE;
    let longest = row.longest.unwrap_or_default();
    row.expect(longest.own() < deadline, || format!("a call took {longest}"));
    Ok(row)
}

const fn row_groups() -> usize {
    super::value::NR_RANKS
}
