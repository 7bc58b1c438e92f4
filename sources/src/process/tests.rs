use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

use domstat_layout::{DomGroup, VcpuGroup};

use super::*;

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

#[test]
fn names_are_made_fit() {
    assert_eq!(sanitized("kworker/0:1"), "kworker_0:1");
    assert_eq!(sanitized("a\nb"), "a_b");
    assert_eq!(sanitized(""), "process");
}

#[test]
fn the_same_process_has_the_same_identity_each_time() {
    let source = ProcessSource::new(own_pid()).unwrap();
    let again = ProcessSource::new(own_pid()).unwrap();
    assert_eq!(source.describe().uuid, again.describe().uuid);
    assert_eq!(source.describe().created, again.describe().created);
    assert!(source.describe().name.ends_with(&format!("-{}", own_pid())));
    assert!(source.describe().nr_vcpus >= 16);
}

#[test]
fn parameters_out_of_range_are_refused() {
    let source = || ProcessSource::new(own_pid()).unwrap();
    assert!(source().with_name("a/b").is_err());
    assert!(source().with_name("").is_err());
    assert!(source().with_nr_vcpus(0).is_err());
    assert!(source().with_nr_vcpus(MAX_VCPUS + 1).is_err());
    assert!(source().with_interval(Duration::ZERO).is_err());
    let named = source().with_name("a").unwrap().with_nr_vcpus(3).unwrap();
    let named = named.with_thread_prefix("no thread is called so").unwrap();
    assert_eq!((named.describe().name.as_str(), named.describe().nr_vcpus), ("a", 3));
}

#[test]
fn what_is_no_process_is_not_found() {
    assert!(matches!(ProcessSource::new(i32::MAX), Err(SourceError::NoSuchProcess { .. })));
    assert!(matches!(ProcessSource::new(-1), Err(SourceError::NoSuchProcess { .. })));
    assert!(matches!(ProcessSource::new(0), Err(SourceError::NoSuchProcess { .. })));
    // Tests run in threads of their own.
    let thread = std::thread::spawn(|| ProcessSource::new(crate::host::thread_id()));
    assert!(matches!(thread.join().unwrap(), Err(SourceError::NoSuchProcess { .. })));
}

#[test]
fn a_zombie_is_not_found() {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let id = rustix::process::Pid::from_raw(pid).unwrap();
    let exited = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    rustix::process::waitid(rustix::process::WaitId::Pid(id), exited).unwrap();
    assert!(matches!(ProcessSource::new(pid), Err(SourceError::NoSuchProcess { .. })));
    child.wait().unwrap();
}

/// A sink that takes everything.
struct Ignores;

impl DomSink for Ignores {
    fn write<G: DomGroup>(&mut self, _: &G, _: Ns) {}
    fn deactivate<G: DomGroup>(&mut self) {}
}

impl VcpuSink for Ignores {
    fn write<G: VcpuGroup>(&mut self, _: &G, _: Ns) {}
    fn deactivate<G: VcpuGroup>(&mut self) {}
    fn renew(&mut self) {}
}

fn start(source: ProcessSource) -> Result<Box<dyn Running>, SourceError> {
    let sinks = (0..source.describe().nr_vcpus).map(|_| Ignores).collect();
    source.start(Ignores, sinks)
}

/// A thread of this name that waits until the channel's other end is dropped.
fn thread_named(name: &str, wait: Receiver<()>) -> std::thread::JoinHandle<()> {
    let (up, is_up) = channel();
    let body = move || {
        up.send(()).unwrap();
        let _ = wait.recv();
    };
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body).unwrap();
    is_up.recv().unwrap();
    thread
}

#[test]
fn threads_without_a_slot_are_counted_and_the_filter_leaves_others_out() {
    let (keep, waits) = channel();
    let (keep_too, waits_too) = channel();
    let threads = [thread_named("CPU 0/test", waits), thread_named("CPU 1/test", waits_too)];

    let all = ProcessSource::new(own_pid()).unwrap().with_nr_vcpus(1).unwrap();
    let probe = all.probe();
    start(all).unwrap();
    assert!(probe.threads_not_shown() >= 2, "two threads and this one: {probe:?}");

    let vcpus = ProcessSource::new(own_pid()).unwrap().with_nr_vcpus(1).unwrap();
    let vcpus = vcpus.with_thread_prefix("CPU ").unwrap();
    let probe = vcpus.probe();
    let mut running = start(vcpus).unwrap();
    assert_eq!(probe.threads_not_shown(), 1);
    drop((keep, keep_too));
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(running.tick().unwrap(), crate::Progress::Continue);
}

#[test]
fn too_few_sinks_are_refused() {
    let source = ProcessSource::new(own_pid()).unwrap();
    let error = source.start(Ignores, vec![Ignores]).err().unwrap();
    assert!(matches!(error, SourceError::BadParameter { .. }), "{error}");
}
