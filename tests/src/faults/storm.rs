//! Producers that start, die and start again, one after the other and several at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use domstat_consumer::{AttachError, Region};

use super::report::Row;
use super::value::{Found, Pass, Way, producer};
use super::{Fallible, HUNG, Place, Writer};

/// Rivals for one path.
const RIVALS: usize = 4;

/// Restarts a producer `restarts` times, half of them killed before they have published, while
/// readers attach by path and check what they find.
///
/// # Errors
/// If the harness itself cannot go on.
pub fn restarts(place: &Place, restarts: u64) -> Fallible<Row> {
    let path = place.path("storm");
    let done = AtomicBool::new(false);
    let mut row = Row::new("restart storm");
    let attach = || {
        let mut tally = Row::default();
        while !done.load(Ordering::Relaxed) {
            let region = match Region::open(&path) {
                Ok(region) => region,
                // Before the first, and nothing else.
                Err(AttachError::NotFound { .. }) if tally.faults == 0 => continue,
                Err(error) => {
                    tally.broken.push(format!("cannot attach: {error}"));
                    thread::sleep(Duration::from_millis(1));
                    continue;
                }
            };
            tally.faults += 1;
            let pass = Pass::read(Way::Direct(&region));
            tally.values += pass.numbers().count() as u64;
            tally.wrong += pass.count(Found::Wrong);
            tally.lost += pass.lost();
            tally.stalled += pass.count(Found::Stalled);
            tally.longest = tally.longest.max(Some(pass.longest));
        }
        tally
    };
    let (published, tallies) = thread::scope(|scope| {
        let readers = [scope.spawn(attach), scope.spawn(attach)];
        let published = (|| -> Fallible<u64> {
            let mut published = 0;
            for _ in 0..restarts {
                let mut writer = Writer::spawn(&path, "")?;
                if fastrand::bool() {
                    thread::sleep(Duration::from_micros(fastrand::u64(0..3_000)));
                } else {
                    let said = writer.said()?;
                    if said != "ready" {
                        return Err(
                            format!("a restarted producer could not publish: {said}").into()
                        );
                    }
                    published += 1;
                }
                writer.kill()?;
            }
            Ok(published)
        })();
        done.store(true, Ordering::Relaxed);
        let tallies = readers.map(|reader| reader.join());
        (published, tallies)
    });
    let published = published?;
    let mut attached = 0;
    for tally in tallies {
        let tally = tally.map_err(|_| "a reader panicked")?;
        attached += tally.faults;
        row.values += tally.values;
        row.wrong += tally.wrong;
        row.lost += tally.lost;
        row.stalled += tally.stalled;
        row.longest = row.longest.max(tally.longest);
        row.broken.extend(tally.broken.into_iter().take(3));
    }
    row.faults = restarts;
    let left = place.count(".domstat-");
    row.note = format!("{published} had published, {attached} attaches; files left over: {left}");
    // One more producer clears away what those that were killed left behind.
    drop(Writer::start(&path, "")?);
    let left = place.count(".domstat-");
    row.expect(left == 0, || format!("{left} files of killed producers stay for ever"));
    Ok(row)
}

/// Starts several producers on one path at once, `rounds` times: one of them gets it, and keeps it.
///
/// # Errors
/// If the harness itself cannot go on.
pub fn rivals(place: &Place, rounds: u64) -> Fallible<Row> {
    let path = place.path("rivals");
    let mut row = Row::new("rivals for one path");
    for round in 0..rounds {
        let mut writers = Vec::new();
        for _ in 0..RIVALS {
            writers.push(Writer::spawn(&path, "")?);
        }
        let mut ready = Vec::new();
        for mut writer in writers {
            match writer.said()?.as_str() {
                "ready" => ready.push(writer),
                said if said.contains("in use by another producer") => {}
                said => row.broken.push(format!("round {round}: a rival said {said}")),
            }
        }
        let ids: Vec<u64> = ready.iter().map(Writer::id).collect();
        row.expect(ids.len() == 1, || format!("round {round}: {} producers hold it", ids.len()));
        let region = Region::open(&path)?;
        let found = producer(&region);
        row.expect(found.is_some_and(|id| ids.contains(&id)), || {
            format!("round {round}: the region is {found:?}'s, published it was by {ids:?}")
        });
        let held = region.is_held();
        row.expect(held == Some(true), || format!("round {round}: is_held says {held:?}"));
        let pass = Pass::read(Way::Direct(&region));
        row.values += pass.numbers().count() as u64;
        row.wrong += pass.count(Found::Wrong);
        row.lost += pass.lost();
        for writer in ready {
            writer.kill()?;
        }
        row.faults += RIVALS as u64;
        if row.broken.len() > 10 {
            return Err(format!("too much is broken within {HUNG:?}:\n{row}").into());
        }
    }
    row.note = format!("{RIVALS} at once, {rounds} times");
    Ok(row)
}
