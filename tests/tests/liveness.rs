//! A producer that dies, stops, ends or comes back, and who notices.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use domstat_consumer::attach::{Limits, Reattached, Refreshed};
use domstat_consumer::watch::{
    Event, Events, Threshold, ThresholdError, ThresholdEvent, ThresholdWatch, Waited,
};
use domstat_consumer::{AttachError, Attachment, Liveness, ReadError, Region};
use domstat_layout::latest::{BlkExtent, Runstate};
use domstat_layout::{Clock, Group, Ns, Word};
use domstat_producer::{Created, RegionBuilder, Server};
use domstat_tests::runstate;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

/// The ways in which a producer can be found.
const WAYS: [&str; 3] = ["entry", "socket", "file"];

/// What the producer of the tests below runs, in a process of its own: it writes about a thousand
/// times a second until its input ends, and then retires the region.
#[test]
#[ignore = "a producer for the other tests"]
fn producer() {
    let (way, at) = (std::env::var("WAY").unwrap(), std::env::var("AT").unwrap());
    let builder = RegionBuilder::new("p").clock(Clock::Monotonic);
    let created = if way == "file" { builder.create_file(&at) } else { builder.create_memfd() };
    let Created { unpublished, mut vcpus, .. } = created.unwrap();
    let mut write = move || {
        let now = domstat_consumer::clock::now(Clock::Monotonic).unwrap();
        vcpus[0].write(&runstate(now.0), now);
    };
    write();
    let region = unpublished.publish().unwrap();
    let _kept: Box<dyn std::any::Any> = match way.as_str() {
        "entry" => Box::new(region.announce(Path::new(&at).parent().unwrap(), "p").unwrap()),
        "socket" => {
            let server = Server::builder().bind(&at).unwrap();
            Box::new((server.serve(&region, "p").unwrap(), server))
        }
        _ => Box::new(()),
    };
    thread::spawn(move || {
        loop {
            write();
            thread::sleep(Duration::from_millis(1));
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    region.retire();
    // Until the reader has seen it: its own end is another event.
    thread::sleep(Duration::from_secs(600));
}

struct Producer(Child);

impl Producer {
    fn start(way: &str, at: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "producer", "--ignored", "--nocapture"])
            .envs([("WAY", way), ("AT", at.to_str().unwrap())])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "waited too long for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn place(dir: &Path) -> PathBuf {
    dir.join("p.domstat")
}

fn attach(way: &str, at: &Path) -> Result<Attachment, AttachError> {
    if way == "socket" { Attachment::connect(at, "p") } else { Attachment::open(at) }
}

fn attached(way: &str, at: &Path) -> Attachment {
    wait_for("the producer", || attach(way, at).ok())
}

#[test]
fn a_kill_is_noticed_by_event_whatever_the_way() {
    let mut longest = Duration::ZERO;
    for way in WAYS {
        for _ in 0..10 {
            let dir = tempfile::tempdir().unwrap();
            let at = place(dir.path());
            let producer = Producer::start(way, &at);
            let attachment = attached(way, &at);
            let mut events = Events::new().unwrap();
            events.add(7, &attachment).unwrap();
            assert_eq!(attachment.liveness(), Liveness::Live, "{way}");
            assert_eq!(events.wait(Some(Duration::ZERO)).unwrap(), []);
            producer.signal(Signal::KILL);
            let start = Instant::now();
            let told = events.wait(Some(Duration::from_secs(60))).unwrap();
            longest = longest.max(start.elapsed());
            assert_eq!(told, [Event::ProducerExited(7)], "{way}");
            assert_eq!(attachment.liveness(), Liveness::Dead, "{way}");
            let value = attachment.read_live(|region| region.vcpu(0).unwrap().read::<Runstate>());
            assert_eq!(value.map(|_| ()), Err(Liveness::Dead), "{way}: no old value as live");
        }
    }
    let said = format!("kill to notice: {longest:?} at most, of {} kills\n", 10 * WAYS.len());
    let _ = std::io::stderr().write_all(said.as_bytes());
}

#[test]
fn the_end_of_the_domain_is_told_before_that_of_the_producer() {
    for way in WAYS {
        let dir = tempfile::tempdir().unwrap();
        let at = place(dir.path());
        let mut producer = Producer::start(way, &at);
        let attachment = attached(way, &at);
        let mut events = Events::new().unwrap();
        events.add(1, &attachment).unwrap();
        drop(producer.0.stdin.take());
        let told = events.wait(Some(Duration::from_secs(60))).unwrap();
        assert_eq!(told, [Event::Notified(1)], "{way}");
        assert_eq!(attachment.liveness(), Liveness::Retired, "{way}");
        producer.signal(Signal::KILL);
        producer.0.wait().unwrap();
        assert_eq!(attachment.liveness(), Liveness::Retired, "{way}");
    }
}

#[test]
fn a_stopped_producer_is_stale_and_goes_on() {
    let limits = Limits { stale_after: Some(Duration::from_millis(300)), ..Limits::default() };
    for way in WAYS {
        let dir = tempfile::tempdir().unwrap();
        let at = place(dir.path());
        let producer = Producer::start(way, &at);
        let attachment = attached(way, &at).with_limits(limits);
        producer.signal(Signal::STOP);
        let age = wait_for("silence", || match attachment.liveness() {
            Liveness::Stale { age } => Some(age),
            _ => None,
        });
        assert!(age > Duration::from_millis(300));
        producer.signal(Signal::CONT);
        wait_for("a write", || attachment.liveness().is_live().then_some(()));
    }
}

#[test]
fn a_restart_is_found_and_attached_to() {
    for way in WAYS {
        let dir = tempfile::tempdir().unwrap();
        let at = place(dir.path());
        let first = Producer::start(way, &at);
        let mut attachment = attached(way, &at).reattaching();
        let incarnation = attachment.region().header().incarnation;
        first.signal(Signal::KILL);
        drop(first);
        assert_eq!(attachment.refresh().liveness, Liveness::Dead, "{way}");
        let _second = Producer::start(way, &at);
        let found = wait_for("the second producer", || attachment.refresh().reattached);
        assert_eq!(found, Reattached::Restarted, "{way}");
        assert_ne!(attachment.region().header().incarnation, incarnation);
        assert_eq!(attachment.liveness(), Liveness::Live, "{way}");
    }
}

#[test]
fn a_file_that_nobody_holds_is_not_live() {
    let dir = tempfile::tempdir().unwrap();
    let at = place(dir.path());
    let producer = Producer::start("file", &at);
    drop(attached("file", &at));
    let copy = dir.path().join("copy");
    std::fs::copy(&at, &copy).unwrap();
    assert_eq!(Attachment::open(&copy).unwrap().liveness(), Liveness::Unheld);
    producer.signal(Signal::KILL);
    drop(producer);
    let left = Attachment::open(&at).unwrap();
    assert_eq!(left.read_live(|_| ()), Err(Liveness::Unheld));
}

#[test]
fn without_being_asked_nobody_reattaches() {
    let dir = tempfile::tempdir().unwrap();
    let at = place(dir.path());
    let first = Producer::start("file", &at);
    let mut attachment = attached("file", &at);
    first.signal(Signal::KILL);
    drop(first);
    let _second = Producer::start("file", &at);
    let state = wait_for("the second producer", || match attachment.refresh() {
        Refreshed { liveness: Liveness::Dead, reattached: None } => None,
        told => Some(told),
    });
    assert_eq!(state, Refreshed { liveness: Liveness::Restarted, reattached: None });
}

#[test]
fn a_writer_that_stands_in_mid_update_is_stalled() {
    let Created { unpublished, mut vcpus, .. } = RegionBuilder::new("p").create_memfd().unwrap();
    vcpus[0].write(&runstate(1), Ns(1));
    let region = unpublished.publish().unwrap();
    let fd = region.as_fd().unwrap().try_clone_to_owned().unwrap();
    let mut bytes = Vec::new();
    std::fs::File::from(fd).read_to_end(&mut bytes).unwrap();
    bytes[region.geometry().vcpu_offset(0).unwrap() + 32] |= 1;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let attachment = Attachment::from_region(Region::from_fd(file).unwrap(), None)
        .with_limits(Limits { stalled_after: Duration::from_millis(20), stale_after: None });
    assert_eq!(attachment.liveness(), Liveness::Live, "a look is no deadline");
    let stalled = wait_for("the deadline", || match attachment.liveness() {
        Liveness::Stalled(stalled) => Some(stalled),
        _ => None,
    });
    assert_eq!((stalled.index, stalled.group, stalled.seq & 1), (Some(0), Some("runstate"), 1));
    assert!(stalled.waited >= Duration::from_millis(20));
}

#[test]
fn a_region_without_a_time_of_creation_is_not_stale_for_that() {
    let builder = RegionBuilder::new("p").clock(Clock::Monotonic);
    let Created { unpublished, mut vcpus, .. } = builder.create_memfd().unwrap();
    let region = unpublished.publish().unwrap();
    let fd = region.as_fd().unwrap().try_clone_to_owned().unwrap();
    let attachment = Attachment::from_region(Region::from_fd(fd).unwrap(), None);
    assert_eq!(attachment.liveness(), Liveness::Live, "nothing was written yet");
    let now = domstat_consumer::clock::now(Clock::Monotonic).unwrap();
    let before = Ns(now.0.saturating_sub(60_000_000_000).max(1));
    vcpus[0].write(&runstate(before.0), before);
    let liveness = attachment.liveness();
    assert!(matches!(liveness, Liveness::Stale { .. }), "{liveness:?}");
}

#[test]
fn an_entry_that_leads_to_something_else_is_not_believed() {
    // As after a producer's death, when its number was given to another process.
    let dir = tempfile::tempdir().unwrap();
    let at = place(dir.path());
    let mut other =
        Producer(Command::new("sleep").arg("600").stdin(Stdio::piped()).spawn().unwrap());
    std::os::unix::fs::symlink(format!("/proc/{}/fd/0", other.0.id()), &at).unwrap();
    assert!(matches!(Attachment::open(&at), Err(AttachError::NotMappable { .. })));
    other.0.kill().unwrap();
    other.0.wait().unwrap();
    assert!(matches!(Attachment::open(&at), Err(AttachError::ProducerExited { .. })));
}

#[test]
fn waiting_ends_with_the_event_or_the_time() {
    let Created { unpublished, .. } = RegionBuilder::new("p").create_memfd().unwrap();
    let published = unpublished.publish().unwrap();
    let region = Region::from_fd(published.as_fd().unwrap().try_clone_to_owned().unwrap()).unwrap();
    let seen = region.notify_count();
    let short = Some(Duration::from_millis(20));
    assert_eq!(region.wait(seen, short), Ok(Waited::TimedOut));
    thread::scope(|scope| {
        let waiter = scope.spawn(|| region.wait(seen, Some(Duration::from_secs(60))));
        thread::sleep(Duration::from_millis(20));
        assert!(!waiter.is_finished());
        published.notify();
        assert_eq!(waiter.join().unwrap(), Ok(Waited::Notified(seen + 1)));
    });
    assert_eq!(region.wait(seen, None), Ok(Waited::Notified(seen + 1)), "it has happened already");
}

#[test]
fn waiting_for_a_file_ends_when_it_is_truncated() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("f");
    let Created { unpublished, .. } = RegionBuilder::new("p").create_file(&at).unwrap();
    let published = unpublished.publish().unwrap();
    let copy = dir.path().join("copy");
    std::fs::copy(&at, &copy).unwrap();
    let region = Region::open(&copy).unwrap();
    std::fs::File::options().write(true).open(&copy).unwrap().set_len(0).unwrap();
    assert!(region.wait(0, None).is_err());
    drop(published);
}

#[test]
fn one_descriptor_tells_of_many_regions() {
    const REGIONS: usize = 300;
    let mut published = Vec::new();
    let mut events = Events::new().unwrap();
    for key in 0..REGIONS {
        let Created { unpublished, .. } = RegionBuilder::new("p").create_memfd().unwrap();
        let region = unpublished.publish().unwrap();
        let fd = region.as_fd().unwrap().try_clone_to_owned().unwrap();
        events
            .add(key as u64, &Attachment::from_region(Region::from_fd(fd).unwrap(), None))
            .unwrap();
        published.push(region);
    }
    let readable = |events: &Events, milliseconds: i64| {
        let fd = events.as_fd();
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        let timeout = Timespec { tv_sec: 0, tv_nsec: milliseconds * 1_000_000 };
        poll(&mut fds, Some(&timeout)).unwrap() == 1
    };
    assert!(!readable(&events, 20));
    for key in [0, 126, 127, 128, 299] {
        published[key].notify();
        wait_for("the descriptor", || readable(&events, 100).then_some(()));
        assert_eq!(events.wait(Some(Duration::ZERO)).unwrap(), [Event::Notified(key as u64)]);
        assert!(!readable(&events, 1), "reported once");
    }
    events.remove(128);
    published[128].notify();
    published.pop();
    let told =
        wait_for("the other", || events.wait(Some(Duration::from_millis(50))).unwrap().pop());
    assert_eq!(told, Event::Notified(299), "retired, and who was removed is silent");
}

#[test]
fn connections_shared_by_many_tell_of_each() {
    let dir = tempfile::tempdir().unwrap();
    let at = place(dir.path());
    let producer = Producer::start("socket", &at);
    drop(attached("socket", &at));
    let connection = Arc::new(domstat_consumer::handover::Connection::connect(&at).unwrap());
    let mut events = Events::new().unwrap();
    for key in 0..3 {
        events.add(key, &Attachment::from_connection(&connection, "p").unwrap()).unwrap();
    }
    producer.signal(Signal::KILL);
    let mut gone = Vec::new();
    wait_for("three events", || {
        gone.extend(events.wait(Some(Duration::from_millis(100))).unwrap());
        (gone.len() >= 3).then_some(())
    });
    gone.sort_by_key(|event| match event {
        Event::ProducerExited(key) | Event::Notified(key) => *key,
    });
    assert_eq!(gone, [0, 1, 2].map(Event::ProducerExited));
}

#[test]
fn the_end_of_an_old_connection_is_not_told_of_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let at = place(dir.path());
    let first = Producer::start("socket", &at);
    drop(attached("socket", &at));
    let connection = Arc::new(domstat_consumer::handover::Connection::connect(&at).unwrap());
    let mut attachments: Vec<_> =
        (0..3).map(|_| Attachment::from_connection(&connection, "p").unwrap()).collect();
    drop(connection);
    let mut events = Events::new().unwrap();
    for (key, attachment) in (0..).zip(&attachments) {
        events.add(key, attachment).unwrap();
    }
    drop(first);
    let mut gone = Vec::new();
    wait_for("three events", || {
        gone.extend(events.wait(Some(Duration::from_millis(100))).unwrap());
        (gone.len() >= 3).then_some(())
    });
    let second = Producer::start("socket", &at);
    // One goes on; the others still hold the connection that ended.
    wait_for("the second producer", || attachments[0].reattach().ok());
    events.add(0, &attachments[0]).unwrap();
    for _ in 0..3 {
        assert_eq!(events.wait(Some(Duration::from_millis(50))).unwrap(), []);
    }
    assert_eq!(attachments[0].liveness(), Liveness::Live);
    // The old connection's end is reported again for what is added again, however often.
    for _ in 0..2 {
        events.add(1, &attachments[1]).unwrap();
        let told = events.wait(Some(Duration::from_secs(60))).unwrap();
        assert_eq!(told, [Event::ProducerExited(1)]);
    }
    drop(second);
    let told = events.wait(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(told, [Event::ProducerExited(0)]);
}

#[test]
fn thresholds_fire_once_and_at_the_next_update() {
    let created = RegionBuilder::new("p").blks(1).create_memfd().unwrap();
    let Created { unpublished, mut blks, .. } = created;
    let published = unpublished.publish().unwrap();
    let region = Region::from_fd(published.as_fd().unwrap().try_clone_to_owned().unwrap()).unwrap();
    let mut blk = blks.remove(0);
    let mut watch = ThresholdWatch::new(0, BlkExtent::allocation_bytes)
        .relative_to(0, BlkExtent::capacity_bytes);
    let unknown = watch.set(&region, Threshold::Thousandths(1)).unwrap_err();
    assert!(matches!(unknown, ThresholdError::CapacityUnknown { .. }), "{unknown}");
    let mut write_of = |capacity: u64, allocation: u64, now| {
        let extent = BlkExtent {
            allocation_bytes: Word::from(allocation),
            capacity_bytes: Word::from(capacity),
            ..BlkExtent::NOT_PRODUCED
        };
        blk.write(&extent, Ns(now));
    };
    // Less than a byte is a byte, and a part of nothing is refused: only 0 disarms.
    write_of(99_999, 500, 1);
    assert_eq!(watch.set(&region, Threshold::Thousandths(1)), Ok(1));
    write_of(0, 0, 1);
    let nothing = watch.set(&region, Threshold::Thousandths(Threshold::WHOLE)).unwrap_err();
    assert_eq!((nothing, watch.threshold()), (ThresholdError::NoBytes, 1));
    assert_eq!(watch.set(&region, Threshold::Thousandths(0)), Ok(0));
    let mut write = |allocation, now| write_of(1_000_000, allocation, now);
    write(500, 1);
    for beyond in [100_001, u32::MAX] {
        let error = watch.set(&region, Threshold::Thousandths(beyond)).unwrap_err();
        assert_eq!(error, ThresholdError::OutOfRange { found: beyond });
        assert!(error.to_string().contains("0 to 100000"), "{error}");
    }
    assert_eq!(watch.set(&region, Threshold::Thousandths(100_000)), Ok(1_000_000));
    // One thousandth of a percent of a million; always in bytes.
    assert_eq!(watch.set(&region, Threshold::Thousandths(60)), Ok(600));
    assert_eq!(watch.threshold(), 600);
    assert_eq!(watch.check(&region), Ok(ThresholdEvent::Quiet));
    write(600, 2);
    assert_eq!(watch.check(&region), Ok(ThresholdEvent::Quiet), "not past it");
    write(601, 3);
    let fired = |threshold, value, now| ThresholdEvent::Exceeded {
        threshold,
        value,
        excess: value - threshold,
        updated: Ns(now),
    };
    assert_eq!(watch.check(&region), Ok(fired(600, 601, 3)));
    assert_eq!(watch.threshold(), 0, "one shot");
    write(700, 4);
    assert_eq!(watch.check(&region), Ok(ThresholdEvent::Quiet));
    // Past it already: reported at the next update, not before.
    watch.set(&region, Threshold::Bytes(100)).unwrap();
    assert_eq!(watch.check(&region), Ok(ThresholdEvent::Quiet));
    write(700, 5);
    assert_eq!(watch.check(&region), Ok(fired(100, 700, 5)));
    // 0 disarms.
    watch.set(&region, Threshold::Bytes(100)).unwrap();
    assert_eq!(watch.set(&region, Threshold::Bytes(0)), Ok(0));
    write(800, 6);
    assert_eq!(watch.check(&region), Ok(ThresholdEvent::Quiet));
    // Another disk in the slot is not measured by it.
    watch.set(&region, Threshold::Bytes(100)).unwrap();
    blk.renew();
    blk.write(&BlkExtent { allocation_bytes: Word::from(900), ..BlkExtent::NOT_PRODUCED }, Ns(7));
    assert_eq!(watch.check(&region), Ok(ThresholdEvent::SlotReused));
    assert_eq!(watch.threshold(), 0);
    let mut no_capacity = ThresholdWatch::new(0, Runstate::running_ns);
    let error = no_capacity.set(&region, Threshold::Thousandths(1)).unwrap_err();
    assert_eq!(error, ThresholdError::NoCapacity);
    let _: Result<ThresholdEvent, ReadError> = no_capacity.check(&region);
}
