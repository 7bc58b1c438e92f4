//! A machine that has no more descriptors, or no more memory to give.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use domstat_consumer::fleet::Fleet;
use domstat_consumer::{AttachError, Region};
use domstat_producer::CreateError;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::report::Row;
use super::value::{Found, NR_RANKS, Pass, Way, Writers, builder};
use super::{Fallible, Place};

/// Descriptors that this process may have, while they are being used up.
const FEW: u64 = 64;

/// Without descriptors nothing can be created or attached, which is said and leaves nothing behind;
/// what is attached goes on. Changes the limits of this process.
///
/// # Errors
/// If the harness itself cannot go on.
pub fn descriptors(place: &Place) -> Fallible<Row> {
    let mut row = Row::new("no descriptors left");
    let path = place.path("attached");
    let (unpublished, mut writers) = Writers::of(builder().create_file(&path)?);
    let _producer = unpublished.publish()?;
    let region = Region::open(&path)?;
    setrlimit(Resource::Nofile, Rlimit { current: Some(FEW), maximum: Some(FEW) })?;
    let mut taken = Vec::new();
    // One less each time, so that creating and attaching fail at every descriptor they need.
    for spare in (0..8).rev() {
        while let Ok(file) = File::open("/dev/null") {
            taken.push(file);
        }
        taken.truncate(taken.len().saturating_sub(spare));
        let tried = [
            ("memfd", failed_to_create(builder().create_memfd().map(|_| ()))),
            ("frames", failed_to_create(builder().create_memfd_frames().map(|_| ()))),
            ("file", failed_to_create(builder().create_file(place.path("more")).map(|_| ()))),
            ("attach", failed_to_attach(Region::open(&path).map(|_| ()))),
            ("list", failed_to_attach(Fleet::new(place.dir()).refresh())),
        ];
        for (what, failed) in tried {
            match failed {
                Ok(failed) => {
                    row.faults += u64::from(failed);
                    row.expect(failed || spare > 0, || format!("{what} without a descriptor"));
                }
                Err(error) => row.broken.push(format!("{what} with {spare} spare: {error}")),
            }
        }
        let left = place.count(".domstat-") + place.count("more");
        row.expect(left == 0, || format!("{left} files left over with {spare} spare"));
        for n in 2..100 {
            writers.write(n, false);
            check(&mut row, &region, n);
        }
    }
    drop(taken);
    drop(builder().create_memfd()?);
    drop(Region::open(&path)?);
    row.note = "creating and attaching fail with a reason, and work again afterwards".to_owned();
    Ok(row)
}

fn check(row: &mut Row, region: &Region, n: u64) {
    let pass = Pass::read(Way::Direct(region));
    row.values += NR_RANKS as u64;
    row.wrong += pass.count(Found::Wrong) + pass.count(Found::Stalled);
    row.lost += pass.numbers().filter(|(_, found)| *found != n).count() as u64;
}

/// Whether it failed for want of what there is none of; any other failure is an error.
fn failed_to_create(result: Result<(), CreateError>) -> Fallible<bool> {
    match result {
        Ok(()) => Ok(false),
        Err(CreateError::Os { source, .. }) if is_exhausted(&source) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn failed_to_attach(result: Result<(), AttachError>) -> Fallible<bool> {
    match result {
        Ok(()) => Ok(false),
        Err(AttachError::Os { source, .. }) if is_exhausted(&source) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn is_exhausted(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    // By its text: what creates temporary files wraps the error to add the path.
    let said = error.to_string();
    [Errno::MFILE, Errno::NFILE, Errno::NOSPC, Errno::NOMEM]
        .iter()
        .any(|errno| said.contains(&format!("(os error {})", errno.raw_os_error())))
}

/// A tmpfs of a few pages, unmounted in the end.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    /// `None` if this process may not mount.
    fn mount(at: &'a Path, kib: u32) -> Fallible<Option<Self>> {
        fs::create_dir_all(at)?;
        let size = format!("size={kib}k");
        let args = ["-t", "tmpfs", "-o", &size, "domstat-faults"];
        let output = Command::new("mount").args(args).arg(at).output()?;
        Ok(output.status.success().then_some(Self(at)))
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).output();
    }
}

/// On a tmpfs that is full no region can be created, which is said and leaves nothing behind; what
/// lies there already is written and read as before. `None` if nothing can be mounted here.
///
/// # Errors
/// If the harness itself cannot go on.
pub fn tmpfs(place: &Place) -> Fallible<Option<Row>> {
    let dir = place.path("full");
    let Some(_mounted) = Tmpfs::mount(&dir, 64)? else { return Ok(None) };
    let mut row = Row::new("tmpfs full");
    let path = dir.join("region");
    let (unpublished, mut writers) = Writers::of(builder().create_file(&path)?);
    let _producer = unpublished.publish()?;
    let region = Region::open(&path)?;
    let filler = dir.join("filler");
    let room = |pages: usize| -> Fallible<()> {
        let _ = fs::remove_file(&filler);
        // As much as there is, less so many pages.
        let mut filled = Vec::new();
        while fs::write(&filler, &filled).is_ok() {
            filled.resize(filled.len() + 4096, 1u8);
        }
        filled.truncate(filled.len().saturating_sub((pages + 1) * 4096));
        Ok(fs::write(&filler, &filled)?)
    };
    for pages in 0..4 {
        room(pages)?;
        // Needs more than there is.
        let more = builder().vcpus(64).create_file(dir.join("more")).map(|_| ());
        match failed_to_create(more) {
            Ok(failed) => row.expect(failed, || format!("created with {pages} pages left")),
            Err(error) => row.broken.push(format!("with {pages} pages left: {error}")),
        }
        row.faults += 1;
        let names: Vec<_> = fs::read_dir(&dir)?.flatten().map(|e| e.file_name()).collect();
        row.expect(names.len() == 2, || format!("left over: {names:?}"));
        for n in 2..1000 {
            writers.write(n, false);
            check(&mut row, &region, n);
        }
    }
    fs::remove_file(&filler)?;
    drop(builder().create_file(dir.join("more"))?.unpublished.publish()?);
    row.note =
        "creating fails with a reason, what is there goes on, and there is room again afterwards"
            .to_owned();
    Ok(Some(row))
}
