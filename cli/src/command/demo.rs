//! `domstat demo`: the whole way, from a running vCPU to a reader in another process.

use std::io::{IsTerminal, Write, stdout};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use domstat_consumer::{Reading, Region};
use domstat_layout::latest::Runstate;
use domstat_producer::Placement;
use domstat_sources::kvm::{KvmOptions, KvmProbe, KvmSource};
use domstat_sources::process::ProcessSource;

use crate::error::Failure;
use crate::locate;
use crate::output::human::{nr, seconds};
use crate::publish::{Place, Published};
use crate::signals::Stop;

/// Boot a micro-VM, publish its statistics, and read and check them from another process
///
/// Without /dev/kvm the demo's own busy threads are shown instead.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  domstat demo --seconds 30\n\nOn a pipe it prints a few samples and the checker's verdict."
)]
pub(crate) struct Args {
    /// Show the live table for this long; default: 10 on a terminal, 2 on a pipe
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// vCPUs
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=64))]
    vcpus: u32,
}

/// What to do next.
const NOW: &str = "
Now your own:
  domstat run qemu --qmp-dir DIR &   publish each VM with a QMP socket in DIR
  domstat run process --pid PID &    publish the threads of a process
  domstat run kvm --name vm1 &       a micro-VM, until it is stopped
  domstat top                        a live view of all domains
  domstat export                     serve them to Prometheus
";

/// Samples a second on a pipe and on a terminal.
const RATE: u64 = 2;
/// How often the demo's own threads are looked at: more often than they change between work and
/// rest, so that the state shown is the one they are in.
const SAMPLING: Duration = Duration::from_millis(5);
/// How long the checker watches.
const CHECK_SECONDS: &str = "2";

pub(crate) fn run(args: &Args, dir: Option<&Path>) -> Result<ExitCode, Failure> {
    let stop = Stop::on_signals()?;
    // A place of its own where the usual one is not there or not ours.
    let private = tempfile::tempdir()
        .map_err(|source| Failure::Os { action: "create a temporary directory", source })?;
    let dir = usable(locate::directory(dir).ok()).unwrap_or_else(|| private.path().to_owned());
    let name = format!("demo-{}", std::process::id());

    writeln!(
        stdout(),
        "domstat publishes statistics of VMs through shared memory. Tools read them\n\
         there, without asking the VM, its process or the kernel. This demo publishes one\n\
         VM and reads it in another process.\n"
    )?;
    let place = Place::Directory(dir.clone());
    let (mut published, probe, _threads) = match KvmSource::available() {
        Ok(()) => {
            writeln!(
                stdout(),
                "domstat demo: a micro-VM with {} runs through /dev/kvm",
                nr(args.vcpus, "vCPU")
            )?;
            let options =
                KvmOptions { nr_vcpus: args.vcpus, name: name.clone(), ..KvmOptions::default() };
            let source = KvmSource::new(&options)?;
            let probe = source.probe();
            (
                Published::start(source, &Placement::Packed.into(), &place, None, None)?,
                Some(probe),
                None,
            )
        }
        Err(why) => {
            writeln!(stdout(), "domstat demo: {why}")?;
            writeln!(
                stdout(),
                "domstat demo: so these are this process's own threads, shown as vCPUs"
            )?;
            let threads = busy::Threads::start(args.vcpus);
            let pid = i32::try_from(std::process::id()).unwrap_or(0);
            let source =
                ProcessSource::new(pid)?.with_name(&name)?.with_thread_prefix(busy::NAME)?;
            let source = source.with_interval(SAMPLING)?;
            (
                Published::start(source, &Placement::Packed.into(), &place, None, None)?,
                None,
                Some(threads),
            )
        }
    };

    let seconds = args.seconds.unwrap_or(if stdout().is_terminal() { 10 } else { 2 });
    let count = (seconds * RATE + 1).to_string();
    let interval = (1.0 / RATE as f64).to_string();
    let show = ["show", &name, "--watch", "--count", &count, "--interval", &interval];
    let check = ["check", &name, "--watch", CHECK_SECONDS];
    for step in [&show[..], &check[..]] {
        writeln!(stdout(), "\n$ domstat {}", step.join(" "))?;
        match in_another_process(&dir, step, &mut published, &stop)? {
            Some(code) if code != ExitCode::SUCCESS => return Ok(code),
            Some(_) => {}
            None => return Ok(ExitCode::SUCCESS),
        }
    }
    if let Some(probe) = probe {
        cross_check(&published, &probe)?;
    }
    write!(stdout(), "{NOW}")?;
    Ok(ExitCode::SUCCESS)
}

/// Says how the published numbers compare with the kernel's own.
fn cross_check(published: &Published, probe: &KvmProbe) -> Result<(), Failure> {
    writeln!(stdout(), "\nThe kernel's own numbers, next to what was published:")?;
    let region = Region::open(published.path())?;
    for vcpu in region.vcpus() {
        let Ok(Reading::Active(sample)) = vcpu.read::<Runstate>() else { continue };
        let Some(counts) = probe.counts(vcpu.index()) else { continue };
        let running = sample.running_ns.value().unwrap_or(0);
        write!(
            stdout(),
            "vCPU {}: ran {} s, its thread {} s",
            vcpu.index(),
            seconds(running),
            seconds(counts.cpu_ns),
        )?;
        let halts = probe.kvm_stats(vcpu.index()).ok().flatten().and_then(|stats| {
            stats.into_iter().find(|s| s.name == "halt_exits")?.values.first().copied()
        });
        match halts {
            Some(kvm) => writeln!(stdout(), "; halts: {}, {kvm} by KVM", counts.hlt_exits)?,
            None => writeln!(stdout(), "; halts: {}", counts.hlt_exits)?,
        }
    }
    Ok(())
}

/// Runs this program again, with `args`, and keeps the region up to date meanwhile. `None` if the
/// user asked for an end.
fn in_another_process(
    dir: &Path,
    args: &[&str],
    published: &mut Published,
    stop: &Stop,
) -> Result<Option<ExitCode>, Failure> {
    let os = |action| move |source| Failure::Os { action, source };
    let program = std::env::current_exe().map_err(os("find this program"))?;
    let mut child = Reader(
        Command::new(program)
            .env_remove("DOMSTAT_SOCKET")
            .arg("--dir")
            .arg(dir)
            .args(args)
            .spawn()
            .map_err(os("start the reader"))?,
    );
    loop {
        if let Some(status) = child.0.try_wait().map_err(os("wait for the reader"))? {
            let code = status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(4);
            return Ok(Some(ExitCode::from(code)));
        }
        if published.step(stop, Duration::from_millis(20))?.is_some() {
            return Ok(None);
        }
    }
}

/// A child that does not outlive us.
struct Reader(Child);

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The directory, if regions can be announced in it.
fn usable(dir: Option<PathBuf>) -> Option<PathBuf> {
    let dir = dir?;
    std::fs::create_dir_all(&dir).ok()?;
    tempfile::tempfile_in(&dir).ok()?;
    Some(dir)
}

/// Threads to look at where there is no KVM.
mod busy {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::JoinHandle;
    use std::time::{Duration, Instant};

    /// How their names begin.
    pub(super) const NAME: &str = "demo-vcpu";

    pub(super) struct Threads {
        stop: Arc<AtomicBool>,
        threads: Vec<JoinHandle<()>>,
    }

    impl Threads {
        /// Thread 0 never rests; the others work one part of their time.
        pub(super) fn start(n: u32) -> Self {
            let stop = Arc::new(AtomicBool::new(false));
            let threads = (0..n)
                .filter_map(|i| {
                    let stop = Arc::clone(&stop);
                    std::thread::Builder::new()
                        .name(format!("{NAME}{i}"))
                        .spawn(move || work(i, &stop))
                        .ok()
                })
                .collect();
            Self { stop, threads }
        }
    }

    impl Drop for Threads {
        fn drop(&mut self) {
            // ORDERING: relaxed; a flag alone, here and in `work`.
            self.stop.store(true, Ordering::Relaxed);
            for thread in self.threads.drain(..) {
                let _ = thread.join();
            }
        }
    }

    fn work(index: u32, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let until = Instant::now() + Duration::from_millis(10);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            if index > 0 {
                std::thread::sleep(Duration::from_millis(u64::from(index.min(20)) * 10));
            }
        }
    }
}
