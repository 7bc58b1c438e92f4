//! A producer in a sandbox.
//!
//! ```text
//! domstat-sandbox call NAME DIR CALLS     makes one call of a producer's where only these system calls
//!                                         are permitted, and those that end the process and give it memory
//! domstat-sandbox call-strictly NAME DIR CALLS  as `call`, without what a debug build adds (`fcntl`)
//! domstat-sandbox vmm DIR RULES           publishes, then writes numbers and ends under a filter
//! domstat-sandbox inside DIR RULES CALLS  as `vmm`, with the filter in place before anything is published
//! domstat-sandbox announce DIR            publishes and prints the error of the entry, if there is one
//! domstat-sandbox hold NAME               publishes without an entry until its input ends
//! domstat-sandbox crowd N NAME            holds N descriptors, some of memory that is no region, and a region
//! domstat-sandbox landlock DIR SCOPE      publishes with no path permitted (`none`) or DIR alone (`dir`)
//! ```
//!
//! CALLS are names with commas between them; RULES is a file of tests/sandbox. A call that is not permitted
//! kills the process by SIGSYS.

use std::error::Error;
use std::io::Read;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use domstat_layout::latest::{BlkIo, Runstate, Sched};
use domstat_layout::{Clock, Group, Ns, Word};
use domstat_producer::{
    Announcement, BlkWriter, Created, Region, RegionBuilder, Sampler, ThreadTimes, VcpuWriter,
    remove_stale_entries,
};
use domstat_tests::runstate;
use domstat_tests::sandbox::{named, restrict, rules_in};
use landlock::{
    ABI, Access, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};
use rustix::fs::{MemfdFlags, SealFlags, memfd_create};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

type Outcome = Result<(), Box<dyn Error>>;

/// How many descriptors of a crowd are of memory.
const CROWD_OF_MEMORY: usize = 1000;
/// Permitted next to the calls of a row: memory for the allocator, and the end of the process.
const ALWAYS: &str = "brk,exit_group,munmap,sigaltstack";
/// In a debug build, Rust's library looks at each descriptor before it closes it (`F_GETFD`).
const DEBUG: &str = "fcntl 1=1";

/// Restricts this thread to these calls.
fn restrict_to(mut rules: Vec<String>) -> Outcome {
    if cfg!(debug_assertions) && !rules.iter().any(|rule| rule == "fcntl") {
        rules.push(DEBUG.to_owned());
    }
    restrict(&rules)
}

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["call", name, dir, calls] => {
            let adds = cfg!(debug_assertions) && !calls.split(',').any(|call| call == "fcntl");
            let debug = if adds { DEBUG } else { "" };
            call(name, Path::new(dir), &format!("{calls},{debug}"))?;
        }
        ["call-strictly", name, dir, calls] => call(name, Path::new(dir), calls)?,
        ["vmm", dir, rules] => vmm(Path::new(dir), rules_in(Path::new(rules))?)?,
        ["inside", dir, rules, more] => {
            let mut all = rules_in(Path::new(rules))?;
            all.extend(named(more));
            restrict_to(all)?;
            let (region, entry, mut writers) = publish(Path::new(dir))?;
            writers.write();
            region.retire();
            entry.leave();
        }
        ["announce", dir] => {
            let (created, _writers) = created(builder())?;
            match created.unpublished.publish_as(Path::new(dir), "jailed") {
                Ok(published) => println!("announced at {}", published.path().display()),
                Err(error) => println!("{error}"),
            }
        }
        ["hold", name] => {
            let mut created = RegionBuilder::new(name).create_memfd()?;
            created.vcpus[0].write(&runstate(1), now());
            let _region = created.unpublished.publish()?;
            wait_for_end()?;
        }
        ["crowd", n, name] => crowd(n.parse()?, name)?,
        ["landlock", dir, scope] => landlock(Path::new(dir), *scope == "dir")?,
        _ => return Err("see the documentation of this program".into()),
    }
    // Now, and not by returning: the filters of rows do not permit what the runtime does then.
    std::process::exit(0)
}

fn builder() -> RegionBuilder {
    RegionBuilder::new("jailed").vcpus(1).blks(1).clock(Clock::Monotonic)
}

fn now() -> Ns {
    domstat_producer::now(Clock::Monotonic).unwrap_or_default()
}

/// The threads of a VMM, in one.
struct Writers {
    vcpus: Vec<VcpuWriter>,
    blks: Vec<BlkWriter>,
}

impl Writers {
    fn write(&mut self) {
        let io = BlkIo { rd_req: Word::from(1), ..BlkIo::NOT_PRODUCED };
        for _ in 0..100 {
            for vcpu in &mut self.vcpus {
                vcpu.write(&runstate(2), now());
                vcpu.set(Runstate::running_ns, 3, now());
            }
            for blk in &mut self.blks {
                blk.write(&io, now());
                blk.deactivate::<BlkIo>();
            }
        }
    }
}

fn created(builder: RegionBuilder) -> Result<(Created, Writers), Box<dyn Error>> {
    let mut created = builder.create_memfd()?;
    let (vcpus, blks) = (std::mem::take(&mut created.vcpus), std::mem::take(&mut created.blks));
    Ok((created, Writers { vcpus, blks }))
}

fn publish(dir: &Path) -> Result<(Region, Announcement, Writers), Box<dyn Error>> {
    let (created, mut writers) = created(builder())?;
    writers.write();
    let region = created.unpublished.publish()?;
    let entry = region.announce(dir, "jailed")?;
    Ok((region, entry, writers))
}

/// Publishes as a VMM does that installs its filter before it runs the domain.
fn vmm(dir: &Path, rules: Vec<String>) -> Outcome {
    let (region, entry, mut writers) = publish(dir)?;
    restrict_to(rules)?;
    writers.write();
    region.notify();
    region.check()?;
    region.retire();
    entry.leave();
    drop(writers);
    Ok(())
}

fn call(name: &str, dir: &Path, calls: &str) -> Outcome {
    let allowed = named(&format!("{ALWAYS},{calls}"));
    let memfd = || memfd_create("domstat:jailed", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    // What a row ends with is leaked: to drop it is a row of its own.
    use std::mem::forget;
    match name {
        "RegionBuilder::create_memfd" => {
            restrict(&allowed)?;
            forget(builder().create_memfd()?);
        }
        "RegionBuilder::mode" => {
            restrict(&allowed)?;
            forget(builder().mode(0o444).create_memfd()?);
        }
        "RegionBuilder::create_in_memfd" => {
            let memfd: OwnedFd = memfd()?;
            restrict(&allowed)?;
            forget(builder().create_in_memfd(memfd)?);
        }
        "Unpublished::publish" => {
            let (created, writers) = created(builder())?;
            restrict(&allowed)?;
            forget((created.unpublished.publish()?, writers));
        }
        "Region::announce" => {
            let (created, writers) = created(builder())?;
            let region = created.unpublished.publish()?;
            restrict(&allowed)?;
            forget((region.announce(dir, "jailed")?, region, writers));
        }
        "Announcement::leave"
        | "Announcement: drop"
        | "Region::notify"
        | "Region::retire"
        | "Region::check"
        | "writers: write, set, deactivate"
        | "writers: drop"
        | "now" => {
            let (region, entry, mut writers) = publish(dir)?;
            restrict(&allowed)?;
            match name {
                "Announcement::leave" => entry.leave(),
                "Announcement: drop" => drop(entry),
                "Region::notify" => region.notify(),
                "Region::check" => region.check()?,
                "now" => assert_ne!(now(), Ns(0)),
                "writers: write, set, deactivate" => writers.write(),
                "writers: drop" => drop(writers),
                _ => {
                    region.retire();
                    drop(writers);
                }
            }
            std::process::exit(0);
        }
        "Retirer::retire" | "Published::retirer" => {
            let (created, writers) = created(builder())?;
            let published = created.unpublished.publish_as(dir, "jailed")?;
            let retirer = match name {
                "Retirer::retire" => Region::retirer(&published),
                _ => published.retirer(),
            };
            restrict(&allowed)?;
            retirer.retire();
            forget((published, retirer, writers));
        }
        "Sampler" => {
            let (created, mut writers) = created(builder())?;
            forget(created);
            let vcpu = &mut writers.vcpus[0];
            let groups = vcpu.take::<Runstate>().zip(vcpu.take::<Sched>());
            let (runstate, sched) = groups.ok_or("the groups have writers")?;
            let sampler = Sampler::spawn(Clock::Monotonic, Duration::from_millis(1))?;
            // The filter is that of the thread which samples.
            let (samples, mut allowed) = (Arc::new(AtomicU32::new(0)), Some(allowed));
            let of_thread = Arc::clone(&samples);
            sampler.each(move |_| {
                if let Some(allowed) = allowed.take()
                    && restrict(&allowed).is_err()
                {
                    std::process::exit(1);
                }
                of_thread.fetch_add(1, Ordering::Relaxed);
                ControlFlow::Continue(())
            });
            sampler.vcpu(ThreadTimes::of_current_thread(Clock::Monotonic)?, runstate, sched);
            while samples.load(Ordering::Relaxed) < 10 {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::process::exit(0);
        }
        "ThreadTimes::of_current_thread" => {
            restrict(&allowed)?;
            forget(ThreadTimes::of_current_thread(Clock::Monotonic)?);
        }
        "ThreadTimes::sample" => {
            let mut times = ThreadTimes::of_current_thread(Clock::Monotonic)?;
            restrict(&allowed)?;
            times.sample()?;
            forget(times);
        }
        "ThreadTimes::of_cpu_clock" => {
            let tid = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
            restrict(&allowed)?;
            let _ = ThreadTimes::of_cpu_clock(tid, Clock::Monotonic)?.sample()?;
        }
        "remove_stale_entries" => {
            std::os::unix::fs::symlink(
                format!("/proc/{}/fd/99", std::process::id()),
                dir.join("old.domstat"),
            )?;
            restrict(&allowed)?;
            assert_eq!(remove_stale_entries(dir)?, 1);
        }
        _ => return Err(format!("no such row: {name}").into()),
    }
    Ok(())
}

/// Says that it is ready, and returns when the input ends.
fn wait_for_end() -> Outcome {
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Holds so many descriptors: most are of one file, some of memory that has the name of a region's and is
/// none, sealed or not, and the last one is a region.
fn crowd(n: usize, name: &str) -> Outcome {
    let limit = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit })?;
    let mut held = Vec::new();
    for i in 0..CROWD_OF_MEMORY.min(n) {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memfd = memfd_create(format!("domstat:\x1b[2J\n{i}"), flags)?;
        rustix::io::write(&memfd, &[0xa5; 4096])?;
        if i % 2 == 0 {
            let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
            rustix::fs::fcntl_add_seals(&memfd, seals)?;
        }
        held.push(memfd);
    }
    let null = std::fs::File::open("/dev/null")?;
    while held.len() < n {
        held.push(null.try_clone()?.into());
    }
    let mut created = RegionBuilder::new(name).create_memfd()?;
    created.vcpus[0].write(&runstate(1), now());
    let _region = created.unpublished.publish()?;
    wait_for_end()
}

/// Publishes where Landlock permits no path, or one directory.
fn landlock(dir: &Path, permits_dir: bool) -> Outcome {
    let all = AccessFs::from_all(ABI::V3);
    let mut ruleset = Ruleset::default().handle_access(all)?.create()?;
    if permits_dir {
        ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(dir)?, all))?;
    }
    if ruleset.restrict_self()?.ruleset == RulesetStatus::NotEnforced {
        println!("not enforced");
        return Ok(());
    }
    let (created, mut writers) = created(builder())?;
    let region = created.unpublished.publish()?;
    match region.announce(dir, "jailed") {
        Ok(entry) => {
            println!("announced at {}", entry.path().display());
            drop(entry);
        }
        Err(error) => println!("{error}"),
    }
    writers.write();
    region.notify();
    region.retire();
    Ok(())
}
