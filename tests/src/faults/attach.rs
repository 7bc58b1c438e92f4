//! Many readers that attach for the first time, all at the same moment.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use domstat_consumer::{AttachError, Region};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::report::Row;
use super::took::{Timer, Took};
use super::value::{Found, Pass, Way, Writers, builder};
use super::{Fallible, HUNG, Place, Writer};

/// Readers at the same time, each a thread with a mapping of its own.
const AT_ONCE: usize = 500;

/// Lets `readers` attach, many at once: to a region while it is being published, and to one whose
/// writer never rests.
///
/// # Errors
/// If the harness itself cannot go on.
pub fn run(place: &Place, readers: usize) -> Fallible<Row> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let mut row = Row::new("first attaches at once");
    let path = place.path("attach");
    let writer = Writer::start(&path, "")?;
    let mut attached = 0;
    while attached < readers {
        let at_once = AT_ONCE.min(readers - attached);
        let half = at_once / 2;
        together(&mut row, at_once - half, || Ok(Region::open(&path)?))?;
        while_publishing(place, &mut row, half)?;
        attached += at_once;
    }
    drop(writer);
    row.note = format!("{AT_ONCE} at once, half of them while the region is being published");
    Ok(row)
}

/// What one reader found.
type One = Fallible<(Pass, Took)>;

fn look(attach: impl Fn() -> Fallible<Region>) -> One {
    let timer = Timer::start();
    let region = attach()?;
    let took = timer.took();
    Ok((Pass::read(Way::Direct(&region)), took))
}

fn add(row: &mut Row, one: thread::Result<One>) {
    row.faults += 1;
    match one {
        Ok(Ok((pass, took))) => {
            row.values += pass.numbers().count() as u64;
            row.wrong += pass.count(Found::Wrong);
            row.lost += pass.lost();
            row.stalled += pass.count(Found::Stalled);
            row.longest = row.longest.max(Some(took.max(pass.longest)));
        }
        Ok(Err(error)) => row.broken.push(format!("cannot attach: {error}")),
        Err(_) => row.broken.push("a reader panicked".to_owned()),
    }
}

/// So many threads attach at the same moment, and all hold their mappings until all have read.
fn together(
    row: &mut Row,
    at_once: usize,
    attach: impl Fn() -> Fallible<Region> + Sync,
) -> Fallible<()> {
    let (begin, attach) = (Barrier::new(at_once), &attach);
    thread::scope(|scope| {
        let spawn = |_| {
            thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, || {
                begin.wait();
                look(attach)
            })
        };
        let readers = (0..at_once).map(spawn).collect::<Result<Vec<_>, _>>()?;
        readers.into_iter().for_each(|reader| add(row, reader.join()));
        Ok(())
    })
}

/// So many threads try to attach to a region until it is published: what they then see is whole.
fn while_publishing(place: &Place, row: &mut Row, at_once: usize) -> Fallible<()> {
    let path = place.path("publishing");
    let (unpublished, mut writers) = Writers::of(builder().create_file(&path)?);
    let done = AtomicBool::new(false);
    let attach = || {
        loop {
            match Region::open(&path) {
                Ok(region) => return Ok(region),
                Err(AttachError::NotFound { .. }) => thread::yield_now(),
                Err(error) => return Err(error.into()),
            }
        }
    };
    thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            thread::sleep(Duration::from_micros(fastrand::u64(0..2_000)));
            let region = unpublished.publish()?;
            let since = Instant::now();
            for n in 2.. {
                writers.write(n, false);
                if done.load(Ordering::Relaxed) || since.elapsed() > HUNG {
                    break;
                }
                thread::yield_now();
            }
            region.retire();
            Fallible::Ok(())
        });
        let attached = together(row, at_once, attach);
        done.store(true, Ordering::Relaxed);
        publishing.join().map_err(|_| "the writer panicked")??;
        attached
    })
}
