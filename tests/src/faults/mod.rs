//! The fault harness, of which `domstat-faults` is the command: what happens to readers when a
//! writer is killed, stopped, restarted, replaced or hostile, and when the machine runs out of
//! descriptors or memory.

pub mod attach;
pub mod devices;
pub mod exhaust;
pub mod files;
pub mod hostile;
pub mod kill;
pub mod report;
pub mod storm;
pub mod took;
pub mod value;

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use domstat_consumer::Patience;
use rustix::process::{Pid, Signal, kill_process};

/// A result whose error ends the run.
pub type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Nothing that the harness waits for may take longer.
pub const HUNG: Duration = Duration::from_secs(20);
/// What a call of the library may take beyond the reader's patience, not counting that the reader
/// itself lost its CPU, which is the machine's doing.
pub const GRACE: Duration = Duration::from_secs(1);

/// A directory of the harness's own, removed in the end.
pub struct Place(PathBuf);

impl Place {
    /// Creates it in `dir`.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(dir: &Path) -> Fallible<Self> {
        let place = Self(dir.join(format!("domstat-faults-{}", std::process::id())));
        fs::create_dir_all(&place.0).map_err(|e| format!("{}: {e}", place.0.display()))?;
        Ok(place)
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// Files in it whose names start so.
    #[must_use]
    pub fn count(&self, prefix: &str) -> usize {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries.filter(|e| e.file_name().to_string_lossy().starts_with(prefix)).count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A writing process; killed when it is dropped.
pub struct Writer {
    child: Child,
}

impl Writer {
    /// Starts one on the region at `path`, without waiting for anything.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn spawn(path: &Path, how: &str) -> Fallible<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("write").arg(how).arg(path);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        Ok(Self { child })
    }

    /// Starts one and waits until it has published its region.
    ///
    /// # Errors
    /// If it does not.
    pub fn start(path: &Path, how: &str) -> Fallible<Self> {
        let mut writer = Self::spawn(path, how)?;
        match writer.said()?.as_str() {
            "ready" => Ok(writer),
            other => Err(format!("the writer could not publish: {other}").into()),
        }
    }

    /// The line that it says when it has published, or why it could not.
    ///
    /// # Errors
    /// If it says nothing and ends.
    pub fn said(&mut self) -> Fallible<String> {
        let mut line = String::new();
        let stdout = self.child.stdout.as_mut().ok_or("no pipe")?;
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u64 {
        u64::from(self.child.id())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it has exited.
    pub fn signal(&self, signal: Signal) -> Fallible<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("no pid")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Kills it.
    ///
    /// # Errors
    /// If it has exited already.
    pub fn kill(mut self) -> Fallible<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The writing process: publishes a region and writes it as fast as it can until it is killed, or
/// the process that started it has exited. `torn` writes values that were never whole, which readers must find.
///
/// # Errors
/// If the region cannot be published.
pub fn write(how: &str, path: &Path) -> Fallible<ExitCode> {
    let parent = rustix::process::getppid();
    let created = value::builder().create_file(path);
    let published = created.and_then(|created| {
        let (unpublished, writers) = value::Writers::of(created);
        Ok((unpublished.publish()?, writers))
    });
    let (_region, mut writers) = match published {
        Ok(published) => published,
        Err(error) => {
            println!("{error}");
            return Ok(ExitCode::FAILURE);
        }
    };
    println!("ready");
    std::io::stdout().flush()?;
    for n in 2.. {
        writers.write(n, how == "torn" && n % 16 == 0);
        // Readers meet a writer that pauses for a while and one that does not.
        for _ in 0..(n % 64) * 16 {
            std::hint::spin_loop();
        }
        if n.is_multiple_of(1 << 12) && rustix::process::getppid() != parent {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until `holds`.
///
/// # Errors
/// If it does not, for longer than anything may take.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) -> Fallible<Duration> {
    let since = Instant::now();
    while !holds() {
        if since.elapsed() > HUNG {
            return Err(format!("{what}: not within {HUNG:?}").into());
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    Ok(since.elapsed())
}

/// A reader that does not wait at all.
#[must_use]
pub fn impatient() -> Patience {
    Patience { spins: 0, yielding: Duration::ZERO }
}
