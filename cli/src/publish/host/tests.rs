use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};

use domstat_layout::latest::{Memory, Runstate};
use domstat_layout::sink::{DomSink, VcpuSink};
use domstat_layout::{Clock, Group, Ns};
use domstat_sources::{Description, Progress, Running};

use domstat_producer::Placement;

use super::*;

/// What a domain's next tick gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tick {
    Continues,
    OutOfFiles,
    Outgrown,
    Renamed,
    Ends,
}

/// A host whose domains do as the test says.
#[derive(Clone, Default)]
struct Made(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    domains: BTreeMap<u16, (String, Tick)>,
    started: Vec<u16>,
    list_fails: bool,
}

impl Made {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, domid: u16, name: &str, tick: Tick) {
        self.state().domains.insert(domid, (name.to_owned(), tick));
    }
}

struct MadeSource {
    host: Made,
    domid: u16,
    name: String,
}

struct MadeRunning {
    host: Made,
    domid: u16,
}

fn out_of_files() -> SourceError {
    let source = io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
    SourceError::Os { action: "read it".to_owned(), source }
}

impl Domains for Made {
    type Key = u16;
    type Source = MadeSource;

    fn list(&mut self) -> Result<Vec<u16>, SourceError> {
        let state = self.state();
        if state.list_fails {
            Err(out_of_files())
        } else {
            Ok(state.domains.keys().copied().collect())
        }
    }

    fn source(&mut self, domid: u16) -> Result<Option<MadeSource>, SourceError> {
        let name = self.state().domains.get(&domid).map(|(name, _)| name.clone());
        Ok(name.map(|name| MadeSource { host: self.clone(), domid, name }))
    }

    fn named(source: MadeSource, name: &str) -> Result<MadeSource, SourceError> {
        Ok(MadeSource { name: name.to_owned(), ..source })
    }
}

impl Source for MadeSource {
    fn describe(&self) -> Description {
        Description {
            source: "made",
            domid: Some(self.domid.into()),
            uuid: None,
            name: self.name.clone(),
            created: None,
            nr_vcpus: 1,
            nr_blks: 0,
            nr_nets: 0,
            clock: Clock::Boottime,
            arch_dom: Vec::new(),
            arch_vcpu: Vec::new(),
            optional: domstat_sources::Optional::default(),
            labels: Vec::new(),
        }
    }

    fn start<D, V>(self, mut dom: D, vcpus: Vec<V>) -> Result<Box<dyn Running>, SourceError>
    where
        D: DomSink + 'static,
        V: VcpuSink + 'static,
    {
        dom.write(&Memory::NOT_PRODUCED, Ns(1));
        vcpus.into_iter().for_each(|mut vcpu| vcpu.write(&Runstate::NOT_PRODUCED, Ns(1)));
        self.host.state().started.push(self.domid);
        Ok(Box::new(MadeRunning { host: self.host, domid: self.domid }))
    }
}

impl Running for MadeRunning {
    fn interval(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn tick(&mut self) -> Result<Progress, SourceError> {
        match self.host.state().domains.get(&self.domid).map(|(_, tick)| *tick) {
            Some(Tick::Continues) => Ok(Progress::Continue),
            Some(Tick::OutOfFiles) => Err(out_of_files()),
            Some(Tick::Outgrown) => Ok(Progress::Outgrown),
            Some(Tick::Renamed) => Ok(Progress::Renamed),
            Some(Tick::Ends) | None => Ok(Progress::Ended),
        }
    }

    fn stop(self: Box<Self>) {}
}

struct Setup {
    dir: tempfile::TempDir,
    made: Made,
    host: Host<Made>,
    stop: Stop,
    // Whoever holds it could ask for an end.
    _asks: std::sync::mpsc::Sender<()>,
}

fn setup() -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let made = Made::default();
    let place = Place::Directory(dir.path().to_owned());
    let interval = Duration::from_millis(1);
    let host = Host::new(made.clone(), place, Placement::Packed.into(), interval);
    let (asks, asked): (_, Receiver<()>) = channel();
    Setup { dir, made, host, stop: Stop::of(asked), _asks: asks }
}

impl Setup {
    fn turn(&mut self) -> Vec<String> {
        self.host.turn(&self.stop);
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".domstat")).collect();
        names.sort_unstable();
        names
    }
}

#[test]
fn a_domain_that_cannot_be_shown_costs_itself_only() {
    let mut setup = setup();
    // Its name is taken by another producer.
    let other = domstat_producer::RegionBuilder::new("web1").vcpus(1).create_memfd().unwrap();
    let region = other.unpublished.publish().unwrap();
    let announcement = region.announce(setup.dir.path(), "web1").unwrap();
    setup.made.set(0, "Domain-0", Tick::Continues);
    setup.made.set(1, "web1", Tick::Continues);
    setup.made.set(2, ".hidden", Tick::Continues);
    setup.made.set(3, "web3", Tick::Continues);
    assert_eq!(setup.turn(), ["Domain-0.domstat", "web1.domstat", "web3.domstat"]);
    assert_eq!(setup.host.shown.keys().copied().collect::<Vec<_>>(), [0, 3]);
    // The name is free again, and nobody has to do anything.
    drop(announcement);
    region.retire();
    setup.turn();
    assert_eq!(setup.host.shown.keys().copied().collect::<Vec<_>>(), [0, 1, 3]);
}

#[test]
fn what_the_host_cannot_do_now_leaves_what_is_published() {
    let mut setup = setup();
    setup.made.set(1, "web1", Tick::Continues);
    assert_eq!(setup.turn(), ["web1.domstat"]);
    setup.made.set(1, "web1", Tick::OutOfFiles);
    setup.made.state().list_fails = true;
    for _ in 0..3 {
        assert_eq!(setup.turn(), ["web1.domstat"]);
    }
    setup.made.state().list_fails = false;
    setup.made.set(1, "web1", Tick::Continues);
    assert_eq!(setup.turn(), ["web1.domstat"]);
    assert_eq!(setup.made.state().started, [1], "it is the same region all the time");
    setup.made.set(1, "web1", Tick::Ends);
    setup.made.state().domains.clear();
    assert!(setup.turn().is_empty());
}

#[test]
fn a_domain_that_outgrew_its_region_is_published_again() {
    let mut setup = setup();
    setup.made.set(1, "web1", Tick::Continues);
    setup.turn();
    setup.made.set(1, "web1", Tick::Outgrown);
    assert_eq!(setup.turn(), ["web1.domstat"]);
    assert_eq!(setup.made.state().started, [1, 1]);
}

#[test]
fn a_domain_that_was_renamed_is_published_under_its_new_name() {
    let mut setup = setup();
    setup.made.set(1, "web1--incoming", Tick::Continues);
    assert_eq!(setup.turn(), ["web1--incoming.domstat"]);
    setup.made.set(1, "web1", Tick::Renamed);
    assert_eq!(setup.turn(), ["web1.domstat"]);
    assert_eq!(setup.made.state().started, [1, 1]);
}

#[test]
fn domains_of_one_name_are_told_apart_by_their_numbers() {
    let mut setup = setup();
    let long = "x".repeat(MAX_NAME_LEN);
    setup.made.set(1, "web1", Tick::Continues);
    setup.made.set(2, "web1", Tick::Continues);
    setup.made.set(3, &long, Tick::Continues);
    setup.made.set(65535, &long, Tick::Continues);
    let cut = format!("{}-65535.domstat", "x".repeat(MAX_NAME_LEN - 6));
    let all = setup.turn();
    assert!(
        ["web1.domstat", "web1-2.domstat", &cut].iter().all(|n| all.iter().any(|a| a == n)),
        "{all:?}"
    );
}
