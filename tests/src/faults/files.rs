//! Files that are unlinked and replaced under a reader, and memfds that nobody can harm.

use std::fs::{self, File};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use domstat_consumer::{AttachError, Region, Snapshot};
use domstat_producer::CreateError;
use rustix::io::Errno;

use super::report::Row;
use super::value::{Found, NR_RANKS, Pass, Way, Writers, builder, producer};
use super::{Fallible, HUNG, Place, Writer};

/// What a reader that is attached sees when the file's name goes, or comes to mean another file.
///
/// # Errors
/// If the harness itself cannot go on.
pub fn unlink_and_replace(place: &Place, times: u64) -> Fallible<Row> {
    let path = place.path("names");
    let mut row = Row::new("file unlinked or replaced");
    for _ in 0..times {
        let writer = Writer::start(&path, "")?;
        let region = Region::open(&path)?;
        check(&mut row, &region, "before");
        fs::remove_file(&path)?;
        check(&mut row, &region, "after unlink");
        row.expect(region.is_held() == Some(true), || "its writer is at work still".to_owned());
        let gone = Region::open(&path).map(|_| ());
        row.expect(matches!(gone, Err(AttachError::NotFound { .. })), || format!("{gone:?}"));
        // Another takes the name; the one that was unlinked must not remove it when it goes.
        let second = Writer::start(&path, "")?;
        check(&mut row, &region, "after it was replaced");
        let other = Region::open(&path)?;
        row.expect(producer(&other) == Some(second.id()), || "not the second's region".to_owned());
        row.expect(producer(&region) == Some(writer.id()), || "not the first's region".to_owned());
        // A file of someone else's is left alone.
        let refused = builder().create_file(&path).map(|_| ());
        row.expect(matches!(refused, Err(CreateError::InUse { .. })), || format!("{refused:?}"));
        drop(writer);
        drop(second);
        fs::write(&path, "not a region, and longer than a header".repeat(20))?;
        let refused = builder().create_file(&path).map(|_| ());
        row.expect(matches!(refused, Err(CreateError::NotARegion { .. })), || {
            format!("{refused:?}")
        });
        fs::remove_file(&path)?;
        row.faults += 3;
    }
    Ok(row)
}

fn check(row: &mut Row, region: &Region, when: &str) {
    let pass = Pass::read(Way::Direct(region));
    row.values += pass.numbers().count() as u64;
    row.wrong += pass.count(Found::Wrong);
    row.lost += pass.lost();
    row.stalled += pass.count(Found::Stalled);
    row.longest = row.longest.max(Some(pass.longest));
    row.expect(pass.numbers().count() > 0, || format!("nothing to read {when}"));
}

/// Truncates files under readers, at any length: each reader gets an error, and no wrong value
/// before.
///
/// # Errors
/// If the harness itself cannot go on.
pub fn truncation(place: &Place, times: u64) -> Fallible<Row> {
    let path = place.path("truncated");
    let mut row = Row::new("file truncated under readers");
    let (unpublished, mut writers) = Writers::of(builder().create_file(place.path("whole"))?);
    writers.write(2, false);
    let whole = unpublished.publish()?;
    let bytes = fs::read(place.path("whole"))?;
    drop(whole);
    let mut noticed = Duration::ZERO;
    for time in 0..times {
        fs::write(&path, &bytes)?;
        let file = File::options().write(true).open(&path)?;
        let region = Region::open(&path)?;
        let len = fastrand::u64(0..bytes.len() as u64);
        let since = AtomicU64::new(0);
        let base = Instant::now();
        let now = || u64::try_from(base.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let told = thread::scope(|scope| -> Fallible<u64> {
            let truncating = scope.spawn(|| {
                thread::sleep(Duration::from_micros(fastrand::u64(0..300)));
                let result = file.set_len(len);
                since.store(now().max(1), Ordering::SeqCst);
                result
            });
            let mut snapshot = Snapshot::new();
            let told = loop {
                let way = match time.is_multiple_of(2) {
                    true => Way::Direct(&region),
                    false => Way::Snapshot(&region, &mut snapshot),
                };
                let pass = Pass::read(way);
                row.values += pass.numbers().count() as u64;
                row.wrong += pass.count(Found::Wrong) + pass.count(Found::Stalled);
                row.longest = row.longest.max(Some(pass.longest));
                if pass.count(Found::Lost) > 0 {
                    break now();
                }
                if base.elapsed() > HUNG {
                    row.broken
                        .push(format!("truncated to {len} bytes, and no reader got an error"));
                    break 0;
                }
            };
            truncating.join().map_err(|_| "the truncating thread panicked")??;
            Ok(told)
        })?;
        let after = told.saturating_sub(since.into_inner());
        noticed = noticed.max(Duration::from_nanos(after));
        let pass = Pass::read(Way::Direct(&region));
        let lost = pass.count(Found::Lost);
        row.expect(lost == NR_RANKS as u64, || format!("{lost} groups are lost: {pass:?}"));
        row.faults += 1;
    }
    row.noticed = Some(noticed);
    row.note = "by the first read after it".to_owned();
    Ok(row)
}

/// What a consumer can do to a memfd that it was given: nothing.
///
/// # Errors
/// If the harness itself cannot go on.
pub fn sealed(_: &Place) -> Fallible<Row> {
    let mut row = Row::new("consumer that means harm to a memfd");
    let (unpublished, _writers) = Writers::of(builder().create_memfd()?);
    let published = unpublished.publish()?;
    let given = published.as_fd().ok_or("a memfd has a descriptor")?.try_clone_to_owned()?;
    let region = Region::from_fd(given.try_clone()?)?;
    let len = rustix::fs::fstat(&given)?.st_size.unsigned_abs();
    let tried = [
        ("shrink it", rustix::fs::ftruncate(&given, 0)),
        ("grow it", rustix::fs::ftruncate(&given, len * 2)),
        ("write to it", rustix::io::pwrite(&given, &[0; 8], 0).map(|_| ())),
        ("punch a hole", {
            let flags =
                rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&given, flags, 0, len)
        }),
        ("add a seal", rustix::fs::fcntl_add_seals(&given, rustix::fs::SealFlags::WRITE)),
    ];
    for (what, result) in tried {
        row.faults += 1;
        row.expect(result == Err(Errno::PERM), || format!("could {what}: {result:?}"));
    }
    row.faults += 1;
    let writable = memmap2::MmapOptions::new().map_raw(&given).map(|_| ());
    row.expect(writable.is_err(), || "could map it for writing".to_owned());
    check(&mut row, &region, "in the end");
    Ok(row)
}
