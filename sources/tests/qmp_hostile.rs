//! Hostile QMP peers, each next to a harmless one: the harmless one is observed as always, memory
//! stays bounded, and every thread ends when it is asked to.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use domstat_layout::latest::BlkIo;
use domstat_layout::sink::{BlkSink, DomSink, NetSink, VcpuSink};
use domstat_layout::{BlkGroup, DomGroup, Group, NetGroup, Ns, VcpuGroup};
use domstat_sources::contract::{
    Description, Event, Fleet, Observation, Publisher, Sinks, SourceError,
};
use domstat_sources::qemu::{Discovery, Options, Vm};
use glob::Pattern;

mod hostile;

use hostile::Hostility;

/// More than any of this takes; a hang is what fails.
const SOON: Duration = Duration::from_secs(10);

/// Keeps descriptions, events, notes and how often disks were written.
#[derive(Clone)]
struct Recorder {
    to: Sender<Happening>,
    writes: Arc<Mutex<u64>>,
}

#[derive(Debug)]
enum Happening {
    Created(Description),
    Published(String),
    Note(String),
}

struct Sink(Arc<Mutex<u64>>);

impl DomSink for Sink {
    fn write<G: DomGroup>(&mut self, _: &G, _: Ns) {}
    fn deactivate<G: DomGroup>(&mut self) {}
}
impl VcpuSink for Sink {
    fn write<G: VcpuGroup>(&mut self, _: &G, _: Ns) {}
    fn deactivate<G: VcpuGroup>(&mut self) {}
    fn renew(&mut self) {}
}
impl BlkSink for Sink {
    fn write<G: BlkGroup>(&mut self, _: &G, _: Ns) {
        if G::DESC.name == BlkIo::DESC.name {
            *self.0.lock().unwrap() += 1;
        }
    }
    fn deactivate<G: BlkGroup>(&mut self) {}
    fn renew(&mut self) {}
}
impl NetSink for Sink {
    fn write<G: NetGroup>(&mut self, _: &G, _: Ns) {}
    fn deactivate<G: NetGroup>(&mut self) {}
    fn renew(&mut self) {}
}

impl Publisher for Recorder {
    type Dom = Sink;
    type Vcpu = Sink;
    type Blk = Sink;
    type Net = Sink;
    type Unpublished = ();
    type Region = ();

    fn create(&mut self, description: &Description) -> Result<Sinks<Self>, SourceError> {
        let _ = self.to.send(Happening::Created(description.clone()));
        let sinks = |n: u32| (0..n).map(|_| Sink(Arc::clone(&self.writes))).collect();
        Ok(Sinks {
            dom: Sink(Arc::clone(&self.writes)),
            vcpus: sinks(description.nr_vcpus),
            blks: sinks(description.nr_blks),
            nets: sinks(description.nr_nets),
            unpublished: (),
        })
    }
    fn publish(&mut self, name: &str, (): ()) -> Result<(), SourceError> {
        let _ = self.to.send(Happening::Published(name.to_owned()));
        Ok(())
    }
    fn notify(&self, (): &()) {}
    fn event(&mut self, _: &str, _: &Event) {}
    fn note(&mut self, text: &str) {
        let _ = self.to.send(Happening::Note(text.to_owned()));
    }
}

/// One VM that is observed.
struct Observed {
    vm: Option<Vm>,
    from: Receiver<Happening>,
    writes: Arc<Mutex<u64>>,
}

fn options() -> Options {
    Options { interval: Duration::from_millis(50), ..Options::default() }
}

fn observe(dir: &Path, name: &str, hostility: Hostility) -> Observed {
    let path = dir.join(format!("{name}.qmp"));
    hostile::start(&path, name, hostility);
    let (to, from) = channel();
    let writes = Arc::new(Mutex::new(0));
    let recorder = Recorder { to, writes: Arc::clone(&writes) };
    Observed { vm: Some(Vm::start(&path, &options(), recorder).unwrap()), from, writes }
}

impl Observed {
    /// The next that this finds something in.
    fn wait<T>(&self, what: &str, find: impl Fn(&Happening) -> Option<T>) -> T {
        let until = Instant::now() + 3 * SOON;
        let mut seen = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.from.recv_timeout(left) {
                Ok(happening) => {
                    if let Some(found) = find(&happening) {
                        return found;
                    }
                    if !matches!(happening, Happening::Created(_)) {
                        seen.push(happening);
                    }
                }
                Err(_) => panic!("{what} did not come; there were {seen:?}"),
            }
        }
    }

    fn published(&self) -> String {
        self.wait("publishing", |h| match h {
            Happening::Published(name) => Some(name.clone()),
            _ => None,
        })
    }

    fn note(&self, part: &str) -> String {
        self.wait(part, |h| match h {
            Happening::Note(text) if text.contains(part) => Some(text.clone()),
            _ => None,
        })
    }

    /// Its disks are written again and again.
    fn goes_on(&self) {
        let before = *self.writes.lock().unwrap();
        let began = Instant::now();
        while *self.writes.lock().unwrap() < before + 5 {
            assert!(began.elapsed() < SOON, "the harmless VM is observed");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its thread ends when it is asked to.
    fn stops(&mut self) {
        let vm = self.vm.take().unwrap();
        vm.ask_to_stop();
        let began = Instant::now();
        while !vm.has_ended() {
            assert!(began.elapsed() < SOON, "its thread ends");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// The hostile one next to a harmless one for a while: see the module.
fn hold(hostility: Hostility, time: Duration) -> (Observed, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let harmless = observe(dir.path(), "harmless", Hostility::Harmless);
    harmless.published();
    let before = resident();
    let hostile = observe(dir.path(), "hostile", hostility);
    let until = Instant::now() + time;
    let mut most = 0;
    while Instant::now() < until {
        harmless.goes_on();
        most = most.max(resident().saturating_sub(before));
    }
    assert!(most < 400 << 20, "{hostility:?} took {} MiB", most >> 20);
    (hostile, dir)
}

/// Tests that look at the memory of the process run one after the other.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[test]
fn a_flood_in_place_of_an_answer_is_given_up_and_the_thread_ends() {
    let _alone = alone();
    let (mut hostile, _dir) = hold(Hostility::Flood, Duration::from_secs(4));
    hostile.note("events");
    hostile.stops();
}

#[test]
fn a_flood_behind_answers_leaves_commands_and_polls_their_turn() {
    let _alone = alone();
    let (mut hostile, _dir) = hold(Hostility::FloodBehindAnswers, Duration::from_secs(4));
    hostile.published();
    hostile.stops();
}

#[test]
fn an_answer_that_never_ends_is_given_up() {
    let _alone = alone();
    for hostility in [Hostility::Trickle, Hostility::EndlessLine] {
        let (mut hostile, _dir) = hold(hostility, Duration::from_secs(1));
        hostile.wait("a note", |h| match h {
            Happening::Note(text) if text.contains("within") || text.contains("longer") => Some(()),
            _ => None,
        });
        hostile.stops();
    }
}

#[test]
fn an_answer_that_takes_much_memory_is_not_parsed() {
    let _alone = alone();
    let (mut hostile, _dir) = hold(Hostility::Expanding, Duration::from_secs(2));
    hostile.note("too large");
    hostile.stops();
}

#[test]
fn what_a_qemu_lists_is_capped_and_that_is_noted() {
    let _alone = alone();
    let created = |h: &Happening| match h {
        Happening::Created(description) => Some(description.clone()),
        _ => None,
    };
    let (mut hostile, _dir) = hold(Hostility::ManyCpus, Duration::from_secs(2));
    let description = hostile.wait("a region", created);
    assert_eq!(description.nr_vcpus, 4096);
    let statistics = description.arch_vcpu.iter().filter(|group| group.name == "kvm");
    let words: usize = statistics.map(|group| group.fields.len()).sum();
    assert_eq!(words, 1024);
    hostile.note("vCPUs");
    hostile.stops();

    let (mut hostile, _dir) = hold(Hostility::ManyDisks, Duration::from_secs(2));
    let description = hostile.wait("a region", created);
    assert!(description.nr_blks <= 1024, "{}", description.nr_blks);
    hostile.note("images");
    hostile.stops();

    let (mut hostile, _dir) = hold(Hostility::ManyJobs, Duration::from_secs(3));
    hostile.note("jobs");
    hostile.stops();
}

#[test]
fn a_connection_that_is_reset_in_an_answer_is_dialed_again() {
    let _alone = alone();
    let (mut hostile, _dir) = hold(Hostility::Reset, Duration::from_secs(1));
    hostile.note("closed");
    hostile.stops();
}

#[test]
fn a_thread_that_is_not_the_peers_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    // Another process that calls itself QEMU: a copy of sleep under that name.
    let program = dir.path().join("qemu-victim");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let mut victim = start_copied(&program);
    let pid = i32::try_from(victim.id()).unwrap();
    let mut hostile = observe(dir.path(), "hostile", Hostility::WrongPid(pid));
    let description = hostile.wait("a region", |h| match h {
        Happening::Created(description) => Some(description.clone()),
        _ => None,
    });
    let _ = victim.kill();
    let _ = victim.wait();
    assert_eq!(description.domid, None, "the victim's numbers are not shown");
    hostile.stops();
}

/// A program that was just copied may still be open for writing in a child of another thread.
fn start_copied(program: &Path) -> std::process::Child {
    loop {
        match std::process::Command::new(program).arg("60").spawn() {
            Ok(child) => return child,
            Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
            Err(e) => panic!("{e}"),
        }
    }
}

#[test]
fn a_slow_qemu_holds_up_neither_discovery_nor_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let slow = dir.path().join("slow.qmp");
    hostile::start(&slow, "slow", Hostility::LastMoment);
    let (to, _from) = channel();
    let recorder = Recorder { to, writes: Arc::new(Mutex::new(0)) };
    let fleet = Fleet::new();
    let pattern = Pattern::new("*.qmp").unwrap();
    let mut discovery = Discovery::new(options(), vec![dir.path().to_owned()], pattern);
    // A serial console, for example, which would serve nobody else meanwhile.
    let console = UnixListener::bind(dir.path().join("slow.console")).unwrap();
    assert!(discovery.rescan(&fleet, || recorder.clone()).is_empty());
    assert_eq!(fleet.addresses(), std::slice::from_ref(&slow));
    console.set_nonblocking(true).unwrap();
    assert_eq!(discovery.only_others(), None);
    // Into the middle of its questions.
    std::thread::sleep(Duration::from_millis(2500));
    assert!(console.accept().is_err(), "nobody connected to it");
    std::fs::remove_file(&slow).unwrap();
    let next: PathBuf = dir.path().join("next.qmp");
    hostile::start(&next, "next", Hostility::Harmless);
    let began = Instant::now();
    assert!(discovery.rescan(&fleet, || recorder.clone()).is_empty());
    assert!(began.elapsed() < Duration::from_secs(1), "nothing waits for the slow one");
    assert_eq!(fleet.addresses(), [next]);
    assert_eq!(fleet.clear(SOON), 0, "both end, also in the middle of a question");
}

#[test]
fn a_silent_peer_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut silent = observe(dir.path(), "silent", Hostility::Silent);
    silent.note("greet");
    silent.stops();
}
