//! The Xen source publishes what a real Xen host was recorded to say.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]
#![allow(clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use domstat_layout::sink::{BlkSink, DomSink, NetSink, NoSink, VcpuSink};
use domstat_layout::{BlkGroup, Clock, DomGroup, Group, NetGroup, Ns, Stat, VcpuGroup, Word};
use domstat_sources::xen::{Xen, XenSource, devid};
use domstat_sources::{Devices, Progress, Running, Source, SourceError};

mod recorded;
use recorded::{Moment, Replay, moments};

/// The single words of the active groups of one record, by group and field.
#[derive(Clone, Default)]
struct Record {
    fields: BTreeMap<(&'static str, &'static str), Word>,
    text: Option<String>,
    arch: BTreeMap<usize, Vec<Option<u64>>>,
    generation: u32,
}

impl Record {
    fn value(&self, group: &'static str, field: &'static str) -> Option<u64> {
        self.fields.get(&(group, field)).and_then(|word| word.value())
    }

    fn is_active(&self, group: &'static str) -> bool {
        self.fields.keys().any(|(active, _)| *active == group)
    }

    fn write<G: Group>(&mut self, group: &G) {
        let mut at = 0;
        for field in G::DESC.fields {
            let bytes = &group.as_bytes()[at..at + field.width];
            at += field.width;
            match <[u8; 8]>::try_from(bytes) {
                Ok(word) => {
                    let word = Word::from_raw(u64::from_ne_bytes(word));
                    self.fields.insert((G::DESC.name, field.name), word);
                }
                Err(_) => {
                    let text = bytes.iter().take_while(|byte| **byte != 0).copied().collect();
                    self.text = Some(String::from_utf8(text).unwrap());
                }
            }
        }
    }

    fn deactivate(&mut self, name: &'static str) {
        self.fields.retain(|(group, _), _| *group != name);
        if name == "identity" {
            self.text = None;
        }
    }

    fn renew(&mut self) {
        let generation = self.generation + 1;
        *self = Self { generation, ..Self::default() };
    }
}

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Record>>);

impl Sink {
    fn record(&self) -> Record {
        self.0.lock().unwrap().clone()
    }
}

macro_rules! sink {
    ($sink:ident, $group:ident $(, $method:ident)*) => {
        impl $sink for Sink {
            fn write<G: $group>(&mut self, group: &G, _: Ns) {
                self.0.lock().unwrap().write(group);
            }
            fn deactivate<G: $group>(&mut self) {
                self.0.lock().unwrap().deactivate(G::DESC.name);
            }
            $(sink!(@$method);)*
        }
    };
    (@renew) => {
        fn renew(&mut self) {
            self.0.lock().unwrap().renew();
        }
    };
    (@write_arch) => {
        fn write_arch(&mut self, index: usize, words: &[Word], _: Ns) {
            let words = words.iter().map(|word| word.value()).collect();
            self.0.lock().unwrap().arch.insert(index, words);
        }
    };
}

sink!(DomSink, DomGroup, write_arch);
sink!(VcpuSink, VcpuGroup, renew, write_arch);
sink!(BlkSink, BlkGroup, renew);
sink!(NetSink, NetGroup, renew);

struct Host {
    running: Box<dyn Running>,
    dom: Sink,
    vcpus: Vec<Sink>,
    blks: Vec<Sink>,
    nets: Vec<Sink>,
}

impl Host {
    fn start(source: XenSource<Replay>) -> Self {
        let description = source.describe();
        let sinks = |count| (0..count).map(|_| Sink::default()).collect::<Vec<_>>();
        let (dom, vcpus) = (Sink::default(), sinks(description.nr_vcpus));
        let (blks, nets) = (sinks(description.nr_blks), sinks(description.nr_nets));
        let (blks_of, nets_of) = (blks.clone(), nets.clone());
        let devices = Devices { blks: blks_of, nets: nets_of, shares: Vec::<NoSink>::new() };
        let running = source.start_with_devices(dom.clone(), vcpus.clone(), devices).unwrap();
        Self { running, dom, vcpus, blks, nets }
    }

    fn device(sinks: &[Sink], name: &str) -> Option<(usize, Record)> {
        let records = sinks.iter().map(Sink::record).enumerate();
        records.into_iter().find(|(_, record)| record.text.as_deref() == Some(name))
    }

    fn holds(&self, moment: &Moment, domid: u16) {
        let info = moment.domains.iter().find(|info| info.domain == domid).unwrap();
        let dom = self.dom.record();
        assert_eq!(dom.value("memory", "current_bytes"), Some(info.tot_pages * 4096));
        assert_eq!(dom.value("memory", "rss_bytes"), None);
        assert_eq!(dom.value("cpu", "time_ns"), Some(info.cpu_time));
        assert_eq!(dom.value("cpu", "system_ns"), None);
        // Running and paused; no moment of the recording has another.
        let paused = info.flags & 1 << 3 != 0;
        assert_eq!(dom.value("status", "state"), Some(u64::from(paused)), "{}", moment.name);
        assert_eq!(dom.value("status", "reason"), Some(if paused { 2 } else { 0 }));
        // The pool, the label and credit2's defaults; no xenstored is there that knows a target.
        let some = [info.cpupool, info.ssidref, 6, 256, 0].map(|number| Some(u64::from(number)));
        assert_eq!(dom.arch[&1][..5], some);
        assert_eq!(dom.arch[&1][5..], [None, Some(0), Some(0)]);
        for (index, vcpu) in (0..).zip(&self.vcpus) {
            let (info, vcpu) = (moment.vcpus[&(domid, index)], vcpu.record());
            assert_eq!(vcpu.value("runstate", "running_ns"), Some(info.cpu_time));
            assert_eq!(vcpu.value("sched", "time_ns"), Some(info.cpu_time));
            assert_eq!(vcpu.arch[&0], [Some(u64::from(info.cpu))]);
            for field in ["runnable_ns", "blocked_ns", "offline_ns", "state_entry_ns"] {
                assert_eq!(vcpu.fields[&("runstate", field)].get(), Stat::NotProduced);
            }
        }
        for name in ["xvda", "xvdb", "xvdq"] {
            self.holds_disk(moment, domid, name);
        }
        let directory = format!("vif-{domid}-0/net/vif{domid}.0/statistics");
        let (_, vif) = Self::device(&self.nets, &format!("vif{domid}.0")).unwrap();
        for (ours, theirs) in [("rx_bytes", "tx_bytes"), ("tx_packets", "rx_packets")] {
            let expected = moment.number(&format!("{directory}/{theirs}"));
            assert_eq!(vif.value("io", ours), Some(expected), "{}", moment.name);
        }
    }

    fn holds_disk(&self, moment: &Moment, domid: u16, name: &str) {
        let devid = devid(name).unwrap();
        let directory = format!("vbd-{domid}-{devid}/statistics");
        let there = moment.files.keys().any(|path| path.contains(&directory));
        let disk = Self::device(&self.blks, name);
        assert_eq!(disk.is_some(), there, "{name} when {}", moment.name);
        let Some((_, disk)) = disk else { return };
        let number = |file: &str| Some(moment.number(&format!("{directory}/{file}")));
        assert_eq!(disk.value("io", "rd_req"), number("rd_req"));
        assert_eq!(disk.value("io", "rd_bytes"), number("rd_sect").map(|sectors| sectors * 512));
        assert_eq!(disk.value("io", "wr_req"), number("wr_req"));
        assert_eq!(disk.value("io", "wr_bytes"), number("wr_sect").map(|sectors| sectors * 512));
        assert_eq!(disk.fields[&("io", "errs")].get(), Stat::NotProduced);
        assert_eq!(disk.value("io_times", "flush_req"), number("f_req"));
        assert_eq!(disk.value("vbd", "oo_req"), number("oo_req"));
        assert_eq!(disk.value("vbd", "ds_req"), number("ds_req"));
        assert_eq!(disk.value("vbd", "devid"), Some(devid.into()));
    }
}

#[test]
fn every_moment_of_a_domain_is_published_as_it_was() {
    let all = moments();
    let replay = Replay::new(1);
    let (at, roots) = (replay.position(), replay.roots());
    let source = XenSource::with_hypervisor(replay, &roots, 1).unwrap();
    let description = source.describe();
    assert_eq!((description.domid, description.nr_vcpus), (Some(1), 3));
    assert_eq!((description.name.as_str(), description.clock), ("xen-1", Clock::Monotonic));
    let mut host = Host::start(source);
    let mut seen = BTreeMap::new();
    loop {
        let moment = &all[at()];
        host.holds(moment, 1);
        let states: Vec<_> =
            host.vcpus.iter().map(|vcpu| vcpu.record().value("runstate", "state")).collect();
        seen.insert(moment.name.clone(), (states, Host::device(&host.blks, "xvdb")));
        if host.running.tick().unwrap() == Progress::Ended {
            break;
        }
    }
    // Offline is 3: an unplugged vCPU, and one that wants to run and is paused.
    let states = |moment: &str| seen[moment].0.clone();
    assert!(states("paused").contains(&Some(3)));
    assert_eq!(states("one-vcpu")[1..], [Some(3), Some(3)]);
    assert_ne!(states("three-vcpus")[2], Some(3));
    // A disk that is attached again is another one, in the slot of the first.
    let (first, attached) = seen["attached"].1.clone().unwrap();
    let (again, reattached) = seen["reattached"].1.clone().unwrap();
    assert!(seen["detached"].1.is_none());
    assert_eq!((first, attached.generation + 1), (again, reattached.generation));
    assert!(attached.value("io", "rd_bytes") > reattached.value("io", "rd_bytes"));
    // It was rebooted, and that is another domain.
    assert_eq!(all[at()].name, "rebooted");
    let nothing = |sinks: &[Sink]| sinks.iter().all(|sink| sink.record().fields.is_empty());
    assert!(nothing(&host.vcpus) && nothing(&host.blks) && nothing(&host.nets));
    assert!(host.vcpus.iter().all(|vcpu| vcpu.record().arch[&0] == [None]));
    assert!(!host.dom.record().is_active("memory"));
    assert_eq!(host.dom.record().value("status", "state"), Some(5), "dying, to who still looks");
    assert_eq!(host.running.tick().unwrap(), Progress::Ended);
}

#[test]
fn a_domain_that_is_not_there_is_named() {
    let replay = Replay::new(usize::MAX);
    let roots = replay.roots();
    let error = XenSource::with_hypervisor(replay, &roots, 7).unwrap_err();
    assert!(matches!(error, SourceError::NoSuchDomain { domid: 7 }), "{error}");
}

#[test]
fn devices_that_appear_later_get_slots() {
    let replay = Replay::new(usize::MAX);
    let roots = replay.roots();
    let disk = |devid: u32| {
        let disk = roots.sys.join(format!("bus/xen-backend/devices/vbd-1-{devid}/statistics"));
        std::fs::create_dir_all(&disk).unwrap();
        for file in ["rd_req", "rd_sect"] {
            std::fs::write(disk.join(file), "18446744073709551615\n").unwrap();
        }
    };
    // It has few disks when it is first seen, as a domain that is being built.
    let source = XenSource::with_hypervisor(replay.again(), &roots, 1).unwrap();
    let slots = source.describe().nr_blks;
    let mut host = Host::start(source);
    (1..slots).for_each(disk);
    assert_eq!(host.running.tick().unwrap(), Progress::Continue, "there is room for these");
    // Counters at the end of their range stay numbers or say so; what a kernel lacks is absent.
    let (_, shown) = Host::device(&host.blks, "7").unwrap();
    assert_eq!(shown.fields[&("io", "rd_bytes")].get(), Stat::Saturated);
    assert_eq!(shown.fields[&("io", "wr_req")].get(), Stat::NotProduced);
    (slots..slots + 40).for_each(disk);
    assert_eq!(host.running.tick().unwrap(), Progress::Outgrown);
    // A new source has room for all of them.
    let source = XenSource::with_hypervisor(replay.again(), &roots, 1).unwrap();
    assert!(source.describe().nr_blks > slots + 40, "{}", source.describe().nr_blks);
    let mut host = Host::start(source);
    for devid in 1..slots + 40 {
        assert!(Host::device(&host.blks, &devid.to_string()).is_some(), "{devid}");
    }
    assert_eq!(host.running.tick().unwrap(), Progress::Continue);
}

/// A structure of tapdisk's, the first word of each pair its index.
fn tapdisk_words(count: usize, words: &[(usize, u64)]) -> Vec<u8> {
    let mut all = vec![0_u64; count];
    words.iter().for_each(|(at, value)| all[*at] = *value);
    all.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[test]
fn tapdisks_disks_have_the_counters_of_its_files() {
    let replay = Replay::new(usize::MAX);
    let roots = replay.roots();
    let devices = roots.sys.join("bus/xen-backend/devices");
    let private = |name: &str| {
        let path = roots.shm.join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path
    };
    for name in ["vbd3-1-51840", "vbd3-1-51856", "vbd3-1-51872", "vbd3-1-51888", "qdisk-1-51904"] {
        std::fs::create_dir_all(devices.join(name)).unwrap();
    }
    // xvdi has the file that xentop reads, xvdj the other one, xvdk both; xvdl has none.
    let metrics = [(0, 1), (1, 3), (2, 12), (3, 10), (4, 80), (5, 500), (6, 7), (7, 7), (8, 56)];
    let metrics = tapdisk_words(12, &[metrics.as_slice(), &[(9, 90), (10, 2)]].concat());
    let blkback = [(2, 4), (3, 21), (4, 20), (5, 160), (6, 700), (8, 0), (9, 0)];
    let blkback = tapdisk_words(14, &blkback);
    let td3 = private("td3-4711");
    std::fs::write(td3.join("vbd-1-51840"), &metrics).unwrap();
    std::fs::write(td3.join("vdi-51840"), &metrics).unwrap();
    for number in [51856, 51872] {
        std::fs::write(private(&format!("vbd3-1-{number}")).join("statistics"), &blkback).unwrap();
    }
    std::fs::write(td3.join("vbd-1-51872"), &metrics).unwrap();
    let mut host = Host::start(XenSource::with_hypervisor(replay, &roots, 1).unwrap());
    let disk = |host: &Host, name: &str| Host::device(&host.blks, name).unwrap().1;
    for name in ["xvdi", "xvdk"] {
        let disk = disk(&host, name);
        let io = |field| disk.value("io", field);
        assert_eq!((io("rd_req"), io("rd_bytes")), (Some(10), Some(80 * 512)));
        assert_eq!((io("wr_req"), io("wr_bytes")), (Some(7), Some(56 * 512)));
        assert_eq!((io("errs"), io("in_flight")), (Some(2), Some(2)));
        assert_eq!(disk.value("io_times", "rd_total_ns"), Some(500_000));
        assert_eq!(disk.value("io_times", "wr_total_ns"), Some(90_000));
        assert_eq!(disk.value("io_times", "flush_req"), None);
        let queue = |field| disk.value("queue", field);
        assert_eq!((queue("submitted"), queue("completed")), (Some(19), Some(17)));
        assert_eq!((queue("busy_ns"), disk.value("vbd", "oo_req")), (None, Some(3)));
    }
    let other = disk(&host, "xvdj");
    assert_eq!(other.value("io", "rd_req"), Some(20));
    assert_eq!((other.value("io", "errs"), other.value("vbd", "oo_req")), (None, Some(4)));
    for (name, devid) in [("xvdl", 51888), ("xvdm", 51904)] {
        let absent = disk(&host, name);
        assert!(!absent.is_active("io") && !absent.is_active("queue"), "{name}");
        assert_eq!(
            (absent.value("vbd", "devid"), absent.value("vbd", "oo_req")),
            (Some(devid), None)
        );
    }

    // A clock that was set back does not take time back; a new file is another disk.
    let back = tapdisk_words(12, &[(0, 1), (2, 13), (3, 13), (4, 88), (5, 400)]);
    std::fs::write(td3.join("vbd-1-51840"), back).unwrap();
    assert_eq!(host.running.tick().unwrap(), Progress::Continue);
    assert_eq!(disk(&host, "xvdi").value("io_times", "rd_total_ns"), Some(500_000));
    let generation = disk(&host, "xvdi").generation;
    std::fs::write(td3.join("new"), &metrics).unwrap();
    std::fs::rename(td3.join("new"), td3.join("vbd-1-51840")).unwrap();
    std::fs::write(td3.join("vbd-1-51888"), &metrics).unwrap();
    assert_eq!(host.running.tick().unwrap(), Progress::Continue);
    assert_eq!(disk(&host, "xvdi").generation, generation + 1);
    assert_eq!(disk(&host, "xvdl").value("io", "rd_req"), Some(10), "its file came later");
    // A file of a version that is not known does not take the other one's place again and again.
    let generation = disk(&host, "xvdj").generation;
    std::fs::write(td3.join("vbd-1-51856"), tapdisk_words(12, &[(0, 9)])).unwrap();
    for _ in 0..2 {
        assert_eq!(host.running.tick().unwrap(), Progress::Continue);
        assert_eq!(disk(&host, "xvdj").generation, generation);
    }
    // Of two tapdisks for a disk the one that is alive counts, whichever was there first.
    let alive = private(&format!("td3-{}", std::process::id()));
    let more = tapdisk_words(12, &[(0, 1), (2, 99), (3, 99), (4, 800)]);
    std::fs::write(alive.join("vbd-1-51888"), &more).unwrap();
    assert_eq!(host.running.tick().unwrap(), Progress::Continue);
    assert_eq!(disk(&host, "xvdl").value("io", "rd_req"), Some(99));
    // Cut off, it is a disk without counters until the file is whole again.
    std::fs::write(td3.join("vbd-1-51840"), "").unwrap();
    assert_eq!(host.running.tick().unwrap(), Progress::Continue);
    assert!(!disk(&host, "xvdi").is_active("io"));
}

#[test]
fn files_that_any_user_can_have_made_are_not_tapdisks() {
    let replay = Replay::new(usize::MAX);
    let roots = replay.roots();
    let devices = roots.sys.join("bus/xen-backend/devices");
    std::fs::create_dir_all(devices.join("vbd3-1-51840")).unwrap();
    let metrics = tapdisk_words(12, &[(0, 1), (2, 1)]);
    let open = roots.shm.join("td3-1");
    std::fs::create_dir_all(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::write(open.join("vbd-1-51840"), &metrics).unwrap();
    // A directory that is reached by a link, and a file that is.
    let (elsewhere, private) = (roots.shm.join("elsewhere"), roots.shm.join("td3-3"));
    std::fs::create_dir_all(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("vbd-1-51840"), &metrics).unwrap();
    std::os::unix::fs::symlink(&elsewhere, roots.shm.join("td3-2")).unwrap();
    std::fs::create_dir_all(&private).unwrap();
    std::os::unix::fs::symlink(elsewhere.join("vbd-1-51840"), private.join("vbd-1-51840")).unwrap();
    let host = Host::start(XenSource::with_hypervisor(replay, &roots, 1).unwrap());
    let (_, disk) = Host::device(&host.blks, "xvdi").unwrap();
    assert!(!disk.is_active("io"));
}

#[test]
fn a_domain_with_another_name_is_to_be_published_again() {
    let replay = Replay::new(usize::MAX);
    let mut roots = replay.roots();
    let run = tempfile::tempdir().unwrap();
    run.path().clone_into(&mut roots.run);
    let name = Arc::new(Mutex::new("web1--incoming"));
    xenstored(run.path(), Arc::clone(&name));
    let source = || XenSource::with_hypervisor(replay.again(), &roots, 1).unwrap();
    assert_eq!(source().describe().name, "web1--incoming");
    let (mut host, mut fixed) =
        (Host::start(source()), Host::start(source().with_name("mine").unwrap()));
    let mut other = Host::start(source().with_name_until_renamed("web1-1").unwrap());
    assert_eq!(host.dom.record().arch[&1][5], Some(64 << 20), "the balloon's target");
    *name.lock().unwrap() = "web1";
    // The name is asked for now and then.
    for host in [&mut host, &mut other] {
        while host.running.tick().unwrap() == Progress::Continue {
            assert_eq!(fixed.running.tick().unwrap(), Progress::Continue);
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(host.running.tick().unwrap(), Progress::Ended);
    }
    assert_eq!(source().describe().name, "web1");
}

/// An xenstored under `run` that has a name and a target for every domain.
fn xenstored(run: &Path, name: Arc<Mutex<&'static str>>) {
    std::fs::create_dir(run.join("xenstored")).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(run.join("xenstored/socket")).unwrap();
    let serve = move |mut stream: std::os::unix::net::UnixStream,
                      name: Arc<Mutex<&'static str>>| {
        let mut header = [0; 16];
        while stream.read_exact(&mut header).is_ok() {
            let mut path = vec![0; usize::from(header[12])];
            stream.read_exact(&mut path).unwrap();
            let is_name = path.ends_with(b"/name\0");
            let text = if is_name { *name.lock().unwrap() } else { "65536" };
            header[12] = u8::try_from(text.len()).unwrap();
            stream.write_all(&[&header, text.as_bytes()].concat()).unwrap();
        }
    };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let name = Arc::clone(&name);
            std::thread::spawn(move || serve(stream.unwrap(), name));
        }
    });
}

#[test]
fn what_is_no_number_is_no_disk() {
    let replay = Replay::new(usize::MAX);
    let roots = replay.roots();
    let devices = roots.sys.join("bus/xen-backend/devices");
    let statistics = devices.join("vbd-1-51728/statistics");
    std::fs::create_dir_all(&statistics).unwrap();
    std::fs::write(statistics.join("rd_req"), "many\n").unwrap();
    // Of another domain, and not of the kind.
    std::fs::create_dir_all(devices.join("vbd-11-51728/statistics")).unwrap();
    std::fs::create_dir_all(devices.join("vbd-1-x/statistics")).unwrap();
    let mut host = Host::start(XenSource::with_hypervisor(replay, &roots, 1).unwrap());
    assert!(Host::device(&host.blks, "xvdb").is_none());
    std::fs::write(statistics.join("rd_req"), "5\n").unwrap();
    assert_eq!(host.running.tick().unwrap(), Progress::Continue);
    let (_, disk) = Host::device(&host.blks, "xvdb").unwrap();
    assert_eq!(disk.value("io", "rd_req"), Some(5));
}

#[test]
fn a_host_that_is_no_xen_says_so() {
    let nowhere = Path::new("/nonexistent");
    let error = Xen::open(nowhere).unwrap_err();
    assert!(matches!(&error, SourceError::Unavailable { what, .. } if what.contains("privcmd")));
    // A file that knows no hypercalls.
    let dev = tempfile::tempdir().unwrap();
    std::fs::write(dev.path().join("privcmd"), "").unwrap();
    assert!(matches!(Xen::open(dev.path()), Err(SourceError::Os { .. })));
}
